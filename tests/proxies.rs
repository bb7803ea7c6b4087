//! The proxies of `deploy`: nginx and HAProxy run from the files that are there, with other addresses and paths, and every door works behind
//! them.
//!
//! Both have to be installed, as `tests/run` does, which then runs these tests; `cargo test` alone leaves them out.

mod support;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use reqwest::{StatusCode, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use support::{DEADLINE, TestServer, authority::Authority, broadcast, eventually, goodbye, hear, own_id, unanswered, within};
use switchboard::{
    Config,
    client::{Client, Connector, Door, Options},
    config::OriginRule,
    protocol::{ClientMessage, CloseCode, ServerMessage},
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        self,
        client::IntoClientRequest as _,
        http::{HeaderName, HeaderValue, header::ORIGIN},
    },
};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nginx,
    HaProxy,
}

/// Whether the server behind it has a certificate, and so TLS on TCP too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Tls,
    Plain,
}

const EVERY: [(Kind, Inside); 4] =
    [(Kind::Nginx, Inside::Tls), (Kind::Nginx, Inside::Plain), (Kind::HaProxy, Inside::Tls), (Kind::HaProxy, Inside::Plain)];

/// How long a connection may be silent, in the files.
const SILENCE: &str = "75s";
/// The proxy's own address. Clients come from others.
const PROXY: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// How often other ports are tried, should somebody have taken one before the proxy did.
const ATTEMPTS: usize = 8;

/// A server, and a proxy in front of it.
struct Proxied {
    server: TestServer,
    running: Running,
    authority: Authority,
    directory: TempDir,
}

/// A proxy that answers.
struct Running {
    secure: SocketAddr,
    plain: SocketAddr,
    _process: Process,
    _redirect: Option<Redirect>,
}

/// A process that is told to end when this is dropped, and waited for: nginx has workers to end first.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// What a rule of the firewall does where the proxy takes no UDP: passes it on to the server. For one client after another.
struct Redirect(JoinHandle<()>);

impl Redirect {
    fn start(outside: UdpSocket, server: SocketAddr) -> Self {
        Self(tokio::spawn(async move {
            let inside = UdpSocket::bind((PROXY, 0)).await.unwrap();
            inside.connect(server).await.unwrap();
            let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = outside.recv_from(&mut up) => {
                        client = Some(from);
                        let _ = inside.send(&up[..length]).await;
                    }
                    Ok(length) = inside.recv(&mut down), if client.is_some() => {
                        let _ = outside.send_to(&down[..length], client.expect("somebody spoke first")).await;
                    }
                }
            }
        }))
    }
}

impl Drop for Redirect {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("what the proxy said:\n{}", said(self.directory.path()));
        }
    }
}

impl Proxied {
    async fn start(kind: Kind, inside: Inside) -> Self {
        Self::with(kind, inside, SILENCE, |_| {}).await
    }

    /// With another bound for silence in the file, and other settings of the server.
    async fn with(kind: Kind, inside: Inside, silence: &str, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.sign(directory.path());
        let [cert, key] = ["chain.pem", "key.pem"].map(|name| directory.path().join(name));
        fs::write(directory.path().join("switchboard.pem"), [fs::read(&cert).unwrap(), fs::read(&key).unwrap()].concat()).unwrap();
        let server = TestServer::with(|config| {
            if inside == Inside::Tls {
                (config.tls_cert, config.tls_key) = (Some(cert), Some(key));
            }
            config.trusted_proxies = vec![IpAddr::from(PROXY).into()];
            config.origins = vec![OriginRule::SameHost];
            change(config);
        });
        for _ in 0..ATTEMPTS {
            if let Some(running) = Running::start(kind, inside, silence, directory.path(), server.addresses()[0], &authority).await {
                return Self { server, running, authority, directory };
            }
        }
        panic!("{kind:?} does not start:\n{}", said(directory.path()));
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.running.secure)
    }

    fn http(&self, from: Ipv4Addr) -> reqwest::Client {
        http(&self.authority, from)
    }

    /// The doors, as a client hears of them that comes from this address.
    async fn doors(&self, from: Ipv4Addr) -> Connector {
        let options =
            Options { roots: vec![self.authority.root.clone()], local_address: Some(from.into()), timeout: DEADLINE, ..Options::default() };
        within("the doors", Connector::new(&self.url(""), options)).await.unwrap()
    }

    /// Asks for a WebSocket as a page of this server does: the status of the answer.
    async fn upgrade(&self, path: &str) -> StatusCode {
        self.upgrade_with(path, &[(ORIGIN, &self.url(""))]).await
    }

    /// Asks for a WebSocket with these headers.
    async fn upgrade_with(&self, path: &str, headers: &[(HeaderName, &str)]) -> StatusCode {
        let address = self.running.secure;
        let tcp = within("a connection", TcpStream::connect(address)).await.unwrap();
        let connector = TlsConnector::from(Arc::new(tls(&self.authority)));
        let stream = within("TLS", connector.connect(ServerName::from(address.ip()), tcp)).await.unwrap();
        let mut request = format!("wss://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        match within("an answer", client_async(request, stream)).await {
            Ok((_, response)) => response.status(),
            Err(tungstenite::Error::Http(response)) => response.status(),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

impl Running {
    /// None if it ends instead, for somebody else has its port.
    async fn start(kind: Kind, inside: Inside, silence: &str, directory: &Path, server: SocketAddr, authority: &Authority) -> Option<Self> {
        let (tcp, udp, other) = free_ports().await;
        let (secure, plain) = (tcp.local_addr().unwrap(), other.local_addr().unwrap());
        let settings = match kind {
            Kind::Nginx => nginx(inside, silence, directory, secure, plain, server),
            Kind::HaProxy => haproxy(inside, silence, directory, secure, plain, server),
        };
        fs::write(directory.join("settings"), settings).unwrap();
        drop((tcp, other));
        let redirect = match kind {
            Kind::Nginx => {
                drop(udp);
                None
            }
            Kind::HaProxy => Some(Redirect::start(udp, server)),
        };
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| fs::File::create(directory.join(name)).unwrap());
        let mut command = match kind {
            Kind::Nginx => Command::new("nginx"),
            Kind::HaProxy => Command::new("haproxy"),
        };
        match kind {
            Kind::Nginx => command.args(["-e", "stderr", "-g", "daemon off;", "-c"]),
            Kind::HaProxy => command.args(["-db", "-f"]),
        };
        let child = command.arg(directory.join("settings")).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let mut process = Process(child.unwrap_or_else(|error| panic!("{kind:?}: {error}; tests/run installs it")));

        let (http, mut ended) = (http(authority, PROXY), false);
        eventually("the proxy to answer or to end", async || {
            ended = process.0.try_wait().unwrap().is_some();
            let healthy = http.get(format!("https://{secure}/healthz")).send();
            ended || healthy.await.is_ok_and(|response| response.status() == StatusCode::OK)
        })
        .await;
        (!ended).then_some(Self { secure, plain, _process: process, _redirect: redirect })
    }
}

/// A port that is free for TCP and UDP, and another one for TCP.
async fn free_ports() -> (TcpListener, UdpSocket, TcpListener) {
    for _ in 0..ATTEMPTS {
        let tcp = TcpListener::bind((PROXY, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (tcp, udp, TcpListener::bind((PROXY, 0)).await.unwrap());
        }
    }
    panic!("no port is free for TCP and UDP");
}

/// A file of `deploy` with some of what it says replaced. All of that has to be there.
fn shipped(file: &str, replacements: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    replacements.iter().fold(fs::read_to_string(path).unwrap(), |text, (old, new)| {
        assert!(text.contains(old), "{file} has no {old:?}");
        text.replace(old, new)
    })
}

fn nginx(inside: Inside, silence: &str, directory: &Path, secure: SocketAddr, plain: SocketAddr, server: SocketAddr) -> String {
    let here = directory.display();
    // Where it keeps what is long, which the package has made for the system's nginx alone.
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {here}/{of};\n"));
    shipped(
        "nginx.conf",
        &[
            ("worker_processes auto;", "worker_processes 2;".into()),
            ("worker_rlimit_nofile 65536;", String::new()),
            ("worker_connections 32768;", "worker_connections 512;".into()),
            ("/run/nginx.pid", format!("{here}/nginx.pid")),
            ("/var/log/nginx/", format!("{here}/")),
            ("/etc/ssl/switchboard/", format!("{here}/")),
            ("http {\n", format!("http {{\n{}", temporary.concat())),
            ("listen 80;", format!("listen {plain};")),
            ("listen [::]:80;", String::new()),
            ("listen 443 ", format!("listen {secure} ")),
            ("listen [::]:443 ssl;", String::new()),
            ("listen [::]:443 udp reuseport;", String::new()),
            ("server 127.0.0.1:8080;", format!("server {server};")),
            ("https://switchboard;", if inside == Inside::Tls { "https://switchboard;" } else { "http://switchboard;" }.into()),
            (SILENCE, silence.into()),
        ],
    )
}

fn haproxy(inside: Inside, silence: &str, directory: &Path, secure: SocketAddr, plain: SocketAddr, server: SocketAddr) -> String {
    shipped(
        "haproxy.cfg",
        &[
            ("log /dev/log local0", "log stdout format raw local0".into()),
            ("    user haproxy\n    group haproxy\n", String::new()),
            ("maxconn 30000", "maxconn 200".into()),
            ("    bind :80\n    bind :::80 v6only\n", format!("    bind {plain}\n")),
            ("    bind :::443 v6only ssl crt /etc/haproxy/switchboard.pem alpn http/1.1\n", String::new()),
            ("bind :443 ", format!("bind {secure} ")),
            ("/etc/haproxy/", format!("{}/", directory.display())),
            ("127.0.0.1:8080", server.to_string()),
            (" ssl verify none\n", if inside == Inside::Tls { " ssl verify none\n" } else { "\n" }.into()),
            (SILENCE, silence.into()),
        ],
    )
}

/// All that the proxy has logged.
fn said(directory: &Path) -> String {
    let files = ["stdout", "stderr", "error.log", "switchboard.log"];
    files.map(|name| fs::read_to_string(directory.join(name)).unwrap_or_default()).concat()
}

/// Trusts the authority alone.
fn tls(authority: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into()).with_safe_default_protocol_versions();
    let mut tls = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

/// A client for HTTP that comes from this address.
fn http(authority: &Authority, from: Ipv4Addr) -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(DEADLINE).redirect(Policy::none()).no_proxy();
    builder.local_address(Some(from.into())).tls_backend_preconfigured(tls(authority)).build().unwrap()
}

async fn joined(connector: &Connector, door: Door) -> Client {
    support::connect_to(connector, door, "lobby").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: tests/run"]
async fn every_door_is_open_behind_a_proxy_up_to_the_goodbye_of_a_shutdown() {
    for (kind, inside) in EVERY {
        let proxied = Proxied::start(kind, inside).await;
        let connector = proxied.doors(PROXY).await;
        let mut clients = Vec::new();
        for door in Door::ALL {
            clients.push(joined(&connector, door).await);
        }
        for speaker in 0..clients.len() {
            let from = own_id(&clients[speaker]);
            within("a message to be sent", clients[speaker].send(&unanswered(broadcast(speaker)))).await.unwrap();
            for listener in (0..clients.len()).filter(|listener| *listener != speaker) {
                let heard = hear("what the others say", &mut clients[listener], |message| match message {
                    ServerMessage::Forwarded { from, .. } => Some(from),
                    _ => None,
                });
                assert_eq!(heard.await, from, "{kind:?}, {inside:?}");
            }
        }
        proxied.server.stop();
        for client in &mut clients {
            assert_eq!(goodbye(client).await, CloseCode::Draining, "{kind:?}, {inside:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: tests/run"]
async fn every_path_of_every_dialect_is_the_servers_and_comes_as_it_was_written() {
    for (kind, inside) in EVERY {
        let proxied = Proxied::start(kind, inside).await;
        for path in [
            "/ws",
            "/",
            "/peerjs?key=peerjs&id=a&token=b",
            "/socket.io/?EIO=4&transport=websocket",
            "/tracker",
            "/announce",
            "/y",
            "/matchbox/lobby",
        ] {
            assert_eq!(proxied.upgrade(path).await, StatusCode::SWITCHING_PROTOCOLS, "{kind:?}, {inside:?}: {path}");
        }
        let get = async |path: &str| {
            let response = within("an answer", proxied.http(PROXY).get(proxied.url(path)).send()).await.unwrap();
            (response.status(), response.text().await.unwrap())
        };
        let (status, text) = get("/socket.io/?EIO=4&transport=polling").await;
        assert!(status == StatusCode::OK && text.starts_with("0{"), "{kind:?}, {inside:?}: {status} {text}");
        let (status, text) = get("/a%2Fb//%ff/c%20d").await;
        assert!(status == StatusCode::NOT_FOUND && text.contains("\"/a%2Fb//%ff/c%20d\""), "{kind:?}, {inside:?}: {status} {text}");
        for nothing_public in ["/metrics", "/v1/rooms"] {
            assert_eq!(get(nothing_public).await.0, StatusCode::NOT_FOUND, "{kind:?}, {inside:?}: {nothing_public}");
        }

        let elsewhere = [(ORIGIN, "https://elsewhere.example"), (HeaderName::from_static("x-forwarded-host"), "elsewhere.example")];
        let refused = proxied.upgrade_with("/ws", &elsewhere).await;
        assert_eq!(refused, StatusCode::FORBIDDEN, "{kind:?}, {inside:?}: a client says nothing in the proxy's name");

        let plain = format!("http://{}/call?room=a", proxied.running.plain);
        let response = within("an answer", support::http().get(&plain).send()).await.unwrap();
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(response.headers()["location"], plain.replace("http:", "https:"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: tests/run"]
async fn clients_count_for_their_own_addresses_whatever_they_say() {
    let (first, second) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    for (kind, inside) in EVERY {
        let proxied = Proxied::with(kind, inside, SILENCE, |config| config.limits.address_connections_max = 1).await;
        let mut clients = Vec::new();
        for from in [first, second] {
            clients.push(joined(&proxied.doors(from).await, Door::ALL[0]).await);
        }
        let mut third = within("a connection", proxied.doors(first).await.connect(Door::ALL[0])).await.unwrap();
        assert_eq!(goodbye(&mut third).await, CloseCode::TooManyConnections, "{kind:?}, {inside:?}");

        let liar = proxied.http(second).get(proxied.url("/socket.io/?EIO=4&transport=polling")).header("x-forwarded-for", "192.0.2.1");
        let refused = within("an answer", liar.send()).await.unwrap();
        assert!(!refused.status().is_success(), "{kind:?}, {inside:?}: {}", refused.status());
    }
}

/// The proxy ends a connection on which it hears nothing; the server's heartbeat sees to it that it hears something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: tests/run"]
async fn a_client_that_says_nothing_stays_past_the_silence_that_a_proxy_bears() {
    for (kind, inside) in [(Kind::Nginx, Inside::Tls), (Kind::HaProxy, Inside::Tls)] {
        let proxied = Proxied::with(kind, inside, "2s", |config| {
            (config.timeouts.heartbeat_ms, config.timeouts.silence_ms) = (300, 1500);
        })
        .await;
        let connector = proxied.doors(PROXY).await;
        let mut clients = Vec::new();
        for door in Door::ALL {
            // In rooms of their own, where nobody speaks to them.
            let mut client = within("a connection", connector.connect(door)).await.unwrap();
            within("a welcome", client.hello()).await.unwrap();
            within("a room", client.join(&door.to_string(), None)).await.unwrap();
            clients.push(client);
        }
        // The time itself is what counts here.
        let silent = clients.iter_mut().map(|client| timeout(Duration::from_secs(4), client.receive()));
        for heard in futures_util::future::join_all(silent).await {
            assert!(heard.is_err(), "{kind:?}: {heard:?}");
        }
        for client in &mut clients {
            within("an answer", client.request(ClientMessage::Ping { received: None })).await.expect("it is still there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: tests/run"]
async fn a_token_in_the_query_is_not_in_the_proxys_log() {
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let proxied = Proxied::start(kind, Inside::Plain).await;
        assert_eq!(proxied.upgrade("/tracker?token=hush-hush").await, StatusCode::SWITCHING_PROTOCOLS);
        // A server that is gone is no reason either.
        proxied.server.stop();
        eventually("a refusal", async || {
            let gone = proxied.http(PROXY).get(proxied.url("/tracker?token=hush-hush")).send().await;
            gone.is_ok_and(|response| matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE))
        })
        .await;
        eventually("the log", async || said(proxied.directory.path()).lines().filter(|line| line.contains("/tracker")).count() >= 2).await;
        assert!(!said(proxied.directory.path()).contains("hush-hush"), "{kind:?}");
    }
}
