//! What sessions are for: that what one says reaches the other, and that they outlive their connections.

use std::{sync::Arc, time::Duration};

use switchboard::{
    client::{Client, ComeInError, Connector, Door, ResumingClient},
    protocol::{ClientMessage, Kind, Payload, PeerId, ServerMessage},
};
use tokio::time::{Instant, timeout};

use super::{
    Patient,
    doors::{Fault, greet, millis},
    findings::Findings,
};

/// As long as an offer is.
const OFFER_BYTES: usize = 2048;
/// So many heartbeats show whether somebody on the way ends what is quiet.
const HEARTBEATS: u32 = 3;

/// Sends an offer from one session to another, and an answer back.
pub async fn forward(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    const CHECK: &str = "forward";
    let doors = [open[0], open[open.len() - 1]];
    let forwarded = timeout(patient.options.timeout, async {
        let mut sender = enter(patient, connector, doors[0]).await?;
        let mut receiver = enter(patient, connector, doors[1]).await?;
        let begun = Instant::now();
        pass(patient, &mut sender, &mut receiver, Kind::Offer).await?;
        let there = begun.elapsed();
        pass(patient, &mut receiver, &mut sender, Kind::Answer).await?;
        let back = begun.elapsed() - there;
        sender.close().await;
        receiver.close().await;
        Ok::<_, Fault>((there, back))
    });
    match forwarded.await {
        Ok(Ok((there, back))) => {
            let detail =
                format!("{OFFER_BYTES} bytes from {} to {} in {}, and back in {}", doors[0], doors[1], millis(there), millis(back));
            findings.ok(CHECK, detail)
        }
        Ok(Err(fault)) => findings.failed(CHECK, fault.to_string(), fault.advice()),
        Err(_) => {
            findings.failed(CHECK, format!("not within {} s", patient.options.timeout.as_secs()), "the server's log at debug may say why")
        }
    }
}

async fn enter(patient: &Patient, connector: &Connector, door: Door) -> Result<Client, Fault> {
    let mut client = connector.connect(door).await?;
    greet(patient, &mut client).await?;
    client.join(&patient.room, None).await.map_err(|error| Fault::Refused(format!("room {:?}: {error}", patient.room)))?;
    Ok(client)
}

async fn pass(patient: &Patient, from: &mut Client, to: &mut Client, kind: Kind) -> Result<(), Fault> {
    let broken = |text: &str| Fault::Refused(text.to_owned());
    let (sender, target) = from.peer_id().zip(to.peer_id()).ok_or_else(|| broken("there was no welcome"))?;
    let payload = Payload::from_serialize(&"x".repeat(OFFER_BYTES)).expect("text can be spelled");
    let message = ClientMessage::Forward { kind, to: target, room: None, payload: payload.clone() };
    from.request(message).await.map_err(|error| Fault::Refused(format!("room {:?}: {error}", patient.room)))?;
    loop {
        let heard = to.receive().await.map_err(|error| Fault::Refused(error.to_string()))?;
        if let ServerMessage::Forwarded { kind: heard, from, payload: arrived, .. } = heard
            && (heard, from) == (kind, sender)
        {
            let is_same = arrived.parse::<String>().ok() == payload.parse().ok();
            return is_same.then_some(()).ok_or_else(|| broken("it arrives as something else"));
        }
    }
}

/// Breaks a connection, says something to its session meanwhile, and comes back for it.
pub async fn resume(patient: &Patient, connector: &Arc<Connector>, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    const CHECK: &str = "resume";
    let begun = Instant::now();
    match timeout(patient.options.timeout, come_back(patient, connector, open)).await {
        Ok(Ok(Return::Unwanted)) => findings.nothing(CHECK, "sessions end with their connections here"),
        Ok(Ok(Return::Resumed)) => findings
            .ok(CHECK, format!("gone by {}, back by {}, nothing lost, after {}", open[0], open[open.len() - 1], millis(begun.elapsed()))),
        Ok(Ok(Return::Forgotten)) => findings.failed(
            CHECK,
            "the server does not know the session any more",
            "are there several servers behind one address? A session lives on one of them",
        ),
        Ok(Err(fault)) => findings.failed(CHECK, fault.to_string(), fault.advice()),
        Err(_) => {
            findings.failed(CHECK, format!("not within {} s", patient.options.timeout.as_secs()), "the server's log at debug may say why")
        }
    }
}

/// What becomes of who comes back.
enum Return {
    Resumed,
    Forgotten,
    /// The server has no place for it: the setting `timeouts.resume_window_ms` is 0.
    Unwanted,
}

async fn come_back(patient: &Patient, connector: &Arc<Connector>, open: &[Door]) -> Result<Return, Fault> {
    let mut away = ResumingClient::connect_with(connector, open[0], patient.token.as_deref()).await.map_err(fault)?;
    if away.resume_window_ms == 0 {
        away.close().await;
        return Ok(Return::Unwanted);
    }
    away.send(None, ClientMessage::Join { room: patient.room.clone().into(), metadata: None }).await;
    hear(&mut away, |message| matches!(message, ServerMessage::Joined { .. })).await?;
    let mut other = enter(patient, connector, open[open.len() - 1]).await?;
    if let Some(connection) = away.leave_behind() {
        connection.abort();
    }
    say(&mut other, away.peer_id).await?;
    if !away.resume(open[open.len() - 1]).await.map_err(fault)? {
        return Ok(Return::Forgotten);
    }
    hear(&mut away, |message| matches!(message, ServerMessage::Forwarded { kind: Kind::Message, .. })).await?;
    away.close().await;
    other.close().await;
    Ok(Return::Resumed)
}

async fn say(client: &mut Client, to: PeerId) -> Result<(), Fault> {
    let payload = Payload::from_serialize(&"meanwhile").expect("text can be spelled");
    let message = ClientMessage::Forward { kind: Kind::Message, to, room: None, payload };
    client.request(message).await.map_err(|error| Fault::Refused(error.to_string()))
}

async fn hear(client: &mut ResumingClient, is_it: impl Fn(&ServerMessage) -> bool) -> Result<(), Fault> {
    loop {
        match client.receive().await.map_err(|error| Fault::Refused(error.to_string()))? {
            message if is_it(&message) => return Ok(()),
            ServerMessage::Error(refusal) => return Err(Fault::Refused(format!("refused as {}: {}", refusal.code, refusal.message))),
            _ => {}
        }
    }
}

fn fault(error: ComeInError) -> Fault {
    match error {
        ComeInError::Connect(error) => Fault::Connect(error),
        ComeInError::Disconnected(error) => Fault::Refused(error.to_string()),
    }
}

/// The longest heartbeat that a server can be set to.
const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);

/// Waits by every door and says nothing but what the server asks for.
pub async fn idle(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    const CHECK: &str = "idle";
    for &door in open {
        let begun = Instant::now();
        let waited = async {
            let mut client = connector.connect(door).await?;
            let welcome = greet(patient, &mut client).await?;
            let heartbeat = Duration::from_millis(welcome.heartbeat_ms).min(HEARTBEAT_MAX);
            match timeout(heartbeat * HEARTBEATS, async { while client.receive().await.is_ok() {} }).await {
                Ok(()) => Ok(None),
                Err(_) => {
                    client.close().await;
                    Ok::<_, Fault>(Some(heartbeat))
                }
            }
        };
        match waited.await {
            Ok(Some(heartbeat)) => {
                let (every, wait) = (heartbeat.as_secs_f64(), (heartbeat * HEARTBEATS).as_secs_f64());
                findings.ok(CHECK, format!("{door}: nothing but a heartbeat every {every} s for {wait} s, and still there"))?;
            }
            Ok(None) => findings.failed(
                CHECK,
                format!("{door}: ended after {} s", begun.elapsed().as_secs()),
                "a proxy on the way ends what is quiet: raise its time-out (nginx: proxy_read_timeout), or lower timeouts.heartbeat_ms",
            )?,
            Err(fault) => findings.failed(CHECK, fault.to_string(), fault.advice())?,
        }
    }
    Ok(())
}
