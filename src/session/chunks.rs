//! The bytes of many short messages in a few allocations: what came first goes first.
//!
//! A message that is kept for a while in an allocation of its own lies somewhere else than the one before it, and to give it back means to look at
//! memory that nothing has looked at since.

use std::collections::VecDeque;

/// Bytes of the first chunk: what a client that is left in peace is told.
const FIRST_BYTES: usize = 512;
/// Bytes of a chunk where many messages are kept.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes, put in at one end and forgotten at the other. How many belong together is for others to know.
#[derive(Debug, Default)]
pub struct Chunks {
    /// None is ever filled past the capacity that it has from the beginning.
    chunks: VecDeque<Vec<u8>>,
    /// How many bytes of the first chunk are forgotten.
    begin: usize,
    /// A chunk that was forgotten, for the next one.
    spare: Option<Vec<u8>>,
}

impl Chunks {
    /// Adds bytes, which stay side by side.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.chunks.back().map_or(0, |last| last.capacity() - last.len());
        if room < bytes.len() {
            let doubled = self.chunks.back().map_or(FIRST_BYTES, |last| 2 * last.capacity());
            if self.chunks.back().is_some_and(Vec::is_empty) {
                self.chunks.pop_back();
            }
            let spare = self.spare.take().filter(|spare| spare.capacity() >= bytes.len());
            let chunk = spare.unwrap_or_else(|| Vec::with_capacity(doubled.min(CHUNK_BYTES).max(bytes.len())));
            self.chunks.push_back(chunk);
        }
        self.chunks.back_mut().expect("there is room in it").extend_from_slice(bytes);
    }

    /// Forgets the bytes that were added together, `length` of them, and are the oldest.
    pub fn forget(&mut self, length: usize) {
        self.begin += length;
        if self.chunks.front().is_some_and(|first| first.len() == self.begin) {
            self.begin = 0;
            if self.chunks.len() == 1 {
                self.chunks[0].clear();
            } else if let Some(mut chunk) = self.chunks.pop_front() {
                chunk.clear();
                self.spare = Some(chunk);
            }
        }
    }

    /// Reads from the oldest on.
    pub fn read(&self) -> Reading<'_> {
        Reading {
            first: self.chunks.front().map_or(&[], |first| &first[self.begin..]),
            rest: self.chunks.range(self.chunks.len().min(1)..),
        }
    }
}

/// How far the bytes were read.
pub struct Reading<'a> {
    first: &'a [u8],
    rest: std::collections::vec_deque::Iter<'a, Vec<u8>>,
}

impl<'a> Reading<'a> {
    /// The next bytes that were added together, `length` of them.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        if self.first.is_empty() {
            self.first = self.rest.next().map_or(&[], |chunk| chunk);
        }
        let (taken, behind) = self.first.split_at(length);
        self.first = behind;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is added and forgotten, what is left is read as it was added.
        #[test]
        fn what_is_not_forgotten_is_read_as_it_was_added(steps in prop::collection::vec((1..5_000_usize, any::<u8>(), 0..3_usize), 0..200)) {
            let (mut chunks, mut expected) = (Chunks::default(), VecDeque::new());
            for (length, byte, forgotten) in steps {
                chunks.push(&vec![byte; length]);
                expected.push_back((byte, length));
                for _ in 0..forgotten {
                    let Some((_, length)) = expected.pop_front() else { break };
                    chunks.forget(length);
                }
                let mut reading = chunks.read();
                for (byte, length) in &expected {
                    prop_assert_eq!(reading.take(*length), &vec![*byte; *length]);
                }
                prop_assert!(reading.first.is_empty() && reading.rest.len() == 0, "nothing is left over");
            }
        }
    }

    #[test]
    fn memory_is_used_again_and_stays_within_what_is_kept() {
        let mut chunks = Chunks::default();
        (0..1_000).for_each(|_| chunks.push(&[0; 300]));
        let places = |chunks: &Chunks| chunks.chunks.iter().map(|chunk| chunk.as_ptr()).collect::<std::collections::HashSet<_>>();
        let (many, used) = (chunks.chunks.len(), places(&chunks));
        assert!(many <= 5 + 1_000 * 300 / (CHUNK_BYTES - 300), "{many} chunks");
        for _ in 0..10_000 {
            chunks.push(&[0; 300]);
            chunks.forget(300);
        }
        assert!(chunks.chunks.len() <= many + 1);
        let new = places(&chunks).difference(&used).count();
        assert!(new <= 6, "{new} chunks are new, beside those that were too small");
        (0..1_000).for_each(|_| chunks.forget(300));
        assert_eq!((chunks.chunks.len(), chunks.begin, chunks.chunks[0].len()), (1, 0, 0));
    }
}
