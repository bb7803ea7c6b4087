//! One ICE server as `RTCPeerConnection` takes it (`RTCIceServer` of W3C WebRTC), and the URLs that it has (RFC 7064, RFC 7065).

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_json::Value;

use super::rest::TurnCredential;
use crate::protocol::Payload;

/// Where candidates are found, and by what right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// One server by these ways. Never empty.
    pub urls: Vec<IceUrl>,
    /// Where a TURN server is among them.
    #[serde(flatten)]
    pub login: Option<Login>,
}

/// Who asks for a relay. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Login {
    username: String,
    credential: String,
}

/// `stun:HOST`, `stuns:HOST`, `turn:HOST` or `turns:HOST`, each with or without a port, the last two perhaps with a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceUrl(String);

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
    Tls,
}

/// The text is no URL of an ICE server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not stun:HOST[:PORT], stuns:HOST[:PORT], turn:HOST[:PORT] or turns:HOST[:PORT], the last two perhaps with ?transport=udp or ?transport=tcp"
)]
pub struct IceUrlError {
    text: String,
}

impl IceUrl {
    /// Is it one of a TURN server, which wants to know who asks?
    pub fn is_turn(&self) -> bool {
        self.0.starts_with("turn")
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name or an address, the latter without brackets.
    pub fn host(&self) -> &str {
        host_and_port(self.place()).expect("it was looked at when it was read").0
    }

    /// The port that it names, or that of its scheme.
    pub fn port(&self) -> u16 {
        let (_, port) = host_and_port(self.place()).expect("it was looked at when it was read");
        port.unwrap_or(if self.is_secure() { 5349 } else { 3478 })
    }

    /// How the server is reached; nothing for DTLS, which is what `turns:` with `transport=udp` says, and which browsers do not speak to it.
    pub fn by(&self) -> Option<By> {
        match (self.is_secure(), self.0.split_once('?')) {
            (true, Some((_, "transport=udp"))) => None,
            (true, _) => Some(By::Tls),
            (false, Some((_, "transport=tcp"))) => Some(By::Tcp),
            (false, _) => Some(By::Udp),
        }
    }

    fn is_secure(&self) -> bool {
        self.0.starts_with("stuns:") || self.0.starts_with("turns:")
    }

    fn place(&self) -> &str {
        let (_, rest) = self.0.split_once(':').unwrap_or_default();
        rest.split_once('?').map_or(rest, |(place, _)| place)
    }
}

impl FromStr for IceUrl {
    type Err = IceUrlError;

    fn from_str(text: &str) -> Result<Self, IceUrlError> {
        let refused = || IceUrlError { text: text.to_owned() };
        let (scheme, rest) = text.split_once(':').ok_or_else(refused)?;
        let (place, transport) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let is_good = match scheme {
            "stun" | "stuns" => transport.is_none(),
            "turn" | "turns" => matches!(transport, None | Some("transport=udp" | "transport=tcp")),
            _ => false,
        };
        if is_good && host_and_port(place).is_some() { Ok(Self(text.to_owned())) } else { Err(refused()) }
    }
}

/// What `HOST` or `HOST:PORT` names, if it is one of them.
fn host_and_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, is_host, behind) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, behind)) => (address, address.parse::<Ipv6Addr>().is_ok(), behind),
        None => {
            let end = place.find(':').unwrap_or(place.len());
            let (name, behind) = place.split_at(end);
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (name, !name.is_empty() && name.bytes().all(is_name), behind)
        }
    };
    let port = match behind.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok().filter(|port| *port > 0)?),
        None if behind.is_empty() => None,
        _ => return None,
    };
    is_host.then_some((host, port))
}

impl IceServer {
    /// The servers that a client is told of, each as a browser would take it, or what is wrong with it. Other keys mean nothing to browsers.
    pub fn read_told(told: &Payload) -> Result<Vec<Result<Self, String>>, Box<dyn std::error::Error + Send + Sync>> {
        let read = |mut server: Value| {
            if let Value::Object(keys) = &mut server {
                keys.retain(|key, value| matches!(&**key, "urls" | "username" | "credential") && !value.is_null());
            }
            serde_json::from_value(server).map_err(|error| error.to_string())
        };
        Ok(told.parse::<Vec<Value>>()?.into_iter().map(read).collect())
    }

    /// A server that takes this credential.
    pub fn with_credential(urls: Vec<IceUrl>, TurnCredential { username, password }: TurnCredential) -> Self {
        Self { urls, login: Some(Login { username, credential: password }) }
    }

    /// The same server by one of its URLs alone.
    pub fn by_one(&self, url: &IceUrl) -> Self {
        Self { urls: vec![url.clone()], ..self.clone() }
    }

    /// What it wants to see, if it wants anything.
    pub fn credential(&self) -> Option<TurnCredential> {
        self.login.clone().map(|Login { username, credential }| TurnCredential { username, password: credential })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for IceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IceUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A URL alone, or a table with `urls` (one or several), `username` and `credential`. What is wrong is told without the credential.
impl<'de> Deserialize<'de> for IceServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    urls: Urls,
    username: Option<String>,
    credential: Option<String>,
}

impl<'de> Visitor<'de> for Written {
    type Value = IceServer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a table with urls, username and credential")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<IceServer, E> {
        server(vec![text.parse().map_err(E::custom)?], None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IceServer, A::Error> {
        let Table { urls: Urls(urls), username, credential } = Table::deserialize(MapAccessDeserializer::new(map))?;
        let login = match (username, credential) {
            (Some(username), Some(credential)) => Some(Login { username, credential }),
            (None, None) => None,
            _ => return Err(A::Error::custom("username and credential go together")),
        };
        server(urls, login)
    }
}

/// Browsers throw at whoever gives them a TURN server without credentials.
fn server<E: Error>(urls: Vec<IceUrl>, login: Option<Login>) -> Result<IceServer, E> {
    match urls.iter().find(|url| url.is_turn()) {
        _ if urls.is_empty() => Err(E::custom("urls is empty")),
        Some(url) if login.is_none() => Err(E::custom(format_args!("\"{url}\" needs a username and a credential beside it"))),
        _ => Ok(IceServer { urls, login }),
    }
}

struct Urls(Vec<IceUrl>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Urls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or a list of URLs")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Urls, E> {
                Ok(Urls(vec![text.parse().map_err(E::custom)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Urls, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Urls)
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<IceServer, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_those_that_browsers_take() {
        for text in [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "stuns:[2001:db8::1]:5349",
            "turn:turn.example.org?transport=tcp",
            "turn:my_host:3478?transport=udp",
            "turns:[::1]",
        ] {
            assert_eq!(text.parse::<IceUrl>().map(|url| url.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "stun",
            "stun:",
            "stun://stun.example.org",
            "STUN:stun.example.org",
            "https://stun.example.org",
            "stun:stun.example.org?transport=udp",
            "turn:turn.example.org?transport=sctp",
            "turn:turn.example.org?",
            "turn:user@turn.example.org",
            "turn:turn.example.org:0",
            "turn:turn.example.org:65536",
            "turn:turn.example.org:+1",
            "turn:turn.example.org:",
            "turn:2001:db8::1",
            "turn:[2001:db8::1",
            "turn:[turn.example.org]",
            "turn: turn.example.org",
        ] {
            assert_eq!(text.parse::<IceUrl>(), Err(IceUrlError { text: text.into() }), "{text}");
        }
    }

    #[test]
    fn a_url_says_whom_to_ask_and_how() {
        for (text, host, port, by) in [
            ("stun:stun.example.org", "stun.example.org", 3478, Some(By::Udp)),
            ("stuns:stun.example.org:1", "stun.example.org", 1, Some(By::Tls)),
            ("turn:10.0.0.1:99?transport=tcp", "10.0.0.1", 99, Some(By::Tcp)),
            ("turn:[::1]:99?transport=udp", "::1", 99, Some(By::Udp)),
            ("turns:[::1]", "::1", 5349, Some(By::Tls)),
            ("turns:a?transport=tcp", "a", 5349, Some(By::Tls)),
            ("turns:a?transport=udp", "a", 5349, None),
        ] {
            let url: IceUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.by()), (host, port, by), "{text}");
        }
    }

    #[test]
    fn a_server_is_a_url_or_a_table_and_reads_back_what_is_written() {
        for (text, written) in [
            (r#""stun:a""#, r#"{"urls":["stun:a"]}"#),
            (r#"{"urls":"stun:a"}"#, r#"{"urls":["stun:a"]}"#),
            (
                r#"{"urls":["turn:a","turns:a"],"username":"u","credential":"p"}"#,
                r#"{"urls":["turn:a","turns:a"],"username":"u","credential":"p"}"#,
            ),
        ] {
            let server = read(text).unwrap();
            assert_eq!(serde_json::to_string(&server).unwrap(), written);
            assert_eq!(read(written), Ok(server));
        }
    }

    #[test]
    fn what_is_no_server_is_told_without_its_credential() {
        for (text, problem) in [
            (r#""turn:a""#, "\"turn:a\" needs a username and a credential"),
            (r#"{"urls":["stun:a","turns:b"]}"#, "\"turns:b\" needs a username"),
            (r#"{"urls":[]}"#, "urls is empty"),
            (r#"{"username":"u","credential":"wordpass"}"#, "missing field `urls`"),
            (r#"{"urls":"turn:a","credential":"wordpass"}"#, "username and credential go together"),
            (r#"{"urls":"turn:a","username":"u","credential":"wordpass","realm":"r"}"#, "unknown field `realm`"),
            (r#"{"urls":"http:a","username":"u","credential":"wordpass"}"#, "\"http:a\" is not stun:HOST"),
            ("7", "expected a URL, or a table"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(problem) && !told.contains("wordpass"), "{told}");
        }
        let server = read(r#"{"urls":"turn:a","username":"u","credential":"wordpass"}"#).unwrap();
        assert!(!format!("{server:?}").contains("wordpass"));
    }

    #[test]
    fn what_a_client_is_told_is_read_as_browsers_read_it() {
        let told = json!([
            "stun:a",
            {"urls": ["turn:b", "turns:b"], "username": "u", "credential": "p", "credentialType": "password"},
            {"urls": "stun:c?transport=tcp"},
            {"urls": "turn:user@d", "username": "u", "credential": "p"},
            {"urls": "turn:e?transport=sctp", "username": "u", "credential": "p"},
            {"urls": "turn:f"},
            {"urls": "stun:g", "username": null},
            7,
        ]);
        let told = IceServer::read_told(&Payload::from_serialize(&told).unwrap()).unwrap();
        let read: Vec<_> = told
            .into_iter()
            .map(|server| server.ok().map(|server| (server.urls.len(), server.credential().map(|credential| credential.password))))
            .collect();
        let ok = |urls, password: Option<&str>| Some((urls, password.map(str::to_owned)));
        assert_eq!(read, [ok(1, None), ok(2, Some("p")), None, None, None, None, ok(1, None), None]);
    }
}
