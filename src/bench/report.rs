//! What came of a bench, for people and for programs.

use std::io::{Write as _, stdout};

use anyhow::ensure;
use serde::Serialize;
use switchboard::load::{Outcome, Scenario};

use super::arguments::Kind;

/// What came of it, in the shape that `--json` has; `--help` tells what the fields mean.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub plan: String,
    #[serde(skip)]
    noun: &'static str,
    #[serde(skip)]
    is_counted: bool,
    pub delivered: u64,
    pub delivered_per_second: f64,
    seconds: f64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    astray: u64,
    unsent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_micros: Option<Latency>,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_load: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    pub over_time: Vec<Moment>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
    mean: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_micros_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wake_ups_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_write_calls_per_message: Option<f64>,
    cpu_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_connection: Option<f64>,
}

/// One part of the time that counts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When it begins.
    pub second: f64,
    pub delivered_per_second: f64,
    pub p50: u64,
    pub p99: u64,
}

impl Report {
    pub fn new(plan: String, kind: &Kind, outcome: &Outcome) -> Self {
        let recording = &outcome.recording;
        let at = |quantile: f64| recording.latency.value_at_quantile(quantile);
        let latency = Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: recording.latency.max(),
            mean: recording.latency.mean(),
        };
        let has_delivered = recording.delivered > 0;
        let each = |total: f64| has_delivered.then(|| total / recording.delivered as f64);
        let server = outcome.usage.map(|usage| Server {
            cpu_micros_per_message: each(usage.cpu.as_secs_f64() * 1e6),
            wake_ups_per_message: each(usage.wake_ups as f64),
            read_write_calls_per_message: usage.reads_and_writes.and_then(|calls| each(calls as f64)),
            cpu_percent: usage.cpu.as_secs_f64() / outcome.took.as_secs_f64() * 100.0,
            bytes_per_connection: outcome.bytes_per_connection,
        });
        let seconds = recording.moment.as_secs_f64();
        let moments = recording.moments.iter().enumerate().map(|(number, moment)| {
            let second = number as f64 * seconds;
            Moment {
                second,
                // The last one may be shorter than the others.
                delivered_per_second: moment.len() as f64 / seconds.min(outcome.took.as_secs_f64() - second).max(1e-6),
                p50: moment.value_at_quantile(0.5),
                p99: moment.value_at_quantile(0.99),
            }
        });
        let noun = match kind {
            Kind::Engine(Scenario::Connect { .. } | Scenario::Idle { .. }) | Kind::Resume { .. } => "client",
            Kind::Engine(Scenario::Churn { .. }) => "notice",
            Kind::Engine(Scenario::Broadcast { .. }) => "delivery",
            Kind::Engine(Scenario::Forward { .. }) => "message",
        };
        Self {
            plan,
            noun,
            is_counted: !matches!(kind, Kind::Engine(Scenario::Idle { .. })),
            delivered: recording.delivered,
            delivered_per_second: outcome.delivered_per_second(),
            seconds: outcome.took.as_secs_f64(),
            lost: outcome.faults.lost,
            duplicated: outcome.faults.duplicated,
            misordered: outcome.faults.misordered,
            astray: outcome.faults.astray,
            unsent: outcome.unsent,
            // Those that arrived and those whose latency is told are not the same: by when they came, and by when they were due.
            latency_micros: (!recording.latency.is_empty()).then_some(latency),
            connections: outcome.connections,
            engine_load: outcome.engine_load,
            server,
            over_time: if has_delivered { moments.collect() } else { vec![] },
        }
    }

    /// Fails if a promise was broken, or something else was measured than was asked for.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { lost, duplicated, misordered, astray, unsent, .. } = self;
        ensure!(
            lost + duplicated + misordered + astray == 0,
            "bench: {lost} lost, {duplicated} duplicated, {misordered} misordered, {astray} astray"
        );
        ensure!(*unsent == 0, "bench: {unsent} unsent: the rate is more than it takes");
        ensure!(!self.is_counted || self.delivered > 0, "bench: nothing arrived in the time that counts");
        ensure!(!self.is_counted || self.latency_micros.is_some(), "bench: nothing arrived of what was due in the time that counts");
        Ok(())
    }

    /// As a table, or as one line of JSON.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if json {
            return Ok(writeln!(out, "{}", serde_json::to_string(self)?)?);
        }
        writeln!(out, "{}\n", self.plan)?;
        for (name, value) in self.lines() {
            writeln!(out, "{name:<14}{value}")?;
        }
        Ok(())
    }

    /// The table: what each line is called, and what it says.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if self.is_counted {
            let Self { delivered, delivered_per_second, lost, duplicated, misordered, astray, .. } = self;
            lines.push(("delivered", format!("{delivered} in {:.1} s, {delivered_per_second:.0} a second", self.seconds)));
            lines.push(("faults", format!("{lost} lost, {duplicated} duplicated, {misordered} misordered, {astray} astray")));
        }
        if self.unsent > 0 {
            lines.push(("not held", format!("{} that were due could not be sent: the rate is more than it takes", self.unsent)));
        }
        if let Some(Latency { p50, p90, p99, p999, max, .. }) = &self.latency_micros {
            let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|micros| time(*micros));
            lines.push(("latency", format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, at most {max}")));
        }
        let connections = self.connections;
        let memory = self.server.as_ref().and_then(|server| server.bytes_per_connection);
        let each = memory.map(|bytes| format!(", {:.1} KiB of the server's memory each", bytes / 1024.0)).unwrap_or_default();
        lines.push(("connections", format!("{connections}{each}")));
        match &self.server {
            Some(server) => lines.push(("server", server.text(self.noun))),
            None => lines.push(("server", "not known: Linux tells it, of the bench's own server or the one named by --pid".to_owned())),
        }
        if let Some(load) = self.engine_load {
            let bound = if load > 0.9 { ": it may be the bound, and not the server" } else { "" };
            lines.push(("this bench", format!("{:.0} % of a core{bound}", load * 100.0)));
        }
        lines
    }
}

impl Server {
    fn text(&self, noun: &str) -> String {
        let mut parts = vec![format!("{:.1} % of a core", self.cpu_percent)];
        if let Some(micros) = self.cpu_micros_per_message {
            parts.push(format!("{micros:.2} µs of CPU a {noun}"));
        }
        if let Some(wake_ups) = self.wake_ups_per_message {
            parts.push(format!("{wake_ups:.2} wake-ups"));
        }
        if let Some(calls) = self.read_write_calls_per_message {
            parts.push(format!("{calls:.2} reads and writes (not recv, send)"));
        }
        parts.join(", ")
    }
}

/// A time in the unit that suits it.
pub fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use switchboard::load::{Faults, Signal, recorder::Recorder};

    use super::*;

    fn report(faults: Faults, unsent: u64) -> Report {
        let mut recorder = Recorder::new(Duration::ZERO, Duration::from_secs(1));
        recorder.arrive(200, 100);
        let outcome = Outcome {
            recording: recorder.finish(1_000_000),
            took: Duration::from_secs(1),
            faults,
            unsent,
            connections: 2,
            usage: None,
            bytes_per_connection: None,
            engine_load: None,
        };
        let scenario = Scenario::Forward { signal: Signal::Offer, pairs: 1, bytes: 200 };
        Report::new("a plan".into(), &Kind::Engine(scenario), &outcome)
    }

    #[test]
    fn whatever_is_not_as_it_was_asked_for_is_a_failure_and_named() {
        let clean = Faults::default();
        assert!(report(clean, 0).check().is_ok());
        for (faults, unsent, named) in [
            (Faults { lost: 1, ..clean }, 0, "1 lost"),
            (Faults { duplicated: 2, ..clean }, 0, "2 duplicated"),
            (Faults { misordered: 3, ..clean }, 0, "3 misordered"),
            (Faults { astray: 4, ..clean }, 0, "4 astray"),
            (clean, 5, "5 unsent"),
        ] {
            let told = report(faults, unsent).check().unwrap_err().to_string();
            assert!(told.contains(named), "{named}: {told}");
        }
    }
}
