//! How long an address waits that has brought wrong credentials: tokens, resume tokens, the administrator's. Is handed the time, never asks for it.
//!
//! Some failures are free and come back over time. Each one beyond doubles what everybody of the address waits before its next credential is looked at, up
//! to a bound, so that a genuine client among them is only late. A wrong resume token is a small part of a failure: after a restart of the server every client
//! of an office has one, and those are too long to be guessed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What failures cost.
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// So many are free.
    pub free: u32,
    /// So many are free, where there are no others, of which every client may have one that an address may have: wrong resume tokens, and wrong tokens from
    /// a proxy that does not name its clients.
    pub among_many_free: u32,
    /// The longest that anybody waits.
    pub delay_max: Duration,
}

/// The failures of every address, as far as they still matter.
pub struct Failures {
    limits: FailureLimits,
    /// As much as there can be to forget.
    remembered_max: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When all that an address did is forgotten: the one number of GCRA (ITU-T I.371), as for rates.
    entries: HashMap<IpAddr, Instant>,
    /// With so many entries it is time to drop those that are of no use any more.
    sweep_at: usize,
}

/// One failure is forgotten in this time.
const RECOVERY: Duration = Duration::from_secs(60);
/// What is waited behind the first failure that is not free.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Fewer entries are not worth a look.
const SWEEP_LEAST: usize = 1024;
/// More addresses are not remembered, some 64 bytes each: those go that are soonest forgotten anyway.
const ADDRESSES_MAX: usize = 65_536;

impl Failures {
    /// Nobody has failed yet.
    pub fn new(limits: FailureLimits) -> Self {
        Self { limits, remembered_max: limits.remembered_max(), known: Mutex::default() }
    }

    /// How long whoever comes from this address waits before its credential is looked at.
    pub fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        match self.known().entries.get(&block(address)) {
            Some(clear_at) => self.limits.delay(clear_at.saturating_duration_since(now)),
            None => Duration::ZERO,
        }
    }

    /// Notes that a credential from this address was wrong.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        self.note(address, RECOVERY, now);
    }

    /// Notes a failure where there may be one of every client that the address may have: resume tokens after a restart, and those who share a proxy's address.
    pub fn failed_among_many(&self, address: IpAddr, now: Instant) {
        let FailureLimits { free, among_many_free, .. } = self.limits;
        self.note(address, (RECOVERY * free / among_many_free.max(1)).min(RECOVERY), now);
    }

    fn note(&self, address: IpAddr, cost: Duration, now: Instant) {
        let mut known = self.known();
        if known.entries.len() >= known.sweep_at {
            known.sweep(now);
        }
        let clear_at = known.entries.entry(block(address)).or_insert(now);
        // A flood is not remembered for longer than what it makes others wait.
        *clear_at = ((*clear_at).max(now) + cost).min(now + self.remembered_max);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FailureLimits {
    /// What is waited where it takes so long until all is forgotten.
    fn delay(&self, until_clear: Duration) -> Duration {
        let beyond = until_clear.saturating_sub(RECOVERY * self.free);
        let doublings = match beyond.as_nanos().div_ceil(RECOVERY.as_nanos()) {
            0 => return Duration::ZERO,
            failures => u32::try_from(failures - 1).unwrap_or(u32::MAX),
        };
        let delay = 1u32.checked_shl(doublings).map_or(Duration::MAX, |times| FIRST_DELAY.saturating_mul(times));
        delay.min(self.delay_max)
    }

    /// With this much to forget the delay is at its longest.
    fn remembered_max(&self) -> Duration {
        let mut failures = self.free + 1;
        while self.delay(RECOVERY * failures) < self.delay_max {
            failures += 1;
        }
        RECOVERY * failures
    }
}

impl Known {
    fn sweep(&mut self, now: Instant) {
        self.entries.retain(|_, clear_at| *clear_at > now);
        if self.entries.len() >= ADDRESSES_MAX {
            let mut times: Vec<Instant> = self.entries.values().copied().collect();
            let (_, &mut median, _) = times.select_nth_unstable(ADDRESSES_MAX / 2);
            self.entries.retain(|_, clear_at| *clear_at > median);
        }
        self.sweep_at = (2 * self.entries.len()).clamp(SWEEP_LEAST, ADDRESSES_MAX);
    }
}

/// What counts as one address: that of IPv4, or the first 64 bits of one of IPv6, because whoever has one of those has them all (RFC 6177).
pub fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FailureLimits = FailureLimits { free: 10, among_many_free: 5000, delay_max: Duration::from_secs(10) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn some_failures_are_free_and_each_one_beyond_doubles_the_delay_to_its_bound() {
        let (failures, now) = (Failures::new(LIMITS), Instant::now());
        let anna = ip("192.0.2.1");
        let mut delays = Vec::new();
        for _ in 0..20 {
            failures.failed(anna, now);
            delays.push(failures.delay(anna, now).as_millis());
        }
        assert_eq!(delays[..10], [0; 10]);
        assert_eq!(delays[10..], [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(failures.delay(ip("192.0.2.2"), now), Duration::ZERO, "others do not wait");
    }

    #[test]
    fn failures_are_forgotten_one_by_one_and_a_flood_as_soon_as_any() {
        let (failures, now) = (Failures::new(LIMITS), Instant::now());
        let anna = ip("192.0.2.1");
        for _ in 0..10_000 {
            failures.failed(anna, now);
        }
        let after = |minutes: u32| failures.delay(anna, now + RECOVERY * minutes).as_millis();
        assert_eq!((0..10).map(after).collect::<Vec<_>>(), [10_000, 6400, 3200, 1600, 800, 400, 200, 100, 0, 0]);
        let later = now + RECOVERY * 9;
        failures.failed(anna, later);
        failures.failed(anna, later);
        assert_eq!(failures.delay(anna, later).as_millis(), 100, "one of those that are free has come back");
    }

    /// After a restart of the server every client of an office brings a token that was good before.
    #[test]
    fn an_office_whose_every_client_fails_to_resume_once_does_not_wait() {
        let (failures, now) = (Failures::new(LIMITS), Instant::now());
        let office = ip("192.0.2.1");
        for _ in 0..LIMITS.among_many_free {
            failures.failed_among_many(office, now);
            assert_eq!(failures.delay(office, now), Duration::ZERO);
        }
        failures.failed_among_many(office, now);
        assert_ne!(failures.delay(office, now), Duration::ZERO);
        let small = ip("192.0.2.2");
        for restart in 0..10 {
            (0..500).for_each(|_| failures.failed_among_many(small, now));
            assert_eq!(failures.delay(small, now), Duration::ZERO, "restart {restart}");
        }
    }

    #[test]
    fn the_bounds_are_those_that_are_set() {
        let now = Instant::now();
        for (limits, expected) in [
            (FailureLimits { free: 1, among_many_free: 0, delay_max: Duration::from_millis(50) }, [0, 50, 50]),
            (FailureLimits { free: 0, among_many_free: 1, delay_max: Duration::from_millis(300) }, [100, 200, 300]),
            (FailureLimits { free: 0, among_many_free: 1, delay_max: Duration::ZERO }, [0, 0, 0]),
        ] {
            let failures = Failures::new(limits);
            let delays = [(); 3].map(|()| {
                failures.failed(ip("::1"), now);
                failures.delay(ip("::1"), now).as_millis()
            });
            assert_eq!(delays, expected, "{limits:?}");
        }
    }

    #[test]
    fn ipv6_fails_by_its_first_64_bits() {
        let failures = Failures::new(FailureLimits { free: 0, ..LIMITS });
        let now = Instant::now();
        failures.failed(ip("2001:db8:0:1::1"), now);
        failures.failed(ip("::ffff:192.0.2.1"), now);
        for address in ["2001:db8:0:1:ffff:ffff:ffff:ffff", "192.0.2.1"] {
            assert_ne!(failures.delay(ip(address), now), Duration::ZERO, "{address}");
        }
        assert_eq!(failures.delay(ip("2001:db8:0:2::1"), now), Duration::ZERO);
    }

    #[test]
    fn addresses_are_forgotten_when_they_have_recovered_and_never_more_known_than_the_bound() {
        let (failures, now) = (Failures::new(LIMITS), Instant::now());
        let address = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        for n in 0..100 * SWEEP_LEAST as u32 {
            failures.failed(address(n), now + RECOVERY * (n / 100));
        }
        assert!(failures.known().entries.len() <= SWEEP_LEAST);

        let worst = address(0);
        (0..100).for_each(|_| failures.failed(worst, now));
        for n in 1..3 * ADDRESSES_MAX as u32 {
            failures.failed(address(n), now);
            if n % 1000 == 0 {
                assert!(failures.known().entries.len() <= ADDRESSES_MAX);
            }
        }
        assert_ne!(failures.delay(worst, now), Duration::ZERO, "who did most is remembered");
    }
}
