//! A client of a TURN server that gets its answers in time, and as a test wants them.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use serde_json::Value;
use stun_types::message::{MessageWriteVec, Method};
pub use switchboard::{client::turn::Heard, ice::By};
use switchboard::{
    client::{
        Options,
        turn::{self, TurnError},
    },
    ice::TurnCredential,
    protocol::PeerId,
};
use turn_types::AddressFamily;

use super::{TestServer, http, process::ServerProcess, within};

/// A client with credentials, or without.
pub struct TurnClient(turn::TurnClient);

/// A request that is not granted, by its code.
pub type Granted<T = ()> = Result<T, u16>;

/// Credentials of a session that is alive as far as the server knows.
pub fn credential(server: &TestServer, peer_id: PeerId) -> TurnCredential {
    let credentials = server.turn_credentials().expect("it has an embedded TURN server");
    credentials.issue(peer_id, SystemTime::now() + Duration::from_secs(600))
}

/// Where a program's embedded server is, and what it lends to somebody without a session.
pub async fn lent(server: &ServerProcess) -> (SocketAddr, TurnCredential) {
    let answer = within("an answer", http().get(format!("{}ice", server.url())).send()).await.expect("an answer");
    let told = within("ICE servers", answer.json::<Value>()).await.expect("JSON")["iceServers"][0].take();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let url = text(&told["urls"][0]);
    let address = url.trim_start_matches("turn:").split('?').next().and_then(|address| address.parse().ok());
    (address.expect("an address"), TurnCredential { username: text(&told["username"]), password: text(&told["credential"]) })
}

impl TurnClient {
    /// One that has said nothing yet, and says nothing twice.
    pub async fn connect(server: SocketAddr, by: By, trusted: Option<&CertificateDer<'static>>) -> Self {
        Self::connect_with(server, by, Options { roots: trusted.into_iter().cloned().collect(), ..Options::default() }).await
    }

    /// The same, from this address.
    pub async fn connect_from(address: IpAddr, server: SocketAddr, by: By) -> Self {
        Self::connect_with(server, by, Options { local_address: Some(address), ..Options::default() }).await
    }

    async fn connect_with(server: SocketAddr, by: By, options: Options) -> Self {
        let host = server.ip().to_string();
        let client = within("a connection", turn::TurnClient::connect(server, by, &host, &options)).await;
        Self(client.expect("a connection").without_retransmission())
    }

    /// From now on it has these.
    pub fn use_credential(&mut self, credential: TurnCredential) {
        self.0.use_credential(Some(credential));
    }

    /// From where it speaks.
    pub fn local(&self) -> SocketAddr {
        self.0.local_address()
    }

    /// By what address the server sees it.
    pub async fn mapped(&mut self) -> SocketAddr {
        within("an answer", self.0.mapped()).await.expect("an address")
    }

    /// An allocation of the family of IPv4.
    pub async fn allocate(&mut self) -> Granted<SocketAddr> {
        self.allocate_family(None).await
    }

    /// An allocation of the family that is asked for.
    pub async fn allocate_family(&mut self, family: Option<AddressFamily>) -> Granted<SocketAddr> {
        let (relayed, mapped) = granted(within("an answer", self.0.allocate(family)).await)?;
        assert_eq!(mapped, self.local(), "what a server on the same machine sees");
        Ok(relayed)
    }

    /// Lets this peer in.
    pub async fn permit(&mut self, peer: SocketAddr) -> Granted {
        granted(within("an answer", self.0.permit(peer)).await)
    }

    /// Gives this peer a number.
    pub async fn bind(&mut self, number: u16, peer: SocketAddr) -> Granted {
        granted(within("an answer", self.0.bind(number, peer)).await)
    }

    /// Keeps the allocation for longer, or no longer; told is for how many seconds.
    pub async fn refresh(&mut self, seconds: u32) -> Granted<u32> {
        granted(within("an answer", self.0.refresh(seconds)).await)
    }

    /// Sends to a peer by its address.
    pub async fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) {
        within("a packet to be sent", self.0.send_to(peer, bytes)).await.expect("a connection");
    }

    /// Sends to a peer by its number.
    pub async fn send_by(&mut self, number: u16, bytes: &[u8]) {
        within("a packet to be sent", self.0.send_by(number, bytes)).await.expect("a connection");
    }

    /// What comes from a peer next.
    pub async fn hear(&mut self) -> Heard {
        within("something from a peer", self.0.hear()).await.expect("a packet")
    }

    /// Asks with credentials, as a client that does what it is told about them. Returns the answer if it is a yes.
    pub async fn ask(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Granted<Vec<u8>> {
        granted(within("an answer", self.0.ask(method, with)).await)
    }

    /// Asks, with credentials where it knows how, and returns whatever is answered.
    pub async fn ask_once(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Vec<u8> {
        within("an answer", self.0.ask_once(method, with)).await.expect("an answer")
    }

    /// Says these bytes as they are.
    pub async fn say(&mut self, bytes: &[u8]) {
        within("a message to be sent", self.0.say(bytes)).await.expect("a connection");
    }

    /// The next message, whatever it is; nothing if the connection has ended.
    pub async fn heard(&mut self) -> Option<Vec<u8>> {
        self.0.next().await.ok()
    }
}

fn granted<T>(answer: Result<T, TurnError>) -> Granted<T> {
    match answer {
        Ok(granted) => Ok(granted),
        Err(TurnError::Refused(code)) => Err(code),
        Err(error) => panic!("{error}"),
    }
}
