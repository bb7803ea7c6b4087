//! What a client has not yet said that it received: kept, to be said again over its next connection. No actor, no clock.
//!
//! Messages are numbered from 1 in the order in which they are sent. When the bounds are full the oldest is forgotten; then only a client
//! that had received it can still resume.

use std::collections::VecDeque;

use super::outbox::weight;
use crate::protocol::framing::Frame;

/// The latest messages of one session.
#[derive(Debug)]
pub struct Replay {
    limits: ReplayLimits,
    frames: VecDeque<Frame>,
    bytes: usize,
    /// How many came before those that are kept.
    gone: u64,
}

/// How much may be kept for one client.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    pub messages_max: usize,
    pub bytes_max: usize,
}

/// The client says that it received more than was ever sent.
#[derive(Debug, PartialEq, Eq)]
pub struct NeverSent;

impl Replay {
    /// Nothing was sent.
    pub fn new(limits: ReplayLimits) -> Self {
        Self { limits, frames: VecDeque::new(), bytes: 0, gone: 0 }
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.gone + self.frames.len() as u64
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts a message as sent and keeps it. So many bytes as wait for the client in `excess` of their bound are kept beside this one, for they
    /// were promised.
    pub fn keep(&mut self, frame: Frame, excess: usize) {
        self.bytes += weight(&frame);
        self.frames.push_back(frame);
        let bytes_max = if self.limits.bytes_max == 0 { 0 } else { self.limits.bytes_max + excess };
        while self.frames.len() > self.limits.messages_max || self.bytes > bytes_max {
            self.forget();
        }
    }

    /// Forgets what the client has received.
    pub fn acknowledge(&mut self, received: u64) -> Result<(), NeverSent> {
        if received > self.sent() {
            return Err(NeverSent);
        }
        while self.gone < received {
            self.forget();
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        Ok(())
    }

    /// All that was sent after the first `received` messages, if that is known as a whole.
    pub fn after(&self, received: u64) -> Option<impl ExactSizeIterator<Item = &Frame>> {
        let skipped = usize::try_from(received.checked_sub(self.gone)?).ok()?;
        (skipped <= self.frames.len()).then(|| self.frames.range(skipped..))
    }

    fn forget(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= weight(&frame);
            self.gone += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn kept(limits: ReplayLimits, texts: &[&'static str]) -> Replay {
        let mut replay = Replay::new(limits);
        texts.iter().for_each(|text| replay.keep(Frame::Text(Bytes::from_static(text.as_bytes())), 0));
        replay
    }

    fn after(replay: &Replay, received: u64) -> Option<Vec<String>> {
        Some(replay.after(received)?.map(|frame| String::from_utf8(frame.bytes().to_vec()).unwrap()).collect())
    }

    const ROOMY: ReplayLimits = ReplayLimits { messages_max: 10, bytes_max: 10_000 };

    #[test]
    fn exactly_what_was_not_received_is_told_again() {
        let mut replay = kept(ROOMY, &["a", "b", "c"]);
        assert_eq!(after(&replay, 0).unwrap(), ["a", "b", "c"]);
        assert_eq!(after(&replay, 2).unwrap(), ["c"]);
        assert_eq!(after(&replay, 3).unwrap(), [""; 0]);
        assert_eq!(after(&replay, 4), None, "never sent");
        assert_eq!(replay.acknowledge(4), Err(NeverSent));
        replay.acknowledge(2).unwrap();
        replay.acknowledge(1).unwrap();
        assert_eq!(after(&replay, 2).unwrap(), ["c"]);
        assert_eq!(after(&replay, 1), None, "acknowledged before");
        assert_eq!(replay.sent(), 3);
    }

    #[test]
    fn the_oldest_is_forgotten_past_either_bound() {
        let replay = kept(ReplayLimits { messages_max: 2, bytes_max: 10_000 }, &["a", "b", "c"]);
        assert_eq!((after(&replay, 0), after(&replay, 1).unwrap()), (None, vec!["b".to_owned(), "c".to_owned()]));
        let replay = kept(ReplayLimits { messages_max: 9, bytes_max: 2 * 128 + 3 }, &["aa", "bb", "c"]);
        assert_eq!((after(&replay, 0), after(&replay, 1).unwrap()), (None, vec!["bb".to_owned(), "c".to_owned()]));
        let replay = kept(ReplayLimits { messages_max: 0, bytes_max: 0 }, &["a", "b"]);
        assert_eq!((replay.sent(), after(&replay, 1), after(&replay, 2).unwrap().len()), (2, None, 0));
    }
}
