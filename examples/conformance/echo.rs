//! The echo: the handshake, the reader and the writer are those of the server, and in place of a session there are a few lines.

use std::{collections::VecDeque, convert::Infallible, io, sync::Arc};

use actix_codec::Framed;
use actix_http::{Request, Response, StatusCode, h1};
use actix_rt::net::TcpStream;
use actix_server::{Server, ServerBuilder};
use actix_service::fn_service;
use bytes::BytesMut;
use switchboard::{
    config::{Config, Limits},
    ingress::{
        http, keep,
        listener::Listener,
        websocket::{self, Arriving, Pings, Stop},
    },
    metrics::{ConnectionMeter, DialectName, Door},
    session::{backlog::Backlog, outbox::Outbox},
};

/// The longest message that comes back.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So much may wait for a client before more goes into its outbox.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// What is being written, what waits, and the message that goes on top of either.
const OUTBOX_BYTES_MAX: usize = 3 * MESSAGE_BYTES_MAX;

/// An echo on these sockets, to be run in an actix system.
pub fn server(listeners: Vec<Listener>) -> io::Result<ServerBuilder> {
    let answer = || fn_service(async |_: Request| Ok::<_, Infallible>(Response::new(StatusCode::UPGRADE_REQUIRED)));
    let upgrade = || {
        fn_service(async |(request, framed)| {
            if let Err(error) = upgrade(request, framed).await {
                eprintln!("a socket failed in its handshake: {error}");
            }
            Ok::<_, Infallible>(())
        })
    };
    listeners.into_iter().try_fold(Server::build(), |builder, Listener { tcp, .. }| {
        builder.listen("echo", tcp, move || http::builder(&Config::default().timeouts).upgrade(upgrade()).h1(answer()).tcp())
    })
}

/// Echoes on every path: none of them means anything else.
async fn upgrade(request: Request, mut framed: Framed<TcpStream, h1::Codec>) -> io::Result<()> {
    match http::handshake(&request) {
        Ok(accepted) => {
            let (io, leftover) = http::switch_protocols(framed, accepted).await?;
            echo(io, leftover).await;
            Ok(())
        }
        Err(text) => http::write_response(&mut framed, StatusCode::BAD_REQUEST, &text).await,
    }
}

async fn echo(io: TcpStream, leftover: BytesMut) {
    let Config { limits, timeouts, .. } = Config::default();
    let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, outbox_bytes_max: OUTBOX_BYTES_MAX, ..limits };
    let outbox = Outbox::new(ConnectionMeter::new(Arc::default(), Door::WebSocket, DialectName::Native));
    outbox.open(Backlog::new(limits.outbox_bytes_max, Arc::default()), []);
    websocket::exchange(io, &mut Arriving::new(leftover, &limits), &outbox, Pings::Frames, &limits, &timeouts, async |reader| {
        let hear = async |frames: &mut VecDeque<_>| {
            for frame in frames.drain(..) {
                outbox.at_most(WAITING_BYTES_MAX).await;
                assert!(outbox.push(frame, None, None), "what waits was waited for");
            }
        };
        let stop = reader.converse(&mut VecDeque::new(), hear, |messages, frames| keep(messages, frames)).await;
        if let Stop::Fault(code) = &stop {
            outbox.fail(code.number());
        }
        stop
    })
    .await;
}
