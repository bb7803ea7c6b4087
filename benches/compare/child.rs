//! A server in a process of its own, from its start until it is ended by its number.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use switchboard::load::Process;

use crate::cores::{Cores, Place};

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// `TCP_LISTEN`, as `/proc/net/tcp` writes it.
const LISTENING: &str = "0A";

/// A server that runs; ended when dropped.
pub struct Running {
    child: Child,
    /// What it said of itself, if it was asked to.
    pub words: String,
    /// Where it listens on TCP, if it does.
    pub address: Option<SocketAddr>,
}

/// How to know that a server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It prints a line.
    Line,
    /// It listens on a TCP port, which the kernel tells: most servers print the port that they were asked for, which is 0.
    Port,
}

impl Running {
    /// When this returns, it takes clients.
    pub fn start(mut command: Command, sign: Sign, cores: &Cores, place: Place) -> anyhow::Result<Self> {
        // A pipe that ends with this program, for those who care; what nobody reads goes nowhere.
        command.stdin(Stdio::piped()).stdout(if sign == Sign::Line { Stdio::piped() } else { Stdio::null() });
        let name = command.get_program().to_string_lossy().into_owned();
        let child = cores.at(place, || command.spawn().with_context(|| format!("{name} cannot be started")))?;
        let mut running = Self { child, words: String::new(), address: None };
        match sign {
            Sign::Line => running.words = running.line().with_context(|| format!("{name} does not say that it is there"))?,
            Sign::Port => running.address = Some(running.port().with_context(|| format!("{name} does not listen"))?),
        }
        Ok(running)
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process { id: self.child.id() }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut out = BufReader::new(self.child.stdout.take().context("it is not piped")?);
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = out.read_line(&mut line);
            let _ = said.send(line);
            // Goes on reading, so that it never writes in vain.
            let _ = std::io::copy(&mut out, &mut std::io::sink());
        });
        let line = hears.recv_timeout(START)?;
        if line.is_empty() { bail!("it has ended") } else { Ok(line.trim().to_owned()) }
    }

    fn port(&mut self) -> anyhow::Result<SocketAddr> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                bail!("it has ended: {status}");
            }
            if let Some(port) = listening_port(self.child.id()) {
                return Ok((Ipv4Addr::LOCALHOST, port).into());
            }
            thread::sleep(LOOK);
        }
        bail!("not within {} s", START.as_secs())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port of the first TCP socket that this process listens on.
fn listening_port(process: u32) -> Option<u16> {
    let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let sockets: HashSet<String> =
        targets.filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    ["tcp", "tcp6"].iter().find_map(|family| {
        let table = fs::read_to_string(format!("/proc/{process}/net/{family}")).ok()?;
        table.lines().find_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = columns[..] else { return None };
            let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            (state == LISTENING && sockets.contains(inode)).then_some(port)
        })
    })
}
