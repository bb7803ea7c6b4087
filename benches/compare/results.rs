//! The figures of all rounds, and their medians.

use std::collections::HashMap;

use clap::ValueEnum as _;
use serde_json::{Map, json};
use switchboard::load::{Faults, Outcome};

use crate::{
    load::{FIGURES, Figure, GROWTH, Load},
    machine::Machine,
    servers::Server,
};

/// The part of a core above which the load may have waited for itself.
const BUSY: f64 = 0.95;

/// The figures of all rounds.
#[derive(Default)]
pub struct Results {
    figures: HashMap<(Server, &'static str), Vec<f64>>,
    faults: HashMap<(Server, Load), Faults>,
}

/// A median, and how it compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub median: f64,
    /// Times that of the relay; none for the relay itself.
    pub ratio: Option<f64>,
}

impl Results {
    /// Takes what came of one run, and says it in a line.
    pub fn add(&mut self, server: Server, load: Load, outcome: &Outcome) -> String {
        let mut line = Vec::new();
        for figure in figures().filter(|figure| figure.load == load) {
            if let Some(value) = figure.of(outcome) {
                line.push(format!("{value:.2}"));
                self.figures.entry((server, figure.key)).or_default().push(value);
            }
        }
        line.push(format!("{:.0} a second", outcome.delivered_per_second()));
        if outcome.engine_load.is_some_and(|engine_load| engine_load > BUSY) {
            line.push("as fast as the load can be made".to_owned());
        }
        if !outcome.faults.is_clean() {
            line.push(format!("{:?}", outcome.faults));
            *self.faults.entry((server, load)).or_default() += outcome.faults;
        }
        line.join(", ")
    }

    /// One cell of the table.
    pub fn cell(&self, server: Server, figure: &Figure) -> Option<Cell> {
        let median = self.median(server, figure.key)?;
        let floor = server.floor();
        let ratio = if floor == server { None } else { self.median(floor, figure.key).map(|floor| median / floor) };
        Some(Cell { median, ratio })
    }

    /// The median of a server's figure.
    pub fn median(&self, server: Server, key: &'static str) -> Option<f64> {
        let mut rounds = self.figures.get(&(server, key))?.clone();
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        Some(if rounds.len() % 2 == 1 { rounds[middle] } else { f64::midpoint(rounds[middle - 1], rounds[middle]) })
    }

    /// Did a server lose, double or mix up messages of this load?
    pub fn faults(&self, server: Server, load: Load) -> Option<Faults> {
        self.faults.get(&(server, load)).copied()
    }

    /// Everything, the single rounds included.
    pub fn json(&self, machine: &Machine, versions: &HashMap<Server, String>, rounds: u16, seconds: f64) -> String {
        let mut servers = Map::new();
        for server in Server::value_variants() {
            let Some(version) = versions.get(server) else { continue };
            let mut told = Map::new();
            for figure in figures() {
                if let (Some(cell), Some(rounds)) = (self.cell(*server, figure), self.figures.get(&(*server, figure.key))) {
                    told.insert(figure.key.to_owned(), json!({"median": cell.median, "ratio": cell.ratio, "rounds": rounds}));
                }
            }
            let name = server.to_possible_value().expect("none is hidden").get_name().to_owned();
            servers.insert(name, json!({"version": version, "figures": told}));
        }
        let Machine { date, commit, processor, cores, kernel, node } = machine;
        let machine = json!({"processor": processor, "cores": cores, "kernel": kernel, "node": node});
        let all = json!({
            "date": date, "commit": commit, "machine": machine, "rounds": rounds, "seconds": seconds, "servers": servers
        });
        format!("{all:#}\n")
    }
}

/// All that there are.
fn figures() -> impl Iterator<Item = &'static Figure> {
    FIGURES.iter().chain([&GROWTH])
}
