//! Administration: every path, good and bad, over real sockets; who gets in, and what becomes of clients that it acts on.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::{RawClient, TestServer, eventually, http, process::switchboard, within};
use switchboard::{
    Config,
    admin::{LogLevel, Program},
    client::{Client, Door},
    config::{Rates, Sources},
    protocol::{CloseCode, Codec},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const JSON: Door = Door::WebSocket(Codec::Json);

/// A server with its administration, and the token of that.
struct Administered {
    server: TestServer,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Administered {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::in_program(change, Program::default())
    }

    fn in_program(change: impl FnOnce(&mut Config), program: Program) -> Self {
        let server = TestServer::in_program(
            None,
            |config| {
                config.admin_listen = Some("127.0.0.1:0".parse().unwrap());
                config.rates = Rates::Off;
                // Whole tests are of guesses, which are not to wait.
                config.limits.address_failures_max = 10_000;
                change(config);
            },
            program,
        );
        let token = fs::read_to_string(server.directory.path().join("admin-token")).unwrap().trim().to_owned();
        let url = format!("http://{}", server.admin_addresses()[0]);
        Self { server, url, token, http: http() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    async fn ask(&self, method: Method, path: &str) -> Response {
        within("an answer", self.request(method, path).send()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path).await;
        assert_eq!(
            (answer.status(), &answer.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &"application/json".parse().unwrap()),
            "{path}"
        );
        answer.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        within("an answer", self.request(Method::POST, path).json(body).send()).await.unwrap()
    }

    /// All pages of a list.
    async fn all(&self, path: &str, key: &str, limit: usize) -> Vec<Value> {
        let (mut all, mut after) = (vec![], String::new());
        loop {
            let page = self.get(&format!("{path}{}limit={limit}{after}", if path.contains('?') { '&' } else { '?' })).await;
            let items = page[key].as_array().unwrap();
            assert!(items.len() == limit || (items.len() < limit && page["next"].is_null()), "{page}");
            all.extend_from_slice(items);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", escaped(next)),
                None => return all,
            }
        }
    }

    async fn watch(&self, room: &str) -> Events {
        let response = self.ask(Method::GET, &format!("/v1/rooms/{room}/events")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Events { response, text: String::new() }
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The problem in an answer, which has to be one of this status and code.
async fn problem(answer: Response, status: u16, code: &str) -> Value {
    assert_eq!(answer.status().as_u16(), status, "{code}");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{code}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10) && problem["title"].is_string(), "{problem}");
    problem
}

/// A stream of events.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    /// The next event and its data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                if event.starts_with(':') {
                    continue;
                }
                let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
                return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
            }
            // One that is cut off is at its end as well.
            let chunk = within("an event", self.response.chunk()).await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The data of the next event, which has to be this one.
    async fn expect(&mut self, name: &str) -> Value {
        let (event, data) = self.next().await.unwrap_or_else(|| panic!("the end before {name}"));
        assert_eq!(event, name, "{data}");
        data
    }
}

#[tokio::test]
async fn only_the_token_opens_it_and_only_in_its_header() {
    let admin = Administered::start();
    for path in ["/metrics", "/v1/rooms", "/v1/peers", "/v1/config", "/v1/log-level", "/v1/rooms/r/events", "/nowhere"] {
        let url = format!("{}{path}", admin.url);
        let wrong = "x".repeat(admin.token.len());
        let almost = format!("{}x", &admin.token[..admin.token.len() - 1]);
        let longer = format!("{}x", admin.token);
        let mut requests = vec![admin.http.get(&url), admin.http.get(format!("{url}?token={0}&access_token={0}", admin.token))];
        for value in [wrong, almost, longer, String::new(), "ü".into()] {
            requests.push(admin.http.get(&url).header(header::AUTHORIZATION, format!("Bearer {value}").as_bytes()));
        }
        requests.push(admin.http.get(&url).basic_auth("admin", Some(&admin.token)));
        requests.push(admin.http.get(&url).header(header::AUTHORIZATION, &admin.token));
        requests.push(admin.http.get(&url).header(header::COOKIE, format!("token={}", admin.token)));
        // Which of two is meant is not to be guessed.
        requests.push(admin.http.get(&url).bearer_auth(&admin.token).header(header::AUTHORIZATION, "Bearer another-token-of-length"));
        for request in requests {
            let answer = within("an answer", request.send()).await.unwrap();
            assert!(answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer realm="));
            assert!(!answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
            problem(answer, 401, "unauthorized").await;
        }
    }
    let mut client = RawClient::joined(&admin.server, JSON, "r").await;
    for (method, path) in [(Method::POST, "/v1/drain"), (Method::DELETE, "/v1/rooms/r"), (Method::PUT, "/v1/log-level")] {
        let request = http().request(method, format!("{}{path}", admin.url));
        problem(within("an answer", request.send()).await.unwrap(), 401, "unauthorized").await;
    }
    client.hears_nothing().await;
    let lower = http().get(format!("{}/v1/rooms", admin.url)).header(header::AUTHORIZATION, format!("bearer {}", admin.token));
    assert_eq!(within("an answer", lower.send()).await.unwrap().status(), 200, "RFC 9110 §11.1: the scheme in any case");
}

#[tokio::test]
async fn nothing_of_it_is_on_the_public_port_and_nothing_of_that_here() {
    let admin = Administered::start();
    for path in [
        "/metrics",
        "/openapi.json",
        "/v1/rooms",
        "/v1/peers",
        "/v1/config",
        "/v1/log-level",
        "/admin",
        "/admin/index",
        "/admin/index.html",
        "/admin/main.js",
    ] {
        let request = admin.http.get(format!("{}{path}", admin.server.base())).bearer_auth(&admin.token);
        assert_eq!(within("an answer", request.send()).await.unwrap().status(), 404, "{path}");
    }
    let request = http().post(format!("{}/v1/drain", admin.server.base())).bearer_auth(&admin.token);
    assert_eq!(within("an answer", request.send()).await.unwrap().status(), 404);
    for path in
        ["/ws", "/client.js", "/.well-known/switchboard", "/readyz", "/call.html", "/pages/call.js", "/package.json", "/admin/../call.html"]
    {
        problem(admin.ask(Method::GET, path).await, 404, "no-such-path").await;
    }
    let without = TestServer::start();
    assert!(without.admin_addresses().is_empty());
    assert!(!without.directory.path().join("admin-token").exists(), "no token is made that nothing wants");
}

#[tokio::test]
async fn a_name_that_is_not_known_to_be_the_servers_is_refused() {
    let admin = Administered::with(|config| config.cert_names = vec!["ops.example.org".into()]);
    let ask = async |host: &str, path: &str| {
        let request = admin.request(Method::GET, path).header(header::HOST, host);
        within("an answer", request.send()).await.unwrap()
    };
    for host in ["127.0.0.1", "10.1.2.3:9090", "[::1]:9090", "localhost", "LocalHost:1", "localhost.", "ops.example.org:9090"] {
        assert_eq!(ask(host, "/v1/rooms").await.status(), 200, "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x.ops.example.org", "a@localhost", "evil.example:9090"]
    {
        for path in ["/v1/rooms", "/", "/healthz"] {
            problem(ask(host, path).await, 421, "wrong-host").await;
        }
    }
    for request in ["GET /v1/rooms HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n"] {
        let mut socket = TcpStream::connect(admin.server.admin_addresses()[0]).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the end of an answer", socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains(" 421 ") || answer.contains(" 400 "), "{answer}");
    }
}

#[tokio::test]
async fn the_token_is_made_for_its_owner_alone_and_kept() {
    let admin = Administered::start();
    let path = admin.server.directory.path().join("admin-token");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(admin.token.len() >= 43, "256 bits");
    drop(TestServer::with(|config| {
        config.admin_listen = Some("127.0.0.1:0".parse().unwrap());
        config.admin.token_file = path.clone();
    }));
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), admin.token);
}

#[tokio::test]
async fn pages_of_rooms_tell_each_of_250_once_and_in_order() {
    let admin = Administered::with(|config| config.limits.rooms_per_client_max = 300);
    let mut client = RawClient::welcomed(&admin.server, JSON).await;
    assert_eq!(admin.get("/v1/rooms").await, json!({ "rooms": [] }));
    let names: BTreeSet<String> = (0..250).map(|n| format!("room {n}")).collect();
    for name in &names {
        client.done(json!({"type": "join", "room": name, "metadata": 12345})).await;
    }
    for limit in [1, 7, 100, 125, 250, 1000] {
        let rooms = admin.all("/v1/rooms", "rooms", limit).await;
        let ids: Vec<&str> = rooms.iter().map(|room| room["id"].as_str().unwrap()).collect();
        assert!(ids.iter().copied().eq(names.iter().map(String::as_str)), "{limit}: {ids:?}");
    }
    let page = admin.get("/v1/rooms").await;
    assert_eq!((page["rooms"].as_array().unwrap().len(), &page["next"]), (100, &page["rooms"][99]["id"]));
    let first = json!({"id": "room 0", "name": "room 0", "dialect": "shared", "peers": 1, "metadataBytes": 5, "quiet": false});
    assert_eq!(page["rooms"][0], first);
    // A cursor need not be there any more.
    client.done(json!({"type": "leave", "room": "room 0"})).await;
    let page = admin.get("/v1/rooms?limit=1&after=room%200").await;
    assert_eq!(page["rooms"][0]["id"], "room 1");
}

#[tokio::test]
async fn a_room_is_found_whatever_it_is_called() {
    let admin = Administered::start();
    let names = ["a/b", "?#%", "ü \"<b>", "..", ".", "~", "~peerjs~x", "metrics", "%2F", "+", "a b", "\u{202e}x"];
    let mut client = RawClient::welcomed(&admin.server, JSON).await;
    for name in names {
        client.done(json!({"type": "join", "room": name})).await;
    }
    let rooms = admin.all("/v1/rooms", "rooms", 5).await;
    assert_eq!(rooms.iter().map(|room| room["name"].as_str().unwrap()).collect::<BTreeSet<_>>(), names.into());
    for listed in rooms {
        let found = admin.get(&format!("/v1/rooms/{}", escaped(listed["id"].as_str().unwrap()))).await;
        assert_eq!(found, json!({"room": listed, "peers": [{"peerId": client.peer_id}]}));
    }
    for path in ["%FF", "%", "%zz"] {
        problem(admin.ask(Method::GET, &format!("/v1/rooms/{path}")).await, 404, "no-such-path").await;
    }
    for path in ["nobody", "~", "~~x", "%00", ""] {
        problem(admin.ask(Method::GET, &format!("/v1/rooms/{path}")).await, 404, "no-such-room").await;
    }
}

/// A client of `peerjs`, as the library connects.
async fn peerjs(server: &TestServer, id: &str) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>> {
    let url = format!("{}/peerjs?key=peerjs&id={id}&token=t", server.base().replacen("http", "ws", 1));
    let (mut socket, _) = within("a socket", tokio_tungstenite::connect_async(url)).await.unwrap();
    let open = within("OPEN", socket.next()).await.unwrap().unwrap();
    assert_eq!(open.to_text().unwrap(), r#"{"type":"OPEN"}"#);
    socket
}

#[tokio::test]
async fn rooms_of_a_dialect_are_told_apart_and_can_be_picked() {
    let admin = Administered::start();
    let _native = RawClient::joined(&admin.server, JSON, "peerjs").await;
    let _foreign = peerjs(&admin.server, "emma").await;
    let rooms = admin.get("/v1/rooms").await["rooms"].clone();
    let pick = async |dialect: &str| admin.get(&format!("/v1/rooms?dialect={dialect}")).await["rooms"].clone();
    let (shared, own) = (pick("shared").await, pick("peerjs").await);
    assert_eq!((&shared[0]["id"], &own[0]["id"], &own[0]["name"]), (&json!("peerjs"), &json!("~peerjs~peerjs"), &json!("peerjs")));
    assert_eq!(rooms, json!([own[0], shared[0]]));
    assert_eq!(pick("tracker").await, json!([]));
    let found = admin.get("/v1/rooms/~peerjs~peerjs").await;
    assert_eq!((&found["peers"][0]["name"], &found["room"]["quiet"]), (&json!("emma"), &json!(true)));
}

#[tokio::test]
async fn peers_are_told_with_their_door_dialect_rooms_and_what_waits() {
    let admin = Administered::start();
    let mut clients = Vec::new();
    for door in Door::ALL {
        clients.push((door, RawClient::joined(&admin.server, door, "r").await));
    }
    clients[0].1.done(json!({"type": "join", "room": "s"})).await;
    let _foreign = peerjs(&admin.server, "emma").await;
    let peers = admin.all("/v1/peers", "peers", 3).await;
    assert_eq!(peers.len(), clients.len() + 1);
    let ids: Vec<&str> = peers.iter().map(|peer| peer["peerId"].as_str().unwrap()).collect();
    assert!(ids.is_sorted());
    for (n, (door, client)) in clients.iter().enumerate() {
        let peer = admin.get(&format!("/v1/peers/{}", client.peer_id)).await;
        let name = if *door == Door::WebTransport { "webtransport" } else { "websocket" };
        let rooms = if n == 0 { json!(["r", "s"]) } else { json!(["r"]) };
        assert_eq!((&peer["door"], &peer["dialect"], &peer["rooms"]), (&json!(name), &json!("native"), &rooms), "{peer}");
        assert_eq!((&peer["address"], &peer["connected"]), (&json!("127.0.0.1"), &json!(true)));
        assert!(
            peer["waitingBytes"].is_u64() && peer["since"].as_str().is_some_and(|since| since.ends_with('Z') && since.contains('T')),
            "{peer}"
        );
        assert!(peers.iter().any(|listed| listed["peerId"] == peer["peerId"]));
    }
    let foreign = peers.iter().find(|peer| peer["dialect"] == "peerjs").unwrap();
    assert_eq!(foreign["rooms"], json!(["~peerjs~peerjs"]));
    for id in ["0".repeat(32), "x".into(), "A".repeat(32)] {
        problem(admin.ask(Method::GET, &format!("/v1/peers/{id}")).await, 404, "no-such-peer").await;
        problem(admin.ask(Method::DELETE, &format!("/v1/peers/{id}")).await, 404, "no-such-peer").await;
    }
}

#[tokio::test]
async fn a_peer_that_is_kicked_is_told_so_and_the_others_see_it_removed() {
    let admin = Administered::with(|config| config.timeouts.resume_window_ms = 30_000);
    for door in Door::ALL {
        let mut kicked = support::connect(&admin.server, door).await;
        kicked.join("r", None).await.unwrap();
        let mut other = RawClient::joined(&admin.server, JSON, "r").await;
        let id = support::own_id(&kicked);
        let answer = admin.ask(Method::DELETE, &format!("/v1/peers/{id}")).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(support::goodbye(&mut kicked).await, CloseCode::Removed, "{door}");
        let left = other.hear().await;
        assert_eq!(left, json!({"type": "peer-left", "room": "r", "peerId": id.to_string(), "reason": "removed"}), "{door}");
        eventually("it is gone", async || admin.ask(Method::GET, &format!("/v1/peers/{id}")).await.status() == 404).await;
    }
}

#[tokio::test]
async fn a_session_that_waits_for_its_client_is_kicked_as_well_and_cannot_be_resumed() {
    let admin = Administered::with(|config| config.timeouts.resume_window_ms = 30_000);
    let mut gone = within("a connection", Client::connect(admin.server.base(), JSON)).await.unwrap();
    let welcome = within("a welcome", gone.hello()).await.unwrap();
    gone.join("r", None).await.unwrap();
    gone.abort();
    let path = format!("/v1/peers/{}", welcome.peer_id);
    eventually("it waits", async || admin.get(&path).await["connected"] == false).await;
    assert_eq!(admin.ask(Method::DELETE, &path).await.status(), 204);
    eventually("the room is empty", async || admin.get("/v1/rooms").await["rooms"] == json!([])).await;
    let mut back = within("a connection", Client::connect(admin.server.base(), JSON)).await.unwrap();
    assert!(!within("a welcome", back.resume(welcome.resume_token, 1)).await.unwrap().resumed);
}

#[tokio::test]
async fn a_room_that_is_closed_tells_each_member_once_and_nobody_of_the_others() {
    let admin = Administered::start();
    let mut members = Vec::new();
    for n in 0..12 {
        let mut member = RawClient::joined(&admin.server, Door::ALL[n % Door::ALL.len()], "r").await;
        member.done(json!({"type": "join", "room": "other"})).await;
        members.push(member);
    }
    for member in &mut members {
        member.done(json!({"type": "ping"})).await;
    }
    let answer = admin.ask(Method::DELETE, "/v1/rooms/r").await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"peers": 12}));
    for member in &mut members {
        assert_eq!(member.hear().await, json!({"type": "left", "room": "r", "reason": "removed"}));
        let refused = member.refused(json!({"type": "message", "room": "r", "payload": 1})).await;
        assert_eq!(refused["code"], "not-in-room");
        member.hears_nothing().await;
    }
    problem(admin.ask(Method::DELETE, "/v1/rooms/r").await, 404, "no-such-room").await;
    assert_eq!(admin.get("/v1/rooms/other").await["room"]["peers"], 12, "their other room goes on");
    let heard = members[0].done(json!({"type": "join", "room": "r"})).await;
    assert_eq!(heard[0]["peers"], json!([]), "it is a new room");
}

#[tokio::test]
async fn a_room_is_closed_for_those_who_know_no_word_for_it_by_closing_their_connection() {
    let admin = Administered::start();
    let mut socket = peerjs(&admin.server, "emma").await;
    assert_eq!(admin.ask(Method::DELETE, "/v1/rooms/~peerjs~peerjs").await.json::<Value>().await.unwrap(), json!({"peers": 1}));
    let mut last = String::new();
    while let Some(Ok(message)) = within("the end", socket.next()).await {
        if message.is_text() {
            last = message.to_text().unwrap().to_owned();
        }
        let _ = socket.flush().await;
    }
    assert!(last.contains("has ended your session"), "{last}");
}

#[tokio::test]
async fn what_the_application_says_comes_from_nobodys_id_in_the_spelling_of_each() {
    let admin = Administered::start();
    let mut members = Vec::new();
    for door in Door::ALL {
        members.push(RawClient::joined(&admin.server, door, "r").await);
    }
    for member in &mut members {
        member.done(json!({"type": "ping"})).await;
    }
    let payload = json!({"text": "maintenance at ten", "n": [1, 2.5, null]});
    let answer = admin.post("/v1/rooms/r/messages", &json!({ "payload": payload })).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"handed": 3, "untaken": 0}));
    for member in &mut members {
        let heard = member.hear().await;
        assert_eq!(heard, json!({"type": "message", "from": "0".repeat(32), "room": "r", "payload": payload}));
        let refused = member.refused(json!({"type": "message", "to": "0".repeat(32), "payload": 1})).await;
        assert_eq!(refused["code"], "no-such-peer", "and nobody can answer it");
    }
}

#[tokio::test]
async fn a_message_that_is_none_is_refused_by_name() {
    let admin = Administered::with(|config| config.limits.nesting_max = 4);
    let mut member = RawClient::joined(&admin.server, JSON, "r").await;
    let path = "/v1/rooms/r/messages";
    let send = async |body: String, kind: &str| {
        let request = admin.request(Method::POST, path).header(header::CONTENT_TYPE, kind).body(body);
        within("an answer", request.send()).await.unwrap()
    };
    for body in [
        "",
        "{",
        "[]",
        "[1]",
        "[null]",
        "{}",
        r#"{"payload":1,"to":"x"}"#,
        r#"{"payload":1,"payload":2}"#,
        r#"{"payload":NaN}"#,
        "{\"payload\":1} x",
    ] {
        problem(send(body.into(), "application/json").await, 400, "bad-body").await;
    }
    problem(send(r#"{"payload":1}"#.into(), "text/plain").await, 415, "wrong-content-type").await;
    problem(send(r#"{"payload":[[[[[1]]]]]}"#.into(), "application/json").await, 400, "too-deep").await;
    let fits = |bytes: usize| json!({ "payload": "x".repeat(bytes) }).to_string();
    problem(send(fits(70_000), "application/json").await, 413, "too-large").await;
    problem(admin.post("/v1/rooms/nobody/messages", &json!({"payload": 1})).await, 404, "no-such-room").await;
    member.hears_nothing().await;
    assert_eq!(send(fits(65_000), "application/json; charset=utf-8").await.status(), 200);
    assert_eq!(member.hear().await["payload"].as_str().unwrap().len(), 65_000);
    // In pieces, whose length nobody has announced.
    let mut socket = TcpStream::connect(admin.server.admin_addresses()[0]).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n", admin.token);
    let head = format!("{head}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    // It is answered before all of it is there.
    let _ = socket.write_all((head + &chunk.repeat(5)).as_bytes()).await;
    let mut answer = [0; 12];
    within("an answer", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn who_publishes_is_told_of_a_peer_that_does_not_read() {
    let admin = Administered::with(|config| config.timeouts.slow_peer_ms = 0);
    let mut reads = RawClient::joined(&admin.server, JSON, "r").await;
    let _deaf = RawClient::joined(&admin.server, JSON, "r").await;
    let reading = tokio::spawn(async move {
        loop {
            if reads.hear().await["payload"] == "last" {
                return;
            }
        }
    });
    let body = json!({ "payload": "x".repeat(60_000) });
    eventually("one does not take it", async || {
        let answer: Value = admin.post("/v1/rooms/r/messages", &body).await.json().await.unwrap();
        assert!(answer["handed"].as_u64() >= Some(1), "{answer}");
        answer["untaken"] == 1
    })
    .await;
    admin.post("/v1/rooms/r/messages", &json!({"payload": "last"})).await;
    within("the other one hears all", reading).await.unwrap();
}

#[tokio::test]
async fn one_room_is_seen_live() {
    let admin = Administered::start();
    problem(admin.ask(Method::GET, "/v1/rooms/r/events").await, 404, "no-such-room").await;
    let mut first = RawClient::joined(&admin.server, JSON, "r").await;
    let mut events = admin.watch("r").await;
    let opening = events.expect("room").await;
    assert_eq!(
        (&opening["room"]["peers"], &opening["peers"], &opening["more"]),
        (&json!(1), &json!([{"peerId": first.peer_id}]), &json!(false))
    );
    let mut second = RawClient::welcomed(&admin.server, Door::WebTransport).await;
    second.done(json!({"type": "join", "room": "r", "metadata": {"name": "Emma\n\ndata: x"}})).await;
    let seen = json!({"peerId": second.peer_id, "metadata": {"name": "Emma\n\ndata: x"}});
    assert_eq!(events.expect("joined").await, json!({"peers": 2, "peer": seen}));
    second.done(json!({"type": "metadata", "room": "r", "metadata": 7})).await;
    assert_eq!(events.expect("updated").await, json!({"peers": 2, "peer": {"peerId": second.peer_id, "metadata": 7}}));
    first.done(json!({"type": "message", "payload": 1})).await;
    first.done(json!({"type": "message", "payload": 2, "to": second.peer_id})).await;
    first.done(json!({"type": "offer", "payload": 3, "to": second.peer_id})).await;
    admin.post("/v1/rooms/r/messages", &json!({"payload": 4})).await;
    let mut told = Value::Null;
    while told != json!({"counts": {"offer": 1, "answer": 0, "ice-candidate": 0, "message": 3}}) {
        told = events.expect("messages").await;
    }
    // Who watches from now on counts from now on.
    let mut late = admin.watch("r").await;
    assert_eq!(late.expect("room").await["room"]["peers"], 2);
    second.done(json!({"type": "leave"})).await;
    assert_eq!(events.expect("left").await, json!({"peers": 1, "peerId": second.peer_id, "reason": "left"}));
    assert_eq!(late.expect("left").await["peers"], 1);
    drop(late);
    first.done(json!({"type": "leave"})).await;
    assert_eq!(events.expect("left").await["peers"], 0);
    events.expect("closed").await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn who_watches_a_room_is_told_of_its_closing_and_of_a_shutdown() {
    let admin = Administered::start();
    let _member = RawClient::joined(&admin.server, JSON, "closed").await;
    let _other = RawClient::joined(&admin.server, JSON, "r").await;
    let (mut closed, mut shut) = (admin.watch("closed").await, admin.watch("r").await);
    closed.expect("room").await;
    shut.expect("room").await;
    admin.ask(Method::DELETE, "/v1/rooms/closed").await;
    closed.expect("closed").await;
    assert!(closed.next().await.is_none());
    admin.server.stop();
    shut.expect("shutdown").await;
    assert!(shut.next().await.is_none());
}

#[tokio::test]
async fn so_many_rooms_are_watched_at_a_time_and_a_place_is_given_back() {
    let admin = Administered::start();
    let _member = RawClient::joined(&admin.server, JSON, "r").await;
    let mut watched = Vec::new();
    for _ in 0..32 {
        watched.push(admin.watch("r").await);
    }
    problem(admin.ask(Method::GET, "/v1/rooms/r/events").await, 429, "too-many-streams").await;
    drop(watched);
    eventually("a place", async || admin.ask(Method::GET, "/v1/rooms/r/events").await.status() == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_watches_and_does_not_read_is_cut_off_and_harms_nobody() {
    const UPDATES: usize = 3000;
    let admin = Administered::start();
    let mut member = RawClient::joined(&admin.server, JSON, "r").await;
    let mut other = RawClient::joined(&admin.server, JSON, "r").await;
    member.hear().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&admin.server.admin_addresses()[0].into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut deaf = TcpStream::from_std(socket.into()).unwrap();
    let request = format!("GET /v1/rooms/r/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n", admin.token);
    deaf.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 15];
    within("its beginning", deaf.read_exact(&mut beginning)).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200 OK");
    let mut events = admin.watch("r").await;
    events.expect("room").await;
    let watching = tokio::spawn(async move {
        for n in 0..UPDATES {
            let (name, data) = events.next().await.expect("it is not cut off");
            assert_eq!((name.as_str(), &data["peer"]["metadata"][0]), ("updated", &json!(n)));
        }
    });
    let hearing = tokio::spawn(async move {
        for n in 0..UPDATES {
            assert_eq!(other.hear().await["metadata"][0], n);
        }
    });
    let filler = "x".repeat(4000);
    for n in 0..UPDATES {
        member.done(json!({"type": "metadata", "metadata": [n, filler]})).await;
    }
    within("all is heard", hearing).await.unwrap();
    within("all is seen", watching).await.unwrap();
    let mut got = Vec::new();
    // It was cut, and perhaps not gently.
    let _ = within("the end", deaf.read_to_end(&mut got)).await;
    assert!(got.len() < UPDATES * 4000, "{}", got.len());
}

#[tokio::test]
async fn a_drain_ends_the_server_as_a_signal_does() {
    let mut admin = Administered::start();
    let mut client = support::connect(&admin.server, JSON).await;
    let answer = admin.ask(Method::POST, "/v1/drain").await;
    assert_eq!((answer.status(), answer.json::<Value>().await.unwrap()), (StatusCode::ACCEPTED, json!({"clients": 1})));
    assert_eq!(support::goodbye(&mut client).await, CloseCode::Draining);
    within("the end", admin.server.wait()).await;
}

#[test]
fn a_drained_process_ends_well_and_a_signal_meanwhile_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let start = |settings: &[(&str, &str)]| {
        let mut command = switchboard(&directory);
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).envs(settings.iter().copied());
        support::process::ServerProcess::start(&mut command, &directory)
    };
    let drain = |log: &str| {
        let url = log.split("the administration is open").nth(1).and_then(|rest| rest.split("address=").nth(1)).unwrap();
        let url = format!("http://{}/v1/drain", url.split_whitespace().next().unwrap());
        let token = fs::read_to_string(directory.path().join("certs/admin-token")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asking = async { http().post(url).bearer_auth(token.trim()).send().await.unwrap().status() };
        assert_eq!(runtime.block_on(asking), 202);
    };
    let server = start(&[]);
    drain(&server.log());
    let (status, log) = server.end();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("shut down"), "{log}");

    let server = start(&[("SWITCHBOARD_TIMEOUTS_SHUTDOWN_GRACE_MS", "3600000"), ("SWITCHBOARD_TIMEOUTS_CLOSE_MS", "60000")]);
    use std::io::{Read as _, Write as _};
    let mut lingering = std::net::TcpStream::connect(server.authority()).unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    lingering.write_all(handshake.as_bytes()).unwrap();
    lingering.read_exact(&mut [0; 12]).unwrap();
    drain(&server.log());
    server.logs("shutting down");
    server.signal("-TERM");
    let (_, log) = server.end();
    assert!(log.contains("a second signal"), "{log}");
}

/// What a program logs, as far as the tests look at it.
#[derive(Default)]
struct Log(Mutex<String>);

impl LogLevel for Log {
    fn filter(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        *self.0.lock().unwrap() = filter.into();
        Ok(())
    }
}

#[tokio::test]
async fn what_is_logged_may_be_changed_where_the_program_lets_it() {
    let log = Arc::new(Log(Mutex::new("info".into())));
    let admin = Administered::in_program(|_| {}, Program { log: Some(log.clone()), ..Program::default() });
    assert_eq!(admin.get("/v1/log-level").await, json!({"filter": "info"}));
    let put = async |body: Value| within("an answer", admin.request(Method::PUT, "/v1/log-level").json(&body).send()).await.unwrap();
    let answer = put(json!({"filter": "warn,switchboard=debug"})).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"filter": "warn,switchboard=debug"}));
    for filter in ["", "loud", "=x=", "info,loud"] {
        let problem = problem(put(json!({ "filter": filter })).await, 400, "bad-filter").await;
        assert!(problem["detail"].as_str().unwrap().contains("is not a log filter"), "{problem}");
    }
    problem(put(json!({"level": "info"})).await, 400, "bad-body").await;
    problem(put(json!(["debug"])).await, 400, "bad-body").await;
    problem(put(json!({"filter": 7})).await, 400, "bad-body").await;
    assert_eq!(log.filter(), "warn,switchboard=debug");
    let without = Administered::start();
    problem(without.ask(Method::GET, "/v1/log-level").await, 404, "not-available").await;
}

#[tokio::test]
async fn the_settings_in_force_are_told_without_what_is_secret() {
    let sources = Sources::new().environment(|name| (name == "SWITCHBOARD_PEERJS_KEY").then(|| "hush".into()));
    let (config, origins) = sources.flag("rates", Some("off")).finish_with_origins().unwrap();
    let admin = Administered::in_program(|_| {}, Program { settings: config.in_force(&origins), log: None });
    let answer = admin.get("/v1/config").await;
    let settings = answer["settings"].as_array().unwrap();
    let find = |name: &str| settings.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(find("limits.rooms_max"), &json!({"name": "limits.rooms_max", "value": 100_000}));
    assert_eq!(find("rates"), &json!({"name": "rates", "value": "off", "from": "--rates"}));
    assert_eq!(find("peerjs.key"), &json!({"name": "peerjs.key", "value": null, "from": "SWITCHBOARD_PEERJS_KEY", "hidden": true}));
    assert!(!answer.to_string().contains("hush") && !answer.to_string().contains(&admin.token));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let admin = Administered::start();
    let _member = RawClient::joined(&admin.server, JSON, "r").await;
    for (path, parameter) in [
        ("/v1/rooms?limit=0", "limit"),
        ("/v1/rooms?limit=1001", "limit"),
        ("/v1/rooms?limit=+1", "limit"),
        ("/v1/rooms?limit=", "limit"),
        ("/v1/rooms?limit=99999999999999999999", "limit"),
        ("/v1/rooms?limit=1&limit=1", "limit"),
        ("/v1/rooms?after=", "after"),
        ("/v1/rooms?dialect=klingon", "dialect"),
        ("/v1/peers?after=x", "after"),
        ("/v1/rooms/r?after=x", "after"),
        ("/v1/rooms/r/events?limit=x", "limit"),
    ] {
        assert_eq!(problem(admin.ask(Method::GET, path).await, 400, "bad-parameter").await["parameter"], parameter, "{path}");
    }
    for path in [
        "/v1/rooms?page=2",
        "/v1/peers?dialect=native",
        "/metrics?x",
        "/v1/config?x=1",
        "/v1/rooms/r?dialect=native",
        "/v1/rooms/r/events?after=x",
    ] {
        problem(admin.ask(Method::GET, path).await, 400, "unknown-parameter").await;
    }
    let unknown = problem(admin.ask(Method::GET, "/v1/rooms?Limit=1").await, 400, "unknown-parameter").await;
    assert_eq!(unknown["parameter"], "Limit");
    assert!(unknown["detail"].as_str().unwrap().contains("limit, after, dialect"));
    for (method, path, allowed) in [
        (Method::POST, "/v1/rooms", "GET, HEAD"),
        (Method::PUT, "/v1/rooms/r", "GET, HEAD, DELETE"),
        (Method::GET, "/v1/drain", "POST"),
        (Method::DELETE, "/v1/rooms/r/events", "GET"),
        (Method::OPTIONS, "/v1/peers", "GET, HEAD"),
        (Method::POST, "/", "GET, HEAD"),
        (Method::DELETE, "/healthz", "GET, HEAD"),
        (Method::PATCH, "/v1/log-level", "GET, HEAD, PUT"),
    ] {
        let answer = admin.ask(method.clone(), path).await;
        assert_eq!(answer.headers()[header::ALLOW], allowed, "{method} {path}");
        problem(answer, 405, "method-not-allowed").await;
    }
    for path in ["/v1", "/v1/", "/v2/rooms", "/v1/rooms/r/", "/v1/rooms/r/peers", "/v1/rooms/r/events/x", "/metrics/x", "/v1/peers/x/y"] {
        problem(admin.ask(Method::GET, path).await, 404, "no-such-path").await;
    }
    let head = admin.ask(Method::HEAD, "/v1/rooms").await;
    assert_eq!((head.status(), head.text().await.unwrap().len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn the_page_and_the_description_are_there_for_everybody_and_say_nothing_of_the_server() {
    let admin = Administered::start();
    let ask = async |path: &str| within("an answer", admin.http.get(format!("{}{path}", admin.url)).send()).await.unwrap();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/admin/main.js", "text/javascript; charset=utf-8"),
        ("/pages/dom.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/openapi.json", "application/json"),
        ("/healthz", "text/plain; charset=utf-8"),
    ] {
        let answer = ask(path).await;
        assert_eq!((answer.status().as_u16(), answer.headers()[header::CONTENT_TYPE].to_str().unwrap()), (200, kind), "{path}");
        assert_eq!(
            (&answer.headers()[header::CACHE_CONTROL], &answer.headers()[header::X_CONTENT_TYPE_OPTIONS]),
            (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
        );
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(!answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!answer.text().await.unwrap().contains(&admin.token));
    }
    let description: Value = ask("/openapi.json").await.json().await.unwrap();
    assert_eq!((&description["openapi"], &description["info"]["version"]), (&json!("3.1.0"), &json!(env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let admin = Administered::with(|config| config.timeouts.hello_ms = 200);
    let _member = RawClient::joined(&admin.server, JSON, "r").await;
    for request in [
        format!(
            "POST /v1/rooms/r/messages HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
            admin.token
        ),
        "GET /v1/rooms HTTP/1.1\r\nhost: localhost\r\n".into(),
    ] {
        let mut socket = TcpStream::connect(admin.server.admin_addresses()[0]).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        within("an answer", socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
        within("the end of the connection", socket.read_to_end(&mut Vec::new())).await.unwrap();
    }
}

#[tokio::test]
async fn metrics_are_text_as_prometheus_reads_it() {
    let admin = Administered::start();
    let answer = admin.ask(Method::GET, "/metrics").await;
    assert_eq!(
        (answer.status(), &answer.headers()[header::CONTENT_TYPE]),
        (StatusCode::OK, &"text/plain; version=0.0.4; charset=utf-8".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("# ") && text.contains("\nswitchboard_rooms "), "{text}");
}

#[tokio::test]
async fn a_token_file_that_is_none_and_an_address_that_is_taken_keep_it_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = |address: String, token_file: &std::path::Path| {
        let mut config = Config { cert_dir: directory.path().to_owned(), ..Config::default() };
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.admin_listen = Some(address.parse().unwrap());
        config.admin.token_file = token_file.to_owned();
        switchboard::Server::start(config).err().unwrap().to_string()
    };
    let empty = directory.path().join("empty");
    fs::write(&empty, "").unwrap();
    let refused = start("127.0.0.1:0".into(), &empty);
    assert!(refused.starts_with(&format!("admin.token_file: {} holds no token", empty.display())), "{refused}");
    let address = taken.local_addr().unwrap().to_string();
    let refused = start(address.clone(), &directory.path().join("token"));
    assert!(refused.starts_with(&format!("admin_listen: TCP {address} cannot be listened on")), "{refused}");
}

/// What is asked of a server with many rooms is asked between its other work, and in pieces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_joins_while_lists_are_asked_for_again_and_again() {
    let admin = Administered::with(|config| config.limits.rooms_per_client_max = 1000);
    let mut many = RawClient::welcomed(&admin.server, JSON).await;
    for n in 0..1000 {
        many.done(json!({"type": "join", "room": format!("{n}")})).await;
    }
    let asking = async {
        for _ in 0..20 {
            assert_eq!(admin.get("/v1/rooms?limit=1000").await["rooms"].as_array().unwrap().len(), 1000);
        }
    };
    let mut client = RawClient::welcomed(&admin.server, JSON).await;
    let joining = async {
        for _ in 0..100 {
            client.done(json!({"type": "join", "room": "7"})).await;
            client.done(json!({"type": "leave", "room": "7"})).await;
        }
    };
    tokio::join!(asking, joining);
}

#[tokio::test]
async fn who_guesses_waits_longer_and_longer_and_nobody_else_does() {
    let admin = Administered::with(|config| {
        config.limits.address_failures_max = 1;
        config.timeouts.failure_delay_ms = 600_000;
    });
    let wrong = || admin.http.get(format!("{}/v1/rooms", admin.url)).bearer_auth("a-token-of-somebody-else").send();
    // All at once, so that none waits for another.
    let answers = within("answers", futures_util::future::join_all((0..20).map(|_| wrong()))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 401)));
    let guessing = admin.request(Method::GET, "/v1/rooms").send();
    let elsewhere = reqwest::Client::builder().local_address(Some([127, 0, 0, 2].into())).build().unwrap();
    let other = elsewhere.get(format!("{}/v1/rooms", admin.url)).bearer_auth(&admin.token).send();
    tokio::pin!(guessing, other);
    // What needs no token waits for nobody.
    let health = within("an answer", admin.http.get(format!("{}/healthz", admin.url)).send()).await.unwrap();
    assert_eq!(health.status(), 200);
    tokio::select! {
        biased;
        first = &mut guessing => panic!("it did not wait: {first:?}"),
        answer = &mut other => assert_eq!(answer.unwrap().status(), 200),
    }
}

/// As many as there may be connections waited with their wrong tokens, and kept everybody else out meanwhile.
#[tokio::test]
async fn wrong_tokens_that_wait_leave_places_for_who_has_guessed_nothing() {
    let admin = Administered::with(|config| {
        config.limits.address_failures_max = 1;
        config.timeouts.failure_delay_ms = 600_000;
    });
    let url = format!("{}/v1/rooms", admin.url);
    let wrong = || admin.http.get(&url).bearer_auth("a-token-of-somebody-else").send();
    within("answers", futures_util::future::join_all((0..20).map(|_| wrong()))).await;
    // Half of all places; whoever comes then is told to come again, and not what its token is worth.
    let mut guessing: futures_util::stream::FuturesUnordered<_> = (0..128).map(|_| wrong()).collect();
    for number in 0..64 {
        let answer = within(&format!("refusal {number}"), guessing.next()).await.unwrap().unwrap();
        assert!(answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() > 1);
        problem(answer, 429, "too-many-attempts").await;
    }
    problem(admin.ask(Method::GET, "/v1/rooms").await, 429, "too-many-attempts").await;
    let elsewhere = reqwest::Client::builder().local_address(Some([127, 0, 0, 2].into())).build().unwrap();
    let other = within("an answer", elsewhere.get(&url).bearer_auth(&admin.token).send()).await.unwrap();
    assert_eq!(other.status(), 200);
    assert_eq!(guessing.len(), 64);
}

/// What `switchboard admin` says, and its exit status.
fn console(url: &str, directory: &tempfile::TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = switchboard(directory);
    let output = command.args(["admin", "--url", url, "--token-file", "admin-token"]).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_terminal_it_is_tables_for_people_and_json_for_scripts() {
    let admin = Administered::in_program(|_| {}, Program { log: Some(Arc::new(Log(Mutex::new("info".into())))), ..Program::default() });
    let ask = |arguments: &[&str]| {
        let (status, out, error) = console(&admin.url, &admin.server.directory, arguments);
        assert_eq!((status, error.as_str()), (Some(0), ""), "{arguments:?}: {out}");
        out
    };
    assert_eq!(ask(&["rooms"]), "there are no rooms\n");
    let mut client = RawClient::welcomed(&admin.server, JSON).await;
    client.done(json!({"type": "join", "room": "a/b\u{202e}", "metadata": "\u{9b}x"})).await;
    client.done(json!({"type": "join", "room": "kitchen"})).await;
    assert_eq!(
        ask(&["rooms"]),
        "ROOM         DIALECT  PEERS  METADATA\na/b\\u{202e}  shared       1         5\nkitchen      shared       1         0\n"
    );
    assert!(ask(&["rooms", "--limit", "1"]).ends_with("… and more than these 1: --limit\n"));
    let listed: Value = serde_json::from_str(&ask(&["rooms", "--json", "--dialect", "shared"])).unwrap();
    assert_eq!((&listed["rooms"][1]["id"], &listed["more"]), (&json!("kitchen"), &json!(false)));
    let peers = ask(&["peers"]);
    assert!(peers.starts_with("PEER ") && peers.contains(&client.peer_id) && peers.contains("127.0.0.1"), "{peers}");
    let room = ask(&["room", "a/b\u{202e}"]);
    assert!(room.contains(&client.peer_id) && !room.contains(|char: char| char.is_control() && char != '\n'), "{room}");
    assert_eq!(ask(&["publish", "kitchen", r#"{"n": 1}"#]), "handed to 1\n");
    assert_eq!(client.hear().await["payload"], json!({"n": 1}));
    assert_eq!(ask(&["close", "kitchen"]), "kitchen is closed, 1 were there\n");
    assert_eq!(client.hear().await["reason"], "removed");
    assert_eq!((ask(&["log-level"]), ask(&["log-level", "debug"])), ("info\n".into(), "debug is logged from now on\n".into()));
    assert!(ask(&["metrics"]).contains("switchboard_rooms"));
    assert!(ask(&["kick", &client.peer_id]).contains("is being closed"));
    assert_eq!(client.hear().await["code"], "removed");
    assert!(ask(&["drain", "--json"]).starts_with(r#"{"clients":"#));
}

#[test]
fn from_a_terminal_what_is_wrong_is_said_in_words() {
    let admin = Administered::start();
    let directory = &admin.server.directory;
    let refused = |url: &str, arguments: &[&str]| {
        let (status, out, error) = console(url, directory, arguments);
        assert_eq!((status, out.as_str()), (Some(1), ""), "{arguments:?}");
        error
    };
    assert!(refused(&admin.url, &["room", "nobody"]).contains("(no-such-room)"));
    assert!(refused(&admin.url, &["kick", "x"]).contains("(no-such-peer)"));
    assert!(refused(&admin.url, &["close", ".."]).contains("(no-such-room)"));
    assert!(refused(&admin.url, &["rooms", "--dialect", "klingon"]).contains("(bad-parameter)"));
    assert!(refused(&admin.url, &["publish", "r", "{"]).contains("is no JSON"));
    assert!(refused(&admin.url, &["log-level"]).contains("(not-available)"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(refused(&format!("http://{free}"), &["rooms"]).starts_with(&format!("no server answers at http://{free}/")));
    assert!(refused(admin.server.base(), &["rooms"]).contains("is it the administration"));
    assert!(refused("localhost:9090", &["rooms"]).starts_with("--url: "));
    fs::write(directory.path().join("admin-token"), "another-token-than-before").unwrap();
    assert!(refused(&admin.url, &["rooms"]).starts_with("admin-token does not hold the token of the server"));
    fs::remove_file(directory.path().join("admin-token")).unwrap();
    assert!(refused(&admin.url, &["rooms"]).starts_with("admin-token cannot be read: "));
}
