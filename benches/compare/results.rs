//! The figures of all rounds, and their medians.

use std::collections::HashMap;

use anyhow::Context as _;
use clap::ValueEnum as _;
use serde_json::{Map, Value, json};
use switchboard::load::Outcome;

use crate::{
    load::{FIGURES, Figure, GROWTH, Load},
    machine::Machine,
    servers::Server,
};

/// The part of a core above which the load may have waited for itself.
const BUSY: f64 = 0.95;
/// The part of a rate that has to arrive, or it was not held.
const HELD: f64 = 0.99;

/// The figures of all rounds, and where and when they were taken.
pub struct Results {
    pub machine: Machine,
    /// The servers that could be had, and their versions.
    pub versions: HashMap<Server, String>,
    pub rounds: u16,
    pub seconds: f64,
    figures: HashMap<(Server, &'static str), Vec<f64>>,
    runs: HashMap<(Server, Load), Runs>,
}

/// How often a load was put on a server, and how it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub asked: u64,
    /// The server knows no such thing.
    pub cannot: bool,
    /// There is no figure of so many.
    pub failed: u64,
    /// In so many, messages were lost, came twice or in another order.
    pub faulty: u64,
    /// In so many, less arrived than the load's rate is.
    pub unheld: u64,
}

/// A median, and how it compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub median: f64,
    /// Times that of the relay; none for the relay itself, and where the relay does something else.
    pub ratio: Option<f64>,
}

impl Results {
    pub fn new(machine: Machine, versions: HashMap<Server, String>, rounds: u16, seconds: f64) -> Self {
        Self { machine, versions, rounds, seconds, figures: HashMap::new(), runs: HashMap::new() }
    }

    /// Takes what came of one run, and says it in a line. `None` is of a server that cannot do that.
    pub fn add(&mut self, server: Server, load: Load, outcome: anyhow::Result<Option<Outcome>>) -> String {
        let runs = self.runs.entry((server, load)).or_default();
        runs.asked += 1;
        let outcome = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => {
                runs.cannot = true;
                return "it knows no such thing".to_owned();
            }
            Err(error) => {
                runs.failed += 1;
                return format!("no figure: {error:#}");
            }
        };
        let mut line = Vec::new();
        for figure in figures().filter(|figure| figure.load == load) {
            if let Some(value) = figure.of(&outcome) {
                line.push(format!("{value:.2}"));
                self.figures.entry((server, figure.key)).or_default().push(value);
            }
        }
        line.push(format!("{:.0} a second", outcome.delivered_per_second()));
        if outcome.engine_load.is_some_and(|engine_load| engine_load > BUSY) {
            line.push("as fast as the load can be made".to_owned());
        }
        if load.rate().is_some_and(|rate| outcome.unsent > 0 || outcome.delivered_per_second() < HELD * f64::from(rate)) {
            line.push(format!("the rate was not held, {} unsent", outcome.unsent));
            runs.unheld += 1;
        }
        if !outcome.faults.is_clean() {
            line.push(format!("{:?}", outcome.faults));
            runs.faulty += 1;
        }
        line.join(", ")
    }

    /// One cell of the table.
    pub fn cell(&self, server: Server, figure: &Figure) -> Option<Cell> {
        let median = self.median(server, figure.key)?;
        let floor = server.floor();
        let is_like_it = floor != server && server.does_as_its_floor(figure.load);
        let ratio = self.median(floor, figure.key).filter(|_| is_like_it).map(|floor| median / floor);
        Some(Cell { median, ratio })
    }

    /// The median of a server's figure.
    pub fn median(&self, server: Server, key: &'static str) -> Option<f64> {
        let mut rounds = self.figures.get(&(server, key))?.clone();
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        Some(if rounds.len() % 2 == 1 { rounds[middle] } else { f64::midpoint(rounds[middle - 1], rounds[middle]) })
    }

    /// How a server did with this load.
    pub fn runs(&self, server: Server, load: Load) -> Runs {
        self.runs.get(&(server, load)).copied().unwrap_or_default()
    }

    /// Everything, the single rounds included. What a server cannot do is missing.
    pub fn json(&self) -> String {
        let mut servers = Map::new();
        for server in Server::value_variants() {
            let Some(version) = self.versions.get(server) else { continue };
            let mut told = Map::new();
            for figure in figures() {
                let Runs { asked, cannot, failed, faulty, unheld } = self.runs(*server, figure.load);
                if asked > 0 && !cannot {
                    let (cell, rounds) = (self.cell(*server, figure), self.figures.get(&(*server, figure.key)));
                    let (median, ratio) = (cell.map(|cell| cell.median), cell.and_then(|cell| cell.ratio));
                    let runs = json!({"failed": failed, "faulty": faulty, "unheld": unheld});
                    told.insert(figure.key.to_owned(), json!({"median": median, "ratio": ratio, "rounds": rounds, "runs": runs}));
                }
            }
            servers.insert(server.name(), json!({"version": version, "figures": told}));
        }
        let Machine { date, commit, processor, cores, kernel, node } = &self.machine;
        let machine = json!({"processor": processor, "cores": cores, "kernel": kernel, "node": node});
        let (rounds, seconds) = (self.rounds, self.seconds);
        let all = json!({
            "date": date, "commit": commit, "machine": machine, "rounds": rounds, "seconds": seconds, "servers": servers
        });
        format!("{all:#}\n")
    }

    /// What [`Results::json`] wrote.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let all: Value = serde_json::from_str(text)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let machine = &all["machine"];
        let machine = Machine {
            date: text(&all["date"]),
            commit: text(&all["commit"]),
            processor: text(&machine["processor"]),
            cores: machine["cores"].as_u64().unwrap_or_default() as usize,
            kernel: text(&machine["kernel"]),
            node: text(&machine["node"]),
        };
        let rounds = all["rounds"].as_u64().context("no \"rounds\" in it")?;
        let seconds = all["seconds"].as_f64().context("no \"seconds\" in it")?;
        let mut results = Self::new(machine, HashMap::new(), u16::try_from(rounds)?, seconds);
        for server in Server::value_variants() {
            let Some(told) = all["servers"].get(server.name()) else { continue };
            results.versions.insert(*server, text(&told["version"]));
            for figure in figures().filter(|figure| server.takes(figure.load)) {
                let Some(figures) = told["figures"].get(figure.key) else {
                    results.runs.insert((*server, figure.load), Runs { asked: rounds, cannot: true, ..Runs::default() });
                    continue;
                };
                let values: Vec<f64> = figures["rounds"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
                let of = |what: &str| figures["runs"][what].as_u64().unwrap_or_default();
                let runs = Runs { asked: rounds, cannot: false, failed: of("failed"), faulty: of("faulty"), unheld: of("unheld") };
                results.runs.insert((*server, figure.load), runs);
                if !values.is_empty() {
                    results.figures.insert((*server, figure.key), values);
                }
            }
        }
        Ok(results)
    }
}

/// All that there are.
fn figures() -> impl Iterator<Item = &'static Figure> {
    FIGURES.iter().chain([&GROWTH])
}
