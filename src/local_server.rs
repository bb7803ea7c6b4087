//! This program as a server in a process of its own, so that its memory and its time are those of the server alone.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use switchboard::load::Process;

/// The files of a certificate that is made for one server.
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";
/// How long it may take until it is open.
const START: Duration = Duration::from_secs(30);
/// What a session may take that waits for its client to come back, beside what is the default for all of them.
const DETACHED_BYTES: usize = 64 * 1024;

/// What such a server is for.
pub struct Settings {
    /// How many clients are to come from one address; its bounds let them in.
    pub clients: usize,
    /// Whether its doors are under TLS, by a certificate for which [`LocalServer::root`] vouches.
    pub tls: bool,
}

/// A server on a free port of 127.0.0.1, without rates; ended when dropped.
pub struct LocalServer {
    child: Child,
    url: String,
    directory: PathBuf,
    root: Option<CertificateDer<'static>>,
}

impl LocalServer {
    /// When this returns, it takes clients.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let directory = env::temp_dir().join(format!("switchboard-{:016x}", fastrand::u64(..)));
        fs::create_dir(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["--listen", "127.0.0.1:0", "--rates", "off", "--log", "warn", "--cert-dir"]).arg(&directory);
        // Never less than the defaults, and room for those who reconnect before their old connection is known to be gone.
        let clients = (settings.clients + settings.clients / 4).max(20_000).to_string();
        for name in ["CLIENTS_MAX", "HANDSHAKES_MAX"] {
            command.env(format!("SWITCHBOARD_LIMITS_{name}"), &clients);
        }
        let detached_bytes = (settings.clients * DETACHED_BYTES).max(128 * 1024 * 1024);
        command.env("SWITCHBOARD_LIMITS_DETACHED_BYTES_MAX", detached_bytes.to_string());
        let root = settings.tls.then(|| certify(&directory)).transpose()?;
        if root.is_some() {
            command.arg("--tls-cert").arg(directory.join(CHAIN)).arg("--tls-key").arg(directory.join(KEY));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut server = Self { child, url: String::new(), directory, root };
        let mut out = BufReader::new(server.child.stdout.take().expect("it is piped"));
        let (said, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = out.read_line(&mut line);
            let _ = said.send(line);
        });
        let line = hears.recv_timeout(START).context("the server did not say that it is open")?;
        let url = line.strip_prefix("Switchboard is open: ").context("the server did not start")?;
        server.url = url.trim().to_owned();
        Ok(server)
    }

    /// The base URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The authority that has signed its certificate, if it is under TLS.
    pub fn root(&self) -> Option<CertificateDer<'static>> {
        self.root.clone()
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

/// Makes a certificate for 127.0.0.1, and the authority that signs it and is forgotten at once.
fn certify(directory: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut authority = CertificateParams::new([])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key)?.der().clone();
    let signed = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &Issuer::new(authority, authority_key))?;
    fs::write(directory.join(KEY), key.serialize_pem())?;
    fs::write(directory.join(CHAIN), signed.pem())?;
    Ok(root)
}

/// Does what is done, and all processes that are started by it, on the first of this process's cores; what comes afterwards on the others.
#[cfg(target_os = "linux")]
pub fn on_the_first_core<T>(work: impl FnOnce() -> T) -> anyhow::Result<T> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let all = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let first = cores.next().context("there is no core")?;
    anyhow::ensure!(cores.next().is_some(), "there is but one core");
    let (mut one, mut others) = (CpuSet::new(), all);
    one.set(first);
    others.unset(first);
    sched_setaffinity(None, &one)?;
    let done = work();
    sched_setaffinity(None, &others)?;
    Ok(done)
}

/// Linux alone takes such a wish.
#[cfg(not(target_os = "linux"))]
pub fn on_the_first_core<T>(_: impl FnOnce() -> T) -> anyhow::Result<T> {
    anyhow::bail!("this system does not let a program choose its cores")
}
