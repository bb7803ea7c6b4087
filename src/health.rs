//! `switchboard health`: asks the server of these settings on this machine whether it is alive. For an image that holds nothing else to ask with.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Error, anyhow, ensure};
use rustls::crypto::ring;
use switchboard::Config;

/// Whoever watches containers has less patience than a client.
const PATIENCE: Duration = Duration::from_secs(3);

/// What it answers.
pub fn ask(config: &Config) -> anyhow::Result<String> {
    let address = nearby(config.listen.addresses()[0]);
    ensure!(address.port() != 0, "listen: port 0 is one that only the server itself knows");
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}/healthz");
    // Another program in this process has installed one already.
    let _ = ring::default_provider().install_default();
    // The certificate is for the names that others use. Nothing secret is said.
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_danger_accept_invalid_certs(true).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let unanswered = |error: reqwest::Error| anyhow!("{url} does not answer: {:#}", Error::from(error.without_url()));
        let response = http.get(&url).send().await.map_err(unanswered)?;
        let status = response.status();
        ensure!(status.is_success(), "{url} answers with status {status}");
        response.text().await.map_err(unanswered)
    })
}

/// How to reach a server of this machine that listens here.
pub fn nearby(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
