//! This program as a server in a process of its own, so that its memory and its time are those of the server alone.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

/// A server on a free port of 127.0.0.1, without rates; ended when dropped.
pub struct LocalServer {
    child: Child,
    url: String,
    directory: PathBuf,
}

impl LocalServer {
    /// When this returns, it takes clients.
    pub fn start() -> anyhow::Result<Self> {
        let directory = env::temp_dir().join(format!("switchboard-{:016x}", fastrand::u64(..)));
        fs::create_dir(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["--listen", "127.0.0.1:0", "--rates", "off", "--log", "warn", "--cert-dir"]).arg(&directory);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { child, url: String::new(), directory };
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let url = line.strip_prefix("Switchboard is open: ").context("the server did not start")?;
        server.url = url.trim().to_owned();
        Ok(server)
    }

    /// The base URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process { id: self.child.id() }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // It may have ended by itself, and what is left in a temporary directory hurts nobody.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A process of this machine, as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub id: u32,
}

impl Process {
    /// Bytes of memory that it has now.
    pub fn resident_bytes(self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).context("the server has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the server has ended")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Time that its threads have spent on processors, the kernel's work for them included.
    pub fn cpu_time(self) -> anyhow::Result<Duration> {
        let mut time = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.id)).context("the server has ended")? {
            // A thread may be over by now.
            let Ok(statistics) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let on_cpu = statistics.split(' ').next().context("schedstat begins with a time")?;
            time += Duration::from_nanos(on_cpu.parse()?);
        }
        Ok(time)
    }

    /// How often its threads have gone to sleep, and so had to be woken.
    pub fn sleeps(self) -> anyhow::Result<u64> {
        let mut sleeps = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.id)).context("the server has ended")? {
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).context("the kernel does not tell")?;
            sleeps += line.trim().parse::<u64>()?;
        }
        Ok(sleeps)
    }
}
