//! `switchboard token --check`: whether a token is good and why not, who it is for and what it allows, in words.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{anyhow, bail};
use switchboard::{
    auth::{
        BadToken, Key, KeyError, PublishedKeys, RateLimits, Rights, RoomGrant, RoomPattern, Rules, SigningKey, Tokens,
        jwt::{TOKEN_BYTES_MAX, Unverified},
        keys::KeyFault,
    },
    config::{Auth, Sources},
};
use time::{OffsetDateTime, macros::format_description};

use super::Token;
use crate::cli;

/// The explanation of a token that is good; that of any other is the error.
pub fn run(arguments: Token) -> anyhow::Result<String> {
    let Token { check, key, iss, aud, config, .. } = arguments;
    let token = read(check.expect("it is what is to be explained"))?;
    let tokens = if key.is_empty() {
        of_server(&cli::settings(Sources::new(), config)?.0.auth)?
    } else {
        let keys: anyhow::Result<Vec<_>> = key.iter().map(|file| public(file).map_err(|error| anyhow!("--key: {error}"))).collect();
        let rules = Rules { issuer: iss, audience: aud, leeway: Auth::default().leeway() };
        Some(Tokens::with_keys(keys?.concat(), rules))
    };
    let now = SystemTime::now();
    let Some(tokens) = tokens else {
        bail!(
            "{}",
            explanation(
                "Nobody knows whether the token is good: there is no key here. Name one with --key, or set auth.keys.",
                &token,
                None,
                now
            )
        );
    };
    match tokens.verify_with_key(&token, now) {
        Ok((_, key)) => Ok(explanation(&good(&token, tokens.leeway(), now), &token, Some(&key), now)),
        Err(bad) => {
            let reason = bad.to_string();
            let stop = if reason.ends_with('?') { "" } else { "." };
            let mut text = explanation(&format!("The token is not good: {reason}{stop}"), &token, None, now);
            if matches!(bad, BadToken::UnknownKey | BadToken::Algorithm) {
                let keys: Vec<_> = tokens.keys().iter().map(|key| named(key)).collect();
                line(&mut text, "known keys", &if keys.is_empty() { "none".to_owned() } else { keys.join(", ") });
            }
            bail!("{}", text.trim_end())
        }
    }
}

fn read(argument: String) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument);
    }
    let mut text = String::new();
    // One byte more than is ever looked at, and the end of the line.
    io::stdin().take(TOKEN_BYTES_MAX as u64 + 3).read_to_string(&mut text).map_err(|error| anyhow!("stdin cannot be read: {error}"))?;
    Ok(text.trim().to_owned())
}

/// The keys of a file, which may as well be the private one.
fn public(file: &Path) -> Result<Vec<Arc<Key>>, KeyError> {
    match Key::read(file) {
        Err(KeyError { fault: KeyFault::Private, .. }) => Ok(vec![Arc::new(SigningKey::read(file)?.public())]),
        read => read,
    }
}

/// What a server with these settings has tokens checked by, if it asks for any.
fn of_server(auth: &Auth) -> anyhow::Result<Option<Arc<Tokens>>> {
    if !auth.asks_for_tokens() {
        return Ok(None);
    }
    let published = auth.jwks_url.clone().map(|url| PublishedKeys::new(url, auth.jwks_refresh()));
    let rules = Rules { issuer: auth.issuer.clone(), audience: auth.audience.clone(), leeway: auth.leeway() };
    let tokens = Tokens::load(&auth.keys, published, rules).map_err(|error| anyhow!("auth.keys: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokens.fetch()).map_err(|error| anyhow!("auth.jwks_url: {error}"))?;
    Ok(Some(tokens))
}

/// That a token is good, and how narrowly.
fn good(token: &str, leeway: Duration, now: SystemTime) -> String {
    let why = Unverified::read(token).ok().and_then(|Unverified { claims, .. }| {
        let has_run_out = claims.expires_at.is_some_and(|end| end <= now);
        let is_early = claims.not_before.is_some_and(|start| now < start);
        if has_run_out { Some("has run out") } else { is_early.then_some("is not yet good") }
    });
    match why {
        Some(why) => format!("The token is good, but only by auth.leeway_ms, {} ms: by this machine's clock it {why}.", leeway.as_millis()),
        None => "The token is good.".to_owned(),
    }
}

fn explanation(verdict: &str, token: &str, key: Option<&Key>, now: SystemTime) -> String {
    let mut text = format!("{verdict}\n");
    let Ok(Unverified { algorithm, key: name, claims, faults }) = Unverified::read(token) else { return text };
    let fault = |claim| faults.iter().find(|fault| fault.claim() == claim).map(|fault| format!("not understood, {fault}"));
    if key.is_none() {
        text.push_str("It says of itself, and nothing of it counts:\n");
    }
    line(
        &mut text,
        "signed with",
        &key.map_or_else(|| format!("{}, {algorithm}", name.as_deref().unwrap_or("a key without a name")), named),
    );
    line(&mut text, "for", &fault("sub").or(claims.user.as_deref().map(str::to_owned)).unwrap_or_else(|| "nobody by name".to_owned()));
    if let Some(issuer) = fault("iss").or(claims.issuer) {
        line(&mut text, "issuer", &issuer);
    }
    let audience = (!claims.audience.is_empty()).then(|| claims.audience.join(", "));
    if let Some(audience) = fault("aud").or(audience) {
        line(&mut text, "audience", &audience);
    }
    if let Some(made_at) = fault("iat") {
        line(&mut text, "made", &made_at);
    }
    if let Some(not_before) = fault("nbf").or(claims.not_before.map(|start| moment(start, now))) {
        line(&mut text, "from", &not_before);
    }
    let end = fault("exp").or(claims.expires_at.map(|end| moment(end, now)));
    line(&mut text, "until", &end.unwrap_or_else(|| "it says no end, and has to".to_owned()));
    if claims.rooms.is_empty() {
        line(&mut text, "rooms", &fault("rooms").unwrap_or_else(|| "none".to_owned()));
    }
    for (index, room) in claims.rooms.iter().enumerate() {
        line(&mut text, if index == 0 { "rooms" } else { "" }, &what_for(room));
    }
    let RateLimits { messages_per_second, bytes_per_second, joins_per_second } = claims.rates;
    let limits = [(messages_per_second, "messages"), (bytes_per_second, "bytes"), (joins_per_second, "joins")];
    let limits: Vec<_> = limits.into_iter().filter_map(|(limit, what)| Some(format!("{} {what}", limit?))).collect();
    let limits = (!limits.is_empty()).then(|| limits.join(", "));
    if let Some(limits) = fault("limits").or(limits) {
        line(&mut text, "a second", &limits);
    }
    text
}

fn named(key: &Key) -> String {
    format!("{}, {}", key.name().unwrap_or("a key without a name"), key.algorithm().name())
}

/// Adds a line. What a token says may be anything, and ends on a terminal.
fn line(text: &mut String, name: &str, value: &str) {
    let printable = |char: char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() };
    let value: String = value.chars().map(printable).collect();
    writeln!(text, "  {name:<12} {value}").expect("there is memory");
}

fn what_for(room: &RoomGrant) -> String {
    let name = match &room.rooms {
        RoomPattern::Exact(name) if name.is_empty() => "\"\" (no room, because every room has a name)".to_owned(),
        RoomPattern::Exact(name) if name.contains('*') => {
            format!("{name} (the one room that is called so: only at the end a star is more)")
        }
        RoomPattern::Exact(name) => name.clone(),
        RoomPattern::Prefix(prefix) if prefix.is_empty() => "every room".to_owned(),
        RoomPattern::Prefix(prefix) if prefix.contains('*') => {
            format!("{prefix}* (the rooms whose name begins with {prefix}: only at the end a star is more)")
        }
        RoomPattern::Prefix(prefix) => format!("{prefix}*"),
    };
    let Rights { publish, subscribe, broadcast, observe } = room.rights;
    let rights = [
        (publish, "send to one peer"),
        (broadcast, "send to the whole room"),
        (subscribe, "be sent what others send"),
        (observe, "see who is there"),
    ];
    let mut text = match rights.into_iter().filter_map(|(has, right)| has.then_some(right)).collect::<Vec<_>>() {
        all if all.len() == rights.len() => format!("{name}: everything"),
        none if none.is_empty() => format!("{name}: be there, and nothing else"),
        some => format!("{name}: {}", some.join(", ")),
    };
    if let Some(peers) = room.peers_max {
        write!(text, "; full with {peers} peers").expect("there is memory");
    }
    text
}

/// A time, and how far it is.
fn moment(time: SystemTime, now: SystemTime) -> String {
    let date = OffsetDateTime::from(time).format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC"));
    let date = date.expect("the parts of a date");
    match time.duration_since(now) {
        Ok(ahead) => format!("{date}, in {}", roughly(ahead)),
        Err(error) => format!("{date}, {} ago", roughly(error.duration())),
    }
}

/// In the largest unit of which there are two at least.
fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86400, "days"), (3600, "hours"), (60, "minutes")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} s"), |(length, name)| format!("{} {name}", seconds / length))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_time_is_told_by_the_clock_and_by_how_far_it_is() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(moment(at(3600), at(0)), "1970-01-01 01:00:00 UTC, in 60 minutes");
        assert_eq!(moment(at(0), at(119)), "1970-01-01 00:00:00 UTC, 119 s ago");
        assert_eq!(moment(at(253_402_300_799), at(0)), "9999-12-31 23:59:59 UTC, in 2932896 days");
    }
}
