//! `switchboard check`: looks at a server from outside, as its clients do, and tells what works, what does not, why, and what to change.
//!
//! Each part asks one question and answers it with findings. What cannot be asked because of what was found before is told as skipped, so that
//! the first thing that is wrong stands out. `web/pages/examination.js` asks the same from a browser, by the same names.

mod doors;
mod findings;
mod ice;
mod quic;
mod sessions;
mod tls;
mod turn;
#[cfg(feature = "webrtc")]
mod webrtc;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, builder::RangedU64ValueParser};
use reqwest::Url;
use switchboard::client::Options;

use self::findings::Findings;
use crate::roots;

const AFTER_HELP: &str = "\
What is looked at, in this order; a failed one makes the exit status 1:
  certificate    its chain, its names, and for how long it is good (https:// alone)
  discovery      the document at /.well-known/switchboard
  clock          of the server against this machine's, since tokens and credentials have times
  websocket      come in, say hello, and back and forth
  webtransport   the same by UDP, and how large a packet passes; where it fails, who answers to QUIC and who does not
  origin         whether pages may come in: those of the server itself, or of --origin
  forward        2 KB from one session to another and back, across both doors
  resume         a session that lost its connection goes on, and has what was sent to it meanwhile
  stun, turn     each server that clients are told of: by what address it sees this machine; a relay, and a packet
                 through it and back
  webrtc         a call: one session offers, another answers and echoes; ICE, DTLS, 64 KiB there and back (--webrtc)
  webrtc-relay   the same by relays alone, for each way to a TURN server that clients are told of (--webrtc)
  idle           a quiet connection stays (--long)

--json prints one object: url, outcome, and findings, each with check, outcome (ok, warning, failed or skipped), detail
and, where there is something to change, advice.

Examples:
  switchboard check https://example.org
  switchboard check https://example.org --origin https://app.example.org --token \"$TOKEN\" --room lobby
  switchboard check http://localhost:8080 --json
  cargo run --release --features webrtc -- check https://example.org --webrtc
";

/// What is checked, and as whom.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Base URL of the server, as its clients have it
    url: String,

    /// Token to come in with, where the server wants one
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,

    /// Room to meet in, for a token that is not for all; by default one of a random name
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,

    /// Origin of the pages that are to come in; by default the server's own
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// UDP port to look for QUIC on, where it is not where it should be; beside 443, 4433, 8080 and 8443 (repeat it for more)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    quic_port: Vec<u16>,

    /// Certificate authority to trust beside the system's, a PEM file
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// How long each step may take, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<u64>::new().range(1..=300))]
    timeout: u64,

    /// Look as well whether quiet connections stay: takes three times the server's heartbeat
    #[arg(long)]
    long: bool,

    /// Hold a call as well, as two browsers would, by any way and by each TURN server alone; needs the feature webrtc
    #[arg(long)]
    webrtc: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A server, and how it is spoken to.
struct Patient {
    url: Url,
    options: Options,
    token: Option<String>,
    room: String,
    origin: String,
    quic_ports: Vec<u16>,
    is_long: bool,
    #[cfg(feature = "webrtc")]
    holds_calls: bool,
}

/// Examines the server. Fails if anything does not work.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let patient = Patient::new(&arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut findings = Findings::new(arguments.json);
    runtime.block_on(patient.examine(&mut findings))?;
    findings.conclude(&patient.url)
}

impl Patient {
    fn new(Arguments { url, token, room, origin, quic_port, ca, timeout, long, webrtc, .. }: &Arguments) -> anyhow::Result<Self> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let parsed = parsed.ok_or_else(|| {
            let meant = if url.contains("://") { String::new() } else { format!(": is it http://{url} or https://{url}?") };
            anyhow::anyhow!("{url:?} is no base URL, which is http:// or https:// and a host{meant}")
        })?;
        let roots = ca.as_deref().map(roots::read).transpose()?.unwrap_or_default();
        #[cfg(not(feature = "webrtc"))]
        if *webrtc {
            return Err(crate::echo::not_built(&format!("check {url} --webrtc")));
        }
        let origin = origin.clone().unwrap_or_else(|| parsed.origin().ascii_serialization());
        Ok(Self {
            url: parsed,
            options: Options { roots, timeout: Duration::from_secs(*timeout), ..Options::default() },
            token: token.clone(),
            room: room.clone().unwrap_or_else(|| format!("check-{:08x}", fastrand::u32(..))),
            origin,
            quic_ports: quic_port.clone(),
            is_long: *long,
            #[cfg(feature = "webrtc")]
            holds_calls: *webrtc,
        })
    }

    async fn examine(&self, findings: &mut Findings) -> anyhow::Result<()> {
        if self.url.scheme() == "https" && !tls::examine(self, findings).await? {
            let checks = ["discovery", "clock", "websocket", "webtransport", "origin", "forward", "resume", "turn"];
            return self.skip(&checks, "certificate", findings);
        }
        let Some(connector) = doors::discover(self, findings).await? else {
            return self.skip(&["clock", "websocket", "webtransport", "origin", "forward", "resume", "turn"], "discovery", findings);
        };
        let connector = Arc::new(connector);
        let open = doors::examine(self, &connector, findings).await?;
        if open.is_empty() {
            return self.skip(&["origin", "forward", "resume", "turn"], "websocket and webtransport", findings);
        }
        doors::origin(self, &open, findings).await?;
        sessions::forward(self, &connector, &open, findings).await?;
        sessions::resume(self, &connector, &open, findings).await?;
        ice::examine(self, &connector, &open, findings).await?;
        #[cfg(feature = "webrtc")]
        if self.holds_calls {
            webrtc::examine(self, &connector, &open, findings).await?;
        }
        if self.is_long {
            sessions::idle(self, &connector, &open, findings).await?;
        }
        Ok(())
    }

    /// These cannot be looked at for want of another, and neither can what comes after them on demand.
    fn skip(&self, checks: &[&'static str], wanting: &str, findings: &mut Findings) -> anyhow::Result<()> {
        findings.skip(checks, wanting)?;
        #[cfg(feature = "webrtc")]
        if self.holds_calls {
            findings.skip(&webrtc::CHECKS, wanting)?;
        }
        Ok(())
    }
}
