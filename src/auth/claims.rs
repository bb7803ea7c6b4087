//! What a token says: its claims, read from JSON, and the grant that they come to. Pure.
//!
//! A claim that is there and is not understood is refused, never passed over: what was meant to forbid something must not allow it.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::{
    grant::{Grant, RateLimits, Rights, RoomGrant, RoomPattern},
    jwt::BadToken,
};

/// Bytes of a `sub`, which everybody in a room is told: as OpenID Connect has it (Core, §2).
pub const USER_BYTES_MAX: usize = 255;
/// The last second of the year 9999. Some say "never" by a number of which no calendar knows the day.
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

impl Claims {
    /// Reads them from a token's payload.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, BadToken> {
        let raw: Raw<'_> = object(payload)?;
        let rooms = claim("rooms", raw.rooms)?.map(|Rooms(rooms)| rooms);
        Ok(Self {
            user: claim("sub", raw.sub)?.map(|User(user)| user),
            expires_at: claim("exp", raw.exp)?.map(|Date(date)| date),
            not_before: claim("nbf", raw.nbf)?.map(|Date(date)| date),
            issuer: claim("iss", raw.iss)?,
            audience: claim("aud", raw.aud)?.map(|Audience(audience)| audience).unwrap_or_default(),
            names_rooms: rooms.is_some(),
            rooms: rooms.unwrap_or_default(),
            rates: claim("limits", raw.limits)?.map(|Object::<Limits>(limits)| limits.into()).unwrap_or_default(),
        })
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

/// A JSON object.
pub(super) fn object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, BadToken> {
    serde_json::from_slice(json).map(|Object(object)| object).map_err(|_| BadToken::Malformed)
}

fn claim<'de, T: Deserialize<'de>>(name: &'static str, raw: Option<&'de RawValue>) -> Result<Option<T>, BadToken> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| BadToken::Claim(name))).transpose()
}

/// What is written as an object. An array fills a struct as well, in the order of its fields, and an empty one would be every right.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// The claims that count. A name that is there twice is an error.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
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

struct User(Arc<str>);

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let user = String::deserialize(deserializer)?;
        if (1..=USER_BYTES_MAX).contains(&user.len()) { Ok(Self(user.into())) } else { Err(D::Error::custom("empty or too long")) }
    }
}

/// Seconds since 1970, with a fraction or without: `NumericDate` of RFC 7519 §2.
struct Date(SystemTime);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?.clamp(0.0, LATEST);
        Ok(Self(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
    }
}

/// One or several: RFC 7519 §4.1.3.
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }
        Ok(Self(match OneOrMore::deserialize(deserializer)? {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }))
    }
}

/// Names or patterns alone, or each with what it is good for.
struct Rooms(Vec<RoomGrant>);

impl<'de> Deserialize<'de> for Rooms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RoomsVisitor).map(Self)
    }
}

struct RoomsVisitor;

impl<'de> Visitor<'de> for RoomsVisitor {
    type Value = Vec<RoomGrant>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rooms, or a map from rooms to rights")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut rooms = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            rooms.push(Conditions::default().grant(&name));
        }
        Ok(rooms)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rooms: Vec<RoomGrant> = Vec::new();
        while let Some((name, Object(conditions))) = map.next_entry::<String, Object<Conditions>>()? {
            let room = conditions.grant(&name);
            if rooms.iter().any(|other| other.rooms == room.rooms) {
                return Err(A::Error::custom("a room is there twice"));
            }
            rooms.push(room);
        }
        Ok(rooms)
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Conditions {
    publish: bool,
    subscribe: bool,
    broadcast: bool,
    observe: bool,
    peers: Option<Positive>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { publish: true, subscribe: true, broadcast: true, observe: true, peers: None }
    }
}

impl Conditions {
    fn grant(self, name: &str) -> RoomGrant {
        let Self { publish, subscribe, broadcast, observe, peers } = self;
        RoomGrant {
            rooms: RoomPattern::parse(name),
            rights: Rights { publish, subscribe, broadcast, observe },
            peers_max: peers.map(|peers| peers.get() as usize),
        }
    }
}

type Positive = std::num::NonZeroU32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    messages_per_second: Option<Positive>,
    bytes_per_second: Option<Positive>,
    joins_per_second: Option<Positive>,
}

impl From<Limits> for RateLimits {
    fn from(limits: Limits) -> Self {
        Self {
            messages_per_second: limits.messages_per_second.map(Positive::get),
            bytes_per_second: limits.bytes_per_second.map(Positive::get),
            joins_per_second: limits.joins_per_second.map(Positive::get),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(claims: Value) -> Result<Claims, BadToken> {
        Claims::parse(claims.to_string().as_bytes())
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
            ("exp", json!(["1", "never", true, [1], {}])),
            ("nbf", json!(["1", true, [1], {}])),
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
                assert_eq!(parsed(json!({ name: value })), Err(BadToken::Claim(name)), "{name}: {value}");
            }
        }
        let twice = |json: &str| Claims::parse(json.as_bytes());
        assert_eq!(twice(r#"{"exp":1,"exp":9999999999}"#), Err(BadToken::Malformed));
        assert_eq!(twice(r#"{"rooms":{"a":{},"a":{"publish":false}}}"#), Err(BadToken::Claim("rooms")));
        assert_eq!(twice(r#"{"rooms":{"a":{"publish":false,"publish":true}}}"#), Err(BadToken::Claim("rooms")));
        for other in ["", "[]", "null", "\"x\"", "7", "{", "{}x", "[null,1,null,null,null,[\"*\"],null]"] {
            assert_eq!(twice(other), Err(BadToken::Malformed), "{other}");
        }
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
            (1e300, 253_402_300_798.0, Ok(())),
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
            (1e300, 1e9, Err(BadToken::NotYetValid)),
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
