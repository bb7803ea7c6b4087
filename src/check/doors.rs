//! The doors: what the server tells of them, whether they are open, and to whose pages.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use reqwest::Url;
use switchboard::{
    client::{Client, ConnectError, Connector, Door, Options, Transport},
    protocol::{ClientMessage, Codec, Welcome},
};
use tokio::time::{Instant, timeout};
use wtransport::error::ConnectingError;

use super::{
    Patient,
    findings::Findings,
    quic::{self, Answer},
};

/// A server's clock may be so far off before a token is good on one side and not on the other, with the leeway that it has by default.
const SKEW_MAX: Duration = Duration::from_secs(20);
/// No leeway is longer.
const LEEWAY_MAX: Duration = Duration::from_secs(60);
/// Back and forth so often.
const ROUNDS: usize = 5;
/// Where QUIC is found when it is not where it should be.
const PORTS: [u16; 4] = [443, 4433, 8080, 8443];
/// The two that are looked at: JSON over WebSocket, and WebTransport.
const DOORS: [(&str, Door); 2] = [("websocket", Door::WebSocket(Codec::Json)), ("webtransport", Door::WebTransport)];

/// Reads the document that tells of the doors.
pub async fn discover(patient: &Patient, findings: &mut Findings) -> anyhow::Result<Option<Connector>> {
    let begun = SystemTime::now();
    // As a program, so that this and the origins are two things.
    match Connector::new(patient.url.as_str(), patient.options.clone()).await {
        Ok(connector) => {
            let discovery = connector.discovery();
            let kinds: Vec<_> = discovery
                .transports
                .iter()
                .map(|(Transport::WebSocket { url } | Transport::WebTransport { url, .. })| url.as_str())
                .collect();
            findings.ok("discovery", format!("Switchboard {}, open at {}", discovery.version, kinds.join(" and ")))?;
            clock(discovery.date, begun, findings)?;
            Ok(Some(connector))
        }
        Err(error) => {
            let advice = match &error {
                ConnectError::Status { status: 301..400, .. } => "this address leads elsewhere: check the address that it leads to",
                ConnectError::Status { status: 404, .. } => "is it Switchboard that answers there, and does a proxy pass on every path?",
                ConnectError::Status { status: 502..=504, .. } => {
                    "the proxy is there and the server behind it is not: does it run, on the port that the proxy names?"
                }
                ConnectError::Document { .. } => "somebody else answers there: is a proxy in front that serves pages of its own?",
                _ => {
                    "is the server running and listening on an address that others reach (--listen :8080, not localhost), and is the port open?"
                }
            };
            findings.failed("discovery", error.to_string(), advice)?;
            Ok(None)
        }
    }
}

fn clock(date: Option<SystemTime>, begun: SystemTime, findings: &mut Findings) -> anyhow::Result<()> {
    const CHECK: &str = "clock";
    let Some(date) = date else {
        return findings.warning(CHECK, "the server's answer has no date", "does a proxy remove the header Date?");
    };
    // Written in whole seconds, at some time since we asked.
    let behind = begun.duration_since(date).unwrap_or_default().saturating_sub(Duration::from_secs(1));
    let ahead = date.duration_since(SystemTime::now()).unwrap_or_default();
    let (skew, side) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    let detail = format!("the server is {} s {side} this machine", skew.as_secs());
    let advice = "set both clocks by NTP: tokens and credentials run out by the server's";
    match skew {
        _ if skew <= Duration::from_secs(1) => findings.ok(CHECK, "the same here and there"),
        _ if skew <= SKEW_MAX => findings.ok(CHECK, detail),
        _ if skew <= LEEWAY_MAX => findings.warning(CHECK, detail, advice),
        _ => findings.failed(CHECK, detail, advice),
    }
}

/// Comes in by each door, and tells which are open.
pub async fn examine(patient: &Patient, connector: &Connector, findings: &mut Findings) -> anyhow::Result<Vec<Door>> {
    let mut open = vec![];
    for (check, door) in DOORS {
        match visit(patient, connector, door).await {
            Ok(visit) => {
                let mtu = visit.path_mtu.map(|mtu| format!(", packets of {mtu} bytes pass")).unwrap_or_default();
                let detail = format!("in after {}, back and forth in {}{mtu}", millis(visit.greeting), millis(visit.round_trip));
                findings.ok(check, detail)?;
                open.push(door);
            }
            Err(fault) => {
                let (detail, advice) = match (&fault, door) {
                    (Fault::Refused(_), _) => (fault.to_string(), fault.advice()),
                    (Fault::Connect(error), Door::WebTransport) => (fault.to_string(), look_for_quic(patient, connector, error).await),
                    (Fault::Connect(error), Door::WebSocket(_)) => (fault.to_string(), why_no_websocket(error)),
                };
                findings.failed(check, detail, advice)?;
            }
        }
    }
    Ok(open)
}

struct Visit {
    greeting: Duration,
    round_trip: Duration,
    path_mtu: Option<u16>,
}

/// Why a visit failed: before the door, or behind it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// What to do about somebody who is not let in.
    pub fn advice(&self) -> String {
        let said = self.to_string();
        let known = [
            (
                "unauthorized",
                "the server wants a token that it takes: --token; `switchboard token` makes one, and with --check tells what is wrong with one",
            ),
            ("token-expired", "make a new token"),
            (
                "unavailable",
                "the server cannot ask the application (auth.callback_url) or has no keys yet (auth.jwks_url): its log says why",
            ),
            ("forbidden", "the token is not for this room: --room names one that it is for"),
            ("server-full", "raise limits.clients_max"),
            ("too-many-connections", "raise limits.address_connections_max, or name the proxy in trusted_proxies"),
            ("draining", "the server is shutting down"),
            (NOTHING_COMES_BACK, "the server's log at debug may say why"),
        ];
        known.iter().find(|(slug, _)| said.contains(slug)).map_or("the server's log may say why", |(_, advice)| advice).to_owned()
    }
}

impl Fault {
    /// Is who comes not wanted? By WebTransport no status is told, but programs were let in before.
    fn is_forbidden(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Status { status, .. }) => *status == 403,
            Self::Connect(ConnectError::Unreachable { source, .. }) => {
                matches!(source.downcast_ref(), Some(ConnectingError::SessionRejected))
            }
            _ => false,
        }
    }
}

async fn visit(patient: &Patient, connector: &Connector, door: Door) -> Result<Visit, Fault> {
    let begun = Instant::now();
    let refused = |error: &dyn std::fmt::Display| Fault::Refused(error.to_string());
    let mut client = connector.connect(door).await?;
    let conversation = async {
        greet(patient, &mut client).await?;
        let greeting = begun.elapsed();
        let mut rounds = vec![];
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            client.request(ClientMessage::Ping { received: None }).await.map_err(|error| refused(&error))?;
            rounds.push(begun.elapsed());
        }
        rounds.sort();
        Ok(Visit { greeting, round_trip: rounds[ROUNDS / 2], path_mtu: client.path_mtu() })
    };
    let visit = timeout(patient.options.timeout, conversation).await;
    client.close().await;
    visit.unwrap_or_else(|_| Err(silent(patient)))
}

const NOTHING_COMES_BACK: &str = "nothing comes back";

/// Nothing has come in time.
pub fn silent(patient: &Patient) -> Fault {
    Fault::Refused(format!("{NOTHING_COMES_BACK} within {} s", patient.options.timeout.as_secs()))
}

/// Says hello, with the token if there is one.
pub async fn greet(patient: &Patient, client: &mut Client) -> Result<Welcome, Fault> {
    let greeted = async {
        match &patient.token {
            Some(token) => client.hello_with(token).await,
            None => client.hello().await,
        }
    };
    let greeted = timeout(patient.options.timeout, greeted).await.map_err(|_| silent(patient))?;
    greeted.map_err(|error| Fault::Refused(error.to_string()))
}

fn why_no_websocket(error: &ConnectError) -> String {
    match error {
        ConnectError::Status { status: 200 | 400 | 404 | 426, .. } => {
            "a proxy on the way does not pass the upgrade on: for nginx see proxy_http_version, Upgrade and Connection in deploy/nginx.conf"
        }
        ConnectError::Status { status: 403, .. } => "somebody on the way refuses it: a proxy with rules of its own?",
        ConnectError::Status { status: 502..=504, .. } => "the proxy is there and the server behind it is not",
        _ => "is a proxy or a firewall on the way that ends what it does not know?",
    }
    .to_owned()
}

/// Who speaks QUIC there, if it is not the server where it should be.
async fn look_for_quic(patient: &Patient, connector: &Connector, error: &ConnectError) -> String {
    let Some(Transport::WebTransport { url, .. }) = connector.discovery().transport(Door::WebTransport) else {
        return "this server was started without it".into();
    };
    if let ConnectError::Status { status: 403, .. } = error {
        return "somebody on the way refuses it".into();
    }
    let named = url.port_or_known_default().unwrap_or_default();
    let address = timeout(patient.options.timeout, address_of(connector, url)).await;
    let Ok(Some(address)) = address else { return "does its host name have an address here?".into() };
    let answer = async |port| quic::ask(SocketAddr::new(address.ip(), port)).await.unwrap_or(Answer::Silence);
    let here = answer(named).await;
    if here == Answer::Quic {
        return format!(
            "QUIC is spoken on UDP port {named}, so it is not the way: is it another server, or its certificate another one? (the log at debug tells of handshakes)"
        );
    }
    let own = patient.url.port_or_known_default();
    for port in patient.quic_ports.iter().copied().chain(own).chain(PORTS).filter(|&port| port != named) {
        if answer(port).await == Answer::Quic {
            return format!(
                "QUIC is spoken on UDP port {port}, but pages are sent to {named}: forward UDP port {named} to the server, as that of TCP"
            );
        }
    }
    match here {
        Answer::Refused => {
            format!("nobody listens on UDP port {named}: forward it to the server as well as TCP (docker: -p {named}:{named}/udp)")
        }
        _ => format!("nothing comes back from UDP port {named}: open it in every firewall on the way, for UDP as for TCP"),
    }
}

async fn address_of(connector: &Connector, url: &Url) -> Option<SocketAddr> {
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default()?;
    match connector.discovery().answered_by {
        Some(ip) => Some(SocketAddr::new(ip, port)),
        None => tokio::net::lookup_host((host, port)).await.ok()?.next(),
    }
}

/// Comes in by the open doors once more, as a page of that origin.
pub async fn origin(patient: &Patient, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    const CHECK: &str = "origin";
    let options = Options { origin: Some(patient.origin.clone()), ..patient.options.clone() };
    let visited = async {
        let connector = Connector::new(patient.url.as_str(), options).await?;
        for &door in open {
            visit(patient, &connector, door).await?;
        }
        Ok::<_, Fault>(())
    };
    match visited.await {
        Ok(()) => findings.ok(CHECK, format!("pages of {} may come in", patient.origin)),
        Err(fault) => {
            let advice = match fault.is_forbidden() {
                true => format!(
                    "name it in the setting origins, as origins = [\"same-host\", \"{}\"]; behind a proxy pass the Host on",
                    patient.origin
                ),
                false => fault.advice(),
            };
            findings.failed(CHECK, format!("pages of {} may not: {fault}", patient.origin), advice)
        }
    }
}

/// A time as people read it.
pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_wanted_is_told_from_who_does_not_get_there() {
        let url = || "https://localhost/wt".to_owned();
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Unreachable { url: url(), source };
        for (error, is_forbidden) in [
            (ConnectError::Status { url: url(), status: 403 }, true),
            (unreachable(ConnectingError::SessionRejected.into()), true),
            (ConnectError::Status { url: url(), status: 502 }, false),
            (unreachable("nobody listens".into()), false),
            (ConnectError::Timeout { url: url(), timeout: SKEW_MAX }, false),
        ] {
            let fault = Fault::from(error);
            assert_eq!(fault.is_forbidden(), is_forbidden, "{fault}");
        }
    }
}
