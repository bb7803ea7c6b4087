//! How long something takes, as so many that took no longer than each of some bounds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::counts::Writer;

/// The bounds in microseconds; what takes longer than the last is counted behind them.
pub const BOUNDS_US: [u64; 17] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// One thread's.
#[derive(Default)]
pub struct Histogram {
    /// Each for what is above the bound before.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    nanos: AtomicU64,
}

/// That of all threads.
#[derive(Default)]
pub struct Totals {
    pub buckets: [u64; BOUNDS_US.len() + 1],
    pub nanos: u64,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn observe(&self, writer: &Writer<'_>, took: Duration) {
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        writer.count(&self.buckets[bucket]);
        writer.add(&self.nanos, took.as_nanos() as i64);
    }

    /// Adds these to what other threads have.
    pub fn add_to(&self, totals: &mut Totals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        totals.nanos += self.nanos.load(Ordering::Relaxed);
    }
}
