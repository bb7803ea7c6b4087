//! A run in which clients say things: it brings them in, starts them, watches the server meanwhile, and waits for what is on its way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, task::JoinSet, time::sleep};

use super::{
    LoadError, Outcome, Pace, Plan, Progress, Speech,
    books::Faults,
    cast::Cast,
    entry::fill_rooms,
    hearing::Hearing,
    process::{Process, Usage},
    recorder::{Recorder, micros},
    speaking::speak_at,
};

/// What is on its way when the time is over arrives in this time, or is lost.
const SETTLING: Duration = Duration::from_secs(5);
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
    pub hearing: Mutex<Hearing>,
}

impl Run {
    /// Microseconds since the epoch.
    pub fn now(&self) -> u64 {
        micros(self.epoch.elapsed())
    }

    fn arrived(&self) -> u64 {
        self.hearing.lock().expect("no task panics").recorder.arrived()
    }

    fn expected(&self) -> u64 {
        let hearing = self.hearing.lock().expect("no task panics");
        hearing.ears.iter().map(|ear| ear.expected(&self.said)).sum()
    }

    fn faults(&self) -> Faults {
        let hearing = self.hearing.lock().expect("no task panics");
        let mut faults = Faults::default();
        hearing.ears.iter().for_each(|ear| faults += ear.close(&self.said));
        faults
    }
}

type Tasks = JoinSet<Result<(), LoadError>>;

/// Measures a scenario in which clients say things.
pub async fn talk<S: Speech>(
    speech: &Arc<S>,
    plan: &Plan,
    rooms: usize,
    members: usize,
    progress: &Arc<Progress>,
) -> Result<Outcome, LoadError> {
    let empty = plan.process.map(Process::resident_bytes).transpose()?;
    let filled = fill_rooms(speech, rooms, members, progress).await?;
    let full = plan.process.map(Process::resident_bytes).transpose()?;
    let connections = rooms * members;

    let mut cast = Cast::new(&**speech, plan, filled)?;
    let said = (0..connections).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    cast.speakers.iter().for_each(|(speaker, _)| said[speaker.number as usize].store(speaker.said, Ordering::Relaxed));
    let ears = std::mem::take(&mut cast.ears);
    let recorder = Recorder::new(plan.warm_up, plan.length);
    let end = micros(plan.warm_up + plan.length);
    let run = Arc::new(Run { epoch: Instant::now(), end, said, hearing: Mutex::new(Hearing { recorder, ears }) });

    let mut tasks = Tasks::new();
    start(&mut tasks, cast, speech, plan.pace, &run);
    let (usage, own) = watch(&mut tasks, &run, plan, progress).await?;
    settle(&mut tasks, &run).await?;
    // Before the clients go, which those who stay may still hear of.
    let faults = run.faults();
    tasks.shutdown().await;

    let run = Arc::into_inner(run).expect("all tasks have ended");
    let Hearing { recorder, .. } = run.hearing.into_inner().expect("no task panicked");
    Ok(Outcome {
        recording: recorder.finish(end),
        took: plan.length,
        faults,
        connections,
        usage,
        bytes_per_connection: empty.zip(full).map(|(empty, full)| full.saturating_sub(empty) as f64 / connections as f64),
        engine_load: own.map(|own| own.cpu.as_secs_f64() / plan.length.as_secs_f64()),
    })
}

fn start<S: Speech>(tasks: &mut Tasks, mut cast: Cast, speech: &Arc<S>, pace: Pace, run: &Arc<Run>) {
    for visitor in cast.visitors.drain(..) {
        tasks.spawn(visitor.visit(speech.clone(), run.clone()));
    }
    for mut listener in cast.listeners {
        let (speech, run) = (speech.clone(), run.clone());
        let begins = match pace {
            Pace::InFlight(window) if listener.number.is_multiple_of(2) => window,
            _ => 0,
        };
        tasks.spawn(async move {
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
            tasks.spawn_blocking(move || speak_at(rate, speakers, &run, &runtime));
        }
        Pace::InFlight(_) => {
            for (speaker, circle) in cast.speakers {
                let circle = circle.expect("who speaks in a closed loop has a circle");
                tasks.spawn(speaker.in_turn(circle, run.clone()));
            }
        }
    }
}

/// Waits until the time is over: what the server, and this process, have used of it.
async fn watch(tasks: &mut Tasks, run: &Run, plan: &Plan, progress: &Progress) -> Result<(Option<Usage>, Option<Usage>), LoadError> {
    let begin = micros(plan.warm_up);
    wait(tasks, run, progress, || run.now() >= begin).await?;
    let used = || Ok::<_, LoadError>((plan.process.map(Process::usage).transpose()?, Process::own().usage().ok()));
    let before = used()?;
    wait(tasks, run, progress, || run.now() >= run.end).await?;
    let after = used()?;
    let since = |(after, before): (Usage, Usage)| after.since(before);
    Ok((after.0.zip(before.0).map(since), after.1.zip(before.1).map(since)))
}

/// Waits for what is on its way, and for what may come twice.
async fn settle(tasks: &mut Tasks, run: &Run) -> Result<(), LoadError> {
    let progress = Progress::default();
    let until = run.now().max(run.end) + micros(SETTLING);
    wait(tasks, run, &progress, || run.arrived() >= run.expected() || run.now() >= until).await?;
    let until = run.now() + micros(AFTERWARDS);
    wait(tasks, run, &progress, || run.now() >= until).await
}

/// Waits for something, and fails as soon as a task does.
async fn wait(tasks: &mut Tasks, run: &Run, progress: &Progress, mut is_done: impl FnMut() -> bool) -> Result<(), LoadError> {
    while !is_done() {
        tokio::select! {
            Some(ended) = tasks.join_next() => ended.expect("no task panics")?,
            () = sleep(LOOK) => {
                progress.arrived.store(run.arrived(), Ordering::Relaxed);
                progress.elapsed.store(run.now(), Ordering::Relaxed);
            }
        }
    }
    Ok(())
}
