//! When what arrived: latencies as a whole, and both latency and throughput over time.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Microseconds above which a latency is told as this one.
const LATENCY_MAX: u64 = 3_600_000_000;
/// How many points a plot over time has at the most.
const MOMENTS_MAX: u32 = 100;
/// The shortest time that is a point of its own.
const MOMENT_MIN: Duration = Duration::from_millis(50);

/// Records what arrives. Times are in microseconds since the engine's epoch.
pub struct Recorder {
    begin: u64,
    end: u64,
    moment: u64,
    latency: Histogram<u64>,
    moments: Vec<Histogram<u32>>,
    counted: u64,
    arrived: u64,
}

/// What came of it.
pub struct Recording {
    /// Messages that arrived in the time that counts.
    pub delivered: u64,
    /// In microseconds, of those that were due in the time that counts.
    pub latency: Histogram<u64>,
    /// How long each of the moments is.
    pub moment: Duration,
    /// In microseconds, of what arrived in each part of the time that counts.
    pub moments: Vec<Histogram<u32>>,
}

impl Recorder {
    /// Counts for `length`, after `warm_up`, both from the epoch on.
    pub fn new(warm_up: Duration, length: Duration) -> Self {
        let moment = (length / MOMENTS_MAX).max(MOMENT_MIN).min(length.max(Duration::from_micros(1)));
        let count = length.as_micros().div_ceil(moment.as_micros()).max(1) as usize;
        // Two digits are what a point of a plot is read to, and a hundred of these are kept.
        let empty = Histogram::new_with_bounds(1, LATENCY_MAX, 2).expect("the bounds are fine");
        Self {
            begin: micros(warm_up),
            end: micros(warm_up + length),
            moment: micros(moment),
            latency: Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("the bounds are fine"),
            moments: vec![empty; count],
            counted: 0,
            arrived: 0,
        }
    }

    /// A message arrives that was due at `due`.
    pub fn arrive(&mut self, now: u64, due: u64) {
        self.arrived += 1;
        let latency = now.saturating_sub(due);
        // By when it was due, so that what a stall holds back past the end is told.
        if (self.begin..self.end).contains(&due) {
            self.latency.saturating_record(latency);
        }
        if (self.begin..self.end).contains(&now) {
            self.counted += 1;
            let at = ((now - self.begin) / self.moment) as usize;
            if let Some(moment) = self.moments.get_mut(at) {
                moment.saturating_record(latency);
            }
        }
    }

    /// How many have arrived, at whatever time.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Nothing more arrives, and the time that counts was over at `end` if not earlier.
    pub fn finish(mut self, end: u64) -> Recording {
        let took = end.min(self.end).saturating_sub(self.begin);
        self.moments.truncate(took.div_ceil(self.moment).max(1) as usize);
        Recording { delivered: self.counted, latency: self.latency, moment: Duration::from_micros(self.moment), moments: self.moments }
    }
}

/// A time as markers have it.
pub fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_by_when_it_was_due_and_throughput_by_when_it_came() {
        let mut recorder = Recorder::new(Duration::from_micros(100), Duration::from_secs(1));
        let end = 1_000_100;
        // Before it counts; into it; in it; due in it but late; too late altogether.
        for (now, due) in [(50, 40), (150, 90), (200, 150), (end + 5_000_000, end - 1), (end + 1, end)] {
            recorder.arrive(now, due);
        }
        assert_eq!(recorder.arrived(), 5);
        let recording = recorder.finish(end);
        assert_eq!(recording.delivered, 2);
        assert_eq!(recording.latency.len(), 2);
        assert!(recording.latency.max() > 4_900_000);
        assert_eq!(recording.moments.len(), 20);
        assert_eq!(recording.moments[0].len(), 2);
    }
}
