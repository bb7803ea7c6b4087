//! What the kernel tells of a process of this machine. Linux alone tells it.

use std::{fs, io, time::Duration};

use super::LoadError;

/// A process of this machine, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time that its threads have spent on processors, the kernel's work for them included.
    pub cpu: Duration,
    /// How often its threads have gone to sleep, and so had to be woken.
    pub wake_ups: u64,
    /// Calls of `read`, `write`, `readv`, `writev` and their kin (`/proc/PID/io`: syscr + syscw), on sockets as well, and on the eventfds by which threads
    /// wake each other. Calls that are for sockets alone, `recv`, `send`, `sendmsg`, are not among them, nor is waiting: so it compares runs of one
    /// server, and not two servers. `None` where the kernel does not tell.
    pub reads_and_writes: Option<u64>,
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        Self { id: std::process::id() }
    }

    /// Bytes of memory that it has now.
    pub fn resident_bytes(self) -> Result<u64, LoadError> {
        let status = self.read("status")?;
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kibibytes.ok_or_else(|| self.error(io::Error::other("it has ended")))? * 1024)
    }

    /// What it has used since it began.
    pub fn usage(self) -> Result<Usage, LoadError> {
        let mut usage = Usage { reads_and_writes: self.reads_and_writes(), ..Usage::default() };
        let threads = fs::read_dir(format!("/proc/{}/task", self.id)).map_err(|error| self.error(error))?;
        for thread in threads.filter_map(Result::ok) {
            // A thread may be over by now.
            let file = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            if let Some(on_cpu) = file("schedstat").split(' ').next().and_then(|time| time.parse().ok()) {
                usage.cpu += Duration::from_nanos(on_cpu);
            }
            let switches = file("status");
            let switches = switches.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            usage.wake_ups += switches.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(usage)
    }

    fn reads_and_writes(self) -> Option<u64> {
        let io = self.read("io").ok()?;
        let of = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        Some(of("syscr:")? + of("syscw:")?)
    }

    fn read(self, file: &str) -> Result<String, LoadError> {
        fs::read_to_string(format!("/proc/{}/{file}", self.id)).map_err(|error| self.error(error))
    }

    fn error(self, source: io::Error) -> LoadError {
        LoadError::System { what: format!("process {} cannot be watched", self.id), source }
    }
}

impl Usage {
    /// Only since then.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            wake_ups: self.wake_ups.saturating_sub(before.wake_ups),
            reads_and_writes: self.reads_and_writes.zip(before.reads_and_writes).map(|(now, before)| now.saturating_sub(before)),
        }
    }
}
