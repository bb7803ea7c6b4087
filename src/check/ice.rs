//! The STUN and TURN servers that clients are told of, each asked for what it is there for.

use std::net::IpAddr;

use serde_json::Value;
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
        Ok::<_, Fault>((client, welcome.ice_servers.parse::<Vec<Value>>()))
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
    let told = read(servers);
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

/// Each URL with its credential, or what is wrong with a server. Of what a server has, other keys mean nothing to browsers.
fn read(servers: Vec<Value>) -> Vec<Result<(IceUrl, Option<TurnCredential>), String>> {
    let mut read = vec![];
    for mut server in servers {
        if let Value::Object(keys) = &mut server {
            keys.retain(|key, value| matches!(&**key, "urls" | "username" | "credential") && !value.is_null());
        }
        match serde_json::from_value::<IceServer>(server) {
            Ok(server) => read.extend(server.urls.iter().map(|url| Ok((url.clone(), server.credential())))),
            Err(error) => read.push(Err(error.to_string())),
        }
    }
    read
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
async fn whereabouts(patient: &Patient, connector: &Connector) -> Whereabouts {
    let place = (bare_host(&patient.url), patient.url.port_or_known_default().unwrap_or_default());
    let found = timeout(patient.options.timeout, lookup_host(place)).await;
    let found: Vec<IpAddr> = found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()).collect();
    let answered_by = connector.discovery().answered_by.or(found.first().copied());
    Whereabouts { answered_by, addresses: answered_by.into_iter().chain(found).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_read_as_browsers_read_them() {
        let servers = json!([
            "stun:a",
            {"urls": ["turn:b", "turns:b"], "username": "u", "credential": "p", "credentialType": "password"},
            {"urls": "stun:c?transport=tcp"},
            {"urls": "turn:user@d", "username": "u", "credential": "p"},
            {"urls": "turn:e?transport=sctp", "username": "u", "credential": "p"},
            {"urls": "turn:f"},
            {"urls": "stun:g", "username": null},
            7,
        ]);
        let read: Vec<_> = read(serde_json::from_value(servers).unwrap())
            .into_iter()
            .map(|server| server.map(|(url, credential)| (url.to_string(), credential.map(|credential| credential.password))).ok())
            .collect();
        let ok = |url: &str, password: Option<&str>| Some((url.to_owned(), password.map(str::to_owned)));
        assert_eq!(
            read,
            [ok("stun:a", None), ok("turn:b", Some("p")), ok("turns:b", Some("p")), None, None, None, None, ok("stun:g", None), None]
        );
    }
}
