//! What a token says: its claims, read from JSON, and the grant that they come to. Pure.
//!
//! A claim that is there and is not understood is refused, never passed over: what was meant to forbid something must not allow it.

use std::{
    collections::HashSet,
    fmt,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    grant::{Grant, RateLimits, Rights, RoomGrant, RoomPattern},
    jwt::BadToken,
};
use crate::{protocol::Object, slips};

/// Bytes of a `sub`, which everybody in a room is told: as OpenID Connect has it (Core, §2).
pub const USER_BYTES_MAX: usize = 255;
/// The last second of the year 9999. Nobody means a later one: it is a number of milliseconds.
const LATEST: f64 = 253_402_300_799.0;

/// What a token says. Read from a token whose signature nobody looked at, it is what anybody may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: who it is for.
    pub user: Option<Arc<str>>,
    /// `exp`: when it runs out.
    pub expires_at: Option<SystemTime>,
    /// `nbf`: when its time begins.
    pub not_before: Option<SystemTime>,
    /// `iss`: who made it.
    pub issuer: Option<String>,
    /// `aud`: whom it is meant for.
    pub audience: Vec<String>,
    /// `rooms`: where it lets one in; nowhere if missing.
    pub rooms: Vec<RoomGrant>,
    /// Is `rooms` there? If not, whoever else can be asked about rooms may be.
    pub names_rooms: bool,
    /// `limits`: how fast its bearer may be.
    pub rates: RateLimits,
}

/// What a server wants of every token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The only `iss` that is taken; any and none if missing.
    pub issuer: Option<String>,
    /// What `aud` has to hold; anything and nothing if missing.
    pub audience: Option<String>,
    /// How far the clocks of who makes tokens and of this server may be apart.
    pub leeway: Duration,
}

/// What is wrong with a claim: where in it, and what it has to be. Of what a token holds it tells names, numbers and lengths, and no other text; names
/// are written so that a terminal takes nothing of them for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimFault {
    /// As `rooms.lobby.peers`.
    path: String,
    problem: String,
}

impl Claims {
    /// Reads them from a token's payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, BadToken> {
        let (claims, faults) = Self::read(payload)?;
        faults.into_iter().next().map_or(Ok(claims), |fault| Err(BadToken::Claim(fault)))
    }

    /// The same for who only looks at them: those that are understood, and what is wrong with the others, which are left out.
    pub(super) fn read(payload: &[u8]) -> Result<(Self, Vec<ClaimFault>), BadToken> {
        let raw: Raw<'_> = object(payload)?;
        let mut faults = Vec::new();
        claim("iat", raw.iat, made_at, &mut faults);
        let claims = Self {
            user: claim("sub", raw.sub, user, &mut faults),
            expires_at: claim("exp", raw.exp, date, &mut faults),
            not_before: claim("nbf", raw.nbf, date, &mut faults),
            issuer: claim("iss", raw.iss, text, &mut faults),
            audience: claim("aud", raw.aud, audience, &mut faults).unwrap_or_default(),
            names_rooms: raw.rooms.is_some(),
            rooms: claim("rooms", raw.rooms, rooms, &mut faults).unwrap_or_default(),
            rates: claim("limits", raw.limits, limits, &mut faults).unwrap_or_default(),
        };
        Ok((claims, faults))
    }

    /// Refuses them if they are not for this server, or not for this time.
    pub fn check(&self, rules: &Rules, now: SystemTime) -> Result<(), BadToken> {
        let expires_at = self.expires_at.ok_or(BadToken::NoExpiry)?;
        // `exp` itself is the first moment at which it has run out: RFC 7519 §4.1.4.
        if expires_at + rules.leeway <= now {
            return Err(BadToken::Expired);
        }
        if self.not_before.is_some_and(|not_before| now + rules.leeway < not_before) {
            return Err(BadToken::NotYetValid);
        }
        if rules.issuer.is_some() && self.issuer != rules.issuer {
            return Err(BadToken::Issuer);
        }
        if rules.audience.as_ref().is_some_and(|audience| !self.audience.contains(audience)) {
            return Err(BadToken::Audience);
        }
        Ok(())
    }

    /// What its bearer may do. The leeway is for clocks that differ, and no gift: who came in time goes at `exp`, and only who came after it goes when
    /// the leeway is over.
    pub(super) fn grant(self, rules: &Rules, now: SystemTime) -> Grant {
        let expires_at = self.expires_at.map(|expires_at| if now < expires_at { expires_at } else { expires_at + rules.leeway });
        let asks_about_rooms = !self.names_rooms;
        Grant { user: self.user, rooms: Some(self.rooms.into()), rates: self.rates, expires_at, asks_about_rooms }
    }
}

/// A JSON object, and no array: an empty one would be every right.
pub(super) fn object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, BadToken> {
    serde_json::from_slice(json).map(|Object(object)| object).map_err(|_| BadToken::Malformed)
}

/// The claims that count. A name that is there twice is an error.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    rooms: Option<&'a RawValue>,
    #[serde(borrow)]
    limits: Option<&'a RawValue>,
}

/// Reads a claim, if it is there.
fn claim<'a, T>(
    name: &str,
    raw: Option<&'a RawValue>,
    read: impl Fn(&'a RawValue) -> Result<T, ClaimFault>,
    faults: &mut Vec<ClaimFault>,
) -> Option<T> {
    read(raw?).map_err(|fault| faults.push(fault.within(name))).ok()
}

fn text(raw: &RawValue) -> Result<String, ClaimFault> {
    serde_json::from_str(raw.get()).map_err(|_| ClaimFault::new(format!("{} is no text", found(raw))))
}

fn user(raw: &RawValue) -> Result<Arc<str>, ClaimFault> {
    let user = text(raw)?;
    match user.len() {
        0 => Err(ClaimFault::new("is empty")),
        1..=USER_BYTES_MAX => Ok(user.into()),
        bytes => Err(ClaimFault::new(format!("{bytes} bytes, at most {USER_BYTES_MAX}"))),
    }
}

/// Seconds since 1970, with a fraction or without: `NumericDate` of RFC 7519 §2.
fn date(raw: &RawValue) -> Result<SystemTime, ClaimFault> {
    let seconds: f64 =
        serde_json::from_str(raw.get()).map_err(|_| ClaimFault::new(format!("{} is no number of seconds since 1970", found(raw))))?;
    if seconds > LATEST {
        return Err(ClaimFault::new(format!("{} seconds end after the year 9999, is it in milliseconds?", found(raw))));
    }
    Ok(UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0)))
}

/// `iat` is nobody's here, but where it is in milliseconds, so is what whoever made the token takes for seconds.
fn made_at(raw: &RawValue) -> Result<(), ClaimFault> {
    let is_number = serde_json::from_str::<f64>(raw.get()).is_ok();
    if is_number { date(raw).map(drop) } else { Ok(()) }
}

/// One or several: RFC 7519 §4.1.3.
fn audience(raw: &RawValue) -> Result<Vec<String>, ClaimFault> {
    match list(raw) {
        Some(all) => {
            all.into_iter().map(|one| text(one).map_err(|_| ClaimFault::new(format!("{} in the list is no text", found(one))))).collect()
        }
        None => Ok(vec![text(raw).map_err(|_| ClaimFault::new(format!("{} is neither a text nor a list of texts", found(raw))))?]),
    }
}

/// Names or patterns alone, or each with what it is good for.
fn rooms(raw: &RawValue) -> Result<Vec<RoomGrant>, ClaimFault> {
    let named = |name: &RawValue| match text(name) {
        Ok(name) => Ok(Conditions::default().grant(&name)),
        Err(_) => Err(ClaimFault::new(format!("{} in the list is no name of a room", found(name)))),
    };
    if let Some(names) = list(raw) {
        return names.into_iter().map(named).collect();
    }
    let wanted =
        r#"neither a list of rooms, as ["lobby", "team-*"], nor an object of what each is good for, as {"lobby": {"publish": false}}"#;
    let with_conditions = |(name, conditions): (String, &RawValue)| match Conditions::read(conditions) {
        Ok(conditions) => Ok(conditions.grant(&name)),
        Err(fault) => Err(fault.within(&name)),
    };
    members(raw, wanted)?.into_iter().map(with_conditions).collect()
}

struct Conditions {
    publish: bool,
    subscribe: bool,
    broadcast: bool,
    observe: bool,
    peers: Option<u32>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { publish: true, subscribe: true, broadcast: true, observe: true, peers: None }
    }
}

impl Conditions {
    fn read(raw: &RawValue) -> Result<Self, ClaimFault> {
        let mut all = Self::default();
        for (name, value) in members(raw, r#"no object of rights, as {"publish": false, "peers": 10}"#)? {
            let read = match name.as_str() {
                "publish" => flag(value).map(|flag| all.publish = flag),
                "subscribe" => flag(value).map(|flag| all.subscribe = flag),
                "broadcast" => flag(value).map(|flag| all.broadcast = flag),
                "observe" => flag(value).map(|flag| all.observe = flag),
                "peers" => positive(value).map(|peers| all.peers = peers),
                _ => Err(unknown("right", &name, &["publish", "subscribe", "broadcast", "observe", "peers"])),
            };
            read.map_err(|fault| fault.within(&name))?;
        }
        Ok(all)
    }

    fn grant(self, name: &str) -> RoomGrant {
        let Self { publish, subscribe, broadcast, observe, peers } = self;
        RoomGrant {
            rooms: RoomPattern::parse(name),
            rights: Rights { publish, subscribe, broadcast, observe },
            peers_max: peers.map(|peers| peers as usize),
        }
    }
}

fn limits(raw: &RawValue) -> Result<RateLimits, ClaimFault> {
    let mut limits = RateLimits::default();
    for (name, value) in members(raw, r#"no object of limits, as {"messagesPerSecond": 5}"#)? {
        let read = match name.as_str() {
            "messagesPerSecond" => positive(value).map(|limit| limits.messages_per_second = limit),
            "bytesPerSecond" => positive(value).map(|limit| limits.bytes_per_second = limit),
            "joinsPerSecond" => positive(value).map(|limit| limits.joins_per_second = limit),
            _ => Err(unknown("limit", &name, &["messagesPerSecond", "bytesPerSecond", "joinsPerSecond"])),
        };
        read.map_err(|fault| fault.within(&name))?;
    }
    Ok(limits)
}

fn flag(raw: &RawValue) -> Result<bool, ClaimFault> {
    serde_json::from_str(raw.get()).map_err(|_| ClaimFault::new(format!("{} is neither true nor false", found(raw))))
}

/// A whole number of 1 or more; none if it is null.
fn positive(raw: &RawValue) -> Result<Option<u32>, ClaimFault> {
    let number: Result<Option<NonZeroU32>, _> = serde_json::from_str(raw.get());
    let wanted = || ClaimFault::new(format!("{} is no whole number from 1 to {}", found(raw), u32::MAX));
    number.map(|number| number.map(NonZeroU32::get)).map_err(|_| wanted())
}

fn unknown(kind: &str, name: &str, known: &[&str]) -> ClaimFault {
    ClaimFault::new(match slips::nearest(name, known) {
        Some(nearest) => format!("unknown {kind}, did you mean {nearest}?"),
        None => format!("unknown {kind}, which is one of {}", known.join(", ")),
    })
}

/// The items of a list, if it is one.
fn list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// The members of an object, each of another name.
fn members<'a>(raw: &'a RawValue, wanted: &str) -> Result<Vec<(String, &'a RawValue)>, ClaimFault> {
    let Members(members) = serde_json::from_str(raw.get()).map_err(|_| ClaimFault::new(format!("{} is {wanted}", found(raw))))?;
    let mut names = HashSet::new();
    match members.iter().find(|(name, _)| !names.insert(name)) {
        Some((name, _)) => Err(ClaimFault::new("is there twice").within(name)),
        None => Ok(members),
    }
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// What stands there, without the text in it.
fn found(raw: &RawValue) -> &str {
    const NUMBER_BYTES_MAX: usize = 40;
    match raw.get().as_bytes().first() {
        Some(b'"') => "\"…\"",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        // A number, true, false or null: all of it is ASCII.
        _ => raw.get().get(..NUMBER_BYTES_MAX).unwrap_or(raw.get()),
    }
}

impl ClaimFault {
    fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// The same in what is called so.
    fn within(self, name: &str) -> Self {
        const NAME_CHARS_MAX: usize = 64;
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_*".contains(char);
        let shown: String = match name.char_indices().nth(NAME_CHARS_MAX) {
            Some((end, _)) => format!("{:?}", format!("{}…", &name[..end])),
            None if name.is_empty() || !name.chars().all(is_plain) => format!("{name:?}"),
            None => name.to_owned(),
        };
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{shown}{dot}{}", self.path), ..self }
    }

    /// The claim that it is in.
    pub fn claim(&self) -> &str {
        self.path.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for ClaimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(claims: Value) -> Result<Claims, BadToken> {
        Claims::parse(claims.to_string().as_bytes())
    }

    /// The claim in which something is wrong.
    fn wrong(parsed: Result<Claims, BadToken>) -> String {
        match parsed {
            Err(BadToken::Claim(fault)) => fault.claim().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn rooms(rooms: Value) -> Vec<RoomGrant> {
        parsed(json!({ "rooms": rooms })).unwrap().rooms
    }

    fn at(seconds: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    /// Whether claims are fine at these seconds, with a leeway of 30.
    fn checked(claims: Value, now: f64) -> Result<(), BadToken> {
        parsed(claims).unwrap().check(&Rules { leeway: Duration::from_secs(30), ..Rules::default() }, at(now))
    }

    #[test]
    fn rooms_are_names_with_every_right_or_a_map_of_what_each_is_good_for() {
        let all = |name: &str| RoomGrant { rooms: RoomPattern::parse(name), rights: Rights::ALL, peers_max: None };
        assert_eq!(rooms(json!(["lobby", "team-*"])), [all("lobby"), all("team-*")]);
        assert_eq!(rooms(json!({ "a": {}, "b*": {} })), [all("a"), all("b*")]);
        let some =
            rooms(json!({ "a": { "publish": false, "broadcast": false, "peers": 10 }, "b": { "subscribe": false, "observe": false } }));
        let rights = |publish, subscribe, broadcast, observe| Rights { publish, subscribe, broadcast, observe };
        assert_eq!(some[0].rights, rights(false, true, false, true));
        assert_eq!(some[0].peers_max, Some(10));
        assert_eq!(some[1].rights, rights(true, false, true, false));
    }

    #[test]
    fn without_rooms_there_is_no_room() {
        for claims in [json!({}), json!({ "rooms": null }), json!({ "rooms": [] }), json!({ "rooms": {} })] {
            let grant = parsed(claims.clone()).unwrap().grant(&Rules::default(), UNIX_EPOCH);
            assert_eq!(grant.room("any"), None, "{claims}");
            assert_eq!(grant.rooms.as_deref(), Some(&[][..]), "{claims}");
        }
    }

    #[test]
    fn what_is_not_understood_allows_nothing() {
        let bad = [
            ("sub", json!(["alice", 7, { "name": "x" }, true, "", "x".repeat(256)])),
            ("exp", json!(["1", "never", true, [1], {}, 253_402_300_800_u64, 1e300])),
            ("nbf", json!(["1", true, [1], {}, 1_763_815_368_000_u64])),
            ("iat", json!([1_763_815_368_000_u64])),
            ("iss", json!([7, ["a"], {}])),
            ("aud", json!([7, [7], { "a": 1 }, ["a", null]])),
            (
                "rooms",
                json!([
                    "lobby", 7, true, [7], [["lobby"]], { "lobby": true }, { "lobby": [] }, { "lobby": [true, true, true, true, null] }, { "lobby": null }, { "lobby": { "publsh": false } },
                    { "lobby": { "publish": "no" } }, { "lobby": { "publish": null } }, { "lobby": { "peers": 0 } }, { "lobby": { "peers": -1 } },
                    { "lobby": { "peers": 1.5 } }, { "lobby": { "peers": "10" } },
                ]),
            ),
            (
                "limits",
                json!([
                    7, [1], [1, 1, 1], "fast", { "messagesPerSecond": 0 }, { "messagesPerSecond": -1 }, { "bytesPerSecond": 4_294_967_296_u64 },
                    { "joinsPerSecond": "1" }, { "messages_per_second": 1 },
                ]),
            ),
        ];
        for (name, values) in bad {
            let values = values.as_array().unwrap().clone();
            let values = if name == "sub" { values[1..].to_vec() } else { values };
            for value in values {
                assert_eq!(wrong(parsed(json!({ name: value }))), name, "{name}: {value}");
            }
        }
        let twice = |json: &str| Claims::parse(json.as_bytes());
        assert_eq!(twice(r#"{"exp":1,"exp":9999999999}"#), Err(BadToken::Malformed));
        assert_eq!(wrong(twice(r#"{"rooms":{"a":{},"a":{"publish":false}}}"#)), "rooms");
        assert_eq!(wrong(twice(r#"{"rooms":{"a":{"publish":false,"publish":true}}}"#)), "rooms");
        for other in ["", "[]", "null", "\"x\"", "7", "{", "{}x", "[null,1,null,null,null,[\"*\"],null]"] {
            assert_eq!(twice(other), Err(BadToken::Malformed), "{other}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_claim_is_told_with_its_place_and_without_its_text() {
        let long = "x".repeat(1000);
        for (claims, said) in [
            (json!({ "sub": 7 }), "sub: 7 is no text"),
            (json!({ "sub": "" }), "sub: is empty"),
            (json!({ "sub": "x".repeat(300) }), "sub: 300 bytes, at most 255"),
            (json!({ "exp": "2030-01-01" }), "exp: \"…\" is no number of seconds since 1970"),
            (json!({ "exp": 1_763_815_368_000_u64 }), "exp: 1763815368000 seconds end after the year 9999, is it in milliseconds?"),
            (json!({ "iat": 1_763_815_368_000_u64 }), "iat: 1763815368000 seconds end after the year 9999, is it in milliseconds?"),
            (json!({ "iss": [] }), "iss: a list is no text"),
            (json!({ "aud": {} }), "aud: an object is neither a text nor a list of texts"),
            (json!({ "aud": ["a", null] }), "aud: null in the list is no text"),
            (json!({ "rooms": ["a", {}] }), "rooms: an object in the list is no name of a room"),
            (
                json!({ "rooms": "lobby" }),
                "rooms: \"…\" is neither a list of rooms, as [\"lobby\", \"team-*\"], nor an object of what each is good for, as {\"lobby\": {\"publish\": false}}",
            ),
            (json!({ "rooms": { "a": true } }), "rooms.a: true is no object of rights, as {\"publish\": false, \"peers\": 10}"),
            (json!({ "rooms": { "a": { "publsh": true } } }), "rooms.a.publsh: unknown right, did you mean publish?"),
            (
                json!({ "rooms": { "team-*": { "admin": true } } }),
                "rooms.team-*.admin: unknown right, which is one of publish, subscribe, broadcast, observe, peers",
            ),
            (json!({ "rooms": { "a.b": { "publish": "no" } } }), "rooms.\"a.b\".publish: \"…\" is neither true nor false"),
            (
                json!({ "rooms": { "a\u{1b}[31m": { "peers": 0 } } }),
                "rooms.\"a\\u{1b}[31m\".peers: 0 is no whole number from 1 to 4294967295",
            ),
            (json!({ "limits": { "joinsPerSecond": 1.5 } }), "limits.joinsPerSecond: 1.5 is no whole number from 1 to 4294967295"),
            (
                json!({ "limits": { "messages_per_second": 1 } }),
                "limits.messages_per_second: unknown limit, did you mean messagesPerSecond?",
            ),
        ] {
            let Err(BadToken::Claim(fault)) = parsed(claims.clone()) else { panic!("{claims}") };
            assert_eq!(fault.to_string(), said);
        }
        let Err(BadToken::Claim(fault)) = parsed(json!({ "rooms": { &long: { &long: 1 } } })) else { panic!("it is no right") };
        assert!(fault.to_string().chars().count() < 300, "{fault}");
        let twice = Claims::parse(br#"{"rooms":{"a":{"publish":false,"publ\u0069sh":true}}}"#);
        assert_eq!(twice.unwrap_err().to_string(), "its claim rooms.a.publish: is there twice");
    }

    #[test]
    fn null_is_as_good_as_nothing_where_there_may_be_nothing() {
        let claims =
            parsed(json!({ "rooms": { "a": { "peers": null } }, "limits": { "joinsPerSecond": null }, "sub": null, "exp": null })).unwrap();
        assert_eq!((claims.rooms[0].peers_max, claims.rates.joins_per_second, claims.user, claims.expires_at), (None, None, None, None));
    }

    #[test]
    fn who_only_looks_sees_what_is_understood_and_what_is_wrong_with_the_rest() {
        let (claims, faults) = Claims::read(json!({ "sub": "alice", "exp": "x", "rooms": 7, "iss": "me" }).to_string().as_bytes()).unwrap();
        assert_eq!((claims.user.as_deref(), claims.issuer.as_deref(), claims.rooms.len()), (Some("alice"), Some("me"), 0));
        assert_eq!(faults.iter().map(ClaimFault::claim).collect::<Vec<_>>(), ["exp", "rooms"]);
    }

    #[test]
    fn claims_that_are_nobodys_here_are_passed_over() {
        let claims = parsed(json!({ "jti": 7, "iat": "x", "scope": ["*"], "sub": "alice", "user": "bob" })).unwrap();
        assert_eq!(claims.user.as_deref(), Some("alice"));
    }

    #[test]
    fn limits_are_those_of_the_token() {
        let limits = |limits| parsed(json!({ "limits": limits })).unwrap().rates;
        assert_eq!(limits(json!({})), RateLimits::default());
        let all = limits(json!({ "messagesPerSecond": 5, "bytesPerSecond": 4_294_967_295_u32, "joinsPerSecond": 1 }));
        assert_eq!(all.messages_per_second, Some(5));
        assert_eq!(all.bytes_per_second, Some(u32::MAX));
        assert_eq!(all.joins_per_second, Some(1));
    }

    #[test]
    fn a_token_is_good_until_the_leeway_after_its_end() {
        for (exp, now, verdict) in [
            (100.0, 99.0, Ok(())),
            (100.0, 129.999, Ok(())),
            (100.0, 130.0, Err(BadToken::Expired)),
            (100.5, 130.25, Ok(())),
            (100.5, 130.5, Err(BadToken::Expired)),
            (-1.0, 29.0, Ok(())),
            (-1.0, 30.0, Err(BadToken::Expired)),
            (253_402_300_799.0, 253_402_300_798.0, Ok(())),
        ] {
            assert_eq!(checked(json!({ "exp": exp }), now), verdict, "{exp} at {now}");
        }
        assert_eq!(checked(json!({}), 0.0), Err(BadToken::NoExpiry));
        assert_eq!(checked(json!({ "exp": null }), 0.0), Err(BadToken::NoExpiry));
    }

    #[test]
    fn a_token_is_good_from_the_leeway_before_its_time() {
        for (nbf, now, verdict) in [
            (100.0, 70.0, Ok(())),
            (100.0, 69.999, Err(BadToken::NotYetValid)),
            (100.5, 70.5, Ok(())),
            (1e11, 1e9, Err(BadToken::NotYetValid)),
            (-5.0, 0.0, Ok(())),
        ] {
            assert_eq!(checked(json!({ "exp": 1e10, "nbf": nbf }), now), verdict, "{nbf} at {now}");
        }
    }

    #[test]
    fn who_came_in_time_goes_at_the_end_and_who_came_after_it_when_the_leeway_is_over() {
        let rules = Rules { leeway: Duration::from_secs(30), ..Rules::default() };
        let until = |now| parsed(json!({ "exp": 100 })).unwrap().grant(&rules, at(now)).expires_at;
        assert_eq!(until(99.9), Some(at(100.0)));
        assert_eq!(until(100.0), Some(at(130.0)));
        assert_eq!(until(129.9), Some(at(130.0)));
    }

    #[test]
    fn issuer_and_audience_count_where_they_are_asked_for() {
        let rules = Rules { issuer: Some("https://id.example".into()), audience: Some("switchboard".into()), ..Rules::default() };
        let check = |claims: Value, rules: &Rules| {
            let mut claims = claims;
            claims["exp"] = 10.into();
            parsed(claims).unwrap().check(rules, at(0.0))
        };
        let (iss, aud) = ("https://id.example", "switchboard");
        for (claims, verdict) in [
            (json!({ "iss": iss, "aud": aud }), Ok(())),
            (json!({ "iss": iss, "aud": ["other", aud] }), Ok(())),
            (json!({ "iss": iss }), Err(BadToken::Audience)),
            (json!({ "iss": iss, "aud": [] }), Err(BadToken::Audience)),
            (json!({ "iss": iss, "aud": "Switchboard" }), Err(BadToken::Audience)),
            (json!({ "aud": aud }), Err(BadToken::Issuer)),
            (json!({ "iss": "https://id.example/", "aud": aud }), Err(BadToken::Issuer)),
        ] {
            assert_eq!(check(claims.clone(), &rules), verdict, "{claims}");
            assert_eq!(check(claims, &Rules::default()), Ok(()));
        }
    }
}
