//! The STUN and TURN servers that clients are told of, each asked for what it is there for.

use std::net::IpAddr;

use switchboard::{
    client::{Connector, Door, bare_host},
    ice::{IceServer, IceUrl, TurnCredential},
};
use tokio::{net::lookup_host, time::timeout};

use super::{
    Patient,
    doors::{Fault, greet},
    findings::Findings,
    turn::{self, Whereabouts},
};

/// So many URLs are looked at. Browsers find that five are many.
const URLS_MAX: usize = 16;

/// Asks every server that a client is told of now.
pub async fn examine(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    let told = async {
        let mut client = connector.connect(open[0]).await?;
        let welcome = greet(patient, &mut client).await?;
        Ok::<_, Fault>((client, IceServer::read_told(&welcome.ice_servers)))
    };
    // The credentials are good for as long as the session is there.
    let (client, servers) = match told.await {
        Ok((client, Ok(servers))) => (client, servers),
        Ok((_, Err(error))) => {
            return findings.failed("turn", format!("iceServers of the welcome: {error}"), "is it Switchboard that answers?");
        }
        Err(fault) => return findings.failed("turn", fault.to_string(), fault.advice()),
    };
    if servers.is_empty() {
        findings.nothing(
            "turn",
            "clients are told of no STUN or TURN server; between networks they need some: --turn, or the section ice of the settings",
        )?;
    }
    let whereabouts = whereabouts(patient, connector).await;
    let told = urls(servers);
    for server in told.iter().take(URLS_MAX) {
        match server {
            Ok((url, credential)) => look_at(patient, &whereabouts, url, credential.clone(), findings).await?,
            Err(problem) => {
                findings.failed(
                    "turn",
                    format!("iceServers of the welcome: {problem}"),
                    "browsers refuse it: change it in the section ice",
                )?;
            }
        }
    }
    if told.len() > URLS_MAX {
        let detail = format!("clients are told of {} URLs, of which {URLS_MAX} were looked at", told.len());
        findings.warning("turn", detail, "take some away in the section ice: browsers ask all of them for each call")?;
    }
    client.close().await;
    Ok(())
}

/// Each URL with its credential, or what is wrong with a server.
fn urls(servers: Vec<Result<IceServer, String>>) -> Vec<Result<(IceUrl, Option<TurnCredential>), String>> {
    let of_one = |server: IceServer| server.urls.iter().map(|url| Ok((url.clone(), server.credential()))).collect();
    servers.into_iter().flat_map(|server| server.map_or_else(|problem| vec![Err(problem)], of_one)).collect()
}

async fn look_at(
    patient: &Patient,
    whereabouts: &Whereabouts,
    url: &IceUrl,
    credential: Option<TurnCredential>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let check = if url.is_turn() { "turn" } else { "stun" };
    let Some(by) = url.by() else {
        let detail = format!("{url} says TURN over DTLS, which was not looked at: browsers do not speak it");
        return findings.warning(check, detail, "name it with ?transport=tcp, for TLS");
    };
    match turn::examine(&patient.options, url, by, credential).await {
        Ok(detail) => findings.ok(check, format!("{url}: {detail}")),
        Err(fault) => findings.failed(check, format!("{url}: {fault}"), fault.advice(url, by, whereabouts)),
    }
}

/// Where the server itself was found.
pub async fn whereabouts(patient: &Patient, connector: &Connector) -> Whereabouts {
    let place = (bare_host(&patient.url), patient.url.port_or_known_default().unwrap_or_default());
    let found = timeout(patient.options.timeout, lookup_host(place)).await;
    let found: Vec<IpAddr> = found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()).collect();
    let answered_by = connector.discovery().answered_by.or(found.first().copied());
    Whereabouts { answered_by, addresses: answered_by.into_iter().chain(found).collect() }
}
