//! What was said to whom and has not arrived: the judge of a soak. Knows numbers, no clients.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// A client of the soak that keeps its session for the whole time.
pub type Talker = usize;

/// Everything that is on its way, and what went wrong.
#[derive(Default)]
pub struct Books {
    ways: HashMap<(Talker, Talker), Way>,
    pub sent: u64,
    pub received: u64,
    /// The sender was told that the message did not arrive.
    pub refused: u64,
    pub duplicated: u64,
    pub misordered: u64,
}

/// The numbers that one talker has said to another, in order.
#[derive(Default)]
struct Way {
    expected: VecDeque<u64>,
    /// Those that later ones overtook: lost, or refused and not yet told, or misordered.
    skipped: BTreeSet<u64>,
}

impl Books {
    /// Notes a message, whose number is higher than any before from this talker.
    pub fn sent(&mut self, from: Talker, to: Talker, number: u64) {
        self.ways.entry((from, to)).or_default().expected.push_back(number);
        self.sent += 1;
    }

    /// Notes that it arrived.
    pub fn received(&mut self, from: Talker, to: Talker, number: u64) {
        let way = self.ways.entry((from, to)).or_default();
        self.received += 1;
        while let Some(next) = way.expected.front().copied().filter(|next| *next <= number) {
            way.expected.pop_front();
            if next == number {
                return;
            }
            way.skipped.insert(next);
        }
        if way.skipped.remove(&number) {
            self.misordered += 1;
        } else {
            self.duplicated += 1;
        }
    }

    /// Notes that its sender was told that it did not arrive everywhere.
    pub fn refused(&mut self, from: Talker, number: u64) {
        for (_, way) in self.ways.iter_mut().filter(|((sender, _), _)| *sender == from) {
            let before = way.expected.len() + way.skipped.len();
            way.expected.retain(|expected| *expected != number);
            way.skipped.remove(&number);
            self.refused += (before - way.expected.len() - way.skipped.len()) as u64;
        }
    }

    /// How many have not arrived. Once nothing is on its way any more, they are lost.
    pub fn missing(&self) -> u64 {
        self.ways.values().map(|way| (way.expected.len() + way.skipped.len()) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_apart() {
        let mut books = Books::default();
        for number in 0..6 {
            books.sent(1, 2, number);
        }
        books.received(1, 2, 0);
        books.received(1, 2, 2);
        books.received(1, 2, 1);
        books.received(1, 2, 2);
        books.received(1, 2, 5);
        assert_eq!((books.misordered, books.duplicated, books.missing()), (1, 1, 2));
        books.refused(1, 3);
        assert_eq!((books.refused, books.missing()), (1, 1));
    }
}
