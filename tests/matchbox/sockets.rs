//! Sockets of matchbox find each other through the server and exchange packets over WebRTC, as games do: all who are in a room, and in groups.
//!
//! Runs `SWITCHBOARD_BIN`, or what `cargo build` made of the server.

use std::{
    collections::BTreeSet,
    env, fs,
    future::Future,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use futures_util::StreamExt as _;
use matchbox_socket::{ChannelConfig, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket};
use tokio::task::JoinHandle;

/// No wait is longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// The server in a process of its own, ended when this is dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// With a directory of this name.
    fn start(name: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let binary = env::var_os("SWITCHBOARD_BIN").map_or_else(|| here.join("../../target/debug/switchboard"), Into::into);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory for the certificates");
        let mut command = Command::new(fs::canonicalize(&binary).unwrap_or_else(|error| panic!("{}: {error}", binary.display())));
        command.args(["--listen", "127.0.0.1:0"]).current_dir(&directory).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut server = Self { child, url: String::new() };
        let (sender, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // A program that prints nothing leaves the line empty.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = line.recv_timeout(DEADLINE).expect("it prints its URL in time");
        let url = line.strip_prefix("Switchboard is open: http").unwrap_or_else(|| panic!("not the URL: {line:?}"));
        server.url = format!("ws{}", url.trim().trim_end_matches('/'));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// A socket of matchbox, and what runs it: ended when this is dropped.
struct Socket {
    socket: WebRtcSocket,
    running: JoinHandle<()>,
}

impl Socket {
    fn open(server: &Server, path: &str) -> Self {
        let (socket, running) = WebRtcSocket::builder(format!("{}{path}", server.url))
            // All of it is on this machine.
            .ice_server(RtcIceServerConfig { urls: vec![], ..Default::default() })
            .signaling_keep_alive_interval(Some(Duration::from_millis(100)))
            .add_channel(ChannelConfig::reliable())
            .build();
        // Why it ends is of interest only where something is missing.
        Self { socket, running: tokio::spawn(async { drop(running.await.inspect_err(|error| println!("a socket ended: {error}"))) }) }
    }

    /// Waits until a peer is connected, or gone.
    async fn peer(&mut self, state: PeerState) -> PeerId {
        let (peer, now) = within("a peer", self.socket.next()).await.expect("the socket lasts");
        assert_eq!(now, state);
        peer
    }

    fn send(&mut self, to: PeerId, text: &str) {
        self.socket.channel_mut(0).send(Packet::copy_from_slice(text.as_bytes()), to);
    }

    async fn receive(&mut self) -> (PeerId, String) {
        let (from, packet) = within("a packet", self.socket.channel_mut(0).next()).await.expect("the channel lasts");
        (from, String::from_utf8(packet.to_vec()).expect("text"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Waits until all of them are connected, each with each, and lets each send each of the others a packet.
async fn exchange(sockets: &mut [Socket]) -> Vec<PeerId> {
    let mut seen = vec![];
    let others = sockets.len() - 1;
    for socket in &mut *sockets {
        let mut peers = BTreeSet::new();
        for _ in 0..others {
            peers.insert(socket.peer(PeerState::Connected).await);
        }
        let id = socket.socket.id().expect("who is connected has an id");
        assert_eq!((peers.len(), peers.contains(&id)), (others, false));
        seen.push((id, peers));
    }
    let ids: BTreeSet<_> = seen.iter().map(|(id, _)| *id).collect();
    for (socket, (id, peers)) in sockets.iter_mut().zip(&seen) {
        assert_eq!(&ids - &BTreeSet::from([*id]), *peers, "everybody sees the others, and nobody else");
        for peer in peers {
            socket.send(*peer, &format!("from {id} to {peer}"));
        }
    }
    for (socket, (id, peers)) in sockets.iter_mut().zip(&seen) {
        let mut heard = BTreeSet::new();
        for _ in peers {
            let (from, text) = socket.receive().await;
            assert_eq!(text, format!("from {from} to {id}"));
            heard.insert(from);
        }
        assert_eq!(heard, *peers);
    }
    seen.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_are_in_a_room_exchange_packets() {
    let server = Server::start("room");
    let elsewhere = Socket::open(&server, "/matchbox/another");
    let mut sockets: Vec<_> = (0..3).map(|_| Socket::open(&server, "/matchbox/a%20room")).collect();
    let ids = exchange(&mut sockets).await;
    drop(sockets.pop());
    for socket in &mut sockets {
        assert_eq!(socket.peer(PeerState::Disconnected).await, ids[2]);
    }
    drop(elsewhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_next_two_and_two_exchange_packets() {
    let server = Server::start("next");
    let mut groups = vec![];
    for _ in 0..2 {
        let mut pair: Vec<_> = (0..2).map(|_| Socket::open(&server, "/matchbox/game?next=2")).collect();
        let ids = exchange(&mut pair).await;
        groups.push((pair, ids));
    }
    // The first two are as they were, and the later ones are nobody to them.
    let (first, ids) = &mut groups[0];
    first[0].send(ids[1], "again");
    assert_eq!(first[1].receive().await, (ids[0], "again".into()));
    drop(first.pop());
    assert_eq!(first[0].peer(PeerState::Disconnected).await, ids[1]);
}
