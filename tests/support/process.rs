//! The program itself in a process of its own, whose memory, log and end can be looked at from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::DEADLINE;

/// The program in this directory, with nothing of the tests' environment that could change what it does.
pub fn switchboard(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.current_dir(directory.path()).env_clear().stdin(Stdio::null());
    command
}

/// A program that serves; ended by its id when this is dropped.
pub struct ServerProcess {
    child: Child,
    url: String,
    admits: String,
    log: PathBuf,
    directory: Option<TempDir>,
}

impl ServerProcess {
    /// On a free port of 127.0.0.1, in a directory of its own, with these settings in its environment.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = switchboard(&directory);
        command.args(["--listen", "127.0.0.1:0"]).envs(settings.iter().copied());
        let mut process = Self::start(&mut command, &directory);
        process.directory = Some(directory);
        process
    }

    /// Runs a command that serves, and keeps its log in this directory.
    pub fn start(command: &mut Command, directory: &TempDir) -> Self {
        let log = directory.path().join("stderr");
        let file = fs::File::create(&log).expect("a file for the log");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut process = Self { child, url: String::new(), admits: String::new(), log, directory: None };
        let [line, admits] = first_lines(stdout);
        let url = line.strip_prefix("Switchboard is open: ").unwrap_or_else(|| panic!("not the URL: {line:?}\n{}", process.log()));
        process.url = url.trim().to_owned();
        process.admits = admits.trim().to_owned();
        process
    }

    /// The URL that it printed.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who may come in, as it printed it.
    pub fn admits(&self) -> &str {
        &self.admits
    }

    /// The URL's host and port.
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is text")
    }

    /// Waits until it has logged this.
    pub fn logs(&self, text: &str) {
        let since = Instant::now();
        while !self.log().contains(text) {
            assert!(since.elapsed() < DEADLINE, "{text:?} is not logged:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How much memory it has in use, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory until it ends");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Does it still run?
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill runs").success());
    }

    /// Waits for its end: the exit status and what was logged.
    pub fn end(mut self) -> (Option<i32>, String) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return (status.code(), self.log());
            }
            assert!(since.elapsed() < DEADLINE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            // A panic says more than what came after it.
            let from = lines.iter().position(|line| line.contains("panicked")).unwrap_or(lines.len().saturating_sub(40));
            println!("the server's log, from line {from}:");
            lines.iter().skip(from).take(80).for_each(|line| println!("  {line}"));
        }
    }
}

fn first_lines(stdout: ChildStdout) -> [String; 2] {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = [String::new(), String::new()];
        let mut stdout = BufReader::new(stdout);
        for line in &mut lines {
            // A program that prints nothing leaves them empty.
            let _ = stdout.read_line(line);
        }
        let _ = sender.send(lines);
    });
    receiver.recv_timeout(DEADLINE).expect("it prints its URL in time")
}
