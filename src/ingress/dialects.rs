//! Which foreign dialect is spoken where: by path, as far as it is switched on.

use std::sync::Arc;

use actix_web::http::StatusCode;

use crate::{
    config::{self, ForeignDialect, Limits},
    dialect::{Classic, Dialect, Matchbox, PEERJS, PeerJs, Tracker, YWebrtc},
    protocol::RoomId,
};

/// The foreign dialects of this server.
pub struct Dialects {
    on: Vec<ForeignDialect>,
    peerjs: config::PeerJs,
    /// Do clients have to say who they are?
    has_tokens: bool,
}

/// What the `peerjs` library, or who looks for its server, asks for without a WebSocket.
pub enum PeerJsRequest {
    /// What is here?
    About,
    /// The place of its WebSocket.
    Socket,
    /// An id that nobody has.
    Id,
    /// The ids of those who are in this room; none where it may not be asked.
    Peers(Option<RoomId>),
}

impl Dialects {
    /// These, and no others.
    pub fn new(on: Vec<ForeignDialect>, peerjs: config::PeerJs, has_tokens: bool) -> Self {
        Self { on, peerjs, has_tokens }
    }

    /// How a client speaks that asks for a WebSocket at this path, with this query.
    pub fn at(&self, path: &str, query: &str) -> Option<Arc<dyn Dialect>> {
        match path {
            "/" if self.has(ForeignDialect::Classic) || self.has(ForeignDialect::Lobby) => {
                Some(Arc::new(Classic::new(self.has(ForeignDialect::Classic), self.has(ForeignDialect::Lobby))))
            }
            path if matches!(self.peerjs(path), Some(PeerJsRequest::Socket)) => {
                Some(Arc::new(PeerJs::new(&self.peerjs.key, self.has_tokens, query)))
            }
            "/tracker" | "/announce" if self.has(ForeignDialect::Tracker) => Some(Arc::new(Tracker::default())),
            "/y" if self.has(ForeignDialect::YWebrtc) => Some(Arc::new(YWebrtc)),
            _ => Some(Arc::new(self.matchbox(path, query)?.ok()?)),
        }
    }

    /// The token that a client has in the address of its WebSocket, where clients have tokens.
    pub fn token(&self, path: &str, query: &str) -> Option<String> {
        if !self.has_tokens {
            return None;
        }
        match self.peerjs(path).filter(|_| self.matchbox(path, query).is_none()) {
            Some(PeerJsRequest::Id | PeerJsRequest::Peers(_)) => path.rsplit('/').nth(1).map(str::to_owned),
            Some(_) => PeerJs::token_in(&self.peerjs.key, query),
            None => form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, token)| token.into_owned()),
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
            _ => match self.matchbox(path, "")? {
                Ok(_) => Some((StatusCode::UPGRADE_REQUIRED, "this is a room of matchbox, over WebSocket\n")),
                Err(_) => Some((StatusCode::BAD_REQUEST, "this is no name of a room of matchbox\n")),
            },
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

    /// What is asked for at this path, if it is one of the `peerjs` library's.
    pub fn peerjs(&self, path: &str) -> Option<PeerJsRequest> {
        let config::PeerJs { path: folder, key, discovery } = &self.peerjs;
        let within = path.strip_prefix(folder.as_str()).filter(|_| self.has(ForeignDialect::PeerJs))?;
        match within {
            // There is a page of ours at the root.
            "" if folder != "/" => Some(PeerJsRequest::About),
            "peerjs" => Some(PeerJsRequest::Socket),
            _ => match within.strip_prefix(key.as_str()).filter(|rest| rest.starts_with('/')).or_else(|| self.behind_token(within))? {
                "/id" => Some(PeerJsRequest::Id),
                "/peers" => Some(PeerJsRequest::Peers(discovery.then(|| RoomId::parse_in(PEERJS, key, key.len())).flatten())),
                _ => None,
            },
        }
    }

    /// What stands behind a token that is in the place of the key.
    fn behind_token<'a>(&self, within: &'a str) -> Option<&'a str> {
        let end = within.find('/').filter(|_| self.has_tokens)?;
        let (token, rest) = within.split_at(end);
        (token.contains('.') && !rest[1..].contains('/')).then_some(rest)
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
