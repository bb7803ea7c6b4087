//! What counts are broken down by. None of it is chosen by a client, so the number of series is known beforehand: no rooms, no peers, no addresses.

use crate::protocol::{ClientMessage, CloseCode, ErrorCode, Kind, LeaveReason, ServerMessage};

/// The labels of a series: the name and the value of each.
pub type Pairs = Vec<(&'static str, &'static str)>;

/// What one count of a family stands for.
pub trait Labels: Copy + 'static {
    /// The counts of a family.
    const COUNT: usize;
    /// Which of them this is.
    fn index(self) -> usize;
    /// All that there can be.
    fn all() -> Vec<Self>;
    /// Its labels.
    fn pairs(self) -> Pairs;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The value of the label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }

        impl Labels for $name {
            const COUNT: usize = Self::ALL.len();

            fn index(self) -> usize {
                self as usize
            }

            fn all() -> Vec<Self> {
                Self::ALL.to_vec()
            }

            fn pairs(self) -> Pairs {
                vec![($label, self.name())]
            }
        }
    };
}

label! {
    /// How a client is connected.
    Door "door" {
        /// RFC 6455.
        WebSocket = "websocket",
        /// HTTP/3.
        WebTransport = "webtransport",
        /// Requests of Engine.IO, one after another.
        Polling = "polling",
    }
}

label! {
    /// The dialect that a client speaks. Whether a client of the tutorials is in a room or in the lobby only its messages tell, so both are `classic`.
    DialectName "dialect" {
        /// Ours, in either codec.
        Native = "native",
        /// The tutorials'.
        Classic = "classic",
        /// socket.io-client's.
        SocketIo = "socket.io",
        /// The `peerjs` library's.
        PeerJs = "peerjs",
        /// WebTorrent's.
        Tracker = "tracker",
        /// y-webrtc's.
        YWebrtc = "y-webrtc",
        /// matchbox's.
        Matchbox = "matchbox",
    }
}

impl DialectName {
    /// That of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dialect| dialect.name() == name)
    }
}

/// A door and the dialect that is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where.
    pub door: Door,
    /// How.
    pub dialect: DialectName,
}

impl Labels for Way {
    const COUNT: usize = Door::COUNT * DialectName::COUNT;

    fn index(self) -> usize {
        self.door.index() * DialectName::COUNT + self.dialect.index()
    }

    /// A WebSocket is for all of them, the other doors are for those whose clients know them.
    fn all() -> Vec<Self> {
        let ways = Door::ALL.iter().flat_map(|&door| DialectName::ALL.iter().map(move |&dialect| Self { door, dialect }));
        ways.filter(|way| match way.door {
            Door::WebSocket => true,
            Door::WebTransport => matches!(way.dialect, DialectName::Native | DialectName::SocketIo),
            Door::Polling => way.dialect == DialectName::SocketIo,
        })
        .collect()
    }

    fn pairs(self) -> Pairs {
        [self.door.pairs(), self.dialect.pairs()].concat()
    }
}

impl Labels for () {
    const COUNT: usize = 1;

    fn index(self) -> usize {
        0
    }

    fn all() -> Vec<Self> {
        vec![()]
    }

    fn pairs(self) -> Pairs {
        vec![]
    }
}

label! {
    /// Does a session have a connection?
    Connected "state" {
        /// It has.
        Yes = "connected",
        /// It waits for its client to come back.
        No = "waiting",
    }
}

label! {
    /// What a client says. What a foreign client wants counts as the message of ours that it amounts to.
    Said "type" {
        /// A `hello`, one that resumes as well.
        Hello = "hello",
        /// A `join`.
        Join = "join",
        /// A `leave`.
        Leave = "leave",
        /// An `offer`.
        Offer = "offer",
        /// An `answer`.
        Answer = "answer",
        /// An `ice-candidate`.
        IceCandidate = "ice-candidate",
        /// A `message`, to one peer or to all.
        Message = "message",
        /// A `message` that may be lost.
        BestEffort = "best-effort",
        /// A `metadata`.
        Metadata = "metadata",
        /// A `ping`.
        Ping = "ping",
        /// What only foreign dialects have a word for.
        Foreign = "foreign",
        /// What is no message.
        Malformed = "malformed",
    }
}

impl Said {
    /// What a message of ours counts as.
    pub fn of(message: &ClientMessage<'_>, is_best_effort: bool) -> Self {
        match message {
            ClientMessage::Forward { kind: Kind::Message, .. } | ClientMessage::Broadcast { .. } if is_best_effort => Self::BestEffort,
            ClientMessage::Hello { .. } => Self::Hello,
            ClientMessage::Join { .. } => Self::Join,
            ClientMessage::Leave { .. } => Self::Leave,
            ClientMessage::Forward { kind, .. } => (*kind).into(),
            ClientMessage::Broadcast { .. } => Self::Message,
            ClientMessage::Metadata { .. } => Self::Metadata,
            ClientMessage::Ping { .. } => Self::Ping,
        }
    }
}

impl From<Kind> for Said {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Offer => Self::Offer,
            Kind::Answer => Self::Answer,
            Kind::IceCandidate => Self::IceCandidate,
            Kind::Message => Self::Message,
        }
    }
}

label! {
    /// What a client is told.
    Told "type" {
        /// A `welcome`.
        Welcome = "welcome",
        /// A `joined`.
        Joined = "joined",
        /// A `peer-joined`.
        PeerJoined = "peer-joined",
        /// A `peer-updated`.
        PeerUpdated = "peer-updated",
        /// A `peer-left`.
        PeerLeft = "peer-left",
        /// A `left`.
        Left = "left",
        /// An `offer`.
        Offer = "offer",
        /// An `answer`.
        Answer = "answer",
        /// An `ice-candidate`.
        IceCandidate = "ice-candidate",
        /// A `message`.
        Message = "message",
        /// A `message` that may be lost.
        BestEffort = "best-effort",
        /// An `ack`.
        Ack = "ack",
        /// An `error`.
        Error = "error",
        /// A `pong`.
        Pong = "pong",
        /// An `ice-servers`.
        IceServers = "ice-servers",
        /// A `goodbye` that is an announcement.
        Closing = "closing",
        /// What only foreign dialects have a word for.
        Foreign = "foreign",
    }
}

impl Told {
    /// What a message of ours counts as.
    pub fn of(message: &ServerMessage) -> Self {
        match message {
            ServerMessage::Welcome(_) => Self::Welcome,
            ServerMessage::Joined { .. } => Self::Joined,
            ServerMessage::PeerJoined { .. } => Self::PeerJoined,
            ServerMessage::PeerUpdated { .. } => Self::PeerUpdated,
            ServerMessage::PeerLeft { .. } => Self::PeerLeft,
            ServerMessage::Left { .. } => Self::Left,
            ServerMessage::Forwarded { best_effort: true, .. } => Self::BestEffort,
            ServerMessage::Forwarded { kind: Kind::Offer, .. } => Self::Offer,
            ServerMessage::Forwarded { kind: Kind::Answer, .. } => Self::Answer,
            ServerMessage::Forwarded { kind: Kind::IceCandidate, .. } => Self::IceCandidate,
            ServerMessage::Forwarded { kind: Kind::Message, .. } => Self::Message,
            ServerMessage::Ack { .. } => Self::Ack,
            ServerMessage::Error(_) => Self::Error,
            ServerMessage::Pong { .. } => Self::Pong,
            ServerMessage::IceServers { .. } => Self::IceServers,
            ServerMessage::Closing { .. } => Self::Closing,
            // A goodbye is counted as a close, with its code.
            ServerMessage::Counted { .. } | ServerMessage::Goodbye { .. } => Self::Foreign,
        }
    }
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// For a reason of ours, which the client is told.
    Code(CloseCode),
    /// The client broke the door's own protocol, and is told the code that this has for it.
    Violation,
    /// The client's dialect ends a connection behind a refusal.
    Refused,
}

impl Closed {
    /// Those that are no reasons of ours.
    const OTHERS: [(Self, &str); 2] = [(Self::Violation, "protocol-violation"), (Self::Refused, "refused")];
}

impl Labels for Closed {
    const COUNT: usize = CloseCode::ALL.len() + Self::OTHERS.len();

    fn index(self) -> usize {
        let of_ours = |code| CloseCode::ALL.iter().position(|of_ours| *of_ours == code).expect("`ALL` has all");
        match self {
            Self::Code(code) => of_ours(code),
            Self::Violation => CloseCode::ALL.len(),
            Self::Refused => CloseCode::ALL.len() + 1,
        }
    }

    fn all() -> Vec<Self> {
        CloseCode::ALL.iter().map(|code| Self::Code(*code)).chain(Self::OTHERS.map(|(other, _)| other)).collect()
    }

    fn pairs(self) -> Pairs {
        let value = match self {
            Self::Code(code) => code.slug(),
            other => Self::OTHERS.iter().find(|(this, _)| *this == other).expect("it is one of them").1,
        };
        vec![("code", value)]
    }
}

impl Labels for ErrorCode {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        Self::ALL.iter().position(|code| *code == self).expect("`ALL` has all")
    }

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    fn pairs(self) -> Pairs {
        vec![("code", self.slug())]
    }
}

/// Why a session ends: as the others are told, or because the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure(pub Option<LeaveReason>);

impl Labels for Departure {
    const COUNT: usize = LeaveReason::ALL.len() + 1;

    fn index(self) -> usize {
        LeaveReason::ALL.iter().position(|reason| Some(*reason) == self.0).unwrap_or(LeaveReason::ALL.len())
    }

    /// Nobody ends a session by leaving its rooms.
    fn all() -> Vec<Self> {
        let reasons = LeaveReason::ALL.iter().filter(|reason| **reason != LeaveReason::Left);
        reasons.map(|reason| Self(Some(*reason))).chain([Self(None)]).collect()
    }

    fn pairs(self) -> Pairs {
        vec![("reason", self.0.map_or("draining", LeaveReason::name))]
    }
}

label! {
    /// What became of a client that wanted its session back.
    ResumeOutcome "outcome" {
        /// It has it.
        Succeeded = "succeeded",
        /// There is no session of this secret, or none any more.
        TooLate = "too-late",
        /// Something that it missed is no longer kept.
        Incomplete = "incomplete",
        /// There is a session, and it stays as it was: another connection has just used the secret, the client claims to have received what was never
        /// sent, or there is no place.
        Refused = "refused",
    }
}

label! {
    /// Why somebody who came is no client.
    HandshakeFailure "cause" {
        /// TLS failed.
        Tls = "tls",
        /// It is no handshake of RFC 6455, or not one for what is there.
        WebSocket = "websocket",
        /// QUIC, HTTP/3 or the request for a session failed.
        WebTransport = "webtransport",
        /// Nothing is there.
        NoSuchPath = "no-such-path",
        /// It took too long.
        TooSlow = "too-slow",
        /// Too many others began after it.
        GaveWay = "gave-way",
        /// Pages of its origin may not come in.
        Origin = "origin",
        /// The address has as many connections as it may.
        TooManyConnections = "too-many-connections",
        /// The server has as many clients as it may.
        ServerFull = "server-full",
        /// The server is shutting down.
        Draining = "draining",
        /// For another reason of ours.
        Other = "other",
    }
}

impl From<CloseCode> for HandshakeFailure {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::TooManyConnections => Self::TooManyConnections,
            CloseCode::ServerFull => Self::ServerFull,
            CloseCode::Draining => Self::Draining,
            _ => Self::Other,
        }
    }
}

label! {
    /// What is wrong with a token.
    TokenFailure "reason" {
        /// There is none.
        Missing = "missing",
        /// It is longer than any of ours.
        TooLong = "too-long",
        /// It is no token.
        Malformed = "malformed",
        /// It has an extension that has to be understood.
        Critical = "critical-extension",
        /// It names an algorithm that is not the key's.
        Algorithm = "algorithm",
        /// It names no key that is known.
        UnknownKey = "unknown-key",
        /// It was not signed by the key.
        Signature = "signature",
        /// It does not say when its time is over.
        NoExpiry = "no-expiry",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYetValid = "not-yet-valid",
        /// It is somebody else's.
        Issuer = "issuer",
        /// It is for somebody else.
        Audience = "audience",
        /// A claim is not what it should be.
        Claim = "claim",
        /// The application says no.
        Denied = "denied",
        /// The application cannot be asked.
        Unavailable = "unavailable",
    }
}

impl TokenFailure {
    /// That of this name. What nobody has named is that somebody said no.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().copied().find(|failure| failure.name() == name).unwrap_or(Self::Denied)
    }
}

label! {
    /// How a client of the embedded TURN server reaches it.
    TurnTransport "transport" {
        /// UDP.
        Udp = "udp",
        /// TCP in the clear.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
    }
}

label! {
    /// Where a packet is relayed to.
    TurnDirection "direction" {
        /// From a client to its peer.
        ToPeer = "to-peer",
        /// From a peer to its client.
        ToClient = "to-client",
    }
}

label! {
    /// Why the embedded TURN server does not do what it is asked.
    TurnRefusal "cause" {
        /// The credentials are none, or none any more.
        Credentials = "credentials",
        /// Wrong credentials came from the same address before, so that these wait.
        Failures = "failures",
        /// The session has as many allocations as it may.
        SessionQuota = "session-quota",
        /// The server has, or no port for one.
        ServerQuota = "server-quota",
        /// The address has as many allocations as it may; or as many streams without an allocation, or requests that wait, as it or all together may.
        AddressQuota = "address-quota",
        /// The peer's address is none that the server relays to.
        ForbiddenPeer = "forbidden-peer",
        /// The packet comes from, or is for, a peer without a permission or a channel.
        NoPermission = "no-permission",
        /// The allocation relays as much as it may.
        AllocationRate = "allocation-rate",
        /// The server does.
        ServerRate = "server-rate",
        /// There is no such allocation, or there is one already.
        Mismatch = "mismatch",
        /// What is asked for is not there.
        Unsupported = "unsupported",
        /// It is no message.
        Malformed = "malformed",
    }
}
