//! `cargo bench --bench compare`: the same load on Switchboard, on bare relays that show what the kernel and the framing alone cost, and on the
//! servers that a user would pick instead, each in its own words.
//!
//! Every server runs in a process of its own on one core, the load is made on another, all on loopback. There is no TLS but QUIC's own, and that of
//! one row, which says so. Servers take turns within each round, so that what slows the machine down slows all; of the rounds the table has the medians.
//!
//! | file | owns |
//! |---|---|
//! | `servers` | who is measured, and how each is started |
//! | `load` | what is put on them |
//! | `relay` | the bare relays |
//! | `speech`, `servers/` | the dialects of the others; those servers that are written here, as tutorials write them |
//! | `child`, `cores`, `install` | processes, where they run, and where they come from |
//! | `results`, `machine`, `table`, `plot`, `readme` | what came of it |

mod child;
mod cores;
mod install;
mod load;
mod machine;
mod plot;
mod readme;
mod relay;
mod results;
mod servers;
mod speech;
mod table;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::{cores::Cores, load::Load, machine::Machine, relay::Relay, results::Results, servers::Server};

/// Compare Switchboard with bare relays and with other servers: progress on stderr, a table on stdout.
#[derive(Parser)]
#[command(name = "compare", bin_name = "cargo bench --bench compare --", version)]
struct Options {
    /// Only these servers; the relays that they are compared with come along
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVER")]
    only: Vec<Server>,

    /// Only these loads
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LOAD")]
    loads: Vec<Load>,

    /// How often everything is measured; the table has the medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// How long each run counts, after as long again, at most a second, that does not
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,

    /// Write all figures to this file, after each round
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Measure nothing, and tell again what --json wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "loads", "rounds", "seconds", "json"])]
    from: Option<PathBuf>,

    /// Plot the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Put the table into README.md, and the plot beside this bench: of all servers and all loads
    #[arg(long, conflicts_with_all = ["only", "loads"])]
    update_readme: bool,

    /// Serve as a bare relay until standard input ends
    #[arg(long, value_enum, hide = true)]
    relay: Option<Relay>,

    /// What cargo adds to all benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    open_as_many_files_as_allowed();
    if let Some(relay) = options.relay {
        return relay::run(relay);
    }
    let results = match &options.from {
        Some(file) => fs::read_to_string(file)
            .map_err(Into::into)
            .and_then(|text| Results::read(&text))
            .with_context(|| format!("--from {}", file.display()))?,
        None => measure(&options)?,
    };
    let report = table::report(&results);
    write!(std::io::stdout(), "{report}")?;
    if let Some(file) = &options.svg {
        fs::write(file, plot::svg(&results)?)?;
    }
    if options.update_readme {
        fs::write(install::folder().join("results.svg"), plot::svg(&results)?)?;
        readme::update(&report)?;
    }
    Ok(())
}

/// The servers that can be had, and their versions.
fn prepare(only: &[Server]) -> HashMap<Server, String> {
    let is_wanted = |server: &Server| {
        let needs = |wanted: &Server| wanted == server || wanted.floor() == *server;
        only.is_empty() || only.iter().any(needs)
    };
    let wanted = Server::value_variants().iter().copied().filter(is_wanted);
    wanted
        .filter_map(|server| match server.prepare() {
            Ok(version) => Some((server, version)),
            Err(error) => {
                eprintln!("{} is left out: {error:#}", server.label());
                None
            }
        })
        .collect()
}

fn measure(options: &Options) -> anyhow::Result<Results> {
    let cores = Cores::given()?;
    if !cores.are_enough() {
        eprintln!("there is one core only, for the servers and for the load: figures are too high, and ratios are rough");
    }
    // Asked before: the working tree may be another one when all is measured.
    let mut results = Results::new(Machine::here(), prepare(&options.only), options.rounds, options.seconds);
    let length = Duration::from_secs_f64(options.seconds);
    let loads = Load::value_variants().iter().filter(|load| options.loads.is_empty() || options.loads.contains(load));
    let servers = Server::value_variants().iter().filter(|server| results.versions.contains_key(server));
    let runs: Vec<(Load, Server)> =
        loads.flat_map(|load| servers.clone().filter(|server| server.takes(*load)).map(|server| (*load, *server))).collect();
    let (all, begin) = (runs.len() * usize::from(options.rounds), Instant::now());
    let mut done = 0;
    for _ in 0..options.rounds {
        for (load, server) in &runs {
            done += 1;
            let outcome = cores.at(server.load_place(), || {
                let serving = server.start(&cores)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(serving.measure(*load, length))
            });
            let (name, told) = (server.name(), results.add(*server, *load, outcome));
            eprintln!("{done}/{all}  {:>4.0} s  {name}, {load:?}: {told}", begin.elapsed().as_secs_f64());
        }
        if let Some(file) = &options.json {
            fs::write(file, results.json()).with_context(|| format!("--json {}", file.display()))?;
        }
    }
    Ok(results)
}

/// Ten thousand connections are as many open files, for the servers and for the load.
fn open_as_many_files_as_allowed() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused, it stays as it is.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("not from 0.1 to 600".to_owned()) }
}
