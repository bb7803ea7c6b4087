//! Which web pages may come in, judged by the `Origin` that their browser tells. Pure: the rules come from the settings, the words from a request.
//!
//! A page cannot change its origin, so strange pages do not get to use the browsers of their visitors. Nobody else is kept out: a program that is no
//! browser sends no origin, or any that it likes, and is asked for a token where that is wanted.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Serialize, Serializer};
use url::Host;

/// One entry of the setting `origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// Pages of the host that the request was for, whatever its port.
    SameHost,
    /// Pages of the browser's own machine: `localhost` and names under it, 127.0.0.0/8 and `[::1]`.
    Localhost,
    /// Pages without an origin of their own: of a file, or in a sandbox. Any page can make itself such a one.
    Null,
    /// All pages, whatever their browser says.
    Any,
    /// Pages of this origin.
    Exact(WebOrigin),
    /// Pages of the hosts below this one, and not of this one itself.
    Subdomains(WebOrigin),
}

/// The scheme, host and port that a page came from: RFC 6454 §4. Compared as browsers do, by what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    scheme: String,
    host: Host,
    /// The scheme's own where none is written; none where it has none.
    port: Option<u16>,
}

/// An entry that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is neither same-host, localhost, null or *, nor an origin such as https://app.example.org, https://app.example.org:8443 \
     or https://*.example.org, without anything behind it"
)]
pub struct OriginRuleError {
    text: String,
}

/// What a request says about where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It names no origin: no page of another one sent it.
    NoPage,
    /// A page that may come in.
    Page,
    /// A page that may not, or words that no browser says.
    Refused,
}

/// The rules of a server. Without any, no page comes in.
#[derive(Clone, Debug)]
pub struct Origins(Vec<OriginRule>);

impl Origins {
    /// A page comes in by any one of these rules.
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Judges a request by its `Origin` headers, and by the host that it is for where that is known.
    pub fn judge<'a>(&self, origins: impl IntoIterator<Item = &'a [u8]>, host: Option<&str>) -> Verdict {
        let mut origins = origins.into_iter();
        match (origins.next(), origins.next()) {
            (None, _) => Verdict::NoPage,
            (Some(origin), None) if self.admits(origin, host) => Verdict::Page,
            // With two, whoever stands in between may have believed the other one.
            (Some(_), _) => Verdict::Refused,
        }
    }

    fn admits(&self, origin: &[u8], host: Option<&str>) -> bool {
        let text = str::from_utf8(origin).unwrap_or_default();
        // A browser writes every name in ASCII.
        let page = WebOrigin::parse(text).filter(|_| text.is_ascii());
        self.0.iter().any(|rule| match (rule, &page) {
            (OriginRule::Any, _) => true,
            (OriginRule::Null, _) => text == "null",
            (_, None) => false,
            (OriginRule::Exact(exact), Some(page)) => exact == page,
            (OriginRule::Subdomains(parent), Some(page)) => page.is_below(parent),
            (OriginRule::SameHost, Some(page)) => page.is_web() && host.and_then(authority).is_some_and(|(host, _)| host == page.host),
            (OriginRule::Localhost, Some(page)) => page.is_web() && is_loopback(&page.host),
        })
    }
}

impl WebOrigin {
    /// Reads `scheme://host` or `scheme://host:port`, and nothing more.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        // A WebSocket is asked for by a page, and is none.
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(is_scheme)
            || scheme == "ws"
            || scheme == "wss"
        {
            return None;
        }
        let (host, port) = authority(rest)?;
        let port = port.or(match &*scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        });
        Some(Self { scheme, host, port })
    }

    fn is_web(&self) -> bool {
        matches!(&*self.scheme, "http" | "https")
    }

    fn is_below(&self, parent: &Self) -> bool {
        match (&self.host, &parent.host) {
            (Host::Domain(name), Host::Domain(parent_name)) => {
                let is_below = name.strip_suffix(parent_name.as_str()).is_some_and(|label| label.ends_with('.'));
                is_below && self.scheme == parent.scheme && self.port == parent.port
            }
            // What is in front of an address belongs to nobody.
            _ => false,
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginRuleError;

    fn from_str(text: &str) -> Result<Self, OriginRuleError> {
        let refused = || OriginRuleError { text: text.to_owned() };
        Ok(match text {
            "same-host" => Self::SameHost,
            "localhost" => Self::Localhost,
            "null" => Self::Null,
            "*" => Self::Any,
            _ => match text.split_once("://*.") {
                Some((scheme, parent)) => {
                    let parent = WebOrigin::parse(&format!("{scheme}://{parent}")).ok_or_else(refused)?;
                    // An address has nothing below it.
                    if !matches!(parent.host, Host::Domain(_)) {
                        return Err(refused());
                    }
                    Self::Subdomains(parent)
                }
                None => Self::Exact(WebOrigin::parse(text).ok_or_else(refused)?),
            },
        })
    }
}

impl Serialize for OriginRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (WebOrigin { scheme, host, port }, below) = match self {
            Self::SameHost => return f.write_str("same-host"),
            Self::Localhost => return f.write_str("localhost"),
            Self::Null => return f.write_str("null"),
            Self::Any => return f.write_str("*"),
            Self::Exact(origin) => (origin, ""),
            Self::Subdomains(parent) => (parent, "*."),
        };
        write!(f, "{scheme}://{below}{host}")?;
        match (&**scheme, port) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => Ok(()),
            (_, Some(port)) => write!(f, ":{port}"),
        }
    }
}

/// Reads `host` or `host:port`, as it stands in a `Host` header and behind the scheme of an origin. Names lose their case and the dot of the root at
/// their end; those in other letters get the form in which browsers write them (`xn--`, UTS #46), and addresses their one way of being written.
fn authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        // `[::1]` alone has colons of its own.
        Some((host, port)) if !port.ends_with(']') => {
            // `parse` alone would take "+80".
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|_| digits)?))
        }
        _ => (text, None),
    };
    // What is escaped, `Host::parse` would read.
    if host.contains('%') {
        return None;
    }
    let host = match Host::parse(host.strip_suffix('.').unwrap_or(host)).ok()? {
        Host::Domain(name) => {
            let is_label =
                |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            name.split('.').all(is_label).then_some(Host::Domain(name))?
        }
        Host::Ipv6(address) => address.to_ipv4_mapped().map_or(Host::Ipv6(address), Host::Ipv4),
        address @ Host::Ipv4(_) => address,
    };
    Some((host, port))
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => Ipv4Addr::is_loopback(address),
        Host::Ipv6(address) => Ipv6Addr::is_loopback(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Origins {
        Origins::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    /// Judges one origin of a request for `signal.example.org:8080`.
    fn admits(rule: &str, origin: &str) -> bool {
        rules(&[rule]).judge([origin.as_bytes()], Some("signal.example.org:8080")) == Verdict::Page
    }

    #[test]
    fn a_page_comes_in_by_its_exact_origin_however_that_is_written() {
        for (rule, yes, no) in [
            (
                "https://app.example.org",
                &["https://app.example.org", "https://app.example.org:443", "HTTPS://App.Example.ORG", "https://app.example.org."][..],
                &[
                    "http://app.example.org",
                    "https://app.example.org:8443",
                    "https://app.example.org:80",
                    "https://example.org",
                    "https://x.app.example.org",
                    "https://app.example.org.evil.com",
                    "https://app.example.orgevil.com",
                    "https://evilapp.example.org",
                    "https://app.example.org@evil.com",
                    "https://evil.com@app.example.org",
                    "https://user:secret@app.example.org",
                    "https://app.example.org:443@evil.com",
                    "https://app.example.org#.evil.com",
                    "https://evil.com#.app.example.org",
                    "https://evil.com?app.example.org",
                    "https://evil.com/app.example.org",
                    "https://evil.com\\app.example.org",
                    "https://app.example.org/",
                    "https://app.example.org/path",
                    "https://app%2eexample.org",
                    "https://app.example.org%00.evil.com",
                    "https://app.example.org, https://evil.com",
                    "https://evil.com https://app.example.org",
                    "https://app.example.org https://app.example.org",
                    " https://app.example.org",
                    "https://app.example.org ",
                    "https://app.example.org..",
                    "https://.app.example.org",
                    "https://app..example.org",
                    "https://app.example.org:",
                    "https://app.example.org:+443",
                    "https://app.example.org:443:443",
                    "https://app.example.org:65979",
                    "https:app.example.org",
                    "https:/app.example.org",
                    "https:///app.example.org",
                    "//app.example.org",
                    "app.example.org",
                    "wss://app.example.org",
                    "null",
                    "",
                    "*",
                    "https://*",
                    "https://",
                    "://",
                ][..],
            ),
            ("http://app.example.org", &["http://app.example.org:80"], &["https://app.example.org", "http://app.example.org:443"]),
            ("HTTP://App.Example.Org.:8080", &["http://app.example.org:8080"], &["http://app.example.org", "https://app.example.org:8080"]),
            // What browsers make of the name, and not what looks like it: the second has a Cyrillic letter.
            ("https://bücher.example", &["https://xn--bcher-kva.example"], &["https://bücher.example", "https://bucher.example"]),
            ("https://xn--bcher-kva.example", &["https://XN--bcher-kva.example"], &["https://bcher-kva.example"]),
            ("https://аpp.example.org", &["https://xn--pp-6kc.example.org"], &["https://app.example.org"]),
            (
                "http://192.0.2.1:8080",
                &["http://192.0.2.1:8080", "http://0xc0.0.2.1:8080"],
                &["http://192.0.2.1", "http://192.0.2.10:8080"],
            ),
            (
                "http://[2001:db8::1]",
                &["http://[2001:DB8:0::1]:80"],
                &["http://[2001:db8::2]", "http://2001:db8::1", "http://[2001:db8::1"],
            ),
            ("chrome-extension://abcdefgh", &["chrome-extension://abcdefgh"], &["chrome-extension://abcdefgi", "https://abcdefgh"]),
            ("capacitor://localhost", &["capacitor://localhost"], &["http://localhost", "capacitor://localhost:80"]),
        ] {
            for origin in yes {
                assert!(admits(rule, origin), "{rule} lets {origin:?} in");
            }
            for origin in no {
                assert!(!admits(rule, origin), "{rule} keeps {origin:?} out");
            }
        }
    }

    #[test]
    fn a_star_in_front_stands_for_whole_labels_and_at_least_one() {
        for (rule, yes, no) in [
            (
                "https://*.example.org",
                &[
                    "https://app.example.org",
                    "https://a.b.example.org:443",
                    "https://APP.Example.org.",
                    "https://xn--bcher-kva.example.org",
                ][..],
                &[
                    "https://example.org",
                    "https://.example.org",
                    "https://*.example.org",
                    "https://..example.org",
                    "https://evilexample.org",
                    "https://evil-example.org",
                    "https://example.org.evil.com",
                    "https://app.example.org.evil.com",
                    "https://evil.com#.example.org",
                    "https://evil.com?.example.org",
                    "https://evil.com/.example.org",
                    "https://evil.com\\.example.org",
                    "https://evil.com@app.example.org",
                    "https://evil.com:80.example.org",
                    "https://evil.com\0.example.org",
                    "https://evil.com%23.example.org",
                    "http://app.example.org",
                    "https://app.example.org:8443",
                    "null",
                ][..],
            ),
            ("https://*.example.org:8443", &["https://app.example.org:8443"], &["https://app.example.org", "https://example.org:8443"]),
            ("http://*.bücher.example", &["http://a.xn--bcher-kva.example"], &["http://xn--bcher-kva.example"]),
        ] {
            for origin in yes {
                assert!(admits(rule, origin), "{rule} lets {origin:?} in");
            }
            for origin in no {
                assert!(!admits(rule, origin), "{rule} keeps {origin:?} out");
            }
        }
    }

    #[test]
    fn a_page_of_the_same_host_comes_in_whatever_the_port() {
        let same_host = rules(&["same-host"]);
        for (host, origin, expected) in [
            (Some("signal.example.org"), "https://signal.example.org", true),
            (Some("signal.example.org:8080"), "http://signal.example.org:3000", true),
            (Some("SIGNAL.example.org.:8080"), "http://signal.Example.org", true),
            (Some("127.0.0.1:8080"), "http://127.0.0.1:9", true),
            (Some("[::1]:8080"), "http://[0::1]", true),
            (Some("[::ffff:192.0.2.1]"), "http://192.0.2.1", true),
            (Some("xn--bcher-kva.example"), "https://xn--bcher-kva.example", true),
            (Some("signal.example.org"), "https://example.org", false),
            (Some("signal.example.org"), "https://x.signal.example.org", false),
            (Some("signal.example.org"), "https://signal.example.org.evil.com", false),
            (Some("signal.example.org"), "app://signal.example.org", false),
            (Some("evil.com#signal.example.org"), "https://signal.example.org", false),
            (Some("signal.example.org@evil.com"), "https://signal.example.org", false),
            (Some("signal.example.org, evil.com"), "https://signal.example.org", false),
            (Some("localhost:8080"), "http://127.0.0.1:8080", false),
            (Some(""), "https://", false),
            (Some("null"), "null", false),
            (None, "https://signal.example.org", false),
        ] {
            assert_eq!(same_host.judge([origin.as_bytes()], host) == Verdict::Page, expected, "{origin} for {host:?}");
        }
    }

    #[test]
    fn localhost_is_the_browsers_own_machine_and_no_name_that_looks_like_it() {
        for origin in [
            "http://localhost",
            "https://LOCALHOST:3000",
            "http://localhost.:8080",
            "http://app.localhost:8080",
            "http://127.0.0.1:8080",
            "http://127.255.255.254",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert!(admits("localhost", origin), "{origin}");
        }
        for origin in [
            "http://localhost.evil.com",
            "http://evillocalhost",
            "http://localhost@evil.com",
            "http://127.0.0.1.evil.com",
            "http://127.0.0.1@evil.com",
            "http://128.0.0.1",
            "http://0.0.0.0",
            "http://192.168.0.1",
            "http://[::2]",
            "http://local.host",
            "capacitor://localhost",
            "file://",
            "null",
        ] {
            assert!(!admits("localhost", origin), "{origin}");
        }
    }

    #[test]
    fn null_has_to_be_named_and_a_star_is_all_there_is() {
        for rule in ["same-host", "localhost", "https://null", "https://*.example.org"] {
            assert!(!admits(rule, "null"), "{rule}");
        }
        assert!(admits("null", "null") && !admits("null", "https://null") && !admits("null", "Null") && !admits("null", ""));
        for origin in ["null", "https://evil.com", "file://", "", "nonsense"] {
            assert!(admits("*", origin), "{origin}");
        }
    }

    #[test]
    fn who_names_no_origin_is_no_page_and_who_names_two_is_refused() {
        for texts in [&[][..], &["same-host", "localhost"], &["*"]] {
            assert_eq!(rules(texts).judge([], Some("x")), Verdict::NoPage);
            let two = [&b"http://localhost"[..], b"http://localhost"];
            assert_eq!(rules(texts).judge(two, Some("localhost")), Verdict::Refused, "{texts:?}");
        }
        let judge = |origin: &[u8]| rules(&["same-host", "https://*.example.org"]).judge([origin], Some("x"));
        assert_eq!(judge(b"http://x"), Verdict::Page);
        assert_eq!(judge(b"https://a.example.org"), Verdict::Page, "any one rule is enough");
        assert_eq!(judge(b"https://\xff.example.org"), Verdict::Refused);
        assert_eq!(rules(&[]).judge([&b"http://x"[..]], Some("x")), Verdict::Refused, "without a rule there is no page");
    }

    #[test]
    fn a_rule_that_is_none_is_named() {
        for text in [
            "",
            " ",
            "https://",
            "example.org",
            "*.example.org",
            "localhost:8080",
            "https://app.example.org/",
            "https://app.example.org/path",
            "https://user@app.example.org",
            "https://app.example.org?x",
            "https://app.example.org#x",
            "https://app.example.org:0x50",
            "https://app.example.org:65536",
            "https://app.*.org",
            "https://app*.example.org",
            "https://*",
            "https://*.",
            "https://*.*.example.org",
            "https://**.example.org",
            "https://*.127.0.0.1",
            "https://*.[::1]",
            "*://example.org",
            "wss://app.example.org",
            "https://a b",
            "https://256.0.0.1",
            "https://a,b",
            "Same-Host",
            "any",
        ] {
            let error = text.parse::<OriginRule>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is neither ")), "{error}");
        }
    }

    #[test]
    fn a_rule_is_written_as_it_is_understood() {
        for (text, written) in [
            ("same-host", "same-host"),
            ("localhost", "localhost"),
            ("null", "null"),
            ("*", "*"),
            ("HTTPS://App.example.org.:443", "https://app.example.org"),
            ("http://*.bücher.example:8080", "http://*.xn--bcher-kva.example:8080"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            let rule: OriginRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), written);
            assert_eq!(written.parse(), Ok(rule));
        }
    }
}
