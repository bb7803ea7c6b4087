//! A client of STUN and TURN (RFC 8489, RFC 8656), as small as it can be: it asks and hears, and keeps nothing alive by itself.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use rustls_platform_verifier::Verifier;
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress},
    message::{
        BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _, MessageWriteExt as _,
        MessageWriteVec, Method, TransactionId,
    },
};
use switchboard::ice::TurnCredential;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use turn_types::{
    attribute::{Data, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CREATE_PERMISSION, SEND},
};

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
    Tls,
}

/// After so long without an answer a packet is sent again.
pub const AGAIN: Duration = Duration::from_millis(500);
/// After so long a packet that nobody answers for is lost.
pub const PATIENCE: Duration = Duration::from_secs(3);

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
}

enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why it does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's code.
    #[error("refused with {0}")]
    Refused(u16),
    #[error("it answers with what is no STUN")]
    NoStun,
    #[error("it has a relay at {0}, but a packet sent there does not come through")]
    Unreachable(SocketAddr),
}

impl Fault {
    /// What to do about it.
    pub fn advice(&self, host: &str, port: u16) -> String {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("nobody listens at {host} on port {port}: does the server run, and is the port the right one?")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                format!("its certificate is not good for {host}: browsers refuse it as well")
            }
            Self::Io(_) => format!("does {host} have an address, and is port {port} open?"),
            Self::Refused(401 | 431 | 441) => {
                "it does not take the credentials: do both know the same secret (ice.turn_secret_files; coturn: static-auth-secret), and are both clocks right?".into()
            }
            Self::Refused(486 | 508) => "it has as many relays as it may: raise its bounds, or wait".into(),
            Self::Refused(_) => "the log of the TURN server says why".into(),
            Self::NoStun => "is it a STUN or TURN server that listens there?".into(),
            Self::Unreachable(relayed) => format!(
                "is {} the address by which the world knows it (turn.external_ip; coturn: external-ip), and are its UDP ports for relays open (turn.ports; coturn: min-port, max-port)?",
                relayed.ip()
            ),
        }
    }
}

impl TurnClient {
    /// One that has said nothing yet; by TLS to a server of this name.
    pub async fn connect(server: SocketAddr, by: By, tls: Option<(String, Vec<CertificateDer<'static>>)>) -> Result<Self, Fault> {
        let wire = match by {
            By::Udp => {
                let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(server).await?;
                Wire::Udp(socket)
            }
            By::Tcp | By::Tls => {
                let stream = TcpStream::connect(server).await?;
                match tls {
                    None => Wire::Stream(Box::new(stream)),
                    Some((host, roots)) => Wire::Stream(Box::new(secure(stream, host, roots).await?)),
                }
            }
        };
        Ok(Self { wire, read: vec![], credential: None, key: None, realm: String::new(), nonce: String::new(), others: VecDeque::new() })
    }

    /// From now on it has these.
    pub fn use_credential(&mut self, credential: Option<TurnCredential>) {
        self.credential = credential;
    }

    /// By what address the server sees it.
    pub async fn mapped(&mut self) -> Result<SocketAddr, Fault> {
        let answer = self.ask_once(BINDING, |_| {}).await?;
        let answer = Message::from_bytes(&answer).map_err(|_| Fault::NoStun)?;
        Ok(answer.attribute::<XorMappedAddress>().map_err(|_| Fault::NoStun)?.addr(answer.transaction_id()))
    }

    /// A relay, and by what address the server sees the client.
    pub async fn allocate(&mut self) -> Result<(SocketAddr, SocketAddr), Fault> {
        let with = |request: &mut MessageWriteVec| {
            request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).expect("there is room");
        };
        let answer = self.ask(ALLOCATE, with).await?;
        let answer = Message::from_bytes(&answer).map_err(|_| Fault::NoStun)?;
        let mapped = answer.attribute::<XorMappedAddress>().map_err(|_| Fault::NoStun)?.addr(answer.transaction_id());
        Ok((answer.attribute::<XorRelayedAddress>().map_err(|_| Fault::NoStun)?.addr(answer.transaction_id()), mapped))
    }

    /// Lets packets in from this address, whatever the port.
    pub async fn permit(&mut self, peer: SocketAddr) -> Result<(), Fault> {
        let with = |request: &mut MessageWriteVec| {
            let peer = XorPeerAddress::new(peer, request.transaction_id());
            request.add_attribute(&peer).expect("there is room");
        };
        self.ask(CREATE_PERMISSION, with).await.map(drop)
    }

    /// Sends to a peer by the relay.
    pub async fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) -> Result<(), Fault> {
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, message.transaction_id());
        message.add_attribute(&peer).expect("there is room");
        message.add_attribute(&Data::new(bytes)).expect("there is room");
        self.say(&message.finish()).await
    }

    /// Who sends something to the relay.
    pub async fn hear(&mut self) -> Result<SocketAddr, Fault> {
        loop {
            let heard = match self.others.pop_front() {
                Some(heard) => heard,
                None => self.next().await?,
            };
            let message = Message::from_bytes(&heard).map_err(|_| Fault::NoStun)?;
            if let Ok(peer) = message.attribute::<XorPeerAddress>() {
                return Ok(peer.addr(message.transaction_id()));
            }
        }
    }

    /// Asks with credentials, as a client that does what it is told about them. Returns the answer if it is a yes.
    async fn ask(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Result<Vec<u8>, Fault> {
        loop {
            let answer = self.ask_once(method, &with).await?;
            let message = Message::from_bytes(&answer).map_err(|_| Fault::NoStun)?;
            if message.class() == MessageClass::Success {
                return Ok(answer);
            }
            let code = message.attribute::<ErrorCode>().map_err(|_| Fault::NoStun)?.code();
            let (Some(TurnCredential { username, password }), 401, None) = (self.credential.clone(), code, &self.key) else {
                return Err(Fault::Refused(code));
            };
            self.realm = message.attribute::<Realm>().map_err(|_| Fault::NoStun)?.realm().to_owned();
            self.nonce = message.attribute::<Nonce>().map_err(|_| Fault::NoStun)?.nonce().to_owned();
            self.key = Some(LongTermKeyCredentials::new(username, password, self.realm.clone()).make_key(IntegrityAlgorithm::Sha1));
        }
    }

    async fn ask_once(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Result<Vec<u8>, Fault> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        let transaction = request.transaction_id();
        with(&mut request);
        if let (Some(key), Some(TurnCredential { username, .. })) = (&self.key, &self.credential) {
            request.add_attribute(&Username::new(username).map_err(|_| Fault::NoStun)?).expect("there is room");
            request.add_attribute(&Realm::new(&self.realm).map_err(|_| Fault::NoStun)?).expect("there is room");
            request.add_attribute(&Nonce::new(&self.nonce).map_err(|_| Fault::NoStun)?).expect("there is room");
            request.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1).expect("there is room");
        }
        let request = request.finish();
        // A stream loses nothing.
        let again = if matches!(self.wire, Wire::Stream(_)) { Duration::MAX } else { AGAIN };
        loop {
            self.say(&request).await?;
            if let Ok(answer) = timeout(again, self.answer_to(transaction)).await {
                return answer;
            }
        }
    }

    async fn answer_to(&mut self, transaction: TransactionId) -> Result<Vec<u8>, Fault> {
        loop {
            let heard = self.next().await?;
            if Message::from_bytes(&heard).map_err(|_| Fault::NoStun)?.transaction_id() == transaction {
                return Ok(heard);
            }
            self.others.push_back(heard);
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send(bytes).await?),
            Wire::Stream(stream) => stream.write_all(bytes).await?,
        }
        Ok(())
    }

    /// The next message, of which nothing is lost when this is dropped.
    async fn next(&mut self) -> Result<Vec<u8>, Fault> {
        match &mut self.wire {
            Wire::Udp(socket) => {
                let mut bytes = vec![0; 2048];
                let length = socket.recv(&mut bytes).await?;
                bytes.truncate(length);
                Ok(bytes)
            }
            Wire::Stream(stream) => loop {
                if let [_, _, high, low, ..] = self.read[..] {
                    let length = 20 + usize::from(u16::from_be_bytes([high, low]));
                    if self.read.len() >= length {
                        return Ok(self.read.drain(..length).collect());
                    }
                }
                if stream.read_buf(&mut self.read).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            },
        }
    }
}

async fn secure(stream: TcpStream, host: String, roots: Vec<CertificateDer<'static>>) -> Result<impl Stream, Fault> {
    let other = |error| Fault::Io(io::Error::other(error));
    let provider: Arc<_> = ring::default_provider().into();
    let verifier = Verifier::new_with_extra_roots(roots, provider.clone()).map_err(other)?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(other)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    let name = ServerName::try_from(host).map_err(|error| Fault::Io(io::Error::other(error)))?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}
