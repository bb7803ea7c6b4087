//! The report in Markdown.

use std::fmt::{self, Write as _};

use clap::ValueEnum as _;

use crate::{
    load::{FIGURES, Figure, GROWTH},
    machine::Machine,
    results::{Cell, Results, Runs},
    servers::Server,
};

/// What stands behind a figure that is not all that it seems, how often that is so, and what the table says of it.
type Mark = (&'static str, fn(&Runs) -> u64, &'static str);
const MARKS: &[Mark] = &[
    ("!", |runs| runs.faulty, "messages were lost, came twice or in another order"),
    ("†", |runs| runs.failed, "some of the runs gave no figure"),
    ("‡", |runs| runs.unheld, "less arrived than the rate is"),
];

/// What came of everything: where and when, the table, and what Switchboard does as it grows.
pub fn report(results: &Results) -> String {
    let mut text = String::new();
    write(&mut text, results).expect("a string takes everything");
    text
}

fn write(text: &mut String, results: &Results) -> fmt::Result {
    let Machine { date, commit, processor, cores, kernel, node } = &results.machine;
    let of = if commit.is_empty() { String::new() } else { format!(", commit {commit}") };
    writeln!(text, "{date}{of}; {processor}, {cores} cores, {kernel}; medians of {} rounds of {} s.\n", results.rounds, results.seconds)?;
    let servers: Vec<Server> = Server::value_variants().iter().copied().filter(|server| results.versions.contains_key(server)).collect();
    let rows: Vec<Server> = servers.iter().copied().filter(|server| !matches!(server, Server::OneWorker | Server::TwoWorkers)).collect();
    let is_asked = |figure: &&Figure| rows.iter().any(|server| results.runs(*server, figure.load).asked > 0);
    let figures: Vec<&Figure> = FIGURES.iter().filter(is_asked).collect();
    write!(text, "| server |")?;
    figures.iter().try_for_each(|figure| write!(text, " {} |", figure.title))?;
    writeln!(text, "\n|---|{}", "--:|".repeat(figures.len()))?;
    for server in rows {
        let cells = figures.iter().map(|figure| spelled(results, server, figure));
        writeln!(text, "| {} | {} |", server.label(), cells.collect::<Vec<_>>().join(" | "))?;
    }
    against_itself(text, results)?;
    let theirs =
        servers.iter().filter(|server| !server.is_ours()).map(|server| format!("{} {}", server.package(), results.versions[server]));
    let ours = format!("Switchboard {}", env!("CARGO_PKG_VERSION"));
    let node = if node.is_empty() { vec![] } else { vec![format!("Node {node}")] };
    let versions: Vec<String> = [ours].into_iter().chain(theirs).chain(node).collect();
    writeln!(text, "\n{}.", versions.join(", "))?;
    for (mark, _, meaning) in MARKS.iter().filter(|(mark, ..)| text.contains(mark)).collect::<Vec<_>>() {
        writeln!(text, "\n`{mark}`: {meaning}.")?;
    }
    Ok(())
}

fn against_itself(text: &mut String, results: &Results) -> fmt::Result {
    let growth = "offer at 4,000/s: 10,000 connections against 100, µs".to_owned();
    let mut lines = vec![(growth, (Server::Switchboard, &FIGURES[0]), (Server::Switchboard, &GROWTH))];
    lines.extend(FIGURES.iter().map(|figure| {
        let what = format!("{}: two workers against one, not pinned, µs", figure.short);
        (what, (Server::OneWorker, figure), (Server::TwoWorkers, figure))
    }));
    lines.retain(|(_, less, more)| [less, more].iter().all(|(server, figure)| results.runs(*server, figure.load).asked > 0));
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n| Switchboard against itself | with less | with more | ratio |\n|---|--:|--:|--:|")?;
    for (what, less, more) in lines {
        let medians = results.median(less.0, less.1.key).zip(results.median(more.0, more.1.key));
        let ratio = medians.map(|(less, more)| format!("{:.2} ×", more / less)).unwrap_or_default();
        let [less, more] = [less, more].map(|(server, figure)| {
            let figures = results.median(server, figure.key).map(|median| Cell { median, ratio: None });
            told(figures, results.runs(server, figure.load))
        });
        writeln!(text, "| {what} | {less} | {more} | {ratio} |")?;
    }
    Ok(())
}

fn spelled(results: &Results, server: Server, figure: &Figure) -> String {
    told(results.cell(server, figure), results.runs(server, figure.load))
}

/// Nothing for what was not asked, a dash for what a server cannot do.
fn told(cell: Option<Cell>, runs: Runs) -> String {
    let marks: String = MARKS.iter().filter(|(_, of, _)| of(&runs) > 0).map(|(mark, ..)| *mark).collect();
    match cell {
        Some(Cell { median, ratio: Some(ratio) }) => format!("{} ({ratio:.2} ×){marks}", rounded(median)),
        Some(Cell { median, ratio: None }) => format!("{}{marks}", rounded(median)),
        None if runs.asked == 0 => String::new(),
        None if runs.cannot => "-".to_owned(),
        None => "failed".to_owned(),
    }
}

/// To three digits or so: more would be noise.
fn rounded(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
