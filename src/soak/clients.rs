//! The clients of a soak: talkers who lose their connections and never their sessions, visitors who come and go, and some who stop reading.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use switchboard::{
    client::{Client, Connector, Door, ResumingClient},
    protocol::{ClientMessage, Kind, Payload, PeerId, Request, ServerMessage},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::books::{Books, Talker};

/// Talkers that share a room.
pub const TALKERS_PER_ROOM: usize = 6;
/// Between two things that a talker does, on the average.
const BETWEEN_ACTS: Duration = Duration::from_millis(50);
/// No single step of a client takes longer, or the server is out of order.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all clients of a soak share.
pub struct Soak {
    pub connector: Arc<Connector>,
    pub books: RefCell<Books>,
    pub tally: RefCell<Tally>,
    /// Who each talker is, once it is there.
    pub talkers: RefCell<Vec<Option<PeerId>>>,
    /// How far it is.
    pub phase: watch::Sender<Phase>,
}

/// What happened beside messages.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub resumed: u64,
    pub stalled: u64,
    /// Sessions of talkers that were not there any more.
    pub sessions_lost: u64,
    /// Talkers that another saw leave.
    pub left: u64,
    pub visits: u64,
    pub visits_failed: u64,
    pub slow_closed: u64,
}

/// How far a soak is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everybody does something.
    Busy,
    /// Talkers only receive what is on its way.
    Settling,
    /// Everybody goes.
    Over,
}

/// What a talker says.
#[derive(Serialize, Deserialize)]
struct Said {
    talker: Talker,
    number: u64,
    filler: String,
}

fn room(number: usize) -> String {
    format!("soak-{number}")
}

fn any_door(random: &mut Rng) -> Door {
    Door::ALL[random.usize(..Door::ALL.len())]
}

/// Talks until the soak is over. Fails where its session is lost for good.
pub async fn talk(soak: Rc<Soak>, me: Talker, mut random: Rng) -> anyhow::Result<()> {
    let mut client = ResumingClient::connect(&soak.connector, any_door(&mut random)).await?;
    join(&mut client, me).await;
    soak.talkers.borrow_mut()[me] = Some(client.peer_id);
    let mut phase = soak.phase.subscribe();
    let mut number = 0;
    let mut act_at = Instant::now() + pause(&mut random);
    loop {
        let busy = *phase.borrow_and_update() == Phase::Busy;
        if *phase.borrow() == Phase::Over {
            client.close().await;
            return Ok(());
        }
        while !client.is_connected() {
            come_back(&soak, &mut client, me, &mut random).await;
        }
        tokio::select! {
            // Whatever it was, the loop looks at it.
            _ = phase.changed() => {}
            heard = client.receive() => match heard {
                Ok(message) => hear(&soak, me, message),
                Err(_) => drop(client.leave_behind()),
            },
            () = tokio::time::sleep_until(act_at), if busy => {
                act_at = Instant::now() + pause(&mut random);
                match random.u32(..100) {
                    0..2 => {
                        lose_connection(&mut client, &mut random);
                        sleep(Duration::from_millis(random.u64(..2000))).await;
                    }
                    2..4 => {
                        soak.tally.borrow_mut().stalled += 1;
                        sleep(Duration::from_millis(random.u64(..1500))).await;
                    }
                    4..10 => {
                        let received = Some(client.received);
                        say(&mut client, None, ClientMessage::Ping { received }).await;
                    }
                    chance => {
                        say_something(&soak, &mut client, me, number, chance < 25, &mut random).await;
                        number += 1;
                    }
                }
            }
        }
    }
}

fn pause(random: &mut Rng) -> Duration {
    BETWEEN_ACTS.mul_f64(2.0 * random.f64())
}

/// Sends. If that takes too long the connection is over, and what is not acknowledged is sent again over the next.
async fn say(client: &mut ResumingClient, id: Option<u64>, message: ClientMessage<'static>) {
    let _ = timeout(PATIENCE, client.send(id, message)).await;
}

async fn join(client: &mut ResumingClient, me: Talker) {
    say(client, None, ClientMessage::Join { room: room(me / TALKERS_PER_ROOM).into(), metadata: None }).await;
}

/// Says the next number to one other talker of the room, or to everybody there.
async fn say_something(soak: &Soak, client: &mut ResumingClient, me: Talker, number: u64, to_all: bool, random: &mut Rng) {
    let first = me - me % TALKERS_PER_ROOM;
    let others: Vec<(Talker, PeerId)> = {
        let talkers = soak.talkers.borrow();
        let there = |talker: Talker| Some((talker, (*talkers.get(talker)?)?));
        (first..first + TALKERS_PER_ROOM).filter(|talker| *talker != me).filter_map(there).collect()
    };
    // Who is not there yet would get only a part of it.
    if others.len() + 1 < TALKERS_PER_ROOM {
        return;
    }
    let filler = "x".repeat(random.usize(..3000));
    let payload = Payload::from_serialize(&Said { talker: me, number, filler }).expect("a payload");
    let message = if to_all {
        others.iter().for_each(|(to, _)| soak.books.borrow_mut().sent(me, *to, number));
        ClientMessage::Broadcast { room: None, payload }
    } else {
        let (talker, to) = others[random.usize(..others.len())];
        soak.books.borrow_mut().sent(me, talker, number);
        ClientMessage::Forward { kind: Kind::Offer, to, room: None, payload }
    };
    say(client, Some(number), message).await;
}

fn hear(soak: &Soak, me: Talker, message: ServerMessage) {
    match message {
        ServerMessage::Forwarded { payload, .. } => {
            if let Ok(said) = payload.parse::<Said>() {
                soak.books.borrow_mut().received(said.talker, me, said.number);
            }
        }
        ServerMessage::Error(refusal) => {
            if let Some(number) = refusal.id {
                soak.books.borrow_mut().refused(me, number);
            }
        }
        ServerMessage::PeerLeft { peer_id, .. } if soak.talkers.borrow().contains(&Some(peer_id)) => soak.tally.borrow_mut().left += 1,
        _ => {}
    }
}

/// Loses the connection in one of the ways that there are.
fn lose_connection(client: &mut ResumingClient, random: &mut Rng) {
    let Some(connection) = client.leave_behind() else { return };
    if random.bool() { connection.abort() } else { linger(connection) }
}

/// Leaves a connection looking alive until it has been replaced.
fn linger(connection: Client) {
    tokio::task::spawn_local(async move {
        sleep(PATIENCE).await;
        drop(connection);
    });
}

/// Resumes by any door, again and again if need be.
async fn come_back(soak: &Soak, client: &mut ResumingClient, me: Talker, random: &mut Rng) {
    loop {
        match timeout(PATIENCE, client.resume(any_door(random))).await {
            Ok(Ok(true)) => return soak.tally.borrow_mut().resumed += 1,
            Ok(Ok(false)) => {
                soak.tally.borrow_mut().sessions_lost += 1;
                soak.talkers.borrow_mut()[me] = Some(client.peer_id);
                return join(client, me).await;
            }
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Comes into some room, listens and speaks for a while, and goes, by a close or without a word, again and again.
pub async fn visit(soak: Rc<Soak>, rooms: usize, mut random: Rng) {
    let mut phase = soak.phase.subscribe();
    while *phase.borrow_and_update() == Phase::Busy {
        let visit = timeout(PATIENCE, visit_once(&soak, rooms, &mut random));
        tokio::select! {
            visited = visit => match visited {
                Ok(Ok(())) => soak.tally.borrow_mut().visits += 1,
                Ok(Err(_)) | Err(_) => {
                    soak.tally.borrow_mut().visits_failed += 1;
                    sleep(Duration::from_millis(100)).await;
                }
            },
            _ = phase.changed() => {}
        }
    }
}

async fn visit_once(soak: &Soak, rooms: usize, random: &mut Rng) -> anyhow::Result<()> {
    let mut client = soak.connector.connect(any_door(random)).await?;
    client.join(&room(random.usize(..rooms)), None).await?;
    let until = Instant::now() + Duration::from_millis(random.u64(..3000));
    let hello = ClientMessage::Broadcast { room: None, payload: Payload::from_serialize(&"hello")? };
    client.send(&Request { id: None, message: hello }).await?;
    while let Ok(heard) = tokio::time::timeout_at(until, client.receive()).await {
        heard?;
    }
    if random.bool() {
        drop(client.close().await)
    } else {
        client.abort()
    }
    Ok(())
}

/// Is sent more than it reads until it is closed for that, again and again.
pub async fn stop_reading(soak: Rc<Soak>, number: usize, mut random: Rng) {
    let mut phase = soak.phase.subscribe();
    while *phase.borrow_and_update() == Phase::Busy {
        tokio::select! {
            closed = stop_reading_once(&soak, number, &mut random) => soak.tally.borrow_mut().slow_closed += u64::from(closed.is_ok()),
            _ = phase.changed() => {}
        }
        // The session of each waits for it to come back, with all that it has not read.
        sleep(Duration::from_millis(random.u64(..4000))).await;
    }
}

async fn stop_reading_once(soak: &Soak, number: usize, random: &mut Rng) -> anyhow::Result<()> {
    let room = format!("slow-{number}");
    let mut slow = soak.connector.connect(any_door(random)).await?;
    slow.join(&room, None).await?;
    let mut sender = soak.connector.connect(any_door(random)).await?;
    sender.join(&room, None).await?;
    let to = slow.peer_id().expect("it was welcomed");
    flood(&mut sender, to).await?;
    // It reads what there is, a goodbye behind it, and does not come back.
    while slow.receive().await.is_ok() {}
    sender.close().await;
    Ok(())
}

/// Sends until the other cannot take it any more.
async fn flood(sender: &mut Client, to: PeerId) -> anyhow::Result<()> {
    let payload = Payload::from_serialize(&"x".repeat(8192))?;
    loop {
        let message = ClientMessage::Forward { kind: Kind::Message, to, room: None, payload: payload.clone() };
        if let Err(error) = sender.request(message).await {
            return match error {
                switchboard::client::RequestError::Refused(_) => Ok(()),
                error => Err(error.into()),
            };
        }
    }
}
