//! `switchboard token`: a token from flags.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use serde_json::{Map, Value, json};
use switchboard::auth::{SigningKey, jwt::Unverified};

use super::Token;

/// Who is let in for longer has an account, not a token.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 86400);

/// Reads how long a token is good: `90s`, `15m`, `1h`, `7d`.
pub fn ttl(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| "smhd".find(unit)).ok_or("not a number and s, m, h or d")?;
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| "not a number and s, m, h or d")?;
    let ttl = number.checked_mul([1, 60, 3600, 86400][unit]).map(Duration::from_secs);
    ttl.filter(|ttl| (Duration::from_secs(1)..=TTL_MAX).contains(ttl)).ok_or_else(|| "not from 1s to 3650d".to_owned())
}

/// Reads which room a token is for. Only at the end a server takes a star for more than a star, and whoever writes another believes that it does elsewhere.
pub fn room(text: &str) -> Result<String, String> {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() {
        return Err("a room has a name, and `*` is every room".to_owned());
    }
    match prefix.find('*') {
        None => Ok(text.to_owned()),
        Some(at) => Err(format!(
            "a `*` stands at the end alone: `{}*` is every room whose name begins so; for one room with a star in its name, sign {} as `rooms` in a program \
             of your own",
            &prefix[..at],
            json!([text]),
        )),
    }
}

/// The token, in a line of its own.
pub fn run(token: &Token) -> anyhow::Result<String> {
    let [file] = &token.key[..] else { bail!("--key: a token is made with one key") };
    let key = SigningKey::read(file).map_err(|error| anyhow!("--key: {error}"))?;
    let made = key.sign(&claims(token, SystemTime::now()));
    // What no server would take is no use to anybody.
    let read = Unverified::read(&made).map_err(|bad| anyhow!("no server would take this token: {bad}"))?;
    if let Some(fault) = read.faults.first() {
        bail!("no server would take this token: its claim {fault}");
    }
    Ok(made + "\n")
}

fn claims(token: &Token, now: SystemTime) -> Value {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The last second is the client's as well.
    let mut claims = json!({ "iat": seconds(now), "exp": seconds(now + token.ttl) });
    for (name, value) in [("sub", &token.sub), ("iss", &token.iss), ("aud", &token.aud)] {
        if let Some(value) = value {
            claims[name] = value.as_str().into();
        }
    }
    let taken = [
        ("publish", token.no_publish),
        ("broadcast", token.no_broadcast),
        ("subscribe", token.no_subscribe),
        ("observe", token.no_observe),
    ];
    let mut conditions: Map<String, Value> =
        taken.iter().filter(|(_, taken)| *taken).map(|(right, _)| ((*right).to_owned(), false.into())).collect();
    conditions.extend(token.peers.map(|peers| ("peers".to_owned(), peers.into())));
    claims["rooms"] = if conditions.is_empty() {
        token.room.as_slice().into()
    } else {
        token.room.iter().map(|room| (room.clone(), Value::Object(conditions.clone()))).collect::<Map<_, _>>().into()
    };
    let limits = [
        ("messagesPerSecond", token.messages_per_second),
        ("bytesPerSecond", token.bytes_per_second),
        ("joinsPerSecond", token.joins_per_second),
    ];
    let limits: Map<String, Value> = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.into()))).collect();
    if !limits.is_empty() {
        claims["limits"] = limits.into();
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_at_the_end_of_a_room_or_nowhere() {
        for text in ["a", "team-*", "*", "ü", " ", "a.b"] {
            assert_eq!(room(text), Ok(text.to_owned()));
        }
        assert_eq!(room("").unwrap_err(), "a room has a name, and `*` is every room");
        for text in ["a*b", "**", "*a", "a*b*"] {
            assert!(room(text).unwrap_err().starts_with("a `*` stands at the end alone: `"), "{text}");
        }
    }

    #[test]
    fn a_time_to_live_has_a_unit_and_bounds() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800), ("3650d", 315_360_000)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "1", "1.5h", "-1h", "1 h", "1w", "0s", "3651d", "99999999999999999999d", "18446744073709551615d", "1ü"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
