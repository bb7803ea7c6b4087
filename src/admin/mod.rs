//! Administration: what whoever runs the server sees of it and does to it, over HTTP on a listener of its own.
//!
//! Everything that tells or changes something wants the token, before it says whether there is such a thing. A page in a browser elsewhere gets nothing:
//! there is no CORS, and a name that somebody has pointed here is refused (DNS rebinding). It runs on a thread of its own, asks the registry for
//! one page at a time, and knows sessions only by what they say of themselves.

mod api;
mod events;
mod page;
mod problem;
mod query;
mod room_name;
mod token;

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Addr;
use actix_http::KeepAlive;
use actix_rt::net::TcpStream;
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::ServerHandle,
    http::{
        Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
        uri::Authority,
    },
    web::{self, Data},
};
use socket2::{SockRef, Socket};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use self::problem::Problem;
pub use self::token::{Token, TokenError};
use crate::{auth::failures::Failures, config::InForce, registry::RoomRegistry};

/// What the program around the server knows, and has in its hands.
#[derive(Default)]
pub struct Program {
    /// The settings, as it put them together.
    pub settings: Vec<InForce>,
    /// What it logs.
    pub log: Option<Arc<dyn LogLevel>>,
}

/// What is logged, which may be changed while the server runs.
pub trait LogLevel: Send + Sync {
    /// The filter in force, as in the setting `log`.
    fn filter(&self) -> String;
    /// Puts another one in force, which is known to be one.
    fn set(&self, filter: &str) -> Result<(), String>;
}

/// What the administration stands on.
pub struct Desk {
    pub registry: Addr<RoomRegistry>,
    pub program: Program,
    pub token: Token,
    /// Names by which it may be asked for, beside addresses and `localhost`.
    pub names: Vec<String>,
    /// The metrics, as Prometheus reads them.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// How many clients there are.
    pub clients: Box<dyn Fn() -> usize + Send + Sync>,
    /// Who has brought wrong tokens here, and waits. Apart from clients: what they do keeps nobody out of here.
    pub failures: Failures,
    /// Turns to wait with a token that may be wrong.
    pub waiting: Semaphore,
    /// Tells the server to shut down.
    pub drain: Box<dyn Fn() + Send + Sync>,
    /// Has it been told to? Then all ends that goes on for long.
    pub stopped: watch::Receiver<bool>,
    pub message_bytes_max: usize,
    pub nesting_max: usize,
    /// How long a request may take to arrive.
    pub patience: Duration,
    /// How many rooms are being watched.
    pub watching: AtomicUsize,
}

/// Connections at once. Whoever runs the server has a few tabs, a Prometheus and some scripts.
const CONNECTIONS_MAX: usize = 128;
/// Requests at once that wait because wrong tokens came from where they come from. The other connections are for those who do not.
pub const WAITING_MAX: usize = CONNECTIONS_MAX / 2;
/// The HTTP crate counts deadlines from a clock that it reads twice a second (`actix_http::date::DateService`).
const CLOCK_LAG: Duration = Duration::from_millis(500);
/// How long answers may take to be read when the server ends.
const LAST_ANSWERS_S: u64 = 1;

/// Serves on these addresses until the handle is told to stop.
pub fn serve(desk: Desk, listeners: Vec<(SocketAddr, TcpListener)>) -> std::io::Result<ServerHandle> {
    let patience = desk.patience;
    let desk = Data::new(desk);
    let app = move || App::new().app_data(desk.clone()).default_service(web::to(answer));
    let mut server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(patience + CLOCK_LAG)
        .client_disconnect_timeout(patience + CLOCK_LAG)
        // Only the first request of a connection has a deadline in the crate, so there is no second.
        .keep_alive(KeepAlive::Disabled)
        .h1_allow_half_closed(false)
        .shutdown_timeout(LAST_ANSWERS_S)
        .on_connect(|io, connection| {
            let io = io.downcast_ref::<TcpStream>().and_then(|io| SockRef::from(io).try_clone().ok());
            if let Some(io) = io {
                connection.insert(Scissors(Arc::new(io)));
            }
        });
    for (address, listener) in listeners {
        if address.ip().is_loopback() {
            info!(%address, "the administration is open");
        } else {
            warn!(%address, "the administration is open to other machines, and its token goes there as plain text");
        }
        server = server.listen(listener)?;
    }
    let server = server.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(handle)
}

/// Ends a connection from outside, whose body is not asked for anything while the other end does not read.
#[derive(Clone)]
struct Scissors(Arc<Socket>);

impl Scissors {
    fn cut(&self) {
        // One that is gone is gone.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Answers every request.
async fn answer(request: HttpRequest, body: web::Payload, desk: Data<Desk>) -> HttpResponse {
    let mut answer = respond(&request, body, &desk).await.unwrap_or_else(Problem::answer);
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    answer
}

/// On every answer: nothing is kept, guessed, framed, or told to where a link leads.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

async fn respond(request: &HttpRequest, body: web::Payload, desk: &Data<Desk>) -> Result<HttpResponse, Problem> {
    desk.check_host(request)?;
    if let Some(open) = page::at(request.path()) {
        return if matches!(*request.method(), Method::GET | Method::HEAD) { Ok(open) } else { Err(not_allowed(request, "GET, HEAD")) };
    }
    desk.check_token(request).await?;
    api::answer(request, body, desk).await
}

/// There is such a path, and not for this method.
fn not_allowed(request: &HttpRequest, allowed: &'static str) -> Problem {
    let detail = format!("{} takes {allowed}, not {}", request.path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).with(header::ALLOW, allowed)
}

impl Desk {
    /// Refuses a name that is not known to be this server's: a page elsewhere may have pointed its own here, and be taken for ours by the browser.
    fn check_host(&self, request: &HttpRequest) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(header::HOST);
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
            _ => None,
        };
        let is_ours = host.is_some_and(|host| !host.as_str().contains('@') && self.is_ours(host.host()));
        let refuse = || {
            let detail = "the Host header names neither an address nor localhost, nor one of cert_names";
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail)
        };
        is_ours.then_some(()).ok_or_else(refuse)
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        address.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Lets nobody in without the token, and makes who guesses wait.
    async fn check_token(&self, request: &HttpRequest) -> Result<(), Problem> {
        let refuse = |challenge: &'static str, detail: &'static str| {
            Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with(header::WWW_AUTHENTICATE, challenge))
        };
        let mut headers = request.headers().get_all(header::AUTHORIZATION);
        let Some(given) = headers.next() else {
            return refuse("Bearer realm=\"switchboard\"", "the token of admin.token_file is wanted, as `Authorization: Bearer TOKEN`");
        };
        let address = request.peer_addr().map(|peer| peer.ip().to_canonical());
        let delay = address.map_or(Duration::ZERO, |address| self.failures.delay(address, Instant::now()));
        if !delay.is_zero() {
            let Ok(_turn) = self.waiting.try_acquire() else {
                let detail = "so many wait because of wrong tokens that no more may; what this token is worth was not looked at";
                let seconds = delay.as_secs() + 1;
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", detail).with(header::RETRY_AFTER, seconds));
            };
            let mut stopped = self.stopped.clone();
            // A server that shuts down waits for nobody.
            let _ = tokio::time::timeout(delay, stopped.wait_for(|stopped| *stopped)).await;
        }
        let scheme_and_token = given.as_bytes().split_at_checked(BEARER.len());
        let token = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER)).map(|(_, token)| token.trim_ascii());
        if headers.next().is_none() && token.is_some_and(|token| self.token.is(token)) {
            return Ok(());
        }
        if let Some(address) = address {
            self.failures.failed(address, Instant::now());
        }
        warn!(address = address.map(tracing::field::display), "the administration was asked with a wrong token");
        refuse("Bearer realm=\"switchboard\", error=\"invalid_token\"", "this is not the token of admin.token_file")
    }

    /// Is one room more to be watched? Given back when dropped.
    fn watch_one(self: &Arc<Self>) -> Option<Watching> {
        let more = |watching| (watching < WATCHED_MAX).then_some(watching + 1);
        let taken = self.watching.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        taken.then(|| Watching(self.clone()))
    }
}

const BEARER: &[u8] = b"bearer ";
/// Rooms that are watched at once.
const WATCHED_MAX: usize = 32;

/// One room that is watched.
struct Watching(Arc<Desk>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::Relaxed);
    }
}
