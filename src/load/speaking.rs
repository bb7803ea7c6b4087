//! What clients say, and when: at a rate, or as soon as what they said before has arrived.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{LoadError, Marker, Outgoing, Sender, Speech, Template, Wire, entry::enter, hearing::Visits, run::Run};

/// How long a connection may take nothing.
const STUCK: Duration = Duration::from_secs(10);
/// The longest sleep of a thread that nobody can end: then it looks whether it is to stop.
const STEP: Duration = Duration::from_millis(100);

/// One who says the same over and over.
pub struct Speaker {
    pub number: u32,
    /// What was said so far, by number.
    pub said: u64,
    pub words: Words,
}

/// What is said.
pub enum Words {
    /// A message with a marker.
    Marked(Sender, Template),
    /// First `leave`, then `join`, then `leave` again: who speaks is in the room before.
    Turns { sender: Sender, leave: Vec<u8>, join: Vec<u8>, visits: Arc<Visits> },
    /// When the [`Visitor`] is to come or go.
    Calls(mpsc::UnboundedSender<u64>),
}

/// One who comes by connecting and goes by closing, where a server knows no other way.
pub struct Visitor {
    pub number: usize,
    pub room: String,
    pub wire: Option<Wire>,
    pub visits: Arc<Visits>,
    pub calls: mpsc::UnboundedReceiver<u64>,
    /// Are others told? If not, it is counted when it is done.
    pub has_presence: bool,
    pub circle: Option<Arc<Circle>>,
}

/// Those who hear the same: says when who speaks to them may go on.
pub struct Circle {
    listeners: u64,
    /// How much may be on its way.
    window: u64,
    arrived: AtomicU64,
    changed: Notify,
}

impl Circle {
    /// So many hear, and so much may be on its way; `heard` messages they have all heard before.
    pub fn new(listeners: usize, window: u32, heard: u64) -> Self {
        let listeners = listeners as u64;
        Self { listeners, window: window.into(), arrived: (heard * listeners).into(), changed: Notify::new() }
    }

    /// Somebody heard so many.
    pub fn arrive(&self, count: u64) {
        let before = self.arrived.fetch_add(count, Ordering::Relaxed);
        if (before + count) / self.listeners > before / self.listeners {
            self.changed.notify_one();
        }
    }

    fn allowed(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed) / self.listeners + self.window
    }
}

impl Speaker {
    /// Says so many, which are due at the same time, and sends them at once.
    pub async fn say(&mut self, run: &Run, count: u64, due: u64) -> Result<(), LoadError> {
        match &self.words {
            Words::Calls(calls) => {
                run.owed.fetch_add(count, Ordering::Relaxed);
                // The visitor's own task tells why it has ended.
                for _ in 0..count {
                    let _ = calls.send(due);
                }
                self.said += count;
                Ok(())
            }
            Words::Marked(sender, _) | Words::Turns { sender, .. } => {
                // Told before it is sent: what arrives has been said.
                run.said[self.number as usize].fetch_add(count, Ordering::Relaxed);
                let mut outgoing = sender.lock().await;
                for number in self.said..self.said + count {
                    self.words.queue(&mut outgoing, Marker { sender: self.number, number, due });
                }
                self.said += count;
                outgoing.flush().await
            }
        }
    }

    /// As fast as it is heard, until the run is over.
    pub async fn in_turn(mut self, circle: Arc<Circle>, run: Arc<Run>) -> Result<(), LoadError> {
        loop {
            let now = run.now();
            if now >= run.end {
                return Ok(());
            }
            let count = circle.allowed().saturating_sub(self.said);
            if count > 0 {
                self.say(&run, count, now).await?;
            }
            circle.changed.notified().await;
        }
    }
}

impl Words {
    fn queue(&self, outgoing: &mut Outgoing, marker: Marker) {
        match self {
            Self::Marked(_, template) => outgoing.queue_marked(template, marker),
            Self::Turns { leave, join, visits, .. } => {
                visits.dues.lock().expect("no task panics").push(marker.due);
                outgoing.queue(if marker.number % 2 == 1 { leave } else { join });
            }
            Self::Calls(_) => unreachable!("a visitor has no line"),
        }
    }
}

impl Visitor {
    /// Comes and goes when it is called.
    pub async fn visit<S: Speech>(mut self, speech: Arc<S>, run: Arc<Run>) -> Result<(), LoadError> {
        while let Some(due) = self.calls.recv().await {
            if run.is_stopped() {
                break;
            }
            run.said[self.number].fetch_add(1, Ordering::Relaxed);
            run.owed.fetch_sub(1, Ordering::Relaxed);
            self.visits.dues.lock().expect("no task panics").push(due);
            let is_join = self.wire.is_none();
            match self.wire.take() {
                Some(wire) => timeout(STUCK, wire.close()).await.map_err(|_| stuck())??,
                None => self.wire = Some(enter(&*speech, self.number, &self.room).await?.wire),
            }
            if !self.has_presence {
                run.hearing.lock().expect("no task panics").own_turn(self.number as u32, is_join, run.now());
                if let Some(circle) = &self.circle {
                    circle.arrive(1);
                }
            }
        }
        // It stays where it is: to go would be a turn that nobody called for.
        pending().await
    }
}

/// Says so many a second, one speaker after the other, each message when it is due or as soon as those before it are sent. Runs on a thread of its
/// own, so that nothing that arrives keeps it from being sent. Ends when all is said that is due before the end, or when the run is stopped.
pub fn speak_at(rate: u32, mut speakers: Vec<Speaker>, run: &Run, runtime: &Handle) -> Result<(), LoadError> {
    wake_up_in_time();
    let all = (run.end * u64::from(rate)).div_ceil(1_000_000);
    run.owed.fetch_add(all, Ordering::Relaxed);
    let count = speakers.len();
    for number in 0..all {
        let due = number * 1_000_000 / u64::from(rate);
        let speaker = &mut speakers[number as usize % count];
        if !sleep_until(due, run) {
            break;
        }
        let saying = async {
            tokio::select! {
                biased;
                said = timeout(STUCK, speaker.say(run, 1, due)) => said.map_err(|_| stuck())?.map(|()| true),
                () = run.stopped() => Ok(false),
            }
        };
        if !runtime.block_on(saying)? {
            // What is not sent whole cannot be heard.
            run.said[speaker.number as usize].fetch_sub(1, Ordering::Relaxed);
            break;
        }
        run.owed.fetch_sub(1, Ordering::Relaxed);
    }
    run.is_speaking.store(false, Ordering::Release);
    Ok(())
}

/// Is it time? No, when the run is stopped before.
fn sleep_until(due: u64, run: &Run) -> bool {
    while !run.is_stopped() {
        let rest = Duration::from_micros(due).saturating_sub(run.epoch.elapsed());
        if rest.is_zero() {
            return true;
        }
        thread::sleep(rest.min(STEP));
    }
    false
}

fn stuck() -> LoadError {
    LoadError::ended(format_args!("it took nothing for {} s", STUCK.as_secs()))
}

/// The kernel may be late by 50 µs otherwise, which would count as latency of the server.
#[cfg(target_os = "linux")]
fn wake_up_in_time() {
    // Where it is refused, latencies are told some microseconds too long.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn wake_up_in_time() {}
