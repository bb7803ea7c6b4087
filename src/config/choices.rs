//! Settings that are one of a few words.

use serde::{Deserialize, Serialize};

use super::value::word;

/// A dialect of clients that were written for other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignDialect {
    /// The rooms of the WebSocket tutorials.
    Classic,
    /// The tutorials' other way: each message goes to everybody.
    Lobby,
    /// The `peerjs` library.
    PeerJs,
    /// Socket.IO 4, over Engine.IO 4.
    SocketIo,
    /// WebTorrent's trackers.
    Tracker,
    /// The signaling of `y-webrtc`.
    YWebrtc,
    /// The signaling of `matchbox`.
    Matchbox,
}

impl ForeignDialect {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Classic, Self::Lobby, Self::PeerJs, Self::SocketIo, Self::Tracker, Self::YWebrtc, Self::Matchbox];

    /// The name in the settings and in the discovery document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Lobby => "lobby",
            Self::PeerJs => "peerjs",
            Self::SocketIo => "socket.io",
            Self::Tracker => "tracker",
            Self::YWebrtc => "y-webrtc",
            Self::Matchbox => "matchbox",
        }
    }
}

impl Serialize for ForeignDialect {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Whether rates are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rates {
    /// For everybody.
    On,
    /// Not at all: a client may send as fast as it is heard.
    Off,
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [("on", Self::On), ("off", Self::Off)])
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [("text", Self::Text), ("json", Self::Json)])
    }
}
