//! A network between a client and a server, in any weather: it delays, loses and reorders, moves to another address, goes dead in one
//! direction or in both, and cuts a connection in the middle of what it carries, without either end being told more than a network tells.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream, UdpSocket,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::Random;

/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// What is read of a TCP connection at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How often another free port is tried when one is free for TCP and not for UDP.
const ATTEMPTS: usize = 32;
/// Bytes of a datagram that can hold a part of a message and nothing else: acknowledgements are smaller.
const LARGE_DATAGRAM_BYTES: usize = 1_000;
/// Large datagrams that pass of a message that is cut. More than one, because QUIC sends some to probe the path.
const LARGE_DATAGRAMS: usize = 3;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How it ends in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte vanishes, and every socket stays open.
    Silence,
    /// The receiver reads the end of the connection. UDP knows no such thing, and falls silent.
    Fin,
    /// Both ends of the connection are reset, so this ends the other direction as well. UDP falls silent.
    Reset,
}

/// What the network does to what it carries. By default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// What the random numbers begin with.
    pub seed: u64,
    /// How long a datagram takes; the pieces of a TCP connection take up to so long, one after another.
    pub delay: Duration,
    /// How many datagrams of a hundred are lost.
    pub drop: u64,
    /// How many of a hundred arrive twice.
    pub duplicate: u64,
    /// How many of a hundred take longer, so that later ones overtake them.
    pub reorder: u64,
}

/// Passes TCP and UDP on to a server. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    network: Network,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Network {
    server: SocketAddr,
    weather: Option<Weather>,
    up: watch::Sender<Passage>,
    down: watch::Sender<Passage>,
    /// Where UDP comes from, as the server sees it.
    outside: watch::Sender<Ipv4Addr>,
}

#[derive(Clone, Copy)]
enum Passage {
    Open,
    /// A part of what comes next passes, and then it ends.
    PartThen(End),
    Ended(End),
}

impl Proxy {
    /// A way to the server at this address.
    pub async fn to(server: SocketAddr) -> Self {
        Self::open(server, None).await
    }

    /// A way through this weather.
    pub async fn through(weather: Weather, server: SocketAddr) -> Self {
        Self::open(server, Some(weather)).await
    }

    async fn open(server: SocketAddr, weather: Option<Weather>) -> Self {
        let (tcp, udp) = bind().await.expect("a port for both");
        let address = tcp.local_addr().expect("it is bound");
        let open = || watch::Sender::new(Passage::Open);
        let network = Network { server, weather, up: open(), down: open(), outside: watch::Sender::new(Ipv4Addr::LOCALHOST) };
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_tcp(tcp, network.clone()));
        tasks.spawn(pass_udp(Arc::new(udp), network.clone()));
        Self { address, network, _tasks: tasks }
    }

    /// The base URL of the server by this way.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing passes any more, in either direction.
    pub fn cut(&self) {
        self.end(Way::Up, End::Silence);
        self.end(Way::Down, End::Silence);
    }

    /// Ends one direction.
    pub fn end(&self, way: Way, end: End) {
        self.network.passage(way).send_replace(Passage::Ended(end));
    }

    /// Ends one direction in the middle of the next long message that passes in it: all that TCP carries next counts as one, and of what
    /// UDP carries, what takes more than a few datagrams. UDP is silent in the other direction from then on.
    pub fn end_within(&self, way: Way, end: End) {
        self.network.passage(way).send_replace(Passage::PartThen(end));
    }

    /// Has it ended in either direction?
    pub fn has_ended(&self) -> bool {
        [Way::Up, Way::Down].iter().any(|way| matches!(*self.network.passage(*way).borrow(), Passage::Ended(_)))
    }

    /// The network moves: from here on, UDP reaches the server from another port of this address.
    pub fn move_to(&self, outside: Ipv4Addr) {
        self.network.outside.send_replace(outside);
    }
}

impl Network {
    fn passage(&self, way: Way) -> &watch::Sender<Passage> {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// The random numbers of what passes one way; another `lane` has others.
    fn random(&self, way: Way, lane: u64) -> Random {
        Random::new(self.weather.map_or(0, |weather| weather.seed) ^ lane << 1 ^ way as u64)
    }
}

async fn bind() -> io::Result<(TcpListener, UdpSocket)> {
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..ATTEMPTS {
        let tcp = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await?;
        outcome = UdpSocket::bind(tcp.local_addr()?).await.map(|udp| (tcp, udp));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn pass_tcp(listener: TcpListener, network: Network) {
    let mut connections = JoinSet::new();
    for lane in 0.. {
        let Ok((client, _)) = listener.accept().await else { return };
        connections.spawn(pass_connection(client, network.clone(), lane));
    }
}

async fn pass_connection(mut client: TcpStream, network: Network, lane: u64) {
    let Ok(mut server) = TcpStream::connect(network.server).await else { return };
    // What is written in pieces is meant to arrive in pieces.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, Way::Up, &network, lane);
    let down = pump(from_server, to_client, Way::Down, &network, lane);
    if tokio::try_join!(up, down).is_err() {
        // Either may be gone already.
        let _ = client.set_zero_linger().and(server.set_zero_linger());
    }
}

/// Carries one direction of a connection to its end. The error is a reset.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way, network: &Network, lane: u64) -> io::Result<()> {
    let mut passage = network.passage(way).subscribe();
    let mut random = network.random(way, lane);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let now = *passage.borrow_and_update();
        match now {
            Passage::Open | Passage::PartThen(_) => {}
            Passage::Ended(End::Fin) => return to.shutdown().await,
            Passage::Ended(End::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
            Passage::Ended(End::Silence) => {
                drop(passage.changed().await);
                continue;
            }
        }
        let length = tokio::select! {
            biased;
            _ = passage.changed() => continue,
            length = from.read(&mut buffer) => length?,
        };
        if length == 0 {
            return to.shutdown().await;
        }
        match (now, &network.weather) {
            (Passage::PartThen(end), _) => {
                to.write_all(&buffer[..length / 2]).await?;
                network.passage(way).send_replace(Passage::Ended(end));
            }
            (_, None) => to.write_all(&buffer[..length]).await?,
            (_, Some(weather)) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(60) as usize));
                    sleep(weather.delay.mul_f64(random.below(101) as f64 / 100.0)).await;
                    to.write_all(piece).await?;
                    rest = behind;
                }
            }
        }
    }
}

async fn pass_udp(inside: Arc<UdpSocket>, network: Network) {
    let mut outside = network.outside.subscribe();
    let mut ways: HashMap<SocketAddr, (Arc<UdpSocket>, Lane)> = HashMap::new();
    // Nobody else gets the ports of a network that has moved, and nobody listens there.
    let mut retired = Vec::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    for number in 0.. {
        let (length, client) = tokio::select! {
            biased;
            _ = outside.changed() => {
                answers.abort_all();
                retired.extend(ways.drain());
                continue;
            }
            received = inside.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => return,
            },
        };
        if let Entry::Vacant(new) = ways.entry(client) {
            let address = *outside.borrow();
            let way = UdpSocket::bind((address, 0)).await.expect("a port");
            way.connect(network.server).await.expect("a way to the server");
            let way = Arc::new(way);
            new.insert((way.clone(), Lane::new(Way::Up, &network, number)));
            let (inside, mut lane) = (inside.clone(), Lane::new(Way::Down, &network, number));
            answers.spawn(async move {
                let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
                // The server may not listen yet, or any more.
                loop {
                    if let Ok(length) = way.recv(&mut buffer).await {
                        lane.pass(&buffer[..length], &inside, Some(client)).await;
                    }
                }
            });
        }
        let (way, lane) = ways.get_mut(&client).expect("it was just made");
        lane.pass(&buffer[..length], way, None).await;
    }
}

/// One direction of the datagrams of one client.
struct Lane {
    way: Way,
    network: Network,
    random: Random,
    /// How many large ones still pass once it is to end within a message.
    large_left: usize,
    under_way: JoinSet<()>,
}

impl Lane {
    fn new(way: Way, network: &Network, number: u64) -> Self {
        Self { way, network: network.clone(), random: network.random(way, number), large_left: LARGE_DATAGRAMS, under_way: JoinSet::new() }
    }

    /// Passes one on, now or later, or not. What does not arrive is sent again by QUIC.
    async fn pass(&mut self, datagram: &[u8], by: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        let passage = *self.network.passage(self.way).borrow();
        match passage {
            Passage::Open => {}
            Passage::Ended(_) => return,
            Passage::PartThen(_) if datagram.len() < LARGE_DATAGRAM_BYTES => {}
            Passage::PartThen(_) => {
                self.large_left -= 1;
                if self.large_left == 0 {
                    self.network.up.send_replace(Passage::Ended(End::Silence));
                    self.network.down.send_replace(Passage::Ended(End::Silence));
                }
            }
        }
        let Some(weather) = self.network.weather else { return send(by, datagram, to).await };
        while self.under_way.try_join_next().is_some() {}
        let mut happens = |percent| self.random.below(100) < percent;
        if happens(weather.drop) {
            return;
        }
        for _ in 0..1 + u32::from(happens(weather.duplicate)) {
            let delay = weather.delay * if happens(weather.reorder) { 4 } else { 1 };
            let (datagram, by) = (datagram.to_vec(), by.clone());
            self.under_way.spawn(async move {
                sleep(delay).await;
                send(&by, &datagram, to).await;
            });
        }
    }
}

async fn send(by: &UdpSocket, datagram: &[u8], to: Option<SocketAddr>) {
    let _ = match to {
        Some(to) => by.send_to(datagram, to).await,
        None => by.send(datagram).await,
    };
}
