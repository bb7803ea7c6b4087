//! What came of a bench, for people and for programs.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use anyhow::ensure;
use serde::Serialize;

use super::{Pace, Plan};
use crate::local_server::Process;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Messages that arrived in the time that counts.
    pub delivered: usize,
    pub delivered_per_second: f64,
    pub lost: u64,
    pub out_of_order: u64,
    latency_micros: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u32,
    p90: u32,
    p99: u32,
    max: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    cpu_micros_per_message: f64,
    sleeps_per_message: f64,
    bytes_per_connection: u64,
}

/// What a server has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    cpu: Duration,
    sleeps: u64,
}

impl Usage {
    /// Since it began.
    pub fn now(process: Process) -> anyhow::Result<Self> {
        Ok(Self { cpu: process.cpu_time()?, sleeps: process.sleeps()? })
    }

    /// Only since then.
    pub fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), sleeps: self.sleeps.saturating_sub(before.sleeps) }
    }
}

impl Report {
    /// `latencies` are those of the messages that arrived in the time that counts, which was `took`.
    pub fn new(
        took: Duration,
        mut latencies: Vec<u32>,
        lost: u64,
        out_of_order: u64,
        usage: Option<Usage>,
        bytes_per_connection: Option<u64>,
    ) -> Self {
        latencies.sort_unstable();
        let delivered = latencies.len();
        let at = |part: f64| latencies.get(((delivered as f64 - 1.0) * part).max(0.0) as usize).copied().unwrap_or(0);
        let each = |total: f64| total / delivered.max(1) as f64;
        let server = usage.zip(bytes_per_connection).map(|(usage, bytes_per_connection)| Server {
            cpu_micros_per_message: each(usage.cpu.as_secs_f64() * 1e6),
            sleeps_per_message: each(usage.sleeps as f64),
            bytes_per_connection,
        });
        Self {
            delivered,
            delivered_per_second: delivered as f64 / took.as_secs_f64(),
            lost,
            out_of_order,
            latency_micros: Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) },
            server,
        }
    }

    /// Fails if a promise was broken.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.lost == 0 && self.out_of_order == 0, "bench: {} messages lost, {} out of order", self.lost, self.out_of_order);
        ensure!(self.delivered > 0, "bench: nothing arrived");
        Ok(())
    }

    /// As a table, or as one line of JSON.
    pub fn print(&self, plan: &Plan) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if plan.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(self)?)?);
        }
        let Plan { door, pairs, bytes, .. } = plan;
        let pace = match plan.pace {
            Pace::Rate(rate) => format!("{rate} a second"),
            Pace::InFlight(count) => format!("{count} in flight in each pair"),
        };
        writeln!(out, "offers of {bytes} bytes, {pairs} pairs, {door}, {pace}")?;
        writeln!(
            out,
            "delivered   {} ({:.0} a second), lost {}, out of order {}",
            self.delivered, self.delivered_per_second, self.lost, self.out_of_order
        )?;
        let Latency { p50, p90, p99, max } = self.latency_micros;
        writeln!(out, "latency     p50 {p50} µs, p90 {p90} µs, p99 {p99} µs, at most {max} µs")?;
        match &self.server {
            Some(Server { cpu_micros_per_message, sleeps_per_message, bytes_per_connection }) => writeln!(
                out,
                "server      {cpu_micros_per_message:.1} µs of CPU and {sleeps_per_message:.2} sleeps a message, {:.1} KiB a connection",
                *bytes_per_connection as f64 / 1024.0
            )?,
            None => writeln!(out, "server      not known: name its process by --pid where it runs on this machine")?,
        }
        Ok(())
    }
}
