//! Clients are told of STUN and TURN servers: in `welcome`, again before credentials run out, and by HTTP at `/ice`; and of rooms in which nobody's
//! address is to be shown.

mod support;

use std::{
    fs,
    path::PathBuf,
    process::Output,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use support::{
    RawClient, TestServer, connect_to, doors, eventually,
    foreign::ForeignClient,
    guest_list::{GuestList, grant, lasting},
    hear, http,
    process::{ServerProcess, switchboard},
    resuming::{Cut, Resuming},
    within,
};
use switchboard::{
    Config,
    auth::{Authorize, Denied, Grant, Visitor},
    client::{Client, Door},
    ice::rest,
    protocol::{Payload, ServerMessage},
};
use tempfile::TempDir;

const STUN: &str = "stun:stun.example.org";
const TURN: [&str; 2] = ["turn:turn.example.org?transport=udp", "turns:turn.example.org"];
const DAY: u64 = 86_400;

/// TURN servers that know the secret in this file.
fn external(secret: PathBuf) -> impl FnOnce(&mut Config) {
    |config| {
        config.ice.servers = vec![serde_json::from_value(json!(STUN)).unwrap()];
        config.ice.turn_urls = TURN.map(|url| url.parse().unwrap()).into();
        config.ice.turn_secret_files = vec![secret];
    }
}

fn secret_file(directory: &TempDir, secret: &str) -> PathBuf {
    let file = directory.path().join("secret");
    fs::write(&file, secret).unwrap();
    file
}

/// A server that signs with `north`, with more settings changed.
fn server(change: impl FnOnce(&mut Config)) -> TestServer {
    server_asking(None, change)
}

fn server_asking(authority: Option<Arc<dyn Authorize>>, change: impl FnOnce(&mut Config)) -> TestServer {
    let directory = tempfile::tempdir().unwrap();
    TestServer::asking(authority, |config| {
        external(secret_file(&directory, "north\n"))(config);
        change(config);
    })
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// Until when the credential in a list of one STUN server and the TURN servers is good, which has to be right in all else.
fn expiry(servers: &Value, secret: &str) -> u64 {
    let username = servers[1]["username"].as_str().unwrap_or_else(|| panic!("no credential: {servers}"));
    let password = rest::password(secret.as_bytes(), username);
    assert_eq!(*servers, json!([{ "urls": [STUN] }, { "urls": TURN, "username": username, "credential": password }]));
    username.split_once(':').unwrap().0.parse().unwrap()
}

fn json_of(servers: &Payload) -> Value {
    servers.parse().unwrap()
}

async fn welcome(server: &TestServer, door: Door, hello: Value) -> (RawClient, Value) {
    let mut client = RawClient::silent(server, door).await;
    client.say(hello).await;
    let welcome = client.hear().await;
    assert_eq!(welcome["type"], "welcome", "{door}: {welcome}");
    (client, welcome)
}

async fn ask(server: &TestServer, method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    let request = http().request(method, format!("{}{path}", server.base()));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
    within("an answer", request.send()).await.unwrap()
}

fn told(answer: &Response, name: header::HeaderName) -> Option<&str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_welcome_names_all_servers_with_a_credential_of_the_clients_own() {
    let server = server(|_| {});
    for door in Door::ALL {
        let before = now();
        let (client, welcome) = welcome(&server, door, json!({ "type": "hello" })).await;
        let servers = &welcome["iceServers"];
        let expiry = expiry(servers, "north");
        assert!((before + DAY..=now() + DAY).contains(&expiry), "{door}: {servers}");
        assert_eq!(servers[1]["username"], format!("{expiry}:{}", client.peer_id), "{door}");
    }
}

#[tokio::test]
async fn entries_that_are_always_the_same_are_told_as_they_are_written_and_only_once() {
    let entry = json!({ "urls": "turn:turn.example.org", "username": "us", "credential": "wordpass" });
    let server = TestServer::with(|config| {
        config.ice.servers = vec![serde_json::from_value(entry).unwrap()];
        config.ice.turn_ttl_ms = 1;
    });
    for door in Door::ALL {
        let (mut client, welcome) = welcome(&server, door, json!({ "type": "hello" })).await;
        assert_eq!(welcome["iceServers"], json!([{ "urls": ["turn:turn.example.org"], "username": "us", "credential": "wordpass" }]));
        client.hears_nothing().await;
    }
    let answer: Value = ask(&server, Method::GET, "/ice", &[]).await.json().await.unwrap();
    assert_eq!(answer["iceServers"][0]["credential"], "wordpass");
    assert_eq!(answer.get("ttl"), None, "nothing runs out");
}

#[tokio::test]
async fn who_stays_is_told_of_new_credentials_again_and_again() {
    let server = server(|config| config.ice.turn_ttl_ms = 2_000);
    for door in Door::ALL {
        let (mut client, welcome) = welcome(&server, door, json!({ "type": "hello" })).await;
        let mut last = expiry(&welcome["iceServers"], "north");
        for _ in 0..2 {
            let message = client.hear().await;
            assert_eq!(message.as_object().unwrap().len(), 2, "{message}");
            assert_eq!(message["type"], "ice-servers", "{door}");
            let next = expiry(&message["iceServers"], "north");
            assert!(next > last, "{door}: {next} is not after {last}");
            assert_eq!(message["iceServers"][1]["username"], format!("{next}:{}", client.peer_id));
            last = next;
        }
    }
}

/// What a client that comes back hears last is what counts, however many it has missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_has_the_latest_credentials() {
    let server = server(|config| {
        config.timeouts.resume_window_ms = 30_000;
        config.ice.turn_ttl_ms = 2_000;
    });
    let connector = Arc::new(doors(server.base()).await);
    for (from, to) in [(Door::ALL[0], Door::WebTransport), (Door::WebTransport, Door::ALL[1])] {
        let mut anna = Resuming::connect(&connector, from).await;
        anna.cut(Cut::Reset);
        let mut before = now();
        // It misses some.
        let since = before;
        eventually("time passes", async || now() >= since + 3).await;
        assert!(anna.resume(to).await, "{from} to {to}");
        let mut heard = 0;
        while heard < 3 {
            let ServerMessage::IceServers { servers } = anna.hear().await else { continue };
            let next = expiry(&json_of(&servers), "north");
            assert!(next > before, "{from} to {to}: {next} is not after {before}");
            before = next;
            heard += 1;
        }
        anna.leave().await;
    }
}

#[tokio::test]
async fn the_welcome_of_who_comes_back_names_what_was_told_last() {
    let server = server(|config| {
        config.timeouts.resume_window_ms = 30_000;
        config.ice.turn_ttl_ms = 2_000;
    });
    for door in Door::ALL {
        let (mut client, first) = welcome(&server, door, json!({ "type": "hello" })).await;
        let told = client.hear().await;
        assert_eq!(told["type"], "ice-servers", "{door}");
        client.client.abort();
        let resume = json!({ "token": first["resumeToken"], "received": 2 });
        let (_, again) = welcome(&server, door, json!({ "type": "hello", "resume": resume })).await;
        assert_eq!((&again["resumed"], &again["peerId"]), (&json!(true), &first["peerId"]), "{door}");
        // There may have been another one meanwhile.
        let (told, again) = (expiry(&told["iceServers"], "north"), expiry(&again["iceServers"], "north"));
        assert!(again >= told, "{door}: {again} is before {told}");
    }
}

#[tokio::test]
async fn a_secret_is_changed_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = secret_file(&directory, "north");
    let next = directory.path().join("next");
    fs::write(&next, "south").unwrap();
    let server = TestServer::with(|config| {
        external(file.clone())(config);
        config.ice.turn_secret_files.push(next.clone());
        config.timeouts.certificate_check_ms = 10;
        config.ice.turn_ttl_ms = 4_000;
    });
    let (mut stays, first) = welcome(&server, Door::ALL[0], json!({ "type": "hello" })).await;
    expiry(&first["iceServers"], "north");
    fs::write(&file, "south\n").unwrap();
    let south = rest::password(b"south", "");
    assert_ne!(south, rest::password(b"north", ""));
    eventually("the new secret signs", async || {
        let (_, welcome) = welcome(&server, Door::ALL[0], json!({ "type": "hello" })).await;
        let login = &welcome["iceServers"][1];
        login["credential"] == rest::password(b"south", login["username"].as_str().unwrap())
    })
    .await;
    // Who is there already gets one with its next.
    let mut message = stays.hear().await;
    while message["iceServers"][1]["credential"] != rest::password(b"south", message["iceServers"][1]["username"].as_str().unwrap()) {
        message = stays.hear().await;
    }
    fs::write(&file, "").unwrap();
    let (_, welcome) = welcome(&server, Door::ALL[0], json!({ "type": "hello" })).await;
    expiry(&welcome["iceServers"], "south");
}

#[tokio::test]
async fn a_credential_is_no_longer_good_than_the_token_of_its_client() {
    const HOUR: Duration = Duration::from_secs(3600);
    let list = GuestList::default()
        .put("soon", lasting(grant("ann", &["*"]), HOUR))
        .put("later", lasting(grant("ann", &["*"]), 2 * HOUR))
        .put("never", grant("ann", &["*"]));
    let server = server_asking(Some(Arc::new(list)), |_| {});
    let seconds = |hours: u64| now() + hours * HOUR.as_secs();
    for door in Door::ALL {
        let (mut client, welcome) = welcome(&server, door, json!({ "type": "hello", "token": "soon" })).await;
        assert!(expiry(&welcome["iceServers"], "north") <= seconds(1), "{door}");
        for (token, at_least, at_most) in [("later", 1, 2), ("never", 23, 24), ("soon", 0, 1)] {
            let heard = client.done(json!({ "type": "hello", "token": token })).await;
            let [message] = &heard[..] else { panic!("{door} {token}: {heard:?}") };
            let expiry = expiry(&message["iceServers"], "north");
            assert!(expiry > seconds(at_least) - 60 && expiry <= seconds(at_most), "{door} {token}");
        }
    }
    let answer: Value = ask(&server, Method::GET, "/ice?token=soon", &[]).await.json().await.unwrap();
    assert!(expiry(&answer["iceServers"], "north") <= seconds(1) && answer["ttl"].as_u64().unwrap() <= HOUR.as_secs(), "{answer}");
}

#[tokio::test]
async fn whoever_could_come_in_is_told_by_http() {
    let server = server(|_| {});
    let mut names = Vec::new();
    for path in ["/ice", "/ice?peer=0123456789abcdef0123456789abcdef"] {
        let answer = ask(&server, Method::GET, path, &[(header::ORIGIN, "http://localhost:3000")]).await;
        assert_eq!((answer.status().as_u16(), told(&answer, header::CACHE_CONTROL)), (200, Some("no-store")));
        assert_eq!(told(&answer, header::CONTENT_TYPE), Some("application/json"));
        assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("http://localhost:3000"));
        let answer: Value = answer.json().await.unwrap();
        let expiry = expiry(&answer["iceServers"], "north");
        let ttl = answer["ttl"].as_u64().unwrap();
        assert!((DAY - 1..=DAY).contains(&ttl) && (now() + DAY).abs_diff(expiry) <= 60, "{answer}");
        names.push(answer["iceServers"][1]["username"].as_str().unwrap().split_once(':').unwrap().1.to_owned());
    }
    assert!(names[0] != names[1] && names[1] != "0123456789abcdef0123456789abcdef", "nobody chooses who it is: {names:?}");
    let answer = ask(&server, Method::GET, "/ice", &[(header::ORIGIN, "https://evil.com")]).await;
    assert_eq!((answer.status().as_u16(), told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN)), (403, None));
    assert_eq!(ask(&server, Method::POST, "/ice", &[]).await.status(), 405);
}

/// A HEAD used to take one of the few credentials that an address may have at once, of which its answer shows nothing.
#[tokio::test]
async fn who_asks_for_the_head_of_an_answer_takes_no_credential() {
    let server = server(|config| {
        config.turn.enabled = true;
        config.turn.listen = Some("127.0.0.1:0".parse().unwrap());
        config.ice.address_credentials_max = 1;
    });
    for method in [Method::HEAD, Method::POST] {
        let answer = ask(&server, method, "/ice", &[]).await;
        assert_eq!((answer.status().as_u16(), told(&answer, header::ALLOW)), (405, Some("GET")));
    }
    assert_eq!(ask(&server, Method::GET, "/ice", &[]).await.status(), 200, "there is one left");
}

/// One without a token, one that is good, and one for which nobody can be asked.
struct Moody;

impl Authorize for Moody {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        let answer = match visitor.token.as_deref() {
            Some("good") => Ok(Grant::ALL),
            Some("later") => Err(Denied::unavailable("it sleeps")),
            _ => Err(Denied::new("not on the list")),
        };
        std::future::ready(answer).boxed()
    }
}

#[tokio::test]
async fn by_http_a_token_is_wanted_where_the_doors_want_one() {
    let server = server_asking(Some(Arc::new(Moody)), |_| {});
    let status = async |path: &str, bearer: Option<&str>| {
        let headers: Vec<_> = bearer.map(|bearer| (header::AUTHORIZATION, bearer)).into_iter().collect();
        let answer = ask(&server, Method::GET, path, &headers).await;
        assert_eq!(told(&answer, header::CACHE_CONTROL), Some("no-store"));
        assert_eq!(told(&answer, header::WWW_AUTHENTICATE).is_some(), answer.status() == 401);
        assert_eq!(told(&answer, header::RETRY_AFTER).is_some(), answer.status() == 503);
        let status = answer.status().as_u16();
        assert_eq!(answer.text().await.unwrap().contains("credential"), status == 200);
        status
    };
    assert_eq!(status("/ice", None).await, 401);
    assert_eq!(status("/ice?token=bad", None).await, 401);
    assert_eq!(status("/ice?token=good", None).await, 200);
    assert_eq!(status("/ice?token=later", None).await, 503);
    assert_eq!(status("/ice", Some("Bearer good")).await, 200);
    assert_eq!(status("/ice", Some("bearer bad")).await, 401);
    assert_eq!(status("/ice?token=good", Some("Bearer bad")).await, 401);
    assert_eq!(status("/ice", Some("Basic good")).await, 401);
    let failures = server.metrics().lines().find(|line| line.contains("token_failures") && line.contains("denied")).map(str::to_owned);
    assert!(failures.as_ref().is_some_and(|line| line.ends_with(" 5")), "they count as failures: {failures:?}");
    // A browser asks before its page may send the header.
    let asks = [(header::ORIGIN, "http://localhost:3000"), (header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization")];
    let answer = ask(&server, Method::OPTIONS, "/ice", &asks).await;
    assert_eq!((answer.status().as_u16(), told(&answer, header::ACCESS_CONTROL_ALLOW_HEADERS)), (204, Some("Authorization")));
    assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("http://localhost:3000"));
}

#[tokio::test]
async fn whoever_enters_a_room_for_relays_alone_is_told_so() {
    let server = TestServer::with(|config| config.ice.relay_only_rooms = ["shelter", "private-*"].map(str::to_owned).into());
    for door in Door::ALL {
        let mut client = RawClient::welcomed(&server, door).await;
        for (room, policy) in [
            ("shelter", json!("relay")),
            ("private-", json!("relay")),
            ("private-1", json!("relay")),
            ("shelters", Value::Null),
            ("private", Value::Null),
        ] {
            let joined = client.done(json!({ "type": "join", "room": room })).await.remove(0);
            assert_eq!((&joined["type"], &joined["iceTransportPolicy"]), (&json!("joined"), &policy), "{door} {room}");
            assert_eq!(joined.get("iceTransportPolicy").is_some(), policy != Value::Null);
        }
    }
}

#[tokio::test]
async fn clients_of_socket_io_are_told_by_an_event_and_others_of_nothing() {
    let server = server(|config| {
        config.ice.turn_ttl_ms = 2_000;
        config.ice.relay_only_rooms = vec!["shelter".into()];
    });
    let mut client = ForeignClient::connect(&server, "/socket.io/?EIO=4&transport=websocket").await;
    let next = async |client: &mut ForeignClient| client.receive().await.to_text().unwrap().to_owned();
    assert!(next(&mut client).await.starts_with('0'));
    client.send("40".into()).await;
    let connected = next(&mut client).await;
    let id = connected.strip_prefix("40").map(|data| serde_json::from_str::<Value>(data).unwrap()["sid"].clone()).unwrap();
    let mut last = 0;
    for _ in 0..2 {
        let event = next(&mut client).await;
        let event: Value = serde_json::from_str(event.strip_prefix("42").unwrap_or_else(|| panic!("{event}"))).unwrap();
        assert_eq!(event[0], "ice-servers");
        let expiry = expiry(&event[1]["iceServers"], "north");
        assert_eq!(event[1]["iceServers"][1]["username"], format!("{expiry}:{}", id.as_str().unwrap()));
        assert!(expiry > last);
        last = expiry;
    }
    client.send(r#"42["join",{"room":"shelter"}]"#.into()).await;
    let mut event = next(&mut client).await;
    while !event.contains(r#"["joined""#) {
        event = next(&mut client).await;
    }
    assert!(event.contains(r#""iceTransportPolicy":"relay""#), "{event}");
}

#[tokio::test]
async fn the_client_of_this_crate_reads_them_as_well() {
    let server = server(|config| config.ice.turn_ttl_ms = 2_000);
    for door in Door::ALL {
        let mut client = connect_to(&doors(server.base()).await, door, "r").await;
        let servers = hear("other servers", &mut client, |message| match message {
            ServerMessage::IceServers { servers } => Some(servers),
            _ => None,
        })
        .await;
        expiry(&json_of(&servers), "north");
    }
}

/// Whatever is wrong stops the start by the name of the setting, and never by a secret.
#[test]
fn settings_that_are_no_good_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    secret_file(&directory, "two\nmarked");
    let run = |settings: &[(&str, &str)]| {
        let Output { status, stderr, .. } =
            switchboard(&directory).args(["--listen", "127.0.0.1:0"]).envs(settings.iter().copied()).output().unwrap();
        assert_eq!(status.code(), Some(1), "{settings:?}");
        String::from_utf8(stderr).unwrap()
    };
    const URLS: (&str, &str) = ("SWITCHBOARD_ICE_TURN_URLS", "turn:turn.example.org");
    const FILES: &str = "SWITCHBOARD_ICE_TURN_SECRET_FILES";
    for (settings, told) in [
        (
            &[("SWITCHBOARD_ICE_SERVERS", "stun:a,turn:b")][..],
            "SWITCHBOARD_ICE_SERVERS: ice.servers: \"turn:b\" needs a username and a credential",
        ),
        (&[("SWITCHBOARD_ICE_SERVERS", "http://a")], "SWITCHBOARD_ICE_SERVERS: ice.servers: \"http://a\" is not stun:HOST"),
        (&[("SWITCHBOARD_ICE_TURN_URLS", "stun:a")], "SWITCHBOARD_ICE_TURN_URLS: ice.turn_urls: \"stun:a\" is not one of a TURN server"),
        (&[URLS], "SWITCHBOARD_ICE_TURN_URLS: ice.turn_urls: turn_urls names \"turn:turn.example.org\" and turn_secret_files is empty"),
        (&[(FILES, "secret")], "ice.turn_secret_files: turn_secret_files names \"secret\" and turn_urls is empty"),
        (&[URLS, (FILES, "none")], "ice.turn_secret_files: \"none\" cannot be read: "),
        (&[URLS, (FILES, "secret")], "ice.turn_secret_files: \"secret\" holds no secret of one line"),
        (&[("SWITCHBOARD_ICE_TURN_TTL_MS", "9999")], "ice.turn_ttl_ms: 9999 is out of range"),
        (&[("SWITCHBOARD_ICE_RELAY_ONLY_ROOMS", "a,,b")], "ice.relay_only_rooms: \"\" is no text"),
    ] {
        let said = run(settings);
        assert!(said.contains(told) && !said.contains("marked"), "{said}");
    }
    let file = "[ice]\nservers = [\"stun:a\", {urls = [\"turn:b\", \"turns:b\"], username = \"u\", credential = \"marked\"}]\n";
    let check = |text: &str| {
        fs::write(directory.path().join("a.toml"), text).unwrap();
        let Output { stdout, stderr, .. } = switchboard(&directory).args(["config", "--check", "a.toml"]).output().unwrap();
        String::from_utf8([stdout, stderr].concat()).unwrap()
    };
    assert_eq!(check(file), "a.toml: fine\n");
    for (from, to, told) in [
        ("username = \"u\", ", "", "a.toml:2: ice.servers: username and credential go together"),
        ("turns:b", "turn://b", "ice.servers: \"turn://b\" is not stun:HOST"),
        ("username", "user", "ice.servers: unknown field `user`, expected one of `urls`, `username`, `credential`"),
    ] {
        let said = check(&file.replace(from, to));
        assert!(said.contains(told) && !said.contains("marked"), "{said}");
    }
}

#[test]
fn rooms_for_relays_without_a_relay_are_told_of_in_the_log() {
    let server = ServerProcess::with(&[("SWITCHBOARD_ICE_SERVERS", "stun:a"), ("SWITCHBOARD_ICE_RELAY_ONLY_ROOMS", "private-*,b")]);
    server.logs("ice.relay_only_rooms names rooms, but there is no TURN server");
}

/// However much is logged, and whoever looks at the settings in force.
#[tokio::test]
async fn secrets_are_shown_to_nobody() {
    let directory = tempfile::tempdir().unwrap();
    secret_file(&directory, "marked-secret");
    let settings = "[ice]\nturn_urls = [\"turn:turn.example.org\"]\nturn_secret_files = [\"secret\"]\n\
                    servers = [{urls = [\"turn:b\"], username = \"marked-user\", credential = \"marked-credential\"}]\n";
    fs::write(directory.path().join("a.toml"), settings).unwrap();
    let mut command = switchboard(&directory);
    command.args(["--listen", "127.0.0.1:0", "--log", "trace", "--config", "a.toml"]);
    let server = ServerProcess::start(&mut command, &directory);
    let mut passwords = Vec::new();
    for door in Door::ALL {
        let mut client = within("a connection", Client::connect(server.url(), door)).await.unwrap();
        let welcome = within("a welcome", client.hello()).await.unwrap();
        passwords.push(json_of(&welcome.ice_servers)[1]["credential"].as_str().unwrap().to_owned());
    }
    let answer: Value = http().get(format!("{}ice", server.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["iceServers"][0]["credential"], "marked-credential");
    passwords.push(answer["iceServers"][1]["credential"].as_str().unwrap().to_owned());
    server.signal("-TERM");
    let (_, log) = server.end();
    assert!(log.contains("a session begins"), "{log}");
    for mark in passwords.iter().map(String::as_str).chain(["marked-secret", "marked-credential"]) {
        assert!(!log.contains(mark), "{mark} is in the log:\n{log}");
    }
}

#[test]
fn of_servers_in_the_settings_in_force_credentials_are_hidden() {
    let entry = json!({ "urls": "turn:a", "username": "u", "credential": "marked" });
    let mut config = Config::default();
    config.ice.servers = vec![serde_json::from_value(json!(STUN)).unwrap(), serde_json::from_value(entry).unwrap()];
    let settings = config.in_force(&Default::default());
    let servers = settings.iter().find(|setting| setting.name == "ice.servers").unwrap();
    assert_eq!(servers.value, json!([{ "urls": [STUN] }, { "urls": ["turn:a"], "username": "u", "credential": null }]));
    assert!(servers.is_hidden);
    assert!(!format!("{config:?}").contains("marked"));
}
