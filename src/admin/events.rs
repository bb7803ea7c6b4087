//! One room live, as server-sent events (WHATWG HTML §9.2).
//!
//! The registry puts what happens into a queue, in between its commands, and never waits: an operator whose queue is full is cut off, and nobody else
//! notices. The first event says who is there, and all that follows is what happened since. Messages are only counted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::Addr;
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Bytes, Data},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tracing::debug;

use super::{Desk, Scissors, Watching, api, problem::Problem, query::Query};
use crate::{
    protocol::RoomId,
    registry::{
        RoomRegistry,
        command::{Unwatch, Watch},
        view::{RoomEvent, Tally, Watched, Watcher},
    },
};

/// Events that may wait for one who watches. The largest is one peer's metadata.
const QUEUE_EVENTS: usize = 256;
/// How often messages that were counted are told.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// After so many of those without a word a comment is sent, so that nobody between takes the connection for dead.
const SILENT_MAX: u32 = 15;

/// Where the registry puts what happens.
struct Feed {
    /// Gone once it was full.
    queue: Mutex<Option<mpsc::Sender<Bytes>>>,
    scissors: Option<Scissors>,
}

impl Watcher for Feed {
    fn tell(&self, event: &RoomEvent, peers: usize) {
        let (name, data) = match event {
            RoomEvent::Joined(member) => ("joined", json!({ "peers": peers, "peer": api::member(member) })),
            RoomEvent::Updated(member) => ("updated", json!({ "peers": peers, "peer": api::member(member) })),
            RoomEvent::Left(peer_id, reason) => {
                let reason = reason.map_or(Value::Null, |reason| reason.name().into());
                ("left", json!({ "peers": peers, "peerId": peer_id.to_string(), "reason": reason }))
            }
            RoomEvent::Closed => ("closed", json!({ "peers": peers })),
        };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = queue.as_ref().is_some_and(|queue| queue.try_send(spell(name, &data)).is_err());
        if is_full || matches!(event, RoomEvent::Closed) {
            *queue = None;
        }
        if is_full {
            debug!("one who watches a room does not read, and is cut off");
            if let Some(scissors) = &self.scissors {
                scissors.cut();
            }
        }
    }
}

fn spell(event: &str, data: &Value) -> Bytes {
    format!("event: {event}\ndata: {data}\n\n").into()
}

/// The live room, until it is empty, the server ends, or who watches goes or does not read.
pub async fn stream(request: &HttpRequest, desk: &Data<Desk>, room: RoomId, query: &Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit()?;
    let too_many = || Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-streams", "so many rooms cannot be watched at a time");
    let watching = desk.clone().into_inner().watch_one().ok_or_else(too_many)?;
    let (queue, events) = mpsc::channel(QUEUE_EVENTS);
    let scissors = request.conn_data::<Scissors>().cloned();
    let watcher: Arc<dyn Watcher> = Arc::new(Feed { queue: Some(queue).into(), scissors });
    // Before it begins: who asks may go while the registry is asked.
    let end = End { registry: desk.registry.clone(), room: room.clone(), watcher: watcher.clone(), _watching: watching };
    let watched = desk.registry.send(Watch { room, watcher, limit }).await.map_err(|_| Problem::gone())?;
    let Watched { room: view, members, tally } = watched.ok_or_else(Problem::no_such_room)?;
    let peers: Vec<Value> = members.items.iter().map(api::member).collect();
    let first = spell("room", &json!({ "room": api::room(&view), "peers": peers, "more": members.has_more }));
    let mut every = interval_at(Instant::now() + COUNTED_EVERY, COUNTED_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let counted = tally.counts();
    let live =
        Live { first: Some(first), events, tally, counted, told: counted, every, silent: 0, stopped: desk.stopped.clone(), _end: end };
    let body = stream::unfold(Some(live), |live| async { live?.next().await });
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(body))
}

struct Live {
    first: Option<Bytes>,
    events: mpsc::Receiver<Bytes>,
    tally: Arc<Tally>,
    /// The counts when the watching began, and those that were told last.
    counted: [u64; 4],
    told: [u64; 4],
    every: Interval,
    silent: u32,
    stopped: watch::Receiver<bool>,
    _end: End,
}

impl Live {
    /// What is to be sent next, and whether anything comes behind it.
    async fn next(mut self) -> Option<(Result<Bytes, actix_web::Error>, Option<Self>)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), Some(self)));
        }
        loop {
            let event = tokio::select! {
                biased;
                _ = self.stopped.wait_for(|stopped| *stopped) => return Some((Ok(spell("shutdown", &json!({}))), None)),
                event = self.events.recv() => Some(event?),
                _ = self.every.tick() => None,
            };
            if let Some(event) = event.or_else(|| self.tick()) {
                self.silent = 0;
                return Some((Ok(event), Some(self)));
            }
        }
    }

    /// What was said since it was told last, or a word to keep the connection alive.
    fn tick(&mut self) -> Option<Bytes> {
        let now = self.tally.counts();
        if now == self.told {
            self.silent += 1;
            return (self.silent >= SILENT_MAX).then(|| Bytes::from_static(b": still here\n\n"));
        }
        self.told = now;
        let counts = Tally::KINDS
            .iter()
            .zip(now.iter().zip(self.counted))
            .map(|(kind, (now, before))| (kind.name().to_owned(), (now - before).into()));
        Some(spell("messages", &json!({ "counts": counts.collect::<serde_json::Map<_, _>>() })))
    }
}

/// The end of the watching, however it comes.
struct End {
    registry: Addr<RoomRegistry>,
    room: RoomId,
    watcher: Arc<dyn Watcher>,
    _watching: Watching,
}

impl Drop for End {
    fn drop(&mut self) {
        self.registry.do_send(Unwatch { room: self.room.clone(), watcher: self.watcher.clone() });
    }
}
