//! A run in which clients say things: it brings them in, starts them, watches the server meanwhile, and waits for what is on its way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::JoinSet, time::sleep};

use super::{
    LoadError, Outcome, Pace, Plan, Progress, Sender, Speech,
    books::Faults,
    cast::Cast,
    entry::{fill_rooms, part},
    hearing::Hearing,
    meter::Meter,
    recorder::{Recorder, micros},
    speaking::speak_at,
};

/// What was due and is not sent in this time after the end stays unsent.
const CATCHING_UP: Duration = Duration::from_secs(5);
/// When all is sent and nothing arrives for so long, what is missing is lost.
const SETTLING: Duration = Duration::from_secs(5);
/// However much is on its way, it arrives in this time, or is lost.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// What comes twice comes late.
const AFTERWARDS: Duration = Duration::from_millis(100);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// What all tasks of a run share.
pub struct Run {
    /// What times in messages count from.
    pub epoch: Instant,
    /// When nothing more is to be said, in microseconds since the epoch.
    pub end: u64,
    /// How many messages each client has sent, by its number.
    pub said: Vec<AtomicU64>,
    /// How many more are due at a rate, now or later, or were called for and not begun.
    pub owed: AtomicU64,
    /// Does somebody speak at a rate?
    pub is_speaking: AtomicBool,
    /// Nothing more is to be said, whatever is owed.
    stop: AtomicBool,
    pub hearing: Mutex<Hearing>,
}

impl Run {
    /// Microseconds since the epoch.
    pub fn now(&self) -> u64 {
        micros(self.epoch.elapsed())
    }

    /// Is nothing more to be said?
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until nothing more is to be said.
    pub async fn stopped(&self) {
        while !self.is_stopped() {
            sleep(LOOK).await;
        }
    }

    fn arrived(&self) -> u64 {
        self.hearing.lock().expect("no task panics").recorder.arrived()
    }

    fn faults(&self) -> Faults {
        let hearing = self.hearing.lock().expect("no task panics");
        let mut faults = Faults::default();
        hearing.ears.iter().for_each(|ear| faults += ear.close(&self.said));
        faults
    }
}

/// Stops who speaks when this is dropped: a thread cannot be ended from outside.
struct Stopping(Arc<Run>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Tasks {
    /// Each ends with its connection.
    hearing: JoinSet<Result<(), LoadError>>,
    /// Those who speak, and those who come and go.
    speaking: JoinSet<Result<(), LoadError>>,
}

/// Measures a scenario in which clients say things.
pub async fn talk<S: Speech>(
    speech: &Arc<S>,
    plan: &Plan,
    rooms: usize,
    members: usize,
    progress: &Arc<Progress>,
) -> Result<Outcome, LoadError> {
    let mut meter = Meter::new(plan.process)?;
    let filled = fill_rooms(speech, rooms, members, progress).await?;
    meter.all_are_in().await?;
    let connections = rooms * members;

    let mut cast = Cast::new(&**speech, plan, filled)?;
    let said = (0..connections).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    cast.speakers.iter().for_each(|(speaker, _)| said[speaker.number as usize].store(speaker.said, Ordering::Relaxed));
    let ears = std::mem::take(&mut cast.ears);
    let senders: Vec<Sender> = cast.listeners.iter().map(|listener| listener.sender.clone()).collect();
    let recorder = Recorder::new(plan.warm_up, plan.length);
    let end = micros(plan.warm_up + plan.length);
    let run = Arc::new(Run {
        epoch: Instant::now(),
        end,
        said,
        owed: AtomicU64::new(0),
        is_speaking: AtomicBool::new(matches!(plan.pace, Pace::Rate(_))),
        stop: AtomicBool::new(false),
        hearing: Mutex::new(Hearing { recorder, ears }),
    });

    let stopping = Stopping(run.clone());
    let mut tasks = Tasks::default();
    start(&mut tasks, cast, speech, plan.pace, &run);
    let mut measured = watch(&mut tasks, &run, plan, &mut meter, progress).await;
    if measured.is_ok() {
        measured = settle(&mut tasks, &run).await;
    }
    // Before the clients go, which those who stay may still hear of.
    let faults = run.faults();
    drop(stopping);
    tasks.speaking.shutdown().await;
    measured?;
    part(&senders, &mut tasks.hearing).await;

    let run = Arc::into_inner(run).expect("all tasks have ended");
    let Hearing { recorder, .. } = run.hearing.into_inner().expect("no task panicked");
    let outcome = meter.outcome(recorder.finish(end), plan.length, faults, connections);
    Ok(Outcome { unsent: run.owed.into_inner(), ..outcome })
}

fn start<S: Speech>(tasks: &mut Tasks, mut cast: Cast, speech: &Arc<S>, pace: Pace, run: &Arc<Run>) {
    for visitor in cast.visitors.drain(..) {
        tasks.speaking.spawn(visitor.visit(speech.clone(), run.clone()));
    }
    for mut listener in cast.listeners {
        let (speech, run) = (speech.clone(), run.clone());
        let begins = match pace {
            Pace::InFlight(window) if listener.number.is_multiple_of(2) => window,
            _ => 0,
        };
        tasks.hearing.spawn(async move {
            if let Some(speaker) = listener.reply.as_mut().filter(|_| begins > 0) {
                speaker.say(&run, begins.into(), run.now()).await?;
            }
            listener.hear(speech, run).await
        });
    }
    match pace {
        Pace::Rate(rate) => {
            let speakers: Vec<_> = cast.speakers.into_iter().map(|(speaker, _)| speaker).collect();
            let (run, runtime) = (run.clone(), Handle::current());
            tasks.speaking.spawn_blocking(move || speak_at(rate, speakers, &run, &runtime));
        }
        Pace::InFlight(_) => {
            for (speaker, circle) in cast.speakers {
                let circle = circle.expect("who speaks in a closed loop has a circle");
                tasks.speaking.spawn(speaker.in_turn(circle, run.clone()));
            }
        }
    }
}

/// Waits until the time is over, and meters what counts of it.
async fn watch(tasks: &mut Tasks, run: &Run, plan: &Plan, meter: &mut Meter, progress: &Progress) -> Result<(), LoadError> {
    wait(tasks, run, progress, micros(plan.warm_up), || false).await?;
    meter.begin()?;
    wait(tasks, run, progress, run.end, || false).await?;
    meter.end()
}

/// Waits for what is not sent yet, for what is on its way, and for what may come twice.
async fn settle(tasks: &mut Tasks, run: &Run) -> Result<(), LoadError> {
    let (progress, after) = (Progress::default(), |time| run.now() + micros(time));
    let is_through = || !run.is_speaking.load(Ordering::Acquire) && run.owed.load(Ordering::Relaxed) == 0;
    wait(tasks, run, &progress, after(CATCHING_UP), is_through).await?;
    run.stop.store(true, Ordering::Relaxed);
    // It looks often enough.
    wait(tasks, run, &progress, u64::MAX, || !run.is_speaking.load(Ordering::Acquire)).await?;
    let (mut arrived, mut quiet_until) = (run.arrived(), after(SETTLING));
    let is_settled = || {
        if run.arrived() > arrived {
            (arrived, quiet_until) = (run.arrived(), after(SETTLING));
        }
        run.now() >= quiet_until || run.faults().lost == 0
    };
    wait(tasks, run, &progress, after(SETTLING_MAX), is_settled).await?;
    wait(tasks, run, &progress, after(AFTERWARDS), || false).await
}

/// Waits until then, or for something, and fails as soon as a task does.
async fn wait(tasks: &mut Tasks, run: &Run, progress: &Progress, until: u64, mut is_done: impl FnMut() -> bool) -> Result<(), LoadError> {
    loop {
        let rest = Duration::from_micros(until.saturating_sub(run.now()));
        if rest.is_zero() || is_done() {
            return Ok(());
        }
        tokio::select! {
            Some(ended) = tasks.hearing.join_next() => ended.expect("no task panics")?,
            Some(ended) = tasks.speaking.join_next() => ended.expect("no task panics")?,
            () = sleep(LOOK.min(rest)) => {
                progress.arrived.store(run.arrived(), Ordering::Relaxed);
                progress.elapsed.store(run.now(), Ordering::Relaxed);
            }
        }
    }
}
