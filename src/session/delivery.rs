//! What is said to one client, by whomever: spelled in its dialect, numbered, kept until it is received, and queued for the connection.
//!
//! Other sessions and the registry come here directly, on their own threads, so a message passes no mailbox. The lock makes one line of
//! them all. Whoever holds it asks nothing of a room, of what the client says, or of another session; within it are only the locks of the outbox,
//! of what writes to a socket or a stream, and of the resumables.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use actix::Addr;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;

use super::{
    Session, SessionSettings,
    backlog::Backlog,
    outbox::{self, Outbox},
    replay::{COPIED_BYTES_MAX, NeverSent, Replay},
    resumable::{Detached, Forgotten, Resumables},
};
use crate::{
    dialect::{Dialect, Frames},
    metrics::{Metrics, Told},
    protocol::{
        CloseCode, Envelope, RoomId, ServerMessage,
        framing::{CowFrame, Frame, LentFrame},
    },
    registry::{
        command::{Answer, Deliver},
        drain::DrainWindow,
        inlet::{Inlet, Untaken},
        view::SessionView,
    },
};

/// A buffer that a large message has made larger than this is given back.
const KEPT_BYTES: usize = 64 * 1024;

/// The way to one client, over all of its connections.
pub struct Delivery {
    /// Told what only it can decide. It is this by which the actor lives on: nobody else has its address for good.
    session: Addr<Session>,
    backlog: Arc<Backlog>,
    /// How long others wait for this client when it is behind.
    slow_peer: Duration,
    saying: Mutex<Saying>,
}

struct Saying {
    /// How the latest connection spells, and what waits to be written to it: nothing while there is none.
    dialect: Arc<dyn Dialect>,
    outbox: Option<Arc<Outbox>>,
    replay: Replay,
    /// Was something promised that could not be taken after all? Then the session cannot be resumed.
    gap: bool,
    /// Bytes of the backlog that wait for the next connection.
    detached_bytes: usize,
    /// The leave to wait, held while there is no connection.
    detached: Option<Detached>,
}

impl Delivery {
    /// For a session that begins on this connection.
    pub fn new(session: Addr<Session>, settings: &SessionSettings, dialect: Arc<dyn Dialect>, outbox: Arc<Outbox>) -> Arc<Self> {
        let backlog = Backlog::new(settings.outbox_bytes_max, outbox.meter().metrics().clone());
        outbox.open(backlog.clone(), []);
        let replay = Replay::new(settings.replay);
        let saying = Saying { dialect, outbox: Some(outbox), replay, gap: false, detached_bytes: 0, detached: None };
        Arc::new(Self { session, backlog, slow_peer: settings.slow_peer, saying: saying.into() })
    }

    /// Who is told what only the session can decide.
    pub fn session(&self) -> &Addr<Session> {
        &self.session
    }

    /// What waits for the client.
    pub fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Where all that is said to clients is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.backlog.metrics()
    }

    /// Says something to this client alone. False if its dialect has no word for it.
    pub fn tell(&self, message: &ServerMessage) -> bool {
        let mut saying = self.saying();
        with_buffer(|buffer| {
            if let Some(frame) = saying.dialect.spell_into(message, buffer) {
                self.count(Told::of(message));
                self.say(&mut saying, lend(frame), None, None);
                return true;
            }
            let frames = saying.dialect.spell(message);
            self.say_all(&mut saying, Told::of(message), frames)
        })
    }

    /// Says something that is spelled already.
    pub fn tell_frames(&self, frames: Frames) {
        self.say_all(&mut self.saying(), Told::Foreign, frames);
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.saying().replay.sent()
    }

    /// Forgets what the client has received.
    pub fn acknowledge(&self, received: u64) -> Result<(), NeverSent> {
        let mut saying = self.saying();
        let kept = saying.replay.bytes();
        let outcome = saying.replay.acknowledge(received);
        self.count_kept(kept, &saying);
        outcome
    }

    /// How the latest connection spells.
    pub fn dialect(&self) -> Arc<dyn Dialect> {
        self.saying().dialect.clone()
    }

    /// Bytes that wait to be written, on this connection or on the next.
    pub fn waiting_bytes(&self) -> usize {
        self.backlog.waiting()
    }

    /// Is there a connection?
    pub fn has_connection(&self) -> bool {
        self.saying().outbox.is_some()
    }

    /// How to say the last word on the connection, if there is one.
    pub fn connection(&self) -> Option<(Arc<Outbox>, Arc<dyn Dialect>)> {
        let saying = self.saying();
        saying.outbox.clone().map(|outbox| (outbox, saying.dialect.clone()))
    }

    /// As the backlog knows it.
    pub fn is_closed(&self) -> bool {
        self.backlog.is_closed()
    }

    /// Takes nothing ever again; whether it did before.
    pub fn close(&self) -> bool {
        // Under the lock, so that nobody is in the middle of something.
        let _saying = self.saying();
        self.backlog.close()
    }

    /// Was something not taken, on this connection?
    pub fn has_overflowed(&self) -> bool {
        self.backlog.has_overflowed()
    }

    /// Lets go of the connection; what it has not written waits for the next one. False if there is no leave to wait, or no point in it.
    pub fn detach(&self, resumables: &Arc<Resumables>) -> bool {
        let mut saying = self.saying();
        if saying.gap || self.is_closed() {
            return false;
        }
        let session = self.session.clone();
        saying.detached = resumables.detach(saying.replay.bytes(), move |forgotten| session.do_send(forgotten));
        if saying.detached.is_some() {
            saying.replay.shrink();
            saying.abandon();
            self.backlog.reopen();
            self.backlog.let_go();
        }
        saying.detached.is_some()
    }

    /// Goes on over another connection: with its welcome, and then all that was sent after the first `received` messages. The connection before is
    /// closed, if there is one. False if something that the client missed is no longer known, or the session is at its end.
    pub fn attach(&self, dialect: Arc<dyn Dialect>, outbox: Arc<Outbox>, received: u64, welcome: &ServerMessage) -> bool {
        let mut saying = self.saying();
        if let Some(outbox) = &saying.outbox {
            outbox.close(CloseCode::Replaced, saying.dialect.spell(&ServerMessage::goodbye(CloseCode::Replaced)).into_last());
        }
        saying.abandon();
        if saying.gap || self.is_closed() {
            return false;
        }
        let Some(missed) = saying.replay.after(received) else { return false };
        let missed: Vec<Frame> = missed.into_iter().map(|frame| dialect.respell(frame)).collect();
        outbox.open(self.backlog.clone(), dialect.spell(welcome).into_last().into_iter().chain(missed));
        self.backlog.release(std::mem::take(&mut saying.detached_bytes));
        self.backlog.reopen();
        let kept = saying.replay.bytes();
        saying.replay.acknowledge(received).expect("it was sent, or nothing could have been missed");
        self.count_kept(kept, &saying);
        self.metrics().delivered(Told::Welcome);
        (saying.dialect, saying.outbox, saying.detached) = (dialect, Some(outbox), None);
        true
    }

    /// Is it this session that has to make room for others?
    pub fn is_meant(&self, forgotten: &Forgotten) -> bool {
        self.saying().detached.as_ref().is_some_and(|detached| detached.is_meant(forgotten))
    }

    /// Says a message that counts as this. False if the dialect has no word for it.
    fn say_all(&self, saying: &mut Saying, told: Told, frames: Frames) -> bool {
        let is_said = !frames.as_slice().is_empty();
        if is_said {
            self.count(told);
        }
        frames.into_iter().for_each(|frame| self.say(saying, frame.into(), None, None));
        is_said
    }

    /// Keeps a message until the client has it, and queues it for the connection if there is one.
    fn say(&self, saying: &mut Saying, frame: CowFrame<'_>, alone: Option<Instant>, heard_at: Option<Instant>) {
        let before = saying.replay.bytes();
        // First of all: in the outbox the frame may have another owner, and then it is not copied.
        saying.replay.keep(&frame);
        let fits = match &saying.outbox {
            Some(outbox) => outbox.push(frame, alone, heard_at),
            None => {
                let bytes = outbox::weight_of(frame.lend().bytes().len());
                let fits = self.backlog.add(bytes);
                saying.detached_bytes += if fits { bytes } else { 0 };
                fits
            }
        };
        saying.gap |= !fits;
        let excess = self.backlog.excess();
        saying.replay.bound(excess);
        self.count_kept(before, saying);
        let kept = saying.replay.bytes();
        if let Some(detached) = &mut saying.detached {
            detached.resize(kept);
        }
        if !fits || excess > 0 {
            self.overflow(saying);
        }
    }

    /// Tells the session once that its client does not read.
    fn overflow(&self, saying: &Saying) {
        if self.backlog.overflow() {
            if let Some(outbox) = &saying.outbox {
                outbox.hold();
            }
            self.session.do_send(Deliver::Overflowed);
        }
    }

    /// Counts what the client is told.
    fn count(&self, told: Told) {
        if !self.is_closed() {
            self.metrics().delivered(told);
        }
    }

    fn deliver_all(&self, saying: &mut Saying, envelope: &Envelope) -> Result<(), Untaken> {
        let mut frames = match saying.dialect.encode(envelope) {
            Frames::One(frame) => return self.deliver_one(saying, frame.into(), envelope),
            Frames::Several(frames) => frames,
        };
        let Some(last) = frames.pop() else { return Ok(()) };
        self.judge(saying, envelope, frames.iter().chain([&last]).map(outbox::weight).sum())?;
        self.count(Told::of(envelope.message()));
        frames.into_iter().for_each(|frame| self.say(saying, frame.into(), None, None));
        self.say(saying, last.into(), None, envelope.heard_at());
        Ok(())
    }

    fn deliver_one(&self, saying: &mut Saying, frame: CowFrame<'_>, envelope: &Envelope) -> Result<(), Untaken> {
        let bytes = outbox::weight_of(frame.lend().bytes().len());
        if envelope.is_best_effort() {
            // One that is too much is lost, as it may be.
            let outbox = saying.outbox.as_ref().filter(|_| self.backlog.has_room_to_spare_for(bytes));
            match outbox.is_some_and(|outbox| outbox.push(frame, envelope.heard_alone(), envelope.heard_at())) {
                true => self.metrics().delivered(Told::BestEffort),
                false => self.metrics().lost(),
            }
            return Ok(());
        }
        self.judge(saying, envelope, bytes)?;
        self.count(Told::of(envelope.message()));
        self.say(saying, frame, envelope.heard_alone(), envelope.heard_at());
        Ok(())
    }

    /// Is there room for so many bytes? News about who is in a room has no sender who could be told of its loss.
    fn judge(&self, saying: &Saying, envelope: &Envelope, bytes: usize) -> Result<(), Untaken> {
        if !envelope.is_presence() && !self.backlog.has_room_for(bytes) {
            self.overflow(saying);
            return Err(Untaken::Overflow);
        }
        Ok(())
    }

    fn count_kept(&self, before: usize, saying: &Saying) {
        let now = saying.replay.bytes();
        if now != before {
            self.metrics().kept(now as i64 - before as i64);
        }
    }

    fn saying(&self) -> MutexGuard<'_, Saying> {
        self.saying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let kept = self.saying().replay.bytes();
        self.metrics().kept(-(kept as i64));
    }
}

thread_local! {
    /// What is spelled for one client. Taken out while it is used.
    static SPELLED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer, empty.
fn with_buffer<T>(spell: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = SPELLED.take();
    buffer.clear();
    let spelled = spell(&mut buffer);
    if buffer.capacity() <= KEPT_BYTES {
        SPELLED.set(buffer);
    }
    spelled
}

/// As it is said: what is too long to be copied where it is kept has bytes of its own from the beginning.
fn lend(frame: LentFrame<'_>) -> CowFrame<'_> {
    match frame.bytes().len() {
        ..=COPIED_BYTES_MAX => frame.into(),
        _ => Frame::from(frame).into(),
    }
}

impl Saying {
    fn abandon(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            self.detached_bytes += outbox.abandon();
        }
    }
}

impl Inlet for Delivery {
    fn is_behind(&self) -> bool {
        // What waits for a client that is not there is not read the sooner if others wait as well.
        self.backlog.is_behind() && self.has_connection()
    }

    fn eased(&self) -> BoxFuture<'_, ()> {
        self.backlog.eased(self.slow_peer).boxed()
    }

    fn deliver(&self, envelope: &Envelope) -> Result<(), Untaken> {
        let mut saying = self.saying();
        if self.is_closed() {
            return Err(Untaken::Gone);
        }
        if envelope.is_for_one() {
            return with_buffer(|buffer| match saying.dialect.spell_into(envelope.message(), buffer) {
                Some(frame) => self.deliver_one(&mut saying, lend(frame), envelope),
                None => self.deliver_all(&mut saying, envelope),
            });
        }
        self.deliver_all(&mut saying, envelope)
    }

    fn challenge(&self) {
        self.session.do_send(Deliver::Challenged);
    }

    fn replace(&self) {
        self.session.do_send(Deliver::Replaced);
    }

    fn answer(&self, answer: Answer) {
        self.session.do_send(Deliver::Answer(answer));
    }

    fn drain(&self, window: DrainWindow) {
        self.session.do_send(Deliver::Drain(window));
    }

    fn remove(&self) {
        self.session.do_send(Deliver::Removed);
    }

    fn expel(&self, room: &RoomId) {
        self.session.do_send(Deliver::Expelled(room.clone()));
    }

    fn describe(&self) -> BoxFuture<'static, Option<SessionView>> {
        let (asked, told) = oneshot::channel();
        self.session.do_send(Deliver::Describe(asked));
        told.map(Result::ok).boxed()
    }
}
