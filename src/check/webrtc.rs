//! A call, as two browsers would hold it: one session of the check offers, another is an echo. First by any way, then by each TURN server alone.

use std::time::Duration;

use switchboard::{
    client::{Client, Connector, Door, turn::TurnError},
    ice::{IceServer, IceUrl},
    protocol::{ClientMessage, Kind, Payload, PeerId, Request, ServerMessage},
    webrtc::{Connection, Description, Echo, Event, Limits, Message, Options, Outgoing, candidate_text, spell_candidate},
};
use tokio::time::{Instant, timeout};

use super::{
    Patient,
    doors::{Fault, greet, millis, silent},
    findings::Findings,
    ice::whereabouts,
    turn,
};

/// What the findings are called: by any way, and by relays alone.
pub const CHECKS: [&str; 2] = ["webrtc", "webrtc-relay"];
/// As much as every browser takes in one message.
const DATA_BYTES: usize = 64 * 1024;

/// One of the two that talk to each other.
struct Side {
    client: Client,
    id: PeerId,
    ice_servers: Vec<IceServer>,
    relays_only: bool,
}

impl Side {
    /// How it reaches the other: as the room says, or by this relay alone.
    fn options(&self, patient: &Patient, by: Option<&IceUrl>) -> Options {
        let ice_servers = match by {
            None => self.ice_servers.clone(),
            Some(url) => self.ice_servers.iter().filter(|server| server.urls.contains(url)).map(|server| server.by_one(url)).collect(),
        };
        Options {
            ice_servers,
            relays_only: self.relays_only || by.is_some(),
            roots: patient.options.roots.clone(),
            queued_bytes_max: 2 * DATA_BYTES,
            ..Options::default()
        }
    }
}

/// How far a call has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Answer,
    Way,
    Handshake,
    Channel,
    Data,
}

/// What became of a call.
struct Call {
    step: Step,
    /// When each step was done, in the order of the steps.
    times: Vec<Duration>,
    /// Servers that are of no use, and why.
    useless: Vec<(IceUrl, turn::Fault)>,
    candidates: usize,
    /// How many of them are the caller's.
    own: usize,
    /// By relays alone.
    relays_only: bool,
    fault: Option<String>,
}

/// Holds the calls.
pub async fn examine(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    let [any, relay] = CHECKS;
    let sides = match meet(patient, connector, open).await {
        Ok(sides) => sides,
        Err(fault) => {
            findings.failed(any, fault.to_string(), fault.advice())?;
            return findings.skip(&[relay], any);
        }
    };
    let relays_only = sides[0].relays_only;
    let urls = sides[0].ice_servers.iter().flat_map(|server| server.urls.clone());
    let relaying: Vec<IceUrl> = urls.filter(|url| url.is_turn() && url.by().is_some()).collect();
    if relays_only && relaying.is_empty() {
        let detail = format!("room {:?} is for relays alone, and clients are told of no TURN server", patient.room);
        findings.failed(any, detail, "run one (--turn) or name one (ice.turn_urls), or take the room out of ice.relay_only_rooms")?;
        leave(sides).await;
        return findings.skip(&[relay], "a TURN server");
    }
    let call = hold(patient, connector, sides, None).await;
    if let Some((detail, advice)) = call.failure(patient) {
        let on_one_machine = "two peers on this machine do not reach each other: does a firewall on it keep UDP from its own addresses?";
        findings.failed(any, detail, advice.unwrap_or(if relays_only { WHY_NO_RELAY } else { on_one_machine }))?;
    } else {
        findings.ok(any, call.detail())?;
    }
    if call.step == Step::Answer {
        return findings.skip(&[relay], "an answer");
    }
    if relaying.is_empty() {
        return findings.nothing(relay, "clients are told of no TURN server");
    }
    let whereabouts = whereabouts(patient, connector).await;
    for url in relaying {
        let call = match meet(patient, connector, open).await {
            Ok(sides) => hold(patient, connector, sides, Some(&url)).await,
            Err(fault) => {
                findings.failed(relay, format!("{url}: {fault}"), fault.advice())?;
                continue;
            }
        };
        let Some((detail, advice)) = call.failure(patient) else {
            findings.ok(relay, format!("{url}: {}", call.detail()))?;
            continue;
        };
        let advice = match (call.useless.first(), url.by()) {
            (Some((_, fault)), Some(by)) if call.own == 0 => fault.advice(&url, by, &whereabouts),
            (None, Some(by)) if call.own == 0 && call.step == Step::Way => {
                turn::Fault::Silent(patient.options.timeout).advice(&url, by, &whereabouts)
            }
            _ => advice.unwrap_or(WHY_NO_RELAY).to_owned(),
        };
        findings.failed(relay, format!("{url}: {detail}"), advice)?;
    }
    Ok(())
}

const WHY_NO_RELAY: &str = "relays do not reach each other: is turn.external_ip (coturn: external-ip) the address by which the world knows the server, are its UDP \
     ports for relays open (turn.ports; coturn: min-port, max-port), and may they reach its own address (turn.deny; coturn: denied-peer-ip)?";

/// The two of one call, each by another door where there are two. Every call has sessions of its own: no signal of the one before comes to it. Nobody
/// stays in the room who does not find the other there.
async fn meet(patient: &Patient, connector: &Connector, open: &[Door]) -> Result<[Side; 2], Fault> {
    let first = enter(patient, connector, open[0]).await?;
    match enter(patient, connector, open[open.len() - 1]).await {
        Ok(second) => Ok([first, second]),
        Err(fault) => {
            first.client.close().await;
            Err(fault)
        }
    }
}

async fn enter(patient: &Patient, connector: &Connector, door: Door) -> Result<Side, Fault> {
    let mut client = connector.connect(door).await?;
    let entering = async {
        let welcome = greet(patient, &mut client).await?;
        let entered = client.enter(&patient.room, None).await;
        let relays_only = entered.map_err(|error| Fault::Refused(format!("room {:?}: {error}", patient.room)))?.relays_only;
        // What is wrong with one of them is told where they are looked at one by one.
        let told =
            IceServer::read_told(&welcome.ice_servers).map_err(|error| Fault::Refused(format!("iceServers of the welcome: {error}")))?;
        Ok((welcome.peer_id, told.into_iter().filter_map(Result::ok).collect(), relays_only))
    };
    match timeout(patient.options.timeout, entering).await.unwrap_or_else(|_| Err(silent(patient))) {
        Ok((id, ice_servers, relays_only)) => Ok(Side { client, id, ice_servers, relays_only }),
        Err(fault) => {
            client.close().await;
            Err(fault)
        }
    }
}

/// Offers from the first to the second; by this relay alone, if one is named.
async fn hold(patient: &Patient, connector: &Connector, mut sides: [Side; 2], by: Option<&IceUrl>) -> Call {
    let loopback = connector.discovery().answered_by.is_some_and(|address| address.is_loopback());
    let [offering, answering] = sides.each_ref().map(|side| Options { loopback, ..side.options(patient, by) });
    let relays_only = offering.relays_only;
    let mut call = Call { step: Step::Answer, times: vec![], useless: vec![], candidates: 0, own: 0, relays_only, fault: None };
    match Connection::new(offering) {
        Ok(mut connection) => {
            let mut echo = Echo::new(answering, Limits::default());
            let held = timeout(patient.options.timeout, go_on(&mut sides, &mut connection, &mut echo, &mut call)).await;
            call.fault = held.ok().and_then(Result::err);
            tokio::join!(connection.close(), echo.close());
        }
        Err(error) => call.fault = Some(error.to_string()),
    }
    leave(sides).await;
    call
}

async fn leave(sides: [Side; 2]) {
    for side in sides {
        side.client.close().await;
    }
}

async fn go_on(sides: &mut [Side; 2], connection: &mut Connection, echo: &mut Echo, call: &mut Call) -> Result<(), String> {
    let [Side { client: caller, id: caller_id, .. }, Side { client: callee, id: callee_id, .. }] = sides;
    let begun = Instant::now();
    let data = Message { is_binary: true, data: (0..DATA_BYTES).map(|_| fastrand::u8(..)).collect() };
    let offer = connection.offer("check");
    send(caller, Kind::Offer, *callee_id, Description::spell("offer", &offer)).await?;
    loop {
        let done = tokio::select! {
            Outgoing { kind, to, payload } = echo.next() => {
                send(callee, kind, to, payload).await?;
                None
            }
            message = callee.receive() => {
                if let ServerMessage::Forwarded { kind, from, payload, .. } = message.map_err(|error| error.to_string())? && from == *caller_id {
                    echo.take(from, kind, &payload);
                }
                None
            }
            message = caller.receive() => match message.map_err(|error| error.to_string())? {
                ServerMessage::Forwarded { kind: Kind::Answer, from, payload, .. } if from == *callee_id && call.step == Step::Answer => {
                    let answer = Description::read(&payload).ok_or("the answer arrives as something else")?;
                    connection.take_answer(&answer.sdp).map_err(|error| error.to_string())?;
                    Some(Step::Way)
                }
                ServerMessage::Forwarded { kind: Kind::IceCandidate, from, payload, .. } if from == *callee_id => {
                    if let Some(text) = candidate_text(&payload) {
                        connection.take_candidate(&text);
                        call.candidates += 1;
                    }
                    None
                }
                ServerMessage::Error(refusal) => return Err(format!("refused as {}: {}", refusal.code, refusal.message)),
                _ => None,
            },
            event = connection.next() => match event {
                Event::Candidate(text) => {
                    call.own += 1;
                    call.candidates += 1;
                    send(caller, Kind::IceCandidate, *callee_id, spell_candidate(&text)).await?;
                    None
                }
                Event::Useless(url, error) => {
                    // There is no other server, and what it has answered is all that comes of it.
                    let is_over = call.relays_only && call.own == 0 && !matches!(error, TurnError::Io(_));
                    call.useless.push((url, error.into()));
                    if is_over {
                        call.step = Step::Way;
                        return Err("there is no relay".into());
                    }
                    None
                }
                Event::Found if call.step == Step::Way => Some(Step::Handshake),
                Event::Connected => Some(Step::Channel),
                Event::Opened(channel, _) => {
                    connection.send(channel, data.clone()).map_err(|error| error.to_string())?;
                    Some(Step::Data)
                }
                Event::Message(_, message) if message == data => {
                    call.times.push(begun.elapsed());
                    return Ok(());
                }
                Event::Message(..) => return Err("what comes back through the channel is something else".into()),
                Event::Ended => return Err("the connection ends".into()),
                Event::Found | Event::Lost | Event::Closed(_) => None,
            },
        };
        if let Some(step) = done {
            call.step = step;
            call.times.push(begun.elapsed());
        }
    }
}

async fn send(client: &mut Client, kind: Kind, to: PeerId, payload: Payload<'static>) -> Result<(), String> {
    let message = ClientMessage::Forward { kind, to, room: None, payload };
    client.send(&Request { id: None, message }).await.map_err(|error| error.to_string())
}

impl Call {
    /// When each step was done.
    fn detail(&self) -> String {
        let after = |step: Step| self.times.get(step as usize).copied().map(millis).unwrap_or_default();
        format!(
            "answer after {}, ICE after {}, DTLS after {}, {DATA_BYTES} bytes there and back after {}",
            after(Step::Answer),
            after(Step::Way),
            after(Step::Handshake),
            after(Step::Data)
        )
    }

    /// What it did not come to, and what to do about it, if that is known of the step alone.
    fn failure(&self, patient: &Patient) -> Option<(String, Option<&'static str>)> {
        if self.times.len() > Step::Data as usize {
            return None;
        }
        let (missing, advice) = match self.step {
            Step::Answer => ("there is no answer", Some("signals do not pass from one session to the other: what says `forward`?")),
            Step::Way => ("ICE finds no way", None),
            Step::Handshake => {
                ("there is a way, but DTLS does not come to an end on it", Some("do packets of 1,200 bytes pass, and not only small ones?"))
            }
            Step::Channel | Step::Data => {
                ("DTLS is done, but data does not come back", Some("do packets of 1,200 bytes pass, and not only small ones?"))
            }
        };
        let mut detail = missing.to_owned();
        match &self.fault {
            Some(fault) => detail = format!("{detail}: {fault}"),
            None => detail = format!("{detail} within {} s", patient.options.timeout.as_secs()),
        }
        if self.step == Step::Way {
            detail = format!("{detail}, with {} candidates beside those of the descriptions", self.candidates);
        }
        if !self.useless.is_empty() {
            detail =
                format!("{detail} ({})", self.useless.iter().map(|(url, fault)| format!("{url}: {fault}")).collect::<Vec<_>>().join("; "));
        }
        Some((detail, advice))
    }
}
