//! Plain HTTP: every path, right or wrong, has an answer that a person can use.

mod support;

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{Method, header};
use serde_json::{Value, json};
use support::{DEADLINE, TestServer, http, within};
use switchboard::config::ForeignDialect;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends these bytes and reads the answer to its end, which the server makes.
async fn raw(server: &TestServer, request: &str) -> String {
    let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("the end of an answer", socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn discovery_names_the_doors_by_the_host_that_was_asked_for() {
    let server = TestServer::start();
    let url = format!("{}/.well-known/switchboard", server.base());
    let port = server.addresses()[0].port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "signal.example.org".into(), "[::1]:9".into()] {
        let answer = http().get(&url).header(header::HOST, &host).send().await.unwrap();
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let document: Value = answer.json().await.unwrap();
        assert_eq!(document["name"], "switchboard");
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["dialects"][0], "native");
        let [quic, websocket] = &document["transports"].as_array().unwrap()[..] else { panic!("two transports: {document}") };
        assert_eq!((&quic["type"], &quic["url"]), (&json!("webtransport"), &json!(format!("https://{host}/wt"))));
        assert_eq!(quic["codecs"], json!(["msgpack"]));
        assert_eq!((&websocket["type"], &websocket["url"]), (&json!("websocket"), &json!(format!("ws://{host}/ws"))));
        assert_eq!(websocket["codecs"], json!(["json", "msgpack"]));
        let hashes = quic["certificateHashes"].as_array().unwrap();
        assert_eq!(hashes[0]["algorithm"], "sha-256");
        assert_eq!(BASE64_STANDARD.decode(hashes[0]["value"].as_str().unwrap()).unwrap().len(), 32);
    }
}

#[tokio::test]
async fn discovery_without_a_host_names_the_address_and_a_host_that_is_none_is_refused() {
    let server = TestServer::start();
    let answer = raw(&server, "GET /.well-known/switchboard HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(&format!("\"ws://{}/ws\"", server.addresses()[0])), "{answer}");
    for host in ["a b", "user@host", "\"", ""] {
        let answer = raw(&server, &format!("GET /.well-known/switchboard HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host:?}: {answer}");
    }
}

#[tokio::test]
async fn discovery_lists_the_dialects_that_are_on_and_no_path_speaks_another() {
    let all = ForeignDialect::ALL.map(ForeignDialect::name);
    for on in [&all[..], &["lobby"], &[]] {
        let is_on = |dialect: &ForeignDialect| on.contains(&dialect.name());
        let server = TestServer::with(|config| config.dialects.retain(is_on));
        let answer = http().get(format!("{}/.well-known/switchboard", server.base())).send().await.unwrap();
        let document: Value = answer.json().await.unwrap();
        let names: Vec<&str> = ["native"].into_iter().chain(on.iter().copied()).collect();
        assert_eq!(document["dialects"], json!(names));
        if on.is_empty() {
            let text = http().get(format!("{}/nowhere", server.base())).send().await.unwrap().text().await.unwrap();
            assert!(text.contains("/ws") && !text.contains("lobby"), "{text}");
            let url = format!("{}/", server.base().replacen("http", "ws", 1));
            let refused = within("an answer", tokio_tungstenite::connect_async(url)).await.unwrap_err().to_string();
            assert!(refused.contains("404"), "{refused}");
        }
    }
}

#[tokio::test]
async fn health_is_told_in_words() {
    let server = TestServer::start();
    for (path, text) in [("/healthz", "alive\n"), ("/readyz", "ready: new clients are taken\n")] {
        let answer = http().get(format!("{}{path}", server.base())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), text);
    }
}

#[tokio::test]
async fn the_page_and_its_modules_are_served_to_any_origin_and_only_sent_again_when_they_changed() {
    let server = TestServer::start();
    for (path, mime) in [
        ("/", "text/html; charset=utf-8"),
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/src/codes.js", "text/javascript; charset=utf-8"),
        ("/call", "text/html; charset=utf-8"),
        ("/call.html", "text/html; charset=utf-8"),
        ("/pages/i18n.js", "text/javascript; charset=utf-8"),
    ] {
        let url = format!("{}{path}", server.base());
        let answer = http().get(&url).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()[header::CONTENT_TYPE].to_str().unwrap()), (200, mime), "{path}");
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let etag = answer.headers()[header::ETAG].clone();
        let length = answer.text().await.unwrap().len();
        assert_ne!(length, 0);
        let again = http().get(&url).header(header::IF_NONE_MATCH, &etag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), &again.headers()[header::ETAG]), (304, &etag));
        let head = http().head(&url).send().await.unwrap();
        assert_eq!(head.headers()[header::CONTENT_LENGTH].to_str().unwrap(), length.to_string());
        assert!(head.bytes().await.unwrap().is_empty());
    }
    for path in [
        "/package.json",
        "/pages/tsconfig.json",
        "/examples/react/vite.config.js",
        "/test/support.js",
        "/node_modules/x.js",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/src/",
        "/src",
    ] {
        let answer = raw(&server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_wrong_path_is_answered_with_the_right_ones() {
    let server = TestServer::start();
    let answer = http().get(format!("{}/nowhere", server.base())).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("There is nothing at \"/nowhere\"") && text.contains("/.well-known/switchboard"), "{text}");
    let answer = http().post(format!("{}/nowhere", server.base())).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let server = TestServer::start();
    for path in ["/", "/client.js", "/healthz", "/readyz", "/ws", "/wt", "/.well-known/switchboard"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = http().request(method.clone(), format!("{}{path}", server.base())).send().await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers()[header::ALLOW].to_str().unwrap()),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
            assert_eq!(answer.text().await.unwrap(), format!("{path} takes GET and HEAD, not {method}\n"));
        }
    }
}

#[tokio::test]
async fn a_plain_request_to_a_door_is_told_what_is_behind_it() {
    let server = TestServer::start();
    let answer = http().get(format!("{}/ws", server.base())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()[header::UPGRADE].to_str().unwrap()), (426, "websocket"));
    assert!(answer.text().await.unwrap().contains("/.well-known/switchboard"));
    let answer = http().get(format!("{}/wt", server.base())).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("HTTP/3"));
}

#[tokio::test]
async fn an_upgrade_that_is_no_websocket_handshake_is_refused_with_the_reason() {
    let server = TestServer::start();
    let upgrade = "host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    for (request, status, reason) in [
        (format!("GET /nowhere HTTP/1.1\r\n{upgrade}\r\n"), 404, "There is no WebSocket at \"/nowhere\""),
        (format!("GET /ws HTTP/1.1\r\n{upgrade}\r\n"), 400, "version header is required"),
        (format!("GET /ws HTTP/1.1\r\n{upgrade}sec-websocket-version: 12\r\n\r\n"), 400, "unsupported WebSocket version"),
        (format!("GET /ws HTTP/1.1\r\n{upgrade}sec-websocket-version: 13\r\n\r\n"), 400, "WebSocket key"),
        (format!("POST /ws HTTP/1.1\r\n{upgrade}sec-websocket-version: 13\r\nsec-websocket-key: x\r\n\r\n"), 400, "method not allowed"),
        ("CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n".into(), 405, "no CONNECT"),
    ] {
        let answer = raw(&server, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains(reason), "{request}: {answer}");
    }
}

#[tokio::test]
async fn the_handshake_is_answered_as_in_the_rfc_and_picks_a_subprotocol() {
    let server = TestServer::start();
    for (offered, chosen) in [
        ("", None),
        ("sec-websocket-protocol: switchboard.msgpack\r\n", Some("switchboard.msgpack")),
        ("sec-websocket-protocol: other, switchboard.json, switchboard.msgpack\r\n", Some("switchboard.json")),
        ("sec-websocket-protocol: other\r\n", None),
    ] {
        let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
        let request = format!(
            "GET /ws?room=x HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offered}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(within("the answer to a handshake", socket.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        // The example of RFC 6455 §1.3.
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        let found = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(found, chosen, "{offered}");
    }
}

/// As `nc -N` does. What is answered at once is answered whole; only who waits for something yet to happen has to stay.
#[tokio::test]
async fn who_says_no_more_behind_its_request_has_its_answer() {
    let server = TestServer::start();
    for path in [
        "/",
        "/client.js",
        "/react.js",
        "/healthz",
        "/readyz",
        "/.well-known/switchboard",
        "/peerjs/id",
        "/socket.io/?EIO=4&transport=polling",
    ] {
        let whole = http().get(format!("{}{path}", server.base())).header(header::HOST, "x").send().await.unwrap().content_length().unwrap()
            as usize;
        let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within("the end of an answer", socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{path}");
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - head, whole, "{path}");
    }
}

/// The HTTP crate's clock is up to half a second behind, and deadlines were counted from it. A server with a shorter `hello_ms` answered
/// most requests, WebSocket handshakes among them, with 408 as soon as they came.
#[tokio::test]
async fn a_short_time_for_the_first_message_is_not_over_when_it_begins() {
    let server = TestServer::with(|config| config.timeouts.hello_ms = 100);
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    // Spread over more than half a second.
    for _ in 0..40 {
        let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
        socket.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        beat.tick().await;
        // The server may have hung up already; then it has said why.
        let _ = socket.write_all(b"host: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = String::new();
        within("an answer", socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up() {
    let server = TestServer::with(|config| config.timeouts.hello_ms = 200);
    let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the server ends the connection");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}
