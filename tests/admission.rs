//! Every rule about who may come in, and what for, on every door and in every dialect: one table, and nothing in it is left out.
//!
//! A rule that holds on one transport and is forgotten on another is a hole. So each cell is tried with a real token over a real socket, and where a dialect
//! has no word for what a rule is about, the table says why, and the test makes sure that it has none.

mod support;

use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, ready},
    stream,
};
use serde_json::{Value, json};
use switchboard::{
    auth::{
        Authorize, Denied, Grant, Visitor,
        claims::Rules,
        jwt::Tokens,
        keys::Algorithm,
        signing::{Pair, SigningKey},
    },
    protocol::CloseCode,
};
use tempfile::TempDir;

use self::support::{
    TestServer, eventually,
    guest::{Guest, Out, Pass, Way, population},
    http, within,
};

/// What is to hold everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    NoToken,
    GoodToken,
    Expired,
    NotYetValid,
    WrongKey,
    WrongAudience,
    ForbiddenRoom,
    NoPublish,
    NoSubscribe,
    NoBroadcast,
    NoObserve,
    RoomLimit,
    OriginRefused,
    OriginNull,
    OriginAllowed,
    RunsOut,
    Throttled,
}

const RULES: [Rule; 17] = [
    Rule::NoToken,
    Rule::GoodToken,
    Rule::Expired,
    Rule::NotYetValid,
    Rule::WrongKey,
    Rule::WrongAudience,
    Rule::ForbiddenRoom,
    Rule::NoPublish,
    Rule::NoSubscribe,
    Rule::NoBroadcast,
    Rule::NoObserve,
    Rule::RoomLimit,
    Rule::OriginRefused,
    Rule::OriginNull,
    Rule::OriginAllowed,
    Rule::RunsOut,
    Rule::Throttled,
];

/// Does the rule hold there, or has the dialect no word for what it is about?
enum Cell {
    Holds,
    Inexpressible(&'static str),
}

const ALL_FOR_ALL: Cell = Cell::Inexpressible("whatever is said there is for the whole room");
const ONE_AT_A_TIME: Cell = Cell::Inexpressible("whatever is said there is for one peer");
const NOBODY_IS_TOLD: Cell = Cell::Inexpressible("nobody is told there who is in the room");

/// The table. A way or a rule that is new does not compile until it has its cells.
fn cell(rule: Rule, way: Way) -> Cell {
    use Way::*;
    match rule {
        Rule::NoToken
        | Rule::GoodToken
        | Rule::Expired
        | Rule::NotYetValid
        | Rule::WrongKey
        | Rule::WrongAudience
        | Rule::ForbiddenRoom
        | Rule::NoSubscribe
        | Rule::RoomLimit
        | Rule::OriginRefused
        | Rule::OriginNull
        | Rule::OriginAllowed
        | Rule::RunsOut
        | Rule::Throttled => Cell::Holds,
        Rule::NoPublish => match way {
            Lobby | YWebrtc => ALL_FOR_ALL,
            Json | MsgPack | WebTransport | Classic | PeerJs | Tracker | Matchbox | SocketIoPolling | SocketIoWebSocket
            | SocketIoWebTransport => Cell::Holds,
        },
        Rule::NoBroadcast => match way {
            PeerJs | Tracker | Matchbox => ONE_AT_A_TIME,
            Json | MsgPack | WebTransport | Classic | Lobby | YWebrtc | SocketIoPolling | SocketIoWebSocket | SocketIoWebTransport => {
                Cell::Holds
            }
        },
        Rule::NoObserve => match way {
            Lobby | YWebrtc => NOBODY_IS_TOLD,
            Json | MsgPack | WebTransport | Classic | PeerJs | Tracker | Matchbox | SocketIoPolling | SocketIoWebSocket
            | SocketIoWebTransport => Cell::Holds,
        },
    }
}

const AUDIENCE: &str = "switchboard";

/// Who makes tokens: one that the server knows, and one that it does not, and that says it is the other.
struct Issuer {
    good: SigningKey,
    bad: SigningKey,
    tokens: Arc<Tokens>,
    _directory: TempDir,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let pair = |folder: &str| {
        let folder = directory.path().join(folder);
        fs::create_dir(&folder).unwrap();
        let pair = Pair::generate(Algorithm::EdDsa).unwrap();
        let write = |name: &str, contents: &str| {
            fs::write(folder.join(name), contents).unwrap();
            folder.join(name)
        };
        let public = folder.join("public");
        fs::create_dir(&public).unwrap();
        let public = write("public/key.pem", &pair.public.unwrap());
        (SigningKey::read(Path::new(&write("key.pem", &pair.private))).unwrap(), public)
    };
    let ((good, public), (bad, _)) = (pair("good"), pair("bad"));
    let rules = Rules { issuer: None, audience: Some(AUDIENCE.into()), leeway: Duration::ZERO };
    let tokens = Tokens::load(&[public], None, rules).unwrap();
    Issuer { good, bad, tokens, _directory: directory }
});

/// Asks the tokens, as a server does that is told of their keys.
struct Asking;

impl Authorize for Asking {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        let verified = match visitor.token {
            Some(token) => ISSUER.tokens.verify(&token, SystemTime::now()).map_err(|bad| Denied::new(bad.slug())),
            None => Err(Denied::new("no token")),
        };
        ready(verified).boxed()
    }
}

fn in_seconds(seconds: i64) -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs() as i64 + seconds
}

/// What a token says that is good in all respects.
fn claims(user: &str, rooms: Value) -> Value {
    json!({ "sub": user, "aud": AUDIENCE, "exp": in_seconds(3600), "rooms": rooms })
}

fn token(user: &str, rooms: Value) -> String {
    ISSUER.good.sign(&claims(user, rooms))
}

/// The same with one claim changed.
fn token_with(way: Way, claim: &str, value: impl Into<Value>) -> String {
    let mut claims = claims("user-a", json!([way.room()]));
    claims[claim] = value.into();
    ISSUER.good.sign(&claims)
}

/// One for the room of this way, and all rights but this one.
fn token_without(way: Way, user: &str, right: &str) -> String {
    token(user, json!({ way.room(): { right: false } }))
}

fn whole(way: Way, user: &str) -> String {
    token(user, json!([way.room()]))
}

fn server(way: Way) -> TestServer {
    TestServer::asking(Some(Arc::new(Asking)), |config| {
        way.configure(config);
        config.peerjs.discovery = true;
        config.limits.address_failures_max = 1;
    })
}

async fn come(server: &TestServer, way: Way, name: char, token: &str) -> Guest {
    let pass = Pass { name, token: Some(token), origin: None };
    Guest::come(server, way, pass).await.unwrap_or_else(|out| panic!("{way:?} {name}: {out:?}"))
}

async fn out(server: &TestServer, way: Way, pass: Pass<'_>) -> Out {
    match Guest::come(server, way, pass).await {
        Ok(_) => panic!("{way:?} is in"),
        Err(out) => out,
    }
}

/// What this guest has heard when the server has said its last word.
async fn all_heard(server: &TestServer, guest: &mut Guest) {
    server.stop();
    guest.to_the_end().await;
}

fn nothing() -> Value {
    json!({})
}

/// Tries one cell, in which the rule has to hold.
async fn holds(rule: Rule, way: Way) {
    let server = server(way);
    let good = whole(way, "user-a");
    let pass = |token| Pass { name: 'a', token, origin: None };
    match rule {
        Rule::NoToken => assert_eq!(out(&server, way, pass(None)).await, Out::Unauthorized),
        Rule::GoodToken => {
            let mut bob = come(&server, way, 'b', &whole(way, "user-b")).await;
            let mut ann = come(&server, way, 'a', &good).await;
            let says_one = ann.signal(&bob, "one-marker", &nothing()).await;
            let says_all = ann.broadcast("all-marker", &nothing()).await;
            assert!(says_one || says_all);
            ann.leave(&server).await;
            all_heard(&server, &mut bob).await;
            assert_eq!((bob.has_heard("one-marker"), bob.has_heard("all-marker")), (says_one, says_all), "{:?}", bob.transcript);
        }
        Rule::Expired => bad(&server, way, &token_with(way, "exp", in_seconds(-1))).await,
        Rule::NotYetValid => bad(&server, way, &token_with(way, "nbf", in_seconds(3600))).await,
        Rule::WrongKey => bad(&server, way, &ISSUER.bad.sign(&claims("user-a", json!([way.room()])))).await,
        Rule::WrongAudience => bad(&server, way, &token_with(way, "aud", "another")).await,
        Rule::ForbiddenRoom => {
            let elsewhere = token("user-a", json!(["elsewhere"]));
            let refused = out(&server, way, pass(Some(&elsewhere))).await;
            assert!(matches!(refused, Out::Refused(_)), "{refused:?}");
            eventually("nobody is there", async || population(&server).await == 0).await;
        }
        Rule::NoPublish | Rule::NoBroadcast => {
            let right = if rule == Rule::NoPublish { "publish" } else { "broadcast" };
            let mut bob = come(&server, way, 'b', &whole(way, "user-b")).await;
            let mut ann = come(&server, way, 'a', &token_without(way, "user-a", right)).await;
            let says_one = ann.signal(&bob, "one-marker", &nothing()).await;
            let says_all = ann.broadcast("all-marker", &nothing()).await;
            ann.leave(&server).await;
            all_heard(&server, &mut bob).await;
            let heard = (bob.has_heard("one-marker"), bob.has_heard("all-marker"));
            let expected = if rule == Rule::NoPublish { (false, says_all) } else { (says_one, false) };
            assert_eq!(heard, expected, "{:?}", bob.transcript);
        }
        Rule::NoSubscribe => {
            let mut bob = come(&server, way, 'b', &token_without(way, "user-b", "subscribe")).await;
            let mut ann = come(&server, way, 'a', &good).await;
            ann.signal(&bob, "one-marker", &nothing()).await;
            ann.broadcast("all-marker", &nothing()).await;
            ann.leave(&server).await;
            all_heard(&server, &mut bob).await;
            assert!(!bob.has_heard("marker"), "{:?}", bob.transcript);
        }
        Rule::NoObserve => {
            for (token, sees) in [(whole(way, "user-b"), true), (token_without(way, "user-b", "observe"), false)] {
                let ann = come(&server, way, 'a', &good).await;
                let mut bob = come(&server, way, 'b', &token).await;
                let carl = come(&server, way, 'c', &good).await;
                let seen = match way {
                    Way::PeerJs => within("the ids", listed(&server, &token)).await == Some(3),
                    // How many there are is all that anybody is told.
                    Way::Tracker => !bob.has_heard(r#""incomplete":0"#),
                    _ => {
                        let ids = (ann.id.clone(), carl.id.clone());
                        // Something that is for everybody and comes behind what is not for who does not observe.
                        carl.leave(&server).await;
                        let mut dora = come(&server, way, 'd', &good).await;
                        let id = dora.id.clone();
                        assert!(dora.signal(&bob, "fence-marker", &nothing()).await);
                        bob.until("fence-marker").await;
                        let told = bob.transcript.iter().filter(|text| !text.contains("fence-marker"));
                        let told: Vec<_> = told.filter(|text| [&ids.0, &ids.1, &id].iter().any(|id| text.contains(*id))).collect();
                        assert!(told.len() >= 2 || !sees, "{told:?}");
                        dora.leave(&server).await;
                        !told.is_empty()
                    }
                };
                assert_eq!(seen, sees, "{:?}", bob.transcript);
                bob.leave(&server).await;
                ann.leave(&server).await;
                eventually("nobody is there", async || population(&server).await == 0).await;
            }
        }
        Rule::RoomLimit => {
            let few = token("user-b", json!({ way.room(): { "peers": 1 } }));
            let ann = come(&server, way, 'a', &good).await;
            let refused = out(&server, way, Pass { name: 'b', token: Some(&few), origin: None }).await;
            assert!(matches!(refused, Out::Refused(_)), "{refused:?}");
            ann.leave(&server).await;
            come(&server, way, 'b', &few).await;
        }
        Rule::OriginRefused | Rule::OriginNull => {
            let origin = if rule == Rule::OriginNull { "null" } else { "https://evil.com" };
            let refused = out(&server, way, Pass { origin: Some(origin), ..pass(Some(&good)) }).await;
            assert_eq!(refused, Out::Status(403));
        }
        Rule::OriginAllowed => {
            let came = Guest::come(&server, way, Pass { origin: Some("http://localhost:3000"), ..pass(Some(&good)) }).await;
            assert!(came.is_ok(), "{:?}", came.err());
        }
        Rule::RunsOut => {
            let mut ann = come(&server, way, 'a', &token_with(way, "exp", in_seconds(3))).await;
            ann.to_the_end().await;
            // Some doors and dialects have a number for it, some words, some neither.
            let expected = CloseCode::TokenExpired.number();
            assert!(ann.code.is_none_or(|code| code == expected), "{:?}", ann.code);
            eventually("nobody is there", async || population(&server).await == 0).await;
            let resumed = token_with(way, "exp", in_seconds(-1));
            assert_eq!(out(&server, way, pass(Some(&resumed))).await, Out::Unauthorized);
        }
        Rule::Throttled => {
            for _ in 0..3 {
                bad(&server, way, &ISSUER.bad.sign(&claims("user-a", json!([way.room()])))).await;
            }
            let since = Instant::now();
            come(&server, way, 'a', &good).await;
            // What is waited behind two failures that are not free.
            assert!(since.elapsed() >= Duration::from_millis(200));
        }
    }
}

async fn bad(server: &TestServer, way: Way, token: &str) {
    assert_eq!(out(server, way, Pass { name: 'a', token: Some(token), origin: None }).await, Out::Unauthorized, "{way:?}");
    assert_eq!(population(server).await, 0);
}

/// How many ids the clients of PeerJS are told; none where that is not allowed.
async fn listed(server: &TestServer, token: &str) -> Option<usize> {
    let answer = http().get(format!("{}/{token}/peers", server.base())).send().await.unwrap();
    if answer.status() != 200 { None } else { Some(answer.json::<Vec<String>>().await.unwrap().len()) }
}

/// Makes sure that what the rule is about is not to be had there.
async fn is_inexpressible(rule: Rule, way: Way, why: &str) {
    let server = server(way);
    let mut bob = come(&server, way, 'b', &whole(way, "user-b")).await;
    let mut ann = come(&server, way, 'a', &whole(way, "user-a")).await;
    match rule {
        Rule::NoPublish => assert!(!ann.signal(&bob, "marker", &nothing()).await, "{why}"),
        Rule::NoBroadcast => assert!(!ann.broadcast("marker", &nothing()).await, "{why}"),
        Rule::NoObserve => {
            let id = server.snapshot().await.values().flatten().map(ToString::to_string).collect::<Vec<_>>();
            ann.leave(&server).await;
            all_heard(&server, &mut bob).await;
            assert!(bob.transcript.iter().all(|text| !id.iter().any(|id| text.contains(id))), "{why}: {:?}", bob.transcript);
        }
        _ => panic!("{rule:?} can be expressed everywhere"),
    }
}

/// Some of the cells at once: most of each is waiting.
async fn every_cell_of(rules: &[Rule]) {
    let cells = rules.iter().flat_map(|rule| Way::ALL.map(|way| (*rule, way)));
    let tried = stream::iter(cells).for_each_concurrent(4, |(rule, way)| async move {
        println!("{rule:?} {way:?}");
        match cell(rule, way) {
            Cell::Holds => holds(rule, way).await,
            Cell::Inexpressible(why) => is_inexpressible(rule, way, why).await,
        }
    });
    tried.await;
}

#[tokio::test]
async fn tokens_count_on_every_door_and_in_every_dialect() {
    every_cell_of(&RULES[..6]).await;
}

#[tokio::test]
async fn rooms_and_rights_count_on_every_door_and_in_every_dialect() {
    every_cell_of(&RULES[6..12]).await;
}

#[tokio::test]
async fn origins_time_and_failures_count_on_every_door_and_in_every_dialect() {
    every_cell_of(&RULES[12..]).await;
}

/// A room that is not for a client, whether it is there, full, or not there, and what it is told of each: the same bytes, but for what it said itself.
#[tokio::test]
async fn who_may_not_enter_is_told_the_same_of_every_room() {
    for way in Way::ALL {
        let elsewhere = token("user-e", json!(["elsewhere"]));
        let mut told = Vec::new();
        for (members, peers_max) in [(0, 2), (1, 2), (2, 2)] {
            let server = TestServer::asking(Some(Arc::new(Asking)), |config| {
                way.configure(config);
                config.limits.peers_per_room_max = peers_max;
            });
            let mut there = Vec::new();
            for name in ['a', 'b'].into_iter().take(members) {
                there.push(come(&server, way, name, &whole(way, "user")).await);
            }
            told.push(out(&server, way, Pass { name: 'e', token: Some(&elsewhere), origin: None }).await);
        }
        assert!(told.iter().all(|out| *out == told[0] && matches!(out, Out::Refused(_))), "{way:?}: {told:?}");
    }
}

/// Others are told who speaks by the server, whatever else the message says.
#[tokio::test]
async fn nobody_speaks_as_another() {
    for way in Way::ALL {
        let server = server(way);
        let mut bob = come(&server, way, 'b', &whole(way, "user-b")).await;
        let mut eve = come(&server, way, 'e', &whole(way, "user-e")).await;
        let forged = |own: &str| {
            let victim = bob.id.clone();
            let fields = ["from", "fromPeer", "src", "sender", "peerId", "user", "sub", "name", "sid", "socketId", "clientId"];
            let fields = fields.into_iter().filter(|field| *field != own).map(|field| (field.to_owned(), Value::from(victim.clone())));
            let mut fields: serde_json::Map<_, _> = fields.collect();
            fields.insert("metadata".into(), json!({ "user": "user-b", "peerId": victim }));
            Value::from(fields)
        };
        let said = [eve.signal(&bob, "one-marker", &forged("")).await, eve.broadcast("all-marker", &forged("")).await];
        let id = eve.id.clone();
        eve.leave(&server).await;
        all_heard(&server, &mut bob).await;
        for (marker, said) in ["one-marker", "all-marker"].into_iter().zip(said) {
            if said && let Some(sender) = bob.sender(marker) {
                assert_eq!(sender, id, "{way:?} {marker}: {:?}", bob.transcript);
            }
        }
        // Of the user others hear where they hear of users at all, and then of the right one.
        let users = bob.transcript.iter().filter(|text| text.contains("peer-joined") && text.contains("user-"));
        assert!(users.clone().all(|text| text.contains(r#""user":"user-e""#)), "{way:?}: {:?}", bob.transcript);
        let tells_users = matches!(way, Way::Json | Way::MsgPack | Way::WebTransport);
        assert!(users.count() > 0 || !tells_users, "{way:?}: {:?}", bob.transcript);
    }
}

/// Where clients name themselves, a name is its holder's for as long as that lives.
#[tokio::test]
async fn nobody_takes_the_name_of_another() {
    for way in [Way::PeerJs, Way::Tracker] {
        let server = server(way);
        let mut bob = come(&server, way, 'b', &whole(way, "user-b")).await;
        // Who is asked for a sign of life and gives none has lost its name.
        let reading = tokio::spawn(async move { bob.to_the_end().await });
        let refused = out(&server, way, Pass { name: 'b', token: Some(&whole(way, "user-e")), origin: None }).await;
        assert!(matches!(refused, Out::Refused(_)), "{way:?}: {refused:?}");
        reading.abort();
    }
}
