//! The session of an echo: it takes signals from the server to the echo and back, and comes back when the connection is lost.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use serde_json::json;
use switchboard::{
    client::{ComeInError, Connector, Disconnected, Door, Options, ResumingClient},
    config::Config,
    ice::IceServer,
    protocol::{ClientMessage, Codec, Kind, Payload, ServerMessage},
    webrtc::{self, Echo, Limits, Outgoing},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tracing::{debug, info, warn};

use super::Arguments;
use crate::{logging, roots};

/// What has been heard and said is acknowledged so often.
const ACKNOWLEDGING: Duration = Duration::from_secs(10);
/// After so long without a word from the server, which answers each of those, the connection is lost.
const SILENCE: Duration = Duration::from_secs(25);
/// So many signals are kept while there is no connection; more are lost.
const KEPT_MAX: usize = 1024;
/// After a lost connection another is tried so often, with that in between: as long as a session waits for its client by default, and twice that.
const ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// The number of the join, by which its refusal is known.
const JOIN: u64 = 0;

/// Is an echo until it is interrupted.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let _logging = logging::start(&Config { log: arguments.log.clone(), ..Config::default() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))
}

/// Who asks the program to end.
struct Interrupt([Signal; 2]);

impl Interrupt {
    fn new() -> anyhow::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn come(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::new()?;
    let roots = arguments.ca.as_deref().map(roots::read).transpose()?.unwrap_or_default();
    let options = Options { roots: roots.clone(), origin: arguments.origin.clone(), ..Options::default() };
    let entered = async {
        let connector = Arc::new(Connector::new(&arguments.url, options).await?);
        let door = door(&connector, arguments)?;
        let client = ResumingClient::connect_with(&connector, door, arguments.token.as_deref()).await?;
        anyhow::Ok((connector, door, client))
    };
    let (connector, door, mut client) = tokio::select! {
        () = interrupt.come() => return Ok(()),
        entered = entered => entered?,
    };
    let loopback = connector.discovery().answered_by.is_some_and(|address| address.is_loopback());
    let ice_servers = read(&client.ice_servers);
    let limits = Limits { peers: arguments.peers, channels: arguments.channels, queued_bytes: arguments.queued_bytes };
    let mut echo = Echo::new(webrtc::Options { ice_servers, loopback, roots, ..webrtc::Options::default() }, limits);
    join(&mut client, arguments).await;
    let mut acknowledging = interval(ACKNOWLEDGING);
    acknowledging.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut may_return = true;
    let mut heard_at = Instant::now();
    let ended = loop {
        tokio::select! {
            () = interrupt.come() => break Ok(()),
            _ = acknowledging.tick() => client.acknowledge().await,
            Outgoing { to, kind, payload } = echo.next() => {
                client.send(None, ClientMessage::Forward { kind, to, room: None, payload }).await;
            }
            message = hear(&mut client, heard_at + SILENCE) => match message {
                Ok(message) => {
                    heard_at = Instant::now();
                    match message {
                        ServerMessage::Goodbye { code, .. } => {
                            warn!(code = code.slug(), "the server says goodbye");
                            may_return = code.reconnect();
                        }
                        ServerMessage::Error(refusal) if refusal.id == Some(JOIN) => {
                            break Err(anyhow!("room {:?}: refused as {}: {}", arguments.room, refusal.code, refusal.message));
                        }
                        message => if let Err(error) = take(message, &mut echo, arguments) {
                            break Err(error);
                        },
                    }
                }
                Err(disconnected) if !may_return => break Err(disconnected.into()),
                Err(disconnected) => {
                    warn!(%disconnected, "trying to come back");
                    drop(client.leave_behind());
                    let kept = tokio::select! {
                        () = interrupt.come() => break Ok(()),
                        back = keep_on(&mut echo, come_back(&mut client, door, arguments)) => match back {
                            Ok(kept) => kept,
                            Err(error) => break Err(error),
                        },
                    };
                    heard_at = Instant::now();
                    for Outgoing { to, kind, payload } in kept {
                        client.send(None, ClientMessage::Forward { kind, to, room: None, payload }).await;
                    }
                    echo.options().ice_servers = read(&client.ice_servers);
                }
            }
        }
    };
    echo.close().await;
    client.close().await;
    ended
}

/// By which door to come in.
fn door(connector: &Connector, Arguments { url, .. }: &Arguments) -> anyhow::Result<Door> {
    let doors = [Door::WebSocket(Codec::Json), Door::WebTransport];
    let door = doors.into_iter().find(|door| connector.discovery().transport(*door).is_some());
    door.ok_or_else(|| anyhow!("{url} offers neither WebSocket nor WebTransport"))
}

/// The next message, if it comes in time: a connection that is lost without a word says nothing of it.
async fn hear(client: &mut ResumingClient, deadline: Instant) -> Result<ServerMessage<'static>, Disconnected> {
    let heard = timeout_at(deadline, client.receive()).await;
    heard.unwrap_or_else(|_| Err(Disconnected { code: None, reason: format!("nothing is heard for {} s", SILENCE.as_secs()) }))
}

/// Goes on with the lines until this is done, and keeps their signals.
async fn keep_on(echo: &mut Echo, back: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Vec<Outgoing>> {
    let mut back = pin!(back);
    let mut kept = vec![];
    loop {
        tokio::select! {
            back = &mut back => return back.map(|()| kept),
            signal = echo.next() => if kept.len() < KEPT_MAX {
                kept.push(signal);
            },
        }
    }
}

async fn join(client: &mut ResumingClient, Arguments { room, name, .. }: &Arguments) {
    let metadata = Payload::from_serialize(&json!({ "name": name })).expect("text can be spelled");
    client.send(Some(JOIN), ClientMessage::Join { room: room.clone().into(), metadata: Some(metadata) }).await;
}

fn take(message: ServerMessage, echo: &mut Echo, Arguments { room, url, .. }: &Arguments) -> anyhow::Result<()> {
    match message {
        ServerMessage::Joined { relays_only, .. } => {
            echo.options().relays_only = relays_only;
            println(&format!("The echo is in room {room:?} of {url}. Ctrl-c ends it."))?;
        }
        ServerMessage::Left { .. } => bail!("the server has taken the echo out of room {room:?}"),
        ServerMessage::IceServers { servers } => echo.options().ice_servers = read(&servers),
        ServerMessage::PeerLeft { peer_id, .. } => echo.leave(peer_id),
        ServerMessage::Forwarded { kind: kind @ (Kind::Offer | Kind::IceCandidate), from, payload, .. } => echo.take(from, kind, &payload),
        ServerMessage::Error(refusal) => debug!(code = refusal.code.slug(), refusal = %refusal.message, "refused"),
        _ => {}
    }
    Ok(())
}

/// Lines outlive their signals, so there is time.
async fn come_back(client: &mut ResumingClient, door: Door, arguments: &Arguments) -> anyhow::Result<()> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match client.resume(door).await {
            Ok(true) => {
                info!("back again");
                return Ok(());
            }
            Ok(false) => {
                info!("back again, in a new session");
                join(client, arguments).await;
                return Ok(());
            }
            Err(error) if !error.may_pass() => return Err(error.into()),
            Err(error) => last = Some(error),
        }
        sleep(PAUSE).await;
    }
    Err(last.map_or_else(|| anyhow!("no connection"), |error: ComeInError| error.into()))
}

/// What the server tells of them, as far as it makes sense.
fn read(servers: &Payload) -> Vec<IceServer> {
    let servers = IceServer::read_told(servers).unwrap_or_else(|error| vec![Err(error.to_string())]);
    let of_use = servers.into_iter().filter_map(|server| server.inspect_err(|error| warn!(error, "iceServers")).ok());
    of_use.collect()
}

fn println(line: &str) -> anyhow::Result<()> {
    crate::print(&format!("{line}\n"))
}
