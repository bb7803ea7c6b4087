//! Pages of origins that are not named come in by no door, in no dialect, and read nothing that is not for everybody.

mod support;

use reqwest::{Method, Response, header};
use serde_json::Value;
use support::{TestServer, http, process::ServerProcess, raw::RawWebTransport, within};
use switchboard::{Config, config::OriginRule};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wtransport::error::ConnectingError;

/// Wherever a WebSocket may be asked for: every dialect's path, and what is none.
const SOCKETS: [&str; 10] = [
    "/ws",
    "/",
    "/peerjs?key=peerjs&id=anna&token=t",
    "/tracker",
    "/announce",
    "/y",
    "/matchbox/room",
    "/socket.io/?EIO=4&transport=websocket",
    "/wt",
    "/nowhere",
];

/// What HTTP answers to pages that may come in, and to nobody else's.
const GUARDED: [&str; 7] = [
    "/ice",
    "/.well-known/switchboard",
    "/peerjs",
    "/peerjs/id",
    "/peerjs/peers",
    "/socket.io/?EIO=4&transport=polling",
    "/socket.io/?EIO=4&transport=polling&sid=unknown",
];

fn with_origins(rules: &[&str]) -> impl FnOnce(&mut Config) {
    let rules: Vec<OriginRule> = rules.iter().map(|text| text.parse().unwrap()).collect();
    |config| config.origins = rules
}

/// The head of a request of this server's host; each of the origins is a header of its own.
fn head(server: &TestServer, method: &str, path: &str, origins: &[&str]) -> String {
    let origins: String = origins.iter().map(|origin| format!("origin: {origin}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{origins}", server.addresses()[0])
}

/// Sends these bytes and reads the head of the answer, and what came with it.
async fn answer(server: &TestServer, request: &str) -> String {
    let mut socket = within("a connection", TcpStream::connect(server.addresses()[0])).await.unwrap();
    within("a request", socket.write_all(request.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    let reading = async {
        // Who is refused is hung up on; who is not has a socket that stays.
        while !answer.starts_with(b"HTTP/1.1 101 ") && socket.read_buf(&mut answer).await.unwrap() > 0 {}
    };
    within("an answer", reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn upgrade(server: &TestServer, path: &str, origins: &[&str]) -> String {
    let head = head(server, "GET", path, origins);
    let rest =
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    answer(server, &format!("{head}{rest}")).await
}

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

async fn ask(server: &TestServer, method: Method, path: &str, origin: Option<&str>) -> Response {
    let request = http().request(method, format!("{}{path}", server.base()));
    let request = origin.into_iter().fold(request, |request, origin| request.header(header::ORIGIN, origin));
    within("an answer", request.send()).await.unwrap()
}

fn told(answer: &Response, name: header::HeaderName) -> Option<&str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_page_of_a_strange_origin_gets_no_websocket_in_any_dialect() {
    let server = TestServer::start();
    let own = format!("http://{}", server.addresses()[0].ip());
    for path in SOCKETS {
        let opened = if path == "/wt" || path == "/nowhere" { 404 } else { 101 };
        for origins in [&[][..], &[own.as_str()], &["http://localhost:3000"], &["https://[::1]"]] {
            assert_eq!(status(&upgrade(&server, path, origins).await), opened, "{path} {origins:?}");
        }
        for origins in
            [&["https://evil.com"][..], &["null"], &[""], &["http://localhost", "http://localhost"], &["http://localhost.evil.com"]]
        {
            let answer = upgrade(&server, path, origins).await;
            assert_eq!(status(&answer), 403, "{path} {origins:?}");
            assert!(answer.ends_with("\r\n\r\nforbidden\n"), "it is told nothing: {answer}");
        }
    }
}

#[tokio::test]
async fn a_page_of_a_strange_origin_gets_no_webtransport_session() {
    let server = TestServer::start();
    let raw = RawWebTransport::new(server.base()).await;
    for path in ["/wt", "/socket.io/?EIO=4&transport=webtransport"] {
        for origin in [None, Some("http://127.0.0.1:3000"), Some("https://localhost")] {
            assert!(raw.connect_from(path, origin).await.is_ok(), "{path} {origin:?}");
        }
        for origin in ["https://evil.com", "null", "", "http://localhost.evil.com"] {
            let refused = raw.connect_from(path, Some(origin)).await.err();
            assert!(matches!(refused, Some(ConnectingError::SessionRejected)), "{path} {origin:?}: {refused:?}");
        }
    }
    let failures =
        server.metrics().lines().filter(|line| line.contains("handshake_failures")).fold(String::new(), |all, line| all + line + "\n");
    assert!(failures.contains("{cause=\"origin\"} 8\n") && failures.contains("{cause=\"no-such-path\"} 0\n"), "{failures}");
}

#[tokio::test]
async fn what_http_says_of_the_doors_and_of_peers_is_for_the_page_that_asked() {
    let server = TestServer::with(|config| config.peerjs.discovery = true);
    for path in GUARDED {
        let answer = ask(&server, Method::GET, path, None).await;
        let expected = answer.status();
        assert_eq!((told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), told(&answer, header::VARY)), (None, Some("Origin")), "{path}");
        for origin in ["http://127.0.0.1:3000", "https://app.localhost"] {
            let answer = ask(&server, Method::GET, path, Some(origin)).await;
            assert_eq!(answer.status(), expected, "{path} {origin}");
            assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some(origin), "{path}");
            assert_eq!(told(&answer, header::VARY), Some("Origin"), "{path}");
            let credentials = path.starts_with("/socket.io/").then_some("true");
            assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_CREDENTIALS), credentials, "{path}");
        }
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            for origin in ["https://evil.com", "null"] {
                let answer = ask(&server, method.clone(), path, Some(origin)).await;
                assert_eq!(answer.status(), 403, "{method} {path} {origin}");
                assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN), None, "{path}");
                assert_eq!(told(&answer, header::ACCESS_CONTROL_ALLOW_CREDENTIALS), None, "{path}");
                assert_eq!(told(&answer, header::VARY), Some("Origin"), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn pages_modules_and_health_are_for_everybody() {
    let server = TestServer::start();
    for (path, expected) in
        [("/", 200), ("/client.js", 200), ("/call", 200), ("/healthz", 200), ("/readyz", 200), ("/ws", 426), ("/nowhere", 404)]
    {
        for origin in [None, Some("https://evil.com"), Some("null")] {
            let answer = ask(&server, Method::GET, path, origin).await;
            assert_eq!((answer.status().as_u16(), told(&answer, header::ACCESS_CONTROL_ALLOW_ORIGIN)), (expected, Some("*")), "{path}");
        }
    }
}

/// The session's id alone is not enough: a page that found it out does not get to speak for the client.
#[tokio::test]
async fn a_page_of_a_strange_origin_cannot_go_on_with_a_session_of_requests() {
    let server = TestServer::start();
    let opened = ask(&server, Method::GET, "/socket.io/?EIO=4&transport=polling", Some("http://localhost")).await;
    let opened: Value = serde_json::from_str(&opened.text().await.unwrap()[1..]).unwrap();
    let sid = opened["sid"].as_str().unwrap();
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    for method in [Method::GET, Method::POST] {
        assert_eq!(ask(&server, method, &path, Some("https://evil.com")).await.status(), 403);
    }
    let upgraded = upgrade(&server, &format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"), &["https://evil.com"]).await;
    assert_eq!(status(&upgraded), 403);
    let post = http().post(format!("{}{path}", server.base())).header(header::ORIGIN, "http://localhost").body("40");
    assert_eq!(within("an answer", post.send()).await.unwrap().text().await.unwrap(), "ok", "it goes on");
    let heard = ask(&server, Method::GET, &path, Some("http://localhost")).await.text().await.unwrap();
    assert!(heard.starts_with("40{"), "{heard}");
}

/// As `socket.io-client` asks with `withCredentials` and headers of its own.
#[tokio::test]
async fn a_page_that_may_come_in_is_allowed_credentials_and_headers() {
    let server = TestServer::with(with_origins(&["https://*.example.org"]));
    let preflight = async |origin: &str| {
        let url = format!("{}/socket.io/?EIO=4&transport=polling", server.base());
        let request = http().request(Method::OPTIONS, url).header(header::ORIGIN, origin);
        let request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST").header(header::ACCESS_CONTROL_REQUEST_HEADERS, "x-own");
        within("an answer", request.send()).await.unwrap()
    };
    let allowed = preflight("https://app.example.org").await;
    assert_eq!(allowed.status(), 204);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://app.example.org"),
        (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "x-own"),
    ] {
        assert_eq!(told(&allowed, name.clone()), Some(value), "{name}");
    }
    for origin in ["https://example.org", "http://app.example.org", "http://localhost", "null"] {
        let refused = preflight(origin).await;
        assert_eq!((refused.status().as_u16(), told(&refused, header::ACCESS_CONTROL_ALLOW_METHODS)), (403, None), "{origin}");
    }
}

#[tokio::test]
async fn the_setting_says_who_comes_in() {
    let discovery = "/.well-known/switchboard";
    for (rules, yes, no) in [
        (
            &["https://app.example.org"][..],
            &["https://app.example.org", "https://app.example.org:443"][..],
            &["http://localhost", "null"][..],
        ),
        (&["null"], &["null"], &["http://localhost"]),
        (&["*"], &["null", "https://evil.com"], &[]),
        (&[], &[], &["http://127.0.0.1", "null"]),
    ] {
        let server = TestServer::with(with_origins(rules));
        let raw = RawWebTransport::new(server.base()).await;
        for origin in yes {
            assert_eq!(ask(&server, Method::GET, discovery, Some(origin)).await.status(), 200, "{rules:?} {origin}");
            assert_eq!(status(&upgrade(&server, "/ws", &[origin]).await), 101, "{rules:?} {origin}");
            assert!(raw.connect_from("/wt", Some(origin)).await.is_ok(), "{rules:?} {origin}");
        }
        for origin in no {
            assert_eq!(ask(&server, Method::GET, discovery, Some(origin)).await.status(), 403, "{rules:?} {origin}");
            assert_eq!(status(&upgrade(&server, "/ws", &[origin]).await), 403, "{rules:?} {origin}");
            assert!(raw.connect_from("/wt", Some(origin)).await.is_err(), "{rules:?} {origin}");
        }
    }
}

#[tokio::test]
async fn the_same_host_is_the_one_that_the_browser_asked_for() {
    let rules = with_origins(&["same-host"]);
    let proxied = TestServer::with(|config| {
        rules(config);
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let direct = TestServer::with(with_origins(&["same-host"]));
    let origin = "origin: https://signal.example.org\r\n";
    for (server, headers, expected) in [
        (&direct, "host: signal.example.org:8080\r\n", 200),
        (&direct, "host: inside:8080\r\n", 403),
        (&direct, "host: signal.example.org\r\nhost: signal.example.org\r\n", 400),
        (&direct, "host: inside\r\nx-forwarded-host: signal.example.org\r\n", 403),
        (&proxied, "host: signal.example.org\r\n", 200),
        (&proxied, "host: inside\r\n", 403),
        (&proxied, "host: inside\r\nx-forwarded-host: signal.example.org\r\n", 200),
        (&proxied, "host: signal.example.org\r\nx-forwarded-host: evil.com\r\n", 403),
        (&proxied, "host: inside\r\nx-forwarded-host: signal.example.org, evil.com\r\n", 403),
        (&proxied, "host: inside\r\nx-forwarded-host: evil.com, signal.example.org:443\r\n", 200),
        (&proxied, "host: inside\r\nx-forwarded-host: signal.example.org\r\nx-forwarded-host: evil.com\r\n", 403),
    ] {
        let request = format!("GET /peerjs/id HTTP/1.1\r\n{headers}{origin}connection: close\r\n\r\n");
        assert_eq!(status(&answer(server, &request).await), expected, "{headers}");
    }
}

#[tokio::test]
async fn a_refusal_says_why_in_the_log() {
    let server = ServerProcess::with(&[]);
    let url = format!("{}y", server.url());
    let request = http()
        .get(url)
        .header(header::ORIGIN, "https://evil.com")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket");
    assert_eq!(within("an answer", request.send()).await.unwrap().status(), 403);
    let raw = RawWebTransport::new(server.url().trim_end_matches('/')).await;
    assert!(raw.connect_from("/wt", Some("https://evil.com\u{1b}[31m")).await.is_err());
    for (path, origin) in [("/y", r#""https://evil.com""#), ("/wt", r#""https://evil.com\u{1b}[31m""#)] {
        server.logs(&format!(r#"origin={origin} host="{}" address=127.0.0.1 path="{path}""#, server.authority()));
    }
}

#[tokio::test]
async fn a_rule_that_is_none_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = support::process::switchboard(&directory);
    let output = command.env("SWITCHBOARD_ORIGINS", "same-host, https://app.example.org/").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(log.contains(r#"SWITCHBOARD_ORIGINS: origins: "https://app.example.org/" is neither"#), "{log}");
}
