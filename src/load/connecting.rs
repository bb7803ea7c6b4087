//! Runs in which clients only come in, and stay: a connect storm, and what idle connections cost.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::{
    Faults, LoadError, Member, Outcome, Pace, Plan, Progress, Sender, Speech,
    entry::{RoomNames, enter, part},
    meter::{AFTERWARDS, Meter},
    recorder::{Recorder, micros},
};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// When a client is to come in, and what it holds meanwhile.
type Call = (usize, u64, Option<OwnedSemaphorePermit>);

/// Clients that are in.
#[derive(Default)]
struct Staying {
    senders: Vec<Sender>,
    /// Each hears what comes to one of them.
    hearing: JoinSet<Result<(), LoadError>>,
}

/// Brings so many clients in, in rooms of two, and tells how long each took.
pub async fn connect<S: Speech>(speech: &Arc<S>, plan: &Plan, clients: usize, progress: &Arc<Progress>) -> Result<Outcome, LoadError> {
    let mut meter = Meter::new(plan.process)?;
    meter.begin()?;
    let mut staying = Staying::default();
    let arrivals = storm(speech, plan.pace, clients, progress, &mut staying).await?;
    meter.end()?;
    meter.all_are_in().await?;
    staying.fail_early()?;
    part(&staying.senders, &mut staying.hearing).await;

    let took = Duration::from_micros(arrivals.iter().map(|(now, _)| *now).max().unwrap_or(0) + 1);
    let mut recorder = Recorder::new(Duration::ZERO, took);
    arrivals.iter().for_each(|(now, due)| recorder.arrive(*now, *due));
    Ok(meter.outcome(recorder.finish(micros(took)), took, Faults::default(), clients))
}

/// Brings so many clients in, and watches what they cost while they say nothing.
pub async fn idle<S: Speech>(speech: &Arc<S>, plan: &Plan, clients: usize, progress: &Arc<Progress>) -> Result<Outcome, LoadError> {
    let mut meter = Meter::new(plan.process)?;
    let mut staying = Staying::default();
    storm(speech, plan.pace, clients, progress, &mut staying).await?;
    let (since, warm_up) = (Instant::now(), plan.warm_up.max(AFTERWARDS));
    staying.until(since, warm_up, progress).await?;
    meter.begin()?;
    staying.until(since, warm_up + plan.length, progress).await?;
    meter.end()?;
    meter.all_are_in().await?;
    staying.fail_early()?;
    part(&staying.senders, &mut staying.hearing).await;
    let recording = Recorder::new(Duration::ZERO, plan.length).finish(micros(plan.length));
    Ok(meter.outcome(recording, plan.length, Faults::default(), clients))
}

/// When each client was in, and since when it should have been, in microseconds since the first call.
async fn storm<S: Speech>(
    speech: &Arc<S>,
    pace: Pace,
    clients: usize,
    progress: &Arc<Progress>,
    staying: &mut Staying,
) -> Result<Vec<(u64, u64)>, LoadError> {
    let (names, epoch) = (RoomNames::random(), Instant::now());
    let mut calls = calls(pace, clients, epoch);
    let mut coming: JoinSet<Result<(Member, u64, u64), LoadError>> = JoinSet::new();
    let mut arrivals = Vec::with_capacity(clients);
    while arrivals.len() < clients {
        tokio::select! {
            Some((number, due, permit)) = calls.recv() => {
                let speech = speech.clone();
                coming.spawn(async move {
                    let member = enter(&*speech, number, &names.of(number / 2)).await?;
                    drop(permit);
                    Ok((member, micros(epoch.elapsed()), due))
                });
            }
            Some(come) = coming.join_next() => {
                let (member, now, due) = come.expect("no client panics")?;
                arrivals.push((now, due));
                staying.senders.push(member.wire.sender.clone());
                staying.hearing.spawn(stay(speech.clone(), member));
                progress.connected.store(arrivals.len() as u64, Ordering::Relaxed);
            }
            Some(gone) = staying.hearing.join_next() => gone.expect("no client panics")?,
        }
    }
    Ok(arrivals)
}

fn calls(pace: Pace, clients: usize, epoch: Instant) -> mpsc::UnboundedReceiver<Call> {
    let (calling, calls) = mpsc::unbounded_channel();
    match pace {
        // On a thread of its own, because the runtime's timers tick in milliseconds.
        Pace::Rate(rate) => drop(spawn_blocking(move || {
            for number in 0..clients {
                let due = number as u64 * 1_000_000 / u64::from(rate);
                thread::sleep(Duration::from_micros(due).saturating_sub(epoch.elapsed()));
                if calling.send((number, due, None)).is_err() {
                    break;
                }
            }
        })),
        Pace::InFlight(window) => drop(tokio::spawn(async move {
            let window = Arc::new(Semaphore::new(window as usize));
            for number in 0..clients {
                let permit = window.clone().acquire_owned().await.expect("it is not closed");
                if calling.send((number, micros(epoch.elapsed()), Some(permit))).is_err() {
                    break;
                }
            }
        })),
    }
    calls
}

/// Hears what comes, and keeps the connection alive.
async fn stay<S: Speech>(speech: Arc<S>, mut member: Member) -> Result<(), LoadError> {
    loop {
        let mut answers = Vec::new();
        member.wire.receiver.receive(|frame| answers.extend(speech.answer(frame))).await?;
        for answer in answers {
            member.wire.sender.send(&answer).await?;
        }
    }
}

impl Staying {
    /// Waits until so much time is over.
    async fn until(&mut self, since: Instant, time: Duration, progress: &Progress) -> Result<(), LoadError> {
        while since.elapsed() < time {
            sleep(LOOK.min(time.saturating_sub(since.elapsed()))).await;
            progress.elapsed.store(micros(since.elapsed()), Ordering::Relaxed);
            self.fail_early()?;
        }
        Ok(())
    }

    fn fail_early(&mut self) -> Result<(), LoadError> {
        self.hearing.try_join_next().map_or(Ok(()), |gone| gone.expect("no client panics"))
    }
}
