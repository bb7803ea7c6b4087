//! How fast one client may send, and all clients of one address may join. Is handed the time, never asks for it.
//!
//! A bucket is the one number of GCRA (ITU-T I.371), the time at which it is full again, so an idle client costs nothing and nothing has to be
//! refilled. Times are nanoseconds since the bucket was made: each message is asked about, and to reckon with an [`Instant`] takes several times as
//! long.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::protocol::ClientRates;

/// What may pass at once is what may pass in this time.
const BURST: Nanos = 2 * SECOND;
/// Of the messages that may pass, this part may as well be refused over time, and as many as a burst at once. Who has more refused goes on
/// in spite of being told to wait.
const REFUSED_PART: u64 = 10;

/// Nanoseconds: 584 years of them, and no sum of them overflows.
type Nanos = u64;
const SECOND: Nanos = 1_000_000_000;

/// What one client has sent of late.
#[derive(Debug)]
pub struct Throttle {
    rates: ClientRates,
    /// What the times of the buckets count from.
    began: Instant,
    messages: Bucket,
    bytes: Bucket,
    joins: Bucket,
    refusals: Bucket,
    /// When it sent something last.
    heard_at: Instant,
    /// Until when it was told to wait.
    told_until: Instant,
    /// Has anything passed since it was told? Only then is it as if it had never been told.
    excused: bool,
}

/// A message comes too soon; the same may pass after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon(pub Duration);

impl Throttle {
    /// A client that has sent nothing yet.
    pub fn new(rates: ClientRates, now: Instant) -> Self {
        let full = Bucket::FULL;
        let (began, heard_at, told_until) = (now, now, now);
        Self { rates, began, messages: full, bytes: full, joins: full, refusals: full, heard_at, told_until, excused: true }
    }

    /// From now on it may be as fast as this.
    pub fn change(&mut self, rates: ClientRates) {
        self.rates = rates;
    }

    /// May a message of so many bytes pass? If it is a `join`, its address has to allow it as well. What may not pass takes nothing.
    pub fn take(&mut self, bytes: usize, join: Option<&AddressJoins>, now: Instant) -> Result<(), TooSoon> {
        self.heard_at = now;
        let rates = self.rates;
        let mut shared = join.map(|address| (address.bucket(), address));
        let at = nanos(now, self.began);
        let messages = self.messages.with(time(1, rates.messages_per_second), BURST, at);
        let bytes = self.bytes.with(time(bytes as u64, rates.bytes_per_second), BURST, at);
        let joins = if join.is_some() { self.joins.with(time(1, rates.joins_per_second), BURST, at) } else { Ok(self.joins) };
        let address = shared.as_ref().map(|(bucket, of)| bucket.with(time(1, of.per_second), BURST, nanos(now, of.began))).transpose();
        match (messages, bytes, joins, address) {
            (Ok(messages), Ok(bytes), Ok(joins), Ok(address)) => {
                (self.messages, self.bytes, self.joins) = (messages, bytes, joins);
                self.excused = true;
                if let (Some((bucket, _)), Some(address)) = (&mut shared, address) {
                    **bucket = address;
                }
                Ok(())
            }
            (messages, bytes, joins, address) => Err(TooSoon(wait(messages).max(wait(bytes)).max(wait(joins)).max(wait(address)))),
        }
    }

    /// The client is back on another connection, and says again what it may have said since it was last heard, at the most for so long.
    pub fn resume(&mut self, at_most: Duration, now: Instant) {
        let away = nanos(now, self.heard_at);
        let at_most = u64::try_from(at_most.as_nanos()).unwrap_or(Nanos::MAX);
        for bucket in [&mut self.messages, &mut self.bytes, &mut self.joins] {
            bucket.credit = bucket.credit.saturating_add(away).min(at_most);
        }
    }

    /// Notes that the client is told to wait; whether it is to be borne any longer. Of those that wait as they are told, and then send what passes,
    /// nothing is counted.
    pub fn refuse(&mut self, TooSoon(wait): TooSoon, now: Instant) -> bool {
        let has_obeyed = std::mem::take(&mut self.excused) && now >= self.told_until;
        self.told_until = now + wait;
        if has_obeyed {
            return true;
        }
        let time = |messages| time(messages, self.rates.messages_per_second);
        self.refusals
            .with(time(REFUSED_PART), REFUSED_PART * BURST, nanos(now, self.began))
            .map(|refusals| self.refusals = refusals)
            .is_ok()
    }
}

/// The joins of all clients of one address.
#[derive(Debug)]
pub struct AddressJoins {
    per_second: u32,
    began: Instant,
    bucket: Mutex<Bucket>,
}

impl AddressJoins {
    /// So many a second over time, and twice that at once.
    pub fn new(per_second: u32, now: Instant) -> Arc<Self> {
        Arc::new(Self { per_second, began: now, bucket: Mutex::new(Bucket::FULL) })
    }

    /// Is there nothing to remember?
    pub fn is_full(&self, now: Instant) -> bool {
        self.bucket().full_at <= nanos(now, self.began)
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Nanos,
    /// What may be taken beside the burst, as the time in which it would have come: it does not come back.
    credit: Nanos,
}

impl Bucket {
    /// One that nothing was taken from.
    const FULL: Self = Self { full_at: 0, credit: 0 };

    /// What it is when something is taken that takes `time` to come back, of which there is at most `burst`.
    fn with(self, time: Nanos, burst: Nanos, now: Nanos) -> Result<Self, TooSoon> {
        let unused_since = now.saturating_sub(self.credit);
        let full_at = self.full_at.max(unused_since).saturating_add(time);
        match full_at.saturating_sub(now).saturating_sub(burst) {
            0 => Ok(Self { full_at, credit: self.credit.min(now.saturating_sub(full_at)) }),
            wait => Err(TooSoon(Duration::from_nanos(wait))),
        }
    }
}

/// How long so much takes to come back. A rate of zero, which only a program that embeds the server can set, is taken for one.
fn time(amount: u64, per_second: u32) -> Nanos {
    amount.saturating_mul(SECOND) / u64::from(per_second.max(1))
}

fn nanos(now: Instant, since: Instant) -> Nanos {
    let time = now.saturating_duration_since(since);
    time.as_secs() * SECOND + Nanos::from(time.subsec_nanos())
}

fn wait<T>(outcome: Result<T, TooSoon>) -> Duration {
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
            assert_eq!(throttle.take(1, None, start), Ok(()));
        }
        assert_eq!(throttle.take(1, None, start), after(100));
        assert_eq!(throttle.take(1, None, at(99)), after(1));
        for n in 1..=1000 {
            assert_eq!(throttle.take(1, None, at(100 * n)), Ok(()));
            assert_eq!(throttle.take(1, None, at(100 * n)), after(100));
        }
    }

    #[test]
    fn bytes_are_counted_and_what_is_refused_takes_none() {
        let start = Instant::now();
        let mut throttle = Throttle::new(RATES, start);
        assert_eq!(throttle.take(1500, None, start), Ok(()));
        assert_eq!(throttle.take(700, None, start), after(200));
        assert_eq!(throttle.take(500, None, start), Ok(()));
        assert_eq!(throttle.take(1, None, start), after(1));
        assert_eq!(throttle.take(0, None, start), Ok(()));
    }

    #[test]
    fn joins_have_a_rate_of_their_own_and_share_that_of_their_address() {
        let start = Instant::now();
        let address = AddressJoins::new(3, start);
        let [mut one, mut other] = [Throttle::new(RATES, start), Throttle::new(RATES, start)];
        for _ in 0..4 {
            assert_eq!(one.take(1, Some(&address), start), Ok(()));
        }
        assert_eq!(one.take(1, Some(&address), start), after(500));
        for _ in 0..2 {
            assert_eq!(other.take(1, Some(&address), start), Ok(()));
        }
        assert!(matches!(other.take(1, Some(&address), start), Err(TooSoon(wait)) if wait.as_millis() == 333));
        // The longest of all waits: the same message would be refused again after a shorter one.
        assert_eq!(one.take(1, Some(&address), start), after(500));
        // What was refused took nothing, neither of the joins nor of the messages.
        for _ in 0..16 {
            assert_eq!(one.take(1, None, start), Ok(()));
        }
        assert_eq!(one.take(1, None, start), after(100));
        let later = start + Duration::from_millis(700);
        assert_eq!(other.take(1, Some(&address), later), Ok(()));
        assert_eq!(other.take(1, Some(&address), later), Ok(()));
        assert!(!address.is_full(later));
        assert!(address.is_full(start + Duration::from_secs(4)));
    }

    #[test]
    fn who_goes_on_is_borne_for_a_burst_and_for_a_tenth_over_time() {
        let start = Instant::now();
        let mut throttle = Throttle::new(RATES, start);
        let long = TooSoon(Duration::from_secs(1000));
        assert!(throttle.refuse(long, start), "nobody has told it yet");
        assert!((0..20).all(|_| throttle.refuse(long, start)));
        assert!(!throttle.refuse(long, start));
        assert!(!throttle.refuse(long, start + Duration::from_millis(999)));
        for second in 1..100 {
            assert!(throttle.refuse(long, start + Duration::from_secs(second)));
            assert!(!throttle.refuse(long, start + Duration::from_secs(second)));
        }
    }

    #[test]
    fn who_waits_as_it_is_told_is_borne_for_ever() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new(RATES, now);
        for _ in 0..10_000 {
            if let Err(told) = throttle.take(1, None, now) {
                assert!(throttle.refuse(told, now));
                now += told.0;
                assert_eq!(throttle.take(1, None, now), Ok(()));
            }
        }
    }

    #[test]
    fn who_was_away_may_say_what_it_could_have_said_meanwhile_and_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::new(RATES, start);
        let mut pass_at_once = |ms| (0..1000).take_while(|_| throttle.take(1, None, at(ms)).is_ok()).count();
        assert_eq!(pass_at_once(0), 20);
        // Without a break of the connection a burst is all.
        assert_eq!(pass_at_once(10_000), 20);
        throttle.resume(Duration::from_secs(5), at(13_000));
        let mut pass_at_once = |ms| (0..1000).take_while(|_| throttle.take(1, None, at(ms)).is_ok()).count();
        assert_eq!(pass_at_once(13_000), 30, "all that was saved in three seconds, and a burst less what was used");
        assert_eq!(pass_at_once(23_000), 20);
        throttle.resume(Duration::from_secs(5), at(60_000));
        assert_eq!(throttle.take(1, None, at(60_000)), Ok(()));
        let mut pass_at_once = |ms| (0..1000).take_while(|_| throttle.take(1, None, at(ms)).is_ok()).count();
        assert_eq!(pass_at_once(100_000), 69, "what is not used stays, and does not grow");
        assert_eq!(pass_at_once(200_000), 20);
        // It breaks off again before it has said everything.
        throttle.resume(Duration::from_secs(5), at(204_000));
        assert_eq!(throttle.take(1, None, at(204_000)), Ok(()));
        throttle.resume(Duration::from_secs(5), at(204_500));
        let mut pass_at_once = |ms| (0..1000).take_while(|_| throttle.take(1, None, at(ms)).is_ok()).count();
        assert_eq!(pass_at_once(204_500), 44, "as if it had not come back in between");
    }
}
