//! The program: arguments, settings, logging, run, exit status. What it runs is the library.

mod cli;
mod logging;
mod soak;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use switchboard::{
    Server,
    config::{Config, Sources},
};

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
        Some(Command::Soak(plan)) => soak::run(&plan.into()),
        None => {
            let config = cli.serve.config()?;
            logging::start(&config);
            let server = Server::start(config)?;
            // Nobody has to read it.
            Ok(server.serve(|server| drop(print(&format!("Switchboard is open: {}\n", server.url()))))?)
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // `switchboard config | head` has read what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
