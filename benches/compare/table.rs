//! The report in Markdown.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use clap::ValueEnum as _;

use crate::{
    Options,
    load::{FIGURES, Figure, GROWTH},
    machine::Machine,
    results::{Cell, Results},
    servers::Server,
};

/// What came of everything: where and when, the table, and what Switchboard does as it grows.
pub fn report(results: &Results, machine: &Machine, versions: &HashMap<Server, String>, options: &Options) -> String {
    let mut text = String::new();
    write(&mut text, results, machine, versions, options).expect("a string takes everything");
    text
}

fn write(text: &mut String, results: &Results, machine: &Machine, versions: &HashMap<Server, String>, options: &Options) -> fmt::Result {
    let Machine { date, commit, processor, cores, kernel, node } = machine;
    let of = if commit.is_empty() { String::new() } else { format!(", commit {commit}") };
    writeln!(text, "{date}{of}; {processor}, {cores} cores, {kernel}; medians of {} rounds of {} s.\n", options.rounds, options.seconds)?;
    let servers: Vec<Server> = Server::value_variants().iter().copied().filter(|server| versions.contains_key(server)).collect();
    let figures: Vec<&Figure> = FIGURES.iter().filter(|figure| servers.iter().any(|server| has(results, *server, figure))).collect();
    write!(text, "| server |")?;
    figures.iter().try_for_each(|figure| write!(text, " {} |", figure.title))?;
    writeln!(text, "\n|---|{}", "--:|".repeat(figures.len()))?;
    for server in servers.iter().filter(|server| !matches!(server, Server::OneWorker | Server::TwoWorkers)) {
        let cells = figures.iter().map(|figure| spelled(results, *server, figure));
        writeln!(text, "| {} | {} |", server.label(), cells.collect::<Vec<_>>().join(" | "))?;
    }
    against_itself(text, results)?;
    let theirs = servers.iter().filter(|server| !server.is_ours()).map(|server| format!("{} {}", server.package(), versions[server]));
    let ours = format!("Switchboard {}", env!("CARGO_PKG_VERSION"));
    let node = if node.is_empty() { vec![] } else { vec![format!("Node {node}")] };
    let versions: Vec<String> = [ours].into_iter().chain(theirs).chain(node).collect();
    writeln!(text, "\n{}.", versions.join(", "))?;
    if servers.iter().any(|server| FIGURES.iter().any(|figure| results.faults(*server, figure.load).is_some())) {
        writeln!(text, "\n`!`: messages were lost, came twice or in another order.")?;
    }
    Ok(())
}

fn against_itself(text: &mut String, results: &Results) -> fmt::Result {
    let mut lines = Vec::new();
    let few = results.median(Server::Switchboard, FIGURES[0].key);
    if let Some((many, few)) = results.median(Server::Switchboard, GROWTH.key).zip(few) {
        lines.push(format!(
            "| offer at 4,000/s: 10,000 connections against 100, µs | {} | {} | {:.2} × |",
            rounded(few),
            rounded(many),
            many / few
        ));
    }
    for figure in FIGURES {
        let one = results.median(Server::OneWorker, figure.key);
        if let Some((two, one)) = results.median(Server::TwoWorkers, figure.key).zip(one) {
            lines.push(format!(
                "| {}: two workers against one, not pinned, µs | {} | {} | {:.2} × |",
                figure.short,
                rounded(one),
                rounded(two),
                two / one
            ));
        }
    }
    if !lines.is_empty() {
        writeln!(text, "\n| Switchboard against itself | with less | with more | ratio |\n|---|--:|--:|--:|")?;
        lines.iter().try_for_each(|line| writeln!(text, "{line}"))?;
    }
    Ok(())
}

fn has(results: &Results, server: Server, figure: &Figure) -> bool {
    !matches!(server, Server::OneWorker | Server::TwoWorkers) && results.cell(server, figure).is_some()
}

fn spelled(results: &Results, server: Server, figure: &Figure) -> String {
    let Some(Cell { median, ratio }) = results.cell(server, figure) else { return "-".to_owned() };
    let mark = if results.faults(server, figure.load).is_some() { "!" } else { "" };
    ratio.map_or_else(|| format!("{}{mark}", rounded(median)), |ratio| format!("{} ({ratio:.2} ×){mark}", rounded(median)))
}

/// To three digits or so: more would be noise.
fn rounded(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
