//! The credentials of a session, held against coturn: it takes them for its own, and refuses what is tampered with and what has run out.
//!
//! coturn has to be installed, as `tests/run` does, which then runs these tests; `cargo test` alone leaves them out.

mod support;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use support::{RawClient, TestServer, eventually, http, within};
use switchboard::{client::Door, ice::rest};
use tempfile::TempDir;

const SECRET: &str = "a secret of both";
/// The secret that coturn takes as well.
const NEXT: &str = "the next one";
/// Messages of each client, and how many clients there are.
const MESSAGES: usize = 200;
const CLIENTS: usize = 4;
/// What its client says that gets no relay.
const REFUSED: &str = "Cannot complete Allocation";
/// How often other ports are tried, should somebody have taken one before coturn did.
const ATTEMPTS: usize = 8;

/// A TURN server of Debian's on a free port of 127.0.0.1. Ended by its id when this is dropped.
struct Coturn {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Coturn {
    async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let directory = tempfile::tempdir().unwrap();
            let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let log = File::create(directory.path().join("log")).unwrap();
            let child = Command::new("turnserver")
                // Nothing of the machine's own settings.
                .args(["-n", "--log-file", "stdout", "--no-cli", "--no-tls", "--no-dtls"])
                .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--allow-loopback-peers"])
                .args(["--listening-port", &port.to_string(), "--realm", "example.org", "--fingerprint"])
                .args(["--use-auth-secret", "--static-auth-secret", SECRET, "--static-auth-secret", NEXT])
                .args(["--userdb", "users.sqlite", "--pidfile", "pid"])
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .expect("coturn is installed");
            let mut coturn = Self { child, port, directory };
            let mut is_there = false;
            eventually("coturn listens or has ended", async || {
                is_there = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
                is_there || coturn.child.try_wait().unwrap().is_some()
            })
            .await;
            if is_there {
                return coturn;
            }
        }
        panic!("coturn does not start");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A server whose clients are told of this one, with credentials signed with this.
    fn server(&self, secret: &str, ttl: Duration) -> TestServer {
        let file = self.directory.path().join("secret");
        fs::write(&file, secret).unwrap();
        TestServer::with(|config| {
            config.ice.turn_urls = vec![format!("turn:127.0.0.1:{}", self.port).parse().unwrap()];
            config.ice.turn_secret_files = vec![file];
            config.ice.turn_ttl_ms = ttl.as_millis() as u64;
        })
    }

    /// Has coturn's own client send messages through relays, by UDP or by TCP: whether each has come back, and what it said.
    async fn relays(&self, transport: &str, Login { username, credential }: &Login) -> (bool, String) {
        let log = self.directory.path().join("client");
        let (clients, messages, port) = (CLIENTS.to_string(), MESSAGES.to_string(), self.port.to_string());
        let out = File::create(&log).unwrap();
        let mut command = Command::new("turnutils_uclient");
        // Pairs of clients talk to each other (-y), without RTCP beside each (-c), a message each 5 ms.
        command.args(["-y", "-c", "-m", &clients, "-n", &messages, "-z", "5", "-l", "200", "-p", &port, "-u", username, "-w", credential]);
        command
            .args((transport == "tcp").then_some("-t"))
            .arg("127.0.0.1")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let mut client = command.spawn().expect("coturn is installed");
        // Refused, it tries again and again; so it is ended as soon as it has said what became of it.
        let since = SystemTime::now();
        let said = loop {
            let said = fs::read_to_string(&log).unwrap();
            let is_over = client.try_wait().unwrap().is_some();
            if is_over || said.contains("Total lost packets") || said.contains(REFUSED) {
                break said;
            }
            assert!(since.elapsed().unwrap() < 2 * support::DEADLINE, "it does not end:\n{said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let _ = client.kill();
        client.wait().unwrap();
        let all = format!("tot_send_msgs={0}, tot_recv_msgs={0}", CLIENTS * MESSAGES);
        (said.contains(&all) && said.contains("Total lost packets 0 (0.000000%)"), said)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("what coturn said:\n{}", self.log());
        }
    }
}

#[derive(Debug)]
struct Login {
    username: String,
    credential: String,
}

fn login(servers: &Value) -> Login {
    let text = |key: &str| servers[0][key].as_str().unwrap_or_else(|| panic!("no {key}: {servers}")).to_owned();
    Login { username: text("username"), credential: text("credential") }
}

/// What a client is told in its welcome.
async fn welcomed(server: &TestServer, door: Door) -> Login {
    let mut client = RawClient::silent(server, door).await;
    client.say(serde_json::json!({ "type": "hello" })).await;
    login(&client.hear().await["iceServers"])
}

#[tokio::test]
#[ignore = "needs coturn"]
async fn coturn_takes_the_credential_of_every_session_and_of_who_asks_by_http() {
    let coturn = Coturn::start().await;
    let server = coturn.server(SECRET, Duration::from_secs(3600));
    let mut logins = Vec::new();
    for door in Door::ALL {
        logins.push(welcomed(&server, door).await);
    }
    let answer = within("an answer", http().get(format!("{}/ice", server.base())).send()).await.unwrap();
    logins.push(login(&answer.json::<Value>().await.unwrap()["iceServers"]));
    for login in &logins {
        for transport in ["udp", "tcp"] {
            let (has_all, said) = coturn.relays(transport, login).await;
            assert!(has_all, "{transport}, {login:?}:\n{said}");
        }
    }
}

#[tokio::test]
#[ignore = "needs coturn"]
async fn coturn_takes_a_new_secret_beside_the_old() {
    let coturn = Coturn::start().await;
    for secret in [SECRET, NEXT] {
        let login = welcomed(&coturn.server(secret, Duration::from_secs(3600)), Door::ALL[0]).await;
        let (has_all, said) = coturn.relays("udp", &login).await;
        assert!(has_all, "{secret}:\n{said}");
    }
}

#[tokio::test]
#[ignore = "needs coturn"]
async fn coturn_refuses_what_is_tampered_with_and_what_has_run_out() {
    let coturn = Coturn::start().await;
    let server = coturn.server(SECRET, Duration::from_secs(3600));
    let good = welcomed(&server, Door::ALL[0]).await;
    let (expiry, name) = good.username.split_once(':').unwrap();
    let later = format!("{}:{name}", expiry.parse::<u64>().unwrap() + 1);
    let past = rest::credential(SECRET.as_bytes(), name, SystemTime::now() - Duration::from_secs(60));
    let ran_out = welcomed(&coturn.server(SECRET, Duration::from_millis(1)), Door::ALL[0]).await;
    let now = SystemTime::now();
    eventually("it runs out", async || now.elapsed().unwrap() > Duration::from_secs(2)).await;
    let other = welcomed(&coturn.server("another secret", Duration::from_secs(3600)), Door::ALL[0]).await;
    for (what, login) in [
        ("lasts longer", Login { username: later, credential: good.credential.clone() }),
        ("another's", Login { username: format!("{expiry}:another"), credential: good.credential.clone() }),
        ("a wrong password", Login { username: good.username.clone(), credential: "AAAAAAAAAAAAAAAAAAAAAAAAAAA=".into() }),
        ("over", Login { username: past.username, credential: past.password }),
        ("over by now", ran_out),
        ("another secret", other),
    ] {
        let (has_all, said) = coturn.relays("udp", &login).await;
        assert!(!has_all && said.contains(REFUSED), "{what}, {login:?}:\n{said}");
    }
    // It is none of this that is wrong.
    let (has_all, said) = coturn.relays("udp", &good).await;
    assert!(has_all, "{said}");
}
