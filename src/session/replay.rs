//! What a client has not yet said that it received: kept, to be said again over its next connection. No actor, no clock.
//!
//! Messages are numbered from 1 in the order in which they are sent. When the bounds are full the oldest is forgotten; then only a client
//! that had received it can still resume.

use std::collections::VecDeque;

use super::{chunks::Chunks, outbox::weight_of};
use crate::protocol::framing::{CowFrame, Frame, LentFrame};

/// A longer message stays in an allocation of its own: to copy it takes longer, and more would be left free at the end of a chunk.
pub const COPIED_BYTES_MAX: usize = 4 * 1024;

/// The latest messages of one session.
#[derive(Debug)]
pub struct Replay {
    limits: ReplayLimits,
    /// What is noted of each: when the oldest is forgotten it is in no cache any more, so it is little.
    messages: VecDeque<Kept>,
    /// Those of them that are kept as they are.
    whole: VecDeque<Frame>,
    /// The bytes of the others.
    copied: Chunks,
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
        Self { limits, messages: VecDeque::new(), whole: VecDeque::new(), copied: Chunks::default(), bytes: 0, gone: 0 }
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.gone + self.messages.len() as u64
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts a message as sent and keeps it. Whoever keeps one sees to the [bounds](Self::bound) as well.
    pub fn keep(&mut self, frame: &CowFrame<'_>) {
        if self.limits.messages_max == 0 || self.limits.bytes_max == 0 {
            self.gone += 1;
            return;
        }
        // What others have too costs no memory to keep, and what nobody else has costs no allocation to copy.
        let own = match frame {
            CowFrame::Own(own) if own.bytes().len() > COPIED_BYTES_MAX || !own.bytes().is_unique() => Some(own),
            _ => None,
        };
        let lent = frame.lend();
        let bytes = lent.bytes();
        let message = match (own, lent, u16::try_from(bytes.len())) {
            (None, LentFrame::Text(_), Ok(length)) => Kept::Text(length),
            (None, LentFrame::Binary(_), Ok(length)) => Kept::Binary(length),
            _ => Kept::Whole,
        };
        match message {
            Kept::Whole => self.whole.push_back(own.map_or_else(|| lent.into(), Frame::clone)),
            Kept::Text(_) | Kept::Binary(_) => self.copied.push(bytes),
        }
        self.bytes += weight_of(bytes.len());
        self.messages.push_back(message);
    }

    /// Forgets the oldest messages past the bounds. Bytes that wait for the client in `excess` of their own bound may be kept beyond this one, for
    /// they were promised.
    pub fn bound(&mut self, excess: usize) {
        while self.messages.len() > self.limits.messages_max || self.bytes > self.limits.bytes_max + excess {
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
        if self.messages.is_empty() {
            (self.messages, self.whole, self.copied) = Default::default();
        }
        self.copied.shrink();
        Ok(())
    }

    /// Gives back the memory that nothing is kept in: for a while nothing may be said.
    pub fn shrink(&mut self) {
        self.messages.shrink_to_fit();
        self.whole.shrink_to_fit();
        self.copied.shrink();
    }

    /// All that was sent after the first `received` messages, if that is known as a whole.
    pub fn after(&self, received: u64) -> Option<Vec<Frame>> {
        let skipped = usize::try_from(received.checked_sub(self.gone)?).ok()?;
        if skipped > self.messages.len() {
            return None;
        }
        let (mut whole, mut copied) = (self.whole.iter(), self.copied.read());
        let all = self.messages.iter().filter_map(|message| {
            Some(match *message {
                Kept::Whole => CowFrame::Own(whole.next()?.clone()),
                Kept::Text(length) => LentFrame::Text(copied.take(length.into())).into(),
                Kept::Binary(length) => LentFrame::Binary(copied.take(length.into())).into(),
            })
        });
        Some(all.skip(skipped).map(Frame::from).collect())
    }

    fn forget(&mut self) {
        let Some(message) = self.messages.pop_front() else { return };
        let bytes = match message {
            Kept::Whole => self.whole.pop_front().map_or(0, |frame| frame.bytes().len()),
            Kept::Text(length) | Kept::Binary(length) => {
                self.copied.forget(length.into());
                length.into()
            }
        };
        self.bytes -= weight_of(bytes);
        self.gone += 1;
    }
}

/// How a message is kept.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// As it is, for others have it too, or it is long.
    Whole,
    /// A text frame, so many bytes of which are with those of other messages.
    Text(u16),
    /// The same for a binary one.
    Binary(u16),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Kept as they are, and copied.
    const WAYS: [fn(&'static str) -> Bytes; 2] =
        [|text| Bytes::from_static(text.as_bytes()), |text| Bytes::copy_from_slice(text.as_bytes())];

    fn keep<'a>(replay: &mut Replay, frame: impl Into<CowFrame<'a>>) {
        replay.keep(&frame.into());
        replay.bound(0);
    }

    fn kept(limits: ReplayLimits, way: fn(&'static str) -> Bytes, texts: &[&'static str]) -> Replay {
        let mut replay = Replay::new(limits);
        texts.iter().for_each(|text| keep(&mut replay, Frame::Text(way(text))));
        replay
    }

    fn after(replay: &Replay, received: u64) -> Option<Vec<String>> {
        Some(replay.after(received)?.iter().map(|frame| String::from_utf8(frame.bytes().to_vec()).unwrap()).collect())
    }

    const ROOMY: ReplayLimits = ReplayLimits { messages_max: 10, bytes_max: 10_000 };

    #[test]
    fn exactly_what_was_not_received_is_told_again() {
        for way in WAYS {
            let mut replay = kept(ROOMY, way, &["a", "b", "c"]);
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
    }

    #[test]
    fn the_oldest_is_forgotten_past_either_bound() {
        for way in WAYS {
            let replay = kept(ReplayLimits { messages_max: 2, bytes_max: 10_000 }, way, &["a", "b", "c"]);
            assert_eq!((after(&replay, 0), after(&replay, 1).unwrap()), (None, vec!["b".to_owned(), "c".to_owned()]));
            let replay = kept(ReplayLimits { messages_max: 9, bytes_max: 2 * 128 + 3 }, way, &["aa", "bb", "c"]);
            assert_eq!((after(&replay, 0), after(&replay, 1).unwrap()), (None, vec!["bb".to_owned(), "c".to_owned()]));
            let replay = kept(ReplayLimits { messages_max: 0, bytes_max: 0 }, way, &["a", "b"]);
            assert_eq!((replay.sent(), after(&replay, 1), after(&replay, 2).unwrap().len()), (2, None, 0));
        }
    }

    #[test]
    fn what_waits_past_its_bound_is_kept_beside_the_rest() {
        let mut replay = Replay::new(ReplayLimits { messages_max: 9, bytes_max: 2 * 129 });
        for (text, excess) in [("a", 0), ("b", 0), ("c", 129), ("d", 258)] {
            replay.keep(&Frame::Text(text.into()).into());
            replay.bound(excess);
        }
        assert_eq!(after(&replay, 0).unwrap(), ["a", "b", "c", "d"]);
        replay.bound(0);
        assert_eq!(after(&replay, 2).unwrap(), ["c", "d"]);
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was_however_it_is_kept() {
        let shared = Bytes::from(vec![b's'; 100]);
        let own = |byte: u8, length: usize| Bytes::from(vec![byte; length]);
        let max = COPIED_BYTES_MAX;
        let frames = |wrap: fn(Bytes) -> Frame| {
            [own(1, max), shared.clone(), own(2, 1), Bytes::new(), own(3, max + 1), own(4, max), own(5, max), own(6, 65_536)].map(wrap)
        };
        let all = [frames(Frame::Text), frames(Frame::Binary)].concat();
        let mut replay = Replay::new(ReplayLimits { messages_max: 20, bytes_max: 1_000_000 });
        frames(Frame::Text).into_iter().chain(frames(Frame::Binary)).for_each(|frame| keep(&mut replay, frame));
        let copied: Vec<bool> = replay.messages.iter().map(|message| !matches!(message, Kept::Whole)).collect();
        assert_eq!(copied, [true, false, true, false, false, true, true, false].repeat(2), "short ones that nobody else has are copied");
        for received in 0..=all.len() {
            assert_eq!(replay.after(received as u64).unwrap(), all[received..]);
        }
        let mut lent = Replay::new(replay.limits);
        all.iter().for_each(|frame| keep(&mut lent, frame.lend()));
        assert_eq!(lent.after(0).unwrap(), all);
        for received in 0..=all.len() {
            replay.acknowledge(received as u64).unwrap();
            assert_eq!(replay.after(received as u64).unwrap(), all[received..]);
        }
        assert_eq!(replay.bytes(), 0);
    }
}
