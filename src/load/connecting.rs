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
    Faults, LoadError, Member, Outcome, Pace, Plan, Process, Progress, Speech, Usage,
    entry::{enter, room_name},
    recorder::{Recorder, micros},
};

/// Memory is looked at when the buffers of handshakes have been given back.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// When a client is to come in, and what it holds meanwhile.
type Call = (usize, u64, Option<OwnedSemaphorePermit>);

/// Brings so many clients in, in rooms of two, and tells how long each took.
pub async fn connect<S: Speech>(speech: &Arc<S>, plan: &Plan, clients: usize, progress: &Arc<Progress>) -> Result<Outcome, LoadError> {
    let empty = plan.process.map(Process::resident_bytes).transpose()?;
    let used = || plan.process.map(Process::usage).transpose();
    let (before, own) = (used()?, Process::own().usage().ok());
    let mut staying = JoinSet::new();
    let arrivals = storm(speech, plan.pace, clients, progress, &mut staying).await?;
    let (after, own_after) = (used()?, Process::own().usage().ok());
    sleep(AFTERWARDS).await;
    let full = plan.process.map(Process::resident_bytes).transpose()?;
    fail_early(&mut staying)?;

    let took = Duration::from_micros(arrivals.iter().map(|(now, _)| *now).max().unwrap_or(0) + 1);
    let mut recorder = Recorder::new(Duration::ZERO, took);
    arrivals.iter().for_each(|(now, due)| recorder.arrive(*now, *due));
    Ok(Outcome {
        recording: recorder.finish(micros(took)),
        took,
        faults: Faults::default(),
        connections: clients,
        usage: after.zip(before).map(|(after, before)| after.since(before)),
        bytes_per_connection: per_connection(empty, full, clients),
        engine_load: own_after.zip(own).map(|(after, before)| after.since(before).cpu.as_secs_f64() / took.as_secs_f64()),
    })
}

/// Brings so many clients in, and watches what they cost while they say nothing.
pub async fn idle<S: Speech>(speech: &Arc<S>, plan: &Plan, clients: usize, progress: &Arc<Progress>) -> Result<Outcome, LoadError> {
    let empty = plan.process.map(Process::resident_bytes).transpose()?;
    let mut staying = JoinSet::new();
    storm(speech, plan.pace, clients, progress, &mut staying).await?;
    wait(plan.warm_up.max(AFTERWARDS), &mut staying, progress).await?;
    let used = || -> Result<(Option<Usage>, Option<Usage>), LoadError> {
        Ok((plan.process.map(Process::usage).transpose()?, Process::own().usage().ok()))
    };
    let before = used()?;
    wait(plan.length, &mut staying, progress).await?;
    let after = used()?;
    let full = plan.process.map(Process::resident_bytes).transpose()?;
    Ok(Outcome {
        recording: Recorder::new(Duration::ZERO, plan.length).finish(micros(plan.length)),
        took: plan.length,
        faults: Faults::default(),
        connections: clients,
        usage: after.0.zip(before.0).map(|(after, before)| after.since(before)),
        bytes_per_connection: per_connection(empty, full, clients),
        engine_load: after.1.zip(before.1).map(|(after, before)| after.since(before).cpu.as_secs_f64() / plan.length.as_secs_f64()),
    })
}

/// When each client was in, and since when it should have been, in microseconds since the first call.
async fn storm<S: Speech>(
    speech: &Arc<S>,
    pace: Pace,
    clients: usize,
    progress: &Arc<Progress>,
    staying: &mut JoinSet<Result<(), LoadError>>,
) -> Result<Vec<(u64, u64)>, LoadError> {
    let epoch = Instant::now();
    let mut calls = calls(pace, clients, epoch);
    let mut coming: JoinSet<Result<(Member, u64, u64), LoadError>> = JoinSet::new();
    let mut arrivals = Vec::with_capacity(clients);
    while arrivals.len() < clients {
        tokio::select! {
            Some((number, due, permit)) = calls.recv() => {
                let speech = speech.clone();
                coming.spawn(async move {
                    let member = enter(&*speech, number, &room_name(number / 2)).await?;
                    drop(permit);
                    Ok((member, micros(epoch.elapsed()), due))
                });
            }
            Some(come) = coming.join_next() => {
                let (member, now, due) = come.expect("no client panics")?;
                arrivals.push((now, due));
                staying.spawn(stay(speech.clone(), member));
                progress.connected.store(arrivals.len() as u64, Ordering::Relaxed);
            }
            Some(gone) = staying.join_next() => gone.expect("no client panics")?,
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

async fn wait(time: Duration, staying: &mut JoinSet<Result<(), LoadError>>, progress: &Progress) -> Result<(), LoadError> {
    let since = Instant::now();
    while since.elapsed() < time {
        sleep(LOOK.min(time.saturating_sub(since.elapsed()))).await;
        progress.elapsed.store(micros(since.elapsed()), Ordering::Relaxed);
        fail_early(staying)?;
    }
    Ok(())
}

fn fail_early(staying: &mut JoinSet<Result<(), LoadError>>) -> Result<(), LoadError> {
    staying.try_join_next().map_or(Ok(()), |gone| gone.expect("no client panics"))
}

fn per_connection(empty: Option<u64>, full: Option<u64>, clients: usize) -> Option<f64> {
    empty.zip(full).map(|(empty, full)| full.saturating_sub(empty) as f64 / clients as f64)
}
