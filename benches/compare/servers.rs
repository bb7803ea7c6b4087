//! The servers: what each is called, what it takes to start it, and how it is spoken to.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use switchboard::{
    client::{Connector, Door, Options},
    load::{self, Native, Outcome, Plan, Progress, Scenario, Speech},
    protocol::Codec,
};
use tempfile::TempDir;

use crate::{
    child::{Running, Sign},
    cores::{Cores, Place},
    install,
    load::{FIGURES, Load},
    relay::Relay,
    speech,
};

/// Beside the time that counts, a run may take so long.
const SLACK: Duration = Duration::from_secs(90);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Server {
    Bare,
    Switchboard,
    SwitchboardTls,
    WsRooms,
    #[value(name = "socket.io")]
    SocketIo,
    Peer,
    YWebrtc,
    BittorrentTracker,
    Matchbox,
    BareWebtransport,
    SwitchboardWebtransport,
    /// With one worker, on whatever core.
    OneWorker,
    /// With two.
    TwoWorkers,
}

/// A server that takes clients.
pub struct Serving {
    server: Server,
    running: Running,
    /// Its certificates.
    directory: Option<TempDir>,
}

impl Server {
    /// What the table calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare WebSocket relay",
            Self::Switchboard => "**Switchboard**",
            Self::SwitchboardTls => "**Switchboard**, TLS",
            Self::WsRooms => "`ws`, rooms",
            Self::SocketIo => "`socket.io`",
            Self::Peer => "`peer`",
            Self::YWebrtc => "`y-webrtc`",
            Self::BittorrentTracker => "`bittorrent-tracker`",
            Self::Matchbox => "`matchbox_server`",
            Self::BareWebtransport => "bare WebTransport relay",
            Self::SwitchboardWebtransport => "**Switchboard**, WebTransport",
            Self::OneWorker => "**Switchboard**, 1 worker, any core",
            Self::TwoWorkers => "**Switchboard**, 2 workers, any core",
        }
    }

    /// Whom it is compared with.
    pub fn floor(self) -> Self {
        match self {
            Self::BareWebtransport | Self::SwitchboardWebtransport => Self::BareWebtransport,
            Self::OneWorker | Self::TwoWorkers => Self::OneWorker,
            _ => Self::Bare,
        }
    }

    /// Does this load make it do what it makes the relay do that it is compared with?
    pub fn does_as_its_floor(self, load: Load) -> bool {
        self != Self::SwitchboardTls && (load != Load::Churn || self.is_joined_by_connecting() == self.floor().is_joined_by_connecting())
    }

    /// Does a client come by connecting and go by closing? Elsewhere it stays connected, and two messages are enough.
    fn is_joined_by_connecting(self) -> bool {
        matches!(self, Self::Bare | Self::BareWebtransport | Self::Peer | Self::YWebrtc | Self::Matchbox)
    }

    /// What the command line and JSON call it.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }

    /// Is it asked for this?
    pub fn takes(self, load: Load) -> bool {
        match self {
            Self::SwitchboardTls => load == Load::Idle,
            Self::Switchboard => true,
            Self::OneWorker | Self::TwoWorkers => matches!(load, Load::Offers | Load::OneInFlight),
            _ if load == Load::Presence => self.is_ours(),
            _ => FIGURES.iter().any(|figure| figure.load == load),
        }
    }

    /// Does it know nothing but frames?
    pub fn is_relay(self) -> bool {
        matches!(self, Self::Bare | Self::BareWebtransport)
    }

    /// Was it written here?
    pub fn is_ours(self) -> bool {
        self.package() == "switchboard"
    }

    /// What it is called where it comes from.
    pub fn package(self) -> &'static str {
        match self {
            Self::WsRooms => "ws",
            Self::SocketIo => "socket.io",
            Self::Peer => "peer",
            Self::YWebrtc => "y-webrtc",
            Self::BittorrentTracker => "bittorrent-tracker",
            Self::Matchbox => "matchbox_server",
            _ => env!("CARGO_PKG_NAME"),
        }
    }

    /// Sees to it that it can be started, and tells its version.
    pub fn prepare(self) -> anyhow::Result<String> {
        if self.is_ours() {
            return Ok(env!("CARGO_PKG_VERSION").to_owned());
        }
        if self == Self::Matchbox {
            return Ok(install::matchbox()?.1);
        }
        // Packages without Node are no servers.
        install::node_version()?;
        install::npm_packages()?;
        install::npm_version(self.package())
    }

    /// Starts it. When this returns, it takes clients.
    pub fn start(self, cores: &Cores) -> anyhow::Result<Serving> {
        let (mut command, mut sign, mut directory) = (Command::new("node"), Sign::Port, None);
        command.current_dir(install::folder());
        match self {
            Self::Bare => command = relay(Relay::WebSocket)?,
            Self::BareWebtransport => (command, sign) = (relay(Relay::WebTransport)?, Sign::Line),
            Self::Switchboard | Self::SwitchboardTls | Self::SwitchboardWebtransport | Self::OneWorker | Self::TwoWorkers => {
                let certificates = tempfile::tempdir()?;
                command = self.switchboard(certificates.path())?;
                (sign, directory) = (Sign::Line, Some(certificates));
            }
            Self::WsRooms => drop(command.arg("servers/rooms.js")),
            Self::SocketIo => drop(command.arg("servers/socketio.js")),
            Self::Peer => drop(command.arg("servers/peer.js")),
            Self::YWebrtc => drop(command.arg("node_modules/.bin/y-webrtc-signaling").env("PORT", "0")),
            Self::BittorrentTracker => drop(command.arg("servers/tracker.js")),
            Self::Matchbox => {
                command = Command::new(install::matchbox()?.0);
                command.arg("127.0.0.1:0").env("RUST_LOG", "warn");
            }
        }
        command.stderr(Stdio::inherit());
        let place = if matches!(self, Self::OneWorker | Self::TwoWorkers) { Place::Anywhere } else { Place::Server };
        let running = Running::start(command, sign, cores, place)?;
        Ok(Serving { server: self, running, directory })
    }

    /// Where the load is made.
    pub fn load_place(self) -> Place {
        if matches!(self, Self::OneWorker | Self::TwoWorkers) { Place::Anywhere } else { Place::Load }
    }

    fn switchboard(self, directory: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.current_dir(directory).env_clear().env("SWITCHBOARD_LISTEN", "127.0.0.1:0").env("SWITCHBOARD_RATES", "off");
        command.env("SWITCHBOARD_LOG", "warn").env("SWITCHBOARD_CERT_DIR", directory);
        command.env("SWITCHBOARD_WORKERS", if self == Self::TwoWorkers { "2" } else { "1" });
        if self == Self::SwitchboardTls {
            let certified = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            let [chain, key] = ["chain.pem", "key.pem"].map(|file| directory.join(file));
            fs::write(&chain, certified.cert.pem())?;
            fs::write(&key, certified.signing_key.serialize_pem())?;
            command.env("SWITCHBOARD_TLS_CERT", chain).env("SWITCHBOARD_TLS_KEY", key);
        }
        Ok(command)
    }
}

impl Serving {
    /// Puts a load on it. `None` if it cannot do that.
    pub async fn measure(&self, load: Load, length: Duration) -> anyhow::Result<Option<Outcome>> {
        let plan = load.plan(length, self.server, self.running.process());
        tokio::time::timeout(length + SLACK, self.speak(&plan)).await.map_err(|_| anyhow!("it took too long"))?
    }

    async fn speak(&self, plan: &Plan) -> anyhow::Result<Option<Outcome>> {
        let address = || self.running.address.context("it listens on TCP");
        match self.server {
            Server::Bare => run(speech::BareWebSocket(address()?), plan).await,
            Server::WsRooms => run(speech::Rooms(address()?), plan).await,
            Server::SocketIo => run(speech::SocketIo(address()?), plan).await,
            Server::Peer => run(speech::PeerJs(address()?), plan).await,
            Server::YWebrtc => run(speech::YWebrtc(address()?), plan).await,
            Server::BittorrentTracker => run(speech::Tracker(address()?), plan).await,
            Server::Matchbox => run(speech::Matchbox(address()?), plan).await,
            Server::BareWebtransport => run(speech::BareWebTransport::new(&self.running.words)?, plan).await,
            Server::SwitchboardWebtransport => run(self.native(Door::WebTransport).await?, plan).await,
            Server::Switchboard | Server::SwitchboardTls | Server::OneWorker | Server::TwoWorkers => {
                run(self.native(Door::WebSocket(Codec::Json)).await?, plan).await
            }
        }
    }

    async fn native(&self, door: Door) -> anyhow::Result<Native> {
        let url = self.running.words.strip_prefix("Switchboard is open: ").context("it prints its URL")?;
        let mut options = Options::default();
        if let (Server::SwitchboardTls, Some(directory)) = (self.server, &self.directory) {
            options.roots.push(CertificateDer::from_pem_file(directory.path().join("chain.pem"))?);
        }
        let connector = Connector::new(url, options).await?;
        Ok(Native::new(&connector, &[door]).await?)
    }
}

async fn run<S: Speech>(speech: S, plan: &Plan) -> anyhow::Result<Option<Outcome>> {
    let nobody = load::Address { number: 0, room: String::new(), id: String::new() };
    if matches!(plan.scenario, Scenario::Broadcast { .. }) && speech.broadcast(&nobody, &serde_json::Value::Null).is_none() {
        return Ok(None);
    }
    Ok(Some(load::measure(&Arc::new(speech), plan, &Arc::new(Progress::default())).await?))
}

/// This program, as a relay.
fn relay(relay: Relay) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    let name = relay.to_possible_value().expect("none is hidden");
    command.args(["--relay", name.get_name()]);
    Ok(command)
}
