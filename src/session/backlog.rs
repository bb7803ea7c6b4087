//! The bytes that wait for one client, and their bound.
//!
//! They wait in the outbox of a connection or, while there is none, for the next one. Who is over the bound is told to close, once, and until its
//! connection is given up takes only what nobody can be told the loss of.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// What waits for one client. The session adds to it under its own lock; the door releases what it has written.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    bytes_max: usize,
    overflowed: AtomicBool,
}

impl Backlog {
    /// Nothing waits; at most `bytes_max` may.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max, overflowed: AtomicBool::new(false) })
    }

    /// May `bytes` more wait? From the first time that they may not, nothing more may, until it is reopened.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        !self.has_overflowed() && self.waiting() + bytes <= self.bytes_max
    }

    /// May `bytes` more wait that can be lost as well? They give way before anything is at stake.
    pub fn has_room_to_spare_for(&self, bytes: usize) -> bool {
        !self.has_overflowed() && self.waiting() + bytes <= self.bytes_max / 2
    }

    /// Counts `bytes` as waiting, past the bound as well. False past twice the bound: nothing is counted then.
    pub fn add(&self, bytes: usize) -> bool {
        let fits = self.waiting() + bytes <= 2 * self.bytes_max;
        if fits {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Counts `bytes` as gone.
    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes more are waiting than may wait.
    pub fn excess(&self) -> usize {
        self.waiting().saturating_sub(self.bytes_max)
    }

    /// Takes nothing more until it is reopened; whether it did before.
    pub fn overflow(&self) -> bool {
        !self.overflowed.swap(true, Ordering::Relaxed)
    }

    /// Was something not taken since it was last reopened?
    pub fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Takes messages again: the connection that did not read is gone.
    pub fn reopen(&self) {
        self.overflowed.store(false, Ordering::Relaxed);
    }

    fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_takes_its_bound_and_not_one_byte_more() {
        let backlog = Backlog::new(10);
        assert!(backlog.has_room_for(10) && backlog.add(10));
        assert!(!backlog.has_room_for(1));
        backlog.release(6);
        assert!(backlog.has_room_to_spare_for(1) && !backlog.has_room_to_spare_for(2));
        assert!(backlog.has_room_for(6) && !backlog.has_room_for(7));
    }

    #[test]
    fn what_is_promised_is_taken_up_to_twice_the_bound() {
        let backlog = Backlog::new(10);
        assert!(backlog.add(11));
        assert_eq!(backlog.excess(), 1);
        assert!(!backlog.has_room_for(0) && backlog.add(9) && !backlog.add(1));
        assert_eq!(backlog.excess(), 10, "what was not taken is not counted");
    }

    #[test]
    fn who_missed_something_gets_nothing_more_until_it_is_reopened() {
        let backlog = Backlog::new(10);
        assert!(backlog.overflow());
        assert!(!backlog.overflow(), "it is told once");
        assert!(!backlog.has_room_for(1));
        backlog.reopen();
        assert!(backlog.has_room_for(1));
    }
}
