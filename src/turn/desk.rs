//! What one worker does for the clients that come to it: reads what they say, answers, and has their allocations. All of it is this worker's alone; what the
//! workers share is in [`Shared`].

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hashbrown::HashMap;
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress},
    message::{BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, MessageClass, Method},
    prelude::*,
};
use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinSet, yield_now},
};
use tracing::debug;
use turn_types::{
    AddressFamily,
    attribute::{
        AdditionalAddressFamily, AddressErrorCode, ChannelNumber, Data, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport,
        XorPeerAddress, XorRelayedAddress,
    },
    message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND},
};

use super::{
    Origin, Shared,
    allocation::{Allocation, CHANNEL_HEADER_BYTES, NoPeer, Parts, PeerRefused},
    credentials,
    line::{Line, Way},
    message::{DATA_OVERHEAD_MAX, Incoming, REALM, Signature, signed_part},
    quotas::{Exhausted, OwnPace},
    socket::ClientSocket,
};
use crate::{
    metrics::{TurnRefusal, TurnTransport},
    protocol::PeerId,
};

/// What one worker has.
pub struct Desk {
    pub shared: Arc<Shared>,
    allocations: RefCell<HashMap<Key, Rc<Allocation>, std::hash::RandomState>>,
    /// For one packet; nobody waits with it.
    buffers: RefCell<Buffers>,
    next_socket: Cell<u64>,
    /// Requests that wait.
    later: RefCell<JoinSet<()>>,
}

/// A client, as far as an allocation is concerned: by which socket it comes, from where, and to which of several addresses.
type Key = (u64, SocketAddr, Option<IpAddr>);

struct Buffers {
    packet: Box<[u8]>,
    scratch: Box<[u8]>,
}

/// Who is asking, with what has to be signed for it.
struct Authenticated {
    peer_id: PeerId,
    username: String,
    key: IntegrityKey,
    algorithm: IntegrityAlgorithm,
}

/// How a request is answered; nothing if it is not.
type Answer = Option<Vec<u8>>;

/// No packet of UDP is longer.
const PACKET_BYTES: usize = 65_536;
/// Packets that are taken up at once, so that a flood leaves others of the thread their turn.
const BATCH_PACKETS: usize = 32;
/// How often it is looked for what is over.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// RFC 8656 §3.2 and §7.2.
const LIFETIME_DEFAULT: u32 = 600;
const LIFETIME_MAX: u32 = 3600;

impl Desk {
    /// One without clients.
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        let zeros = |bytes: usize| vec![0; bytes].into_boxed_slice();
        let buffers = Buffers { packet: zeros(CHANNEL_HEADER_BYTES + PACKET_BYTES), scratch: zeros(DATA_OVERHEAD_MAX + PACKET_BYTES) };
        Rc::new(Self {
            shared,
            allocations: RefCell::default(),
            buffers: buffers.into(),
            next_socket: Cell::new(0),
            later: RefCell::default(),
        })
    }

    /// A number for one more socket that clients come by.
    pub fn number_socket(&self) -> u64 {
        self.next_socket.replace(self.next_socket.get() + 1)
    }

    /// Serves whoever comes by this socket, without end.
    pub async fn serve_udp(self: Rc<Self>, socket: ClientSocket) {
        let (socket, number) = (Rc::new(socket), self.number_socket());
        while socket.readable().await.is_ok() {
            for _ in 0..BATCH_PACKETS {
                let mut buffers = self.buffers.borrow_mut();
                // An error is that of an earlier packet, which somebody did not want.
                match socket.try_receive(&mut buffers.packet) {
                    Ok((bytes, client, asked)) => {
                        let line = Line { client, socket: number, asked, way: Way::Udp(socket.clone()) };
                        self.hear(&line, TurnTransport::Udp, &buffers.packet[..bytes]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            yield_now().await;
        }
    }

    /// Hands a client what comes to its relay, without end.
    async fn serve_relay(self: Rc<Self>, allocation: Rc<Allocation>) {
        while allocation.socket.readable().await.is_ok() {
            let now = Instant::now();
            for _ in 0..BATCH_PACKETS {
                let Buffers { packet, scratch } = &mut *self.buffers.borrow_mut();
                match allocation.socket.try_recv_from(&mut packet[CHANNEL_HEADER_BYTES..]) {
                    Ok((bytes, from)) => {
                        allocation.receive(from, &mut packet[..CHANNEL_HEADER_BYTES + bytes], scratch, &self.shared, now);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            yield_now().await;
        }
    }

    /// Ends what is over, again and again.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let (now, time) = (Instant::now(), SystemTime::now());
            let is_over = |allocation: &Allocation| {
                allocation.expires_at.get() <= now || !self.shared.credentials.is_good_for(&allocation.peer_id, time)
            };
            let over: Vec<Key> =
                self.allocations.borrow().iter().filter(|(_, allocation)| is_over(allocation)).map(|(key, _)| *key).collect();
            over.iter().for_each(|key| self.end(*key));
        }
    }

    /// Has the client of this line an allocation?
    pub fn has_allocation(&self, line: &Line) -> bool {
        self.allocations.borrow().contains_key(&line.key())
    }

    /// The client of this line is gone.
    pub fn hang_up(&self, line: &Line) {
        line.close();
        self.end(line.key());
    }

    /// Nobody is served any more.
    pub fn close(&self) {
        self.later.take().abort_all();
        let all: Vec<Key> = self.allocations.borrow().keys().copied().collect();
        all.iter().for_each(|key| self.end(*key));
    }

    fn end(&self, key: Key) {
        if let Some(allocation) = self.allocations.borrow_mut().remove(&key) {
            allocation.end();
            self.shared.metrics.turn_allocations(allocation.transport, -1);
            debug!(peer = %allocation.peer_id.hex().as_str(), relayed = %allocation.relayed, "an allocation ends");
        }
    }

    /// Hears a message of this client, or data for a peer.
    pub fn hear(self: &Rc<Self>, line: &Line, transport: TurnTransport, bytes: &[u8]) {
        match bytes {
            [0x40..=0x7f, _, _, _, ..] => self.hear_channel(line, bytes),
            [0..=0x3f, ..] => {
                let bytes = &signed_part(bytes);
                match Incoming::read(bytes) {
                    Some(incoming) => self.hear_message(line, transport, &incoming, bytes),
                    None => self.refused(TurnRefusal::Malformed),
                }
            }
            _ => self.refused(TurnRefusal::Malformed),
        }
    }

    fn hear_channel(&self, line: &Line, bytes: &[u8]) {
        let number = u16::from_be_bytes([bytes[0], bytes[1]]);
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let allocations = self.allocations.borrow();
        // What is behind the data is padding.
        match (allocations.get(&line.key()), bytes.get(CHANNEL_HEADER_BYTES..CHANNEL_HEADER_BYTES + length)) {
            (Some(allocation), Some(packet)) => allocation.send_to_channel(number, packet, &self.shared, Instant::now()),
            (None, Some(_)) => self.refused(TurnRefusal::NoPermission),
            (_, None) => self.refused(TurnRefusal::Malformed),
        }
    }

    fn hear_message(self: &Rc<Self>, line: &Line, transport: TurnTransport, incoming: &Incoming<'_>, bytes: &[u8]) {
        let message = &incoming.message;
        let answer = match (message.class(), message.method()) {
            (MessageClass::Indication, SEND) => return self.hear_send(line, incoming),
            (MessageClass::Request, BINDING) => self.answer_binding(line, incoming),
            (MessageClass::Request, ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND) => {
                let delay = self.delay(line, incoming);
                if !delay.is_zero() {
                    return self.hear_later(line, transport, bytes, delay);
                }
                self.answer_request(line, transport, incoming)
            }
            (MessageClass::Request, _) => {
                self.refused(TurnRefusal::Unsupported);
                incoming.error(ErrorCode::BAD_REQUEST, None)
            }
            // Keep-alives, and answers to what was never asked.
            _ => None,
        };
        if let Some(answer) = answer {
            line.send(&answer);
        }
    }

    fn answer_binding(&self, line: &Line, incoming: &Incoming<'_>) -> Answer {
        let unknown = incoming.unknown();
        match unknown.is_empty() {
            true => incoming.success(&[&XorMappedAddress::new(line.client, incoming.message.transaction_id())], None),
            false => incoming.unknown_attributes(&unknown, None),
        }
    }

    fn hear_send(&self, line: &Line, incoming: &Incoming<'_>) {
        let message = &incoming.message;
        let allocations = self.allocations.borrow();
        let Some(allocation) = allocations.get(&line.key()) else { return self.refused(TurnRefusal::NoPermission) };
        match (message.attribute::<XorPeerAddress>(), message.attribute::<Data<'_>>()) {
            (Ok(peer), Ok(data)) if incoming.unknown().is_empty() => {
                allocation.send_to_peer(peer.addr(message.transaction_id()), data.data(), &self.shared, Instant::now());
            }
            _ => self.refused(TurnRefusal::Malformed),
        }
    }

    /// How long a request waits before its credentials are looked at. Who has shown good ones before does not wait, and without a good nonce they are not
    /// looked at.
    fn delay(&self, line: &Line, incoming: &Incoming<'_>) -> Duration {
        let now = Instant::now();
        let has_nonce =
            || incoming.message.attribute::<Nonce>().is_ok_and(|nonce| self.shared.nonces.is_good(nonce.nonce(), line.client, now));
        match incoming.is_signed() && !self.has_allocation(line) && has_nonce() {
            true => self.shared.failures.delay(line.client.ip(), now),
            false => Duration::ZERO,
        }
    }

    /// Answers when so much time has passed; clients ask again for much longer.
    fn hear_later(self: &Rc<Self>, line: &Line, transport: TurnTransport, bytes: &[u8], delay: Duration) {
        // With a good nonce the address is true: nobody takes these places in another's name.
        let Ok(place) = self.shared.waiting.take(Origin::of(line.client)) else { return self.refused(TurnRefusal::AddressQuota) };
        self.refused(TurnRefusal::Failures);
        if bytes.len() > REQUEST_BYTES_MAX {
            return;
        }
        let (desk, line, bytes) = (self.clone(), line.clone(), bytes.to_vec());
        let mut later = self.later.borrow_mut();
        while later.try_join_next().is_some() {}
        later.spawn_local(async move {
            tokio::time::sleep(delay).await;
            drop(place);
            if !line.is_closed()
                && let Some(incoming) = Incoming::read(&bytes)
                && let Some(answer) = desk.answer_request(&line, transport, &incoming)
            {
                line.send(&answer);
            }
        });
    }

    fn answer_request(self: &Rc<Self>, line: &Line, transport: TurnTransport, incoming: &Incoming<'_>) -> Answer {
        let now = Instant::now();
        let allocation = self.allocations.borrow().get(&line.key()).cloned();
        let who = match self.authenticate(line, incoming, allocation.as_deref(), now) {
            Ok(who) => who,
            Err(answer) => return answer,
        };
        let signature = Signature { key: &who.key, algorithm: who.algorithm };
        let refuse = |code| incoming.error(code, Some(&signature));
        let method = incoming.message.method();
        // Who only wants one of its own is told that the place is taken, and comes from another (RFC 8656 §5).
        if method != ALLOCATE && allocation.as_ref().is_some_and(|allocation| allocation.username != who.username) {
            self.refused(TurnRefusal::Credentials);
            return refuse(ErrorCode::WRONG_CREDENTIALS);
        }
        let unknown = incoming.unknown();
        if !unknown.is_empty() {
            self.refused(TurnRefusal::Unsupported);
            return incoming.unknown_attributes(&unknown, Some(&signature));
        }
        match (method, allocation) {
            (ALLOCATE, Some(allocation))
                if allocation.made_by == incoming.message.transaction_id() && allocation.username == who.username =>
            {
                self.allocated(incoming, &allocation, now, &signature)
            }
            (ALLOCATE, None) => match self.allocate(line, transport, incoming, &who, now) {
                Ok(allocation) => self.allocated(incoming, &allocation, now, &signature),
                Err(code) => refuse(code),
            },
            (ALLOCATE, Some(_)) | (_, None) => {
                self.refused(TurnRefusal::Mismatch);
                refuse(ErrorCode::ALLOCATION_MISMATCH)
            }
            (_, Some(allocation)) => match self.change(method, incoming, &allocation, now) {
                Ok(lifetime) => {
                    let lifetime = lifetime.map(Lifetime::new);
                    let attributes: Vec<&dyn AttributeWrite> = lifetime.iter().map(|lifetime| lifetime as _).collect();
                    let answer = incoming.success(&attributes, Some(&signature));
                    if lifetime.is_some_and(|lifetime| lifetime.seconds() == 0) {
                        self.end(line.key());
                    }
                    answer
                }
                Err(code) => refuse(code),
            },
        }
    }

    /// Who is asking, or what to answer to who has not shown that.
    fn authenticate(
        &self,
        line: &Line,
        incoming: &Incoming<'_>,
        allocation: Option<&Allocation>,
        now: Instant,
    ) -> Result<Authenticated, Answer> {
        let shared = &self.shared;
        let message = &incoming.message;
        let challenge = |code| incoming.challenge(code, &shared.nonces.make(line.client, now));
        if !incoming.is_signed() {
            // A request for which there is no room to say what is wanted is none that a client makes.
            return Err(challenge(ErrorCode::UNAUTHORIZED).or_else(|| incoming.error(ErrorCode::BAD_REQUEST, None)));
        }
        let (Ok(username), Ok(realm), Ok(nonce)) =
            (message.attribute::<Username>(), message.attribute::<Realm>(), message.attribute::<Nonce>())
        else {
            self.refused(TurnRefusal::Malformed);
            return Err(incoming.error(ErrorCode::BAD_REQUEST, None));
        };
        if !shared.nonces.is_good(nonce.nonce(), line.client, now) {
            return Err(challenge(ErrorCode::STALE_NONCE));
        }
        let wrong = || {
            self.refused(TurnRefusal::Credentials);
            shared.failures.failed(line.client.ip(), now);
            challenge(ErrorCode::UNAUTHORIZED)
        };
        // There is no password to guess. After a restart every client of an office goes on with such a name.
        let nobody = || {
            self.refused(TurnRefusal::Credentials);
            shared.failures.failed_among_many(line.client.ip(), now);
            challenge(ErrorCode::UNAUTHORIZED)
        };
        let (username, time) = (username.username(), SystemTime::now());
        let peer_id = credentials::peer_of(username).ok_or_else(wrong)?;
        let key = match allocation {
            // Good for as long as the session is, whatever the user name says: it has been good before.
            Some(allocation) if allocation.username == username && shared.credentials.is_good_for(&peer_id, time) => allocation.key.clone(),
            _ => {
                let password = shared.credentials.password(username, time).ok_or_else(nobody)?;
                LongTermKeyCredentials::new(username.to_owned(), password, REALM.to_owned()).make_key(IntegrityAlgorithm::Sha1)
            }
        };
        match message.validate_integrity_with_key(&key) {
            Ok(algorithm) if realm.realm() == REALM => Ok(Authenticated { peer_id, username: username.to_owned(), key, algorithm }),
            _ => Err(wrong()),
        }
    }

    fn allocate(
        self: &Rc<Self>,
        line: &Line,
        transport: TurnTransport,
        incoming: &Incoming<'_>,
        who: &Authenticated,
        now: Instant,
    ) -> Result<Rc<Allocation>, u16> {
        let (shared, message) = (&self.shared, &incoming.message);
        let requested = message.attribute::<RequestedTransport>().map_err(|_| ErrorCode::BAD_REQUEST)?;
        let refused = |why, code| {
            self.refused(why);
            code
        };
        if requested.protocol() != RequestedTransport::UDP {
            return Err(refused(TurnRefusal::Unsupported, ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL));
        }
        let unsupported = || refused(TurnRefusal::Unsupported, ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        let family = incoming.optional::<RequestedAddressFamily>(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED).map_err(|_| unsupported())?;
        let is_v4 = family.is_none_or(|family| family.family() == AddressFamily::IPV4);
        let lifetime = requested_lifetime(incoming)?.max(LIFETIME_DEFAULT);
        let family = shared.relays.family(is_v4).ok_or_else(unsupported)?;
        let even = incoming.optional::<EvenPort>(ErrorCode::BAD_REQUEST)?;
        let wants_two = even.as_ref().is_some_and(EvenPort::requested);
        if message.has_attribute(AdditionalAddressFamily::TYPE) {
            // RFC 8656 §7.2.
            let is_v6 = |additional: AdditionalAddressFamily| additional.family() == AddressFamily::IPV6;
            let is_right = message.attribute().is_ok_and(is_v6) && !message.has_attribute(RequestedAddressFamily::TYPE) && !wants_two;
            if !is_right {
                return Err(refused(TurnRefusal::Unsupported, ErrorCode::BAD_REQUEST));
            }
        }
        if wants_two {
            // No port is kept for another allocation.
            return Err(refused(TurnRefusal::Unsupported, ErrorCode::INSUFFICIENT_CAPACITY));
        }
        let share = shared.quotas.take(who.peer_id).map_err(|exhausted| match exhausted {
            Exhausted::Own => refused(TurnRefusal::SessionQuota, ErrorCode::ALLOCATION_QUOTA_REACHED),
            Exhausted::All => refused(TurnRefusal::ServerQuota, ErrorCode::INSUFFICIENT_CAPACITY),
        })?;
        let of_address = shared.of_addresses.take(Origin::of(line.client));
        let of_address = of_address.map_err(|_| refused(TurnRefusal::AddressQuota, ErrorCode::ALLOCATION_QUOTA_REACHED))?;
        let bound = shared.relays.bind(family, line.client.ip(), even.is_some()).and_then(|(socket, relayed, port)| {
            let socket = UdpSocket::from_std(socket)?;
            Ok((socket, relayed, port))
        });
        let (socket, relayed, port) = bound.map_err(|error| {
            debug!(%error, "there is no port for an allocation");
            refused(TurnRefusal::ServerQuota, ErrorCode::INSUFFICIENT_CAPACITY)
        })?;
        let allocation = Rc::new(Allocation::new(Parts {
            line: line.clone(),
            transport,
            peer_id: who.peer_id,
            username: who.username.clone(),
            key: who.key.clone(),
            made_by: message.transaction_id(),
            socket,
            relayed,
            port,
            expires_at: now + Duration::from_secs(lifetime.into()),
            pace: OwnPace::new(shared.allocation_bytes_per_second, now),
            shares: (share, of_address),
        }));
        let reading: AbortHandle = actix_rt::spawn(self.clone().serve_relay(allocation.clone())).abort_handle();
        allocation.reading.set(Some(reading));
        self.allocations.borrow_mut().insert(line.key(), allocation.clone());
        shared.metrics.turn_allocations(transport, 1);
        debug!(peer = %who.peer_id.hex().as_str(), relayed = %allocation.relayed, "an allocation begins");
        Ok(allocation)
    }

    fn allocated(&self, incoming: &Incoming<'_>, allocation: &Allocation, now: Instant, signature: &Signature<'_>) -> Answer {
        let transaction = incoming.message.transaction_id();
        let left = allocation.expires_at.get().saturating_duration_since(now).as_secs();
        let relayed = XorRelayedAddress::new(allocation.relayed, transaction);
        let lifetime = Lifetime::new(u32::try_from(left).unwrap_or(LIFETIME_MAX));
        let mapped = XorMappedAddress::new(allocation.line.client, transaction);
        let mut attributes: Vec<&dyn AttributeWrite> = vec![&relayed, &lifetime, &mapped];
        // An allocation has one relay. Who wants a second one of IPv6 takes another allocation for it (RFC 8656 §7.2).
        let code = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED;
        let error = ErrorCode::new(code, ErrorCode::default_reason_for_code(code)).expect("it is a code");
        let no_second = AddressErrorCode::new(AddressFamily::IPV6, error);
        if incoming.message.has_attribute(AdditionalAddressFamily::TYPE) {
            attributes.push(&no_second);
        }
        incoming.success(&attributes, Some(signature))
    }

    /// What a client wants of the allocation that it has; tells for how long it has it, where that was the question.
    fn change(&self, method: Method, incoming: &Incoming<'_>, allocation: &Allocation, now: Instant) -> Result<Option<u32>, u16> {
        let message = &incoming.message;
        if method == REFRESH {
            let is_other = |family: RequestedAddressFamily| (family.family() == AddressFamily::IPV4) != allocation.relayed.is_ipv4();
            if incoming.optional(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)?.is_some_and(is_other) {
                return Err(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
            }
            let lifetime = requested_lifetime(incoming)?;
            let lifetime = if lifetime == 0 { 0 } else { lifetime.max(LIFETIME_DEFAULT) };
            allocation.expires_at.set(now + Duration::from_secs(lifetime.into()));
            return Ok(Some(lifetime));
        }
        let peers = incoming.peers().filter(|peers| !peers.is_empty()).ok_or(ErrorCode::BAD_REQUEST)?;
        let (what, changed) = match method {
            CREATE_PERMISSION => ("a permission", allocation.permit(&peers, &self.shared, now)),
            _ => {
                let number = message.attribute::<ChannelNumber>().map_err(|_| ErrorCode::BAD_REQUEST)?.channel();
                let &[peer] = &peers[..] else { return Err(ErrorCode::BAD_REQUEST) };
                ("a channel", allocation.bind_channel(number, peer, &self.shared, now))
            }
        };
        changed.map(|()| None).map_err(|NoPeer { address, why }| {
            debug!(peer = %allocation.peer_id.hex().as_str(), ?why, %address, "{what} is refused");
            match why {
                PeerRefused::Forbidden => ErrorCode::FORBIDDEN,
                PeerRefused::Family => ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH,
                PeerRefused::Number | PeerRefused::Taken => ErrorCode::BAD_REQUEST,
                PeerRefused::Full => ErrorCode::INSUFFICIENT_CAPACITY,
            }
        })
    }

    /// Counts what is not done.
    pub fn refused(&self, why: TurnRefusal) {
        self.shared.metrics.turn_refused(why);
    }
}

/// No request of a client is longer.
pub const REQUEST_BYTES_MAX: usize = 2048;

/// The lifetime that is asked for, as far as there is such a one.
fn requested_lifetime(incoming: &Incoming<'_>) -> Result<u32, u16> {
    let lifetime = incoming.optional::<Lifetime>(ErrorCode::BAD_REQUEST)?;
    Ok(lifetime.map_or(LIFETIME_DEFAULT, |lifetime| lifetime.seconds().min(LIFETIME_MAX)))
}

impl Line {
    fn key(&self) -> Key {
        (self.socket, self.client, self.asked)
    }
}
