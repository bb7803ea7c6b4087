//! What the server uses while it is measured, and what this process uses beside it.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Faults, LoadError, Outcome,
    process::{Process, Usage},
    recorder::Recording,
};

/// Memory is looked at when the buffers of handshakes have been given back.
pub const AFTERWARDS: Duration = Duration::from_millis(500);

/// The server's, where its process is known, and this process's own, where the kernel tells it.
type Used = (Option<Usage>, Option<Usage>);

/// Watches one run.
pub struct Meter {
    process: Option<Process>,
    /// Bytes without clients, and with all of them.
    empty: Option<u64>,
    full: Option<u64>,
    begun: Used,
    ended: Used,
}

impl Meter {
    /// Made before the first client comes.
    pub fn new(process: Option<Process>) -> Result<Self, LoadError> {
        let empty = process.map(Process::resident_bytes).transpose()?;
        Ok(Self { process, empty, full: None, begun: Used::default(), ended: Used::default() })
    }

    /// All clients are in, and nothing is asked of the server for a while: looks at its memory.
    pub async fn all_are_in(&mut self) -> Result<(), LoadError> {
        if let Some(process) = self.process {
            sleep(AFTERWARDS).await;
            self.full = Some(process.resident_bytes()?);
        }
        Ok(())
    }

    /// The time that counts begins.
    pub fn begin(&mut self) -> Result<(), LoadError> {
        self.begun = self.used()?;
        Ok(())
    }

    /// It is over.
    pub fn end(&mut self) -> Result<(), LoadError> {
        self.ended = self.used()?;
        Ok(())
    }

    /// What came of the run. `took` is from its beginning to its end.
    pub fn outcome(self, recording: Recording, took: Duration, faults: Faults, connections: usize) -> Outcome {
        let since = |(ended, begun): (Usage, Usage)| ended.since(begun);
        let own = self.ended.1.zip(self.begun.1).map(since);
        Outcome {
            recording,
            took,
            faults,
            unsent: 0,
            connections,
            usage: self.ended.0.zip(self.begun.0).map(since),
            bytes_per_connection: self.empty.zip(self.full).map(|(empty, full)| full.saturating_sub(empty) as f64 / connections as f64),
            engine_load: own.map(|own| own.cpu.as_secs_f64() / took.as_secs_f64()),
        }
    }

    fn used(&self) -> Result<Used, LoadError> {
        Ok((self.process.map(Process::usage).transpose()?, Process::own().usage().ok()))
    }
}
