//! The echo peer: answers every offer, and sends back what comes. One task for each peer; what goes wrong in one is nothing to the others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};

use super::{
    connection::{Channel, Connection, Event, Options},
    signal::{Description, candidate_text, spell_candidate},
};
use crate::protocol::{Kind, Payload, PeerId};

/// So many signals wait for one peer; more are lost. A browser sends two dozen.
const SIGNALS_MAX: usize = 64;
/// So many signals of all peers wait to be sent.
const OUTGOING_MAX: usize = 256;
/// A peer that is not there after so long, or was there and is not heard from any more, is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long all may take to be told of the end.
const PARTING: Duration = Duration::from_secs(2);

/// What the echo does for others at the most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Peers at once; the offer of one more is not answered.
    pub peers: usize,
    /// Channels of one peer, beside the two of our browser client; one more is closed.
    pub channels: usize,
    /// Bytes that wait for one peer, beside 1 MiB on its way; more end its connection.
    pub queued_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peers: 64, channels: 64, queued_bytes: 8 * 1024 * 1024 }
    }
}

/// A signal for a peer.
#[derive(Debug)]
pub struct Outgoing {
    pub to: PeerId,
    pub kind: Kind,
    pub payload: Payload<'static>,
}

/// An echo. It goes on while [`Echo::next`] is waited for, and its peers with it.
pub struct Echo {
    options: Options,
    limits: Limits,
    peers: HashMap<PeerId, Peer>,
    /// Connections that are still to begin, one of a peer at most.
    waiting: VecDeque<Waiting>,
    tasks: JoinSet<()>,
    /// Whose connection a task is, and which one.
    serving: HashMap<Id, (PeerId, u64)>,
    /// Counts connections, so that the end of an old one is nothing to its successor.
    made: u64,
    outgoing: mpsc::Receiver<Outgoing>,
    tells: mpsc::Sender<Outgoing>,
}

struct Peer {
    signals: mpsc::Sender<Signal>,
    session: Option<String>,
    number: u64,
}

/// A connection that is still to begin.
struct Waiting {
    id: PeerId,
    number: u64,
    signals: mpsc::Receiver<Signal>,
}

enum Signal {
    Offer(Description),
    Candidate(String),
}

impl Echo {
    /// One that nobody has called yet.
    pub fn new(options: Options, limits: Limits) -> Self {
        let (tells, outgoing) = mpsc::channel(OUTGOING_MAX);
        let options = Options { echoes_media: true, queued_bytes_max: limits.queued_bytes, ..options };
        Self {
            options,
            limits,
            peers: HashMap::new(),
            waiting: VecDeque::new(),
            tasks: JoinSet::new(),
            serving: HashMap::new(),
            made: 0,
            outgoing,
            tells,
        }
    }

    /// How the next peers are to be reached.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// How many peers there are.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// How many connections there are, with those that are about to end.
    pub fn connections(&self) -> usize {
        self.tasks.len()
    }

    /// Takes what a peer says. What makes no sense has no effect.
    pub fn take(&mut self, from: PeerId, kind: Kind, payload: &Payload) {
        let signal = match kind {
            Kind::Offer => {
                let Some(description) = Description::read(payload) else { return debug!(%from, "an offer without a description") };
                self.make_room_for(from, &description);
                Signal::Offer(description)
            }
            Kind::IceCandidate => match candidate_text(payload) {
                Some(text) => Signal::Candidate(text),
                None => return,
            },
            Kind::Answer | Kind::Message => return,
        };
        if let Some(peer) = self.peers.get(&from)
            && peer.signals.try_send(signal).is_err()
        {
            debug!(%from, "signals come faster than they are taken");
        }
        self.begin();
    }

    /// A peer has left the room, and with it the line is over.
    pub fn leave(&mut self, peer: PeerId) {
        // Its task ends with its signals.
        self.peers.remove(&peer);
        self.waiting.retain(|waiting| waiting.id != peer);
    }

    /// The next signal to be sent. Nothing is lost when the returned future is dropped.
    pub async fn next(&mut self) -> Outgoing {
        loop {
            tokio::select! {
                Some(outgoing) = self.outgoing.recv() => return outgoing,
                Some(ended) = self.tasks.join_next_with_id() => {
                    let task = match ended {
                        Ok((task, ())) => task,
                        Err(error) => {
                            debug!(%error, "a connection has failed");
                            error.id()
                        }
                    };
                    let (id, number) = self.serving.remove(&task).expect("every task serves a peer");
                    if self.peers.get(&id).is_some_and(|peer| peer.number == number) {
                        self.peers.remove(&id);
                    }
                    self.begin();
                }
            }
        }
    }

    /// Ends all connections, and tells the peers.
    pub async fn close(mut self) {
        self.peers.clear();
        self.waiting.clear();
        self.outgoing.close();
        let _ = timeout(PARTING, async { while self.tasks.join_next().await.is_some() {} }).await;
    }

    /// A connection for this offer: the peer's own, or a new one where the offer is for a new one.
    fn make_room_for(&mut self, from: PeerId, description: &Description) {
        let session = description.session().map(str::to_owned);
        if self.peers.get(&from).is_some_and(|peer| peer.session == session && !peer.signals.is_closed()) {
            return;
        }
        self.leave(from);
        if self.peers.len() >= self.limits.peers {
            return info!(%from, peers = self.peers.len(), "there are as many peers as there may be");
        }
        let (signals, hears) = mpsc::channel(SIGNALS_MAX);
        self.made += 1;
        self.peers.insert(from, Peer { signals, session, number: self.made });
        self.waiting.push_back(Waiting { id: from, number: self.made, signals: hears });
    }

    /// Begins the connections that there is room for: what the last one of a peer holds is given back first.
    fn begin(&mut self) {
        while self.tasks.len() < self.limits.peers {
            let may_begin = |waiting: &Waiting| !self.serving.values().any(|(id, _)| *id == waiting.id);
            let Some(Waiting { id, number, signals }) = self.waiting.iter().position(may_begin).and_then(|at| self.waiting.remove(at))
            else {
                return;
            };
            let connection = match Connection::new(self.options.clone()) {
                Ok(connection) => connection,
                Err(error) => {
                    info!(from = %id, %error, "no connection");
                    self.peers.remove(&id);
                    continue;
                }
            };
            let tells = self.tells.clone();
            let line = Line { id, connection, tells, agreed: vec![], channels: HashSet::new(), channels_max: self.limits.channels };
            let task = self.tasks.spawn(line.serve(signals)).id();
            self.serving.insert(task, (id, number));
        }
    }
}

/// The connection to one peer.
struct Line {
    id: PeerId,
    connection: Connection,
    tells: mpsc::Sender<Outgoing>,
    /// Those of our browser client, which are there beside its own. The second is for the two clients alone.
    agreed: Vec<Channel>,
    channels: HashSet<Channel>,
    channels_max: usize,
}

impl Line {
    async fn serve(mut self, mut signals: mpsc::Receiver<Signal>) {
        let peer = self.id;
        let (mut is_new, mut is_connected) = (true, false);
        let mut patience = Some(Instant::now() + PATIENCE);
        let tell = async |tells: &mpsc::Sender<Outgoing>, kind, payload| {
            // Nobody takes it at the end.
            let _ = tells.send(Outgoing { to: peer, kind, payload }).await;
        };
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    None => break,
                    Some(Signal::Candidate(text)) => self.connection.take_candidate(&text),
                    Some(Signal::Offer(description)) => {
                        if description.turns && is_new {
                            self.agreed = vec![self.connection.agree(0, "switchboard"), self.connection.agree(1, "switchboard.control")];
                        }
                        is_new = false;
                        match self.connection.answer(&description.sdp) {
                            Ok(sdp) => tell(&self.tells, Kind::Answer, Description::spell("answer", &sdp)).await,
                            Err(error) => {
                                info!(%peer, %error, "an offer is not taken");
                                break;
                            }
                        }
                    }
                },
                event = self.connection.next() => match event {
                    Event::Candidate(text) => tell(&self.tells, Kind::IceCandidate, spell_candidate(&text)).await,
                    Event::Useless(url, error) => info!(%peer, "{url}: {error}"),
                    Event::Found if is_connected => patience = None,
                    Event::Found => {}
                    Event::Lost => patience = Some(Instant::now() + PATIENCE),
                    Event::Connected => {
                        (is_connected, patience) = (true, None);
                        info!(%peer, "connected");
                    }
                    Event::Opened(channel, _) if self.agreed.contains(&channel) => {}
                    Event::Opened(channel, _) if self.channels.len() >= self.channels_max => {
                        info!(%peer, channels = self.channels.len(), "there are as many channels as there may be");
                        self.connection.close_channel(channel);
                    }
                    Event::Opened(channel, label) => {
                        debug!(%peer, label, "a channel");
                        self.channels.insert(channel);
                    }
                    Event::Closed(channel) => drop(self.channels.remove(&channel)),
                    Event::Message(channel, message) => {
                        if (self.channels.contains(&channel) || self.agreed.first() == Some(&channel))
                            && let Err(error) = self.connection.send(channel, message)
                        {
                            info!(%peer, %error, "it sends and does not read");
                            break;
                        }
                    }
                    Event::Ended => break,
                },
                () = async { sleep_until(patience.expect("there is an end of it")).await }, if patience.is_some() => {
                    info!(%peer, "no way there is found");
                    break;
                }
            }
        }
        self.connection.close().await;
        info!(%peer, "gone");
    }
}
