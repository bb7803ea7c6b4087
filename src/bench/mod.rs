//! `switchboard bench`: pairs of clients exchange offers as fast as they are told to, and what that took: latency, throughput, what went wrong, and
//! the server's processor time and memory.
//!
//! At a fixed rate (an open loop) latency counts from when a message was due, so that a server that stands still is not let off the messages
//! that were not sent meanwhile. With so many messages in flight (a closed loop) every message that arrives is answered by the next.

mod pairs;
mod report;

use std::{sync::Arc, time::Duration};

use switchboard::client::{Connector, Door, Options};
use tokio::time::sleep;

use self::{
    pairs::{Heard, Pairs},
    report::{Report, Usage},
};
use crate::local_server::{LocalServer, Process};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's base URL; without one, a server of its own.
    pub url: Option<String>,
    /// The server's process, if it runs on this machine and is not the bench's own.
    pub process_id: Option<u32>,
    pub door: Door,
    pub pairs: usize,
    /// Bytes of each payload.
    pub bytes: usize,
    pub pace: Pace,
    pub seconds: f64,
    pub json: bool,
}

/// How fast messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many a second, over all pairs.
    Rate(u32),
    /// As fast as they arrive, with so many on their way in each pair.
    InFlight(u32),
}

/// What happens in this time at the beginning does not count.
const WARM_UP: Duration = Duration::from_secs(1);
/// What is on its way arrives in this time, or is lost.
const SETTLING: Duration = Duration::from_secs(5);

/// Measures, and prints what came of it. Fails if a message was lost, or came twice or in another order.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let own = plan.url.is_none().then(LocalServer::start).transpose()?;
    let url = plan.url.as_deref().or(own.as_ref().map(LocalServer::url)).expect("one or the other");
    let process = own.as_ref().map(LocalServer::process).or(plan.process_id.map(|id| Process { id }));
    // This thread receives; what has a time sends from another, so nothing that arrives keeps it from being sent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure(plan, url, process))?;
    report.print(plan)?;
    report.check()
}

async fn measure(plan: &Plan, url: &str, process: Option<Process>) -> anyhow::Result<Report> {
    let connector = Arc::new(Connector::new(url, Options::default()).await?);
    let empty = process.map(Process::resident_bytes).transpose()?;
    let pairs = Pairs::connect(&connector, plan).await?;
    let full = process.map(Process::resident_bytes).transpose()?;
    let length = Duration::try_from_secs_f64(plan.seconds)?;
    let running = pairs.start(plan.pace);
    sleep(WARM_UP).await;
    let begin = running.begin();
    let before = process.map(Usage::now).transpose()?;
    sleep(length).await;
    let usage = match (process, before) {
        (Some(process), Some(before)) => Some(Usage::now(process)?.since(before)),
        _ => None,
    };
    let took = begin.elapsed();
    let Heard { latencies, lost, out_of_order } = running.end(SETTLING).await?;
    let memory = empty.zip(full).map(|(empty, full)| full.saturating_sub(empty) / (2 * plan.pairs as u64));
    Ok(Report::new(took, latencies, lost, out_of_order, usage, memory))
}
