//! The embedded STUN and TURN server (RFC 8489, RFC 8656): tells clients by which address the world sees them, and relays packets for those that cannot reach
//! each other. It is safe by default: it relays to the public internet alone ([`peers`]), for sessions that are alive ([`credentials`]), and so much
//! ([`quotas`]).
//!
//! Each worker has a [`desk`](desk::Desk) of its own, with sockets on the same port among which the kernel deals out the clients, so that a packet meets no
//! lock on its way. A client's allocation lives where its packets arrive. What comes by TCP is dealt out among the workers here.
//!
//! Nothing is kept of who has not shown good credentials: [nonces](nonce) are made and recognized, not remembered. Of messages `stun-types` and `turn-types`
//! know the spelling, and that alone is taken from them.

pub mod allocation;
pub mod credentials;
pub mod desk;
pub mod line;
pub mod message;
pub mod nonce;
pub mod peers;
pub mod quotas;
pub mod relays;
pub mod socket;
mod source;
pub mod stream;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_rt::ArbiterHandle;
use ipnet::IpNet;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use self::{
    credentials::Credentials,
    desk::Desk,
    nonce::Nonces,
    peers::PeerRules,
    quotas::{Quotas, Share, SharedPace},
    relays::Relays,
    socket::ClientSocket,
};
pub use self::{peers::is_public, source::Source};
use crate::{
    auth::failures::{self, FailureLimits, Failures},
    metrics::{Metrics, TurnRefusal, TurnTransport},
    protocol::PeerId,
};

/// How it relays, and how much.
pub struct Settings {
    /// By which addresses others know this machine, one of each family at most, where those are not its own.
    pub external_ips: Vec<IpAddr>,
    /// The ports of relays.
    pub ports: RangeInclusive<u16>,
    /// Peers beside those of the public internet.
    pub allow: Vec<IpNet>,
    /// No peers, whatever else is said of them.
    pub deny: Vec<IpNet>,
    pub allocations_per_session_max: usize,
    /// Of one IPv4 address, or of one /64 block of IPv6.
    pub allocations_per_address_max: usize,
    pub allocations_max: usize,
    pub allocation_bytes_per_second: u64,
    pub bytes_per_second: u64,
    /// What wrong credentials cost.
    pub failures: FailureLimits,
}

/// Where it listens.
pub struct Sockets {
    /// On each address as many as there are workers.
    pub udp: Vec<Vec<UdpSocket>>,
    pub tcp: Vec<TcpListener>,
    /// And with what the clients of these are met.
    pub tls: Option<(Vec<TcpListener>, Arc<ServerConfig>)>,
}

/// What all workers share.
pub struct Shared {
    pub credentials: Arc<Credentials>,
    pub peers: PeerRules,
    pub relays: Relays,
    pub quotas: Arc<Quotas<PeerId>>,
    /// The same allocations, by where their clients are.
    pub of_addresses: Arc<Quotas<Origin>>,
    /// Streams that have no allocation.
    pub streams: Arc<Quotas<Origin>>,
    /// Requests that wait, for wrong credentials came from where they come from.
    pub waiting: Arc<Quotas<Origin>>,
    pub pace: SharedPace,
    pub nonces: Nonces,
    pub failures: Failures,
    pub metrics: Arc<Metrics>,
    pub allocation_bytes_per_second: u64,
}

/// The running server. It ends when told to.
pub struct Turn {
    stop: watch::Sender<bool>,
}

/// A client that has come by TCP, on its way to its worker.
struct Arrived {
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    place: Share<Origin>,
}

/// What counts as one address: that of IPv4, or the first 64 bits of one of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

/// Streams of one address that there may be beside those that have an allocation: of an office that comes at once, each with one in the clear and one by TLS.
/// One more is closed.
const STREAMS_OF_ADDRESS_MAX: usize = 256;
/// The same for all addresses.
const STREAMS_MAX: usize = 1024;
/// Requests of one address that wait at once; more are not answered, and asked again.
const WAITING_OF_ADDRESS_MAX: usize = 64;
/// The same for all addresses.
const WAITING_MAX: usize = 1024;
/// So many may be on their way to one worker.
const ARRIVED_MAX: usize = 64;
/// Where there are no file descriptors, some may be free after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked for addresses that the machine has got or lost.
const OWN_ADDRESSES_EVERY: Duration = Duration::from_secs(60);

impl Turn {
    /// Serves on these sockets, on the threads of these workers.
    pub fn start(
        settings: Settings,
        sockets: Sockets,
        workers: &[ArbiterHandle],
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let Sockets { udp, tcp, tls } = sockets;
        let mut own = settings.external_ips.clone();
        for socket in udp.iter().flatten() {
            own.push(socket.local_addr()?.ip());
        }
        let bind: Vec<IpAddr> = own[settings.external_ips.len()..].to_vec();
        own.retain(|address| !address.is_unspecified());
        let shared = Arc::new(Shared {
            credentials,
            peers: PeerRules::new(settings.allow, settings.deny, with_interfaces(&own)),
            relays: Relays::new(&bind, &settings.external_ips, settings.ports),
            quotas: Quotas::new(settings.allocations_per_session_max, settings.allocations_max),
            of_addresses: Quotas::new(settings.allocations_per_address_max, usize::MAX),
            streams: Quotas::new(STREAMS_OF_ADDRESS_MAX, STREAMS_MAX),
            waiting: Quotas::new(WAITING_OF_ADDRESS_MAX, WAITING_MAX),
            pace: SharedPace::new(settings.bytes_per_second, now),
            nonces: Nonces::new(now),
            failures: Failures::new(settings.failures),
            metrics,
            allocation_bytes_per_second: settings.allocation_bytes_per_second,
        });
        let (stop, stopped) = watch::channel(false);
        let mut of_workers: Vec<Vec<UdpSocket>> = workers.iter().map(|_| Vec::new()).collect();
        for sockets in udp {
            sockets.into_iter().zip(&mut of_workers).for_each(|(socket, of_worker)| of_worker.push(socket));
        }
        let mut desks = Vec::new();
        for (worker, udp) in workers.iter().zip(of_workers) {
            let (to_desk, arrivals) = mpsc::channel(ARRIVED_MAX);
            desks.push(to_desk);
            let (shared, stopped) = (shared.clone(), stopped.clone());
            worker.spawn_fn(move || drop(actix_rt::spawn(serve(Desk::new(shared), udp, arrivals, stopped))));
        }
        let (tls, config) = tls.map_or((vec![], None), |(listeners, config)| (listeners, Some(config)));
        let listeners = tcp.into_iter().map(|listener| (listener, None)).chain(tls.into_iter().map(|listener| (listener, config.clone())));
        let listeners: Vec<_> = listeners.collect();
        let is_stopped = async move |mut stopped: watch::Receiver<bool>| drop(stopped.wait_for(|stopped| *stopped).await.map(|_| ()));
        if let Some(worker) = workers.first() {
            worker.spawn_fn(move || {
                for (listener, tls) in listeners {
                    let (desks, shared, stopped) = (desks.clone(), shared.clone(), stopped.clone());
                    actix_rt::spawn(async move {
                        tokio::select! {
                            () = is_stopped(stopped) => {}
                            () = accept(listener, tls, desks, shared) => {}
                        }
                    });
                }
                actix_rt::spawn(async move {
                    tokio::select! {
                        () = is_stopped(stopped) => {}
                        () = watch_interfaces(shared, own) => {}
                    }
                });
            });
        }
        Ok(Self { stop })
    }

    /// Ends all allocations, and waits until nobody is served any more.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }
}

/// One worker's part of it.
async fn serve(desk: Rc<Desk>, udp: Vec<UdpSocket>, mut arrivals: mpsc::Receiver<Arrived>, mut stopped: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    for socket in udp {
        match ClientSocket::new(socket) {
            Ok(socket) => drop(tasks.spawn_local(desk.clone().serve_udp(socket))),
            Err(error) => tracing::error!(%error, "a socket for TURN is not served"),
        }
    }
    tasks.spawn_local(desk.clone().sweep());
    loop {
        tokio::select! {
            stopped = stopped.wait_for(|stopped| *stopped) => {
                drop(stopped);
                break;
            }
            arrived = arrivals.recv() => match arrived {
                Some(arrived) => drop(tasks.spawn_local(greet(desk.clone(), arrived))),
                None => break,
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
    desk.close();
}

/// Serves one client of a stream.
async fn greet(desk: Rc<Desk>, Arrived { stream, client, tls, place }: Arrived) {
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    match tls {
        None => stream::serve(desk, stream, client, TurnTransport::Tcp, place).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(stream::PATIENCE, TlsAcceptor::from(tls).accept(stream)).await {
                stream::serve(desk, stream, client, TurnTransport::Tls, place).await;
            }
        }
    }
}

impl Origin {
    /// Where this client comes from.
    pub fn of(client: SocketAddr) -> Self {
        Self(failures::block(client.ip()))
    }
}

/// Takes clients of TCP and deals them out, without end.
async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, desks: Vec<mpsc::Sender<Arrived>>, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut next = 0;
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = shared.streams.take(Origin::of(client)) else {
            shared.metrics.turn_refused(TurnRefusal::AddressQuota);
            continue;
        };
        if let Ok(stream) = stream.into_std() {
            // Who comes to a worker that is full has to come again.
            let _ = desks[next % desks.len()].try_send(Arrived { stream, client, tls: tls.clone(), place });
            next += 1;
        }
    }
}

async fn watch_interfaces(shared: Arc<Shared>, own: Vec<IpAddr>) {
    loop {
        tokio::time::sleep(OWN_ADDRESSES_EVERY).await;
        shared.peers.set_own(with_interfaces(&own));
    }
}

/// These addresses, and those of the machine's interfaces.
fn with_interfaces(own: &[IpAddr]) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let mut own: Vec<IpAddr> = own.iter().copied().chain(interfaces.iter().map(|interface| interface.ip())).collect();
    own.sort_unstable();
    own.dedup();
    own
}
