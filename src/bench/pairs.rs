//! Pairs of clients, each in a room of its own, and the offers between the two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use serde::de::IgnoredAny;
use switchboard::{
    client::{Client, Connector, Receiver, Sender},
    protocol::{ClientMessage, Kind, Payload, PeerId, Request, ServerMessage},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::sleep,
};

use super::{Pace, Plan};

/// Clients that connect at the same time.
const CONNECTING: usize = 64;

/// All clients, ready to send.
pub struct Pairs {
    sides: Vec<(Side, Side)>,
}

/// One client of a pair.
struct Side {
    sender: Sender,
    receiver: Receiver,
    offers: Offers,
}

/// The offers from one client to the other.
struct Offers {
    to: PeerId,
    next: u64,
    filler: Arc<str>,
}

/// What the threads and tasks of a running bench share.
struct Shared {
    /// What times in messages count from.
    epoch: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// Do messages that arrive now count?
    counts: AtomicBool,
    /// Is nothing more to be sent?
    is_over: AtomicBool,
}

/// A bench that is under way.
pub struct Running {
    shared: Arc<Shared>,
    hearing: JoinSet<anyhow::Result<Heard>>,
    pacing: Option<JoinHandle<anyhow::Result<()>>>,
    /// Set when nobody is to wait for more.
    settled: watch::Sender<bool>,
}

/// What arrived.
#[derive(Default)]
pub struct Heard {
    /// Of the messages that count, in microseconds since each was due.
    pub latencies: Vec<u32>,
    pub lost: u64,
    pub out_of_order: u64,
}

impl Pairs {
    /// Brings all clients in.
    pub async fn connect(connector: &Arc<Connector>, plan: &Plan) -> anyhow::Result<Self> {
        let filler: Arc<str> = "x".repeat(plan.bytes).into();
        let mut connecting = JoinSet::new();
        let mut sides = Vec::with_capacity(plan.pairs);
        for number in 0..plan.pairs {
            if connecting.len() == CONNECTING {
                sides.push(connecting.join_next().await.expect("there are some")??);
            }
            let (connector, filler, door) = (connector.clone(), filler.clone(), plan.door);
            connecting.spawn(async move {
                let room = format!("bench {number}");
                let enter = async || -> anyhow::Result<Client> {
                    let mut client = connector.connect(door).await?;
                    client.join(&room, None).await?;
                    Ok(client)
                };
                let (one, other) = (enter().await?, enter().await?);
                let ids = one.peer_id().zip(other.peer_id()).context("the server let a client in without a welcome")?;
                anyhow::Ok((Side::new(one, ids.1, filler.clone()), Side::new(other, ids.0, filler)))
            });
        }
        while let Some(pair) = connecting.join_next().await {
            sides.push(pair??);
        }
        Ok(Self { sides })
    }

    /// Begins to send.
    pub fn start(self, pace: Pace) -> Running {
        let shared =
            Arc::new(Shared { epoch: Instant::now(), sent: 0.into(), received: 0.into(), counts: false.into(), is_over: false.into() });
        let (settled, _) = watch::channel(false);
        let (mut hearing, mut senders) = (JoinSet::new(), Vec::new());
        for (one, other) in self.sides {
            match pace {
                Pace::Rate(_) => {
                    senders.push((one.sender, one.offers));
                    hearing.spawn(hear(one.receiver, shared.clone(), settled.subscribe(), None));
                    hearing.spawn(hear(other.receiver, shared.clone(), settled.subscribe(), None));
                }
                Pace::InFlight(count) => {
                    hearing.spawn(hear(one.receiver, shared.clone(), settled.subscribe(), Some((one.sender, one.offers, count))));
                    hearing.spawn(hear(other.receiver, shared.clone(), settled.subscribe(), Some((other.sender, other.offers, 0))));
                }
            }
        }
        let pacing = match pace {
            Pace::Rate(rate) => {
                let (shared, runtime) = (shared.clone(), Handle::current());
                Some(spawn_blocking(move || send_at(rate, senders, &shared, &runtime)))
            }
            Pace::InFlight(_) => None,
        };
        Running { shared, hearing, pacing, settled }
    }
}

impl Side {
    fn new(client: Client, to: PeerId, filler: Arc<str>) -> Self {
        let (sender, receiver) = client.split();
        Self { sender, receiver, offers: Offers { to, next: 0, filler } }
    }
}

impl Offers {
    /// The next one, which is due at this time.
    fn next(&mut self, due: Duration) -> anyhow::Result<Request<'static>> {
        let payload = Payload::from_serialize(&(self.next, due.as_micros() as u64, &*self.filler))?;
        self.next += 1;
        Ok(Request { id: None, message: ClientMessage::Forward { kind: Kind::Offer, to: self.to, room: None, payload } })
    }
}

impl Running {
    /// From now on messages count.
    pub fn begin(&self) -> Instant {
        self.shared.counts.store(true, Ordering::Relaxed);
        Instant::now()
    }

    /// Stops, waits as long as may be for what is on its way, and tells what arrived.
    pub async fn end(mut self, settling: Duration) -> anyhow::Result<Heard> {
        let shared = &self.shared;
        shared.counts.store(false, Ordering::Relaxed);
        shared.is_over.store(true, Ordering::Relaxed);
        if let Some(pacing) = self.pacing.take() {
            pacing.await??;
        }
        let until = Instant::now() + settling;
        while shared.received.load(Ordering::Relaxed) < shared.sent.load(Ordering::Relaxed) && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        // What comes twice comes late.
        sleep(Duration::from_millis(100)).await;
        self.settled.send_replace(true);
        let mut all = Heard::default();
        while let Some(heard) = self.hearing.join_next().await {
            let Heard { latencies, out_of_order, .. } = heard??;
            all.latencies.extend(latencies);
            all.out_of_order += out_of_order;
        }
        let [sent, received] = [&shared.sent, &shared.received].map(|count| count.load(Ordering::Relaxed));
        all.lost = sent.saturating_sub(received);
        Ok(all)
    }
}

/// Sends so many a second, to one pair after the other, each when it is due.
fn send_at(rate: u32, mut senders: Vec<(Sender, Offers)>, shared: &Shared, runtime: &Handle) -> anyhow::Result<()> {
    let begin = shared.epoch.elapsed();
    let pairs = senders.len();
    for number in 0_u64.. {
        let due = begin + Duration::from_nanos(number * 1_000_000_000 / u64::from(rate));
        thread::sleep(due.saturating_sub(shared.epoch.elapsed()));
        if shared.is_over.load(Ordering::Relaxed) {
            break;
        }
        let (sender, offers) = &mut senders[number as usize % pairs];
        runtime.block_on(send(sender, offers, due, shared))?;
    }
    Ok(())
}

async fn send(sender: &mut Sender, offers: &mut Offers, due: Duration, shared: &Shared) -> anyhow::Result<()> {
    sender.send(&offers.next(due)?).await?;
    shared.sent.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Receives until all has settled. With a sender, begins with so many messages, and answers each that arrives by one of its own.
async fn hear(
    mut receiver: Receiver,
    shared: Arc<Shared>,
    mut settled: watch::Receiver<bool>,
    answers: Option<(Sender, Offers, u32)>,
) -> anyhow::Result<Heard> {
    let mut heard = Heard::default();
    let mut expected = 0;
    let mut answers = match answers {
        Some((mut sender, mut offers, count)) => {
            for _ in 0..count {
                send(&mut sender, &mut offers, shared.epoch.elapsed(), &shared).await?;
            }
            Some((sender, offers))
        }
        None => None,
    };
    loop {
        let message = tokio::select! {
            biased;
            message = receiver.receive() => message?,
            _ = settled.wait_for(|settled| *settled) => return Ok(heard),
        };
        let ServerMessage::Forwarded { payload, .. } = message else { continue };
        let now = shared.epoch.elapsed();
        let (number, due, _) = payload.parse::<(u64, u64, IgnoredAny)>().map_err(|error| anyhow!("an offer that nobody sent: {error}"))?;
        shared.received.fetch_add(1, Ordering::Relaxed);
        if shared.counts.load(Ordering::Relaxed) {
            heard.latencies.push(u32::try_from(now.as_micros() as u64 - due).unwrap_or(u32::MAX));
        }
        heard.out_of_order += u64::from(number != expected);
        expected = number + 1;
        if let Some((sender, offers)) = answers.as_mut().filter(|_| !shared.is_over.load(Ordering::Relaxed)) {
            send(sender, offers, now, &shared).await?;
        }
    }
}
