//! The bytes of many short messages in a few allocations: what came first goes first.
//!
//! A message that is kept for a while in an allocation of its own lies somewhere else than the one before it, and to give it back means to look at
//! memory that nothing has looked at since. Beside the bytes in them, chunks take what is forgotten of the first one, what is free in each,
//! and a chunk in reserve, until they are [shrunk](Chunks::shrink).

use std::collections::{VecDeque, vec_deque::Iter};

/// Bytes of the first chunk: what a client that is left in peace is told.
const FIRST_BYTES: usize = 512;
/// Bytes of a chunk where many messages are kept: some allocations for each megabyte, and little to keep in reserve.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes, put in at one end and forgotten at the other. How many belong together is for others to know.
#[derive(Debug, Default)]
pub struct Chunks {
    /// None is ever filled past the capacity that it has from the beginning. Only the last one may have nothing in it.
    chunks: VecDeque<Vec<u8>>,
    /// How many bytes of the first chunk are forgotten.
    begin: usize,
    /// A chunk of full size that was forgotten, for the next one.
    spare: Option<Vec<u8>>,
}

impl Chunks {
    /// Adds bytes, which stay side by side.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.chunks.back_mut() {
            Some(last) if last.capacity() - last.len() >= bytes.len() => last.extend_from_slice(bytes),
            _ => self.push_chunk(bytes),
        }
    }

    fn push_chunk(&mut self, bytes: &[u8]) {
        let doubled = self.chunks.back().map_or(FIRST_BYTES, |last| 2 * last.capacity());
        if self.chunks.back().is_some_and(Vec::is_empty) {
            self.chunks.pop_back();
        }
        let capacity = doubled.clamp(FIRST_BYTES, CHUNK_BYTES).max(bytes.len());
        let spare = self.spare.take().filter(|spare| spare.capacity() >= capacity);
        let mut chunk = spare.unwrap_or_else(|| Vec::with_capacity(capacity));
        chunk.extend_from_slice(bytes);
        self.chunks.push_back(chunk);
    }

    /// Forgets the bytes that were added together, `length` of them, and are the oldest.
    pub fn forget(&mut self, length: usize) {
        let Some(first) = self.chunks.front_mut() else { return };
        self.begin += length;
        debug_assert!(self.begin <= first.len(), "only what was added is forgotten");
        if self.begin < first.len() {
            return;
        }
        first.clear();
        self.begin = 0;
        if self.chunks.len() > 1 {
            self.spare = self.chunks.pop_front().filter(|chunk| chunk.capacity() >= CHUNK_BYTES);
        }
    }

    /// Gives back what is free at both ends.
    pub fn shrink(&mut self) {
        self.spare = None;
        if let Some(first) = self.chunks.front_mut() {
            first.drain(..self.begin);
            first.shrink_to_fit();
            self.begin = 0;
        }
        if let Some(last) = self.chunks.back_mut() {
            last.shrink_to_fit();
        }
    }

    /// Reads from the oldest on.
    pub fn read(&self) -> Reading<'_> {
        let mut rest = self.chunks.iter();
        Reading { part: rest.next().map_or(&[], |first| &first[self.begin..]), rest }
    }
}

/// How far the bytes were read.
pub struct Reading<'a> {
    /// What is left of a chunk.
    part: &'a [u8],
    /// Those behind it.
    rest: Iter<'a, Vec<u8>>,
}

impl<'a> Reading<'a> {
    /// The next bytes that were added together, `length` of them.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        if self.part.is_empty() {
            self.part = self.rest.next().map_or(&[], |chunk| chunk);
        }
        let (taken, behind) = self.part.split_at(length);
        self.part = behind;
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
        fn what_is_not_forgotten_is_read_as_it_was_added(steps in prop::collection::vec((0..5_000_usize, any::<u8>(), 0..4_usize), 0..200)) {
            let (mut chunks, mut expected) = (Chunks::default(), VecDeque::new());
            for (length, byte, then) in steps {
                chunks.push(&vec![byte; length]);
                expected.push_back((byte, length));
                if then == 3 {
                    chunks.shrink();
                }
                for _ in 0..then % 3 {
                    let Some((_, length)) = expected.pop_front() else { break };
                    chunks.forget(length);
                }
                let mut reading = chunks.read();
                for (byte, length) in &expected {
                    prop_assert_eq!(reading.take(*length), &vec![*byte; *length]);
                }
                let left = reading.part.len() + reading.rest.map(Vec::len).sum::<usize>();
                prop_assert_eq!(left, 0, "nothing else is there");
            }
        }
    }

    /// What they take.
    fn capacity(chunks: &Chunks) -> usize {
        chunks.chunks.iter().chain(&chunks.spare).map(Vec::capacity).sum()
    }

    #[test]
    fn a_chunk_that_is_forgotten_is_the_next_one() {
        let mut chunks = Chunks::default();
        (0..1_000).for_each(|_| chunks.push(&[0; 300]));
        let most = 1_000 * 300 / (CHUNK_BYTES / 300 * 300) + 7;
        let mut reserved = 0;
        for _ in 0..10_000 {
            if let Some(spare) = &chunks.spare {
                let (spare, last) = (spare.as_ptr(), chunks.chunks.back().unwrap().as_ptr());
                chunks.push(&[0; 300]);
                let pushed = chunks.chunks.back().unwrap().as_ptr();
                assert!(pushed == last || pushed == spare, "there is a new one beside the spare");
                reserved += usize::from(pushed == spare);
            } else {
                chunks.push(&[0; 300]);
            }
            chunks.forget(300);
            assert!(chunks.chunks.len() <= most, "{} chunks", chunks.chunks.len());
        }
        assert!(reserved > 100, "{reserved} chunks were used again");
    }

    #[test]
    fn what_is_shrunk_takes_what_is_in_it() {
        let mut chunks = Chunks::default();
        (0..200).for_each(|_| chunks.push(&[0; 300]));
        (0..199).for_each(|_| chunks.forget(300));
        assert!(capacity(&chunks) > CHUNK_BYTES && chunks.spare.is_some());
        chunks.shrink();
        assert_eq!(capacity(&chunks), 300);
        chunks.forget(300);
        chunks.shrink();
        assert_eq!(capacity(&chunks), 0);
        chunks.push(&[0; 10]);
        assert_eq!((capacity(&chunks), chunks.read().take(10)), (FIRST_BYTES, &[0; 10][..]));
    }
}
