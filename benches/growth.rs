//! A million rooms of two: what a peer costs the registry in memory, and a join in time. Each has a bound to stay under.
//!
//! `cargo bench --bench growth` measures the rules alone (`Rooms`), and then the actor around them, which knows all sessions beside and has a
//! mailbox. All peers share one inlet, so what a session costs is not in it. Each turn is a process of its own: none finds memory that another
//! gave back. Without `--bench`, as in tests, it is a thousand rooms, and nothing has to be reached.

mod support;

use std::{
    env,
    error::Error,
    iter,
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use support::{Nowhere, room};
use switchboard::{
    load::process::Process,
    protocol::{LeaveReason, PeerId, RoomId},
    registry::{
        RoomRegistry,
        command::{Join, Leave, Register},
        inlet::Inlet,
        rooms::{Entry, RoomLimits, Rooms},
    },
};

const ROOMS: u32 = 1_000_000;
const ROOMS_IN_TESTS: u32 = 1_000;
const TURNS: usize = 3;
/// Joins that go through the registry's mailbox at once.
const BATCH: usize = 100;
const BYTES_MAX: f64 = 400.0;
const MICROS_MAX: f64 = 2.0;
const LIMITS: RoomLimits = RoomLimits { rooms_max: usize::MAX, peers_max: 1_000, metadata_bytes_max: 0, quiet_peers_max: 0 };

/// Tells a process of this program what to measure.
const WHAT: &str = "SWITCHBOARD_GROWTH_OF";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let is_bench = env::args().any(|arg| arg == "--bench");
    let rooms = if is_bench { ROOMS } else { ROOMS_IN_TESTS };
    if let Ok(what) = env::var(WHAT) {
        let [bytes, micros, slowest] = measure(&what, rooms)?;
        println!("{bytes} {micros} {slowest}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{rooms} rooms of two, names of {} bytes, medians of {TURNS}\n", room(0).as_str().len());
    println!("{:<10}{:>14}{:>12}{:>22}", "", "bytes a peer", "µs a join", "µs of the slowest");
    let mut is_reached = true;
    for what in ["rooms", "registry"] {
        let turns = iter::repeat_with(|| measure_apart(what)).take(TURNS).collect::<Result<Vec<_>, _>>()?;
        let [bytes, micros, slowest] = medians(&turns);
        let of = if what == "rooms" { String::new() } else { format!(" (of {BATCH} joins together)") };
        println!("{what:<10}{bytes:>14.0}{micros:>12.2}{slowest:>22.0}{of}");
        is_reached &= bytes <= BYTES_MAX && micros <= MICROS_MAX;
    }
    if !is_bench {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{BYTES_MAX} bytes a peer and {MICROS_MAX} µs a join at the most: {}", if is_reached { "reached" } else { "missed" });
    Ok(if is_reached { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Bytes a peer, microseconds a join, and microseconds of the slowest one, or the slowest batch.
type Figures = [f64; 3];

fn measure_apart(what: &str) -> Result<Figures, Box<dyn Error>> {
    let output = Command::new(env::current_exe()?).args(env::args_os().skip(1)).env(WHAT, what).output()?;
    let figures = String::from_utf8(output.stdout)?.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    figures.try_into().map_err(|_| String::from_utf8_lossy(&output.stderr).into())
}

fn medians(turns: &[Figures]) -> Figures {
    std::array::from_fn(|at| {
        let mut column: Vec<f64> = turns.iter().map(|turn| turn[at]).collect();
        column.sort_unstable_by(f64::total_cmp);
        column[column.len() / 2]
    })
}

fn measure(what: &str, rooms: u32) -> Result<Figures, Box<dyn Error>> {
    // Who comes second finds a room that nobody has touched for long.
    let mut order: Vec<u32> = (0..rooms).collect();
    fastrand::shuffle(&mut order);
    let comers = || (0..rooms).chain(order.iter().copied()).map(|n| (PeerId::random(), room(n)));
    match what {
        "rooms" => measure_rooms(comers()),
        _ => System::new().block_on(measure_registry(comers())),
    }
}

fn measure_rooms(comers: impl Iterator<Item = (PeerId, RoomId)>) -> Result<Figures, Box<dyn Error>> {
    let inlet: Arc<dyn Inlet> = Arc::new(Nowhere);
    let mut meter = Meter::start()?;
    let mut rooms = Rooms::new(LIMITS);
    for (peer_id, room) in comers {
        let inlet = inlet.clone();
        let begin = Instant::now();
        rooms.join(peer_id, inlet, room, Entry::default()).map_err(|code| code.slug())?;
        meter.count(1, begin.elapsed());
    }
    meter.figures()
}

/// A batch at a time goes through the mailbox, and what tells that all of it is done.
async fn measure_registry(comers: impl Iterator<Item = (PeerId, RoomId)>) -> Result<Figures, Box<dyn Error>> {
    let inlet: Arc<dyn Inlet> = Arc::new(Nowhere);
    let registry = RoomRegistry::new(LIMITS, Arc::default()).start();
    let mut comers = comers.peekable();
    let mut meter = Meter::start()?;
    while comers.peek().is_some() {
        let batch: Vec<_> = comers.by_ref().take(BATCH).collect();
        let joins = batch.len() as u32;
        let begin = Instant::now();
        for (peer_id, room) in batch {
            registry.do_send(Register { peer_id, inlet: inlet.clone() });
            registry.do_send(Join { peer_id, inlet: inlet.clone(), room, entry: Entry::default() });
        }
        registry
            .send(Leave { peer_id: PeerId::random(), inlet: inlet.clone(), rooms: vec![], reason: LeaveReason::Left, is_awaited: true })
            .await?;
        meter.count(joins, begin.elapsed());
    }
    meter.figures()
}

/// The time that joins take, and what the process has grown by meanwhile.
struct Meter {
    bytes_before: u64,
    joins: u32,
    total: Duration,
    slowest: Duration,
}

impl Meter {
    fn start() -> Result<Self, Box<dyn Error>> {
        let bytes_before = Process::own().resident_bytes()?;
        Ok(Self { bytes_before, joins: 0, total: Duration::ZERO, slowest: Duration::ZERO })
    }

    fn count(&mut self, joins: u32, time: Duration) {
        self.joins += joins;
        self.total += time;
        self.slowest = self.slowest.max(time);
    }

    /// To be asked while all that has grown is still there. Each join is the only one of its peer.
    fn figures(&self) -> Result<Figures, Box<dyn Error>> {
        let bytes = Process::own().resident_bytes()?.saturating_sub(self.bytes_before);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Ok([bytes as f64 / f64::from(self.joins), micros(self.total) / f64::from(self.joins), micros(self.slowest)])
    }
}
