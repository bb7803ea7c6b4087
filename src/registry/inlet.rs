//! The way into a session: its mailbox, and the bytes that may wait there.
//!
//! An actor's mailbox counts messages, and a message may be a few bytes or many thousand. So the bound is on bytes: one [`Backlog`] counts what
//! waits for a client in the mailbox and in the outbox together. Sends never block and never fail for want of a slot; who is over
//! its bound is told to close, once, and until its client is back on another connection takes only what nobody can be told the loss of.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use actix::Recipient;

use super::{
    command::{Answer, Deliver},
    drain::DrainWindow,
};
use crate::protocol::Envelope;

/// Where deliveries for one peer go. The rules of membership know no more of a session than this.
pub trait Inlet: Send + Sync {
    /// Hands over a message for the client.
    fn deliver(&self, envelope: &Arc<Envelope>) -> Result<(), Untaken>;
    /// Hands over the answer to a command. Never fails: a session waits for one at a time.
    fn answer(&self, answer: Answer);
    /// Tells the session to end within this time: the server shuts down.
    fn drain(&self, window: DrainWindow);
}

/// Why a session did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// Its client is over its bound and being closed.
    Overflow,
    /// It is at its end: that its peer left is about to be told.
    Gone,
}

/// More bytes wait for a client than may wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// The bytes that wait for one client, wherever they wait, and their bound.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    bytes_max: usize,
    overflowed: AtomicBool,
    gap: AtomicBool,
    closed: AtomicBool,
}

impl Backlog {
    /// Nothing waits; at most `bytes_max` may.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            bytes_max,
            overflowed: AtomicBool::new(false),
            gap: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// Counts `bytes` as waiting, unless that is too much; from then on nothing more is taken.
    pub fn add(&self, bytes: usize) -> Result<(), Overflow> {
        if self.overflowed.load(Ordering::Relaxed) {
            return Err(Overflow);
        }
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Overflow);
        }
        Ok(())
    }

    /// Counts `bytes` of what is taken past the bound as well, because nobody can be told that it was not: news about who is in a room, answers, and
    /// what was promised when it was counted for less. Past twice the bound even that is dropped, and it is noted that the client misses something.
    fn add_promised(&self, bytes: usize) -> Result<(), Overflow> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > 2 * self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.gap.store(true, Ordering::Relaxed);
            return Err(Overflow);
        }
        Ok(())
    }

    /// Counts `to` bytes where `from` were counted before, past the bound as well; when even that is too much, neither is counted.
    pub fn exchange(&self, from: usize, to: usize) -> Result<(), Overflow> {
        if to > from {
            return self.add_promised(to - from).inspect_err(|_| self.release(from));
        }
        self.release(from - to);
        Ok(())
    }

    /// How many bytes more are waiting than may wait.
    pub fn excess(&self) -> usize {
        self.bytes.load(Ordering::Relaxed).saturating_sub(self.bytes_max)
    }

    /// Would `bytes` more still be well within the bound? Best-effort messages give way before anything is at stake.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        !self.overflowed.load(Ordering::Relaxed) && self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max / 2
    }

    /// Counts `bytes` as gone.
    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Was something not taken since it was last reopened?
    pub fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Takes messages again: the connection that did not read is gone.
    pub fn reopen(&self) {
        self.overflowed.store(false, Ordering::Relaxed);
    }

    /// Takes nothing ever again: the session ends.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Is the session at its end, or told to end?
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Was something promised that could not be taken after all? Then the session cannot be resumed.
    pub fn has_gap(&self) -> bool {
        self.gap.load(Ordering::Relaxed)
    }
}

/// The inlet of a real session.
pub struct Mailbox {
    recipient: Recipient<Deliver>,
    backlog: Arc<Backlog>,
}

impl Mailbox {
    /// The way into the actor behind `recipient`, which releases the weight of each envelope that it takes out.
    pub fn new(recipient: Recipient<Deliver>, backlog: Arc<Backlog>) -> Self {
        Self { recipient, backlog }
    }

    /// Tells the session once that its client does not read.
    fn overflow(&self) {
        if !self.backlog.overflowed.swap(true, Ordering::Relaxed) {
            self.recipient.do_send(Deliver::Overflowed);
        }
    }
}

impl Inlet for Mailbox {
    fn deliver(&self, envelope: &Arc<Envelope>) -> Result<(), Untaken> {
        if self.backlog.is_closed() || !self.recipient.connected() {
            return Err(Untaken::Gone);
        }
        let weight = envelope.weight();
        if envelope.is_best_effort() && !self.backlog.has_room_for(weight) {
            return Ok(());
        }
        let added = if envelope.is_presence() { self.backlog.add_promised(weight) } else { self.backlog.add(weight) };
        if added.is_ok() {
            self.recipient.do_send(Deliver::Message(envelope.clone()));
        }
        if added.is_err() || self.backlog.excess() > 0 {
            self.overflow();
        }
        // The session may be at its end already for that very reason.
        added.map_err(|Overflow| Untaken::Overflow)?;
        // It may have come behind the end. Better told twice than never.
        if self.backlog.is_closed() { Err(Untaken::Gone) } else { Ok(()) }
    }

    fn answer(&self, answer: Answer) {
        self.recipient.do_send(Deliver::Answer(answer));
    }

    fn drain(&self, window: DrainWindow) {
        self.recipient.do_send(Deliver::Drain(window));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_takes_its_bound_and_not_one_byte_more() {
        let backlog = Backlog::new(10);
        assert_eq!(backlog.add(10), Ok(()));
        backlog.release(10);
        assert_eq!(backlog.add(4), Ok(()));
        assert!(backlog.has_room_for(1) && !backlog.has_room_for(2));
        assert_eq!(backlog.add(7), Err(Overflow));
        assert_eq!(backlog.add(6), Ok(()));
    }

    #[test]
    fn what_is_promised_is_taken_up_to_twice_the_bound_and_its_loss_is_noted() {
        let backlog = Backlog::new(10);
        assert_eq!(backlog.add_promised(11), Ok(()));
        assert_eq!(backlog.excess(), 1);
        assert_eq!(backlog.add(1), Err(Overflow));
        assert_eq!(backlog.exchange(1, 10), Ok(()));
        assert!(!backlog.has_gap());
        assert_eq!(backlog.exchange(10, 11), Err(Overflow), "and what it was counted for before is given back");
        assert!(backlog.has_gap());
        assert_eq!(backlog.add_promised(10), Ok(()));
    }

    #[test]
    fn who_missed_something_gets_nothing_more_until_it_is_reopened() {
        let backlog = Backlog::new(10);
        backlog.overflowed.store(true, Ordering::Relaxed);
        assert_eq!(backlog.add(1), Err(Overflow));
        backlog.reopen();
        assert_eq!(backlog.add(1), Ok(()));
    }
}
