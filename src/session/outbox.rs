//! What waits for one connection: filled on behalf of its session by whoever has something to say, emptied by its door, or past it while the door
//! waits: that is in `past_door`. What either writes together is in `departing`.
//!
//! The frames that wait count against the client's backlog until they are written. Nobody who fills it waits for the door, and a connection that cannot be
//! written to any more is given up by the door itself.

pub mod departing;
mod past_door;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{Either, select},
};

pub use self::past_door::{Shortcut, ShortcutInUse};
use super::{backlog::Backlog, postman::Post};
use crate::{
    metrics::{Closed, ConnectionMeter},
    protocol::{
        CloseCode,
        framing::{CowFrame, Frame},
    },
};

/// A queue of frames and the end of it. Shared by a session and one of its connections.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    /// Counted bytes of the frames that wait, those that are said again aside. Changed under the lock, and looked at without it.
    counted: AtomicUsize,
    /// Has the end been decided? Set under the lock, and looked at without it.
    has_end: AtomicBool,
    /// Does the door wait, and was it not woken since? What came meanwhile is the postman's, or held, or written already. Changed under the lock, and
    /// looked at without it.
    is_idle: AtomicBool,
    /// Has anything come from the client since it was last asked for a sign of life?
    is_alive: AtomicBool,
    meter: ConnectionMeter,
}

#[derive(Default)]
struct Waiting {
    /// What the bytes count against; none before there is a session.
    backlog: Option<Arc<Backlog>>,
    frames: VecDeque<Frame>,
    /// So many frames at the front are said again, and counted nowhere: they are no more than may be kept for that.
    again: usize,
    /// Counted bytes that are taken out and not yet written.
    in_flight: usize,
    /// Boxed, because most often there is nothing of it.
    aside: Option<Box<Aside>>,
    end: Option<End>,
    /// The task of the door.
    door: Option<Waker>,
    /// Are no more frames given out?
    is_held: bool,
    reader: Option<Waker>,
    /// The way past the door, and the post of the door's thread.
    shortcut: Option<(Arc<dyn Shortcut>, Arc<Post>)>,
    /// Is the postman on the way here?
    is_expected: bool,
    /// When the latest message came that came alone.
    alone_at: Option<Instant>,
    /// Those that are timed. Boxed as well.
    timed: Option<Box<Timed>>,
}

/// What may be there beside frames that wait.
#[derive(Default)]
struct Aside {
    ping: bool,
    /// The latest would be enough (RFC 6455 §5.5.3), but there are clients that count.
    pongs: VecDeque<Bytes>,
    /// Comes behind all frames, and is counted nowhere: there is only one.
    goodbye: Option<Frame>,
    /// What is left of messages that went past the door. Their weight is in flight.
    begun: Option<Bytes>,
    /// A task beside the door's that waits for the end.
    keeper: Option<Waker>,
}

/// Messages whose way to the client is timed.
#[derive(Default)]
struct Timed {
    /// How many frames were taken out since there was one.
    taken: u64,
    /// When each was heard, and how many frames are taken out when it is.
    heard: VecDeque<(u64, Instant)>,
}

/// What a frame costs while it waits: its bytes, and about as much memory as it takes beside them.
pub fn weight(frame: &Frame) -> usize {
    weight_of(frame.bytes().len())
}

/// The same for a frame of so many bytes.
pub fn weight_of(bytes: usize) -> usize {
    const OVERHEAD_BYTES: usize = 128;
    bytes + OVERHEAD_BYTES
}

/// Gives back the memory of a list that is empty, where it is more than the few messages take that most often come at once.
pub fn give_back<T>(list: &mut VecDeque<T>) {
    const KEPT: usize = 4;
    if list.capacity() > KEPT {
        *list = VecDeque::new();
    }
}

/// What the door is to write next.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// The rest of messages whose beginning was written past the door.
    Begun(Bytes),
    /// A message.
    Frame(Frame),
    /// A probe whether the client is alive.
    Ping,
    /// The answer to the client's own probe.
    Pong(Bytes),
    /// Nothing follows.
    End(End),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closes it, for this reason; its goodbye was the last frame.
    Close(CloseCode),
    /// The client closed it, or broke RFC 6455: the door answers with this WebSocket close code, if with any.
    Answer(Option<u16>),
}

/// So many of the client's probes are answered each, if they come faster than the answers go.
const PONGS_MAX: usize = 16;
/// RFC 6455 §7.4.1: a connection that has served its purpose.
const NORMAL_CLOSURE: u16 = 1000;

impl Outbox {
    /// Nothing waits on this connection, and there is no session yet.
    pub fn new(meter: ConnectionMeter) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            counted: 0.into(),
            has_end: false.into(),
            is_idle: false.into(),
            is_alive: false.into(),
            meter,
        })
    }

    /// What the connection counts as.
    pub fn meter(&self) -> &ConnectionMeter {
        &self.meter
    }

    /// Begins for a session: with what has to be said again, in front of everything else.
    pub fn open(&self, backlog: Arc<Backlog>, again: impl IntoIterator<Item = Frame>) {
        let mut waiting = self.waiting();
        waiting.backlog = Some(backlog);
        waiting.frames.extend(again);
        waiting.again = waiting.frames.len();
        self.wake(&mut waiting);
    }

    /// Puts a frame behind the others, where it counts as waiting. False past the bound of that: then it is dropped. What comes after the end is dropped
    /// as well. If the door has nothing to do, it is written past it: by the postman, or at once if it came `alone`, unless another did just before, and
    /// then it counts only if something is left of it. How long it takes from when it was heard is measured, if that is told.
    #[must_use]
    pub fn push<'a>(self: &Arc<Self>, frame: impl Into<CowFrame<'a>>, alone: Option<Instant>, heard_at: Option<Instant>) -> bool {
        let frame = frame.into();
        let mut waiting = self.waiting();
        if waiting.end.is_some() {
            return true;
        }
        let is_free = self.is_idle() && !waiting.is_expected && !waiting.is_held;
        let is_lonely = alone.is_some_and(|now| waiting.is_lonely(now));
        let is_for_us = |shortcut: &dyn Shortcut, post: &Post| shortcut.is_for_all() || post.is_here();
        if let Some(way) = waiting.shortcut.take_if(|(shortcut, post)| is_free && is_lonely && is_for_us(&**shortcut, post)) {
            self.push_past_door(&mut waiting, &*way.0, frame.lend(), heard_at);
            waiting.shortcut = Some(way);
            return true;
        }
        if !self.add(&mut waiting, frame.into(), heard_at) {
            return false;
        }
        if is_free {
            match &waiting.shortcut {
                Some((_, post)) if post.call(self) => waiting.is_expected = true,
                _ => self.wake(&mut waiting),
            }
        }
        true
    }

    /// Gives out no more frames, for their client is about to be told that it reads too little: what it has read by then is not left to chance.
    pub fn hold(&self) {
        self.waiting().is_held = true;
    }

    /// Do more than `bytes` wait to be taken out by the door? Once the end has been decided it does not matter any more.
    pub fn has_more_than(&self, bytes: usize) -> bool {
        self.counted.load(Ordering::Relaxed) > bytes && !self.has_end.load(Ordering::Acquire)
    }

    /// Waits until at most `bytes` wait to be taken out by the door, or the end has been decided: who does not read the answers has to wait
    /// with more questions.
    pub async fn at_most(&self, bytes: usize) {
        poll_fn(|cx| {
            if !self.has_more_than(bytes) {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting();
            if !self.has_more_than(bytes) {
                return Poll::Ready(());
            }
            waiting.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Gives the connection up, and with it what it has not written: so many bytes, which the caller releases. Only a goodbye still goes out.
    pub fn abandon(&self) -> usize {
        let mut waiting = self.waiting();
        waiting.drop_frames();
        let bytes = self.counted.swap(0, Ordering::Relaxed) + std::mem::take(&mut waiting.in_flight);
        waiting.backlog = None;
        bytes
    }

    /// Asks the door to probe the client.
    pub fn ping(&self) {
        let mut waiting = self.waiting();
        waiting.aside().ping = true;
        self.wake(&mut waiting);
    }

    /// Asks the door to probe the client, to see soon whether it is alive.
    pub fn challenge(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
        self.ping();
    }

    /// The door has heard the client.
    pub fn heard(&self) {
        self.is_alive.store(true, Ordering::Relaxed);
    }

    /// Has the client been heard since it was challenged?
    pub fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    /// Asks the door to answer the client's probe. Of more than a few that wait only the latest are answered.
    pub fn pong(&self, data: Bytes) {
        let mut waiting = self.waiting();
        let pongs = &mut waiting.aside().pongs;
        if pongs.len() == PONGS_MAX {
            pongs.pop_front();
        }
        pongs.push_back(data);
        self.wake(&mut waiting);
    }

    /// Ends the connection behind what waits, with a goodbye. For who does not read, or is told the rest elsewhere, what waits is dropped.
    pub fn close(&self, code: CloseCode, goodbye: Option<Frame>) {
        let mut waiting = self.waiting();
        if waiting.end.is_none() {
            if matches!(code, CloseCode::SlowConsumer | CloseCode::Replaced) {
                waiting.drop_frames();
            }
            if goodbye.is_some() {
                waiting.aside().goodbye = goodbye;
            }
            self.meter.metrics().closed_with(code);
            self.end(&mut waiting, End::Close(code));
        }
    }

    /// Ends the connection because the client did. What waits is dropped: nobody reads it.
    pub fn answer_close(&self, code: Option<u16>) {
        let mut waiting = self.waiting();
        if waiting.end.is_none() {
            waiting.drop_frames();
            self.end(&mut waiting, End::Answer(code));
        }
    }

    /// Ends the connection because the client broke the door's protocol. It still reads, so what was said before comes before.
    pub fn fail(&self, code: u16) {
        self.give_up(Closed::Violation, code);
    }

    /// Ends the connection behind what waits, as a client of another server knows it: without a code of ours.
    pub fn hang_up(&self) {
        self.give_up(Closed::Refused, NORMAL_CLOSURE);
    }

    fn give_up(&self, why: Closed, code: u16) {
        let mut waiting = self.waiting();
        if waiting.end.is_none() {
            self.meter.metrics().closed(why);
            self.end(&mut waiting, End::Answer(Some(code)));
        }
    }

    /// Does the door wait, and was it not woken since?
    fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    /// Runs what writes, and what waits for the end, beside others in the door's task: they are polled only if there is something to write or the end has
    /// been decided since they wait for that, whatever the task is woken for. What the first of them tells.
    pub async fn run_unless_idle<W, O>(
        &self,
        writing: impl Future<Output = W> + Unpin,
        overdue: impl Future<Output = O> + Unpin,
    ) -> Either<W, O> {
        // Not by `select!`, which polls nothing once the task has done as much as it may in a turn.
        let mut first = select(writing, overdue);
        {
            // Another may have waited before, and it is not that one which is to be woken.
            let _waiting = self.waiting();
            self.is_idle.store(false, Ordering::Release);
        }
        let first = poll_fn(|cx| if self.is_idle() { Poll::Pending } else { first.poll_unpin(cx) }).await;
        match first {
            Either::Left((told, _)) => Either::Left(told),
            Either::Right((told, _)) => Either::Right(told),
        }
    }

    /// Waits until there is something to write, then gives out all that there is, one after another, as long as `write` wants more. After
    /// [`Outgoing::End`] it is not to be called again.
    pub async fn take(&self, mut write: impl FnMut(Outgoing) -> bool) {
        poll_fn(|cx| self.poll_take(cx, &mut write)).await;
    }

    /// The same, for a door that has to hold something of its own meanwhile.
    pub fn poll_take(&self, cx: &mut Context<'_>, mut write: impl FnMut(Outgoing) -> bool) -> Poll<()> {
        let mut waiting = self.waiting();
        let Some(mut outgoing) = self.pop(&mut waiting) else {
            waiting.note_door(cx);
            self.is_idle.store(true, Ordering::Release);
            return Poll::Pending;
        };
        self.is_idle.store(false, Ordering::Release);
        loop {
            let is_last = matches!(outgoing, Outgoing::End(_));
            if !write(outgoing) || is_last {
                return Poll::Ready(());
            }
            match self.pop(&mut waiting) {
                Some(next) => outgoing = next,
                None => return Poll::Ready(()),
            }
        }
    }

    /// Waits until the end has been decided, whether or not all before it is written, and tells it.
    pub async fn ended(&self) -> End {
        let mut is_noted = false;
        poll_fn(|cx| {
            if is_noted && !self.has_end.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            let mut waiting = self.waiting();
            // The door polls this beside `take` in one task, so the one waker serves both.
            waiting.note_door(cx);
            is_noted = true;
            waiting.end.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The same, for another task than the door's.
    pub async fn over(&self) -> End {
        poll_fn(|cx| {
            let mut waiting = self.waiting();
            waiting.aside().keeper = Some(cx.waker().clone());
            waiting.end.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Says that all that was taken out so far is written and waits no more.
    pub fn written(&self) {
        self.count_written(&mut self.waiting());
    }

    fn count_written(&self, waiting: &mut Waiting) {
        let bytes = std::mem::take(&mut waiting.in_flight);
        waiting.release(bytes);
        if waiting.timed.as_mut().is_some_and(|timed| timed.written(|heard_at| self.meter.metrics().took(heard_at.elapsed()))) {
            waiting.timed = None;
        }
    }

    fn end(&self, waiting: &mut Waiting, end: End) {
        waiting.end = Some(end);
        self.has_end.store(true, Ordering::Release);
        self.wake(waiting);
    }

    fn wake(&self, waiting: &mut Waiting) {
        // A door that is busy writing looks for more by itself, but wants to know of the end.
        if let Some(door) = waiting.door.as_ref().filter(|_| self.is_idle() || waiting.end.is_some()) {
            self.is_idle.store(false, Ordering::Release);
            door.wake_by_ref();
        }
        if waiting.end.is_some() {
            let keeper = waiting.aside.as_mut().and_then(|aside| aside.keeper.take());
            [waiting.reader.take(), keeper].into_iter().flatten().for_each(Waker::wake);
        }
    }

    fn pop(&self, waiting: &mut Waiting) -> Option<Outgoing> {
        let outgoing = waiting.pop(|bytes| {
            self.counted.fetch_sub(bytes, Ordering::Relaxed);
        });
        if let Some(Outgoing::Frame(frame)) = &outgoing {
            self.count_sent(frame.bytes().len());
        }
        outgoing
    }

    /// False if no more may wait.
    fn add(&self, waiting: &mut Waiting, frame: Frame, heard_at: Option<Instant>) -> bool {
        let bytes = weight(&frame);
        let fits = waiting.count(bytes);
        if fits {
            waiting.note_heard(heard_at);
            self.counted.fetch_add(bytes, Ordering::Relaxed);
            waiting.frames.push_back(frame);
        }
        fits
    }

    fn count_sent(&self, bytes: usize) {
        self.meter.metrics().sent(self.meter.door(), bytes);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Counts bytes as waiting. False past the bound of that.
    fn count(&self, bytes: usize) -> bool {
        self.backlog.as_ref().is_none_or(|backlog| backlog.add(bytes))
    }

    fn release(&self, bytes: usize) {
        if let Some(backlog) = &self.backlog {
            backlog.release(bytes);
        }
    }

    fn pop(&mut self, uncount: impl FnOnce(usize)) -> Option<Outgoing> {
        if let Some(urgent) = self.aside.as_mut().and_then(|aside| aside.pop_urgent()) {
            return Some(urgent);
        }
        if self.is_held && self.end.is_none() {
            return None;
        }
        if let Some(frame) = self.frames.pop_front() {
            if self.again > 0 {
                self.again -= 1;
                self.count_taken();
            } else {
                uncount(weight(&frame));
                self.take_out(&frame);
                // It looks for itself whether that is enough.
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
            }
            return Some(Outgoing::Frame(frame));
        }
        give_back(&mut self.frames);
        if let Some(aside) = &mut self.aside {
            if let Some(goodbye) = aside.goodbye.take() {
                return Some(Outgoing::Frame(goodbye));
            }
            if aside.keeper.is_some() {
                give_back(&mut aside.pongs);
            } else {
                self.aside = None;
            }
        }
        self.end.map(Outgoing::End)
    }

    /// Counts a frame as on its way.
    fn take_out(&mut self, frame: &Frame) {
        self.in_flight += weight(frame);
        self.count_taken();
    }

    /// Notes when the frame behind all that wait was heard, if it is timed.
    fn note_heard(&mut self, heard_at: Option<Instant>) {
        if let Some(heard_at) = heard_at {
            let ahead = self.frames.len() as u64;
            let timed = self.timed.get_or_insert_default();
            timed.heard.push_back((timed.taken + ahead + 1, heard_at));
        }
    }

    fn count_taken(&mut self) {
        if let Some(timed) = &mut self.timed {
            timed.taken += 1;
        }
    }

    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// Is there a rest of what went past the door?
    fn is_begun(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.begun.is_some())
    }

    /// They go on to count, for the session may keep them for its next connection.
    fn drop_frames(&mut self) {
        self.frames = VecDeque::new();
        self.again = 0;
        if let Some(timed) = &mut self.timed {
            timed.heard.retain(|(at, _)| *at <= timed.taken);
        }
    }

    fn note_door(&mut self, cx: &Context<'_>) {
        if !self.door.as_ref().is_some_and(|door| door.will_wake(cx.waker())) {
            self.door = Some(cx.waker().clone());
        }
    }
}

impl Aside {
    /// What comes in front of frames that wait.
    fn pop_urgent(&mut self) -> Option<Outgoing> {
        if let Some(rest) = self.begun.take() {
            return Some(Outgoing::Begun(rest));
        }
        if std::mem::take(&mut self.ping) {
            return Some(Outgoing::Ping);
        }
        self.pongs.pop_front().map(Outgoing::Pong)
    }
}

impl Timed {
    /// Tells when those were heard that are written, now that all are that were taken out. Are there no others?
    fn written(&mut self, tell: impl Fn(Instant)) -> bool {
        while let Some((_, heard_at)) = self.heard.front().filter(|(at, _)| *at <= self.taken) {
            tell(*heard_at);
            self.heard.pop_front();
        }
        self.heard.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::metrics::{DialectName, Door};

    pub(super) fn frame(text: &'static str) -> Frame {
        Frame::Text(Bytes::from_static(text.as_bytes()))
    }

    pub(super) fn outbox() -> Arc<Outbox> {
        Outbox::new(ConnectionMeter::new(Arc::default(), Door::WebSocket, DialectName::Native))
    }

    pub(super) fn opened() -> Arc<Outbox> {
        let outbox = outbox();
        outbox.open(Backlog::new(10_000, Arc::default()), []);
        outbox
    }

    pub(super) fn push(outbox: &Arc<Outbox>, text: &'static str) {
        assert!(outbox.push(frame(text), None, None), "there is room for it");
    }

    /// So many of what there is, at the most.
    fn taken(outbox: &Outbox, at_most: usize) -> Vec<Outgoing> {
        let mut taken = vec![];
        let write = |outgoing| {
            taken.push(outgoing);
            taken.len() < at_most
        };
        let _ = futures_util::FutureExt::now_or_never(outbox.take(write));
        taken
    }

    pub(super) fn all(outbox: &Outbox) -> Vec<Outgoing> {
        taken(outbox, usize::MAX)
    }

    #[test]
    fn frames_come_out_in_order_and_the_goodbye_last() {
        let outbox = opened();
        push(&outbox, "a");
        push(&outbox, "b");
        outbox.close(CloseCode::Draining, Some(frame("bye")));
        push(&outbox, "late");
        let expected = [
            Outgoing::Frame(frame("a")),
            Outgoing::Frame(frame("b")),
            Outgoing::Frame(frame("bye")),
            Outgoing::End(End::Close(CloseCode::Draining)),
        ];
        assert_eq!(all(&outbox), expected);
    }

    #[test]
    fn who_broke_the_rules_gets_what_was_said_before_and_who_closed_does_not() {
        for (failed, expected) in [(true, vec![Outgoing::Frame(frame("a"))]), (false, vec![])] {
            let outbox = opened();
            push(&outbox, "a");
            if failed {
                outbox.fail(1002)
            } else {
                outbox.answer_close(Some(1002))
            }
            push(&outbox, "late");
            assert_eq!(all(&outbox), [expected, vec![Outgoing::End(End::Answer(Some(1002)))]].concat());
        }
    }

    #[test]
    fn who_does_not_read_gets_only_the_goodbye() {
        let outbox = opened();
        push(&outbox, "full");
        outbox.close(CloseCode::SlowConsumer, Some(frame("bye")));
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("bye")), Outgoing::End(End::Close(CloseCode::SlowConsumer))]);
    }

    #[test]
    fn who_is_about_to_be_closed_for_not_reading_gets_nothing_more_until_then() {
        let outbox = opened();
        push(&outbox, "waits");
        outbox.hold();
        assert_eq!(all(&outbox), []);
        outbox.close(CloseCode::SlowConsumer, Some(frame("bye")));
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("bye")), Outgoing::End(End::Close(CloseCode::SlowConsumer))]);
    }

    /// A request of Engine.IO may have waited for something to write before its client moved to a WebSocket.
    #[test]
    fn what_writes_is_polled_until_it_waits_itself() {
        let (outbox, before, now) = (opened(), Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (before_waker, now_waker) = (before.clone().into(), now.clone().into());
        assert!(outbox.poll_take(&mut Context::from_waker(&before_waker), |_| true).is_pending());
        let mut polls = 0;
        let writing = poll_fn(|cx| {
            polls += 1;
            if polls == 1 { Poll::Pending } else { outbox.poll_take(cx, |_| true) }
        });
        let mut writing = Box::pin(outbox.run_unless_idle(writing, pending::<()>()));
        let mut cx = Context::from_waker(&now_waker);
        for _ in 0..4 {
            assert!(writing.as_mut().poll(&mut cx).is_pending());
        }
        outbox.ping();
        assert_eq!((before.count(), now.count()), (0, 1));
        assert!(writing.as_mut().poll(&mut cx).is_ready());
        drop(writing);
        assert_eq!(polls, 3, "not while it waits");
    }

    #[derive(Default)]
    pub(super) struct Wakes(AtomicUsize);

    impl Wakes {
        pub(super) fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn of_a_flood_of_pings_only_the_latest_are_answered() {
        let outbox = opened();
        for n in 0..100_u8 {
            outbox.pong(Bytes::copy_from_slice(&[n]));
        }
        let latest = (84..100).map(|n| Outgoing::Pong(Bytes::copy_from_slice(&[n])));
        assert_eq!(all(&outbox), latest.collect::<Vec<_>>());
    }

    #[test]
    fn what_is_said_again_is_not_counted_twice() {
        let backlog = Backlog::new(4 + 128, Arc::default());
        let outbox = outbox();
        outbox.open(backlog.clone(), [frame("again"), frame("and again")]);
        push(&outbox, "full");
        assert_eq!(taken(&outbox, 1), [Outgoing::Frame(frame("again"))]);
        outbox.written();
        assert!(!backlog.has_room_for(1), "what was written was not counted");
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("and again")), Outgoing::Frame(frame("full"))]);
        outbox.written();
        assert!(backlog.has_room_for(4 + 128));
    }

    #[test]
    fn who_abandons_a_connection_takes_over_its_count() {
        let backlog = Backlog::new(10 + 256, Arc::default());
        let outbox = outbox();
        outbox.open(backlog.clone(), [frame("again")]);
        push(&outbox, "abc");
        push(&outbox, "de");
        taken(&outbox, 2);
        // A door that finds its connection gone drops what it has before the session hears of it.
        outbox.answer_close(None);
        assert_eq!(outbox.abandon(), 5 + 256, "three bytes on their way and two that wait");
        outbox.written();
        assert_eq!(all(&outbox), [Outgoing::End(End::Answer(None))]);
        assert!(backlog.has_room_for(5) && !backlog.has_room_for(6), "nothing was released behind the back of the new owner");
    }

    #[test]
    fn a_goodbye_still_goes_out_over_a_connection_that_is_given_up() {
        let outbox = opened();
        push(&outbox, "a");
        outbox.abandon();
        outbox.close(CloseCode::Timeout, Some(frame("bye")));
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("bye")), Outgoing::End(End::Close(CloseCode::Timeout))]);
    }

    #[test]
    fn who_has_too_much_to_read_waits_until_it_is_written() {
        let outbox = opened();
        let waits = |bytes| futures_util::FutureExt::now_or_never(outbox.at_most(bytes)).is_none();
        push(&outbox, "abc");
        assert!(waits(130) && !waits(131));
        all(&outbox);
        assert!(!waits(0));
        push(&outbox, "abc");
        outbox.answer_close(None);
        assert!(!waits(0), "nobody waits for what is over");
    }
}
