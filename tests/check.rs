//! `switchboard check`: what works is told so, and what is broken is found, named, and the way out with it.

mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, Username, XorMappedAddress},
    message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
    },
};
use support::{TestServer, authority::Authority, guest_list::GuestList, process::switchboard, within};
use switchboard::{Config, config::OriginRule, ice::rest};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use turn_types::{
    attribute::XorRelayedAddress,
    message::{ALLOCATE, CREATE_PERMISSION},
};

/// What it says, and whether it is content.
async fn check(arguments: &[&str]) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = switchboard(&directory);
    command.arg("check").args(arguments).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = within("an answer", output).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

fn finding<'a>(said: &'a Value, check: &str) -> &'a Value {
    said["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{check}: {said}"))
}

fn outcomes(said: &Value) -> Vec<(&str, &str)> {
    let findings = said["findings"].as_array().unwrap();
    findings.iter().map(|finding| (finding["check"].as_str().unwrap(), finding["outcome"].as_str().unwrap())).collect()
}

/// Exactly this fails, in these words, and this is what to do.
fn fails(said: &(Option<i32>, Value), check: &str, detail: &str, advice: &str) {
    let (status, said) = said;
    assert_eq!((status, &said["outcome"]), (&Some(1), &Value::from("failed")), "{said}");
    let failed: Vec<_> = outcomes(said).into_iter().filter(|(_, outcome)| *outcome == "failed").map(|(check, _)| check).collect();
    assert_eq!(failed, [check], "{said}");
    let found = finding(said, check);
    assert!(found["detail"].as_str().unwrap().contains(detail), "{found}");
    assert!(found["advice"].as_str().unwrap().contains(advice), "{found}");
}

/// A server behind TLS.
fn with_tls(authority: &Authority, names: &[&str], change: impl FnOnce(&mut rcgen::CertificateParams)) -> (TestServer, String) {
    let root = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(&authority.root));
    let server = TestServer::with(|config| {
        authority.sign_with(&config.cert_dir, names, change);
        (config.tls_cert, config.tls_key) = (Some(config.cert_dir.join("chain.pem")), Some(config.cert_dir.join("key.pem")));
    });
    let ca = server.directory.path().join("ca.pem");
    fs::write(&ca, root).unwrap();
    (server, ca.to_str().unwrap().to_owned())
}

/// After a head with this line nothing more is passed on in its direction.
const STALLED: &str = "\r\nx-stalled: yes\r\n";

/// A proxy for TCP alone that may change the heads of requests and of answers. Its URL; it ends when dropped.
async fn proxy(server: &TestServer, change: fn(String) -> String) -> (String, JoinSet<()>) {
    let (listener, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), server.addresses()[0]);
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut passing = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            passing.spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::join!(pass(from_client, to_server, change), pass(from_server, to_client, change));
            });
        }
    });
    (url, tasks)
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, change: fn(String) -> String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = change(String::from_utf8(head).unwrap());
    if to.write_all(head.as_bytes()).await.is_ok() {
        if head.contains(STALLED) {
            std::future::pending::<()>().await;
        }
        // The end of either side is the end of the test.
        let _ = copy(&mut from, &mut to).await;
    }
    let _ = to.shutdown().await;
}

const ALL: [&str; 7] = ["discovery", "clock", "websocket", "webtransport", "origin", "forward", "resume"];

fn serves(config: &mut Config) {
    config.timeouts.resume_window_ms = 10_000;
}

#[tokio::test]
async fn what_works_is_told_so() {
    let server = TestServer::with(serves);
    let (status, said) = check(&[server.base()]).await;
    assert_eq!((status, &said["outcome"]), (Some(0), &Value::from("ok")), "{said}");
    let expected: Vec<_> = ALL.map(|check| (check, "ok")).into_iter().chain([("turn", "skipped")]).collect();
    assert_eq!(outcomes(&said), expected, "{said}");

    let authority = Authority::new();
    let (server, ca) = with_tls(&authority, &["127.0.0.1"], |_| {});
    let (_, said) = check(&[server.base(), "--ca", &ca]).await;
    assert_eq!(finding(&said, "certificate")["outcome"], "ok", "{said}");
    assert_eq!(finding(&said, "webtransport")["outcome"], "ok", "{said}");
    let resume = finding(&said, "resume");
    assert_eq!((&resume["outcome"], said["outcome"] == "failed"), (&Value::from("skipped"), false), "nobody may come back there: {said}");
    assert_eq!(resume["detail"], "sessions end with their connections here");
}

#[tokio::test]
async fn a_certificate_that_browsers_refuse_is_explained() {
    let authority = Authority::new();
    let (server, ca) = with_tls(&authority, &["example.org"], |_| {});
    fails(&check(&[server.base(), "--ca", &ca]).await, "certificate", "of example.org", "issued for 127.0.0.1");
    let nobody = check(&[server.base()]).await;
    fails(&nobody, "certificate", "nobody whom this machine trusts", "--ca FILE");
    assert_eq!(finding(&nobody.1, "websocket")["outcome"], "skipped");

    let (server, ca) = with_tls(&authority, &["127.0.0.1"], |params| params.not_after = rcgen::date_time_ymd(2020, 2, 2));
    fails(&check(&[server.base(), "--ca", &ca]).await, "certificate", "has run out on Feb  2", "renew it");

    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(3 * 24 * 3600);
    let (server, ca) = with_tls(&authority, &["127.0.0.1"], |params| params.not_after = soon);
    let (_, said) = check(&[server.base(), "--ca", &ca]).await;
    assert_eq!(finding(&said, "certificate")["outcome"], "warning", "{said}");
}

#[tokio::test]
async fn where_udp_does_not_pass_it_is_told_where_quic_is() {
    let server = TestServer::with(serves);
    let (url, _tasks) = proxy(&server, |head| head).await;
    fails(&check(&[&url, "--timeout", "2"]).await, "webtransport", "took longer", "nobody listens on UDP port");
    let port = server.addresses()[0].port().to_string();
    let elsewhere = check(&[&url, "--timeout", "2", "--quic-port", &port]).await;
    fails(&elsewhere, "webtransport", "took longer", &format!("QUIC is spoken on UDP port {port}, but pages are sent to"));
    assert_eq!(finding(&elsewhere.1, "forward")["outcome"], "ok", "by WebSocket alone");
}

#[tokio::test]
async fn a_proxy_without_the_upgrade_is_found() {
    let server = TestServer::with(serves);
    let without = |head: String| head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("upgrade:")).collect();
    let (url, _tasks) = proxy(&server, without).await;
    let (status, said) = check(&[&url]).await;
    assert_eq!(status, Some(1));
    let found = finding(&said, "websocket");
    assert!(found["advice"].as_str().unwrap().contains("does not pass the upgrade on"), "{found}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_found() {
    let server = TestServer::with(serves);
    let wrong = |head: String| match head.find("\r\ndate: ") {
        Some(at) => {
            let end = at + 8 + head[at + 8..].find("\r\n").unwrap();
            let date = httpdate::parse_http_date(&head[at + 8..end]).unwrap() - Duration::from_secs(3600);
            format!("{}{}{}", &head[..at + 8], httpdate::fmt_http_date(date), &head[end..])
        }
        None => head,
    };
    let (url, _tasks) = proxy(&server, wrong).await;
    let (_, said) = check(&[&url]).await;
    let found = finding(&said, "clock");
    assert_eq!(found["outcome"], "failed", "{said}");
    let detail = found["detail"].as_str().unwrap();
    let seconds: u64 = detail.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!((3590..=3610).contains(&seconds) && detail.contains("behind"), "{detail}");
}

#[tokio::test]
async fn pages_that_may_not_come_in_are_told_of() {
    let server = TestServer::with(|config| {
        serves(config);
        config.origins = vec![OriginRule::SameHost, "https://app.example.org".parse().unwrap()];
    });
    let (status, said) = check(&[server.base(), "--origin", "https://app.example.org"]).await;
    assert_eq!(status, Some(0), "{said}");
    let other = check(&[server.base(), "--origin", "https://other.example.org"]).await;
    fails(&other, "origin", "pages of https://other.example.org may not", "name it in the setting origins");
}

#[tokio::test]
async fn who_has_no_token_is_told_that_one_is_needed() {
    let guests = GuestList::default();
    let server = TestServer::asking(Some(Arc::new(guests)), serves);
    let (status, said) = check(&[server.base()]).await;
    assert_eq!(status, Some(1));
    let found = finding(&said, "websocket");
    assert!(found["advice"].as_str().unwrap().contains("--token"), "{found}");
    assert_eq!(finding(&said, "forward")["outcome"], "skipped");
}

/// A server with a TURN server inside that relays on this machine too.
fn with_turn(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        serves(config);
        config.turn.enabled = true;
        config.turn.listen = Some("127.0.0.1:0".parse().unwrap());
        config.turn.allow = vec!["127.0.0.1/32".parse().unwrap()];
        change(config);
    })
}

/// A server that names a TURN server elsewhere, which should share this secret with it.
fn naming(turn: SocketAddr, secret: &str) -> TestServer {
    TestServer::with(|config| {
        serves(config);
        let file = config.cert_dir.join("turn-secret");
        fs::write(&file, secret).unwrap();
        config.ice.turn_urls = vec![format!("turn:{turn}").parse().unwrap()];
        config.ice.turn_secret_files = vec![file];
    })
}

#[tokio::test]
async fn turn_servers_are_used_as_clients_would() {
    let relaying = with_turn(|_| {});
    let (status, said) = check(&[relaying.base()]).await;
    assert_eq!(status, Some(0), "{said}");
    let turned: Vec<_> = said["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "turn").collect();
    assert_eq!(turned.len(), 2, "by UDP and by TCP: {said}");
    assert!(turned.iter().all(|finding| finding["detail"].as_str().unwrap().ends_with(", there and back")), "{said}");

    let stranger = naming(relaying.turn_addresses().clear[0], "another secret than theirs, and as long");
    fails(&check(&[stranger.base()]).await, "turn", "refused with 401", "do both know the same secret");

    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = naming(free, "a secret that nobody is asked for");
    fails(&check(&[closed.base(), "--timeout", "3"]).await, "turn", &free.to_string(), "nobody listens");

    let misnamed = with_turn(|config| {
        config.turn.allow = vec!["0.0.0.0/0".parse().unwrap()];
        config.turn.external_ip = vec!["127.0.0.77".parse().unwrap()];
    });
    let (status, said) = check(&[misnamed.base(), "--timeout", "5"]).await;
    let found = finding(&said, "turn");
    assert_eq!((status, &found["outcome"]), (Some(1), &Value::from("failed")), "{said}");
    assert!(found["detail"].as_str().unwrap().contains("turn:127.0.0.77:"), "{found}");
    let advice = found["advice"].as_str().unwrap();
    assert!(advice.contains("told of 127.0.0.77") && advice.contains("turn.external_ip = [\"127.0.0.1\"]"), "{found}");
}

#[tokio::test]
async fn what_is_quiet_is_told_with_its_heartbeat() {
    let server = TestServer::with(|config| {
        serves(config);
        config.timeouts.heartbeat_ms = 500;
    });
    let (status, said) = check(&[server.base(), "--long"]).await;
    assert_eq!(status, Some(0), "{said}");
    let detail = finding(&said, "idle")["detail"].as_str().unwrap();
    assert!(detail.ends_with(": nothing but a heartbeat every 0.5 s for 1.5 s, and still there"), "{detail}");
}

/// Everything that was not granted to a page was once laid to the setting, be it a proxy that loses the way.
#[tokio::test]
async fn what_keeps_pages_out_beside_the_setting_is_not_laid_to_it() {
    let server = TestServer::with(serves);
    let astray = |head: String| match head.to_ascii_lowercase().contains("\r\norigin: ") {
        true => head.replace("GET /ws ", "GET /nowhere "),
        false => head,
    };
    let (url, _tasks) = proxy(&server, astray).await;
    let (_, said) = check(&[&url, "--timeout", "2"]).await;
    let found = finding(&said, "origin");
    assert_eq!(found["outcome"], "failed", "{said}");
    assert!(found["detail"].as_str().unwrap().contains("status 404"), "{found}");
    assert!(!found["advice"].as_str().unwrap().contains("setting origins"), "{found}");
}

/// WebSockets that go through before one says nothing more: the doors take 1, the origin 1, forwarding 2, and resuming 3.
const BEFORE_ICE: usize = 7;

/// The check once waited without end for a welcome.
#[tokio::test]
async fn a_server_that_stalls_does_not_hold_the_check_up() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let server = TestServer::with(serves);
    let stalling = |head: String| match head.starts_with("GET /ws ") && ASKED.fetch_add(1, Ordering::Relaxed) >= BEFORE_ICE {
        true => head.replacen("\r\n", STALLED, 1),
        false => head,
    };
    let (url, _tasks) = proxy(&server, stalling).await;
    let (_, said) = check(&[&url, "--timeout", "1", "--long"]).await;
    for check in ["turn", "idle"] {
        let found = finding(&said, check);
        assert_eq!(found["outcome"], "failed", "{said}");
        assert!(found["detail"].as_str().unwrap().contains("nothing comes back within 1 s"), "{found}");
    }
}

/// However many a server names, the check comes to its end.
#[tokio::test]
async fn more_urls_than_anybody_needs_are_told_of_and_not_looked_at() {
    let server = TestServer::with(|config| {
        serves(config);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.ice.servers = serde_json::from_value(vec![Value::from(format!("stun:{free}")); 17].into()).unwrap();
    });
    let (_, said) = check(&[server.base()]).await;
    let found = outcomes(&said);
    assert_eq!(found.iter().filter(|(check, _)| *check == "stun").count(), 16, "{said}");
    assert_eq!(finding(&said, "turn")["outcome"], "warning", "{said}");
    assert!(finding(&said, "turn")["detail"].as_str().unwrap().contains("told of 17 URLs"), "{said}");
}

const SECRET: &str = "a secret that both know, and long enough";

/// What a stand-in for a TURN server says, which takes all who know [`SECRET`] and relays nothing.
#[derive(Clone, Copy)]
struct StandIn {
    relayed: SocketAddr,
    mapped: Option<SocketAddr>,
    refuses: Option<(Method, u16)>,
}

impl StandIn {
    /// Where it listens, until the tasks are dropped.
    async fn listen(self) -> (SocketAddr, JoinSet<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut bytes = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut bytes).await {
                let message = Message::from_bytes(&bytes[..length]).unwrap();
                if message.class() == MessageClass::Request {
                    socket.send_to(&self.answer(&message, client), client).await.unwrap();
                }
            }
        });
        (address, tasks)
    }

    fn answer(self, request: &Message<'_>, client: SocketAddr) -> Vec<u8> {
        let mut refusal = Message::builder_error(request, MessageWriteVec::new());
        let Ok(username) = request.attribute::<Username>() else {
            refusal.add_attribute(&ErrorCode::new(401, "").unwrap()).unwrap();
            refusal.add_attribute(&Realm::new("here").unwrap()).unwrap();
            refusal.add_attribute(&Nonce::new("once").unwrap()).unwrap();
            return refusal.finish();
        };
        if let Some((_, code)) = self.refuses.filter(|(method, _)| request.has_method(*method)) {
            refusal.add_attribute(&ErrorCode::new(code, "").unwrap()).unwrap();
            return refusal.finish();
        }
        let mut answer = Message::builder_success(request, MessageWriteVec::new());
        if request.has_method(ALLOCATE) {
            let transaction = request.transaction_id();
            answer.add_attribute(&XorRelayedAddress::new(self.relayed, transaction)).unwrap();
            answer.add_attribute(&XorMappedAddress::new(self.mapped.unwrap_or(client), transaction)).unwrap();
        }
        let username = username.username().to_owned();
        let password = rest::password(SECRET.as_bytes(), &username);
        let key = LongTermKeyCredentials::new(username, password, "here".to_owned()).make_key(IntegrityAlgorithm::Sha1);
        answer.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
        answer.finish()
    }
}

#[tokio::test]
async fn a_turn_server_that_is_reached_by_ipv6_relays_by_it() {
    let server = with_turn(|config| {
        config.turn.listen = Some("[::1]:0".parse().unwrap());
        config.turn.allow = vec!["::1/128".parse().unwrap()];
    });
    let (status, said) = check(&[server.base()]).await;
    assert_eq!(status, Some(0), "{said}");
    let detail = finding(&said, "turn")["detail"].as_str().unwrap();
    assert!(detail.contains("relays at [::1]:") && detail.ends_with(", there and back"), "{detail}");
}

/// A packet has a time of its own within the step, or its loss would look like a port that is closed.
#[tokio::test]
async fn a_relay_that_nobody_reaches_is_told_of_within_a_short_time_too() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relayed = silent.local_addr().unwrap();
    let (turn, _tasks) = StandIn { relayed, mapped: None, refuses: None }.listen().await;
    let detail = format!("it has a relay at {relayed}, but a packet sent there does not come through");
    let server = naming(turn, SECRET);
    fails(&check(&[server.base(), "--timeout", "2"]).await, "turn", &detail, "turn.external_ip; coturn: external-ip");
}

/// To refuse its clients is right for a server on an inner network alone.
#[tokio::test]
async fn a_relay_that_refuses_what_is_public_is_told_of() {
    let relayed = "192.0.2.1:50000".parse().unwrap();
    let refuses = Some((CREATE_PERMISSION, 403));
    let (turn, _tasks) = StandIn { relayed, mapped: Some("8.8.8.8:1000".parse().unwrap()), refuses }.listen().await;
    let server = naming(turn, SECRET);
    fails(&check(&[server.base()]).await, "turn", "it does not relay to 8.8.8.8", "turn.deny; coturn: denied-peer-ip");

    for mapped in [None, Some("192.0.2.1:1000".parse().unwrap())] {
        let (turn, _tasks) = StandIn { relayed, mapped, refuses }.listen().await;
        let server = naming(turn, SECRET);
        let (status, said) = check(&[server.base()]).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(finding(&said, "turn")["detail"].as_str().unwrap().ends_with("so no packet was sent through"), "{said}");
    }
}

/// As anybody has one who tries it out: it relays to the public internet alone, on which this machine is not.
#[tokio::test]
async fn a_turn_server_on_an_inner_network_is_asked_to_relay_to_itself() {
    let server = with_turn(|config| config.turn.allow = vec![]);
    let (status, said) = check(&[server.base()]).await;
    assert_eq!(status, Some(0), "{said}");
    let detail = finding(&said, "turn")["detail"].as_str().unwrap();
    assert!(detail.contains("relays at 127.0.0.1:") && detail.ends_with("to another relay of its own and back"), "{detail}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_to_ask_without() {
    let server = TestServer::with(serves);
    let url = server.base().replace("http:", "https:");
    fails(&check(&[&url]).await, "certificate", "corrupt message", &format!("is it {}", server.base().trim_end_matches('/')));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&check(&[&format!("https://{free}")]).await, "certificate", "refused", "nobody listens there");
}

#[tokio::test]
async fn what_the_log_of_a_turn_server_tells_is_said_with_its_level() {
    let refuses = Some((ALLOCATE, 400));
    let (turn, _tasks) = StandIn { relayed: "192.0.2.1:50000".parse().unwrap(), mapped: None, refuses }.listen().await;
    let server = naming(turn, SECRET);
    fails(&check(&[server.base()]).await, "turn", "refused with 400", "--log debug");
}

#[cfg(feature = "webrtc")]
fn outcomes_of<'a>(said: &'a Value, check: &str) -> Vec<&'a str> {
    outcomes(said).into_iter().filter(|(name, _)| *name == check).map(|(_, outcome)| outcome).collect()
}

#[cfg(feature = "webrtc")]
#[tokio::test]
async fn in_a_room_for_relays_alone_there_is_no_call_without_one() {
    let of_relays = with_turn(|config| config.ice.relay_only_rooms = vec!["shelter".into()]);
    let (status, said) = check(&[of_relays.base(), "--webrtc", "--room", "shelter"]).await;
    assert_eq!((status, outcomes_of(&said, "webrtc")), (Some(0), vec!["ok"]), "{said}");
    let without = TestServer::with(|config| {
        serves(config);
        config.ice.relay_only_rooms = vec!["shelter".into()];
    });
    let said = check(&[without.base(), "--webrtc", "--room", "shelter"]).await;
    fails(&said, "webrtc", "room \"shelter\" is for relays alone", "--turn");
}

#[cfg(feature = "webrtc")]
#[tokio::test]
async fn calls_are_held_by_any_way_and_by_each_relay() {
    let relaying = with_turn(|_| {});
    let (status, said) = check(&[relaying.base(), "--webrtc"]).await;
    assert_eq!((status, &said["outcome"]), (Some(0), &Value::from("ok")), "{said}");
    assert_eq!(outcomes_of(&said, "webrtc"), ["ok"], "{said}");
    assert_eq!(outcomes_of(&said, "webrtc-relay"), ["ok", "ok"], "by UDP and by TCP: {said}");
    let detail = finding(&said, "webrtc-relay")["detail"].as_str().unwrap();
    assert!(detail.contains("transport=udp: answer after") && detail.contains("65536 bytes there and back after"), "{detail}");

    let without = TestServer::with(serves);
    let (status, said) = check(&[without.base(), "--webrtc"]).await;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!((outcomes_of(&said, "webrtc"), outcomes_of(&said, "webrtc-relay")), (vec!["ok"], vec!["skipped"]), "{said}");

    let misnamed = with_turn(|config| {
        config.turn.allow = vec!["0.0.0.0/0".parse().unwrap()];
        config.turn.external_ip = vec!["127.0.0.77".parse().unwrap()];
    });
    let (status, said) = check(&[misnamed.base(), "--webrtc", "--timeout", "3"]).await;
    assert_eq!(status, Some(1), "{said}");
    assert_eq!((outcomes_of(&said, "webrtc"), outcomes_of(&said, "webrtc-relay")), (vec!["ok"], vec!["failed"; 2]), "{said}");
    let found = finding(&said, "webrtc-relay");
    assert!(found["detail"].as_str().unwrap().contains("ICE finds no way within 3 s"), "{found}");
    assert!(found["advice"].as_str().unwrap().contains("turn.external_ip"), "{found}");

    let stranger = naming(relaying.turn_addresses().clear[0], "another secret than theirs, and as long");
    let (_, said) = check(&[stranger.base(), "--webrtc", "--timeout", "3"]).await;
    let found = finding(&said, "webrtc-relay");
    assert!(found["detail"].as_str().unwrap().contains("refused with 401"), "{found}");
    assert!(found["advice"].as_str().unwrap().contains("do both know the same secret"), "{found}");

    // Nobody ever answers there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let unheard = naming(silent.local_addr().unwrap(), "a secret that nobody is asked for");
    let (_, said) = check(&[unheard.base(), "--webrtc", "--timeout", "3"]).await;
    let found = finding(&said, "webrtc-relay");
    assert!(found["advice"].as_str().unwrap().contains("in every firewall on the way"), "{found}");

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, said) = check(&[&format!("http://{free}"), "--webrtc"]).await;
    assert_eq!((outcomes_of(&said, "webrtc"), outcomes_of(&said, "webrtc-relay")), (vec!["skipped"], vec!["skipped"]), "{said}");
}

#[tokio::test]
async fn where_nobody_answers_the_first_step_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = check(&[&format!("http://{free}")]).await;
    fails(&nobody, "discovery", "Connection refused", "is the server running");
    assert!(ALL[1..].iter().all(|check| finding(&nobody.1, check)["outcome"] == "skipped"));
}

#[test]
fn what_is_no_url_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let output = switchboard(&directory).args(["check", "localhost:8080"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "\"localhost:8080\" is no base URL, which is http:// or https:// and a host: is it http://localhost:8080 or https://localhost:8080?\n"
    );
}
