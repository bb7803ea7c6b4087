//! The command line: what may be written there, and the sources that it adds up to.
//!
//! Values are taken as text and read where those of the file are, so that a wrong one is refused in the same words. Here only
//! the shape counts: an unknown flag is a usage error (exit status 2), a wrong value is not (1).

use std::{env, ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use switchboard::config::{Config, InvalidConfig, SettingOrigins, Sources};

use crate::{bench, check, console, echo, soak, tokens};

/// The environment variable that stands for `--config`.
const CONFIG_VARIABLE: &str = "SWITCHBOARD_CONFIG";

const EXAMPLES: &str = "\
A flag beats its environment variable, which beats the configuration file. `switchboard config`
explains every setting; limits and timeouts stand in the file and in the environment alone.

Examples:
  switchboard                                     serve this machine, with defaults
  switchboard --listen :8080                      serve everybody who can reach port 8080
  switchboard --listen :443 --tls-cert chain.pem --tls-key key.pem
  switchboard config > switchboard.toml           begin a configuration file
  switchboard config --check switchboard.toml     tell what is wrong with it
  SWITCHBOARD_LIMITS_ROOMS_MAX=500 switchboard    change one setting
  switchboard --admin-listen 127.0.0.1:9090       be looked at by `switchboard admin`, or in a browser
";

/// WebRTC signaling server: browsers meet in a room over WebTransport or WebSocket.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, next_line_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub serve: Serve,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Print the default configuration file, which is the manual of every setting
    Config {
        /// Tell whether this file is fine, or all that is wrong with it
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    },
    /// Ask the server that runs on this machine with the same settings whether it is alive; exit status 1 if it is not
    Health(Serve),
    /// Make a token for a client, or explain one
    Token(Box<tokens::Token>),
    /// Make a pair of keys for tokens, and say how to go on
    Keys(tokens::Keys),
    /// Start a server and put clients on it that come, go, stall and lose their connections; tell what became of every message, and fail if one
    /// was lost, came twice or in another order
    Soak(Soak),
    /// Put load on a server, and tell latency, throughput and what the server needed for it; fail if a message was lost, came twice or in
    /// another order
    Bench(bench::Arguments),
    /// Look at a server from outside, as its clients do, and tell what works, what does not, why, and what to change
    Check(Box<check::Arguments>),
    /// Be a peer in a room that sends back what comes through data channels (needs the feature webrtc)
    Echo(echo::Arguments),
    /// Look at a running server and act on it, by its admin_listen
    Admin(console::Arguments),
}

#[derive(Args)]
pub struct Soak {
    /// How long, in minutes
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,

    /// Rooms with six clients each that talk all the time, beside those who come and go
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rooms: u16,

    /// Repeat the random choices of an earlier run (but not its times)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=100_000.0).contains(&minutes) { Ok(minutes) } else { Err("not from 0.01 to 100000".to_owned()) }
}

impl From<Soak> for soak::Plan {
    fn from(Soak { minutes, rooms, seed }: Soak) -> Self {
        Self { minutes, rooms: rooms.into(), seed: seed.unwrap_or_else(|| fastrand::u64(..)) }
    }
}

#[derive(Args)]
pub struct Serve {
    /// Where to listen, on TCP and on UDP: localhost, an address or nothing, then the port (0: a free one)
    /// [default: localhost:8080] [env: SWITCHBOARD_LISTEN]
    #[arg(long, verbatim_doc_comment, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Certificate chain, a PEM file; without it, plain TCP and a self-signed certificate for QUIC
    /// [env: SWITCHBOARD_TLS_CERT]
    #[arg(long, verbatim_doc_comment, value_name = "FILE")]
    tls_cert: Option<String>,

    /// Private key of the certificate, a PEM file
    /// [env: SWITCHBOARD_TLS_KEY]
    #[arg(long, verbatim_doc_comment, value_name = "FILE")]
    tls_key: Option<String>,

    /// Where to look at the running server and act on it, in plain HTTP, with the token of admin.token_file
    /// [env: SWITCHBOARD_ADMIN_LISTEN]
    #[arg(long, verbatim_doc_comment, value_name = "HOST:PORT")]
    admin_listen: Option<String>,

    /// Run the embedded STUN and TURN server, for clients that cannot reach each other
    /// [default: false] [env: SWITCHBOARD_TURN_ENABLED]
    #[arg(long, verbatim_doc_comment)]
    turn: bool,

    /// Where that listens, on UDP and on TCP; without it, the host of --listen with port 3478
    /// [env: SWITCHBOARD_TURN_LISTEN]
    #[arg(long, verbatim_doc_comment, value_name = "HOST:PORT")]
    turn_listen: Option<String>,

    /// By which addresses others know this machine, where those are not its own: one of each family, separated by a comma
    /// [env: SWITCHBOARD_TURN_EXTERNAL_IP]
    #[arg(long, verbatim_doc_comment, value_name = "IP")]
    turn_external_ip: Option<String>,

    /// Directory of the self-signed certificate
    /// [default: certs] [env: SWITCHBOARD_CERT_DIR]
    #[arg(long, verbatim_doc_comment, value_name = "DIR")]
    cert_dir: Option<String>,

    /// What to log: error, warn, info, debug, trace, off, or a list such as info,switchboard=debug
    /// [default: info] [env: SWITCHBOARD_LOG]
    #[arg(long, verbatim_doc_comment, value_name = "FILTER")]
    log: Option<String>,

    /// How to write a log line, to stderr
    /// [default: text] [env: SWITCHBOARD_LOG_FORMAT]
    #[arg(long, verbatim_doc_comment, value_name = "text|json")]
    log_format: Option<String>,

    /// Whether rates are bounded: on or off; off is for load tests
    /// [default: on] [env: SWITCHBOARD_RATES]
    #[arg(long, verbatim_doc_comment, value_name = "on|off")]
    rates: Option<String>,

    /// Configuration file, TOML
    /// [env: SWITCHBOARD_CONFIG]
    #[arg(long, verbatim_doc_comment, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Threads that serve clients, 1 to 512
    /// [default: number of cores] [env: SWITCHBOARD_WORKERS]
    #[arg(long, verbatim_doc_comment, value_name = "N", allow_hyphen_values = true)]
    workers: Option<String>,
}

impl Serve {
    /// The settings to serve with: these flags, this process's environment, and the file that either of them names.
    pub fn config(self) -> Result<(Config, SettingOrigins), InvalidConfig> {
        let sources = Sources::new()
            .flag("listen", self.listen.as_deref())
            .flag("tls_cert", self.tls_cert.as_deref())
            .flag("tls_key", self.tls_key.as_deref())
            .flag("admin_listen", self.admin_listen.as_deref())
            .flag("turn.enabled", self.turn.then_some("true"))
            .flag("turn.listen", self.turn_listen.as_deref())
            .flag("turn.external_ip", self.turn_external_ip.as_deref())
            .flag("cert_dir", self.cert_dir.as_deref())
            .flag("log", self.log.as_deref())
            .flag("log_format", self.log_format.as_deref())
            .flag("rates", self.rates.as_deref())
            .flag("workers", self.workers.as_deref());
        settings(sources, self.config)
    }
}

/// The settings that these flags, this process's environment, and the file that one of them names come to, and where each was written.
pub fn settings(flags: Sources, file: Option<PathBuf>) -> Result<(Config, SettingOrigins), InvalidConfig> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let variables = env::vars_os().map(|(name, value)| (text(name), text(value)));
    let sources = flags.environment(|variable| env::var_os(variable)).known_variables(variables, &[CONFIG_VARIABLE]);
    let variable = env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    match file.or(variable.map(PathBuf::from)) {
        Some(path) => sources.file(&path).finish_with_origins(),
        None => sources.finish_with_origins(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_defaults_and_variables_as_the_manual_does() {
        let manual = Config::manual();
        let command = Cli::command();
        let mut flags = BTreeSet::new();
        for flag in command.get_arguments().filter(|flag| flag.get_id() != "config") {
            let help = flag.get_help().unwrap().to_string();
            // A setting of the section `turn` has its flag behind that name, and the section's own is what switches it on.
            let (section, setting) = match flag.get_id().as_str() {
                "turn" => ("[turn]", "enabled"),
                id => id.strip_prefix("turn_").map_or(("", id), |setting| ("[turn]", setting)),
            };
            let mut lines = manual.lines().skip_while(|line| !section.is_empty() && *line != section);
            let line = lines.find_map(|line| line.strip_prefix(&format!("#{setting} ="))).unwrap();
            let default = line.trim().trim_matches('"');
            assert!(matches!(default, "" | "[]") || help.contains(&format!("[default: {default}]")), "{setting}: {help}");
            let setting = if section.is_empty() { setting.to_owned() } else { format!("turn_{setting}") };
            assert!(help.contains(&format!("[env: SWITCHBOARD_{}]", setting.to_uppercase())), "{setting}: {help}");
            flags.insert(format!("Flag: --{}.", flag.get_long().unwrap()));
        }
        let told: BTreeSet<String> = manual.split("Flag: ").skip(1).map(|rest| format!("Flag: {}", rest.lines().next().unwrap())).collect();
        assert_eq!(flags, told);
    }
}
