//! A network between a client and a server that can go dead without either of them being told.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};

/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// How often another free port is tried when one is free for TCP and not for UDP.
const ATTEMPTS: usize = 32;

/// Passes TCP and UDP on to a server, until it is cut; then every byte vanishes and every socket stays open. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    dead: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A way to the server at this address.
    pub async fn to(server: SocketAddr) -> Self {
        let (tcp, udp) = bind().await.expect("a port for both");
        let address = tcp.local_addr().expect("it is bound");
        let dead = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_tcp(tcp, server, dead.subscribe()));
        tasks.spawn(pass_udp(Arc::new(udp), server, dead.subscribe()));
        Self { address, dead, _tasks: tasks }
    }

    /// The base URL of the server by this way.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.dead.send_replace(true);
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

async fn pass_tcp(listener: TcpListener, server: SocketAddr, dead: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let mut dead = dead.clone();
        connections.spawn(async move {
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            let died = async { drop(dead.wait_for(|dead| *dead).await) };
            tokio::select! {
                // Either end may have been reset: that is its business.
                _ = copy_bidirectional(&mut client, &mut server) => return,
                () = died => {}
            }
            // Both sockets stay open, and nobody reads them.
            std::future::pending().await
        });
    }
}

async fn pass_udp(socket: Arc<UdpSocket>, server: SocketAddr, dead: watch::Receiver<bool>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        if *dead.borrow() {
            continue;
        }
        if let Entry::Vacant(new) = ways.entry(client) {
            let way = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            way.connect(server).await.expect("a way to the server");
            let way = Arc::new(way);
            new.insert(way.clone());
            let (socket, dead) = (socket.clone(), dead.clone());
            answers.spawn(async move {
                let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
                while let Ok(length) = way.recv(&mut buffer).await {
                    if !*dead.borrow() {
                        // What does not arrive is sent again by QUIC.
                        let _ = socket.send_to(&buffer[..length], client).await;
                    }
                }
            });
        }
        let _ = ways[&client].send(&buffer[..length]).await;
    }
}
