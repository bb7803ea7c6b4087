//! What a collector of OpenTelemetry is sent, by the program that was built with the feature of that name.
#![cfg(feature = "opentelemetry")]

mod support;

use std::sync::{Arc, Mutex};

use support::{eventually, process::ServerProcess, within};
use switchboard::client::{Client, Door};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A collector that keeps whatever it is sent: where, and what.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = kept.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let keep = keep.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                loop {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
                    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
                    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                    let length: usize = length.map_or(0, |length| length.trim().parse().expect("a number"));
                    if request.len() >= head + 4 + length {
                        keep.lock().unwrap().append(&mut request);
                        let _ =
                            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            });
        }
    });
    (url, kept)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_sent_a_span_for_each_connection() {
    let (url, kept) = collector().await;
    // Whatever is logged.
    let server = ServerProcess::with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url), ("SWITCHBOARD_LOG", "warn")]);
    let base = server.url().trim_end_matches('/').to_owned();
    let mut peers = Vec::new();
    for door in Door::ALL {
        let mut client = within("a connection", Client::connect(&base, door)).await.expect("a connection");
        peers.push(within("a welcome", client.hello()).await.expect("a welcome").peer_id.to_string());
        within("an end", client.close()).await;
    }
    // What is left is sent at the end.
    server.signal("-TERM");
    let of_interest = ["POST /v1/traces ", "service.name", "switchboard", "session", "webtransport", "websocket", "native"];
    eventually("all of it", async || {
        let kept = kept.lock().unwrap();
        peers.iter().map(String::as_str).chain(of_interest).all(|text| contains(&kept, text))
    })
    .await;
    let (status, log) = server.end();
    assert_eq!((status, &*log), (Some(0), ""));
}
