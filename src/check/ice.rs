//! The STUN and TURN servers that clients are told of, each asked for what it is there for.

use serde::Deserialize;
use switchboard::{
    client::{
        Connector, Door,
        turn::{By, TurnClient, TurnError},
    },
    ice::TurnCredential,
};
use tokio::{net::lookup_host, time::timeout};

use super::{
    Patient,
    doors::{Fault, greet},
    findings::Findings,
    turn::{self, relay},
};

/// As `RTCPeerConnection` takes it.
#[derive(Deserialize)]
struct Server {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Urls {
    One(String),
    Many(Vec<String>),
}

/// What a URL says: RFC 7064, RFC 7065.
struct Target {
    host: String,
    port: u16,
    by: By,
    relays: bool,
}

/// Asks every server that a client is told of now.
pub async fn examine(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    let told = async {
        let mut client = connector.connect(open[0]).await?;
        let welcome = greet(patient, &mut client).await?;
        Ok::<_, Fault>((client, welcome.ice_servers.parse::<Vec<Server>>()))
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
    for Server { urls, username, credential } in servers {
        let credential = username.zip(credential).map(|(username, password)| TurnCredential { username, password });
        let urls = match urls {
            Urls::One(url) => vec![url],
            Urls::Many(urls) => urls,
        };
        for url in urls {
            look_at(patient, &url, credential.clone(), findings).await?;
        }
    }
    client.close().await;
    Ok(())
}

async fn look_at(patient: &Patient, url: &str, credential: Option<TurnCredential>, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(target) = Target::parse(url) else {
        return findings.failed(
            "turn",
            format!("{url} is none of stun:, stuns:, turn: and turns:"),
            "browsers refuse it: change it in the section ice",
        );
    };
    let check = if target.relays { "turn" } else { "stun" };
    let asked = timeout(patient.options.timeout, async {
        let Some(address) = lookup_host((target.host.as_str(), target.port)).await.map_err(TurnError::Io)?.next() else {
            return Err(turn::Fault::from(TurnError::Io(std::io::ErrorKind::AddrNotAvailable.into())));
        };
        let mut client = TurnClient::connect(address, target.by, &target.host, &patient.options).await?;
        match target.relays {
            false => Ok(format!("sees this machine as {}", client.mapped().await?)),
            true => {
                client.use_credential(credential);
                relay(&mut client).await
            }
        }
    });
    match asked.await {
        Ok(Ok(detail)) => findings.ok(check, format!("{url}: {detail}")),
        Ok(Err(fault)) => findings.failed(check, format!("{url}: {fault}"), fault.advice(&target.host, target.port)),
        Err(_) => {
            let advice = format!(
                "open {} port {} in every firewall on the way, and look whether the server runs",
                if target.by == By::Udp { "UDP" } else { "TCP" },
                target.port
            );
            findings.failed(check, format!("{url}: nothing comes back within {} s", patient.options.timeout.as_secs()), advice)
        }
    }
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (authority, query) = rest.split_once('?').map_or((rest, None), |(authority, query)| (authority, Some(query)));
        let (is_secure, relays) = match scheme {
            "stun" => (false, false),
            "stuns" => (true, false),
            "turn" => (false, true),
            "turns" => (true, true),
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let by = match (is_secure, query) {
            (true, _) => By::Tls,
            (false, Some("transport=tcp")) => By::Tcp,
            (false, _) => By::Udp,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: port.unwrap_or(if is_secure { 5349 } else { 3478 }), by, relays })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_and_how() {
        let parsed = |url| Target::parse(url).map(|Target { host, port, by, relays }| (host, port, by, relays));
        let expected = |host: &str, port, by, relays| Some((host.to_owned(), port, by, relays));
        assert_eq!(parsed("stun:stun.example.org"), expected("stun.example.org", 3478, By::Udp, false));
        assert_eq!(parsed("turn:10.0.0.1:99?transport=tcp"), expected("10.0.0.1", 99, By::Tcp, true));
        assert_eq!(parsed("turn:[::1]:99?transport=udp"), expected("::1", 99, By::Udp, true));
        assert_eq!(parsed("turns:[::1]"), expected("::1", 5349, By::Tls, true));
        assert_eq!(parsed("https://example.org"), None);
        assert_eq!(parsed("turn:host:port"), None);
    }
}
