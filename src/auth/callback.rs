//! The application decides: it is asked by HTTP who may come in, and which rooms they may enter.
//!
//! A question is a POST of JSON. `{"event": "connect", "peerId", "address", "dialect", "token"?, "user"?}` comes for each client; the token is there
//! where this server does not verify tokens itself, the user where it does. `{"event": "join", "peerId", "address", "dialect", "user"?, "room"}`
//! comes for each room, unless a token or the answer to `connect` has named the rooms. The answer is `{"allow": true, "claims"?: {…}}`, whose claims
//! are those of a token (`sub`, `rooms`, `limits`, `exp`), or `{"allow": false, "reason"?: "…"}`, whose reason is logged.
//!
//! Whatever is no such answer, or does not come in time, is a no; of the claims of an answer to `join` only `rooms` and `exp` count. Answers are kept for
//! a while, for who asks the same as the same: with the same token, or as the same user; without either, as the same peer. Of those at once one asks, and
//! the others hear what it hears. No more questions are under way than may be; the others wait for their turn, as long as an answer may take.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use reqwest::{Client, Url, header};
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout_at,
};
use tracing::{info, warn};

use super::{Authorize, BadToken, Denied, Grant, RoomAccess, Visitor, claims::Claims, jwks, jwt::TOKEN_BYTES_MAX};
use crate::protocol::{Object, PeerId};

/// How the application is asked.
#[derive(Clone, Debug)]
pub struct CallbackSettings {
    /// Where it takes questions.
    pub url: Url,
    /// By this it knows who asks: sent as a bearer token. Never logged.
    pub secret: Option<Secret>,
    /// How long an answer may take, and the turn to ask for it.
    pub deadline: Duration,
    /// How many questions may be under way at once.
    pub concurrent_max: usize,
    /// How long it is kept; not at all if zero.
    pub kept_for: Duration,
}

/// What only the application and this server know.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes what a file holds, if it can stand in a header.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text.trim();
        (!secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(secret.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The application, and what it has answered of late.
pub struct Application {
    settings: CallbackSettings,
    http: Client,
    /// Verifies tokens first, where this server does.
    tokens: Option<Arc<dyn Authorize>>,
    kept: Mutex<Kept>,
    /// One for each question that may be under way.
    turns: Semaphore,
    /// Questions that somebody is asking, or waits to.
    asking: Mutex<HashMap<Question, UnderWay>>,
    /// Did it answer the last time?
    answers: AtomicBool,
}

/// Answers, each until its time is over.
#[derive(Default)]
struct Kept {
    answers: HashMap<Question, (Instant, Result<Claims, Denied>)>,
    /// With so many it is time to drop those whose time is over.
    sweep_at: usize,
}

/// What is asked, but for who exactly asks.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    /// A token, a user, or a peer.
    who: Who,
    dialect: &'static str,
    room: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    /// The SHA-256 of a token, which need not lie about.
    Token([u8; 32]),
    User(Arc<str>),
    Peer(PeerId),
}

/// What an answer may say of a client: the claims that count, and those that every token may have (RFC 7519 §4.1).
const CLAIMS: [&str; 9] = ["sub", "rooms", "limits", "exp", "nbf", "iss", "aud", "iat", "jti"];
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const NO_TURN: &str = "the application cannot be asked: too many questions were under way, see auth.callback_concurrent_max";
const NO_ANSWER: &str = "the application does not answer in time";
/// Answers that are kept; more are asked for each time.
const KEPT_MAX: usize = 10_000;
/// Fewer are not worth a look.
const SWEEP_LEAST: usize = 256;
/// How long a connection is kept for the next question: less than the five seconds after which many servers close one, so that none is asked over a
/// connection that is being closed.
const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(4);

impl Application {
    /// Asks there. With `tokens`, only for clients whose token is good.
    pub fn new(settings: CallbackSettings, tokens: Option<Arc<dyn Authorize>>) -> Result<Self, jwks::FetchError> {
        let http = jwks::builder(settings.url.scheme() == "https", settings.deadline)?;
        let http = http.pool_max_idle_per_host(settings.concurrent_max).pool_idle_timeout(IDLE_CONNECTION_KEPT).build()?;
        let turns = Semaphore::new(settings.concurrent_max);
        Ok(Self { http, turns, settings, tokens, kept: Mutex::default(), asking: Mutex::default(), answers: AtomicBool::new(true) })
    }

    async fn admit(&self, visitor: Visitor) -> Result<Grant, Denied> {
        let verified = match &self.tokens {
            Some(tokens) => Some(tokens.connect(visitor.clone()).await?),
            None => None,
        };
        if visitor.token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX) {
            return Err(Denied::new(BadToken::TooLong.to_string()).counted_as(BadToken::TooLong.slug()));
        }
        let user = verified.as_ref().and_then(|grant| grant.user.clone());
        let visitor = Visitor { token: visitor.token.filter(|_| verified.is_none()), ..visitor };
        let claims = self.ask(&visitor, user, None).await?;
        let base = verified.unwrap_or(Grant { asks_about_rooms: true, ..Grant::ALL });
        let expires_at = [base.expires_at, claims.expires_at].into_iter().flatten().min();
        if expires_at.is_some_and(|expires_at| expires_at <= SystemTime::now()) {
            return Err(Denied::blameless("the application's answer has run out"));
        }
        Ok(Grant {
            user: claims.user.or(base.user),
            rooms: match (claims.names_rooms, base.asks_about_rooms) {
                (true, _) => Some(claims.rooms.into()),
                (false, true) => None,
                (false, false) => base.rooms,
            },
            rates: if claims.rates == Default::default() { base.rates } else { claims.rates },
            expires_at,
            asks_about_rooms: base.asks_about_rooms && !claims.names_rooms,
        })
    }

    async fn enter(&self, visitor: Visitor, user: Option<Arc<str>>, room: String) -> Result<RoomAccess, Denied> {
        let claims = self.ask(&visitor, user, Some(&room)).await?;
        if claims.expires_at.is_some_and(|expires_at| expires_at <= SystemTime::now()) {
            return Err(Denied::new("the application's answer has run out"));
        }
        if !claims.names_rooms {
            return Ok(RoomAccess::default());
        }
        let grant = Grant { rooms: Some(claims.rooms.into()), ..Grant::ALL };
        grant.room(&room).ok_or_else(|| Denied::new("the application's answer is for other rooms"))
    }

    async fn ask(&self, visitor: &Visitor, user: Option<Arc<str>>, room: Option<&str>) -> Result<Claims, Denied> {
        let who = match (&visitor.token, &user) {
            (Some(token), _) => Who::Token(sha256(token)),
            (None, Some(user)) => Who::User(user.clone()),
            (None, None) => Who::Peer(visitor.peer_id),
        };
        let question = Question { who, dialect: visitor.dialect, room: room.map(str::to_owned) };
        let asked = Asked {
            event: if room.is_some() { "join" } else { "connect" },
            peer_id: visitor.peer_id,
            address: visitor.address,
            dialect: visitor.dialect,
            token: visitor.token.as_deref(),
            user: user.as_deref(),
            room,
        };
        let until = tokio::time::Instant::now() + self.settings.deadline;
        if self.settings.kept_for.is_zero() {
            return self.answer(&asked, until).await;
        }
        if let Some(kept) = self.kept(&question, Instant::now()) {
            return kept;
        }
        // If who asks goes, another of those that wait goes on.
        let asking = Asking::begin(self, question.clone());
        let answer = asking.answer.get_or_init(async || {
            let answer = self.answer(&asked, until).await;
            if !answer.as_ref().is_err_and(Denied::is_unavailable) {
                self.keep(question, &answer, Instant::now());
            }
            answer
        });
        timeout_at(until, answer).await.map_err(|_| Denied::unavailable(NO_ANSWER))?.clone()
    }

    /// What the application says, until then.
    async fn answer(&self, asked: &Asked<'_>, until: tokio::time::Instant) -> Result<Claims, Denied> {
        let turn = timeout_at(until, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| Denied::unavailable(NO_TURN))?.expect("turns have no end");
        let answer = timeout_at(until, self.post(asked)).await.unwrap_or_else(|_| Err(NO_ANSWER.into()));
        let answer = answer.and_then(|answer| if answer.allow { answer.read().map(Ok) } else { Ok(Err(answer.reason)) });
        self.tell(answer.as_ref().err());
        // Who asked is not to blame.
        match answer.map_err(Denied::unavailable)? {
            Ok(answer) => Ok(answer),
            Err(reason) => Err(Denied::new(
                reason.map_or_else(|| "the application says no".into(), |reason| format!("the application says no: {reason}")),
            )),
        }
    }

    /// Tells once when it does not answer any more, and once when it does again.
    fn tell(&self, fault: Option<&String>) {
        let answered = self.answers.swap(fault.is_none(), Ordering::Relaxed);
        match fault {
            Some(fault) if answered => {
                warn!(timeout_ms = self.settings.deadline.as_millis() as u64, %fault, "auth.callback_url: nobody new is let in while this lasts");
            }
            None if !answered => info!("auth.callback_url: the application answers again"),
            _ => {}
        }
    }

    async fn post(&self, asked: &Asked<'_>) -> Result<Answered, String> {
        let mut request = self.http.post(self.settings.url.clone()).json(asked);
        if let Some(Secret(secret)) = &self.settings.secret {
            request = request.header(header::AUTHORIZATION, format!("Bearer {secret}"));
        }
        let unreachable = |error: reqwest::Error| match error.is_timeout() {
            true => NO_ANSWER.to_owned(),
            false => format!("the application cannot be asked: {}", jwks::with_causes(&error.without_url())),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let mut answer = Vec::new();
        // To its end even if nothing in it counts: only then does the connection take the next question.
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(format!("the application answers with more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        if response.status() != 200 {
            return Err(format!("the application answers with HTTP status {}", response.status().as_u16()));
        }
        serde_json::from_slice(&answer)
            .map(|Object(answered)| answered)
            .map_err(|error| format!("the application's answer is none: {error}"))
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Question, UnderWay>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, question: &Question, now: Instant) -> Option<Result<Claims, Denied>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = kept.answers.get(question)?;
        (now < *until).then(|| answer.clone())
    }

    fn keep(&self, question: Question, answer: &Result<Claims, Denied>, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.answers.len() >= kept.sweep_at {
            kept.answers.retain(|_, (until, _)| now < *until);
            kept.sweep_at = (2 * kept.answers.len()).clamp(SWEEP_LEAST, KEPT_MAX);
        }
        if kept.answers.len() < KEPT_MAX {
            kept.answers.insert(question, (now + self.settings.kept_for, answer.clone()));
        }
    }
}

/// A question that somebody is asking, and how many want to know.
#[derive(Default)]
struct UnderWay {
    answer: Arc<OnceCell<Result<Claims, Denied>>>,
    awaited_by: usize,
}

/// One who wants to know.
struct Asking<'a> {
    application: &'a Application,
    question: Question,
    answer: Arc<OnceCell<Result<Claims, Denied>>>,
}

impl<'a> Asking<'a> {
    fn begin(application: &'a Application, question: Question) -> Self {
        let mut asking = application.asking();
        let under_way = asking.entry(question.clone()).or_default();
        under_way.awaited_by += 1;
        Self { application, question, answer: under_way.answer.clone() }
    }
}

impl Drop for Asking<'_> {
    /// Who comes later finds the answer among those that are kept, or asks again.
    fn drop(&mut self) {
        let mut asking = self.application.asking();
        // Others may have begun anew.
        if let Some(under_way) = asking.get_mut(&self.question).filter(|under_way| Arc::ptr_eq(&under_way.answer, &self.answer)) {
            under_way.awaited_by -= 1;
            if under_way.awaited_by == 0 || self.answer.initialized() {
                asking.remove(&self.question);
            }
        }
    }
}

impl Authorize for Application {
    fn connect(&self, visitor: Visitor) -> BoxFuture<'_, Result<Grant, Denied>> {
        self.admit(visitor).boxed()
    }

    fn join(&self, visitor: Visitor, user: Option<Arc<str>>, room: String) -> BoxFuture<'_, Result<RoomAccess, Denied>> {
        self.enter(visitor, user, room).boxed()
    }
}

/// A question as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    event: &'static str,
    #[serde(serialize_with = "as_text")]
    peer_id: PeerId,
    address: IpAddr,
    dialect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
}

fn sha256(text: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn as_text<S: serde::Serializer>(peer_id: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(peer_id)
}

/// An answer as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    allow: bool,
    reason: Option<String>,
    claims: Option<Box<RawValue>>,
}

impl Answered {
    /// Refuses what is not known, for it may have been meant to forbid something.
    fn read(self) -> Result<Claims, String> {
        let claims = self.claims.as_ref().map_or("{}", |claims| claims.get());
        let named: HashMap<String, &RawValue> = serde_json::from_str(claims).map_err(|_| "the application's claims are no object")?;
        if let Some(unknown) = named.keys().find(|name| !CLAIMS.contains(&name.as_str())) {
            return Err(format!("the application's claims: there is none called {unknown:?}"));
        }
        Claims::parse(claims.as_bytes()).map_err(|bad| format!("the application's claims: {bad}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_get_a_turn_in_time_is_told_that_nobody_can_be_asked() {
        let (url, deadline) = ("http://127.0.0.1:1/".parse().unwrap(), Duration::from_millis(50));
        for kept_for in [Duration::ZERO, Duration::MAX] {
            let settings = CallbackSettings { url: Url::clone(&url), secret: None, deadline, concurrent_max: 2, kept_for };
            let application = Application::new(settings, None).unwrap();
            let visitor = || Visitor { token: None, peer_id: PeerId::random(), address: [127, 0, 0, 1].into(), dialect: "native" };
            let ask = async || application.connect(visitor()).await.unwrap_err();
            let _first = application.turns.acquire().await.unwrap();
            assert!(ask().await.is_unavailable() && ask().await.to_string() != NO_TURN, "there is a second");
            let _second = application.turns.acquire().await.unwrap();
            let denied = ask().await;
            assert!(denied.is_unavailable() && denied.to_string() == NO_TURN, "{denied}");
            assert!(application.asking().is_empty());
        }
    }
}
