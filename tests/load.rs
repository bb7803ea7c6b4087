//! The load engine on a foreign server, which does what it should not: the engine says so. The server is a toy of a few lines that knows nothing of
//! Switchboard.

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use support::within;
use switchboard::load::{
    Address, Faults, Handshake, LoadError, Member, Outcome, Pace, Plan, Presence, Progress, Scenario, Signal, Speech, Wire, measure,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// What the server does wrong, once, with the tenth message that it passes on.
#[derive(Clone, Copy, PartialEq)]
enum Sabotage {
    Nothing,
    Drop,
    Double,
    /// It is passed on behind the one that follows it.
    Swap,
    /// To somebody else.
    Astray,
}

/// Passes on what it is told to: `in NUMBER ROOM` comes first, then `to NUMBER TEXT` and `all TEXT`.
struct Toy {
    address: SocketAddr,
    answers: AtomicU64,
    passed: AtomicU64,
    sabotage: Sabotage,
    clients: Mutex<HashMap<usize, (String, mpsc::UnboundedSender<String>)>>,
    held: Mutex<Option<(usize, String)>>,
}

impl Toy {
    async fn start(sabotage: Sabotage) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, clients, held) = (listener.local_addr().unwrap(), Default::default(), Mutex::new(None));
        let toy = Arc::new(Self { address, answers: 0.into(), passed: 0.into(), sabotage, clients, held });
        let server = toy.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(socket));
            }
        });
        toy
    }

    async fn serve(self: Arc<Self>, socket: TcpStream) {
        let Ok(mut socket) = accept_async(socket).await else { return };
        let (outbox, mut queue) = mpsc::unbounded_channel();
        let mut me = None;
        loop {
            tokio::select! {
                Some(text) = queue.recv() => if socket.send(Message::text(text)).await.is_err() { break },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text, &outbox, &mut me),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        if let Some(me) = me {
            let room = self.clients.lock().unwrap().remove(&me).map(|(room, _)| room).unwrap_or_default();
            self.tell(&room, me, &format!("left {me}"));
        }
        // The engine waits for the answer to its Close frame.
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    }

    fn hear(&self, text: &str, outbox: &mpsc::UnboundedSender<String>, me: &mut Option<usize>) {
        let mut words = text.splitn(3, ' ');
        match (words.next().unwrap(), words.next(), words.next()) {
            ("in", Some(number), Some(room)) => {
                let number = number.parse().unwrap();
                *me = Some(number);
                self.clients.lock().unwrap().insert(number, (room.to_owned(), outbox.clone()));
                self.tell(room, number, &format!("joined {number}"));
                outbox.send("in".into()).unwrap();
                outbox.send("alive?".into()).unwrap();
            }
            ("to", Some(number), Some(text)) => self.pass_on(number.parse().unwrap(), text),
            ("all", ..) => {
                let me = me.unwrap();
                let room = self.clients.lock().unwrap()[&me].0.clone();
                self.tell(&room, usize::MAX, text);
            }
            ("alive", ..) => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
            _ => panic!("{text}"),
        }
    }

    fn pass_on(&self, to: usize, text: &str) {
        let send = |to: usize, text: &str| drop(self.clients.lock().unwrap()[&to].1.send(text.to_owned()));
        let is_tenth = self.passed.fetch_add(1, Ordering::Relaxed) == 9;
        match self.sabotage {
            Sabotage::Drop if is_tenth => return,
            Sabotage::Double if is_tenth => send(to, text),
            Sabotage::Swap if is_tenth => return drop(self.held.lock().unwrap().replace((to, text.to_owned()))),
            Sabotage::Astray if is_tenth => return send(to ^ 2, text),
            _ => {}
        }
        send(to, text);
        if let Some((_, held)) = self.held.lock().unwrap().take_if(|(held_for, _)| *held_for == to) {
            send(to, &held);
        }
    }

    /// Tells all of a room but one.
    fn tell(&self, room: &str, but: usize, text: &str) {
        for (number, (inside, outbox)) in &*self.clients.lock().unwrap() {
            if inside == room && *number != but {
                let _ = outbox.send(text.to_owned());
            }
        }
    }
}

/// How the toy is spoken to.
struct ToySpeech {
    toy: Arc<Toy>,
    has_presence: bool,
}

impl Speech for ToySpeech {
    fn name(&self) -> String {
        "a toy".into()
    }

    async fn enter(&self, number: usize, room: &str) -> Result<Member, LoadError> {
        let mut wire = Wire::websocket(&Handshake::new(self.toy.address, "/")).await?;
        wire.sender.send(format!("in {number} {room}").as_bytes()).await?;
        while wire.receiver.next().await? != b"in" {}
        Ok(Member { address: Address { number, room: room.into(), id: number.to_string() }, wire })
    }

    fn forward(&self, _: Signal, _: &Address, to: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(format!("to {} {payload}", to.number).into_bytes())
    }

    fn broadcast(&self, _: &Address, payload: &Value) -> Option<Vec<u8>> {
        Some(format!("all {payload}").into_bytes())
    }

    fn presence<'a>(&self, frame: &'a [u8]) -> Option<Presence<'a>> {
        let joined = frame.strip_prefix(b"joined ").map(Presence::Joined);
        joined.or_else(|| frame.strip_prefix(b"left ").map(Presence::Left))
    }

    fn has_presence(&self) -> bool {
        self.has_presence
    }

    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        (frame == b"alive?").then(|| b"alive".to_vec())
    }
}

async fn load(toy: &Arc<Toy>, scenario: Scenario, pace: Pace, has_presence: bool) -> Outcome {
    let speech = Arc::new(ToySpeech { toy: toy.clone(), has_presence });
    let (warm_up, length) = (Duration::from_millis(50), Duration::from_millis(200));
    let plan = Plan { scenario, pace, warm_up, length, process: None };
    within("a run", measure(&speech, &plan, &Arc::new(Progress::default()))).await.expect("a run")
}

/// All goes from client 0 to client 1 and from 2 to 3, and back.
const PAIRS: Scenario = Scenario::Forward { signal: Signal::Candidate, pairs: 2, bytes: 200 };

#[tokio::test]
async fn what_a_server_drops_doubles_swaps_or_sends_astray_is_told() {
    let clean = Faults::default();
    for (sabotage, told) in [
        (Sabotage::Nothing, clean),
        (Sabotage::Drop, Faults { lost: 1, ..clean }),
        (Sabotage::Double, Faults { duplicated: 1, ..clean }),
        (Sabotage::Swap, Faults { misordered: 1, ..clean }),
        (Sabotage::Astray, Faults { lost: 1, astray: 1, ..clean }),
    ] {
        let toy = Toy::start(sabotage).await;
        let outcome = load(&toy, PAIRS, Pace::Rate(400), true).await;
        assert!(outcome.recording.delivered > 0);
        let Faults { lost, duplicated, misordered, astray } = outcome.faults;
        assert_eq!((lost, duplicated, misordered, astray), (told.lost, told.duplicated, told.misordered, told.astray));
        assert_eq!(toy.answers.load(Ordering::Relaxed), 4, "each client answers what keeps it alive");
    }
}

#[tokio::test]
async fn a_broadcast_that_comes_back_to_who_spoke_is_not_counted_there() {
    for pace in [Pace::Rate(100), Pace::InFlight(2)] {
        let toy = Toy::start(Sabotage::Nothing).await;
        let outcome = load(&toy, Scenario::Broadcast { rooms: 2, members: 3, bytes: 200 }, pace, true).await;
        assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{:?}", outcome.faults);
    }
}

#[tokio::test]
async fn where_one_joins_by_connecting_churn_connects() {
    for pace in [Pace::Rate(100), Pace::InFlight(1)] {
        for has_presence in [true, false] {
            let toy = Toy::start(Sabotage::Nothing).await;
            let outcome = load(&toy, Scenario::Churn { rooms: 2, members: 3 }, pace, has_presence).await;
            assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{:?}", outcome.faults);
        }
    }
}
