//! The Engine.IO door: one session over HTTP requests, over a WebSocket, first over the one and then over the other, or over
//! WebTransport.
//!
//! A session has one task, which hands what comes to whoever is behind the door and watches the silence. Its transports come and go beside it, on any
//! thread: they bring it messages and empty its outbox. The requests (`polling`) find it by its id in a table of those that have no WebSocket of
//! their own; an upgrade moves it to one (`websocket`).
//!
//! A client is probed every `timeouts.heartbeat_ms` (`pingInterval`), and gone after a silence of `timeouts.silence_ms` (`pingInterval` and
//! `pingTimeout` together). What a message means nothing here knows.

mod polling;
mod websocket;
pub mod webtransport;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::pending,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::Waker,
    time::Instant,
};

use serde_json::json;
use tokio::sync::{Notify, mpsc};

pub use self::{polling::answer, websocket::upgrade};
use super::{
    Doorkeeper, Place, Stopped,
    address::{Carried, Visit},
    converse,
};
use crate::{
    config::{Limits, Timeouts},
    dialect::{
        SocketIo,
        engineio::{Fault, Packet, Query},
    },
    metrics::{ConnectionMeter, DialectName, Door, Metrics},
    protocol::{ClientRates, CloseCode, LeaveReason, ResumeToken, framing::Frame},
    session::{
        connection::Ending,
        heartbeat::{Beat, Heartbeat},
        outbox::Outbox,
        throttle::Throttle,
    },
};

/// Where Socket.IO is spoken, with the slash at its end or without.
pub const PATH: &str = "/socket.io";

/// The sessions whose requests have to find them.
pub struct EngineIo {
    limits: Limits,
    timeouts: Timeouts,
    rates: Option<ClientRates>,
    metrics: Arc<Metrics>,
    /// Bounded as clients are: each has the place of one.
    sockets: Mutex<HashMap<String, Arc<Socket>>>,
}

/// One session, as its transports know it.
struct Socket {
    /// As hard to guess as any secret of ours: who knows it may speak for the client.
    sid: String,
    engine: Weak<EngineIo>,
    outbox: Arc<Outbox>,
    arrivals: mpsc::Sender<VecDeque<Frame>>,
    heartbeat: Mutex<Heartbeat>,
    /// How fast packets come that are no messages. Of those that are, whoever is behind the door takes care.
    throttle: Option<Mutex<Throttle>>,
    state: Mutex<State>,
    /// How the client's address counts it, once it is let in.
    visit: OnceLock<Arc<Visit>>,
    /// The session's task learns that it is over.
    over: Notify,
}

struct State {
    transport: Transport,
    /// Does a request wait for messages, or bring some?
    is_polled: bool,
    is_posted: bool,
    /// Wakes the request that waits.
    poll: Option<Waker>,
    /// Does that end now, even if there is nothing to say?
    is_let_go: bool,
}

/// Which transport empties the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// Requests.
    Polling,
    /// Requests, for as long as a WebSocket proves that it works.
    Probing,
    /// A WebSocket, or a stream of WebTransport.
    Stream,
    /// None any more.
    Ended(Stop),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The client closed it.
    Left,
    /// The client broke Engine.IO.
    Violation,
    /// The client broke a bound.
    Fault(CloseCode),
    /// The transport is gone.
    Gone,
}

/// What comes from the client, over whatever transport. Without it the session is over.
pub struct Incoming {
    socket: Arc<Socket>,
    arrivals: mpsc::Receiver<VecDeque<Frame>>,
}

/// RFC 6455 §7.4.1: a connection that has served its purpose, and one whose client broke the protocol.
const NORMAL_CLOSURE: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

impl EngineIo {
    /// No sessions yet. Of the limits only those for messages and outboxes are heeded. Without rates a client may send as fast as it can.
    pub fn new(limits: Limits, timeouts: Timeouts, rates: Option<ClientRates>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, timeouts, rates, metrics, sockets: Mutex::default() })
    }

    /// Is this the path of Socket.IO?
    pub fn is_at(path: &str) -> bool {
        path.strip_prefix(PATH).is_some_and(|rest| matches!(rest, "" | "/"))
    }

    fn sockets(&self) -> MutexGuard<'_, HashMap<String, Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that a request over this transport is for; none if it opens one. Judged in the order of engine.io 6 (`Server.verify`).
    fn find(&self, query: &Query<'_>, transport: &str, is_get: bool) -> Result<Option<Arc<Socket>>, Fault> {
        if !matches!(query.transport, Some("polling" | "websocket")) {
            return Err(Fault::UnknownTransport);
        }
        let is_other = query.transport != Some(transport);
        if let Some(sid) = query.sid {
            let socket = self.sockets().get(sid).cloned().ok_or(Fault::UnknownSession)?;
            return if is_other { Err(Fault::BadRequest) } else { Ok(Some(socket)) };
        }
        match query.version {
            _ if !is_get => Err(Fault::BadHandshakeMethod),
            _ if is_other => Err(Fault::BadRequest),
            Some("4") => Ok(None),
            _ => Err(Fault::UnsupportedVersion),
        }
    }

    fn open(self: &Arc<Self>, door: Door) -> (Arc<Socket>, Incoming) {
        let transport = if door == Door::Polling { Transport::Polling } else { Transport::Stream };
        // One batch at a time: whoever brings the next waits.
        let (sender, arrivals) = mpsc::channel(1);
        let now = Instant::now();
        let socket = Arc::new(Socket {
            sid: ResumeToken::random().hex().as_str().to_owned(),
            engine: Arc::downgrade(self),
            outbox: Outbox::new(ConnectionMeter::new(self.metrics.clone(), door, DialectName::SocketIo)),
            arrivals: sender,
            heartbeat: Heartbeat::steady(self.timeouts.heartbeat(), self.timeouts.silence(), now).into(),
            throttle: self.rates.map(|rates| Throttle::new(rates, now).into()),
            state: State { transport, is_polled: false, is_posted: false, poll: None, is_let_go: false }.into(),
            visit: OnceLock::new(),
            over: Notify::new(),
        });
        if transport == Transport::Polling {
            self.sockets().insert(socket.sid.clone(), socket.clone());
        }
        (socket.clone(), Incoming { socket, arrivals })
    }

    /// The first packet, which tells the client what it has to know.
    fn handshake(&self, socket: &Socket, upgrades: &[&str]) -> String {
        let Timeouts { heartbeat_ms, silence_ms, .. } = self.timeouts;
        let open = json!({
            "sid": socket.sid,
            "upgrades": upgrades,
            "pingInterval": heartbeat_ms,
            "pingTimeout": silence_ms - heartbeat_ms,
            "maxPayload": self.limits.message_bytes_max,
        });
        format!("0{open}")
    }

    /// Runs a session to its end: what comes is for `attend`.
    async fn run(&self, socket: Arc<Socket>, mut incoming: Incoming, attend: impl AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop) {
        let outbox = &socket.outbox;
        let mut over = pin!(async {
            outbox.over().await;
            tokio::time::sleep(self.timeouts.close()).await;
        });
        let stop = tokio::select! {
            biased;
            stop = attend(&mut incoming, outbox.clone()) => stop,
            () = &mut over => Stop::Gone,
            never = self.watch(&socket) => match never {},
        };
        // Nobody waits any longer to bring something. The session lasts, for as long as the client may fetch its goodbye.
        incoming.arrivals.close();
        match stop {
            Stop::Left => outbox.answer_close(Some(NORMAL_CLOSURE)),
            Stop::Violation => outbox.fail(PROTOCOL_ERROR),
            Stop::Gone => outbox.answer_close(None),
            // Whoever attended has said goodbye, and the client may still fetch it. One that is silent will not.
            Stop::Fault(CloseCode::Timeout) => {}
            Stop::Fault(_) => tokio::select! { () = over => {}, () = socket.over.notified() => {} },
        }
        socket.end(stop);
    }

    /// Probes the client, and gives it up after too long a silence. It may be one that is not heard, because it reads nothing.
    async fn watch(&self, socket: &Socket) -> Infallible {
        loop {
            let until = match socket.heartbeat().beat(Instant::now()) {
                Beat::Wait(until) => until,
                Beat::Probe(until) => {
                    socket.outbox.ping();
                    until
                }
                Beat::Dead => break,
            };
            tokio::time::sleep_until(until.into()).await;
        }
        socket.end(Stop::Fault(CloseCode::Timeout));
        tokio::time::sleep(self.timeouts.close()).await;
        socket.outbox.answer_close(None);
        pending().await
    }
}

impl Socket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heartbeat(&self) -> MutexGuard<'_, Heartbeat> {
        self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a sign of life.
    fn heard(&self) {
        self.heartbeat().heard(Instant::now());
        self.outbox.heard();
    }

    /// Brings messages, and waits until they are taken. What comes behind the end is dropped.
    async fn bring(&self, messages: VecDeque<Frame>) {
        if !messages.is_empty() {
            let _ = self.arrivals.send(messages).await;
        }
    }

    /// Deals with packets that came over a stream, and brings the messages among them. Ends the session where the client does, or breaks the protocol
    /// or a bound.
    async fn hear(&self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        if frames.is_empty() {
            return Ok(());
        }
        self.heard();
        let mut messages = VecDeque::with_capacity(frames.len());
        let mut outcome = Ok(());
        for frame in frames.drain(..) {
            match Packet::read(frame) {
                Some(Packet::Message(message)) => messages.push_back(message),
                Some(packet @ (Packet::Pong(_) | Packet::Upgrade | Packet::Noop)) => outcome = self.pace(&packet),
                Some(Packet::Close) => outcome = Err(Stop::Left),
                // Only the server probes.
                Some(Packet::Ping(_)) | None => outcome = Err(Stop::Violation),
            }
            if outcome.is_err() {
                break;
            }
        }
        self.bring(messages).await;
        if let Err(stop) = outcome {
            self.end(stop);
        }
        outcome
    }

    /// May a packet come so soon that is no message? No client of good will sends as many as messages.
    fn pace(&self, packet: &Packet) -> Result<(), Stop> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let bytes = match packet {
            Packet::Ping(data) | Packet::Pong(data) => data.len(),
            _ => 0,
        };
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.take(bytes, None, Instant::now()).map_err(|_| CloseCode::RateLimited.into())
    }

    /// Has this connection counted in place of the session, where addresses are counted.
    fn carried_by(&self, connection: Option<Arc<Visit>>) -> Option<Carried> {
        Some(self.visit.get()?.carried_by(connection?))
    }

    /// Goes from one transport to another, if it is at that one.
    fn change(&self, from: Transport, to: Transport) -> bool {
        let mut state = self.state();
        let is_there = state.transport == from;
        if is_there {
            state.transport = to;
            state.wake();
        }
        is_there
    }

    /// Ends the request that waits, if there is one.
    fn let_go(&self) {
        let mut state = self.state();
        state.is_let_go = state.poll.is_some();
        state.wake();
    }

    /// Ends the session, for the reason that comes first. From here on no request finds it.
    fn end(&self, stop: Stop) {
        if let Some(engine) = self.engine.upgrade() {
            engine.sockets().remove(&self.sid);
        }
        let mut state = self.state();
        if !matches!(state.transport, Transport::Ended(_)) {
            state.transport = Transport::Ended(stop);
            state.wake();
        }
        drop(state);
        // Nobody fetches what waits, so nobody is to wait until it is fetched.
        match stop {
            Stop::Left => self.outbox.answer_close(Some(NORMAL_CLOSURE)),
            Stop::Gone => self.outbox.answer_close(None),
            Stop::Violation | Stop::Fault(_) => {}
        }
        self.over.notify_one();
    }

    /// Why it has ended, if it has.
    fn ended(&self) -> Option<Stop> {
        match self.state().transport {
            Transport::Ended(stop) => Some(stop),
            _ => None,
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(poll) = self.poll.take() {
            poll.wake();
        }
    }
}

impl Incoming {
    /// Adds the next messages to `frames`, one or more; what came before the end is heard before it.
    pub async fn frames(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        tokio::select! {
            biased;
            Some(arrived) = self.arrivals.recv() => {
                frames.extend(arrived);
                Ok(())
            }
            () = self.socket.over.notified() => Err(self.socket.ended().unwrap_or(Stop::Gone)),
        }
    }
}

impl Drop for Incoming {
    /// Whatever became of the task, a panic too, its session does not stay.
    fn drop(&mut self) {
        if self.socket.ended().is_none() {
            self.socket.end(Stop::Gone);
        }
    }
}

impl Stopped for Stop {
    fn ending(&self) -> Ending {
        match self {
            Self::Left => Ending::Left,
            Self::Violation => Ending::Violation,
            Self::Fault(code) => Ending::Fault(*code),
            Self::Gone => Ending::Lost(LeaveReason::Disconnected),
        }
    }
}

impl From<CloseCode> for Stop {
    fn from(code: CloseCode) -> Self {
        Self::Fault(code)
    }
}

/// Opens a session of ours with the client's first messages and hands it all that follow.
pub fn attend(place: Place, doorkeeper: Arc<Doorkeeper>) -> impl AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop {
    async move |incoming: &mut Incoming, outbox: Arc<Outbox>| {
        let place = Arc::new(place);
        // Nobody else lets it in.
        let _ = incoming.socket.visit.set(place.visit.clone());
        let limits = &doorkeeper.limits;
        let connection = place.connection(Arc::new(SocketIo::new(limits.message_bytes_max)), outbox.clone());
        let entering = doorkeeper.enter(&place, connection, async |frames| incoming.frames(frames).await);
        let (line, mut frames) = match Box::pin(entering).await {
            Ok(entered) => entered,
            Err(stop) => return stop,
        };
        let hear = async |frames: &mut VecDeque<_>| line.hear(frames).await;
        let stop = converse(&mut frames, &outbox, limits.outbox_bytes_max / 2, hear, async |frames| incoming.frames(frames).await).await;
        let heard_at = incoming.socket.heartbeat().heard_at();
        line.ended(stop.ending(), heard_at);
        stop
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::Config;

    /// It stayed in the table for as long as the server ran, and its requests waited until their clients gave up.
    #[tokio::test]
    async fn a_session_whose_task_is_gone_is_over() {
        let Config { limits, timeouts, .. } = Config::default();
        let engine = EngineIo::new(limits, timeouts, None, Arc::default());
        for panics in [true, false] {
            let (socket, incoming) = engine.open(Door::Polling);
            assert_eq!(engine.sockets().len(), 1);
            let mut running = Box::pin(engine.run(socket.clone(), incoming, async |_, _| match panics {
                true => panic!("a bug, for the test"),
                false => pending().await,
            }));
            assert_eq!(AssertUnwindSafe(&mut running).catch_unwind().now_or_never().is_some_and(|ran| ran.is_err()), panics);
            drop(running);
            assert_eq!((engine.sockets().len(), socket.ended()), (0, Some(Stop::Gone)));
            assert!(socket.outbox.over().now_or_never().is_some());
        }
    }
}
