//! How long a client may be silent: first it is probed, then it is gone. Is handed the time, never asks for it.
//!
//! A server that stood still, or did not read, heard nobody. What it was sent meanwhile may still wait in the socket, so that silence is its
//! own and counts for nothing.

use std::time::{Duration, Instant};

/// The silence of one connection.
#[derive(Debug)]
pub struct Heartbeat {
    probe_after: Duration,
    dead_after: Duration,
    heard_at: Instant,
    probed: bool,
    /// When it is to be asked next, at the latest.
    due: Instant,
    /// When the next probe is due, of a client that wants them regularly.
    steady: Option<Instant>,
}

/// What silence calls for.
#[derive(Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing, until this time.
    Wait(Instant),
    /// A probe; then wait until this time.
    Probe(Instant),
    /// The client is gone.
    Dead,
}

impl Heartbeat {
    /// A client that was heard just now, is probed after a silence of `probe_after` and given up after one of `dead_after`, which is longer.
    pub fn new(probe_after: Duration, dead_after: Duration, now: Instant) -> Self {
        Self { probe_after, dead_after, heard_at: now, probed: false, due: now + probe_after, steady: None }
    }

    /// The same for a client that gives up a server which does not probe it every so often, whatever it says itself.
    pub fn steady(probe_after: Duration, dead_after: Duration, now: Instant) -> Self {
        Self { steady: Some(now + probe_after), ..Self::new(probe_after, dead_after, now) }
    }

    /// Notes a sign of life.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.probed = false;
    }

    /// When the last sign of life came.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Decides; to be asked again at the time that it names, or before.
    pub fn beat(&mut self, now: Instant) -> Beat {
        // Asked so late that a probe would have been due meanwhile, and nothing was read since.
        if now >= self.due + self.probe_after && now >= self.heard_at + self.probe_after {
            self.heard(now - self.probe_after);
        }
        let beat = self.judge(now);
        self.due = match beat {
            Beat::Wait(until) | Beat::Probe(until) => until,
            Beat::Dead => now,
        };
        beat
    }

    fn judge(&mut self, now: Instant) -> Beat {
        let (probe_at, dead_at) = (self.heard_at + self.probe_after, self.heard_at + self.dead_after);
        if now >= dead_at {
            Beat::Dead
        } else if let Some(probe_at) = &mut self.steady {
            let is_due = now >= *probe_at;
            if is_due {
                *probe_at = now + self.probe_after;
            }
            let until = dead_at.min(*probe_at);
            if is_due { Beat::Probe(until) } else { Beat::Wait(until) }
        } else if self.probed {
            Beat::Wait(dead_at)
        } else if now >= probe_at {
            self.probed = true;
            Beat::Probe(dead_at)
        } else {
            Beat::Wait(probe_at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_probed_once_and_then_ends_the_client() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::new(Duration::from_secs(10), Duration::from_secs(25), start);
        assert_eq!(heartbeat.beat(at(0)), Beat::Wait(at(10)));
        heartbeat.heard(at(5));
        assert_eq!(heartbeat.beat(at(10)), Beat::Wait(at(15)));
        assert_eq!(heartbeat.beat(at(15)), Beat::Probe(at(30)));
        assert_eq!(heartbeat.beat(at(29)), Beat::Wait(at(30)));
        heartbeat.heard(at(29));
        assert_eq!(heartbeat.beat(at(30)), Beat::Wait(at(39)));
        assert_eq!(heartbeat.beat(at(39)), Beat::Probe(at(54)));
        assert_eq!(heartbeat.beat(at(54)), Beat::Dead);
    }

    #[test]
    fn who_wants_probes_regularly_gets_them_whatever_it_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::steady(Duration::from_secs(10), Duration::from_secs(25), start);
        heartbeat.heard(at(9));
        assert_eq!(heartbeat.beat(at(9)), Beat::Wait(at(10)));
        assert_eq!(heartbeat.beat(at(10)), Beat::Probe(at(20)));
        assert_eq!(heartbeat.beat(at(20)), Beat::Probe(at(30)));
        heartbeat.heard(at(21));
        assert_eq!(heartbeat.beat(at(30)), Beat::Probe(at(40)));
        assert_eq!(heartbeat.beat(at(40)), Beat::Probe(at(46)));
        assert_eq!(heartbeat.beat(at(46)), Beat::Dead);
    }

    /// A server that was stopped for longer than its patience gave up every client on a WebSocket as it went on, before it read what they
    /// had sent meanwhile: the timers fire first.
    #[test]
    fn who_was_not_listened_to_is_probed_before_it_is_given_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::new(Duration::from_secs(10), Duration::from_secs(25), start);
        assert_eq!(heartbeat.beat(at(0)), Beat::Wait(at(10)));
        assert_eq!(heartbeat.beat(at(100)), Beat::Probe(at(115)));
        assert_eq!(heartbeat.beat(at(115)), Beat::Dead, "and no later than any other");
        heartbeat.heard(at(115));
        assert_eq!(heartbeat.beat(at(125)), Beat::Probe(at(140)));
        assert_eq!(heartbeat.beat(at(149)), Beat::Dead, "a little late is not too late");
        heartbeat.heard(at(200));
        assert_eq!(heartbeat.beat(at(200)), Beat::Wait(at(210)), "what it had sent is read before the silence is looked at");
    }
}
