//! The command line of the bench, and the plan that it adds up to.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use switchboard::{
    client::Door,
    load::{Pace, Scenario, Signal},
    protocol::Codec,
};

/// All come from one address, for which Linux has some 28,000 ports by default.
const CLIENTS_MAX: u32 = 25_000;
/// What may be on its way at once: the bench and the server may hold all of it.
const IN_FLIGHT_BYTES_MAX: u64 = 1 << 30;

const AFTER_HELP: &str = "\
Examples:
  switchboard bench                                              2 KB offers, 4,000 a second, a server of its own
  switchboard bench --scenario candidates --in-flight 8          as fast as it goes
  switchboard bench --scenario broadcast --members 1000          one speaks to 999
  switchboard bench --scenario mixed --report mixed.html         WebSocket to WebTransport and back, with plots
  switchboard bench --scenario idle --clients 10000 --tls        memory of a quiet connection
  switchboard bench https://example.org --ca ca.pem --pid 4711   a server that runs already

A server of the bench's own has no rates and room for all clients. One that runs already should be started with
`--rates off`, which lifts limits.address_connections_max too, and a large enough limits.clients_max, or its refusals are
measured. At the most 25,000 clients come from one address.

--json prints one line, an object. Times are microseconds, sizes bytes, rates per second; what is not known is missing.
  plan            what was measured, in words
  delivered       messages that arrived in the time that counts: signals, deliveries of a broadcast, notices of who came
                  and went, clients that came in (connect) or back (resume); none for idle
  deliveredPerSecond, seconds
  lost, duplicated, misordered, astray    of the whole run
  unsent          messages that were due and could not be sent within 5 seconds after the end: --rate is more than it takes
  latencyMicros   p50, p90, p99, p999, max, mean; from when a message was due (--rate), or from when the one before was heard,
                  or a place became free, so that it could be sent (--in-flight); resume: since the connections were lost
  connections     clients that were connected
  engineLoad      part of one core that the bench itself used; near 1, it and not the server is the bound
  server          of the process that is named by --pid, or the bench's own server; Linux alone:
    cpuMicrosPerMessage, wakeUpsPerMessage    CPU time and voluntary context switches of all its threads
    readWriteCallsPerMessage                  read, write, readv, writev (/proc/PID/io: syscr + syscw), on sockets and eventfds;
                                              not recv, send, sendmsg nor waits, so it compares runs of one server alone
    cpuPercent                                of one core
    bytesPerConnection                        resident memory more than before the clients came, for each of them
  overTime        a list: second, deliveredPerSecond, p50, p99

The exit status is 1 if any message was lost, duplicated, misordered, astray or unsent, or if nothing arrived that was to be counted; what was
measured is told all the same.
";

/// The flags of `switchboard bench`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Base URL of the server, which should run with `--rates off`; without it, a server of the bench's own
    pub url: Option<String>,

    /// Process id of that server, where it runs on this machine, so that its CPU time and memory can be told
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,

    /// Certificate authority to trust beside the system's, a PEM file
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,

    /// The bench's own server is behind TLS
    #[arg(long, conflicts_with = "url")]
    pub tls: bool,

    /// The bench's own server on the first core, the bench on the others; Linux alone
    #[arg(long, conflicts_with = "url")]
    pub pin: bool,

    /// What clients do
    #[arg(long, value_enum, default_value_t = ScenarioName::Offers)]
    scenario: ScenarioName,

    /// How clients come in; mixed has a door of its own [default: json]
    #[arg(long, value_enum)]
    door: Option<DoorName>,

    /// Pairs of clients, each in a room of its own: offers, candidates, mixed [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX / 2)))]
    pairs: Option<u32>,

    /// Rooms: broadcast, churn [default: 1 for broadcast, 10 for churn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX / 2)))]
    rooms: Option<u32>,

    /// Clients in each room: broadcast, churn [default: 50 for broadcast, 10 for churn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    members: Option<u32>,

    /// Clients, in rooms of two: idle, connect, resume [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=i64::from(CLIENTS_MAX)))]
    clients: Option<u32>,

    /// Bytes of each payload as JSON: offers, candidates, broadcast, mixed [default: 2048, 200 for candidates and broadcast]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(160..=60_000))]
    bytes: Option<u32>,

    /// Messages a second, over all senders together: offers, candidates, broadcast, churn (joins and leaves), mixed, connect (clients)
    /// [default: 4000, 100 for broadcast, 500 for churn]
    #[arg(long, value_name = "N", conflicts_with = "in_flight", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,

    /// As fast as it goes, with so many on their way in each pair or room; connect, idle and resume: so many clients at a time
    /// [default for those: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: Option<u32>,

    /// How long, in seconds, after one (or as many, if that is less) that does not count: all but connect and resume, which end when all clients
    /// are in or back [default: 10]
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<f64>,

    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,

    /// Write latencies, and throughput over time, as plots in one file that needs no other: .html, or .svg for the plots alone
    #[arg(long, value_name = "FILE", value_parser = report_file)]
    pub report: Option<PathBuf>,
}

/// A scenario as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScenarioName {
    /// Session descriptions between pairs, both ways
    Offers,
    /// ICE candidates between pairs, both ways
    Candidates,
    /// One in each room speaks to all the others
    Broadcast,
    /// One in each room comes and goes, and all the others hear of it
    Churn,
    /// Clients say nothing: memory and CPU time of a connection
    Idle,
    /// Clients come in, and stay
    Connect,
    /// Offers from WebSocket (JSON) to WebTransport and back
    Mixed,
    /// All clients lose their connections at once, and come back to their sessions
    Resume,
}

/// A door as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DoorName {
    /// WebSocket with JSON
    Json,
    /// WebSocket with MessagePack
    Msgpack,
    /// WebTransport
    Webtransport,
}

/// What is measured, once the flags fit together.
pub struct Chosen {
    pub doors: Vec<Door>,
    pub kind: Kind,
    pub pace: Pace,
    pub length: Duration,
}

/// A scenario of the engine, or the one that Switchboard alone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Engine(Scenario),
    Resume { clients: usize },
}

impl Kind {
    /// How many connections it takes.
    pub fn connections(&self) -> usize {
        match self {
            Self::Engine(scenario) => scenario.connections(),
            Self::Resume { clients } => *clients,
        }
    }
}

impl Arguments {
    /// What the flags add up to; the error names the one that does not fit, and its value.
    pub fn choose(&self) -> anyhow::Result<Chosen> {
        use ScenarioName::{Broadcast, Candidates, Churn, Connect, Idle, Mixed, Offers, Resume};
        let name = self.scenario;
        self.refuse("--pairs", self.pairs, &[Offers, Candidates, Mixed])?;
        self.refuse("--rooms", self.rooms, &[Broadcast, Churn])?;
        self.refuse("--members", self.members, &[Broadcast, Churn])?;
        self.refuse("--clients", self.clients, &[Idle, Connect, Resume])?;
        self.refuse("--bytes", self.bytes, &[Offers, Candidates, Broadcast, Mixed])?;
        self.refuse("--rate", self.rate, &[Offers, Candidates, Broadcast, Churn, Mixed, Connect])?;
        self.refuse("--seconds", self.seconds, &[Offers, Candidates, Broadcast, Churn, Mixed, Idle])?;
        let door = self.door.map(|door| door.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default());
        self.refuse("--door", door, &[Offers, Candidates, Broadcast, Churn, Idle, Connect, Resume])?;

        let number = |given: Option<u32>, default: u32| given.unwrap_or(default) as usize;
        let (pairs, clients) = (number(self.pairs, 50), number(self.clients, 1000));
        anyhow::ensure!(clients.is_multiple_of(2), "--clients {clients}: they are in rooms of two, so it has to be even");
        let (rooms, members) = match name {
            Churn => (number(self.rooms, 10), number(self.members, 10)),
            _ => (number(self.rooms, 1), number(self.members, 50)),
        };
        anyhow::ensure!(rooms * members <= CLIENTS_MAX as usize, "--rooms {rooms} of --members {members}: more than {CLIENTS_MAX} clients");
        let engine = |scenario| Kind::Engine(scenario);
        let kind = match name {
            Offers | Mixed => engine(Scenario::Forward { signal: Signal::Offer, pairs, bytes: number(self.bytes, 2048) }),
            Candidates => engine(Scenario::Forward { signal: Signal::Candidate, pairs, bytes: number(self.bytes, 200) }),
            Broadcast => engine(Scenario::Broadcast { rooms, members, bytes: number(self.bytes, 200) }),
            Churn => engine(Scenario::Churn { rooms, members }),
            Idle => engine(Scenario::Idle { clients }),
            Connect => engine(Scenario::Connect { clients }),
            Resume => Kind::Resume { clients },
        };
        if let (Some(window), Kind::Engine(scenario @ (Scenario::Forward { bytes, .. } | Scenario::Broadcast { bytes, .. }))) =
            (self.in_flight, kind)
        {
            let connections = scenario.connections() as u64;
            anyhow::ensure!(
                u64::from(window) * bytes as u64 * connections <= IN_FLIGHT_BYTES_MAX,
                "--in-flight {window} of --bytes {bytes} for each of {connections} clients: more than {IN_FLIGHT_BYTES_MAX} bytes on their way"
            );
        }
        let pace = match (self.rate, self.in_flight, name) {
            (_, Some(window), _) => Pace::InFlight(window),
            (Some(rate), ..) => Pace::Rate(rate),
            (None, None, Idle | Connect | Resume) => Pace::InFlight(64),
            (None, None, Broadcast) => Pace::Rate(100),
            (None, None, Churn) => Pace::Rate(500),
            (None, None, Offers | Candidates | Mixed) => Pace::Rate(4000),
        };
        let doors = match (name, self.door.unwrap_or(DoorName::Json)) {
            (Mixed, _) => vec![Door::WebSocket(Codec::Json), Door::WebTransport],
            (_, DoorName::Json) => vec![Door::WebSocket(Codec::Json)],
            (_, DoorName::Msgpack) => vec![Door::WebSocket(Codec::MsgPack)],
            (_, DoorName::Webtransport) => vec![Door::WebTransport],
        };
        Ok(Chosen { doors, kind, pace, length: Duration::try_from_secs_f64(self.seconds.unwrap_or(10.0))? })
    }

    /// Refuses a flag that means nothing to the scenario.
    fn refuse(&self, flag: &str, value: Option<impl std::fmt::Display>, of: &[ScenarioName]) -> anyhow::Result<()> {
        let name = |scenario: ScenarioName| scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        match value {
            Some(value) if !of.contains(&self.scenario) => {
                let others: Vec<_> = of.iter().copied().map(name).collect();
                anyhow::bail!("{flag} {value}: means nothing to --scenario {}, only to {}", name(self.scenario), others.join(", "))
            }
            _ => Ok(()),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("not from 0.1 to 3600".to_owned()) }
}

fn report_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let known = path.extension().is_some_and(|extension| extension == "html" || extension == "svg");
    if known { Ok(path) } else { Err("its name ends neither in .html nor in .svg".to_owned()) }
}
