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
        // Told before it is sent: what arrives has been said.
        run.said[self.number as usize].fetch_add(count, Ordering::Relaxed);
        match &self.words {
            Words::Calls(calls) => {
                // The visitor's own task tells why it has ended.
                for _ in 0..count {
                    let _ = calls.send(due);
                }
                self.said += count;
                Ok(())
            }
            Words::Marked(sender, _) | Words::Turns { sender, .. } => {
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

/// Says so many a second, one speaker after the other, each message when it is due. Runs on a thread of its own, so that nothing that arrives
/// keeps it from being sent.
pub fn speak_at(rate: u32, mut speakers: Vec<Speaker>, run: &Run, runtime: &Handle) -> Result<(), LoadError> {
    wake_up_in_time();
    let begin = run.now();
    let count = speakers.len();
    for number in 0_u64.. {
        let due = begin + number * 1_000_000 / u64::from(rate);
        if due >= run.end {
            break;
        }
        thread::sleep(Duration::from_micros(due).saturating_sub(run.epoch.elapsed()));
        let speaker = &mut speakers[number as usize % count];
        runtime.block_on(async { timeout(STUCK, speaker.say(run, 1, due)).await.map_err(|_| stuck())? })?;
    }
    Ok(())
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
