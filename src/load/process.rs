//! What the kernel tells of a process of this machine. Linux alone tells it.

use std::{fs, io, time::Duration};

use super::LoadError;

/// In what `/proc/PID/stat` counts time: hundredths of a second, on every machine that matters.
const TICK: Duration = Duration::from_millis(10);

/// A process of this machine, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Time that its threads have spent on processors, their calls of the kernel included. What the kernel does on their behalf at other times is
    /// not: on loopback the receiving half of TCP and UDP is done while the sender sends, and is counted there.
    pub cpu: Duration,
    /// The same with the threads that have ended, to whole hundredths of a second.
    pub cpu_in_ticks: Duration,
    /// How often its threads have gone to sleep, and so had to be woken.
    pub wake_ups: u64,
    /// Calls of `read`, `write`, `readv`, `writev` and their kin (`/proc/PID/io`: syscr + syscw), on sockets as well, and on the eventfds by which
    /// threads wake each other. Calls that are for sockets alone, `recv`, `send`, `sendmsg`, are not among them, nor is waiting: so it compares
    /// runs of one server, and not two servers. `None` where the kernel does not tell.
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
        let mut told = false;
        for thread in threads.filter_map(Result::ok) {
            // A thread may be over by now.
            let file = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            if let Some(on_cpu) = file("schedstat").split(' ').next().and_then(|time| time.parse().ok()) {
                usage.cpu += Duration::from_nanos(on_cpu);
                told = true;
            }
            let switches = file("status");
            let switches = switches.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            usage.wake_ups += switches.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        if !told {
            return Err(self.error(io::Error::other("none of its threads tells its time")));
        }
        usage.cpu_in_ticks = cpu_of_all_threads(&self.read("stat")?).unwrap_or_default();
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
        let (cpu, cpu_in_ticks) = (self.cpu.saturating_sub(before.cpu), self.cpu_in_ticks.saturating_sub(before.cpu_in_ticks));
        Self {
            // More than the two times that are counted, of the program and of the kernel, are rounded by, is of threads that have ended.
            cpu: if cpu_in_ticks > cpu + 2 * TICK { cpu_in_ticks } else { cpu },
            cpu_in_ticks,
            wake_ups: self.wake_ups.saturating_sub(before.wake_ups),
            reads_and_writes: self.reads_and_writes.zip(before.reads_and_writes).map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

/// The sum of the fields `utime` and `stime`, numbers 14 and 15. The second is a name in brackets, which may hold anything.
fn cpu_of_all_threads(stat: &str) -> Option<Duration> {
    let mut times = stat.rsplit_once(") ")?.1.split(' ').skip(11).map_while(|ticks| ticks.parse::<u32>().ok());
    Some(TICK * (times.next()? + times.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_all_threads_is_read_behind_any_name() {
        let stat = "77 (a) b 9 (c)) S 1 77 77 0 -1 4194560 6345 61199 0 73 12 5 52 15 20 0 1 0 3848698";
        assert_eq!(cpu_of_all_threads(stat), Some(Duration::from_millis(170)));
        assert_eq!(cpu_of_all_threads("77 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_a_thread_that_has_ended_is_not_forgotten() {
        let before = Process::own().usage().expect("the kernel tells");
        let busy = Duration::from_millis(200);
        std::thread::spawn(move || {
            let on_cpu = || fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse().unwrap();
            while Duration::from_nanos(on_cpu()) < busy {}
        })
        .join()
        .expect("no panic");
        assert!(Process::own().usage().expect("the kernel tells").since(before).cpu > busy / 2);
    }

    /// What is counted in ticks was read in place of what is counted finely whenever it was more by its rounding, so that a short while cost nothing.
    #[test]
    fn a_short_while_is_counted_finely() {
        let micros = Duration::from_micros;
        let used = |cpu, cpu_in_ticks| Usage { cpu, cpu_in_ticks, ..Usage::default() };
        let while_on = used(micros(15_300), 2 * TICK).since(used(micros(15_000), 2 * TICK));
        assert_eq!(while_on.cpu, micros(300));
        let while_on = used(micros(20_100), 2 * TICK).since(used(micros(19_900), TICK));
        assert_eq!(while_on.cpu, micros(200));
    }
}
