//! Where a fault becomes a number: every reason to refuse a message or to close a connection, named once.
//!
//! The numbers are a contract with clients, and so are their ranges: 4000 to 4099 come back, 4100 to 4199 come back after backing off, 4200 to
//! 4299 do not come back unchanged, 4300 to 4399 refuse one message and never close.

use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $slug:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The number on the wire.
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The code of this name.
            pub fn from_slug(slug: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.slug() == slug)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.slug())
            }
        }
    };
}

codes! {
    /// Why the server closes a connection.
    CloseCode {
        /// The server is shutting down.
        Draining = 4000 "draining",
        /// More was waiting for the client than the bound on its queue.
        SlowConsumer = 4001 "slow-consumer",
        /// Nothing came from the client for too long.
        Timeout = 4002 "timeout",
        /// The server has as many clients as it may.
        ServerFull = 4100 "server-full",
        /// The first message did not come in time.
        HelloTimeout = 4101 "hello-timeout",
        /// The WebTransport stream did not come in time.
        StreamTimeout = 4102 "stream-timeout",
        /// The client went on faster than it may, past all refusals.
        RateLimited = 4103 "rate-limited",
        /// The client's address has as many connections as it may.
        TooManyConnections = 4104 "too-many-connections",
        /// Who decides who may come in cannot be asked.
        Unavailable = 4105 "unavailable",
        /// A message was larger than the bound.
        TooLarge = 4200 "too-large",
        /// A newer connection took the session over.
        Replaced = 4201 "replaced",
        /// No token where one is needed, or none that is good.
        Unauthorized = 4202 "unauthorized",
        /// The token that the session was let in with has run out.
        TokenExpired = 4203 "token-expired",
        /// Whoever runs the server has ended the session.
        Removed = 4204 "removed",
    }
}

codes! {
    /// Why the server refuses one message.
    ErrorCode {
        /// It is not a message, or one that may not come here.
        BadMessage = 4300 "bad-message",
        /// Payload or metadata nest too deep.
        TooDeep = 4301 "too-deep",
        /// The room's name is empty, too long or has control characters.
        BadRoomName = 4302 "bad-room-name",
        /// Metadata larger than the bound.
        MetadataTooLarge = 4303 "metadata-too-large",
        /// No room was named, and the client is not in exactly one.
        RoomRequired = 4304 "room-required",
        /// The client is not in that room.
        NotInRoom = 4305 "not-in-room",
        /// The client is in that room already.
        AlreadyInRoom = 4306 "already-in-room",
        /// No peer with this id in a room that the client shares.
        NoSuchPeer = 4307 "no-such-peer",
        /// The client is in as many rooms as it may.
        TooManyRooms = 4308 "too-many-rooms",
        /// The room has as many peers, or as much metadata, as it may.
        RoomFull = 4309 "room-full",
        /// The server has as many rooms as it may.
        NoMoreRooms = 4310 "no-more-rooms",
        /// A peer that the message was for does not read and is being closed.
        Undeliverable = 4311 "undeliverable",
        /// The client sends faster than it may.
        RateLimited = 4312 "rate-limited",
        /// Another peer of the room has the name that the client wants. Only foreign dialects have names.
        NameTaken = 4313 "name-taken",
        /// The client may not do that here.
        Forbidden = 4314 "forbidden",
        /// The new token is not good; the one before still counts.
        Unauthorized = 4315 "unauthorized",
        /// Who decides whether the client may do that cannot be asked.
        Unavailable = 4316 "unavailable",
    }
}

impl CloseCode {
    /// May the client come back unchanged?
    pub const fn reconnect(self) -> bool {
        self.number() < 4200
    }

    /// How long a client had better wait before it comes back, in milliseconds.
    pub const fn reconnect_after_ms(self) -> u64 {
        match self.number() {
            ..4100 => 1_000,
            4100..4200 => 10_000,
            _ => 0,
        }
    }

    /// The sentence for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Draining => "the server is shutting down",
            Self::SlowConsumer => "more was waiting for you than may wait: read faster",
            Self::Timeout => "nothing came from you for too long",
            Self::ServerFull => "the server has as many clients as it may",
            Self::HelloTimeout => "your first message did not come in time",
            Self::StreamTimeout => "you did not open a bidirectional stream in time",
            Self::RateLimited => "you went on sending faster than you may",
            Self::TooManyConnections => "your address has as many connections as it may",
            Self::Unavailable => "nobody can be asked now whether you may come in",
            Self::Replaced => "a newer connection goes on with this session",
            Self::TooLarge => "a message was larger than this server takes",
            Self::Unauthorized => "this server does not let you in: you need a token that is good, or the application says no",
            Self::TokenExpired => "your token runs out, and the session with it: say a new one",
            Self::Removed => "whoever runs this server has ended your session",
        }
    }
}

impl ErrorCode {
    /// May the very same message succeed later?
    pub const fn retryable(self) -> bool {
        matches!(self, Self::TooManyRooms | Self::RoomFull | Self::NoMoreRooms | Self::RateLimited | Self::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the specification's table: slug, number, how it comes, whether to retry.
    fn specified() -> Vec<(String, u16, String, bool)> {
        include_str!("protocol.md")
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let number = cells.get(2)?.parse().ok()?;
                Some((cells[1].trim_matches('`').to_owned(), number, cells[3].to_owned(), cells[4] == "yes"))
            })
            .collect()
    }

    #[test]
    fn the_specification_lists_exactly_these_codes() {
        let closes = CloseCode::ALL.iter().map(|c| (c.slug().to_owned(), c.number(), "goodbye".to_owned(), c.reconnect()));
        let errors = ErrorCode::ALL.iter().map(|c| (c.slug().to_owned(), c.number(), "error".to_owned(), c.retryable()));
        assert_eq!(specified(), closes.chain(errors).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_keep_to_their_ranges() {
        assert!(CloseCode::ALL.iter().all(|code| (4000..4300).contains(&code.number())));
        assert!(ErrorCode::ALL.iter().all(|code| (4300..4400).contains(&code.number())));
    }
}
