//! Past the door: what comes while the door waits for something to write is written by who has it, or by the postman, who comes at the end of a
//! turn. What is left is for the door, and nothing overtakes what waits for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    Outbox, Outgoing, Waiting,
    departing::{WRITE_BYTES, with_buffer},
    weight_of,
};
use crate::{protocol::framing::LentFrame, session::postman::Post};

/// How messages are written past the door, by whoever has them.
pub trait Shortcut: Send + Sync {
    /// Puts a message behind what is in `out`, as it is written.
    fn spell(&self, frame: LentFrame<'_>, out: &mut BytesMut);

    /// Writes as much of this as the connection takes at once; so many bytes it was. Where it fails, the door will see why.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Is it for other threads than the door's as well? Not where they could have to wait for the connection.
    fn is_for_all(&self) -> bool;
}

/// As long as this is kept, messages are written past the door.
#[must_use]
pub struct ShortcutInUse(Arc<Outbox>);

impl Drop for ShortcutInUse {
    fn drop(&mut self) {
        self.0.waiting().shortcut = None;
    }
}

/// Messages that follow each other faster than this are better written together.
const BUSY: Duration = Duration::from_micros(50);

impl Outbox {
    /// Lets messages be written past the door, which is on this thread, to the end of the connection.
    pub fn use_shortcut(self: &Arc<Self>, shortcut: Arc<dyn Shortcut>) -> ShortcutInUse {
        self.waiting().shortcut = Some((shortcut, Post::here()));
        ShortcutInUse(self.clone())
    }

    /// Writes a frame before which there is nothing to write. Only what is left of it waits, for the door.
    pub(super) fn push_past_door(&self, waiting: &mut Waiting, shortcut: &dyn Shortcut, frame: LentFrame<'_>, heard_at: Option<Instant>) {
        debug_assert!(waiting.frames.is_empty() && !waiting.is_begun(), "it would overtake others");
        let bytes = frame.bytes().len();
        let rest = write_together(shortcut, |departing| shortcut.spell(frame, departing));
        self.count_sent(bytes);
        if rest.is_empty() {
            if let Some(heard_at) = heard_at {
                self.meter.metrics().took(heard_at.elapsed());
            }
            return;
        }
        waiting.note_heard(heard_at);
        waiting.count_taken();
        // Past the bound it is not refused any more, for its beginning is written.
        if waiting.count(weight_of(bytes)) {
            waiting.in_flight += weight_of(bytes);
        }
        waiting.aside().begun = Some(rest);
        self.wake(waiting);
    }

    /// The postman is here.
    pub(in crate::session) fn visit(&self) {
        let mut waiting = self.waiting();
        waiting.is_expected = false;
        if self.is_idle() && !waiting.is_held {
            self.write_past_door(&mut waiting);
        }
    }

    /// Nobody comes: the door has to see to it itself.
    pub(in crate::session) fn call_off(&self) {
        let mut waiting = self.waiting();
        waiting.is_expected = false;
        self.wake(&mut waiting);
    }

    /// Writes what there is, while the door waits for something to write; what is left is for the door.
    fn write_past_door(&self, waiting: &mut Waiting) {
        debug_assert!(waiting.end.is_none() && !waiting.is_begun(), "all but frames wakes the door");
        let shortcut = waiting.shortcut.take();
        let rest = shortcut.as_ref().map_or_else(Bytes::new, |(shortcut, _)| {
            write_together(&**shortcut, |departing| {
                while departing.len() < WRITE_BYTES
                    && let Some(Outgoing::Frame(frame)) = self.pop(waiting)
                {
                    shortcut.spell(frame.lend(), departing);
                }
            })
        });
        waiting.shortcut = shortcut;
        if rest.is_empty() {
            self.count_written(waiting);
        } else {
            waiting.aside().begun = Some(rest);
        }
        if waiting.is_begun() || !waiting.frames.is_empty() {
            self.wake(waiting);
        }
    }
}

/// Writes what `spell` spells, as far as it is taken at once; what is left of it.
fn write_together(shortcut: &dyn Shortcut, spell: impl FnOnce(&mut BytesMut)) -> Bytes {
    with_buffer(|departing| {
        spell(departing);
        let written = if departing.is_empty() { 0 } else { shortcut.write(departing) };
        if written == departing.len() { Bytes::new() } else { Bytes::copy_from_slice(&departing[written..]) }
    })
}

impl Waiting {
    /// Is a message that comes alone now likely to stay so? Many may send to one, each a message at a time.
    pub(super) fn is_lonely(&mut self, now: Instant) -> bool {
        let before = self.alone_at.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= BUSY)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        task::{Context, Waker},
        thread,
    };

    use super::{
        super::tests::{Wakes, all, frame, outbox, push},
        *,
    };
    use crate::session::backlog::Backlog;

    /// Takes so many bytes at once.
    struct Narrow(usize);

    impl Shortcut for Narrow {
        fn spell(&self, frame: LentFrame<'_>, out: &mut BytesMut) {
            out.extend_from_slice(frame.bytes());
        }

        fn write(&self, bytes: &[u8]) -> usize {
            self.0.min(bytes.len())
        }

        fn is_for_all(&self) -> bool {
            false
        }
    }

    /// One with a shortcut that takes so many bytes, and the backlog that its frames count against. Nobody comes there.
    fn with_shortcut(takes: usize) -> (Arc<Outbox>, Arc<Backlog>) {
        with_shortcut_and(&Arc::new(Post::new(None)), takes)
    }

    fn with_shortcut_and(post: &Arc<Post>, takes: usize) -> (Arc<Outbox>, Arc<Backlog>) {
        let (outbox, backlog) = (outbox(), Backlog::new(1_000, Arc::default()));
        outbox.open(backlog.clone(), []);
        outbox.waiting().shortcut = Some((Arc::new(Narrow(takes)), post.clone()));
        (outbox, backlog)
    }

    /// One that comes alone, and not just behind another.
    fn push_alone(outbox: &Arc<Outbox>, text: &'static str) {
        let before = outbox.waiting().alone_at;
        push_alone_at(outbox, text, before.map_or_else(Instant::now, |before| before + BUSY));
    }

    fn push_alone_at(outbox: &Arc<Outbox>, text: &'static str, at: Instant) {
        assert!(outbox.push(frame(text), Some(at), None), "there is room for it");
    }

    #[test]
    fn what_comes_alone_goes_past_a_door_that_waits_and_past_no_other() {
        let (outbox, backlog) = with_shortcut(usize::MAX);
        push_alone(&outbox, "before the door waits");
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("before the door waits"))]);
        push_alone(&outbox, "before it waits again");
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("before it waits again"))]);
        outbox.written();
        assert_eq!(all(&outbox), [], "now it waits");
        push_alone(&outbox, "past it");
        assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
        for first in ["ping", "pong", "frame"] {
            match first {
                "ping" => outbox.ping(),
                "pong" => outbox.pong(Bytes::new()),
                _ => push(&outbox, "first"),
            }
            push_alone(&outbox, "behind it");
            assert_eq!(all(&outbox).last(), Some(&Outgoing::Frame(frame("behind it"))), "{first}");
            outbox.written();
            assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
        }
        push(&outbox, "one of several");
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("one of several"))]);
    }

    /// However it goes out, its way is measured once, and when it has been written.
    #[test]
    fn each_message_that_is_timed_is_measured_once() {
        let took = |outbox: &Outbox| {
            let text = outbox.meter().metrics().render();
            let count = text.lines().find_map(|line| line.strip_prefix("switchboard_delivery_seconds_count "));
            count.expect("it is among the metrics").parse::<u64>().unwrap()
        };
        let timed = |outbox: &Arc<Outbox>, alone: bool| {
            let now = Instant::now();
            outbox.waiting().alone_at = None;
            assert!(outbox.push(frame("timed"), alone.then_some(now), Some(now)));
        };
        for (takes, alone, at_once) in [(usize::MAX, true, 1), (2, true, 0), (usize::MAX, false, 0)] {
            let (outbox, _) = with_shortcut(takes);
            assert_eq!((all(&outbox), took(&outbox)), (vec![], 0));
            timed(&outbox, alone);
            assert_eq!(took(&outbox), at_once, "{takes} {alone}");
            timed(&outbox, alone);
            let (waits, written) = (all(&outbox), took(&outbox));
            assert_eq!(written, 2 * at_once, "{takes} {alone}: {waits:?}");
            outbox.written();
            assert_eq!(took(&outbox), 2, "{takes} {alone}");
        }
    }

    #[test]
    fn what_follows_another_at_once_is_not_written_by_itself() {
        let (outbox, backlog) = with_shortcut(usize::MAX);
        let now = Instant::now();
        assert_eq!(all(&outbox), []);
        push_alone_at(&outbox, "first", now);
        assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
        let soon = now + BUSY - Duration::from_nanos(1);
        push_alone_at(&outbox, "second", soon);
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("second"))]);
        outbox.written();
        assert_eq!(all(&outbox), []);
        push_alone_at(&outbox, "third", soon + BUSY);
        assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
    }

    #[test]
    fn of_what_goes_past_the_door_in_part_the_rest_goes_first() {
        let (outbox, backlog) = with_shortcut(2);
        assert_eq!(all(&outbox), []);
        push_alone(&outbox, "begun");
        push_alone(&outbox, "next");
        outbox.ping();
        assert_eq!(backlog.waiting(), 5 + 4 + 256);
        assert_eq!(all(&outbox), [Outgoing::Begun(Bytes::from_static(b"gun")), Outgoing::Ping, Outgoing::Frame(frame("next"))]);
        assert_eq!(backlog.waiting(), 5 + 4 + 256, "until it is written");
        outbox.written();
        assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
        push_alone(&outbox, "begun");
        assert_eq!(outbox.abandon(), 5 + 128, "the next connection says it again as a whole");
    }

    #[test]
    fn what_a_connection_does_not_take_now_is_left_to_the_door() {
        let (outbox, _) = with_shortcut(0);
        assert_eq!(all(&outbox), []);
        push_alone(&outbox, "waits");
        push_alone(&outbox, "as well");
        assert_eq!(all(&outbox), [Outgoing::Begun(Bytes::from_static(b"waits")), Outgoing::Frame(frame("as well"))]);
    }

    #[test]
    fn what_comes_in_one_turn_is_written_together_at_its_end() {
        let post = Arc::new(Post::new(Some(Waker::noop().clone())));
        let many: Vec<_> = (0..100).map(|_| with_shortcut_and(&post, usize::MAX)).collect();
        for (outbox, _) in &many {
            assert_eq!(all(outbox), [], "the door waits");
            push(outbox, "one");
            push_alone(outbox, "two");
        }
        let waiting = || many.iter().filter(|(_, backlog)| backlog.waiting() > 0).count();
        let mut cx = Context::from_waker(Waker::noop());
        for left in [100, 36, 0] {
            assert_eq!(waiting(), left, "others of the thread have their turn during a long round");
            assert!(post.poll_round(&mut cx).is_pending());
        }
        assert!(many.iter().all(|(outbox, _)| all(outbox).is_empty()));
    }

    #[tokio::test]
    async fn a_postman_comes_when_he_is_called_from_whatever_thread() {
        let calls = async {
            let (outbox, backlog) = with_shortcut_and(&Post::here(), usize::MAX);
            assert_eq!(all(&outbox), []);
            for _ in 0..3 {
                push(&outbox, "from here");
                outbox.at_most(0).await;
                thread::scope(|scope| scope.spawn(|| push(&outbox, "from there")).join().unwrap());
                outbox.at_most(0).await;
            }
            assert_eq!((all(&outbox), backlog.waiting()), (vec![], 0));
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), calls);
        tokio::task::LocalSet::new().run_until(in_time).await.expect("he comes");
    }

    #[tokio::test]
    async fn where_no_postman_comes_the_door_is_woken() {
        let wakes = Arc::new(Wakes::default());
        let waker = wakes.clone().into();
        let wait = |outbox: &Outbox| assert!(outbox.poll_take(&mut Context::from_waker(&waker), |_| true).is_pending());
        let (outbox, _) = with_shortcut(usize::MAX);
        wait(&outbox);
        push(&outbox, "without a postman");
        assert_eq!(wakes.count(), 1);
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("without a postman"))]);

        let tasks = tokio::task::LocalSet::new();
        let post = tasks.run_until(async { Post::here() }).await;
        let (outbox, _) = with_shortcut_and(&post, usize::MAX);
        wait(&outbox);
        push(&outbox, "and now he is called");
        assert_eq!(wakes.count(), 1);
        drop(tasks);
        assert_eq!(wakes.count(), 2, "but he is gone before he comes");
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("and now he is called"))]);
        outbox.written();
        wait(&outbox);
        push(&outbox, "nobody will come");
        assert_eq!(wakes.count(), 3);
    }
}
