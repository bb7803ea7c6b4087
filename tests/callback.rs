//! The application decides who may come in: a real HTTP server is asked, and whatever it does not say clearly and in time is a no.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::header, web};
use serde_json::{Value, json};
use switchboard::{
    auth::{Algorithm, Pair, SigningKey},
    client::Door,
    config::Config,
    protocol::{CloseCode, Codec},
};
use tokio::sync::{Notify, Semaphore};

use self::support::{RawClient, TestServer, eventually, foreign::ForeignClient, goodbye};

const DOOR: Door = Door::WebSocket(Codec::Json);

/// What the application answers, in the order of the rules: the first whose `event` and `token`, `user` or `room` are those of the question.
type Decide = dyn Fn(&Value) -> HttpResponse + Send + Sync;

/// What was asked, and the `Authorization` beside it.
type Questions = Arc<Mutex<Vec<(Value, Option<String>)>>>;

/// Questions that wait for a word of the test.
struct Held {
    let_go: Semaphore,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// An application's own HTTP server.
struct Application {
    address: SocketAddr,
    asked: Questions,
    /// How often somebody has connected to it.
    connections: Arc<AtomicUsize>,
    /// Questions whose `token` begins with `held` are answered when they are let go.
    held: Arc<Held>,
    handle: actix_web::dev::ServerHandle,
}

impl Application {
    fn start(decide: impl Fn(&Value) -> HttpResponse + Send + Sync + 'static) -> Self {
        let (asked, connections) = (Questions::default(), Arc::new(AtomicUsize::new(0)));
        let held = Arc::new(Held { let_go: Semaphore::new(0), now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
        let (counted, holding) = (connections.clone(), held.clone());
        let decide: Arc<Decide> = Arc::new(decide);
        let noted = asked.clone();
        let (started, outcome) = mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    let (decide, noted, holding) = (decide.clone(), noted.clone(), holding.clone());
                    App::new().default_service(web::to(move |request: HttpRequest, question: web::Json<Value>| {
                        let bearer = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
                        noted.lock().unwrap().push((question.0.clone(), bearer));
                        let slow = question.0["token"] == "slow";
                        let is_held = question.0["token"].as_str().is_some_and(|token| token.starts_with("held"));
                        let answer = decide(&question.0);
                        let held = holding.clone();
                        async move {
                            if slow {
                                Notify::new().notified().await;
                            }
                            if is_held {
                                held.most.fetch_max(held.now.fetch_add(1, Relaxed) + 1, Relaxed);
                                held.let_go.acquire().await.unwrap().forget();
                                held.now.fetch_sub(1, Relaxed);
                            }
                            answer
                        }
                    }))
                };
                let server = HttpServer::new(app).workers(1).disable_signals();
                let server = server
                    .on_connect(move |_, _| {
                        counted.fetch_add(1, Relaxed);
                    })
                    .bind("127.0.0.1:0")
                    .unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                started.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, handle) = outcome.recv_timeout(support::DEADLINE).unwrap();
        Self { address, asked, connections, held, handle }
    }

    /// Waits until so many questions have come, and no more.
    async fn has_been_asked(&self, questions: usize) {
        eventually(&format!("{questions} questions"), async || self.asked.lock().unwrap().len() == questions).await;
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().iter().map(|(question, _)| question.clone()).collect()
    }

    fn server(&self, change: impl FnOnce(&mut Config)) -> TestServer {
        let url = format!("http://{}/may", self.address);
        TestServer::with(|config| {
            config.auth.callback_url = Some(url.parse().unwrap());
            change(config);
        })
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

fn yes(claims: Value) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "allow": true, "claims": claims }))
}

fn no() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "allow": false, "reason": "not today" }))
}

async fn hello(server: &TestServer, token: &str) -> RawClient {
    let mut client = RawClient::silent(server, DOOR).await;
    client.say(json!({ "type": "hello", "token": token })).await;
    client
}

async fn welcomed(server: &TestServer, token: &str) -> RawClient {
    let mut client = hello(server, token).await;
    assert_eq!(client.hear().await["type"], "welcome", "{token}");
    client
}

#[tokio::test]
async fn the_application_says_who_comes_in_and_as_whom() {
    let application = Application::start(|question| match question["token"].as_str() {
        Some("ann") => yes(json!({ "sub": "ann", "rooms": { "r": { "broadcast": false } } })),
        Some("bob") => yes(json!({ "sub": "bob", "rooms": ["*"] })),
        _ => no(),
    });
    let server = application.server(|_| {});
    for door in Door::ALL {
        let mut eve = RawClient::silent(&server, door).await;
        eve.say(json!({ "type": "hello", "token": "eve" })).await;
        assert_eq!(goodbye(&mut eve.client).await, CloseCode::Unauthorized, "{door}");
    }
    let mut bob = welcomed(&server, "bob").await;
    bob.done(json!({ "type": "join", "room": "r" })).await;
    let mut ann = welcomed(&server, "ann").await;
    assert_eq!(ann.refused(json!({ "type": "join", "room": "s" })).await["code"], "forbidden");
    let joined = ann.done(json!({ "type": "join", "room": "r" })).await.remove(0);
    assert_eq!(joined["peers"], json!([{ "peerId": bob.peer_id, "user": "bob" }]));
    assert_eq!(ann.refused(json!({ "type": "message", "payload": 1 })).await["code"], "forbidden");
    let asked = application.asked();
    let question = asked.iter().find(|question| question["token"] == "ann").unwrap();
    assert_eq!(
        question,
        &json!({ "event": "connect", "peerId": ann.peer_id, "address": "127.0.0.1", "dialect": "native", "token": "ann" })
    );
    assert!(asked.iter().all(|question| question["event"] == "connect"), "rooms that were named are not asked about: {asked:?}");
}

#[tokio::test]
async fn rooms_that_were_not_named_are_asked_about_one_by_one() {
    let application = Application::start(|question| match (question["event"].as_str(), question["room"].as_str()) {
        (Some("connect"), None) => yes(json!({ "sub": "ann" })),
        (Some("join"), Some("open")) => HttpResponse::Ok().json(json!({ "allow": true })),
        (Some("join"), Some("mute")) => yes(json!({ "rooms": { "mute": { "publish": false, "broadcast": false } } })),
        (Some("join"), Some("elsewhere")) => yes(json!({ "rooms": ["other"] })),
        (Some("join"), Some("broken")) => HttpResponse::InternalServerError().finish(),
        _ => no(),
    });
    let server = application.server(|_| {});
    let mut ann = welcomed(&server, "t").await;
    ann.done(json!({ "type": "join", "room": "open" })).await;
    ann.done(json!({ "type": "join", "room": "mute" })).await;
    assert_eq!(ann.refused(json!({ "type": "message", "room": "mute", "payload": 1 })).await["code"], "forbidden");
    ann.done(json!({ "type": "message", "room": "open", "payload": 1 })).await;
    for room in ["elsewhere", "closed"] {
        assert_eq!(ann.refused(json!({ "type": "join", "room": room })).await["code"], "forbidden", "{room}");
    }
    let question = application.asked().pop().unwrap();
    let refusal = ann.refused(json!({ "type": "join", "room": "broken" })).await;
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&"unavailable".into(), &true.into()), "it may say yes later");
    assert_eq!(question["user"], "ann");
    assert_eq!((&question["token"], &question["room"]), (&Value::Null, &"closed".into()));
    // A dialect that has a place for its token in the address, and enters its room by coming.
    let mut lobby = ForeignClient::connect(&server, "/matchbox/open?token=t").await;
    assert!(lobby.hear().await["IdAssigned"].is_string());
    eventually("its room is asked about", async || {
        application.asked().iter().any(|question| question["dialect"] == "matchbox" && question["room"] == "open")
    })
    .await;
}

#[tokio::test]
async fn beside_keys_the_application_is_asked_about_rooms_that_the_token_does_not_name() {
    let application = Application::start(|question| match question["event"].as_str() {
        Some("join") if question["room"] == "shut" => no(),
        _ => HttpResponse::Ok().json(json!({ "allow": true })),
    });
    let directory = tempfile::tempdir().unwrap();
    let pair = Pair::generate(Algorithm::EdDsa).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name)
    };
    let public = file("k.pem", &pair.public.unwrap());
    let key = SigningKey::read(&file("k.key", &pair.private)).unwrap();
    let server = application.server(|config| config.auth.keys = vec![public]);
    let exp = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 60;
    let mut open = welcomed(&server, &key.sign(&json!({ "sub": "ann", "exp": exp }))).await;
    open.done(json!({ "type": "join", "room": "r" })).await;
    assert_eq!(open.refused(json!({ "type": "join", "room": "shut" })).await["code"], "forbidden");
    let mut named = welcomed(&server, &key.sign(&json!({ "sub": "bob", "exp": exp, "rooms": ["shut"] }))).await;
    named.done(json!({ "type": "join", "room": "shut" })).await;
    let asked: Vec<_> = application.asked().iter().map(|question| (question["user"].clone(), question["room"].clone())).collect();
    let expected = [("ann", Value::Null), ("ann", "r".into()), ("ann", "shut".into()), ("bob", Value::Null)];
    assert_eq!(asked, expected.map(|(user, room)| (user.into(), room)));
}

#[tokio::test]
async fn who_goes_while_a_room_is_asked_about_does_not_enter_it() {
    let (answer, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let application = Application::start(move |question| match question["event"].as_str() {
        Some("connect") => yes(json!({})),
        _ => {
            let _ = held.lock().unwrap().recv_timeout(support::DEADLINE);
            yes(json!({}))
        }
    });
    let server = application.server(|_| {});
    let mut client = welcomed(&server, "t").await;
    client.say(json!({ "type": "join", "room": "r" })).await;
    eventually("the room is asked about", async || application.asked().len() == 2).await;
    drop(client);
    let mut witness = hello(&server, "other").await;
    drop(answer);
    assert_eq!(witness.hear().await["type"], "welcome");
    witness.done(json!({ "type": "join", "room": "r" })).await;
    eventually("only the witness is there", async || server.snapshot().await.values().map(Vec::len).sum::<usize>() == 1).await;
}

#[tokio::test]
async fn whatever_is_no_clear_yes_in_time_is_a_no() {
    let application = Application::start(|question| match question["token"].as_str().unwrap() {
        "error" => HttpResponse::InternalServerError().json(json!({ "allow": true })),
        "created" => HttpResponse::Created().json(json!({ "allow": true })),
        "elsewhere" => HttpResponse::Found().insert_header((header::LOCATION, "/may?token=yes")).json(json!({ "allow": true })),
        "empty" => HttpResponse::Ok().finish(),
        "text" => HttpResponse::Ok().body("yes"),
        "word" => HttpResponse::Ok().json(json!({ "allow": "true" })),
        "nothing" => HttpResponse::Ok().json(json!({})),
        "claims" => yes(json!([])),
        "list" => HttpResponse::Ok().json(json!([true, null, null])),
        "unknown" => HttpResponse::Ok().json(json!({ "allow": true, "rights": {} })),
        "mistyped" => yes(json!({ "room": ["r"] })),
        "rights" => yes(json!({ "rooms": { "r": { "publsh": false } } })),
        "over" => yes(json!({ "exp": 1 })),
        "long" => HttpResponse::Ok().json(json!({ "allow": true, "reason": "x".repeat(70_000) })),
        "slow" | "yes" => yes(json!({ "rooms": ["*"] })),
        token => panic!("{token}"),
    });
    let server = application.server(|config| config.auth.callback_timeout_ms = 500);
    let bad = [
        "error",
        "created",
        "elsewhere",
        "empty",
        "text",
        "word",
        "nothing",
        "claims",
        "list",
        "unknown",
        "mistyped",
        "rights",
        "over",
        "long",
        "slow",
    ];
    for token in bad {
        let mut client = hello(&server, token).await;
        // What is no answer at all may be one later.
        let code = if token == "over" { CloseCode::Unauthorized } else { CloseCode::Unavailable };
        assert_eq!(goodbye(&mut client.client).await, code, "{token}");
    }
    welcomed(&server, "yes").await;
    // Nobody is there any more.
    let _ = application.handle.stop(false).await;
    let mut client = hello(&server, "anybody").await;
    assert_eq!(goodbye(&mut client.client).await, CloseCode::Unavailable);
    let mut client = hello(&server, &"x".repeat(8193)).await;
    assert_eq!(goodbye(&mut client.client).await, CloseCode::Unauthorized, "nobody is asked about what cannot be a token");
}

#[tokio::test]
async fn an_answer_is_kept_for_a_while_and_what_is_no_answer_is_not() {
    let fails = Arc::new(Mutex::new(true));
    let failing = fails.clone();
    let application = Application::start(move |question| match question["token"].as_str().unwrap() {
        "later" if std::mem::replace(&mut failing.lock().unwrap(), false) => HttpResponse::InternalServerError().finish(),
        "no" => no(),
        _ => yes(json!({ "rooms": ["*"] })),
    });
    let count = |token: &str| application.asked().iter().filter(|question| question["token"] == token).count();
    let server = application.server(|config| config.auth.callback_cache_ms = 3_600_000);
    for _ in 0..3 {
        welcomed(&server, "yes").await;
        assert_eq!(goodbye(&mut hello(&server, "no").await.client).await, CloseCode::Unauthorized);
    }
    assert_eq!((count("yes"), count("no")), (1, 1));
    assert_eq!(goodbye(&mut hello(&server, "later").await.client).await, CloseCode::Unavailable);
    welcomed(&server, "later").await;
    assert_eq!(count("later"), 2);

    let server = application.server(|config| config.auth.callback_cache_ms = 0);
    for _ in 0..2 {
        welcomed(&server, "each").await;
    }
    assert_eq!(count("each"), 2);
}

/// Both came from one address and had no user, so they were the same to the cache, and the yes to one let the other in.
#[tokio::test]
async fn a_yes_to_one_peer_is_none_to_its_neighbour() {
    let first = Mutex::new(None);
    let application = Application::start(move |question| match question["event"].as_str() {
        Some("connect") => yes(json!({})),
        _ if first.lock().unwrap().get_or_insert_with(|| question["peerId"].clone()) == &question["peerId"] => yes(json!({})),
        _ => no(),
    });
    let server = application.server(|config| config.auth.callback_cache_ms = 3_600_000);
    let mut ann = welcomed(&server, "ann").await;
    let mut bob = welcomed(&server, "bob").await;
    ann.done(json!({ "type": "join", "room": "r" })).await;
    assert_eq!(bob.refused(json!({ "type": "join", "room": "r" })).await["code"], "forbidden");
    ann.done(json!({ "type": "leave" })).await;
    ann.done(json!({ "type": "join", "room": "r" })).await;
    assert_eq!(application.asked().len(), 4, "and the same peer is not asked about twice");
}

#[tokio::test]
async fn the_application_knows_who_asks_and_answers_have_an_end() {
    let application = Application::start(|_| {
        let end = std::time::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(2);
        yes(json!({ "rooms": ["*"], "exp": end.as_secs_f64() }))
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "s3cret\n").unwrap();
    let server = application.server(|config| config.auth.callback_secret_file = Some(file));
    let mut client = welcomed(&server, "t").await;
    assert_eq!(application.asked.lock().unwrap()[0].1.as_deref(), Some("Bearer s3cret"));
    assert!(client.hear().await["closesInMs"].is_u64());
    assert_eq!(goodbye(&mut client.client).await, CloseCode::TokenExpired);
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_may_be_and_the_others_get_their_turn() {
    const MAX: usize = 3;
    let application = Application::start(|_| yes(json!({ "rooms": ["*"] })));
    let server = application.server(|config| (config.auth.callback_concurrent_max, config.auth.callback_timeout_ms) = (MAX, 60_000));
    let mut clients = Vec::new();
    for number in 0..4 * MAX {
        clients.push(hello(&server, &format!("held {number}")).await);
    }
    for answered in 0..=3 * MAX {
        application.has_been_asked(answered + MAX).await;
        application.held.let_go.add_permits(1);
    }
    application.held.let_go.add_permits(MAX);
    for client in &mut clients {
        assert_eq!(client.hear().await["type"], "welcome");
    }
    assert_eq!(application.held.most.load(Relaxed), MAX);
}

#[tokio::test]
async fn who_asks_the_same_at_once_asks_once() {
    let application = Application::start(|_| yes(json!({ "rooms": ["*"] })));
    for (kept_ms, questions) in [(3_600_000, 1), (0, 20)] {
        let server = application.server(|config| (config.auth.callback_cache_ms, config.auth.callback_timeout_ms) = (kept_ms, 60_000));
        application.asked.lock().unwrap().clear();
        let mut first = hello(&server, "held").await;
        application.has_been_asked(1).await;
        let mut others = Vec::new();
        for _ in 1..20 {
            others.push(hello(&server, "held").await);
        }
        // It has come behind them, and is answered.
        welcomed(&server, "other").await;
        application.has_been_asked(questions + 1).await;
        application.held.let_go.add_permits(questions);
        assert_eq!(first.hear().await["type"], "welcome");
        for client in &mut others {
            assert_eq!(client.hear().await["type"], "welcome");
        }
        application.has_been_asked(questions + 1).await;
    }
}

#[tokio::test]
async fn who_goes_while_it_asks_leaves_the_question_to_those_who_ask_the_same() {
    let application = Application::start(|_| yes(json!({ "rooms": ["*"] })));
    let server = application.server(|config| config.auth.callback_timeout_ms = 60_000);
    let first = hello(&server, "held").await;
    application.has_been_asked(1).await;
    let mut second = hello(&server, "held").await;
    drop(first);
    application.held.let_go.add_permits(2);
    assert_eq!(second.hear().await["type"], "welcome");
}

#[tokio::test]
async fn one_connection_carries_question_after_question() {
    let application = Application::start(|question| match question["token"].as_str() {
        Some("error") => HttpResponse::InternalServerError().body("x".repeat(30_000)),
        Some("no") => no(),
        _ => yes(json!({ "rooms": ["*"] })),
    });
    let server = application.server(|config| config.auth.callback_cache_ms = 0);
    for _ in 0..3 {
        welcomed(&server, "yes").await;
        assert_eq!(goodbye(&mut hello(&server, "no").await.client).await, CloseCode::Unauthorized);
        assert_eq!(goodbye(&mut hello(&server, "error").await.client).await, CloseCode::Unavailable);
    }
    assert_eq!((application.asked().len(), application.connections.load(Relaxed)), (9, 1));
}
