//! What came of a run.

use std::{sync::atomic::AtomicU64, time::Duration};

use super::{books::Faults, process::Usage, recorder::Recording};

/// What came of a run.
pub struct Outcome {
    /// What arrived, and when.
    pub recording: Recording,
    /// How long the time was that counts.
    pub took: Duration,
    /// What went wrong in the whole run.
    pub faults: Faults,
    /// What was due and had not been sent some seconds after the end: the rate was more than the server, or this machine, takes. None of it is lost.
    pub unsent: u64,
    /// Clients that were connected at the end.
    pub connections: usize,
    /// What the server used in the time that counts.
    pub usage: Option<Usage>,
    /// Memory that the server has more than before the clients came, for each of them.
    pub bytes_per_connection: Option<f64>,
    /// Part of one core that the engine itself used in the time that counts: near 1, and it measured itself.
    pub engine_load: Option<f64>,
}

/// How far a run is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Clients that are in.
    pub connected: AtomicU64,
    /// Messages that have arrived, as of late.
    pub arrived: AtomicU64,
    /// Microseconds of the time that counts, warm-up included, that are over.
    pub elapsed: AtomicU64,
}

impl Outcome {
    /// Messages a second.
    pub fn delivered_per_second(&self) -> f64 {
        self.recording.delivered as f64 / self.took.as_secs_f64().max(1e-6)
    }
}
