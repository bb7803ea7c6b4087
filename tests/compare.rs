//! `benches/compare` measures with relays and dialects of its own: that the relays pass everything on, once and in order, is checked here, and what
//! is told of the figures.

#![allow(dead_code, reason = "the rest needs other servers and processes, and is the bench's")]

#[path = "../benches/compare/child.rs"]
mod child;
#[path = "../benches/compare/cores.rs"]
mod cores;
#[path = "../benches/compare/install.rs"]
mod install;
#[path = "../benches/compare/load.rs"]
mod load;
#[path = "../benches/compare/machine.rs"]
mod machine;
#[path = "../benches/compare/plot.rs"]
mod plot;
#[path = "../benches/compare/relay/mod.rs"]
mod relay;
#[path = "../benches/compare/results.rs"]
mod results;
#[path = "../benches/compare/servers.rs"]
mod servers;
#[path = "../benches/compare/speech/mod.rs"]
mod speech;
#[path = "../benches/compare/table.rs"]
mod table;

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::anyhow;
use load::{FIGURES, Load};
use machine::Machine;
use relay::Relay;
use results::{Cell, Results};
use servers::Server;
use switchboard::load::{Faults, Outcome, Pace, Plan, Progress, Scenario, Signal, Speech, Usage, measure, recorder::Recorder};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_bare_websocket_relay_passes_everything_on() {
    let address = start(Relay::WebSocket).parse().expect("an address");
    everything_arrives(speech::BareWebSocket(address)).await;
}

#[tokio::test]
async fn the_bare_webtransport_relay_passes_everything_on() {
    let words = start(Relay::WebTransport);
    everything_arrives(speech::BareWebTransport::new(&words).expect("an address and a hash")).await;
}

/// Where it listens. It serves until the tests are over.
fn start(relay: Relay) -> String {
    let (says, hears) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let announce = move |words| says.send(words).expect("the test waits");
        tokio::task::LocalSet::new().block_on(&runtime, relay::serve(relay, announce))
    });
    hears.recv_timeout(DEADLINE).expect("a relay that listens")
}

async fn everything_arrives<S: Speech>(speech: S) {
    let speech = Arc::new(speech);
    let pairs = Scenario::Forward { signal: Signal::Offer, pairs: 4, bytes: 2048 };
    let room = Scenario::Broadcast { rooms: 1, members: 5, bytes: 200 };
    let visits = Scenario::Churn { rooms: 2, members: 2 };
    for (scenario, pace) in [(pairs, Pace::InFlight(8)), (room, Pace::InFlight(8)), (visits, Pace::InFlight(1))] {
        let plan = Plan { scenario, pace, warm_up: Duration::ZERO, length: Duration::from_millis(200), process: None };
        let measured = tokio::time::timeout(DEADLINE, measure(&speech, &plan, &Arc::new(Progress::default()))).await;
        let outcome = measured.expect("in time").expect("an outcome");
        assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{scenario}: {:?}", outcome.faults);
    }
}

/// So many messages in a second, each of which took so long of a processor.
fn outcome(messages: u64, micros: u64) -> Outcome {
    let mut recorder = Recorder::new(Duration::ZERO, Duration::from_secs(1));
    (0..messages).map(|number| number * 999_000 / messages).for_each(|due| recorder.arrive(due + 200, due));
    Outcome {
        recording: recorder.finish(1_000_000),
        took: Duration::from_secs(1),
        faults: Faults::default(),
        unsent: 0,
        connections: 100,
        usage: Some(Usage { cpu: Duration::from_micros(messages * micros), ..Usage::default() }),
        bytes_per_connection: Some(1024.0 * micros as f64),
        engine_load: None,
    }
}

fn canned() -> Results {
    let machine = Machine {
        date: "2026-01-02".into(),
        commit: "abc".into(),
        processor: "a processor".into(),
        cores: 2,
        kernel: "linux".into(),
        node: "20".into(),
    };
    let servers = [Server::Bare, Server::Switchboard, Server::SwitchboardTls, Server::SocketIo, Server::Peer, Server::Matchbox];
    let mut results = Results::new(machine, servers.map(|server| (server, "1.0".to_owned())).into(), 3, 1.0);
    for micros in [10, 30, 20] {
        results.add(Server::Bare, Load::Offers, Ok(Some(outcome(4_000, micros))));
        results.add(Server::Switchboard, Load::Offers, Ok(Some(outcome(4_000, 2 * micros))));
        results.add(Server::SocketIo, Load::Offers, Err(anyhow!("it has ended")));
        for server in [Server::Bare, Server::Switchboard, Server::Peer] {
            results.add(server, Load::Churn, Ok(Some(outcome(100, micros))));
        }
        for server in [Server::Bare, Server::Switchboard, Server::SwitchboardTls] {
            results.add(server, Load::Idle, Ok(Some(outcome(0, micros))));
        }
        results.add(Server::Peer, Load::Broadcast, Ok(None));
    }
    results.add(Server::Matchbox, Load::Offers, Ok(Some(outcome(2_000, 50))));
    results.add(Server::Matchbox, Load::Offers, Ok(Some(Outcome { unsent: 1, ..outcome(4_000, 60) })));
    results.add(Server::Matchbox, Load::Offers, Err(anyhow!("it has ended")));
    let faults = Faults { lost: 1, ..Faults::default() };
    results.add(Server::SocketIo, Load::Broadcast, Ok(Some(Outcome { faults, ..outcome(100, 70) })));
    results
}

fn figure(load: Load) -> &'static load::Figure {
    FIGURES.iter().find(|figure| figure.load == load).expect("there is one")
}

#[test]
fn only_what_does_the_same_is_compared() {
    let results = canned();
    let cell = |server, load| results.cell(server, figure(load));
    assert_eq!(cell(Server::Bare, Load::Offers), Some(Cell { median: 20.0, ratio: None }));
    assert_eq!(cell(Server::Switchboard, Load::Offers), Some(Cell { median: 40.0, ratio: Some(2.0) }));
    assert_eq!(cell(Server::Matchbox, Load::Offers), Some(Cell { median: 55.0, ratio: Some(2.75) }), "between the middle ones");
    // A coming and a going are two notices.
    assert_eq!(cell(Server::Peer, Load::Churn), Some(Cell { median: 40.0, ratio: Some(1.0) }), "both connect and close");
    assert_eq!(cell(Server::Switchboard, Load::Churn), Some(Cell { median: 40.0, ratio: None }), "two messages are no connection");
    assert_eq!(cell(Server::Switchboard, Load::Idle), Some(Cell { median: 20.0, ratio: Some(1.0) }));
    assert_eq!(cell(Server::SwitchboardTls, Load::Idle), Some(Cell { median: 20.0, ratio: None }), "the relay has no TLS");
    assert_eq!(cell(Server::SocketIo, Load::Offers), None);
}

#[test]
fn the_table_tells_what_failed_what_cannot_be_and_what_was_not_asked() {
    let table = table::report(&canned());
    let rows: HashMap<&str, Vec<&str>> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(name, cells)| (name, cells.split(" | ").collect()))
        .collect();
    // Offers and their latency, broadcast, churn, idle.
    assert_eq!(rows["bare WebSocket relay"], ["20.0", "200", "", "40.0", "20.0"]);
    assert_eq!(rows["**Switchboard**"], ["40.0 (2.00 ×)", "200 (1.00 ×)", "", "40.0", "20.0 (1.00 ×)"]);
    assert_eq!(rows["**Switchboard**, TLS"], ["", "", "", "", "20.0"]);
    assert_eq!(rows["`socket.io`"], ["failed", "failed", "70.0!", "", ""]);
    assert_eq!(rows["`peer`"], ["", "", "-", "40.0 (1.00 ×)", ""]);
    assert_eq!(rows["`matchbox_server`"][0], "55.0 (2.75 ×)†‡");
    for mark in ["`!`: messages were lost", "`†`: some of the runs", "`‡`: less arrived"] {
        assert!(table.contains(mark), "{table}");
    }
}

#[test]
fn the_plot_has_no_bar_for_what_is_not_compared() {
    let plot = plot::svg(&canned()).expect("a plot");
    let panels: Vec<Vec<&str>> = plot.split("times the bare relay").skip(1).map(|panel| panel.lines().map(str::trim).collect()).collect();
    let of = |panel: usize, label: &str| panels[panel].contains(&label);
    // Offers, their latency, churn, idle.
    assert!(of(0, "bare WebSocket relay") && of(0, "1.00") && of(0, "Switchboard") && of(0, "2.00"), "{plot}");
    assert!(of(2, "peer") && !of(2, "Switchboard"), "{plot}");
    assert!(of(3, "Switchboard") && !plot.contains("TLS"), "{plot}");
}

#[test]
fn what_json_keeps_is_told_again_as_it_was() {
    let results = canned();
    let again = Results::read(&results.json()).expect("what was written");
    assert_eq!(again.json(), results.json());
    let again = table::report(&again);
    assert!(
        again.contains("40.0 (2.00 ×)") && again.contains("55.0 (2.75 ×)†‡") && again.contains("failed") && again.contains("`!`"),
        "{again}"
    );
}
