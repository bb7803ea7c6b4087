//! A client of STUN and TURN (RFC 8489, RFC 8656), as small as it can be: it asks and hears, and keeps nothing alive by itself.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress},
    message::{
        BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _, MessageWriteExt as _,
        MessageWriteVec, Method, TransactionId,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use turn_types::{
    AddressFamily,
    attribute::{ChannelNumber, Data, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress},
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND},
};

use super::Options;
use crate::ice::{By, TurnCredential};

/// How long a request by UDP waits for its answer before it is sent again, at first; then twice as long each time (RFC 8489 §6.2.1).
pub const RETRANSMISSION_TIMEOUT: Duration = Duration::from_millis(500);
/// Packets of peers that are kept while an answer is waited for; later ones are lost, as UDP loses some.
pub const KEPT_PACKETS_MAX: usize = 1024;

/// Longest packet that goes to a peer: with what stands around it, it has room in a message, which says in 16 bits how long it is.
pub const PACKET_BYTES_MAX: usize = 65_000;

/// No packet of UDP, and no message on a stream, is longer.
const MESSAGE_BYTES_MAX: usize = 20 + 65_536;
/// What stands before a message: what it is, how long, and for which question.
const HEADER_BYTES: usize = 20;
/// What stands before a packet on a channel: its number, and how long it is.
const CHANNEL_HEADER_BYTES: usize = 4;

/// A client with credentials, or without. Dropping it leaves what it has at the server to run out.
pub struct TurnClient {
    wire: Wire,
    read: Vec<u8>,
    local_address: SocketAddr,
    retransmission_timeout: Duration,
    credential: Option<TurnCredential>,
    signing: Option<Signing>,
    /// What came while an answer was waited for.
    kept: VecDeque<Vec<u8>>,
    /// Has the server shown that it speaks STUN?
    has_answered: bool,
}

/// What comes from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Data(SocketAddr, Vec<u8>),
    /// By the number that [`TurnClient::bind`] gave the peer.
    Channel(u16, Vec<u8>),
}

/// What the server told of itself, and what it makes of the credentials.
struct Signing {
    key: IntegrityKey,
    realm: String,
    nonce: String,
}

enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a client does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's code (RFC 8489 §14.8, RFC 8656 §19).
    #[error("refused with {0}")]
    Refused(u16),
    #[error("it answers with what is no STUN")]
    NoStun,
    #[error("it says yes without showing that it knows the password")]
    Unsigned,
}

impl TurnClient {
    /// One that has said nothing yet. By TLS the server has to be `host`, vouched for by whom the system trusts or by [`Options::roots`].
    pub async fn connect(server: SocketAddr, by: By, host: &str, options: &Options) -> Result<Self, TurnError> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let local = SocketAddr::new(options.local_address.unwrap_or(any), 0);
        let (wire, local_address) = if by == By::Udp {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            let local = socket.local_addr()?;
            (Wire::Udp(socket), local)
        } else {
            let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(local)?;
            let stream = socket.connect(server).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            let stream: Box<dyn Stream> = if by == By::Tls {
                let config = options.verifying().map_err(io::Error::other)?;
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
            } else {
                Box::new(stream)
            };
            (Wire::Stream(stream), local)
        };
        Ok(Self {
            wire,
            read: vec![],
            local_address,
            retransmission_timeout: RETRANSMISSION_TIMEOUT,
            credential: None,
            signing: None,
            kept: VecDeque::new(),
            has_answered: false,
        })
    }

    /// From now on it has these, or none.
    pub fn use_credential(&mut self, credential: Option<TurnCredential>) {
        self.credential = credential;
        self.signing = None;
    }

    /// Says nothing twice: for a network that loses nothing.
    pub fn without_retransmission(mut self) -> Self {
        self.retransmission_timeout = Duration::MAX;
        self
    }

    /// From where it speaks, as far as it knows.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// By what address the server sees it.
    pub async fn mapped(&mut self) -> Result<SocketAddr, TurnError> {
        let answer = self.ask_once(BINDING, |_| {}).await?;
        mapped_address(&Message::from_bytes(&answer).map_err(|_| TurnError::NoStun)?)
    }

    /// A relay of this family, of IPv4 where it is not said, and by what address the server sees the client.
    pub async fn allocate(&mut self, family: Option<AddressFamily>) -> Result<(SocketAddr, SocketAddr), TurnError> {
        let with = |request: &mut MessageWriteVec| {
            add(request, &RequestedTransport::new(RequestedTransport::UDP));
            if let Some(family) = family {
                add(request, &RequestedAddressFamily::new(family));
            }
        };
        let answer = self.ask(ALLOCATE, with).await?;
        let answer = Message::from_bytes(&answer).map_err(|_| TurnError::NoStun)?;
        let relayed = answer.attribute::<XorRelayedAddress>().map_err(|_| TurnError::NoStun)?.addr(answer.transaction_id());
        Ok((relayed, mapped_address(&answer)?))
    }

    /// Lets packets in from this address, whatever the port, for five minutes.
    pub async fn permit(&mut self, peer: SocketAddr) -> Result<(), TurnError> {
        let with = |request: &mut MessageWriteVec| {
            let peer = XorPeerAddress::new(peer, request.transaction_id());
            add(request, &peer);
        };
        self.ask(CREATE_PERMISSION, with).await.map(drop)
    }

    /// Gives this peer a number, 0x4000 to 0x4fff, for ten minutes, and lets its packets in for five.
    pub async fn bind(&mut self, number: u16, peer: SocketAddr) -> Result<(), TurnError> {
        let with = |request: &mut MessageWriteVec| {
            let peer = XorPeerAddress::new(peer, request.transaction_id());
            add(request, &ChannelNumber::new(number));
            add(request, &peer);
        };
        self.ask(CHANNEL_BIND, with).await.map(drop)
    }

    /// Keeps the relay for so many seconds, or gives it back with 0. Returns for how many the server keeps it.
    pub async fn refresh(&mut self, seconds: u32) -> Result<u32, TurnError> {
        let answer = self.ask(REFRESH, |request| add(request, &Lifetime::new(seconds))).await?;
        let answer = Message::from_bytes(&answer).map_err(|_| TurnError::NoStun)?;
        Ok(answer.attribute::<Lifetime>().map_err(|_| TurnError::NoStun)?.seconds())
    }

    /// Sends to a peer by its address, [`PACKET_BYTES_MAX`] at most.
    pub async fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) -> Result<(), TurnError> {
        bounded(bytes)?;
        let mut message = Message::builder_indication(SEND, MessageWriteVec::new());
        let peer = XorPeerAddress::new(peer, message.transaction_id());
        add(&mut message, &peer);
        add(&mut message, &Data::new(bytes));
        self.say(&message.finish()).await
    }

    /// Sends to a peer by its number, [`PACKET_BYTES_MAX`] at most.
    pub async fn send_by(&mut self, number: u16, bytes: &[u8]) -> Result<(), TurnError> {
        let mut message = [number.to_be_bytes(), bounded(bytes)?.to_be_bytes()].concat();
        message.extend(bytes);
        if matches!(self.wire, Wire::Stream(_)) {
            message.resize(message.len().next_multiple_of(4), 0);
        }
        self.say(&message).await
    }

    /// What comes from a peer next; what is malformed is passed over. Nothing is lost when this is dropped.
    pub async fn hear(&mut self) -> Result<Heard, TurnError> {
        loop {
            let bytes = match self.kept.pop_front() {
                Some(bytes) => bytes,
                None => self.next().await?,
            };
            if let Some(heard) = heard(&bytes) {
                return Ok(heard);
            }
        }
    }

    /// Asks with credentials, as a client that does what it is told about them. Returns the answer if it is a yes.
    pub async fn ask(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Result<Vec<u8>, TurnError> {
        let mut was_stale = false;
        loop {
            let answer = self.ask_once(method, &with).await?;
            let message = Message::from_bytes(&answer).map_err(|_| TurnError::NoStun)?;
            if message.class() == MessageClass::Success {
                let is_signed = self.signing.as_ref().is_some_and(|signing| message.validate_integrity_with_key(&signing.key).is_ok());
                return if is_signed { Ok(answer) } else { Err(TurnError::Unsigned) };
            }
            let code = message.attribute::<ErrorCode>().map_err(|_| TurnError::NoStun)?.code();
            let nonce = message.attribute::<Nonce>().map(|nonce| nonce.nonce().to_owned());
            match (code, nonce, &mut self.signing, &self.credential) {
                (401, Ok(nonce), signing @ None, Some(TurnCredential { username, password })) => {
                    let realm = message.attribute::<Realm>().map_err(|_| TurnError::NoStun)?.realm().to_owned();
                    let credentials = LongTermKeyCredentials::new(username.clone(), password.clone(), realm.clone());
                    *signing = Some(Signing { key: credentials.make_key(IntegrityAlgorithm::Sha1), realm, nonce });
                }
                (438, Ok(nonce), Some(signing), _) if !was_stale => {
                    signing.nonce = nonce;
                    was_stale = true;
                }
                _ => return Err(TurnError::Refused(code)),
            }
        }
    }

    /// Asks, with credentials where it knows how, and returns whatever is answered.
    pub async fn ask_once(&mut self, method: Method, with: impl Fn(&mut MessageWriteVec)) -> Result<Vec<u8>, TurnError> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        let transaction = request.transaction_id();
        with(&mut request);
        if let (Some(signing), Some(TurnCredential { username, .. })) = (&self.signing, &self.credential)
            && method != BINDING
        {
            add(&mut request, &Username::new(username).map_err(io::Error::other)?);
            add(&mut request, &Realm::new(&signing.realm).map_err(io::Error::other)?);
            add(&mut request, &Nonce::new(&signing.nonce).map_err(io::Error::other)?);
            request.add_message_integrity_with_key(&signing.key, IntegrityAlgorithm::Sha1).expect("there is none yet");
        }
        let request = request.finish();
        // A stream loses nothing.
        let mut patience = if matches!(self.wire, Wire::Stream(_)) { Duration::MAX } else { self.retransmission_timeout };
        loop {
            self.say(&request).await?;
            if let Ok(answer) = timeout(patience, self.answer_to(transaction)).await {
                return answer;
            }
            patience *= 2;
        }
    }

    /// Says these bytes as they are.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<(), TurnError> {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send(bytes).await?),
            Wire::Stream(stream) => stream.write_all(bytes).await?,
        }
        Ok(())
    }

    /// The next message, whatever it is. Nothing is lost when this is dropped.
    pub async fn next(&mut self) -> Result<Vec<u8>, TurnError> {
        match &mut self.wire {
            Wire::Udp(socket) => {
                self.read.resize(MESSAGE_BYTES_MAX, 0);
                let length = socket.recv(&mut self.read).await?;
                Ok(self.read[..length].to_vec())
            }
            Wire::Stream(stream) => loop {
                if let [kind, _, high, low, ..] = self.read[..] {
                    let claimed = usize::from(u16::from_be_bytes([high, low]));
                    let length = if kind & 0xc0 == 0 { HEADER_BYTES + claimed } else { CHANNEL_HEADER_BYTES + claimed.next_multiple_of(4) };
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

    async fn answer_to(&mut self, transaction: TransactionId) -> Result<Vec<u8>, TurnError> {
        loop {
            let heard = self.next().await?;
            let is_of_a_peer = matches!(heard[..], [0x40..=0x7f, ..]);
            if !is_of_a_peer {
                match Message::from_bytes(&heard) {
                    Ok(message) if message.transaction_id() == transaction => {
                        self.has_answered = true;
                        return Ok(heard);
                    }
                    Ok(_) => {}
                    Err(_) if self.has_answered => continue,
                    Err(_) => return Err(TurnError::NoStun),
                }
            }
            if self.kept.len() < KEPT_PACKETS_MAX {
                self.kept.push_back(heard);
            }
        }
    }
}

/// How long it is, where it is not too long.
fn bounded(bytes: &[u8]) -> Result<u16, TurnError> {
    if bytes.len() > PACKET_BYTES_MAX {
        let said = format!("a packet of {} bytes is too long to be relayed, {PACKET_BYTES_MAX} are the most", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, said).into());
    }
    Ok(bytes.len() as u16)
}

/// What these bytes carry from a peer, if they do: a second answer to the same question does not.
fn heard(bytes: &[u8]) -> Option<Heard> {
    if let [high @ 0x40..=0x7f, low, rest @ ..] = bytes {
        let (length, rest) = rest.split_first_chunk()?;
        let packet = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        return Some(Heard::Channel(u16::from_be_bytes([*high, *low]), packet.to_vec()));
    }
    let message = Message::from_bytes(bytes).ok()?;
    let (peer, data) = (message.attribute::<XorPeerAddress>().ok()?, message.attribute::<Data<'_>>().ok()?);
    Some(Heard::Data(peer.addr(message.transaction_id()), data.data().to_vec()))
}

fn mapped_address(answer: &Message<'_>) -> Result<SocketAddr, TurnError> {
    Ok(answer.attribute::<XorMappedAddress>().map_err(|_| TurnError::NoStun)?.addr(answer.transaction_id()))
}

/// No client says the same twice in a message, or more than it holds.
fn add(message: &mut MessageWriteVec, attribute: &dyn stun_types::attribute::AttributeWrite) {
    message.add_attribute(attribute).expect("there is room, and none yet");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One packet that is no STUN ended a relay while the client waited for an answer.
    #[tokio::test]
    async fn what_is_malformed_is_no_answer_of_a_server_that_has_answered() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let mut client = TurnClient::connect(address, By::Udp, "127.0.0.1", &Options::default()).await.unwrap();
        let answering = async {
            for before in [&[][..], b"\x00", b"no STUN, and long enough for it"] {
                let mut request = [0; 100];
                let (length, from) = server.recv_from(&mut request).await.unwrap();
                if !before.is_empty() {
                    server.send_to(before, from).await.unwrap();
                }
                let mut answer = Message::builder_success(&Message::from_bytes(&request[..length]).unwrap(), MessageWriteVec::new());
                let mapped = XorMappedAddress::new(from, answer.transaction_id());
                add(&mut answer, &mapped);
                server.send_to(&answer.finish(), from).await.unwrap();
            }
        };
        let asking = async {
            for _ in 0..3 {
                let mapped = timeout(Duration::from_secs(10), client.mapped()).await.expect("an answer").expect("an address");
                assert_eq!(mapped, client.local_address());
            }
        };
        tokio::join!(answering, asking);
    }

    /// One byte from a server once ended the program.
    #[tokio::test]
    async fn what_is_malformed_is_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let mut client = TurnClient::connect(address, By::Udp, "127.0.0.1", &Options::default()).await.unwrap();
        let good = Heard::Channel(0x4000, b"good".to_vec());
        for first in 0..=u8::MAX {
            for length in 0..28 {
                let mut bytes = vec![0; length];
                bytes.fill_with(|| fastrand::u8(..));
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                // It claims more than it has.
                if let Some(claimed) = bytes.get_mut(2) {
                    *claimed |= 1;
                }
                server.send_to(&bytes, client.local_address()).await.unwrap();
                server.send_to(b"\x40\x00\x00\x04good", client.local_address()).await.unwrap();
                let heard = timeout(Duration::from_secs(10), client.hear()).await.expect("something").expect("a packet");
                assert_eq!(heard, good, "behind {bytes:02x?}");
            }
        }
    }
}
