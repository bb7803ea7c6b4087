//! The load engine on a foreign server, which does what it should not: the engine says so. The server is a toy of a few lines that knows nothing of
//! Switchboard.

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::Value;
use support::within;
use switchboard::load::{
    Address, Faults, Handshake, LoadError, Member, Outcome, Pace, Plan, Presence, Progress, Scenario, Signal, Speech, Wire, measure,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, sleep_until},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// What the server does wrong; most of it once, with the tenth message that it passes on.
#[derive(Clone, Copy, PartialEq)]
enum Sabotage {
    Nothing,
    Drop,
    Double,
    /// It is passed on behind the one that follows it.
    Swap,
    /// To somebody else.
    Astray,
    /// It reads nothing for [`STILL`].
    StandStill,
    /// Every message takes it [`SLOW`].
    Slow,
    /// Closes the connection.
    HangUp,
}

const STILL: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(20);

/// Passes on what it is told to: `in NUMBER ROOM` comes first, then `to NUMBER TEXT` and `all TEXT`.
struct Toy {
    address: SocketAddr,
    answers: AtomicU64,
    /// Messages that it was told to pass on to one.
    heard: AtomicU64,
    /// All that it passed on, notices of who comes and goes among them.
    passed: AtomicU64,
    sabotage: Sabotage,
    /// Does a broadcast come back to who spoke?
    echoes: bool,
    clients: Mutex<HashMap<usize, (String, mpsc::UnboundedSender<String>)>>,
    held: Mutex<Option<(usize, String)>>,
    still_until: Mutex<Option<Instant>>,
    /// All rooms that there ever were.
    rooms: Mutex<HashSet<String>>,
    goodbyes: AtomicU64,
}

impl Toy {
    async fn start(sabotage: Sabotage) -> Arc<Self> {
        Self::that_echoes(sabotage, false).await
    }

    async fn that_echoes(sabotage: Sabotage, echoes: bool) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let toy = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            answers: 0.into(),
            heard: 0.into(),
            passed: 0.into(),
            sabotage,
            echoes,
            clients: Mutex::default(),
            held: Mutex::default(),
            still_until: Mutex::default(),
            rooms: Mutex::default(),
            goodbyes: 0.into(),
        });
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
                    Some(Ok(Message::Text(text))) => {
                        self.hear(&text, &outbox, &mut me);
                        if self.sabotage == Sabotage::Slow {
                            sleep(SLOW).await;
                        }
                    }
                    Some(Ok(Message::Close(_))) => {
                        self.goodbyes.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Some(Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
            if self.sabotage == Sabotage::HangUp && self.passed.load(Ordering::Relaxed) >= 10 {
                return;
            }
            let still_until = *self.still_until.lock().unwrap();
            if let Some(until) = still_until {
                sleep_until(until.into()).await;
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
                self.rooms.lock().unwrap().insert(room.to_owned());
                self.clients.lock().unwrap().insert(number, (room.to_owned(), outbox.clone()));
                self.tell(room, number, &format!("joined {number}"));
                outbox.send("in".into()).unwrap();
                outbox.send("alive?".into()).unwrap();
            }
            ("to", Some(number), Some(text)) => {
                self.heard.fetch_add(1, Ordering::Relaxed);
                self.pass_on(number.parse().unwrap(), text);
            }
            ("all", ..) => {
                let me = me.unwrap();
                let room = self.clients.lock().unwrap()[&me].0.clone();
                self.tell(&room, if self.echoes { usize::MAX } else { me }, text);
            }
            ("alive", ..) => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
            _ => panic!("{text}"),
        }
    }

    fn pass_on(&self, to: usize, text: &str) {
        let send = |to: usize, text: &str| drop(self.clients.lock().unwrap()[&to].1.send(text.to_owned()));
        let number = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        let is_tenth = number == 10;
        match self.sabotage {
            Sabotage::Drop if is_tenth => return,
            Sabotage::Double if is_tenth => send(to, text),
            Sabotage::Swap if is_tenth => return drop(self.held.lock().unwrap().replace((to, text.to_owned()))),
            Sabotage::Astray if is_tenth => {
                let other = {
                    let clients = self.clients.lock().unwrap();
                    let of_another_room = |other: &&usize| clients[other].0 != clients[&to].0;
                    clients.keys().find(of_another_room).copied().expect("there are two rooms")
                };
                return send(other, text);
            }
            // In the middle of what counts.
            Sabotage::StandStill if number == 40 => *self.still_until.lock().unwrap() = Some(Instant::now() + STILL),
            _ => {}
        }
        send(to, text);
        if let Some((_, held)) = self.held.lock().unwrap().take_if(|(held_for, _)| *held_for == to) {
            send(to, &held);
        }
    }

    /// Tells all of a room but one.
    fn tell(&self, room: &str, but: usize, text: &str) {
        let is_told = |(number, (inside, _)): (&usize, &(String, _))| (inside == room && *number != but).then_some(*number);
        let told: Vec<usize> = self.clients.lock().unwrap().iter().filter_map(is_told).collect();
        told.into_iter().for_each(|number| self.pass_on(number, text));
    }
}

/// How the toy is spoken to.
struct ToySpeech {
    toy: Arc<Toy>,
    has_presence: bool,
    echoes: bool,
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

    fn echoes(&self) -> bool {
        self.echoes
    }

    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        (frame == b"alive?").then(|| b"alive".to_vec())
    }
}

async fn load(toy: &Arc<Toy>, scenario: Scenario, pace: Pace, has_presence: bool) -> Outcome {
    let speech = ToySpeech { toy: toy.clone(), has_presence, echoes: toy.echoes };
    run(speech, scenario, pace, Duration::from_millis(200)).await.expect("a run")
}

async fn run(speech: ToySpeech, scenario: Scenario, pace: Pace, length: Duration) -> Result<Outcome, LoadError> {
    let plan = Plan { scenario, pace, warm_up: Duration::from_millis(50), length, process: None };
    within("a run", measure(&Arc::new(speech), &plan, &Arc::new(Progress::default()))).await
}

/// All goes from client 0 to client 1 and from 2 to 3, and back.
const PAIRS: Scenario = Scenario::Forward { signal: Signal::Candidate, pairs: 2, bytes: 200 };
const ROOMS: Scenario = Scenario::Broadcast { rooms: 2, members: 3, bytes: 200 };
const VISITS: Scenario = Scenario::Churn { rooms: 2, members: 3 };

#[tokio::test]
async fn what_a_server_drops_doubles_swaps_or_sends_astray_is_told() {
    let clean = Faults::default();
    let told = [
        (Sabotage::Nothing, clean),
        (Sabotage::Drop, Faults { lost: 1, ..clean }),
        (Sabotage::Double, Faults { duplicated: 1, ..clean }),
        (Sabotage::Swap, Faults { misordered: 1, ..clean }),
        (Sabotage::Astray, Faults { lost: 1, astray: 1, ..clean }),
    ];
    let loads = [(PAIRS, Pace::Rate(400)), (PAIRS, Pace::InFlight(2)), (ROOMS, Pace::Rate(100)), (ROOMS, Pace::InFlight(2))];
    // All at once, because what is lost is waited for.
    join_all(told.into_iter().flat_map(|told| loads.map(|load| (told, load))).map(async |((sabotage, told), (scenario, pace))| {
        let toy = Toy::start(sabotage).await;
        let outcome = load(&toy, scenario, pace, true).await;
        assert!(outcome.recording.delivered > 0);
        assert_eq!((outcome.faults, outcome.unsent), (told, 0), "{scenario}, {pace:?}");
        let answers = toy.answers.load(Ordering::Relaxed);
        assert_eq!(answers, scenario.connections() as u64, "each client answers what keeps it alive");
    }))
    .await;
}

/// A notice has no number and says whose it is by an id that may be a new one each time, so what went astray looks like one that came twice.
#[tokio::test]
async fn notices_that_a_server_drops_doubles_or_swaps_are_told() {
    let clean = Faults::default();
    let told = [
        (Sabotage::Drop, Pace::Rate(100), Faults { lost: 1, ..clean }),
        (Sabotage::Drop, Pace::InFlight(1), Faults { lost: 1, ..clean }),
        (Sabotage::Double, Pace::InFlight(1), Faults { duplicated: 1, ..clean }),
        (Sabotage::Swap, Pace::Rate(100), Faults { misordered: 1, ..clean }),
        (Sabotage::Astray, Pace::InFlight(1), Faults { lost: 1, duplicated: 1, ..clean }),
    ];
    join_all(told.map(async |(sabotage, pace, told)| {
        let toy = Toy::start(sabotage).await;
        let outcome = load(&toy, VISITS, pace, true).await;
        assert_eq!(outcome.faults, told, "{pace:?}");
    }))
    .await;
}

#[tokio::test]
async fn what_comes_twice_is_delivered_once() {
    let toy = Toy::start(Sabotage::Double).await;
    let speech = Arc::new(ToySpeech { toy: toy.clone(), has_presence: true, echoes: false });
    // All of it counts.
    let (warm_up, length) = (Duration::ZERO, Duration::from_millis(200));
    let plan = Plan { scenario: PAIRS, pace: Pace::Rate(400), warm_up, length, process: None };
    let outcome = within("a run", measure(&speech, &plan, &Arc::new(Progress::default()))).await.expect("a run");
    assert_eq!((outcome.faults.duplicated, outcome.recording.latency.len()), (1, toy.heard.load(Ordering::Relaxed)));
}

#[tokio::test]
async fn a_server_that_stands_still_is_not_let_off_what_was_due_meanwhile() {
    let toy = Toy::start(Sabotage::StandStill).await;
    let outcome = load(&toy, PAIRS, Pace::Rate(400), true).await;
    let latency = outcome.recording.latency;
    assert!(outcome.faults.is_clean());
    assert!(latency.max() >= 90_000 && latency.value_at_quantile(0.9) >= 50_000, "at most {}", latency.max());
}

#[tokio::test]
async fn what_cannot_be_sent_at_a_rate_is_unsent_and_not_lost() {
    let toy = Toy::start(Sabotage::Slow).await;
    let more = Scenario::Forward { signal: Signal::Candidate, pairs: 2, bytes: 60_000 };
    let outcome = load(&toy, more, Pace::Rate(20_000), true).await;
    assert!(outcome.faults.is_clean(), "{:?}", outcome.faults);
    let (unsent, heard) = (outcome.unsent, toy.heard.load(Ordering::Relaxed));
    assert!(unsent > 0 && unsent + heard == 5_000, "{unsent} unsent, {heard} heard");
}

/// Where one joins by connecting, the messages are sent in time, and it is the clients who are behind.
#[tokio::test]
async fn who_cannot_come_and_go_at_a_rate_is_not_missed() {
    let toy = Toy::start(Sabotage::Slow).await;
    let outcome = load(&toy, VISITS, Pace::Rate(20_000), true).await;
    assert!(outcome.faults.is_clean() && outcome.unsent > 0, "{:?}, {} unsent", outcome.faults, outcome.unsent);
}

#[tokio::test]
async fn an_error_ends_a_run_at_once() {
    let toy = Toy::start(Sabotage::HangUp).await;
    let begin = Instant::now();
    let speech = ToySpeech { toy: toy.clone(), has_presence: true, echoes: false };
    let outcome = run(speech, PAIRS, Pace::Rate(50), Duration::from_secs(600)).await;
    assert!(matches!(outcome, Err(LoadError::Ended(_))) && begin.elapsed() < Duration::from_secs(10));
}

/// A server that runs already keeps sessions of clients that it has not seen go, and a second run must not meet them.
#[tokio::test]
async fn clients_say_goodbye_and_each_run_has_rooms_of_its_own() {
    let toy = Toy::start(Sabotage::Nothing).await;
    for (run, scenario) in [PAIRS, PAIRS, Scenario::Idle { clients: 4 }, Scenario::Connect { clients: 4 }].into_iter().enumerate() {
        let pace = if run < 2 { Pace::Rate(400) } else { Pace::InFlight(2) };
        load(&toy, scenario, pace, true).await;
        let runs = run + 1;
        assert_eq!((toy.rooms.lock().unwrap().len(), toy.goodbyes.load(Ordering::Relaxed)), (2 * runs, 4 * runs as u64));
    }
}

#[tokio::test]
async fn a_broadcast_that_comes_back_to_who_spoke_is_not_counted_there() {
    for pace in [Pace::Rate(100), Pace::InFlight(2)] {
        let toy = Toy::that_echoes(Sabotage::Nothing, true).await;
        let outcome = load(&toy, ROOMS, pace, true).await;
        assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{:?}", outcome.faults);
    }
}

#[tokio::test]
async fn a_broadcast_that_comes_back_where_none_should_is_astray() {
    let toy = Toy::that_echoes(Sabotage::Nothing, true).await;
    let speech = ToySpeech { toy, has_presence: true, echoes: false };
    let outcome = run(speech, ROOMS, Pace::Rate(100), Duration::from_millis(200)).await.expect("a run");
    assert!(outcome.faults.astray > 0 && outcome.faults.lost == 0, "{:?}", outcome.faults);
}

#[tokio::test]
async fn where_one_joins_by_connecting_churn_connects() {
    for pace in [Pace::Rate(100), Pace::InFlight(1)] {
        for has_presence in [true, false] {
            let toy = Toy::start(Sabotage::Nothing).await;
            let outcome = load(&toy, VISITS, pace, has_presence).await;
            assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{:?}", outcome.faults);
        }
    }
}
