//! The log of the program itself: who it is about can be told from each line, and what is nobody's business is in none, however much is logged.

mod support;

use serde_json::{Value, json};
use support::{
    foreign::ForeignClient,
    http,
    process::ServerProcess,
    turn::{self, By, TurnClient},
    within,
};
use switchboard::{
    client::{Client, Door},
    protocol::{ClientMessage, Request, ServerMessage},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::Message;

/// What may not be found in a log. Each is told to the server in another place.
const MARKS: [&str; 4] = ["marked-token", "marked-sdp", "marked-key", "marked-secret"];

/// An application that lets everybody in: its URL.
async fn application() -> String {
    const ANSWER: &str = r#"{"allow":true,"claims":{"rooms":["*"]}}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut question = Vec::new();
                // A question ends with the object that is all of its body.
                while !question.ends_with(b"}") {
                    if socket.read_buf(&mut question).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    ANSWER.len()
                );
                let _ = socket.write_all((head + ANSWER).as_bytes()).await;
            });
        }
    });
    url
}

fn sdp() -> Value {
    json!({ "type": "offer", "sdp": "v=0\r\no=- marked-sdp 2 IN IP4 127.0.0.1\r\n" })
}

/// Says hello with a token, joins and sends session descriptions to a peer and to all: who it is, and its resume token.
async fn native(base: &str, door: Door) -> [String; 2] {
    let hello = json!({ "type": "hello", "token": "marked-token-in-hello" });
    let spelled = support::spell(&hello, door.codec());
    let hello = Request::decode(door.codec(), spelled.leak(), 9).expect("a message").message;
    let mut client = within("a connection", Client::connect(base, door)).await.expect("a connection");
    within("a hello", client.send(&support::unanswered(hello))).await.expect("a connection");
    let welcome = support::hear("a welcome", &mut client, |message| match message {
        ServerMessage::Welcome(welcome) => Some(welcome),
        _ => None,
    })
    .await;
    let others = within("a room", client.join("r", None)).await.expect("a room");
    for other in others {
        let _ = within("an answer", client.request(support::offer(other.peer_id, sdp()))).await;
    }
    within("an answer", client.request(support::broadcast(sdp()))).await.expect("a room");
    // What is no message, and who is nobody.
    let nobody = ClientMessage::Leave { room: Some("elsewhere".into()) };
    support::refusal(&mut client, nobody).await;
    within("an end", client.close()).await;
    [welcome.peer_id.to_string(), welcome.resume_token.hex().as_str().to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_no_secret_and_no_session_description_is_logged() {
    let directory = TempDir::new().expect("a directory");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "marked-secret-of-the-application-of-32-bytes").expect("a file");
    let callback = application().await;
    let server = ServerProcess::with(&[
        // What is left out unless it is named is named.
        ("SWITCHBOARD_LOG", "trace,actix_http=trace,actix_server=trace"),
        ("SWITCHBOARD_AUTH_CALLBACK_URL", &callback),
        ("SWITCHBOARD_AUTH_CALLBACK_SECRET_FILE", secret.to_str().expect("UTF-8")),
    ]);
    let base = server.url().trim_end_matches('/');
    let mut secrets = Vec::new();
    let mut peers = Vec::new();
    for door in Door::ALL {
        let [peer, secret] = native(base, door).await;
        peers.push((door, peer));
        secrets.push(secret);
    }

    let token = "marked-token-in-query";
    let mut classic = ForeignClient::connect_to(base, &format!("/?token={token}")).await;
    classic.say(json!({ "type": "announce", "hash": "h" })).await;
    classic.hear().await;
    classic.say(json!({ "type": "offer", "offer": sdp() })).await;
    classic.say(json!({ "type": "offer", "targetPeer": "nobody", "offer": sdp() })).await;
    assert_eq!(classic.hear().await["code"], "no-such-peer");
    classic.close().await;

    let mut peerjs = ForeignClient::connect_to(base, &format!("/peerjs?key=peerjs&id=anna&token={token}")).await;
    assert_eq!(peerjs.hear().await["type"], "OPEN");
    peerjs.say(json!({ "type": "OFFER", "dst": "anna", "payload": sdp() })).await;
    peerjs.close().await;
    let mut keyed = ForeignClient::connect_to(base, "/peerjs?key=marked-key&id=bert&token=t").await;
    keyed.hear().await;
    keyed.close().await;

    let mut tracker = ForeignClient::connect_to(base, &format!("/tracker?token={token}")).await;
    let (swarm, peer) = ("h".repeat(20), "p".repeat(20));
    let offers = json!([{ "offer": sdp(), "offer_id": "1" }]);
    tracker.say(json!({ "action": "announce", "info_hash": swarm, "peer_id": peer, "numwant": 1, "offers": offers })).await;
    tracker.hear().await;
    tracker.close().await;

    let mut y = ForeignClient::connect_to(base, &format!("/y?token={token}")).await;
    y.say(json!({ "type": "subscribe", "topics": ["y"] })).await;
    y.say(json!({ "type": "publish", "topic": "y", "data": sdp() })).await;
    y.hear().await;
    y.close().await;

    let mut matchbox = ForeignClient::connect_to(base, &format!("/matchbox/r?token={token}")).await;
    let own = matchbox.hear().await["IdAssigned"].clone();
    matchbox.say(json!({ "Signal": { "receiver": own, "data": { "Offer": sdp() } } })).await;
    matchbox.close().await;

    let mut socket_io = ForeignClient::connect_to(base, "/socket.io/?EIO=4&transport=websocket").await;
    socket_io.receive().await;
    socket_io.send(Message::text(r#"40{"token":"marked-token-in-auth"}"#)).await;
    socket_io.receive().await;
    socket_io.send(Message::text(format!("42{}", json!(["offer", { "targetPeer": "nobody", "offer": sdp() }])))).await;
    socket_io.receive().await;
    socket_io.close().await;
    let polling = format!("{base}/socket.io/?EIO=4&transport=polling");
    let open = within("an answer", http().get(&polling).send()).await.expect("an answer").text().await.expect("text");
    let open: Value = serde_json::from_str(&open[1..]).expect("an open packet");
    let polling = format!("{polling}&sid={}", open["sid"].as_str().expect("an id"));
    let auth = http().post(&polling).body(r#"40{"token":"marked-token-in-auth"}"#).send();
    assert!(within("an answer", auth).await.expect("an answer").status().is_success());
    within("an answer", http().get(&polling).send()).await.expect("an answer");
    secrets.push(open["sid"].as_str().expect("an id").to_owned());

    // A page that is none, and an origin that may not come in, with the token in the query.
    for path in ["/nowhere", "/ws"] {
        let odd = http().get(format!("{base}{path}?token={token}")).header("origin", "https://elsewhere.example").send();
        within("an answer", odd).await.expect("an answer");
    }

    // Whatever was said before is logged by now.
    server.signal("-TERM");
    server.logs("shut down");
    let log = server.log();
    assert!(log.contains("TRACE"), "much is logged");
    for (door, peer) in peers {
        let door = match door {
            Door::WebSocket(_) => "websocket",
            Door::WebTransport => "webtransport",
        };
        let span = format!(r#"session{{door="{door}" dialect="native" peer_id={peer}}}"#);
        assert!(log.contains(&span), "no {span} in\n{log}");
    }
    // Some write bytes as numbers.
    let numbers = MARKS.map(|mark| format!("{:?}", mark.as_bytes()).trim_matches(['[', ']']).to_owned());
    let of_dependencies = ["First frame", "reset_token", "NewSessionTicket"];
    let texts = MARKS.into_iter().chain(of_dependencies).chain(secrets.iter().chain(&numbers).map(String::as_str));
    for mark in texts {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(mark)).collect();
        assert!(lines.is_empty(), "{mark} is in {} lines, such as\n{}", lines.len(), lines[..lines.len().min(20)].join("\n"));
    }
}

/// Somebody who forgot `trusted_proxies` would look for long.
#[tokio::test]
async fn a_proxy_that_is_not_named_is_told_of_once() {
    const TOLD: &str = "trusted_proxies: this address sends X-Forwarded-For and is not named";
    let ask = async |server: &ServerProcess| {
        let request = http().get(format!("{}.well-known/switchboard", server.url())).header("x-forwarded-for", "192.0.2.7");
        assert!(within("an answer", request.send()).await.unwrap().status().is_success());
    };
    let server = ServerProcess::with(&[]);
    ask(&server).await;
    ask(&server).await;
    assert_eq!(server.log().matches(TOLD).count(), 1, "{}", server.log());
    let trusting = ServerProcess::with(&[("SWITCHBOARD_TRUSTED_PROXIES", "127.0.0.1")]);
    ask(&trusting).await;
    assert_eq!(trusting.log().matches(TOLD).count(), 0);
}

/// Who wonders why a line does not come about by a relay finds it there.
#[tokio::test]
async fn a_channel_and_a_permission_that_are_refused_are_told_with_peer_and_reason() {
    let settings =
        [("SWITCHBOARD_TURN_ENABLED", "true"), ("SWITCHBOARD_TURN_LISTEN", "127.0.0.1:0"), ("SWITCHBOARD_LOG", "switchboard::turn=debug")];
    let server = ServerProcess::with(&settings);
    let (address, credential) = turn::lent(&server).await;
    let mut client = TurnClient::connect(address, By::Udp, None).await;
    client.use_credential(credential.clone());
    client.allocate().await.unwrap();
    let peer = "10.0.0.1:9".parse().unwrap();
    assert_eq!(client.permit(peer).await, Err(403));
    assert_eq!(client.bind(0x4000, peer).await, Err(403));
    assert_eq!(client.bind(0x3fff, peer).await, Err(400));
    let (_, peer_id) = credential.username.split_once(':').unwrap();
    let log = server.log();
    for (what, why) in [("a permission", "Forbidden"), ("a channel", "Forbidden"), ("a channel", "Number")] {
        let is_told =
            |line: &str| [what, "is refused", why, "10.0.0.1:9", &format!("peer={peer_id}")].iter().all(|part| line.contains(part));
        assert!(log.lines().any(is_told), "{what} {why}: {log}");
    }
}
