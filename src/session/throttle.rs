//! How fast one client may send. Is handed the time, never asks for it.
//!
//! A bucket is the one number of GCRA (ITU-T I.371), the time at which it is full again, so an idle client costs nothing and nothing has to be
//! refilled.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::protocol::ClientRates;

/// What may pass at once is what may pass in this time.
const BURST: Duration = Duration::from_secs(2);
/// Of the messages that may pass, this part may as well be refused over time, and as many as a burst at once. Who has more refused goes on
/// in spite of being told to wait.
const REFUSED_PART: u64 = 10;

/// What one client has sent of late.
#[derive(Debug)]
pub struct Throttle {
    rates: ClientRates,
    messages: Bucket,
    bytes: Bucket,
    joins: Bucket,
    refusals: Bucket,
}

/// A message comes too soon; the same may pass after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon(pub Duration);

impl Throttle {
    /// A client that has sent nothing yet.
    pub fn new(rates: ClientRates, now: Instant) -> Self {
        let full = Bucket { full_at: now };
        Self { rates, messages: full, bytes: full, joins: full, refusals: full }
    }

    /// May a message of so many bytes pass?
    pub fn message(&mut self, bytes: usize, now: Instant) -> Result<(), TooSoon> {
        let messages = self.messages.with(time(1, self.rates.messages_per_second), BURST, now);
        let bytes = self.bytes.with(time(bytes as u64, self.rates.bytes_per_second), BURST, now);
        match (messages, bytes) {
            (Ok(messages), Ok(bytes)) => {
                (self.messages, self.bytes) = (messages, bytes);
                Ok(())
            }
            (messages, bytes) => Err(TooSoon(wait(messages).max(wait(bytes)))),
        }
    }

    /// May a `join` pass, for the client and for its address?
    pub fn join(&mut self, address: &AddressJoins, now: Instant) -> Result<(), TooSoon> {
        let joins = self.joins.with(time(1, self.rates.joins_per_second), BURST, now)?;
        address.take(now)?;
        self.joins = joins;
        Ok(())
    }

    /// Notes a refusal; whether the client is to be borne any longer.
    pub fn refused(&mut self, now: Instant) -> bool {
        let time = |messages| time(messages, self.rates.messages_per_second);
        let burst = BURST * u32::try_from(REFUSED_PART).expect("a small number");
        self.refusals.with(time(REFUSED_PART), burst, now).map(|refusals| self.refusals = refusals).is_ok()
    }
}

/// The joins of all clients of one address.
#[derive(Debug)]
pub struct AddressJoins {
    per_second: u32,
    bucket: Mutex<Bucket>,
}

impl AddressJoins {
    /// So many a second over time, and twice that at once.
    pub fn new(per_second: u32, now: Instant) -> Arc<Self> {
        Arc::new(Self { per_second, bucket: Mutex::new(Bucket { full_at: now }) })
    }

    /// Takes one, unless that is too soon.
    pub fn take(&self, now: Instant) -> Result<(), TooSoon> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        *bucket = bucket.with(time(1, self.per_second), BURST, now)?;
        Ok(())
    }

    /// Is there nothing to remember?
    pub fn is_full(&self, now: Instant) -> bool {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).full_at <= now
    }
}

/// A token bucket. It starts full.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// What it is when something is taken that takes `time` to come back, of which there is at most `burst`.
    fn with(self, time: Duration, burst: Duration, now: Instant) -> Result<Self, TooSoon> {
        let full_at = self.full_at.max(now) + time;
        match (full_at - now).checked_sub(burst) {
            None | Some(Duration::ZERO) => Ok(Self { full_at }),
            Some(wait) => Err(TooSoon(wait)),
        }
    }
}

/// How long so much takes to come back.
fn time(amount: u64, per_second: u32) -> Duration {
    Duration::from_nanos(amount.saturating_mul(1_000_000_000) / u64::from(per_second))
}

fn wait(outcome: Result<Bucket, TooSoon>) -> Duration {
    outcome.err().map_or(Duration::ZERO, |TooSoon(wait)| wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: ClientRates = ClientRates { messages_per_second: 10, bytes_per_second: 1000, joins_per_second: 2 };

    fn after(ms: u64) -> Result<(), TooSoon> {
        Err(TooSoon(Duration::from_millis(ms)))
    }

    #[test]
    fn twice_the_rate_passes_at_once_and_the_rate_over_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::new(RATES, start);
        for _ in 0..20 {
            assert_eq!(throttle.message(1, start), Ok(()));
        }
        assert_eq!(throttle.message(1, start), after(100));
        assert_eq!(throttle.message(1, at(99)), after(1));
        for n in 1..=1000 {
            assert_eq!(throttle.message(1, at(100 * n)), Ok(()));
            assert_eq!(throttle.message(1, at(100 * n)), after(100));
        }
    }

    #[test]
    fn bytes_are_counted_and_what_is_refused_takes_none() {
        let start = Instant::now();
        let mut throttle = Throttle::new(RATES, start);
        assert_eq!(throttle.message(1500, start), Ok(()));
        assert_eq!(throttle.message(700, start), after(200));
        assert_eq!(throttle.message(500, start), Ok(()));
        assert_eq!(throttle.message(1, start), after(1));
        assert_eq!(throttle.message(0, start), Ok(()));
    }

    #[test]
    fn joins_have_a_rate_of_their_own_and_share_that_of_their_address() {
        let start = Instant::now();
        let address = AddressJoins::new(3, start);
        let [mut one, mut other] = [Throttle::new(RATES, start), Throttle::new(RATES, start)];
        for _ in 0..4 {
            assert_eq!(one.join(&address, start), Ok(()));
        }
        assert_eq!(one.join(&address, start), after(500));
        for _ in 0..2 {
            assert_eq!(other.join(&address, start), Ok(()));
        }
        assert!(matches!(other.join(&address, start), Err(TooSoon(wait)) if wait.as_millis() == 333));
        // What the address refused, the client has not used.
        let later = start + Duration::from_millis(700);
        assert_eq!(other.join(&address, later), Ok(()));
        assert_eq!(other.join(&address, later), Ok(()));
        assert!(!address.is_full(later));
        assert!(address.is_full(start + Duration::from_secs(4)));
    }

    #[test]
    fn who_goes_on_is_borne_for_a_burst_and_for_a_tenth_over_time() {
        let start = Instant::now();
        let mut throttle = Throttle::new(RATES, start);
        assert!((0..20).all(|_| throttle.refused(start)));
        assert!(!throttle.refused(start));
        assert!(!throttle.refused(start + Duration::from_millis(999)));
        for second in 1..100 {
            assert!(throttle.refused(start + Duration::from_secs(second)));
            assert!(!throttle.refused(start + Duration::from_secs(second)));
        }
    }
}
