//! A client of a TURN server, as small as it can be: it asks and hears, over UDP, TCP or TLS, and keeps nothing alive by itself.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, ServerName};
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress},
    message::{
        BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _, MessageWriteExt as _,
        MessageWriteVec, Method,
    },
};
use switchboard::{ice::TurnCredential, protocol::PeerId};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};
use turn_types::{
    AddressFamily,
    attribute::{ChannelNumber, Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND},
};

use super::{TestServer, within};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
    Tls,
}

enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client with credentials, or without.
pub struct TurnClient {
    wire: Wire,
    read: Vec<u8>,
    credential: Option<TurnCredential>,
    key: Option<IntegrityKey>,
    realm: String,
    nonce: String,
    /// What came while an answer was waited for.
    others: VecDeque<Vec<u8>>,
    /// What it says besides, to every request.
    pub local: SocketAddr,
}

/// What a client is told of a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Data(SocketAddr, Vec<u8>),
    Channel(u16, Vec<u8>),
}

/// A request that is not granted, by its code.
pub type Granted<T = ()> = Result<T, u16>;

/// Credentials of a session that is alive as far as the server knows.
pub fn credential(server: &TestServer, peer_id: PeerId) -> TurnCredential {
    let credentials = server.turn_credentials().expect("it has an embedded TURN server");
    credentials.issue(peer_id, SystemTime::now() + Duration::from_secs(600))
}

impl TurnClient {
    /// One that has said nothing yet.
    pub async fn connect(server: SocketAddr, by: By, trusted: Option<&CertificateDer<'static>>) -> Self {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let (wire, local) = match by {
            By::Udp => {
                let socket = UdpSocket::bind((any, 0)).await.expect("a socket");
                socket.connect(server).await.expect("an address");
                let local = socket.local_addr().expect("it is bound");
                (Wire::Udp(socket), local)
            }
            By::Tcp | By::Tls => {
                let stream = within("a connection", TcpStream::connect(server)).await.expect("a connection");
                let local = stream.local_addr().expect("it is connected");
                if by == By::Tcp {
                    (Wire::Stream(Box::new(stream)), local)
                } else {
                    let mut roots = rustls::RootCertStore::empty();
                    roots.add(trusted.expect("somebody to trust").clone()).expect("a root");
                    let provider = Arc::new(rustls::crypto::ring::default_provider());
                    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
                    let connector = tokio_rustls::TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
                    let name = ServerName::from(server.ip());
                    let stream = within("a handshake", connector.connect(name, stream)).await.expect("a handshake");
                    (Wire::Stream(Box::new(stream)), local)
                }
            }
        };
        Self { wire, read: vec![], credential: None, key: None, realm: String::new(), nonce: String::new(), others: VecDeque::new(), local }
    }

    /// From now on it has these.
    pub fn use_credential(&mut self, credential: TurnCredential) {
        self.credential = Some(credential);
        self.key = None;
    }

    /// By what address the server sees it.
    pub async fn mapped(&mut self) -> SocketAddr {
        let answer = self.ask_once(BINDING, |_| {}).await;
        let answer = Message::from_bytes(&answer).expect("a message");
        answer.attribute::<XorMappedAddress>().expect("an address").addr(answer.transaction_id())
    }

    /// An allocation of the family of IPv4.
    pub async fn allocate(&mut self) -> Granted<SocketAddr> {
        self.allocate_family(None).await
    }

    /// An allocation of the family that is asked for.
    pub async fn allocate_family(&mut self, family: Option<AddressFamily>) -> Granted<SocketAddr> {
        let answer = self.ask(ALLOCATE, |request| {
            request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
            if let Some(family) = family {
                request.add_attribute(&RequestedAddressFamily::new(family)).unwrap();
            }
        });
        let answer = answer.await?;
        let answer = Message::from_bytes(&answer).expect("a message");
        let mapped = answer.attribute::<XorMappedAddress>().expect("an address").addr(answer.transaction_id());
        assert_eq!(mapped, self.local, "what a server on the same machine sees");
        Ok(answer.attribute::<XorRelayedAddress>().expect("an address").addr(answer.transaction_id()))
    }

    /// Lets this peer in.
    pub async fn permit(&mut self, peer: SocketAddr) -> Granted {
        self.ask(CREATE_PERMISSION, |request| {
            let peer = XorPeerAddress::new(peer, request.transaction_id());
            request.add_attribute(&peer).unwrap();
        })
        .await
        .map(drop)
    }

    /// Gives this peer a number.
    pub async fn bind(&mut self, number: u16, peer: SocketAddr) -> Granted {
        self.ask(CHANNEL_BIND, |request| {
            let peer = XorPeerAddress::new(peer, request.transaction_id());
            request.add_attribute(&ChannelNumber::new(number)).unwrap();
            request.add_attribute(&peer).unwrap();
        })
        .await
        .map(drop)
    }

    /// Keeps the allocation for longer, or no longer; told is for how many seconds.
    pub async fn refresh(&mut self, seconds: u32) -> Granted<u32> {
        let answer = self.ask(REFRESH, |request| request.add_attribute(&Lifetime::new(seconds)).unwrap()).await?;
        Ok(Message::from_bytes(&answer).expect("a message").attribute::<Lifetime>().expect("a lifetime").seconds())
    }

    /// Sends to a peer by its address.
    pub async fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, message.transaction_id());
        message.add_attribute(&peer).unwrap();
        message.add_attribute(&Data::new(bytes)).unwrap();
        self.say(&message.finish()).await;
    }

    /// Sends to a peer by its number.
    pub async fn send_by(&mut self, number: u16, bytes: &[u8]) {
        let mut message = [number.to_be_bytes(), (bytes.len() as u16).to_be_bytes()].concat();
        message.extend(bytes);
        if matches!(self.wire, Wire::Stream(_)) {
            message.resize(message.len().next_multiple_of(4), 0);
        }
        self.say(&message).await;
    }

    /// What comes from a peer next.
    pub async fn hear(&mut self) -> Told {
        let heard = match self.others.pop_front() {
            Some(heard) => heard,
            None => within("something from a peer", self.next()).await,
        };
        if heard[0] & 0xc0 == 0x40 {
            let length = usize::from(u16::from_be_bytes([heard[2], heard[3]]));
            return Told::Channel(u16::from_be_bytes([heard[0], heard[1]]), heard[4..4 + length].to_vec());
        }
        let message = Message::from_bytes(&heard).expect("a message");
        let peer = message.attribute::<XorPeerAddress>().expect("a peer").addr(message.transaction_id());
        Told::Data(peer, message.attribute::<Data<'_>>().expect("data").data().to_vec())
    }

    /// Asks with credentials, as a client that does what it is told about them. Returns the answer if it is a yes.
    pub async fn ask(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Granted<Vec<u8>> {
        // Unsigned, and with a nonce that is too old.
        for _ in 0..3 {
            let answer = self.ask_once(method, &with).await;
            let message = Message::from_bytes(&answer).expect("a message");
            if message.class() == MessageClass::Success {
                let key = self.key.as_ref().expect("it was signed");
                assert!(message.validate_integrity_with_key(key).is_ok(), "the server knows the password");
                return Ok(answer);
            }
            let code = message.attribute::<ErrorCode>().expect("a code").code();
            let was_signed = self.key.is_some();
            match (code, self.credential.clone()) {
                (401, Some(credential)) if !was_signed => {
                    self.realm = message.attribute::<Realm>().expect("a realm").realm().to_owned();
                    self.nonce = message.attribute::<Nonce>().expect("a nonce").nonce().to_owned();
                    let TurnCredential { username, password } = credential;
                    self.key = Some(LongTermKeyCredentials::new(username, password, self.realm.clone()).make_key(IntegrityAlgorithm::Sha1));
                }
                (438, _) => self.nonce = message.attribute::<Nonce>().expect("a nonce").nonce().to_owned(),
                (code, _) => return Err(code),
            }
        }
        panic!("the server wants credentials again and again");
    }

    /// Asks, with credentials where it knows how, and returns whatever is answered.
    pub async fn ask_once(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Vec<u8> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        let transaction = request.transaction_id();
        with(&mut request);
        if let (Some(key), Some(TurnCredential { username, .. })) = (&self.key, &self.credential)
            && method != BINDING
        {
            request.add_attribute(&Username::new(username).unwrap()).unwrap();
            request.add_attribute(&Realm::new(&self.realm).unwrap()).unwrap();
            request.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
            request.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1).unwrap();
        }
        let request = request.finish();
        self.say(&request).await;
        let answered = async {
            loop {
                let heard = self.next().await;
                let is_answer =
                    heard[0] & 0xc0 == 0 && Message::from_bytes(&heard).is_ok_and(|heard| heard.transaction_id() == transaction);
                if is_answer {
                    return heard;
                }
                self.others.push_back(heard);
            }
        };
        within("an answer", answered).await
    }

    /// Says these bytes as they are.
    pub async fn say(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => drop(within("a packet to be sent", socket.send(bytes)).await),
            Wire::Stream(stream) => within("a message to be sent", stream.write_all(bytes)).await.expect("a connection"),
        }
    }

    /// The next message, whatever it is; nothing if the connection has ended.
    pub async fn heard(&mut self) -> Option<Vec<u8>> {
        let Wire::Stream(stream) = &mut self.wire else {
            let Wire::Udp(socket) = &self.wire else { unreachable!() };
            let mut bytes = vec![0; 65_536];
            // What comes back of a packet that nobody wanted is an error of the next.
            loop {
                if let Ok(length) = socket.recv(&mut bytes).await {
                    bytes.truncate(length);
                    return Some(bytes);
                }
            }
        };
        loop {
            if let [kind, _, high, low, ..] = self.read[..] {
                let claimed = usize::from(u16::from_be_bytes([high, low]));
                let length = if kind & 0xc0 == 0 { 20 + claimed } else { 4 + claimed.next_multiple_of(4) };
                if self.read.len() >= length {
                    return Some(self.read.drain(..length).collect());
                }
            }
            match stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn next(&mut self) -> Vec<u8> {
        self.heard().await.expect("a connection")
    }
}
