//! How a server that shuts down spreads its goodbyes, so that its clients do not all go, and come back, at once.

use std::time::{Duration, Instant};

use crate::protocol::{CloseCode, ServerMessage};

/// The time in which all clients are told that the server shuts down.
#[derive(Clone, Copy, Debug)]
pub struct DrainWindow {
    ends_at: Instant,
    length: Duration,
}

impl DrainWindow {
    /// It begins now, and is so long.
    pub fn open(length: Duration, now: Instant) -> Self {
        Self { ends_at: now + length, length }
    }

    /// How long one of the clients may go on: some time until the end, by chance.
    pub fn turn(&self, now: Instant) -> Duration {
        random_part(self.ends_at.saturating_duration_since(now))
    }

    /// Tells a client to come back when all have been told, and not at the same time as the others.
    pub fn goodbye(&self, now: Instant) -> ServerMessage<'static> {
        let code = CloseCode::Draining;
        let wait = self.ends_at.saturating_duration_since(now) + random_part(self.length.max(RETURNS_LEAST));
        ServerMessage::Goodbye { code, reconnect_after_ms: code.reconnect_after_ms() + wait.as_millis() as u64 }
    }
}

/// Also those that are told all at once come back over such a time.
const RETURNS_LEAST: Duration = Duration::from_secs(1);

/// Some time from none to the whole.
fn random_part(whole: Duration) -> Duration {
    // Without randomness all would be told at once, which is not worth failing for.
    let part = getrandom::u32().unwrap_or(0);
    whole.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_told_within_the_window_and_come_back_after_it() {
        let start = Instant::now();
        let window = DrainWindow::open(Duration::from_secs(10), start);
        let now = start + Duration::from_secs(4);
        let mut waits = Vec::new();
        for _ in 0..100 {
            assert!(window.turn(now) <= Duration::from_secs(6));
            let ServerMessage::Goodbye { code: CloseCode::Draining, reconnect_after_ms } = window.goodbye(now) else { panic!() };
            assert!((7_000..=17_000).contains(&reconnect_after_ms), "{reconnect_after_ms}");
            waits.push(reconnect_after_ms);
        }
        waits.sort_unstable();
        assert!(waits[99] - waits[0] > 5_000, "they are spread");
        assert_eq!(window.turn(start + Duration::from_secs(11)), Duration::ZERO);
    }
}
