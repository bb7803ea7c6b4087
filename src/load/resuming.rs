//! A resume storm: all clients lose their connections at the same moment and come back to their sessions. What they said to each other before, and
//! meanwhile, has to arrive. Switchboard alone knows such a thing, so this is no matter of a [speech](super::Speech).

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout, timeout_at},
};

use super::{
    Faults, LoadError, Marker, Outcome, Plan, Progress,
    books::Book,
    entry::{ENTRY_TIMEOUT, PARTING, RoomNames},
    meter::{AFTERWARDS, Meter},
    recorder::{Recorder, micros},
};
use crate::{
    client::{ComeInError, Connector, Door, ResumingClient},
    protocol::{ClientMessage, Kind, Payload, PeerId, ServerMessage},
};

/// What each says to the other before the connections are lost, and once more meanwhile.
const MESSAGES: u64 = 4;
/// How long what was said may take once its receiver is back.
const SETTLING: Duration = Duration::from_secs(10);
/// What comes twice comes late.
const LATE: Duration = Duration::from_millis(100);
/// Clients that come in at the same time.
const AT_ONCE: usize = 64;

/// Storms with so many clients, `window` of which come back at the same time. What counts is when each is back.
pub async fn storm(
    connector: &Arc<Connector>,
    doors: &[Door],
    plan: &Plan,
    clients: usize,
    window: u32,
    progress: &Arc<Progress>,
) -> Result<Outcome, LoadError> {
    let door = |number: usize| doors[number % doors.len()];
    let mut meter = Meter::new(plan.process)?;
    let mut pairs = come_in(connector, door, clients / 2, progress).await?;
    meter.all_are_in().await?;
    speak(&mut pairs, 0).await?;
    // The server is not through with it when it is sent.
    sleep(AFTERWARDS).await;

    meter.begin()?;
    let epoch = Instant::now();
    pairs.iter_mut().flatten().filter_map(ResumingClient::leave_behind).for_each(|client| client.abort());
    speak(&mut pairs, MESSAGES).await?;
    let at_once = Arc::new(Semaphore::new(window as usize));
    let mut coming = JoinSet::new();
    for (number, client) in pairs.into_iter().flatten().enumerate() {
        let (at_once, progress, door) = (at_once.clone(), progress.clone(), door(number));
        coming.spawn(async move {
            let permit = at_once.acquire_owned().await.expect("it is not closed");
            let (client, back) = come_back(client, door, epoch).await?;
            drop(permit);
            progress.arrived.fetch_add(1, Ordering::Relaxed);
            Ok::<_, LoadError>((client, number, back))
        });
    }
    let (mut backs, mut hearing) = (Vec::new(), JoinSet::new());
    while let Some(come) = coming.join_next().await {
        let (client, number, back) = come.expect("no client panics")?;
        backs.push(back);
        hearing.spawn(hear(client, number));
    }
    meter.end()?;
    let (mut faults, mut staying) = (Faults::default(), Vec::new());
    while let Some(heard) = hearing.join_next().await {
        let (heard, client) = heard.expect("no client panics")?;
        faults += heard;
        staying.push(client);
    }
    let took = Duration::from_micros(backs.iter().copied().max().unwrap_or(0) + 1);
    let mut recorder = Recorder::new(Duration::ZERO, took);
    backs.iter().for_each(|back| recorder.arrive(*back, 0));
    let outcome = meter.outcome(recorder.finish(micros(took)), took, faults, staying.len());
    // Who does not go in time is left.
    let _ = timeout(PARTING, join_all(staying.into_iter().map(ResumingClient::close))).await;
    Ok(outcome)
}

/// So many pairs, each in a room of its own.
async fn come_in(
    connector: &Arc<Connector>,
    door: impl Fn(usize) -> Door,
    pairs: usize,
    progress: &Arc<Progress>,
) -> Result<Vec<[ResumingClient; 2]>, LoadError> {
    let names = RoomNames::random();
    let mut coming = JoinSet::new();
    let mut inside = VecDeque::new();
    for pair in 0..pairs {
        if coming.len() == AT_ONCE {
            inside.push_back(coming.join_next().await.expect("there are some").expect("no client panics")?);
        }
        let (connector, doors, progress) = (connector.clone(), [door(2 * pair), door(2 * pair + 1)], progress.clone());
        coming.spawn(async move {
            let enter = async |door| {
                let client = enter(&connector, door, &names.of(pair)).await?;
                progress.connected.fetch_add(1, Ordering::Relaxed);
                Ok::<_, LoadError>(client)
            };
            Ok::<_, LoadError>((pair, [enter(doors[0]).await?, enter(doors[1]).await?]))
        });
    }
    while let Some(pair) = coming.join_next().await {
        inside.push_back(pair.expect("no client panics")?);
    }
    inside.make_contiguous().sort_by_key(|(pair, _)| *pair);
    Ok(inside.into_iter().map(|(_, clients)| clients).collect())
}

async fn enter(connector: &Arc<Connector>, door: Door, room: &str) -> Result<ResumingClient, LoadError> {
    let entering = async {
        let mut client = ResumingClient::connect(connector, door).await?;
        client.send(Some(0), ClientMessage::Join { room: room.to_owned().into(), metadata: None }).await;
        loop {
            match client.receive().await.map_err(ComeInError::from)? {
                ServerMessage::Ack { id: 0 } => return Ok(client),
                ServerMessage::Error(refusal) => return Err(LoadError::speech(format!("join is refused: {}", refusal.message))),
                _ => {}
            }
        }
    };
    timeout(ENTRY_TIMEOUT, entering).await.map_err(|_| LoadError::speech("a client did not come in in time"))?
}

/// Each says so much to the other, numbered from `first`.
async fn speak(pairs: &mut [[ResumingClient; 2]], first: u64) -> Result<(), LoadError> {
    for (pair, clients) in pairs.iter_mut().enumerate() {
        let ids: [PeerId; 2] = [clients[0].peer_id, clients[1].peer_id];
        for (side, client) in clients.iter_mut().enumerate() {
            for number in first..first + MESSAGES {
                let marker = Marker { sender: (2 * pair + side) as u32, number, due: 0 };
                let payload = Payload::from_serialize(&marker.text()).expect("a string can be spelled");
                client.send(None, ClientMessage::Forward { kind: Kind::Message, to: ids[1 - side], room: None, payload }).await;
            }
        }
    }
    Ok(())
}

/// Comes back, and tells when. Refused for the moment, it tries again.
async fn come_back(mut client: ResumingClient, door: Door, epoch: Instant) -> Result<(ResumingClient, u64), LoadError> {
    const AGAIN: Duration = Duration::from_millis(20);
    let mut last = None;
    let coming = async {
        loop {
            match client.resume(door).await {
                Ok(true) => return Ok(micros(epoch.elapsed())),
                Ok(false) => return Err(LoadError::speech("a session did not go on: its client was not resumed")),
                Err(error) => last = Some(error),
            }
            sleep(AGAIN).await;
        }
    };
    let Ok(back) = timeout(ENTRY_TIMEOUT, coming).await else {
        let why = last.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
        return Err(LoadError::speech(format!("a client did not come back in time: {why}")));
    };
    Ok((client, back?))
}

/// Hears all that the other said, and what is wrong with it.
async fn hear(mut client: ResumingClient, number: usize) -> Result<(Faults, ResumingClient), LoadError> {
    let (mut book, mut astray) = (Book::default(), Book::astray());
    // What has not come by then is lost, which the book tells.
    let mut until = Instant::now() + SETTLING;
    let mut missing = 2 * MESSAGES;
    while let Ok(heard) = timeout_at(until.into(), client.receive()).await {
        let ServerMessage::Forwarded { payload, .. } = heard.map_err(ComeInError::from)? else { continue };
        let Some(marker) = Marker::find(&payload.spell(payload.codec())) else { continue };
        let from_other = marker.sender as usize == number ^ 1;
        let is_new = if from_other { &mut book } else { &mut astray }.hear(marker.number);
        missing -= u64::from(is_new && missing > 0);
        if missing == 0 {
            until = until.min(Instant::now() + LATE);
        }
    }
    let mut faults = book.close(2 * MESSAGES);
    faults += astray.close(0);
    Ok((faults, client))
}
