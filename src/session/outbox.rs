//! What waits for one connection: filled by its session, emptied by its door.
//!
//! The bytes count against the client's backlog until the door has written them. The session never waits for the door; the door waits for
//! the session, and one that cannot write any more is given up by the door itself.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use bytes::Bytes;

use crate::{
    protocol::{CloseCode, framing::Frame},
    registry::inlet::{Backlog, Overflow},
};

/// A queue of frames and the end of it. Shared by a session and its connection.
#[derive(Debug)]
pub struct Outbox {
    backlog: Arc<Backlog>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    ping: bool,
    /// The latest is enough: RFC 6455 §5.5.3.
    pong: Option<Bytes>,
    end: Option<End>,
    door: Option<Waker>,
}

/// What the door is to write next.
#[derive(Debug, PartialEq)]
pub enum Outgoing {
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

/// A connection holds no more memory for its queue than this many frames when nothing waits.
const KEPT_FRAMES: usize = 8;

impl Outbox {
    /// Nothing waits.
    pub fn new(backlog: Arc<Backlog>) -> Arc<Self> {
        Arc::new(Self { backlog, waiting: Mutex::default() })
    }

    /// The bound that it shares with the mailbox of its session.
    pub fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Puts a frame behind the others, unless too much waits. What comes after the end is dropped. `counted` bytes of it are in the backlog
    /// already, from its time in the mailbox, and only what is more can be too much: a message that its sender was promised has its place.
    pub fn push(&self, frame: Frame, counted: usize) -> Result<(), Overflow> {
        let bytes = frame.bytes().len();
        let mut waiting = self.waiting();
        if waiting.end.is_some() {
            self.backlog.release(counted);
            return Ok(());
        }
        if bytes > counted {
            self.backlog.add(bytes - counted).inspect_err(|_| self.backlog.release(counted))?;
        } else {
            self.backlog.release(counted - bytes);
        }
        waiting.frames.push_back(frame);
        waiting.wake();
        Ok(())
    }

    /// Asks the door to probe the client.
    pub fn ping(&self) {
        let mut waiting = self.waiting();
        waiting.ping = true;
        waiting.wake();
    }

    /// Asks the door to answer the client's probe.
    pub fn pong(&self, data: Bytes) {
        let mut waiting = self.waiting();
        waiting.pong = Some(data);
        waiting.wake();
    }

    /// Ends the connection behind what waits, with a goodbye. For who does not read, what waits is dropped first. The goodbye counts
    /// against no bound, because there is only one.
    pub fn close(&self, code: CloseCode, goodbye: Frame) {
        let mut waiting = self.waiting();
        if waiting.end.is_none() {
            if code == CloseCode::SlowConsumer {
                self.drop_frames(&mut waiting);
            }
            waiting.frames.push_back(goodbye);
            waiting.end = Some(End::Close(code));
            waiting.wake();
        }
    }

    /// Ends the connection because the client did. What waits is dropped: nobody reads it.
    pub fn answer_close(&self, code: Option<u16>) {
        let mut waiting = self.waiting();
        if waiting.end.is_none() {
            self.drop_frames(&mut waiting);
            waiting.end = Some(End::Answer(code));
            waiting.wake();
        }
    }

    /// Waits until there is something to write, then gives it out, one at a time; `None` while nothing is left of a batch. After
    /// [`Outgoing::End`] it is not to be called again.
    pub async fn next(&self) -> Outgoing {
        poll_fn(|cx| {
            let mut waiting = self.waiting();
            match waiting.pop() {
                Some(outgoing) => Poll::Ready(outgoing),
                None => {
                    waiting.door = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next that is there already.
    pub fn try_next(&self) -> Option<Outgoing> {
        self.waiting().pop()
    }

    /// Waits until the end has been decided, whether or not all before it is written, and tells it.
    pub async fn ended(&self) -> End {
        // The door polls this beside `next` in one task, so the one waker serves both.
        poll_fn(|cx| {
            let mut waiting = self.waiting();
            if let Some(end) = waiting.end {
                return Poll::Ready(end);
            }
            waiting.door = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Says that frames of so many bytes are written and wait no more.
    pub fn written(&self, bytes: usize) {
        self.backlog.release(bytes);
    }

    fn drop_frames(&self, waiting: &mut Waiting) {
        let bytes = waiting.frames.drain(..).map(|frame| frame.bytes().len()).sum();
        self.backlog.release(bytes);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Outgoing> {
        if std::mem::take(&mut self.ping) {
            return Some(Outgoing::Ping);
        }
        if let Some(data) = self.pong.take() {
            return Some(Outgoing::Pong(data));
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(Outgoing::Frame(frame));
        }
        self.frames.shrink_to(KEPT_FRAMES);
        self.end.map(Outgoing::End)
    }

    fn wake(&mut self) {
        if let Some(door) = self.door.take() {
            door.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Frame {
        Frame::Text(Bytes::from_static(text.as_bytes()))
    }

    fn all(outbox: &Outbox) -> Vec<Outgoing> {
        let mut all = vec![];
        while let Some(outgoing) = outbox.try_next() {
            let end = matches!(outgoing, Outgoing::End(_));
            all.push(outgoing);
            if end {
                break;
            }
        }
        all
    }

    #[test]
    fn frames_come_out_in_order_and_the_goodbye_last() {
        let outbox = Outbox::new(Backlog::new(100));
        outbox.push(frame("a"), 0).unwrap();
        outbox.push(frame("b"), 0).unwrap();
        outbox.close(CloseCode::Draining, frame("bye"));
        outbox.push(frame("late"), 0).unwrap();
        let expected = [
            Outgoing::Frame(frame("a")),
            Outgoing::Frame(frame("b")),
            Outgoing::Frame(frame("bye")),
            Outgoing::End(End::Close(CloseCode::Draining)),
        ];
        assert_eq!(all(&outbox), expected);
    }

    #[test]
    fn who_does_not_read_gets_only_the_goodbye() {
        let outbox = Outbox::new(Backlog::new(4));
        outbox.push(frame("full"), 0).unwrap();
        assert_eq!(outbox.push(frame("x"), 0), Err(Overflow));
        outbox.close(CloseCode::SlowConsumer, frame("bye"));
        assert_eq!(all(&outbox), [Outgoing::Frame(frame("bye")), Outgoing::End(End::Close(CloseCode::SlowConsumer))]);
    }

    #[test]
    fn a_flood_of_pings_is_answered_once() {
        let outbox = Outbox::new(Backlog::new(4));
        for n in 0..100_u8 {
            outbox.pong(Bytes::copy_from_slice(&[n]));
        }
        assert_eq!(all(&outbox), [Outgoing::Pong(Bytes::from_static(&[99]))]);
    }

    /// A message counted twice on its way from the mailbox to the outbox: the one that was too much was acknowledged to its sender and then
    /// dropped here, and the sender never heard `undeliverable`.
    #[test]
    fn what_was_taken_into_the_mailbox_has_its_place_in_the_outbox() {
        let backlog = Backlog::new(8);
        let outbox = Outbox::new(backlog.clone());
        backlog.add(8).unwrap();
        assert_eq!(outbox.push(frame("full"), 8), Ok(()));
        assert_eq!(backlog.add(4), Ok(()), "what it took less is given back");
        assert_eq!(outbox.push(frame("longer"), 4), Err(Overflow), "what it takes more is not there");
        assert_eq!(backlog.add(1), Err(Overflow));
    }
}
