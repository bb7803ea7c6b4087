//! Bytes in, bytes out: the doors, and the steps that all of them share.
//!
//! A door admits a client, waits for its first frame, opens a session, hands it frames one read at a time, and writes what the session's outbox
//! holds; others write past it while it has nothing to do. Doors know sockets and framing; what a frame means they do not know.

pub mod address;
mod allowance;
pub mod dialects;
pub mod engineio;
pub mod handshakes;
pub mod http;
pub mod listener;
mod logs;
pub mod origins;
mod places;
pub mod self_signed;
mod sessions;
pub mod slowdown;
pub mod tls;
pub mod websocket;
pub mod webtransport;

use std::{
    collections::VecDeque,
    future::Future,
    net::IpAddr,
    sync::{Arc, PoisonError},
    time::{Instant, SystemTime},
};

use tokio::{sync::oneshot, task::yield_now};
use tracing::info;

use self::{
    address::{Addresses, Visit},
    allowance::BATCH_FRAMES,
    slowdown::Slowdown,
};
pub use self::{
    places::{Clients, Place},
    sessions::Sessions,
};
use crate::{
    auth::{Authorize, Denied, Grant, Visitor, origin::Origins},
    config::{Limits, Timeouts},
    dialect::{Dialect, Heard},
    ice::{IceServers, Offer, TooMany},
    metrics::{ConnectionMeter, DialectName, Door, Metrics, ResumeOutcome, Said, TokenFailure},
    protocol::{
        ClientLimits, ClientMessage, CloseCode, LeaveReason, PeerId, Request, Resume, ResumeToken, RoomId, Token, Welcome,
        framing::{CowFrame, Frame},
    },
    session::{
        Session,
        admission::Admission,
        connection::{Attach, Attached, Connection, ConnectionId, Ended, Ending},
        delivery::Delivery,
        hearing::SharedHearing,
        ice::IceShare,
        outbox::{End, Outbox, give_back},
    },
};

/// What the application is told as the dialect of who asks by HTTP for ICE servers alone.
const ICE: &str = "ice";

/// What every door needs to let clients in.
pub struct Doorkeeper {
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub sessions: Sessions,
    pub clients: Arc<Clients>,
    pub addresses: Arc<Addresses>,
    /// Which pages may come in.
    pub origins: Origins,
    /// Who decides who may come in; missing where everybody may.
    pub authority: Option<Arc<dyn Authorize>>,
    pub slowdown: Arc<Slowdown>,
    /// What clients are told of STUN and TURN servers.
    pub ice: Arc<IceServers>,
    pub metrics: Arc<Metrics>,
}

/// Why somebody without a session is told of no ICE servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoIce {
    /// It may not come in.
    Refused(CloseCode),
    /// Its address has been told too often of late.
    TooMany(TooMany),
}

impl Doorkeeper {
    /// Counts a connection that is opened, for as long as this is kept.
    pub fn meter(&self, door: Door, dialect: &dyn Dialect) -> ConnectionMeter {
        let dialect = DialectName::named(dialect.name()).expect("every dialect is counted");
        ConnectionMeter::new(self.metrics.clone(), door, dialect)
    }

    /// Waits for a client's first frames and opens its session with them; what is left of them is for that. Who does not get in is turned away.
    pub async fn enter<Stop: Stopped>(
        &self,
        place: &Place,
        connection: Connection,
        first: impl AsyncFnOnce(&mut VecDeque<Frame>) -> Result<(), Stop>,
    ) -> Result<(Line, VecDeque<Frame>), Stop> {
        let entered = self.try_to_enter(place, &connection, first).await;
        if let Err(stop) = &entered
            && let Ending::Fault(code) = stop.ending()
        {
            connection.outbox.close(code, connection.dialect.spell(&self.clients.goodbye(code)).into_last());
        }
        entered
    }

    async fn try_to_enter<Stop: From<CloseCode>>(
        &self,
        place: &Place,
        connection: &Connection,
        first: impl AsyncFnOnce(&mut VecDeque<Frame>) -> Result<(), Stop>,
    ) -> Result<(Line, VecDeque<Frame>), Stop> {
        let mut frames = VecDeque::new();
        if connection.dialect.manners().speaks_first {
            self.first(place, first(&mut frames)).await??;
        }
        let line = self.open(place, connection, &mut frames).await?;
        Ok((line, frames))
    }

    /// The session of a client that has sent its first frames: the one that it resumes, or a new one on the thread that runs the
    /// connection. A frame that did nothing but resume is taken out. A client that is refused can only go on with a session that it has.
    async fn open(&self, place: &Place, connection: &Connection, frames: &mut VecDeque<Frame>) -> Result<Line, CloseCode> {
        if let Some(code) = place.refusal
            && !self.slowdown.delay(place.visit.address()).is_zero()
        {
            // There are few places for those who are refused, and none to wait in.
            return Err(code);
        }
        let peer_id = PeerId::random();
        let judged = match self.resume(place, connection, frames, peer_id).await? {
            Ok(line) => {
                frames.pop_front();
                logs::is_peer(line.hearing.lock().unwrap_or_else(PoisonError::into_inner).peer_id());
                return Ok(line);
            }
            Err(judged) => judged,
        };
        if let Some(code) = place.refusal {
            return Err(code);
        }
        let admission = match &self.authority {
            Some(authority) => {
                let visitor = self.visitor(place, connection, frames.front(), peer_id);
                let grant = match judged {
                    Some(grant) => grant,
                    None => self.judge(authority, &visitor).await?,
                };
                Some(Admission::new(authority.clone(), visitor, grant))
            }
            None => None,
        };
        logs::is_peer(peer_id);
        Ok(Line::new(self.begin(connection.clone(), peer_id, admission), ConnectionId::FIRST))
    }

    /// Who has come with this first frame.
    fn visitor(&self, place: &Place, connection: &Connection, first: Option<&Frame>, peer_id: PeerId) -> Visitor {
        let dialect = &connection.dialect;
        let token = match dialect.manners().says_token {
            true => first.and_then(|first| dialect.token(first.lend())).map(|Token(token)| token.into_owned()),
            false => place.token.clone(),
        };
        Visitor { token, peer_id, address: place.visit.client, dialect: dialect.name() }
    }

    /// May who says this token know who is in this room?
    pub async fn may_observe(&self, room: &RoomId, token: Option<String>, address: IpAddr, dialect: &'static str) -> bool {
        let Some(authority) = &self.authority else { return true };
        let visitor = Visitor { token, peer_id: PeerId::random(), address, dialect };
        let Ok(grant) = self.judge(authority, &visitor).await else { return false };
        let visitor = Visitor { token: None, ..visitor };
        let access = match grant.asks_about_rooms {
            true => authority.join(visitor, grant.user, room.name().to_owned()).await.ok(),
            false => grant.room(room.name()),
        };
        access.is_some_and(|access| access.rights.observe)
    }

    /// The ICE servers for who asks by HTTP, with this token: whoever could come in.
    pub async fn ice_servers(&self, token: Option<String>, visit: &Visit) -> Result<Offer, NoIce> {
        let stays_until = match &self.authority {
            Some(authority) => {
                let visitor = Visitor { token, peer_id: PeerId::random(), address: visit.client, dialect: ICE };
                self.judge(authority, &visitor).await.map_err(NoIce::Refused)?.expires_at
            }
            None => None,
        };
        self.ice.for_address(visit.address(), stays_until, SystemTime::now()).map_err(NoIce::TooMany)
    }

    /// What a client is granted, if it is let in, and otherwise why not, as far as it is told.
    async fn judge(&self, authority: &Arc<dyn Authorize>, visitor: &Visitor) -> Result<Grant, CloseCode> {
        let judged = authority.connect(visitor.clone()).await;
        let tell = |denied: &Denied| {
            self.metrics.token_failed(TokenFailure::named(denied.slug()));
            info!(address = %visitor.address, dialect = visitor.dialect, %denied, "a client is not let in");
        };
        judged.inspect_err(tell).map_err(|denied| match denied.is_unavailable() {
            true => CloseCode::Unavailable,
            false => CloseCode::Unauthorized,
        })
    }

    /// The line to the session that the first frame resumes, if there is such a session and it takes the connection; or else what its client is granted,
    /// where that is known by now.
    async fn resume(
        &self,
        place: &Place,
        connection: &Connection,
        frames: &VecDeque<Frame>,
        peer_id: PeerId,
    ) -> Result<Result<Line, Option<Grant>>, CloseCode> {
        // A frame is to be decoded once: some dialects note what they have heard.
        let Some(frame) = frames.front().filter(|_| connection.dialect.manners().resumes) else { return Ok(Err(None)) };
        let Ok(Heard::Request(request)) = connection.dialect.decode(frame.lend(), self.limits.nesting_max) else { return Ok(Err(None)) };
        let Request { id, message: ClientMessage::Hello { token: said, resume: Some(Resume { token, received }) } } = request else {
            return Ok(Err(None));
        };
        let address = place.visit.address();
        let _expected = token.and_then(|token| self.sessions.resumables().expect(token));
        let grant = match self.authority.as_ref().zip(said) {
            // Before the secret is used, so that a token that is no good costs nobody a session.
            Some((authority, _)) => {
                let judged = self.judge(authority, &self.visitor(place, connection, frames.front(), peer_id)).await;
                if judged.is_err() {
                    self.metrics.resumed(ResumeOutcome::Refused);
                }
                Some(judged.map_err(|code| place.refusal.unwrap_or(code))?)
            }
            None => {
                self.slowdown.over(address).await;
                None
            }
        };
        let Some((token, session)) = token.and_then(|token| Some((token, self.sessions.resumables().take(token)?))) else {
            self.metrics.resumed(ResumeOutcome::TooLate);
            self.slowdown.failed_to_resume(address);
            return Ok(Err(grant));
        };
        let has_place = match place.refusal {
            // A session that waits is counted for its address already, and where the server was full there may be a place by now.
            Some(CloseCode::TooManyConnections | CloseCode::ServerFull) => place.reserve(),
            refusal => refusal.is_none(),
        };
        let (attached, answer) = oneshot::channel();
        session.do_send(Attach { connection: connection.clone(), token, received, id, grant: grant.clone(), has_place, attached });
        let outbox = &connection.outbox;
        // A session that says nothing has ended meanwhile.
        let Attached { connection, hearing, place_before } = match answer.await.unwrap_or(Err(ResumeOutcome::TooLate)) {
            Ok(attached) => attached,
            Err(outcome) => {
                self.metrics.resumed(outcome);
                place.give_back();
                return Ok(Err(grant));
            }
        };
        self.metrics.resumed(ResumeOutcome::Succeeded);
        self.metrics.heard(outbox.meter().door(), frames.front().map_or(0, |first| first.bytes().len()), Some(Said::Hello));
        if let Some(before) = place_before.and_then(|before| before.downcast::<Place>().ok()) {
            place.take_over(&before);
        }
        Ok(Ok(Line::new(hearing, connection)))
    }

    fn begin(&self, connection: Connection, peer_id: PeerId, admission: Option<Admission>) -> SharedHearing {
        let limits = &self.limits;
        let now = SystemTime::now();
        let manners = connection.dialect.manners();
        let stays_until = admission.as_ref().and_then(|admission| admission.grant().expires_at);
        let offer = manners.takes_ice_servers.then(|| self.ice.for_session(peer_id, stays_until, now));
        let rates_max = self.sessions.rates();
        let rates = admission.as_ref().map_or(rates_max, |admission| admission.grant().rates.bound(rates_max));
        let welcome = Welcome {
            peer_id,
            resume_token: ResumeToken::random(),
            resumed: false,
            received: 0,
            ice_servers: offer.as_ref().map_or_else(IceServers::none, |offer| offer.servers.clone()),
            heartbeat_ms: self.timeouts.heartbeat_ms,
            resume_window_ms: self.timeouts.resume_window_ms,
            limits: ClientLimits {
                message_bytes: limits.message_bytes_max,
                rooms_per_client: limits.rooms_per_client_max,
                peers_per_room: limits.peers_per_room_max,
                metadata_bytes: limits.metadata_bytes_max,
                room_name_bytes: limits.room_name_bytes_max,
                nesting: limits.nesting_max,
                rates,
            },
        };
        let ice = offer.map(|offer| IceShare::new(self.ice.clone(), &offer, now));
        Session::open(welcome, self.sessions.shared(manners.resumes), connection, admission, ice)
    }

    /// Waits for a client's first frames, as long as it may take and the server takes clients.
    async fn first<T>(&self, place: &Place, frames: impl Future<Output = T>) -> Result<T, CloseCode> {
        let frames = place.wait(frames, self.timeouts.hello(), CloseCode::HelloTimeout);
        tokio::select! {
            frames = frames => frames,
            () = self.clients.drained() => Err(CloseCode::Draining),
        }
    }
}

/// Why a door hears nothing more from its client.
pub trait Stopped: From<CloseCode> {
    /// What it means for the session.
    fn ending(&self) -> Ending;
}

/// Hands frames over, in turn with reading the next, until reading ends: a client waits with more until what it sent is dealt with, and until
/// at most `answers_max` bytes wait to be written to it. `hear` leaves none; the list is lent, for a future would have room for it once more. `next` may
/// come with none, for what made it so is to be waited for: by `hear`, or until less waits to be written.
pub async fn converse<Stop>(
    frames: &mut VecDeque<Frame>,
    outbox: &Outbox,
    answers_max: usize,
    hear: impl AsyncFn(&mut VecDeque<Frame>),
    mut next: impl AsyncFnMut(&mut VecDeque<Frame>) -> Result<(), Stop>,
) -> Stop {
    loop {
        let is_flooded = frames.len() >= BATCH_FRAMES;
        hear(frames).await;
        if is_flooded {
            // Others of the thread have their turn, and above all those who write what was said. Who reads a socket sees to that as well; not every list
            // comes from one.
            yield_now().await;
        }
        debug_assert!(frames.is_empty(), "what is not heard would be lost");
        give_back(frames);
        outbox.at_most(answers_max).await;
        if let Err(stop) = next(frames).await {
            return stop;
        }
    }
}

/// Hears none of what was read at once.
pub fn keep<'a>(messages: &mut impl Iterator<Item = (CowFrame<'a>, bool)>, frames: &mut VecDeque<Frame>) -> bool {
    frames.extend(messages.map(|(message, _)| Frame::from(message)));
    true
}

/// Waits until the end of a connection has been decided and the client has had its time to hear of it.
pub async fn overdue(outbox: &Outbox, timeouts: &Timeouts) -> End {
    let end = outbox.ended().await;
    // Boxed, or it would have its room for as long as the connection lasts.
    Box::pin(tokio::time::sleep(timeouts.close())).await;
    end
}

/// A connection's line to its session. However the connection ends, the session learns of it.
pub struct Line {
    delivery: Arc<Delivery>,
    hearing: SharedHearing,
    connection: ConnectionId,
}

impl Line {
    fn new(hearing: SharedHearing, connection: ConnectionId) -> Self {
        let delivery = hearing.lock().unwrap_or_else(PoisonError::into_inner).delivery().clone();
        Self { delivery, hearing, connection }
    }

    /// Hands over frames and waits until they are dealt with: a flood slows its own socket.
    pub async fn hear(&self, frames: &mut VecDeque<Frame>) {
        let mut taken_up = None;
        let mut hear = || self.hearing.lock().unwrap_or_else(PoisonError::into_inner).hear(self.connection, frames, &mut taken_up);
        while let Some(pause) = hear() {
            pause.over().await;
        }
    }

    /// Hears messages where they were read, each with whether it came alone, and puts those that have to wait into `frames`. False if there is
    /// something to wait for without any.
    pub fn hear_at_once<'a>(&self, messages: impl Iterator<Item = (CowFrame<'a>, bool)>, frames: &mut VecDeque<Frame>) -> bool {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner).hear_at_once(self.connection, messages, frames)
    }

    /// Tells how the connection ended, and when the client was last heard. Only the first time counts.
    pub fn ended(&self, how: Ending, heard_at: Instant) {
        self.delivery.session().do_send(Ended { connection: self.connection, how, heard_at });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended(Ending::Lost(LeaveReason::Disconnected), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use actix::Actor as _;
    use futures_util::{
        FutureExt as _,
        future::{BoxFuture, ready},
    };

    use super::*;
    use crate::{
        auth::{Denied, RoomGrant, RoomPattern, failures::FailureLimits},
        config::Config,
        dialect::Native,
        protocol::{Codec, framing::LentFrame},
        registry::{RoomRegistry, rooms::RoomLimits},
        session::outbox::Outgoing,
    };

    struct Nobody;

    impl Authorize for Nobody {
        fn connect(&self, _: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
            ready(Err(Denied::new("nobody is let in"))).boxed()
        }
    }

    /// With default settings, and somebody who comes.
    fn doorkeeper() -> (Doorkeeper, Arc<Place>) {
        let Config { limits, timeouts, .. } = Config::default();
        let clients = Clients::new(9);
        let addresses = Addresses::new(None, vec![]);
        let failures = FailureLimits { free: 1, among_many_free: 1, delay_max: Duration::ZERO };
        let rooms = RoomLimits { quiet_peers_max: 9, rooms_max: 9, peers_max: 9, metadata_bytes_max: 9 };
        let sessions = Sessions::new(&limits, &timeouts, None, RoomRegistry::new(rooms, Arc::default()).start());
        let place = Arc::new(clients.admit(Arc::new(addresses.visit(ADDRESS, Instant::now()))).unwrap());
        let doorkeeper = Doorkeeper {
            limits,
            timeouts,
            sessions,
            clients: clients.clone(),
            addresses: addresses.clone(),
            origins: Origins::new(vec![]),
            authority: None,
            slowdown: Slowdown::new(failures, addresses, clients),
            ice: Arc::default(),
            metrics: Arc::default(),
        };
        (doorkeeper, place)
    }

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// What the door has to write.
    fn said(outbox: &Outbox) -> Vec<serde_json::Value> {
        let mut said = Vec::new();
        let take = |outgoing| {
            if let Outgoing::Frame(frame) = outgoing {
                said.push(serde_json::from_slice(frame.bytes()).unwrap());
            }
            true
        };
        outbox.take(take).now_or_never();
        said
    }

    #[actix::test]
    async fn what_comes_behind_a_join_waits_for_its_answer_and_what_comes_before_it_does_not() {
        let (doorkeeper, place) = doorkeeper();
        let outbox = Outbox::new(doorkeeper.meter(Door::WebSocket, &Native(Codec::Json)));
        let connection = place.connection(Native::shared(Codec::Json), outbox.clone());
        let line = Line::new(doorkeeper.begin(connection, PeerId::random(), None), ConnectionId::FIRST);
        line.hear(&mut [Frame::Text(r#"{"type":"hello"}"#.into())].into()).await;
        let kinds = |outbox: &Outbox| Vec::from_iter(said(outbox).iter().map(|said| format!("{} {}", said["type"], said["id"])));
        assert_eq!(kinds(&outbox), [r#""welcome" null"#]);
        let texts = [
            r#"{"type":"ping"}"#,
            r#"{"type":"join","room":"r","id":1}"#,
            r#"{"type":"message","payload":7,"id":2}"#,
            r#"{"type":"ping"}"#,
        ];
        let messages = texts.iter().map(|text| (LentFrame::Text(text.as_bytes()).into(), false));
        let mut frames = VecDeque::new();
        assert!(line.hear_at_once(messages, &mut frames), "there is nothing to wait for but with frames");
        assert_eq!((frames.len(), kinds(&outbox)), (2, vec![r#""pong" null"#.to_owned()]));
        line.hear(&mut frames).await;
        assert_eq!(kinds(&outbox), [r#""joined" null"#, r#""ack" 1"#, r#""ack" 2"#, r#""pong" null"#]);
        assert!(line.hear_at_once([(LentFrame::Text(texts[2].as_bytes()).into(), true)].into_iter(), &mut frames));
        assert_eq!((frames.len(), kinds(&outbox)), (0, vec![r#""ack" 2"#.to_owned()]));
    }

    /// Whether there is a room, and whether it is full, only the registry knows. A client that the room is not for is answered before that could have run,
    /// so neither the answer nor its time can tell.
    #[actix::test]
    async fn the_registry_is_not_asked_about_a_room_that_is_not_for_the_client() {
        let (doorkeeper, place) = doorkeeper();
        let granted = RoomGrant { rooms: RoomPattern::parse("granted"), rights: Default::default(), peers_max: None };
        let grant = Grant { rooms: Some([granted].into()), ..Grant::ALL };
        for (room, is_answered) in [("granted", false), ("other", true)] {
            let dialect = Arc::new(Native(Codec::Json));
            let outbox = Outbox::new(doorkeeper.meter(Door::WebSocket, &*dialect));
            let connection = place.connection(dialect, outbox.clone());
            let visitor = Visitor { token: None, peer_id: PeerId::random(), address: ADDRESS, dialect: "native" };
            let admission = Admission::new(Arc::new(Nobody), visitor, grant.clone());
            let hearing = doorkeeper.begin(connection, PeerId::random(), Some(admission));
            let join = Frame::Text(format!(r#"{{"type":"join","room":"{room}","id":7}}"#).into());
            hearing.lock().unwrap().hear(ConnectionId::FIRST, &mut [join].into(), &mut None);
            // No actor has had its turn on this thread, and there is no other.
            let said = said(&outbox);
            assert_eq!(said[0]["type"], "welcome");
            assert_eq!(said.len() == 2 && said[1]["code"] == "forbidden", is_answered, "{room}: {said:?}");
        }
    }
}
