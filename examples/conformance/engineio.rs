//! The echo of Engine.IO 4 and Socket.IO 5, as their public suites ask for it: on `/engine.io/` each message comes back; on `/socket.io/` there are
//! the namespaces `/` and `/custom`, which say `auth` with what a client connects with, answer `message` by `message-back` and acknowledge
//! `message-with-ack`, each with all its arguments. The door, its transports and the packets are those of the server.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    io,
    sync::Arc,
    time::Duration,
};

use actix_http::Response;
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, HttpRequest,
    dev::{AppConfig, ServiceResponse},
    web::{self, Data},
};
use serde_json::{json, value::RawValue};
use switchboard::{
    config::{Config, Limits, Timeouts},
    dialect::socketio::{Assembled, Assembly, Packet, PacketKind},
    ingress::{
        engineio::{self, EngineIo, Incoming, Stop},
        http,
        listener::Listener,
    },
    protocol::{PeerId, framing::Frame},
    session::{backlog::Backlog, outbox::Outbox},
};

/// What the suites expect to be told.
const MESSAGE_BYTES_MAX: usize = 1_000_000;
/// Between two packets that answer one.
const PAUSE: Duration = Duration::from_millis(10);
const OUTBOX_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
const WAITING_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
const NAMESPACES: [&str; 2] = ["/", "/custom"];

/// What a client is given time for.
#[derive(Clone, Copy)]
pub struct Times {
    /// It is probed so often.
    pub ping_interval_ms: u64,
    /// To answer a probe.
    pub ping_timeout_ms: u64,
    /// To enter a namespace, where there are any.
    pub connect_timeout_ms: u64,
}

/// An echo on these sockets, to be run in an actix system.
pub fn server(listeners: Vec<Listener>, times: Times) -> io::Result<ServerBuilder> {
    let Times { ping_interval_ms, ping_timeout_ms, connect_timeout_ms } = times;
    let connect_timeout = Duration::from_millis(connect_timeout_ms);
    let config = Config::default();
    let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, outbox_bytes_max: OUTBOX_BYTES_MAX, ..config.limits };
    let timeouts = Timeouts { heartbeat_ms: ping_interval_ms, silence_ms: ping_interval_ms + ping_timeout_ms, ..config.timeouts };
    let engine = EngineIo::new(limits, timeouts.clone(), None, Arc::default());
    listeners.into_iter().try_fold(Server::build(), |builder, Listener { tcp, .. }| {
        let (engine, timeouts) = (engine.clone(), timeouts.clone());
        builder.listen("engine.io", tcp, move || {
            let app = App::new().app_data(Data::from(engine.clone())).app_data(Data::new(connect_timeout)).default_service(web::to(answer));
            let app = map_config(app.into_factory(), |()| AppConfig::default()).map(|response: ServiceResponse| Response::from(response));
            let engine = engine.clone();
            let upgrade = fn_service(move |(request, framed): (actix_http::Request, _)| {
                let engine = engine.clone();
                async move {
                    let outcome = match request.path().starts_with(engineio::PATH) {
                        true => engineio::upgrade(request, framed, &engine, None, || Ok(socket_io(connect_timeout))).await,
                        false => engineio::upgrade(request, framed, &engine, None, || Ok(engine_io)).await,
                    };
                    if let Err(error) = outcome {
                        eprintln!("a socket failed in its handshake: {error}");
                    }
                    Ok::<_, Infallible>(())
                }
            });
            http::builder(&timeouts).upgrade(upgrade).h1(app).tcp()
        })
    })
}

async fn answer(
    request: HttpRequest,
    body: web::Payload,
    engine: Data<EngineIo>,
    connect_timeout: Data<Duration>,
) -> actix_web::HttpResponse {
    let engine = engine.into_inner();
    match request.path().starts_with(engineio::PATH) {
        true => engineio::answer(&request, body, &engine, None, || Ok(socket_io(**connect_timeout))).await,
        false => engineio::answer(&request, body, &engine, None, || Ok(engine_io)).await,
    }
}

/// Sends each message back.
async fn engine_io(incoming: &mut Incoming, outbox: Arc<Outbox>) -> Stop {
    let voice = Voice::new(outbox);
    let mut frames = VecDeque::new();
    loop {
        for frame in frames.drain(..) {
            voice.say(frame).await;
        }
        if let Err(stop) = incoming.frames(&mut frames).await {
            return stop.said(&voice);
        }
    }
}

/// The echo of Socket.IO for clients that enter a namespace in time.
fn socket_io(connect_timeout: Duration) -> impl AsyncFnOnce(&mut Incoming, Arc<Outbox>) -> Stop {
    async move |incoming: &mut Incoming, outbox| {
        let voice = Voice::new(outbox);
        let mut echo = SocketIoEcho::default();
        let until = tokio::time::Instant::now() + connect_timeout;
        let mut frames = VecDeque::new();
        loop {
            for frame in frames.drain(..) {
                let Some(answers) = echo.hear(frame) else { return Stop::Violation };
                for (number, answer) in answers.into_iter().enumerate() {
                    // The suite's client waits for one message after another, and misses one that comes in the same segment as the one before.
                    if number > 0 && matches!(answer, Frame::Text(_)) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    voice.say(answer).await;
                }
            }
            let next = incoming.frames(&mut frames);
            let next = match echo.has_entered {
                false => tokio::time::timeout_at(until, next).await.unwrap_or(Err(Stop::Violation)),
                true => next.await,
            };
            if let Err(stop) = next {
                return stop.said(&voice);
            }
        }
    }
}

/// What is said to one client.
struct Voice {
    outbox: Arc<Outbox>,
}

impl Voice {
    fn new(outbox: Arc<Outbox>) -> Self {
        outbox.open(Backlog::new(OUTBOX_BYTES_MAX, Arc::default()), []);
        Self { outbox }
    }

    async fn say(&self, frame: Frame) {
        self.outbox.at_most(WAITING_BYTES_MAX).await;
        assert!(self.outbox.push(frame, None, None), "what waits was waited for");
    }
}

trait Said {
    /// Ends the connection, where it is for whoever is behind the door to do so.
    fn said(self, voice: &Voice) -> Self;
}

impl Said for Stop {
    fn said(self, voice: &Voice) -> Self {
        if let Self::Fault(code) = self {
            voice.outbox.close(code, None);
        }
        self
    }
}

#[derive(Default)]
struct SocketIoEcho {
    entered: HashSet<String>,
    has_entered: bool,
    assembly: Option<Assembly>,
}

impl SocketIoEcho {
    /// What is answered; `None` to what is no packet.
    fn hear(&mut self, frame: Frame) -> Option<Vec<Frame>> {
        let (text, attachments) = match (frame, self.assembly.take()) {
            (Frame::Text(text), None) => (text, vec![]),
            (Frame::Binary(bytes), Some(mut assembly)) => match assembly.push(&bytes) {
                Assembled::Waits => {
                    self.assembly = Some(assembly);
                    return Some(vec![]);
                }
                Assembled::Whole(text, attachments) => (text, attachments),
                Assembled::TooLarge => return None,
            },
            _ => return None,
        };
        let packet = Packet::parse(&text)?;
        if packet.attachments > attachments.len() {
            self.assembly = Some(Assembly::new(&text, packet.attachments, MESSAGE_BYTES_MAX));
            return Some(vec![]);
        }
        let reply = |kind, id, data: &str, attachments| Packet { kind, id, data, ..packet }.spell(attachments);
        if packet.kind == PacketKind::Connect {
            if !NAMESPACES.contains(&packet.namespace) {
                return Some(reply(PacketKind::ConnectError, None, r#"{"message":"Invalid namespace"}"#, vec![]));
            }
            self.entered.insert(packet.namespace.to_owned());
            self.has_entered = true;
            let auth = if packet.data.is_empty() { "{}" } else { packet.data };
            let entered = json!({ "sid": PeerId::random().to_string() }).to_string();
            return Some(
                [
                    reply(PacketKind::Connect, None, &entered, vec![]),
                    reply(PacketKind::Event, None, &format!(r#"["auth",{auth}]"#), vec![]),
                ]
                .concat(),
            );
        }
        if !self.entered.contains(packet.namespace) {
            return None;
        }
        if packet.kind == PacketKind::Disconnect {
            self.entered.remove(packet.namespace);
            return Some(vec![]);
        }
        let items = packet.items().unwrap_or_default();
        let arguments = items.iter().skip(1).map(|item| RawValue::get(item)).collect::<Vec<_>>().join(",");
        let is_binary = !attachments.is_empty();
        Some(match (items.first().map(|name| name.get()), packet.id) {
            (Some(r#""message""#), _) => {
                let kind = if is_binary { PacketKind::BinaryEvent } else { PacketKind::Event };
                reply(kind, None, &format!(r#"["message-back",{arguments}]"#), attachments)
            }
            (Some(r#""message-with-ack""#), Some(id)) => {
                let kind = if is_binary { PacketKind::BinaryAck } else { PacketKind::Ack };
                reply(kind, Some(id), &format!("[{arguments}]"), attachments)
            }
            _ => vec![],
        })
    }
}
