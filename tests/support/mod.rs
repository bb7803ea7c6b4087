//! What the tests stand on: a server on a free port with a directory of its own, and deadlines on every wait.

// Each test file is a program of its own and uses its own part of this.
#![allow(dead_code)]

use std::{
    future::Future,
    ops::Deref,
    sync::LazyLock,
    time::{Duration, Instant},
};

use switchboard::{
    Config, Server,
    client::{Client, Door},
};
use tempfile::TempDir;

/// No wait is longer. Far more than anything takes, on a slow machine as well.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running server. It is stopped when this is dropped.
pub struct TestServer {
    server: Option<Server>,
    pub directory: TempDir,
}

impl TestServer {
    /// A server with the default settings, on 127.0.0.1.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A server with some settings changed.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the certificates");
        let mut config = Config { cert_dir: directory.path().to_owned(), ..Config::default() };
        config.listen = "127.0.0.1:0".parse().expect("an address");
        change(&mut config);
        let server = Server::start(config).expect("the server starts");
        Self { server: Some(server), directory }
    }

    /// Waits until it has shut down.
    pub async fn wait(&mut self) {
        let server = self.server.take().expect("it is waited for once");
        tokio::task::spawn_blocking(|| server.wait()).await.expect("no panic");
    }

    /// The base URL without the slash at its end.
    pub fn base(&self) -> &str {
        self.url().trim_end_matches('/')
    }
}

impl Deref for TestServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("it runs until this is dropped")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            // A thread of a runtime must not wait for the end, which needs that runtime's clients to move.
            std::thread::spawn(|| server.wait());
        }
    }
}

/// Waits for what has to happen, and fails the test by the name of it if it does not.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !condition().await {
        assert!(since.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client for plain HTTP and HTTPS that trusts nobody in particular.
pub fn http() -> reqwest::Client {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| drop(rustls::crypto::ring::default_provider().install_default()));
    LazyLock::force(&PROVIDER);
    reqwest::Client::builder().timeout(DEADLINE).redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// A client that has been welcomed.
pub async fn connect(server: &TestServer, door: Door) -> Client {
    let mut client = within("a connection", Client::connect(server.base(), door)).await.expect("a connection");
    within("a welcome", client.hello()).await.expect("a welcome");
    client
}

/// The seed of a random test: a new one each time, or that of a run to be repeated. Printed where the test fails.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64,
    };
    println!("SEED={seed}");
    seed
}

/// Random numbers that a seed repeats: SplitMix64.
pub struct Random(u64);

impl Random {
    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound`, which is not among them.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
