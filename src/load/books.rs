//! The books of what one client hears from one sender: what is missing, what came twice, what came in another order.

use std::ops::{AddAssign, Range};

/// What went wrong. All of it has to be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Sent, and not heard by somebody who should have.
    pub lost: u64,
    /// Heard more than once.
    pub duplicated: u64,
    /// Heard after a later one.
    pub misordered: u64,
    /// Heard by somebody for whom it was not.
    pub astray: u64,
}

/// What was heard of messages that are numbered from 0.
#[derive(Debug, Default)]
pub struct Book {
    next: u64,
    /// What was passed over, in order; one entry however many messages.
    gaps: Vec<Range<u64>>,
    faults: Faults,
    is_astray: bool,
}

/// What was heard of one who comes and goes in turns: `joined`, `left`, `joined` …, which carry no number.
#[derive(Debug, Default)]
pub struct Turns {
    /// The number of the turn that comes next.
    next: u64,
    /// Turns that were passed over: comings, and goings.
    missing: [u64; 2],
    faults: Faults,
}

impl Faults {
    /// Did nothing go wrong?
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.misordered += other.misordered;
        self.astray += other.astray;
    }
}

impl Book {
    /// One for messages that should not be heard at all.
    pub fn astray() -> Self {
        Self { is_astray: true, ..Self::default() }
    }

    /// Should nothing be heard?
    pub fn is_astray(&self) -> bool {
        self.is_astray
    }

    /// Message `number` was heard. Was it due here, and for the first time?
    pub fn hear(&mut self, number: u64) -> bool {
        if self.is_astray {
            self.faults.astray += 1;
            return false;
        }
        if number >= self.next {
            if number > self.next {
                self.gaps.push(self.next..number);
            }
            self.next = number + 1;
            return true;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&number)) else {
            self.faults.duplicated += 1;
            return false;
        };
        let gap = self.gaps[at].clone();
        self.gaps.splice(at..=at, [gap.start..number, number + 1..gap.end].into_iter().filter(|gap| !gap.is_empty()));
        self.faults.misordered += 1;
        true
    }

    /// All was heard that will be, of so many that were sent.
    pub fn close(&self, sent: u64) -> Faults {
        let missing: u64 = self.gaps.iter().map(|gap| gap.end - gap.start).sum();
        Faults {
            lost: missing + sent.saturating_sub(self.next),
            astray: self.faults.astray + self.next.saturating_sub(sent),
            ..self.faults
        }
    }
}

impl Turns {
    /// Of one whose first coming is not to be heard.
    pub fn after_the_first() -> Self {
        Self { next: 1, ..Self::default() }
    }

    /// One turn was heard, when `taken` had been taken; its number, unless it was not its turn. Where the next one does not fit and the one behind it
    /// does, one was lost.
    pub fn hear(&mut self, is_join: bool, taken: u64) -> Option<u64> {
        let passed_over = u64::from(is_join != self.next.is_multiple_of(2));
        let number = self.next + passed_over;
        if number < taken {
            self.missing[usize::from(is_join)] += passed_over;
            self.next = number + 1;
            return Some(number);
        }
        match &mut self.missing[usize::from(!is_join)] {
            0 => self.faults.duplicated += 1,
            missing => {
                *missing -= 1;
                self.faults.misordered += 1;
            }
        }
        None
    }

    /// All was heard that will be, of so many turns.
    pub fn close(&self, taken: u64) -> Faults {
        Faults { lost: self.missing.iter().sum::<u64>() + taken.saturating_sub(self.next), ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(heard: &[u64], sent: u64) -> Faults {
        let mut book = Book::default();
        for number in heard {
            book.hear(*number);
        }
        book.close(sent)
    }

    #[test]
    fn what_is_dropped_doubled_or_swapped_is_told() {
        let clean = Faults::default();
        for (heard, sent, expected) in [
            (&[0, 1, 2, 3][..], 4, clean),
            (&[], 0, clean),
            (&[0, 1, 3], 4, Faults { lost: 1, ..clean }),
            (&[0, 1], 4, Faults { lost: 2, ..clean }),
            (&[], 3, Faults { lost: 3, ..clean }),
            (&[0, 1, 1, 2], 3, Faults { duplicated: 1, ..clean }),
            (&[0, 2, 1, 3], 4, Faults { misordered: 1, ..clean }),
            (&[4, 2, 3, 2, 0], 5, Faults { lost: 1, duplicated: 1, misordered: 3, ..clean }),
            (&[0, 1, 2], 2, Faults { astray: 1, ..clean }),
        ] {
            assert_eq!(faults(heard, sent), expected, "{heard:?} of {sent}");
            assert_eq!(expected.is_clean(), expected == clean);
        }
    }

    #[test]
    fn turns_that_are_dropped_doubled_or_swapped_are_told() {
        let turns = |heard: &[bool], taken| {
            let mut turns = Turns::default();
            for is_join in heard {
                turns.hear(*is_join, taken);
            }
            turns.close(taken)
        };
        const JOIN: bool = true;
        const LEAVE: bool = false;
        assert!(turns(&[], 0).is_clean());
        assert!(turns(&[JOIN, LEAVE, JOIN], 3).is_clean());
        for (heard, taken) in [(&[JOIN, LEAVE][..], 3), (&[JOIN, JOIN], 2), (&[JOIN, LEAVE, LEAVE], 2), (&[LEAVE, JOIN], 2), (&[JOIN], 0)] {
            assert!(!turns(heard, taken).is_clean(), "{heard:?} of {taken}");
        }
        assert_eq!(turns(&[JOIN, LEAVE, LEAVE, JOIN, LEAVE], 6), Faults { lost: 1, ..Faults::default() }, "it comes back into step");
        assert_eq!(turns(&[JOIN, LEAVE, LEAVE], 2), Faults { duplicated: 1, ..Faults::default() });
        assert_eq!(turns(&[LEAVE, JOIN], 2), Faults { misordered: 1, ..Faults::default() });
    }

    #[test]
    fn only_what_is_heard_for_the_first_time_is_new() {
        let mut book = Book::default();
        assert_eq!([0, 2, 2, 1, 1].map(|number| book.hear(number)), [true, true, false, true, false]);
        assert!(!Book::astray().hear(0));
        let mut turns = Turns::after_the_first();
        assert_eq!([(true, 1), (false, 2), (false, 2)].map(|(is_join, taken)| turns.hear(is_join, taken)), [None, Some(1), None]);
    }
}
