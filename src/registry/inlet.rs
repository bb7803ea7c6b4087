//! The way into a session: its mailbox, and the bytes that may wait there.
//!
//! An actor's mailbox counts messages, and a message may be a few bytes or many thousand. So the bound is on bytes: one [`Backlog`] counts what
//! waits for a client in the mailbox and in the outbox together. Sends never block and never fail for want of a slot; who is over
//! its bound is told to close, once, and takes nothing any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use actix::Recipient;

use super::command::{Answer, Deliver};
use crate::protocol::{CloseCode, Envelope};

/// Where deliveries for one peer go. The rules of membership know no more of a session than this.
pub trait Inlet: Send + Sync {
    /// Hands over a message for the client, or fails because the client is over its bound and being closed.
    fn deliver(&self, envelope: &Arc<Envelope>) -> Result<(), Overflow>;
    /// Hands over the answer to a command. Never fails: a session waits for one at a time.
    fn answer(&self, answer: Answer);
    /// Tells the session to close.
    fn close(&self, code: CloseCode);
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
}

impl Backlog {
    /// Nothing waits; at most `bytes_max` may.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max, overflowed: AtomicBool::new(false) })
    }

    /// Counts `bytes` as waiting, unless that is too much; from then on nothing more is taken.
    pub fn add(&self, bytes: usize) -> Result<(), Overflow> {
        if self.overflowed.load(Ordering::Relaxed) {
            return Err(Overflow);
        }
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.overflowed.store(true, Ordering::Relaxed);
            return Err(Overflow);
        }
        Ok(())
    }

    /// Would `bytes` more still be well within the bound? Best-effort messages give way before anything is at stake.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        !self.overflowed.load(Ordering::Relaxed) && self.bytes.load(Ordering::Relaxed) + bytes <= self.bytes_max / 2
    }

    /// Counts `bytes` as gone.
    pub fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The inlet of a real session.
pub struct Mailbox {
    recipient: Recipient<Deliver>,
    backlog: Arc<Backlog>,
    told_to_close: AtomicBool,
}

impl Mailbox {
    /// The way into the actor behind `recipient`, which releases the weight of each envelope that it takes out.
    pub fn new(recipient: Recipient<Deliver>, backlog: Arc<Backlog>) -> Self {
        Self { recipient, backlog, told_to_close: AtomicBool::new(false) }
    }
}

impl Inlet for Mailbox {
    fn deliver(&self, envelope: &Arc<Envelope>) -> Result<(), Overflow> {
        if envelope.is_best_effort() && !self.backlog.has_room_for(envelope.weight()) {
            return Ok(());
        }
        let added = self.backlog.add(envelope.weight());
        match added {
            Ok(()) => self.recipient.do_send(Deliver::Message(envelope.clone())),
            Err(Overflow) => self.close(CloseCode::SlowConsumer),
        }
        added
    }

    fn answer(&self, answer: Answer) {
        self.recipient.do_send(Deliver::Answer(answer));
    }

    fn close(&self, code: CloseCode) {
        if !self.told_to_close.swap(true, Ordering::Relaxed) {
            self.recipient.do_send(Deliver::Close(code));
        }
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
        assert_eq!(backlog.add(1), Err(Overflow), "a client that missed something gets nothing more");
    }
}
