//! The server as a whole: builds the parts, joins them, and owns the order of shutdown.
//!
//! It runs on threads of its own: one for the registry and, unless there is only one worker, the QUIC endpoints; and the workers, among which
//! both doors deal out their connections. A session lives on the thread of its first connection.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize, mpsc},
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tracing::{info, warn};

use crate::{
    admin::{self, Desk, Program, TokenError},
    auth::{
        Authorize, FetchError, KeyError, PublishedKeys, RoomPattern, Rules, Tokens,
        callback::{Application, CallbackSettings, Secret},
        failures::{FailureLimits, Failures},
        origin::Origins,
    },
    config::{self, Auth, Config, ForeignDialect, InvalidConfig, Listen, Rates, SettingOrigins},
    ice::{External, IceServers, IceUrl, Issuer, SecretError, SecretFiles, Sources, Terms},
    ingress::{
        Clients, Doorkeeper, Sessions,
        address::{AddressLimits, Addresses},
        dialects::Dialects,
        engineio::EngineIo,
        handshakes::Handshakes,
        http::{self, Site},
        listener::{self, BindError, Listener},
        self_signed::SelfSigned,
        slowdown::{Slowdown, Unhurried},
        tls::{CertificateError, Certificates, Source},
        webtransport,
    },
    metrics::Metrics,
    protocol::ClientRates,
    registry::{
        RoomRegistry,
        command::{Drain, Snapshot, TakeSnapshot},
        drain::DrainWindow,
        rooms::RoomLimits,
    },
    turn::{self, Turn, credentials::Credentials},
};

/// A running server. It stops when told to, or when this is dropped.
pub struct Server {
    url: String,
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    turn_addresses: TurnAddresses,
    turn_credentials: Option<Arc<Credentials>>,
    turn_urls: Vec<IceUrl>,
    admits: String,
    registry: Addr<RoomRegistry>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    /// Tells that its administration has stopped it.
    drained: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Where the embedded TURN server listens.
#[derive(Clone, Debug, Default)]
pub struct TurnAddresses {
    /// On UDP, and on TCP in the clear.
    pub clear: Vec<SocketAddr>,
    /// On TCP, for TLS.
    pub tls: Vec<SocketAddr>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The setting `listen` names an address that is not to be had.
    #[error("listen: {0}")]
    Listen(BindError),
    /// The settings `tls_cert` and `tls_key`, or `cert_dir`, name no certificate that can be used.
    #[error("{setting}: {source}")]
    Certificate { setting: &'static str, source: Box<CertificateError> },
    /// The setting names keys, or an application, that cannot be used.
    #[error("{setting}: {problem}")]
    Auth { setting: &'static str, problem: String },
    /// The setting `ice.turn_secret_files` names a file without a secret.
    #[error("ice.turn_secret_files: {0}")]
    TurnSecret(#[from] SecretError),
    /// The setting `admin_listen` names an address that is not to be had.
    #[error("admin_listen: {0}")]
    AdminListen(BindError),
    /// The setting `admin.token_file` names a file that holds no token.
    #[error("admin.token_file: {0}")]
    AdminToken(#[from] TokenError),
    /// The settings `turn.listen`, `turn.tls_listen` name an address that is not to be had.
    #[error("{setting}: {source}")]
    Turn { setting: &'static str, source: BindError },
    /// The system lacks something that every server needs.
    #[error("the server cannot run on this system: {0}")]
    System(String),
}

impl Server {
    /// Starts a server with these settings. When this returns, clients can connect.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let settings = config.in_force(&SettingOrigins::new());
        Self::start_in(config, None, Program { settings, ..Program::default() })
    }

    /// The same for a program that decides itself who may come in, whatever the settings say of it, and lets its administration see, and change, what it does
    /// beside the server.
    pub fn start_in(config: Config, authority: Option<Arc<dyn Authorize>>, program: Program) -> Result<Self, StartError> {
        config.check()?;
        let certificates = certificates(&config)?;
        let (authority, tokens, admits) = match authority {
            Some(authority) => (Some(authority), None, "The program that it is a part of decides who may come in".to_owned()),
            None => {
                let tokens = tokens(&config.auth)?;
                (decider(&config.auth, tokens.clone())?, tokens, config.auth.admits())
            }
        };
        let turn_secrets = SecretFiles::load(&config.ice.turn_secret_files)?;
        let listeners = listener::bind(config.listen).map_err(StartError::Listen)?;
        let administration = config.admin_listen.map(|listen| Administration::prepare(listen, &config.admin, program)).transpose()?;
        let admin_addresses =
            administration.iter().flat_map(|administration| &administration.listeners).map(|(address, _)| *address).collect();
        let (turn, turn_addresses) = turn_sockets(&config, &certificates)?.unzip();
        let turn = turn.map(|sockets| (sockets, Credentials::new(config.turn.grace())));
        let turn_credentials = turn.as_ref().map(|(_, credentials)| credentials.clone());
        let embedded = turn_credentials.clone().zip(turn_addresses.as_ref()).map(|(credentials, addresses)| {
            let TurnAddresses { clear, tls } = addresses;
            turn::Source::new(credentials, &config.turn.external_ip, clear, tls, certificates.name().as_deref())
        });
        let turn_urls = embedded.as_ref().map(|source| source.urls.clone()).unwrap_or_default();
        warn_of_inner_addresses(config.listen, &turn_urls);
        let embedded = embedded.map(|source| Arc::new(source) as Arc<dyn Issuer>);
        let addresses: Vec<SocketAddr> = listeners.iter().map(|listener| listener.address).collect();
        let listening = Listening { doors: listeners, turn };
        let scheme = if certificates.is_self_signed() { "http" } else { "https" };
        let url = format!("{scheme}://{}/", host(config.listen, addresses[0]));

        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = watch::channel(false);
        let (started, outcome) = mpsc::channel();
        let counts = metrics.clone();
        let drained = Arc::new(Notify::new());
        let shutdown = Shutdown { stop: stop.clone(), drained: drained.clone(), stopped: stopped.clone() };
        let administration = administration.map(|administration| (administration, shutdown));
        let run = move || {
            System::new().block_on(async move {
                if let Some(tokens) = tokens {
                    actix_rt::spawn(tokens.watch(config.timeouts.certificate_check()));
                }
                if let Some(secrets) = turn_secrets.clone() {
                    actix_rt::spawn(secrets.watch(config.timeouts.certificate_check()));
                }
                let ice = ice_servers(&config, turn_secrets, embedded);
                match Parts::start(&config, authority, ice, certificates, listening, counts, administration).await {
                    Ok(parts) => {
                        // Whoever started the server waits for it to start.
                        let _ = started.send(Ok(parts.registry.clone()));
                        parts.run(stopped, config.timeouts.drain(), config.timeouts.shutdown_grace()).await;
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        };
        let failed = |error: std::io::Error| StartError::System(error.to_string());
        let thread = thread::Builder::new().name("switchboard".into()).spawn(run).map_err(failed)?;
        let registry = outcome.recv().map_err(|_| StartError::System("its first thread ended".into()))??;
        info!(%url, ?addresses, admits, "clients are taken");
        Ok(Self {
            url,
            addresses,
            admin_addresses,
            admits,
            turn_addresses: turn_addresses.unwrap_or_default(),
            turn_credentials,
            turn_urls,
            registry,
            metrics,
            stop,
            drained,
            thread: Some(thread),
        })
    }

    /// The URL to open in a browser, and the base URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, on TCP and on UDP.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its administration listens: nowhere without the setting `admin_listen`.
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Where its embedded TURN server listens: nowhere without the setting `turn.enabled`.
    pub fn turn_addresses(&self) -> &TurnAddresses {
        &self.turn_addresses
    }

    /// Who may use that.
    pub fn turn_credentials(&self) -> Option<&Arc<Credentials>> {
        self.turn_credentials.as_ref()
    }

    /// By what URLs clients are told of it: none without that setting.
    pub fn turn_urls(&self) -> &[IceUrl] {
        &self.turn_urls
    }

    /// Who may come in, as a sentence without its full stop.
    pub fn admits(&self) -> &str {
        &self.admits
    }

    /// Who is where, now.
    pub async fn snapshot(&self) -> Snapshot {
        self.registry.send(TakeSnapshot).await.unwrap_or_default()
    }

    /// What it has counted so far, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Tells it to shut down: no new clients, a goodbye to all that are there, and an end when the last is gone or the grace period over.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until it has shut down.
    pub fn wait(mut self) {
        self.join();
    }

    /// Serves until the process is told to end by SIGTERM or SIGINT, then shuts down. A second signal does not wait for that. Calls
    /// `ready` once signals are heeded.
    pub fn serve(mut self, ready: impl FnOnce(&Self)) -> Result<(), StartError> {
        let failed = |error: std::io::Error| StartError::System(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        runtime.block_on(async {
            let mut signals = Signals::new().map_err(failed)?;
            ready(&self);
            let ended = self.stop.clone();
            tokio::select! {
                () = signals.next() => self.stop(),
                () = self.drained.notified() => {}
                () = ended.closed() => {}
            }
            tokio::select! {
                () = signals.next() => {
                    warn!("a second signal: ending at once");
                    // Nobody waits for the thread any more; it ends with the process.
                    drop(self.thread.take());
                }
                () = ended.closed() => {}
            }
            Ok(())
        })
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic over there has been told already.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is bound before there is anybody to serve it.
struct Listening {
    doors: Vec<Listener>,
    turn: Option<(turn::Sockets, Arc<Credentials>)>,
}

/// What runs on the server's first thread.
struct Parts {
    registry: Addr<RoomRegistry>,
    clients: Arc<Clients>,
    tcp: actix_server::ServerHandle,
    admin: Option<actix_server::ServerHandle>,
    quic: Vec<quinn::Endpoint>,
    turn: Option<Turn>,
}

impl Parts {
    async fn start(
        config: &Config,
        authority: Option<Arc<dyn Authorize>>,
        ice: Arc<IceServers>,
        certificates: Arc<Certificates>,
        Listening { doors: listeners, turn }: Listening,
        metrics: Arc<Metrics>,
        administration: Option<(Administration, Shutdown)>,
    ) -> Result<Self, StartError> {
        let limits = &config.limits;
        let room_limits = RoomLimits {
            quiet_peers_max: config.limits.clients_max,
            rooms_max: limits.rooms_max,
            peers_max: limits.peers_per_room_max,
            metadata_bytes_max: limits.room_metadata_bytes_max,
        };
        let relay_only = config.ice.relay_only_rooms.iter().map(|rooms| RoomPattern::parse(rooms)).collect();
        let registry = RoomRegistry::new(room_limits, metrics.clone()).relaying(relay_only).start();
        let clients = Clients::new(limits.clients_max);
        let bounded = config.rates == Rates::On;
        let address_limits =
            AddressLimits { connections_max: limits.address_connections_max, joins_per_second: limits.address_joins_per_second };
        let rates = ClientRates {
            messages_per_second: limits.messages_per_second,
            bytes_per_second: limits.bytes_per_second,
            joins_per_second: limits.joins_per_second,
        };
        let addresses = Addresses::new(bounded.then_some(address_limits), config.trusted_proxies.clone());
        let slowdown = Slowdown::new(failure_limits(config), addresses.clone(), clients.clone());
        let unhurried = |authority| Arc::new(Unhurried { authority, slowdown: slowdown.clone() }) as Arc<dyn Authorize>;
        let doorkeeper = Arc::new(Doorkeeper {
            limits: limits.clone(),
            timeouts: config.timeouts.clone(),
            sessions: Sessions::new(limits, &config.timeouts, bounded.then_some(rates), registry.clone()),
            clients: clients.clone(),
            addresses,
            origins: Origins::new(config.origins.clone()),
            authority: authority.map(unhurried),
            slowdown: slowdown.clone(),
            ice,
            metrics: metrics.clone(),
        });
        let has_tokens = doorkeeper.authority.is_some();
        let dialects = Arc::new(Dialects::new(config.dialects.clone(), config.peerjs.clone(), has_tokens));
        let speaks_socket_io = config.dialects.contains(&ForeignDialect::SocketIo);
        let socket_io =
            speaks_socket_io.then(|| EngineIo::new(limits.clone(), config.timeouts.clone(), doorkeeper.sessions.rates(), metrics.clone()));
        actix_rt::spawn(certificates.clone().watch(config.timeouts.certificate_check()));

        let failed = |error: &dyn std::fmt::Display| StartError::System(error.to_string());
        let mut sockets = Vec::new();
        let (worker_up, mut workers_up) = tokio::sync::mpsc::unbounded_channel();
        let mut builder = actix_server::Server::build()
            .workers(config.workers())
            .disable_signals()
            // Connections that are no clients yet: as many as may become some, and some for plain HTTP. Whom the doorkeeper has let in does not count
            // here any more. The crate counts per worker, and a worker that is full is passed over.
            .max_concurrent_connections((limits.clients_max + HTTP_CONNECTIONS).div_ceil(config.workers()));
        for (number, Listener { address, tcp, udp }) in listeners.into_iter().enumerate() {
            sockets.push(udp);
            let handshakes = Handshakes::new(limits.handshakes_max, config.timeouts.hello());
            let (dialects, socket_io) = (dialects.clone(), socket_io.clone());
            let doorkeeper = doorkeeper.clone();
            let site = Arc::new(Site { doorkeeper, certificates: certificates.clone(), address, handshakes, dialects, socket_io });
            let worker_up = worker_up.clone();
            // Every worker calls this once for each listener, on its own thread.
            let site = move || {
                // Nobody listens any more when a worker that died is replaced.
                let _ = worker_up.send((number, Arbiter::current()));
                site.clone()
            };
            builder = match certificates.tcp() {
                Some(tls) => builder.listen("https", tcp, move || http::service_tls(site(), tls.clone())),
                None => builder.listen("http", tcp, move || http::service(site())),
            }
            .map_err(|error| failed(&error))?;
        }
        let server = builder.run();
        let tcp = server.handle();
        actix_rt::spawn(server);

        let mut workers: Vec<ArbiterHandle> = Vec::new();
        // Each of them once.
        let mut threads: Vec<ArbiterHandle> = Vec::new();
        // The workers hold the other ends: without any of them, nobody is left to wait for.
        drop(worker_up);
        for _ in 0..config.workers() * sockets.len() {
            let (number, worker) = workers_up.recv().await.ok_or_else(|| failed(&"its workers did not start"))?;
            if number == 0 {
                threads.push(worker.clone());
            }
            workers.push(worker);
        }
        let mut quic = Vec::new();
        // Beside a single worker another thread would only be woken for every packet. Where there are several, a flood that keeps one of them busy is
        // not to keep the packets of all.
        let home = if config.workers() == 1 { workers[0].clone() } else { Arbiter::current() };
        for udp in sockets {
            let (opened, outcome) = oneshot::channel();
            let (tls, doorkeeper, workers, socket_io) = (certificates.quic(), doorkeeper.clone(), workers.clone(), socket_io.clone());
            home.spawn_fn(move || {
                let endpoint = webtransport::endpoint(udp, tls, &doorkeeper);
                if let Ok(endpoint) = &endpoint {
                    actix_rt::spawn(webtransport::accept(endpoint.clone(), workers, doorkeeper, socket_io));
                }
                // Whoever starts the server waits for it.
                let _ = opened.send(endpoint);
            });
            let endpoint = outcome.await.map_err(|_| failed(&"its workers did not start"))?;
            quic.push(endpoint.map_err(|error| failed(&error))?);
        }
        let turn = turn.map(|(sockets, credentials)| Turn::start(turn_settings(config), sockets, &threads, credentials, metrics));
        let turn = turn.transpose().map_err(|error| failed(&error))?;
        let admin = administration.map(|(administration, shutdown)| administration.start(config, &doorkeeper, shutdown)).transpose();
        let admin = admin.map_err(|error| failed(&error))?;
        Ok(Self { registry, clients, tcp, admin, quic, turn })
    }

    /// Serves until told to stop, then shuts down: first nobody new, then goodbye to all, then the doors.
    async fn run(self, mut stopped: watch::Receiver<bool>, drain: Duration, grace: Duration) {
        // The sender is gone only when the whole program is.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        info!(clients = self.clients.count(), "shutting down");
        let window = DrainWindow::open(drain, Instant::now());
        self.clients.drain(window);
        self.registry.do_send(Drain(window));
        if tokio::time::timeout(grace, self.clients.all_gone()).await.is_err() {
            warn!(clients = self.clients.count(), "the grace period is over, clients are cut off");
        }
        if let Some(turn) = self.turn {
            turn.stop().await;
        }
        futures_util::future::join_all(self.quic.into_iter().map(|endpoint| webtransport::shut(endpoint, LAST_PACKETS))).await;
        self.tcp.stop(false).await;
        // Last, so that whoever ended the server sees it end.
        if let Some(admin) = self.admin {
            admin.stop(true).await;
        }
        info!("shut down");
    }
}

/// How the administration ends the server, and learns that it ends.
struct Shutdown {
    stop: watch::Sender<bool>,
    drained: Arc<Notify>,
    stopped: watch::Receiver<bool>,
}

/// What the administration needs before the server runs.
struct Administration {
    listeners: Vec<(SocketAddr, TcpListener)>,
    token: admin::Token,
    program: Program,
}

impl Administration {
    fn prepare(listen: Listen, settings: &config::Admin, program: Program) -> Result<Self, StartError> {
        let listeners = listener::bind_tcp(listen).map_err(StartError::AdminListen)?;
        Ok(Self { listeners, token: admin::Token::load(&settings.token_file)?, program })
    }

    fn start(self, config: &Config, doorkeeper: &Doorkeeper, shutdown: Shutdown) -> std::io::Result<actix_server::ServerHandle> {
        let (clients, metrics) = (doorkeeper.clients.clone(), doorkeeper.metrics.clone());
        let Shutdown { stop, drained, stopped } = shutdown;
        let drain = move || {
            stop.send_replace(true);
            drained.notify_one();
        };
        let desk = Desk {
            registry: doorkeeper.sessions.registry().clone(),
            program: self.program,
            token: self.token,
            names: config.cert_names.clone(),
            metrics: Box::new(move || metrics.render()),
            clients: Box::new(move || clients.count()),
            failures: Failures::new(failure_limits(config)),
            waiting: Semaphore::new(admin::WAITING_MAX),
            drain: Box::new(drain),
            stopped,
            message_bytes_max: config.limits.message_bytes_max,
            nesting_max: config.limits.nesting_max,
            patience: config.timeouts.hello(),
            watching: AtomicUsize::new(0),
        };
        admin::serve(desk, self.listeners)
    }
}

/// Connections that plain HTTP may have beside those of clients.
const HTTP_CONNECTIONS: usize = 1024;
/// How long QUIC may take to tell everybody that an endpoint is closed.
const LAST_PACKETS: Duration = Duration::from_millis(500);

/// The keys that tokens are checked with, if there are any.
fn tokens(auth: &Auth) -> Result<Option<Arc<Tokens>>, StartError> {
    if !auth.asks_for_tokens() {
        return Ok(None);
    }
    let published = auth.jwks_url.clone().map(|url| PublishedKeys::new(url, auth.jwks_refresh()));
    let rules = Rules { issuer: auth.issuer.clone(), audience: auth.audience.clone(), leeway: auth.leeway() };
    let failed = |error: KeyError| StartError::Auth { setting: "auth.keys", problem: error.to_string() };
    Tokens::load(&auth.keys, published, rules).map(Some).map_err(failed)
}

/// Who decides who may come in: the keys, the application, or both; nobody where neither is named.
fn decider(auth: &Auth, tokens: Option<Arc<Tokens>>) -> Result<Option<Arc<dyn Authorize>>, StartError> {
    let tokens = tokens.map(|tokens| tokens as Arc<dyn Authorize>);
    let Some(url) = auth.callback_url.clone() else { return Ok(tokens) };
    let read = |file: &PathBuf| {
        let failed =
            |problem: String| StartError::Auth { setting: "auth.callback_secret_file", problem: format!("{}: {problem}", file.display()) };
        let secret = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        Secret::parse(&secret).ok_or_else(|| failed("it holds no secret of one line of ASCII".into()))
    };
    let secret = auth.callback_secret_file.as_ref().map(read).transpose()?;
    let (deadline, kept_for) = (auth.callback_timeout(), auth.callback_cache());
    let settings = CallbackSettings { url, secret, deadline, concurrent_max: auth.callback_concurrent_max, kept_for };
    let failed = |error: FetchError| StartError::Auth { setting: "auth.callback_url", problem: error.to_string() };
    Ok(Some(Arc::new(Application::new(settings, tokens).map_err(failed)?)))
}

/// Whoever listens for others than this machine wants calls between networks.
fn warn_of_inner_addresses(listen: Listen, urls: &[IceUrl]) {
    let is_inner = |url: &IceUrl| url.host().parse().is_ok_and(|address| !turn::is_public(address));
    let listens_for_others = listen.addresses().iter().any(|address| !address.ip().is_loopback());
    if let Some(url) = urls.first().filter(|_| listens_for_others && urls.iter().all(is_inner)) {
        warn!(%url, "clients are told of the TURN server by addresses of an inner network alone; if it is to be reached from others, set turn.external_ip");
    }
}

/// What clients are told of STUN and TURN servers.
fn ice_servers(config: &Config, secrets: Option<Arc<SecretFiles>>, embedded: Option<Arc<dyn Issuer>>) -> Arc<IceServers> {
    let settings = &config.ice;
    let external = secrets.map(|secrets| External { urls: settings.turn_urls.clone(), secrets });
    let sources = Sources { fixed: settings.servers.clone(), external, embedded };
    let terms =
        Terms { lifetime: settings.turn_ttl(), address_max: settings.address_credentials_max, total_max: config.limits.clients_max };
    let servers = IceServers::new(sources, terms);
    if let Some(room) = settings.relay_only_rooms.first().filter(|_| !servers.has_relay()) {
        warn!(%room, "ice.relay_only_rooms names rooms, but there is no TURN server by which peers could connect there");
    }
    servers
}

fn failure_limits(config: &Config) -> FailureLimits {
    FailureLimits {
        free: config.limits.address_failures_max,
        among_many_free: u32::try_from(config.limits.address_connections_max).unwrap_or(u32::MAX),
        delay_max: config.timeouts.failure_delay(),
    }
}

fn certificates(config: &Config) -> Result<Arc<Certificates>, StartError> {
    let (setting, source) = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => ("tls_cert", Source::Files { cert: cert.clone(), key: key.clone() }),
        _ => ("cert_dir", Source::SelfSigned(SelfSigned::new(config.cert_dir.clone(), names(config)))),
    };
    Certificates::load(source, OffsetDateTime::now_utc()).map_err(|source| StartError::Certificate { setting, source: source.into() })
}

/// The sockets of the embedded TURN server, and where they are, if it is to run.
fn turn_sockets(config: &Config, certificates: &Arc<Certificates>) -> Result<Option<(turn::Sockets, TurnAddresses)>, StartError> {
    let Some(listen) = config.turn_listen() else { return Ok(None) };
    let failed = |setting| move |source| StartError::Turn { setting, source };
    let (tcp, udp): (Vec<_>, Vec<_>) = listener::bind_shared(listen, config.workers()).map_err(failed("turn.listen"))?.into_iter().unzip();
    let tls = config.turn_tls_listen().map(listener::bind_tcp).transpose().map_err(failed("turn.tls_listen"))?;
    let addresses = TurnAddresses {
        clear: tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
        tls: tls.iter().flatten().map(|(address, _)| *address).collect(),
    };
    let tls = tls.map(|listeners| listeners.into_iter().map(|(_, listener)| listener).collect()).zip(certificates.turn().map(Arc::new));
    Ok(Some((turn::Sockets { udp, tcp, tls }, addresses)))
}

fn turn_settings(config: &Config) -> turn::Settings {
    let turn = &config.turn;
    turn::Settings {
        external_ips: turn.external_ip.clone(),
        ports: turn.ports.range(),
        allow: turn.allow.clone(),
        deny: turn.deny.clone(),
        allocations_per_session_max: turn.allocations_per_session_max,
        allocations_per_address_max: turn.allocations_per_address_max,
        allocations_max: turn.allocations_max,
        allocation_bytes_per_second: turn.allocation_bytes_per_second,
        bytes_per_second: turn.bytes_per_second,
        failures: failure_limits(config),
    }
}

/// Every name and address that the server may be reached by, for its self-signed certificate.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for address in config.listen.addresses() {
        if address.ip().is_unspecified() {
            let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
            names.extend(interfaces.iter().map(|interface| interface.ip().to_string()));
            names.extend(hostname());
        } else {
            names.push(address.ip().to_string());
        }
    }
    names.extend(config.cert_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// The host by which a browser on this machine reaches the server.
fn host(listen: Listen, first: SocketAddr) -> String {
    if listen.is_one_address() && !first.ip().is_unspecified() { first.to_string() } else { format!("localhost:{}", first.port()) }
}

fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name.is_ascii())
}
