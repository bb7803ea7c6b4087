//! Certificates: the self-signed ones that browsers know by hash, and the operator's own pair, swapped while clients are connected.

mod support;

use std::{fs, path::Path, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName, version};
use serde_json::Value;
use support::{DEADLINE, TestServer, authority::Authority, eventually, http, within};
use switchboard::{
    Config,
    client::{Client, Connector, Door, Options},
    protocol::ClientMessage,
};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The hashes that the server tells its clients.
async fn hashes(server: &TestServer) -> Vec<Vec<u8>> {
    let document: Value = http().get(format!("{}/.well-known/switchboard", server.base())).send().await.unwrap().json().await.unwrap();
    let listed = document["transports"][0]["certificateHashes"].as_array().unwrap();
    listed.iter().map(|hash| BASE64_STANDARD.decode(hash["value"].as_str().unwrap()).unwrap()).collect()
}

/// Writes a self-signed pair as the server keeps them, valid from now on for this long.
fn write_self_signed(directory: &Path, stem: &str, valid: Duration) {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned)).unwrap();
    params.not_before = OffsetDateTime::now_utc() - Duration::DAY;
    params.not_after = OffsetDateTime::now_utc() + valid;
    let certificate = params.self_signed(&key).unwrap();
    fs::write(directory.join(format!("{stem}.key.pem")), key.serialize_pem()).unwrap();
    fs::write(directory.join(format!("{stem}.cert.pem")), certificate.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_runs_out_soon_has_its_successor_listed_and_clients_connect_throughout() {
    let server = TestServer::with(|config| config.timeouts.certificate_check_ms = 20);
    assert_eq!(hashes(&server).await.len(), 1);
    let known = Connector::new(server.base(), Options::default()).await.unwrap();
    let mut early = within("a connection", known.connect(Door::WebTransport)).await.unwrap();
    within("a welcome", early.hello()).await.unwrap();

    // What the directory would hold two weeks later.
    for file in fs::read_dir(server.directory.path()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    write_self_signed(server.directory.path(), "self-signed-old", Duration::DAY);
    eventually("two hashes", async || hashes(&server).await.len() == 2).await;
    let mut late = within("a connection", Client::connect(server.base(), Door::WebTransport)).await.unwrap();
    within("a welcome", late.hello()).await.unwrap();
    within("a join", late.join("r", None)).await.unwrap();
    assert_eq!(within("a join", early.join("r", None)).await.unwrap().len(), 1, "nobody was disconnected");
}

/// Comes in by this door with a fresh handshake, trusting this authority alone beside the system's.
async fn visit(authority: &Authority, server: &TestServer, door: Door) -> Result<Client, Box<dyn std::error::Error>> {
    let options = Options { roots: vec![authority.root.clone()], timeout: DEADLINE, ..Options::default() };
    let mut client = Connector::new(server.base(), options).await?.connect(door).await?;
    client.hello().await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_pair_serves_every_door_and_is_swapped_under_live_clients() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    first.sign(directory.path());
    let server = TestServer::with(|config: &mut Config| {
        config.tls_cert = Some(directory.path().join("chain.pem"));
        config.tls_key = Some(directory.path().join("key.pem"));
        config.timeouts.certificate_check_ms = 20;
    });
    assert!(server.url().starts_with("https://"));
    let mut clients = Vec::new();
    for door in Door::ALL {
        let mut client = within("a connection", visit(&first, &server, door)).await.unwrap();
        client.join("r", None).await.unwrap();
        clients.push(client);
    }
    assert!(within("a refusal", visit(&second, &server, Door::ALL[0])).await.is_err(), "the certificate is looked at");

    // A pair that is none, for a while: the last good one is served on.
    fs::write(directory.path().join("key.pem"), "half a k").unwrap();
    for door in Door::ALL {
        within("a connection", visit(&first, &server, door)).await.unwrap();
    }
    second.sign(directory.path());
    eventually("the new pair", async || visit(&second, &server, Door::ALL[0]).await.is_ok()).await;
    for door in Door::ALL {
        within("a connection", visit(&second, &server, door)).await.unwrap();
    }
    assert!(within("a refusal", visit(&first, &server, Door::ALL[0])).await.is_err());
    for client in &mut clients {
        within("an answer", client.request(ClientMessage::Ping { received: None })).await.expect("nobody was disconnected");
    }
}

#[tokio::test]
async fn with_a_real_pair_the_discovery_document_lists_no_hashes_and_secure_doors() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(directory.path());
    let server = TestServer::with(|config: &mut Config| {
        config.tls_cert = Some(directory.path().join("chain.pem"));
        config.tls_key = Some(directory.path().join("key.pem"));
    });
    let trusting = Options { roots: vec![authority.root.clone()], ..Options::default() };
    let connector = within("discovery", Connector::new(server.base(), trusting)).await.unwrap();
    let document = format!("{:?}", connector.discovery());
    assert!(document.contains("certificate_hashes: []") && document.contains("wss"), "{document}");
    let plain = http().get(server.base().replace("https", "http")).send().await;
    assert!(plain.is_err(), "no plain HTTP on this port");
}

#[tokio::test]
async fn the_server_prefers_a_cipher_whatever_the_client_prefers() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign(directory.path());
    let server = TestServer::with(|config: &mut Config| {
        config.tls_cert = Some(directory.path().join("chain.pem"));
        config.tls_key = Some(directory.path().join("key.pem"));
    });
    let address = server.addresses()[0];
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    for version in [&version::TLS12, &version::TLS13] {
        let mut chosen = Vec::new();
        for reversed in [false, true] {
            let mut provider = ring::default_provider();
            if reversed {
                provider.cipher_suites.reverse();
            }
            let builder = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(&[version]).unwrap();
            let tls = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            let tcp = TcpStream::connect(address).await.unwrap();
            let connecting = TlsConnector::from(Arc::new(tls)).connect(ServerName::from(address.ip()), tcp);
            let stream = within("a handshake", connecting).await.unwrap();
            chosen.push(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite());
        }
        assert_eq!(chosen[0], chosen[1], "{version:?}");
    }
}
