//! The STUN and TURN servers that clients are told of, each asked for what it is there for.

use switchboard::{
    client::{
        Connector, Door,
        ice::{IceServer, Target},
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

/// Asks every server that a client is told of now.
pub async fn examine(patient: &Patient, connector: &Connector, open: &[Door], findings: &mut Findings) -> anyhow::Result<()> {
    let told = async {
        let mut client = connector.connect(open[0]).await?;
        let welcome = greet(patient, &mut client).await?;
        Ok::<_, Fault>((client, welcome.ice_servers.parse::<Vec<IceServer>>()))
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
    for server in servers {
        for url in server.urls() {
            look_at(patient, url, server.credential(), findings).await?;
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
