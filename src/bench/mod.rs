//! `switchboard bench`: the load engine on one server, a server of its own unless a URL is given, and a report of what came of it.

mod arguments;
mod plots;
mod report;
mod show;

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use switchboard::{
    client::{Connector, Door, Options},
    load::{Native, Outcome, Pace, Plan, Process, Progress, Scenario, measure, resume_storm},
};

pub use self::arguments::Arguments;
use self::{
    arguments::{Chosen, Kind},
    report::Report,
    show::Bar,
};
use crate::{
    local_server::{self, LocalServer},
    roots,
};

/// What happens in this time at the beginning does not count; in a short run, in as much time as counts.
const WARM_UP_MAX: Duration = Duration::from_secs(1);

/// Measures, and prints what came of it. Fails if a message was lost, came twice or in another order, or could not be sent.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let chosen = arguments.choose()?;
    open_enough_files(&chosen)?;
    // Before anything is measured for it.
    let report_to =
        arguments.report.as_deref().map(|file| File::create(file).map(|open| (file, open)).map_err(refused(file))).transpose()?;
    let own = arguments.url.is_none().then(|| start_server(arguments, &chosen)).transpose()?;
    let url = arguments.url.as_deref().or(own.as_ref().map(LocalServer::url)).expect("one or the other");
    let roots = match (&arguments.ca, &own) {
        (Some(file), _) => roots::read(file)?,
        (None, Some(own)) => own.root().into_iter().collect(),
        (None, None) => vec![],
    };
    let process = own.as_ref().map(LocalServer::process).or(arguments.pid.map(|id| Process { id }));
    // One thread receives; what has a time is sent from another, so nothing that arrives keeps it from being sent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = Options { roots, ..Options::default() };
    let (title, outcome) = runtime.block_on(load(&chosen, url, options, process.filter(|_| cfg!(target_os = "linux"))))?;
    let report = Report::new(title, &chosen.kind, &outcome);
    report.print(arguments.json)?;
    if let Some((file, mut open)) = report_to {
        let page = plots::page(&report, &outcome, file.extension().is_some_and(|extension| extension == "svg"))?;
        open.write_all(page.as_bytes()).map_err(refused(file))?;
    }
    report.check()
}

fn refused(file: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    move |error| anyhow!("--report {}: {error}", file.display())
}

async fn load(chosen: &Chosen, url: &str, options: Options, process: Option<Process>) -> anyhow::Result<(String, Outcome)> {
    let connector = Arc::new(Connector::new(url, options).await?);
    let Chosen { doors, kind, pace, length } = chosen;
    let warm_up = WARM_UP_MAX.min(*length);
    let progress = Arc::new(Progress::default());
    let mut plan = Plan { scenario: Scenario::Idle { clients: 0 }, pace: *pace, warm_up, length: *length, process };
    let names: Vec<_> = doors.iter().map(ToString::to_string).collect();
    // QUIC has it always; here it is said of a server whose other doors have it too.
    let tls = if url.starts_with("https:") { ", TLS" } else { "" };
    let title = |what: String, pace: String| format!("{what}, {}{tls}, {pace}", names.join(" and "));
    let bar = Bar::start(kind, warm_up + *length, &progress);
    let outcome = match *kind {
        Kind::Engine(scenario) => {
            plan.scenario = scenario;
            let speech = Arc::new(Native::new(&connector, doors).await?);
            let outcome = measure(&speech, &plan, &progress).await?;
            (title(scenario.to_string(), describe(*pace, &scenario)), outcome)
        }
        Kind::Resume { clients } => {
            let Pace::InFlight(window) = *pace else { unreachable!("a resume storm has no rate") };
            let outcome = resume_storm(&connector, doors, &plan, clients, window, &progress).await?;
            (title(format!("{clients} clients resume"), format!("{window} at a time")), outcome)
        }
    };
    drop(bar);
    Ok(outcome)
}

fn describe(pace: Pace, scenario: &Scenario) -> String {
    match (pace, scenario) {
        (Pace::Rate(rate), _) => format!("{rate} a second"),
        (Pace::InFlight(count), Scenario::Connect { .. } | Scenario::Idle { .. }) => format!("{count} connecting at a time"),
        (Pace::InFlight(count), Scenario::Forward { .. }) => format!("{count} in flight in each pair"),
        (Pace::InFlight(count), _) => format!("{count} in flight in each room"),
    }
}

fn start_server(arguments: &Arguments, chosen: &Chosen) -> anyhow::Result<LocalServer> {
    let settings = local_server::Settings { clients: chosen.kind.connections(), tls: arguments.tls };
    if !arguments.pin {
        return LocalServer::start(&settings);
    }
    local_server::on_the_first_core(|| LocalServer::start(&settings)).map_err(|error| anyhow!("--pin: {error}"))?
}

/// Each connection of TCP is an open file, here and in the server, and both need some more.
fn open_enough_files(chosen: &Chosen) -> anyhow::Result<()> {
    const OTHERS: u64 = 100;
    let connections = chosen.kind.connections() as u64;
    let open_files = crate::open_as_many_files_as_allowed();
    anyhow::ensure!(
        chosen.doors == [Door::WebTransport] || open_files.is_none_or(|open_files| connections + OTHERS <= open_files),
        "--clients, --pairs or --rooms make {connections} connections: too many for the {} files that the system lets a program open (ulimit -n)",
        open_files.unwrap_or_default()
    );
    Ok(())
}
