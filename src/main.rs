//! The program: arguments, settings, logging, run, exit status. What it runs is the library.

mod bench;
mod check;
mod cli;
mod console;
mod echo;
mod health;
mod local_server;
mod logging;
mod roots;
mod soak;
#[cfg(feature = "opentelemetry")]
mod spans;
mod tokens;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use switchboard::{
    Server,
    admin::Program,
    config::{Config, Sources},
    ice::IceUrl,
};
use tracing::warn;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic when nobody reads stderr any more.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Some(Command::Config { check: None }) => print(&Config::manual()),
        Some(Command::Config { check: Some(file) }) => {
            Sources::new().file(&file).finish()?;
            print(&format!("{}: fine\n", file.display()))
        }
        Some(Command::Health(serve)) => print(&health::ask(&serve.config()?.0)?),
        Some(Command::Token(token)) => print(&token.run()?),
        Some(Command::Keys(keys)) => print(&keys.run()?),
        Some(Command::Soak(plan)) => soak::run(&plan.into()),
        Some(Command::Bench(plan)) => bench::run(&plan),
        Some(Command::Check(arguments)) => check::run(*arguments),
        Some(Command::Echo(arguments)) => echo::run(&arguments),
        Some(Command::Admin(arguments)) => console::run(&arguments),
        None => {
            let (config, origins) = cli.serve.config()?;
            let logging = logging::start(&config)?;
            if let Some(open_files) = open_as_many_files_as_allowed() {
                warn_of_few_files(open_files, &config);
            }
            let program = Program { settings: config.in_force(&origins), log: Some(logging.level.clone()) };
            let relay_ports = config.turn.ports;
            let server = Server::start_in(config, None, program)?;
            // Nobody has to read it.
            Ok(server.serve(|server| {
                let administration = server.admin_addresses().first().map(|address| format!("Its administration: http://{address}/\n"));
                let administration = administration.unwrap_or_default();
                let turn: Vec<&str> = server.turn_urls().iter().map(IceUrl::as_str).collect();
                let turn = match &turn[..] {
                    [] => String::new(),
                    urls => format!("Its STUN and TURN server: {}; relays have the UDP ports {relay_ports}\n", urls.join(", ")),
                };
                drop(print(&format!("Switchboard is open: {}\n{}.\n{administration}{turn}", server.url(), server.admits())));
            })?)
        }
    }
}

/// Clients are files, and so are allocations.
fn warn_of_few_files(open_files: u64, config: &Config) {
    let clients_max = config.limits.clients_max;
    let allocations_max = if config.turn.enabled { config.turn.allocations_max } else { 0 };
    if open_files < clients_max as u64 {
        warn!(open_files, clients_max, "limits.clients_max is more than the files that the system lets this program open (ulimit -n)");
    } else if open_files < (clients_max + allocations_max) as u64 {
        warn!(
            open_files,
            clients_max,
            allocations_max,
            "limits.clients_max and turn.allocations_max are more than the files that the system lets this program open (ulimit -n)"
        );
    }
}

/// Every connection of TCP is an open file, and shells start programs with few allowed, for the sake of old ones that could not take more.
/// How many it may open now; `None` for as many as it likes.
fn open_as_many_files_as_allowed() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused, it stays as it is.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // `switchboard config | head` has read what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
