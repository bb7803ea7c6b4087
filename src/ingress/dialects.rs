//! Which foreign dialect is spoken where: by path, as far as it is switched on.

use std::sync::Arc;

use actix_web::http::StatusCode;

use crate::{
    config::{ForeignDialect, Limits},
    dialect::{Classic, Dialect, Matchbox, Tracker, YWebrtc},
};

/// The foreign dialects of this server.
pub struct Dialects {
    on: Vec<ForeignDialect>,
}

impl Dialects {
    /// These, and no others.
    pub fn new(on: Vec<ForeignDialect>) -> Self {
        Self { on }
    }

    /// How a client speaks that asks for a WebSocket at this path, with this query.
    pub fn at(&self, path: &str, query: &str) -> Option<Arc<dyn Dialect>> {
        match path {
            "/" if self.has(ForeignDialect::Classic) || self.has(ForeignDialect::Lobby) => {
                Some(Arc::new(Classic::new(self.has(ForeignDialect::Classic), self.has(ForeignDialect::Lobby))))
            }
            "/tracker" | "/announce" if self.has(ForeignDialect::Tracker) => Some(Arc::new(Tracker::default())),
            "/y" if self.has(ForeignDialect::YWebrtc) => Some(Arc::new(YWebrtc)),
            _ => Some(Arc::new(self.matchbox(path, query)?.ok()?)),
        }
    }

    /// What is at a path for who asks for no WebSocket there.
    pub fn page(&self, path: &str) -> Option<(StatusCode, &'static str)> {
        match path {
            "/tracker" | "/announce" if self.has(ForeignDialect::Tracker) => {
                Some((StatusCode::BAD_REQUEST, "this is a tracker for WebTorrent, over WebSocket\n"))
            }
            // As the server of the library answers whatever it is asked.
            "/y" if self.has(ForeignDialect::YWebrtc) => Some((StatusCode::OK, "okay")),
            _ => None,
        }
    }

    /// Why a client does not get a WebSocket where one of its dialect is, for a person.
    pub fn objection(&self, path: &str, query: &str, limits: &Limits) -> Option<String> {
        let matchbox = self.matchbox(path, query)?;
        matchbox.and_then(|matchbox| matchbox.check(limits.room_name_bytes_max, limits.peers_per_room_max)).err()
    }

    fn matchbox(&self, path: &str, query: &str) -> Option<Result<Matchbox, String>> {
        self.has(ForeignDialect::Matchbox).then(|| Matchbox::at(path, query))?
    }

    /// Their names, our own first.
    pub fn names(&self) -> Vec<&'static str> {
        ["native"].into_iter().chain(self.on.iter().map(|dialect| dialect.name())).collect()
    }

    /// Where clients of foreign dialects find theirs, a line each.
    pub fn paths(&self) -> String {
        let line = |dialect: &ForeignDialect| match dialect {
            ForeignDialect::Classic => "/                          WebSocket: rooms as the tutorials have them\n",
            ForeignDialect::Lobby => "/                          WebSocket: each message goes to everybody\n",
            ForeignDialect::PeerJs => "/peerjs                    WebSocket: PeerJS\n",
            ForeignDialect::SocketIo => "/socket.io/                Socket.IO\n",
            ForeignDialect::Tracker => "/tracker, /announce        WebSocket: a WebTorrent tracker\n",
            ForeignDialect::YWebrtc => "/y                         WebSocket: y-webrtc\n",
            ForeignDialect::Matchbox => "/matchbox/ROOM             WebSocket: matchbox\n",
        };
        self.on.iter().map(line).collect()
    }

    fn has(&self, dialect: ForeignDialect) -> bool {
        self.on.contains(&dialect)
    }
}
