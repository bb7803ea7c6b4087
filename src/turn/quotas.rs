//! How much may be relayed, and waited for: allocations of one session and of all, streams and requests of one address and of all, bytes in a second of one
//! allocation and of all.

use std::{
    cell::Cell,
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// So many of something for each who has them, and so many in all.
pub struct Quotas<Owner: Copy + Eq + Hash> {
    of_one_max: usize,
    total_max: usize,
    taken: Mutex<Taken<Owner>>,
}

struct Taken<Owner> {
    total: usize,
    owners: HashMap<Owner, usize>,
}

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// Whoever asks has as many as may be.
    Own,
    /// All together have.
    All,
}

/// The right to one. Given back when dropped.
pub struct Share<Owner: Copy + Eq + Hash> {
    quotas: Arc<Quotas<Owner>>,
    owner: Owner,
}

impl<Owner: Copy + Eq + Hash> Quotas<Owner> {
    /// So many for each, and so many in all.
    pub fn new(of_one_max: usize, total_max: usize) -> Arc<Self> {
        Arc::new(Self { of_one_max, total_max, taken: Taken { total: 0, owners: HashMap::new() }.into() })
    }

    /// One more for this owner.
    pub fn take(self: &Arc<Self>, owner: Owner) -> Result<Share<Owner>, Exhausted> {
        let mut taken = self.taken();
        if taken.owners.get(&owner).is_some_and(|taken| *taken >= self.of_one_max) {
            return Err(Exhausted::Own);
        }
        if taken.total >= self.total_max {
            return Err(Exhausted::All);
        }
        taken.total += 1;
        *taken.owners.entry(owner).or_default() += 1;
        Ok(Share { quotas: self.clone(), owner })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<Owner>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Owner: Copy + Eq + Hash> Drop for Share<Owner> {
    fn drop(&mut self) {
        let mut taken = self.quotas.taken();
        taken.total -= 1;
        if let Some(of_owner) = taken.owners.get_mut(&self.owner) {
            *of_owner -= 1;
            if *of_owner == 0 {
                taken.owners.remove(&self.owner);
            }
        }
    }
}

/// Bytes in a second: GCRA (ITU-T I.371), whose one number is when all that has passed would have at an even pace. A second's worth may pass at once, and a
/// packet passes whole or not at all.
struct Pace {
    bytes_per_second: u64,
    since: Instant,
}

const BURST: Duration = Duration::from_secs(1);

impl Pace {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { bytes_per_second, since: now }
    }

    /// The number with these bytes passed, if they may.
    fn pass(&self, even_at: u64, bytes: usize, now: Instant) -> Option<u64> {
        let now = now.saturating_duration_since(self.since).as_nanos() as u64;
        let cost = bytes as u64 * 1_000_000_000 / self.bytes_per_second;
        (even_at <= now + BURST.as_nanos() as u64).then(|| even_at.max(now) + cost)
    }
}

/// The pace of one allocation.
pub struct OwnPace {
    pace: Pace,
    even_at: Cell<u64>,
}

impl OwnPace {
    /// At most so many bytes in a second.
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { pace: Pace::new(bytes_per_second, now), even_at: Cell::new(0) }
    }

    /// May so many bytes pass now? Then they have.
    pub fn pass(&self, bytes: usize, now: Instant) -> bool {
        let passed = self.pace.pass(self.even_at.get(), bytes, now);
        passed.inspect(|even_at| self.even_at.set(*even_at)).is_some()
    }
}

/// The pace of all together.
pub struct SharedPace {
    pace: Pace,
    even_at: AtomicU64,
}

impl SharedPace {
    /// At most so many bytes in a second.
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self { pace: Pace::new(bytes_per_second, now), even_at: AtomicU64::new(0) }
    }

    /// May so many bytes pass now? Then they have.
    pub fn pass(&self, bytes: usize, now: Instant) -> bool {
        self.even_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |even_at| self.pace.pass(even_at, bytes, now)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PeerId;

    #[test]
    fn a_session_has_its_allocations_and_all_have_theirs() {
        let quotas = Quotas::new(2, 3);
        let (anna, bob) = (PeerId::random(), PeerId::random());
        let take = |peer_id| quotas.take(peer_id);
        let first = take(anna).ok().unwrap();
        let _second = take(anna).ok().unwrap();
        assert_eq!(take(anna).err(), Some(Exhausted::Own));
        let third = take(bob).ok().unwrap();
        assert_eq!(take(bob).err(), Some(Exhausted::All));
        drop(first);
        assert!(take(bob).is_ok() && take(anna).is_ok());
        drop(third);
        let taken = quotas.taken();
        assert_eq!((taken.total, taken.owners.len()), (1, 1), "nothing is kept of who has none");
        drop(taken);
    }

    #[test]
    fn bytes_pass_at_their_pace_with_a_second_at_once() {
        let now = Instant::now();
        let (own, shared) = (OwnPace::new(1000, now), SharedPace::new(1000, now));
        let passed = |from: Duration| {
            let count = |pass: &dyn Fn() -> bool| (0..100).filter(|_| pass()).count();
            (count(&|| own.pass(100, now + from)), count(&|| shared.pass(100, now + from)))
        };
        assert_eq!(passed(Duration::ZERO), (11, 11));
        assert_eq!(passed(Duration::from_millis(500)), (5, 5));
        assert_eq!(passed(Duration::from_secs(60)), (11, 11));
        assert!(OwnPace::new(1, now).pass(65_535, now), "a packet is not too large for any pace");
    }
}
