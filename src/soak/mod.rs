//! `switchboard soak`: churn, lost connections, stalls and traffic together, for as long as one likes, and what became of every message.
//!
//! It starts a server of its own as a process, so that the memory is that of the server alone, and is a client like any other.

mod books;
mod clients;

use std::{io::Write as _, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use fastrand::Rng;
use switchboard::client::{Connector, Options};
use tokio::{
    sync::watch,
    task::{JoinSet, LocalSet},
    time::{Instant, sleep, sleep_until},
};

use self::clients::{Phase, Soak, TALKERS_PER_ROOM, Tally};
use crate::local_server::{LocalServer, Settings};

/// What is soaked, and for how long.
pub struct Plan {
    pub minutes: f64,
    pub rooms: usize,
    pub seed: u64,
}

/// A part of all talkers comes and goes, another stops reading.
const VISITORS_PER_ROOM: usize = 2;
const SLOW_CLIENTS: usize = 2;
/// Between two lines that tell how it goes.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// What is on its way arrives in this time, or is lost.
const SETTLING: Duration = Duration::from_secs(20);

/// Soaks, tells how it goes, and fails if anything was lost, or came twice, or in another order.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let server = LocalServer::start(&Settings { clients: 0, tls: false })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, soak(plan, &server))?;
    tell(&report.to_string())?;
    if !report.is_clean() {
        bail!("soak: a promise was broken, see above; seed {}", plan.seed)
    }
    tell("every promise was kept\n")
}

async fn soak(plan: &Plan, server: &LocalServer) -> anyhow::Result<Report> {
    let talkers = plan.rooms * TALKERS_PER_ROOM;
    let soak = Rc::new(Soak {
        connector: Arc::new(Connector::new(server.url(), Options::default()).await?),
        books: Default::default(),
        tally: Default::default(),
        talkers: vec![None; talkers].into(),
        phase: watch::Sender::new(Phase::Busy),
    });
    let visitors = plan.rooms * VISITORS_PER_ROOM;
    tell(&format!(
        "soak: {} minutes, seed {}: {talkers} talkers in {} rooms, {visitors} visitors, {SLOW_CLIENTS} slow clients, server at {}\n",
        plan.minutes,
        plan.seed,
        plan.rooms,
        server.url()
    ))?;
    let mut random = Rng::with_seed(plan.seed);
    let mut talking = JoinSet::new();
    let mut others = JoinSet::new();
    (0..talkers).for_each(|me| drop(talking.spawn_local(clients::talk(soak.clone(), me, random.fork()))));
    (0..visitors).for_each(|_| drop(others.spawn_local(clients::visit(soak.clone(), plan.rooms, random.fork()))));
    (0..SLOW_CLIENTS).for_each(|number| drop(others.spawn_local(clients::stop_reading(soak.clone(), number, random.fork()))));

    let begun = Instant::now();
    let length = Duration::try_from_secs_f64(plan.minutes * 60.0)?;
    // What is filled once and then reused is not growth.
    let warm_at = begun + length / 5;
    let mut memory = Memory::default();
    let mut line_at = begun + BETWEEN_LINES;
    while begun.elapsed() < length {
        tokio::select! {
            Some(ended) = talking.join_next() => ended?.context("a talker gave up")?,
            () = sleep(Duration::from_millis(200)) => {}
        }
        memory.look(server.process().resident_bytes()?, Instant::now() >= warm_at);
        if Instant::now() >= line_at {
            line_at += BETWEEN_LINES;
            let (books, tally) = (soak.books.borrow(), soak.tally.borrow());
            tell(&format!(
                "{:>6} s: {} sent, {} resumed, {} visits, memory {}\n",
                begun.elapsed().as_secs(),
                books.sent,
                tally.resumed,
                tally.visits,
                mebibytes(memory.now)
            ))?;
        }
    }
    soak.phase.send_replace(Phase::Settling);
    let settled = Instant::now() + SETTLING;
    while soak.books.borrow().missing() > 0 && Instant::now() < settled {
        sleep(Duration::from_millis(50)).await;
    }
    memory.look(server.process().resident_bytes()?, true);
    // What comes twice comes late.
    sleep_until(Instant::now() + Duration::from_millis(500)).await;
    soak.phase.send_replace(Phase::Over);
    while let Some(ended) = others.join_next().await {
        ended?;
    }
    while let Some(ended) = talking.join_next().await {
        ended?.context("a talker gave up")?;
    }
    let books = soak.books.borrow();
    Ok(Report {
        sent: books.sent,
        received: books.received,
        refused: books.refused,
        lost: books.missing(),
        duplicated: books.duplicated,
        misordered: books.misordered,
        tally: *soak.tally.borrow(),
        memory,
    })
}

/// What came of it.
struct Report {
    sent: u64,
    received: u64,
    refused: u64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    tally: Tally,
    memory: Memory,
}

impl Report {
    fn is_clean(&self) -> bool {
        let Tally { sessions_lost, left, visits, visits_failed, .. } = self.tally;
        let faults = [self.lost, self.duplicated, self.misordered, sessions_lost, left];
        // A refusal is told, and still the exception.
        faults == [0; 5] && self.received > 100 * self.refused && visits > visits_failed
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, received, refused, lost, duplicated, misordered, tally, memory } = self;
        writeln!(f, "messages    sent {sent}, received {received}, refused {refused}")?;
        writeln!(f, "            lost {lost}, duplicated {duplicated}, misordered {misordered}")?;
        writeln!(f, "sessions    resumed {}, lost {}, seen to leave {}", tally.resumed, tally.sessions_lost, tally.left)?;
        let Tally { visits, visits_failed, stalled, slow_closed, .. } = tally;
        writeln!(f, "others      {visits} visits, {visits_failed} failed, {stalled} stalls, {slow_closed} slow clients closed")?;
        let Memory { start, warm, now, most } = memory;
        let [start, warm, now, most] = [start, warm, now, most].map(|bytes| mebibytes(*bytes));
        writeln!(f, "memory      {start} at the start, {warm} after a fifth of the time, {now} at the end, {most} at most")
    }
}

/// The server's resident bytes over time.
#[derive(Default)]
struct Memory {
    start: u64,
    warm: u64,
    now: u64,
    most: u64,
}

impl Memory {
    fn look(&mut self, bytes: u64, is_warm: bool) {
        let keep_first = |kept: &mut u64| *kept = if *kept == 0 { bytes } else { *kept };
        keep_first(&mut self.start);
        if is_warm {
            keep_first(&mut self.warm);
        }
        self.now = bytes;
        self.most = self.most.max(bytes);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

fn tell(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}
