//! Where and when figures were taken: without it they say nothing.

use std::{fs, process::Command, thread};

use time::{OffsetDateTime, macros::format_description};

use crate::install;

/// Where and when.
pub struct Machine {
    /// In UTC.
    pub date: String,
    /// What the working tree is at, with `+` where it has changes; empty where git does not tell.
    pub commit: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// Empty where there is none.
    pub node: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            date: OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]")).unwrap_or_default(),
            commit: commit(),
            processor: processor.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: thread::available_parallelism().map_or(1, Into::into),
            kernel: format!("{} {}", std::env::consts::OS, kernel.trim()),
            node: install::node_version().unwrap_or_default(),
        }
    }
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty=+", "--exclude=*"]).current_dir(install::folder()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
