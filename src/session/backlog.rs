//! The bytes that wait for one client, and their bound.
//!
//! They wait in the outbox of a connection or, while there is none, for the next one. Past half the bound the client is behind, and those who send
//! to it wait for it a little. Who is over the bound is told to close, once, and until its connection is given up takes only what nobody can
//! be told the loss of. Beside that it knows whether the session is at its end, for those who ask with every message.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::metrics::Metrics;

/// What waits for one client. It is added to under the lock of the session's delivery, also by the outbox, so nobody else adds between a look and
/// the count; who has written some of it releases that.
pub struct Backlog {
    bytes: AtomicUsize,
    bytes_max: usize,
    overflowed: AtomicBool,
    closed: AtomicBool,
    /// Was it waited for in vain since it was last not behind?
    stalled: AtomicBool,
    /// Wakes those who wait for a client that is behind.
    eased: Notify,
    began: Instant,
    /// When it last read something or had little to read, in milliseconds since it began.
    read_at_ms: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Backlog {
    /// Nothing waits; at most `bytes_max` may.
    pub fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
            overflowed: false.into(),
            closed: false.into(),
            stalled: false.into(),
            eased: Notify::new(),
            began: Instant::now(),
            read_at_ms: 0.into(),
            metrics,
        })
    }

    /// Where it is counted with those of all clients.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// May `bytes` more wait? From the first time that they may not, nothing more may, until it is reopened.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        !self.has_overflowed() && self.waiting() + bytes <= self.bytes_max
    }

    /// May `bytes` more wait that can be lost as well? They give way before anything is at stake.
    pub fn has_room_to_spare_for(&self, bytes: usize) -> bool {
        !self.has_overflowed() && self.waiting() + bytes <= self.much()
    }

    /// Counts `bytes` as waiting, past the bound as well. False past twice the bound: nothing is counted then.
    pub fn add(&self, bytes: usize) -> bool {
        let fits = self.waiting() + bytes <= 2 * self.bytes_max;
        if fits {
            let before = self.bytes.fetch_add(bytes, Ordering::SeqCst);
            self.metrics.waiting(bytes as i64);
            if before <= self.little() && before + bytes > self.little() {
                self.note_reading();
            }
        }
        fits
    }

    /// Counts `bytes` as gone.
    pub fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.metrics.waiting(-(bytes as i64));
        if before > self.little() {
            self.note_reading();
        }
        if before > self.much() && before - bytes <= self.much() {
            self.stalled.store(false, Ordering::SeqCst);
            self.eased.notify_waiters();
        }
    }

    /// Does so much wait that more should come only when some of it is read? Not if that was waited for in vain.
    pub fn is_behind(&self) -> bool {
        self.waiting() > self.much() && !self.stalled.load(Ordering::SeqCst) && !self.has_overflowed()
    }

    /// Waits until the client is not behind, and at most until it was not seen to read for as long as `patience` when the wait began: then nobody
    /// waits for it until it has caught up by itself. Of many who stop reading together, only the first is waited for.
    pub async fn eased(&self, patience: Duration) {
        let mut eased = pin!(self.eased.notified());
        eased.as_mut().enable();
        let unread_for = self.began.elapsed().saturating_sub(Duration::from_millis(self.read_at_ms.load(Ordering::SeqCst)));
        if self.is_behind() && timeout(patience.saturating_sub(unread_for), eased).await.is_err() {
            self.stalled.store(true, Ordering::SeqCst);
            if self.waiting() <= self.much() {
                // It caught up just now.
                self.stalled.store(false, Ordering::SeqCst);
            }
            self.eased.notify_waiters();
        }
    }

    /// Nobody need wait for the client any longer: there is none.
    pub fn let_go(&self) {
        self.eased.notify_waiters();
    }

    /// How many bytes more are waiting than may wait.
    pub fn excess(&self) -> usize {
        self.waiting().saturating_sub(self.bytes_max)
    }

    /// Takes nothing more until it is reopened; whether it did before.
    pub fn overflow(&self) -> bool {
        let is_first = !self.overflowed.swap(true, Ordering::SeqCst);
        self.eased.notify_waiters();
        is_first
    }

    /// Was something not taken since it was last reopened?
    pub fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::SeqCst)
    }

    /// Notes that the session is at its end; whether that is news. Its delivery does so under its lock.
    pub(super) fn close(&self) -> bool {
        self.let_go();
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// Is the session at its end, or told to end?
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Is what the client sends still to be heard? Not at the session's end, nor on a connection that is about to be given up.
    pub fn is_listening(&self) -> bool {
        !self.is_closed() && !self.has_overflowed()
    }

    /// Takes messages again: the connection that did not read is gone.
    pub fn reopen(&self) {
        self.overflowed.store(false, Ordering::SeqCst);
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    fn much(&self) -> usize {
        self.bytes_max / 2
    }

    fn little(&self) -> usize {
        self.bytes_max / 4
    }

    fn note_reading(&self) {
        self.read_at_ms.store(self.began.elapsed().as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.metrics.waiting(-(*self.bytes.get_mut() as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_takes_its_bound_and_not_one_byte_more() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.has_room_for(10) && backlog.add(10));
        assert!(!backlog.has_room_for(1));
        backlog.release(6);
        assert!(backlog.has_room_to_spare_for(1) && !backlog.has_room_to_spare_for(2));
        assert!(backlog.has_room_for(6) && !backlog.has_room_for(7));
    }

    #[test]
    fn what_is_promised_is_taken_up_to_twice_the_bound() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.add(11));
        assert_eq!(backlog.excess(), 1);
        assert!(!backlog.has_room_for(0) && backlog.add(9) && !backlog.add(1));
        assert_eq!(backlog.excess(), 10, "what was not taken is not counted");
    }

    #[test]
    fn who_missed_something_gets_nothing_more_until_it_is_reopened() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.overflow());
        assert!(!backlog.overflow(), "it is told once");
        assert!(!backlog.has_room_for(1));
        backlog.reopen();
        assert!(backlog.has_room_for(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_is_waited_for_until_it_has_read() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.add(5) && !backlog.is_behind() && backlog.add(1) && backlog.is_behind());
        let reading = async { backlog.release(1) };
        tokio::join!(biased; backlog.eased(Duration::MAX), reading);
        assert!(!backlog.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_waited_for_in_vain_is_waited_for_again_only_when_it_has_caught_up() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.add(7));
        // Whoever began later waits no longer than the first.
        let first = backlog.eased(Duration::from_secs(1));
        tokio::join!(biased; first, backlog.eased(Duration::MAX));
        assert!(!backlog.is_behind());
        backlog.release(1);
        assert!(!backlog.is_behind(), "it still has more than half to read");
        backlog.release(1);
        assert!(backlog.add(1) && backlog.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_do_not_read_are_waited_for_no_longer_than_one() {
        let silent = [Backlog::new(10, Arc::default()), Backlog::new(10, Arc::default())];
        let began = Instant::now();
        for backlog in &silent {
            assert!(backlog.add(6));
        }
        for backlog in &silent {
            backlog.eased(Duration::from_secs(1)).await;
            assert!(!backlog.is_behind());
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_who_is_being_closed() {
        let backlog = Backlog::new(10, Arc::default());
        assert!(backlog.add(6));
        let closing = async { backlog.overflow() };
        tokio::join!(biased; backlog.eased(Duration::MAX), closing);
        assert!(!backlog.is_behind());
    }
}
