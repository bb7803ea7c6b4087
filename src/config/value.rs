//! How single values are read: what a type alone does not say, such as a range. Every refusal names the value.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::IpNet;
use reqwest::Url;
use serde::{
    Deserialize, Deserializer, Serialize as _, Serializer,
    de::{Error, IgnoredAny, Visitor},
};
use tracing_subscriber::EnvFilter;

use super::{ForeignDialect, IceServer, IceUrl, OriginRule};

/// An integer from `MIN` to `MAX`, both included.
pub(super) fn integer<'de, D, T, const MIN: i128, const MAX: i128>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128>,
{
    deserializer.deserialize_any(InRange::<T, MIN, MAX>(PhantomData))
}

struct InRange<T, const MIN: i128, const MAX: i128>(PhantomData<T>);

impl<T: TryFrom<i128>, const MIN: i128, const MAX: i128> Visitor<'_> for InRange<T, MIN, MAX> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from {MIN} to {MAX}")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<T, E> {
        let in_range = (MIN..=MAX).contains(&value).then(|| T::try_from(value).ok()).flatten();
        in_range.ok_or_else(|| E::custom(format_args!("{value} is out of range, expected an integer from {MIN} to {MAX}")))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<T, E> {
        Err(E::custom(format_args!("{value} is out of range, expected an integer from {MIN} to {MAX}")))
    }
}

/// What is written, where it may be of another kind than is wanted: a file says `false` as easily as `"off"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Bool(bool),
    Integer(i64),
    Other(IgnoredAny),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Other(_) => f.write_str("what stands there"),
        }
    }
}

/// One of a few words.
pub(super) fn word<'de, D: Deserializer<'de>, T: Copy, const N: usize>(deserializer: D, words: [(&str, T); N]) -> Result<T, D::Error> {
    let written = Scalar::deserialize(deserializer)?;
    let found = words.iter().find(|(word, _)| matches!(&written, Scalar::Text(text) if text == word));
    let all = || words.map(|(word, _)| word).join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| D::Error::custom(format_args!("{written} is none of: {}", all())))
}

/// A path that names something.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    path_of(String::deserialize(deserializer)?)
}

/// Paths that name something.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.into_iter().map(path_of).collect()
}

fn path_of<E: Error>(text: String) -> Result<PathBuf, E> {
    // The system refuses a path with a zero byte only when it is opened, and then without naming the setting.
    if text.is_empty() || text.contains('\0') {
        return Err(E::custom(format_args!("{text:?} is not a path")));
    }
    Ok(text.into())
}

/// Any text but none.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Err(D::Error::custom("\"\" is no text")) } else { Ok(text) }
}

/// A list of texts, none of which is empty.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.iter().any(String::is_empty) { Err(D::Error::custom("\"\" is no text")) } else { Ok(texts) }
}

/// Names of rooms, each perhaps with a `*` at its end. Whoever writes one elsewhere means more than it would do.
pub(super) fn room_patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let patterns = texts(deserializer)?;
    match patterns.iter().find(|pattern| pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**")) {
        Some(pattern) => {
            Err(D::Error::custom(format_args!("\"{pattern}\" has a * that is not at its end, where alone it stands for something")))
        }
        None => Ok(patterns),
    }
}

/// Servers of STUN and TURN, as clients are told of them.
pub(super) fn ice_servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IceServer>, D::Error> {
    Vec::deserialize(deserializer)
}

/// URLs of TURN servers: who gives credentials to a STUN server has mistaken it for one.
pub(super) fn turn_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IceUrl>, D::Error> {
    let urls = Vec::<IceUrl>::deserialize(deserializer)?;
    match urls.iter().find(|url| !url.is_turn()) {
        Some(url) => Err(D::Error::custom(format_args!("\"{url}\" is not one of a TURN server, which begins with turn: or turns:"))),
        None => Ok(urls),
    }
}

/// A URL from which something is fetched that nobody may change on its way: by HTTPS, or from this machine.
pub(super) fn https_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_here = |url: &Url| {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    };
    let is_good = |url: &Url| match url.scheme() {
        "https" => true,
        "http" => is_here(url),
        _ => false,
    };
    match Url::parse(&text) {
        // What is told of it, in logs and elsewhere, is to hold no secret.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err(D::Error::custom("a URL here has no user and no password"))
        }
        Ok(url) if is_good(&url) => Ok(url),
        _ => Err(D::Error::custom(format_args!("{text:?} is not a URL of https, or of http on this machine"))),
    }
}

/// The path of a folder in a URL, with a slash at both ends.
pub(super) fn url_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.strip_prefix('/') {
        Some("") => Ok(text),
        Some(rest) if rest.strip_suffix('/').is_some_and(|inner| inner.split('/').all(is_url_segment)) => Ok(text),
        _ => Err(D::Error::custom(format_args!("{text:?} does not begin and end with a slash, with {URL_SEGMENTS} between slashes"))),
    }
}

/// What stands between two slashes of a URL.
pub(super) fn url_segment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_url_segment(&text) { Ok(text) } else { Err(D::Error::custom(format_args!("{text:?} is not {URL_SEGMENTS}"))) }
}

const URL_SEGMENTS: &str = "letters, digits, `-`, `.`, `_` and `~`";

/// Is it one that every URL holds as it is (the unreserved characters of RFC 3986 §2.3), and no way to another folder?
fn is_url_segment(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !matches!(text, "" | "." | "..") && text.bytes().all(is_unreserved)
}

/// Names that a certificate can carry. A wildcard is one; the name of a DNS zone in other letters than ASCII is written in
/// its `xn--` form.
pub(super) fn certificate_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names.iter().find(|name| !is_dns_name(name) && name.parse::<IpAddr>().is_err()) {
        Some(name) => Err(D::Error::custom(format_args!("{name:?} is neither a DNS name nor an IP address"))),
        None => Ok(names),
    }
}

/// Dialects by their names, each once.
pub(super) fn dialects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ForeignDialect>, D::Error> {
    let known = || ForeignDialect::ALL.map(ForeignDialect::name).join(", ");
    let dialect = |name: &String| {
        let found = ForeignDialect::ALL.into_iter().find(|dialect| dialect.name() == name);
        found.ok_or_else(|| D::Error::custom(format_args!("{name:?} is no dialect, which is one of {}", known())))
    };
    let mut dialects = Vec::<String>::deserialize(deserializer)?.iter().map(dialect).collect::<Result<Vec<_>, _>>()?;
    let mut seen = Vec::new();
    dialects.retain(|dialect| !seen.contains(dialect) && (seen.push(*dialect), true).1);
    Ok(dialects)
}

/// Blocks of addresses; a single address is one.
pub(super) fn blocks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let block = |text: &String| {
        let block = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        block.map_err(|_| D::Error::custom(format_args!("{text:?} is neither a CIDR block nor an IP address")))
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(block).collect()
}

/// Addresses by which others know this machine, one of each family at most.
pub(super) fn external_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let address = |text: &String| text.parse().map_err(|_| D::Error::custom(format_args!("{text:?} is no IP address")));
    let addresses: Vec<IpAddr> = texts.iter().map(address).collect::<Result<_, _>>()?;
    for (index, address) in addresses.iter().enumerate() {
        let is_nobodys = address.is_unspecified() || address.is_multicast() || *address == IpAddr::V4(Ipv4Addr::BROADCAST);
        if is_nobodys {
            return Err(D::Error::custom(format_args!("nobody knows a machine by {address}")));
        }
        if address.to_canonical() != *address {
            return Err(D::Error::custom(format_args!("{address} is {} in another spelling", address.to_canonical())));
        }
        if let Some(before) = addresses[..index].iter().find(|before| before.is_ipv4() == address.is_ipv4()) {
            return Err(D::Error::custom(format_args!(
                "{before} and {address} are of one family, and there is one address of each at most"
            )));
        }
    }
    Ok(addresses)
}

/// Rules for the origins of pages.
pub(super) fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OriginRule>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// Spells a value as it was written.
pub(super) fn as_text<S: Serializer>(value: &Option<impl fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(is_label)
}

/// A filter of log lines, kept as text; what is kept is known to parse.
pub(super) fn log_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => text,
        other => return Err(D::Error::custom(format_args!("{other} {NO_LOG_FILTER}"))),
    };
    match log_filter_fault(&text) {
        None => Ok(text),
        Some(fault) => Err(D::Error::custom(fault)),
    }
}

const NO_LOG_FILTER: &str = "is not a log filter, which is a level or a list such as \"info,switchboard=debug\"";

/// What is wrong with a filter of log lines, if anything is.
pub fn log_filter_fault(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some(format!("{text:?} is not a log filter, `off` logs nothing"));
    }
    // The crate takes any other bare word for a part of the program, of which everything is logged and of the rest nothing.
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let bare = |word: &&str| !word.contains(['=', '[']) && !LEVELS.contains(&word.to_ascii_lowercase().as_str());
    if let Some(word) = text.split(',').map(str::trim).find(bare) {
        return Some(format!("{text:?} is not a log filter: {word:?} is no level, which is one of {}", LEVELS.join(", ")));
    }
    EnvFilter::try_new(text).err().map(|_| format!("{text:?} {NO_LOG_FILTER}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_a_url_holds_as_they_are() {
        use serde::de::{IntoDeserializer, value::Error};
        let path = |text: &str| url_path(IntoDeserializer::<Error>::into_deserializer(text));
        for text in ["/", "/a/", "/my-app/v1.0/", "/~x/_y/"] {
            assert_eq!(path(text).as_deref(), Ok(text));
        }
        for text in ["", "a", "a/", "/a", "//", "/a//b/", "/a b/", "/./", "/a/../", "/a?b/", "/%61/", "/ü/"] {
            assert!(path(text).is_err(), "{text}");
        }
        let segment = |text: &str| url_segment(IntoDeserializer::<Error>::into_deserializer(text));
        assert_eq!(segment("peerjs").as_deref(), Ok("peerjs"));
        for text in ["", ".", "..", "a/b", "a b", "a&b", "ü"] {
            assert!(segment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_from_which_nobody_on_the_way_can_have_something_else_fetched() {
        use serde::de::{IntoDeserializer, value::Error};
        let url = |text: &str| https_url(IntoDeserializer::<Error>::into_deserializer(text)).map_err(|error| error.to_string());
        for text in [
            "https://id.example/keys?tenant=a",
            "http://localhost:8090/",
            "http://127.0.0.2/keys",
            "http://[::1]:80/keys",
            "HTTPS://ID.EXAMPLE",
        ] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "id.example",
            "http://id.example/keys",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "file:///etc/passwd",
            "https://",
        ] {
            assert_eq!(url(text), Err(format!("{text:?} is not a URL of https, or of http on this machine")));
        }
        for text in ["https://alice:secret@id.example/", "https://alice@id.example/"] {
            assert_eq!(url(text), Err("a URL here has no user and no password".into()));
        }
    }

    #[test]
    fn addresses_by_which_others_know_a_machine() {
        let read = |texts: &[&str]| {
            let list = format!("[{}]", texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(","));
            external_addresses(&mut serde_json::Deserializer::from_str(&list)).map_err(|error| error.to_string())
        };
        for texts in [&[][..], &["203.0.113.9"], &["2001:db8::1", "203.0.113.9"], &["127.0.0.1"], &["10.0.0.1", "::1"]] {
            assert_eq!(read(texts).map(|addresses| addresses.len()), Ok(texts.len()), "{texts:?}");
        }
        for (texts, told) in [
            (&["turn.example"][..], "\"turn.example\" is no IP address"),
            (&["0.0.0.0"], "nobody knows a machine by 0.0.0.0"),
            (&["::"], "nobody knows a machine by ::"),
            (&["224.0.0.1"], "nobody knows a machine by 224.0.0.1"),
            (&["255.255.255.255"], "nobody knows a machine by 255.255.255.255"),
            (&["ff02::1"], "nobody knows a machine by ff02::1"),
            (&["::ffff:203.0.113.9"], "::ffff:203.0.113.9 is 203.0.113.9 in another spelling"),
            (&["203.0.113.9", "203.0.113.8"], "203.0.113.9 and 203.0.113.8 are of one family, and there is one address of each at most"),
        ] {
            let problem = read(texts).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
    }

    #[test]
    fn a_star_stands_at_the_end_of_a_room_alone() {
        let read = |text: &str| {
            let list = format!("[{text:?}]");
            room_patterns(&mut serde_json::Deserializer::from_str(&list)).map_err(|error| error.to_string())
        };
        for text in ["shelter", "private-*", "*"] {
            assert_eq!(read(text), Ok(vec![text.to_owned()]));
        }
        for text in ["*secret", "a*b", "a*b*", "a**"] {
            assert!(read(text).unwrap_err().contains(&format!("\"{text}\" has a * that is not at its end")), "{text}");
        }
        assert!(read("").is_err());
    }

    #[test]
    fn names_that_a_certificate_can_carry() {
        for name in ["localhost", "a", "sub.example.org", "*.example.org", "xn--bcher-kva.example", "my_host", "10"] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "bücher.example", "*", "a.*", "a/b", &"a".repeat(64)] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
