//! Where the doors of a server are: the document that a base URL leads to.

use std::{error::Error, net::IpAddr, time::SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{Url, header};
use serde::Deserialize;

use super::{
    Door,
    connect::{ConnectError, Options},
};

/// Where every server tells of its doors.
const PATH: &str = "/.well-known/switchboard";
/// Largest document that is read.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// What a server tells of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovery {
    /// The server's version.
    pub version: String,
    /// Its doors, in the order in which it prefers them; those of a type that is not known are left out.
    pub transports: Vec<Transport>,
    /// The dialects that it speaks.
    pub dialects: Vec<String>,
    /// The server's clock, as it wrote it into its answer.
    pub date: Option<SystemTime>,
    /// Where the document came from: an address of a host with several that is known to answer.
    pub answered_by: Option<IpAddr>,
}

/// A door and what it takes to come in.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket { url: Url },
    /// A WebTransport session. Without hashes the server's certificate is one that anybody can verify.
    WebTransport { url: Url, certificate_hashes: Vec<[u8; 32]> },
}

impl Discovery {
    /// Asks the server at `base_url`, trusting what is trusted by default.
    pub async fn fetch(base_url: &str) -> Result<Self, ConnectError> {
        Self::fetch_with(base_url, &Options::default()).await
    }

    /// Asks the server at `base_url`.
    pub async fn fetch_with(base_url: &str, options: &Options) -> Result<Self, ConnectError> {
        let url = document_url(base_url)?;
        options.in_time(&url, fetch(&url, options)).await
    }

    /// Reads the document; the error is what is wrong with it.
    pub fn parse(document: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let document: Document = serde_json::from_slice(document)?;
        let transports = document.transports.into_iter().filter_map(|entry| entry.transport().transpose()).collect::<Result<_, _>>()?;
        Ok(Self { version: document.version, transports, dialects: document.dialects, date: None, answered_by: None })
    }

    /// The entry of this door, if the server has it.
    pub fn transport(&self, door: Door) -> Option<&Transport> {
        self.transports.iter().find(|transport| {
            matches!(
                (transport, door),
                (Transport::WebSocket { .. }, Door::WebSocket(_)) | (Transport::WebTransport { .. }, Door::WebTransport)
            )
        })
    }
}

#[derive(Deserialize)]
struct Document {
    version: String,
    transports: Vec<Entry>,
    #[serde(default)]
    dialects: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    #[serde(default)]
    certificate_hashes: Vec<Hash>,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

impl Entry {
    fn transport(self) -> Result<Option<Transport>, Box<dyn Error + Send + Sync>> {
        let url = || -> Result<Url, Box<dyn Error + Send + Sync>> {
            let url = self.url.as_deref().ok_or_else(|| format!("the transport {} has no url", self.kind))?;
            Ok(Url::parse(url).map_err(|error| format!("{url:?}: {error}"))?)
        };
        Ok(match &*self.kind {
            "websocket" => Some(Transport::WebSocket { url: url()? }),
            "webtransport" => {
                let known = self.certificate_hashes.iter().filter(|hash| hash.algorithm == "sha-256");
                let hashes = known.map(|hash| -> Result<[u8; 32], Box<dyn Error + Send + Sync>> {
                    let bytes = BASE64_STANDARD.decode(&hash.value)?;
                    Ok(bytes.try_into().map_err(|_| format!("{:?} is no SHA-256", hash.value))?)
                });
                Some(Transport::WebTransport { url: url()?, certificate_hashes: hashes.collect::<Result<_, _>>()? })
            }
            _ => None,
        })
    }
}

pub(super) fn document_url(base_url: &str) -> Result<Url, ConnectError> {
    let bad = || ConnectError::BaseUrl(base_url.to_owned());
    let base = Url::parse(base_url).map_err(|_| bad())?;
    let is_base = matches!(base.scheme(), "http" | "https") && base.has_host() && base.query().is_none() && base.fragment().is_none();
    let path = base.path().trim_end_matches('/').to_owned() + PATH;
    let mut url = base;
    url.set_path(&path);
    is_base.then_some(url).ok_or_else(bad)
}

async fn fetch(url: &Url, options: &Options) -> Result<Discovery, ConnectError> {
    let unreachable = |error: reqwest::Error| ConnectError::unreachable_by_cause(url, error.without_url());
    // A proxy would not be used for the doors themselves, and a redirection would leave open which host they are on.
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .local_address(options.local_address)
        .tls_backend_preconfigured(options.tls_for(url, b"http/1.1")?)
        .build()
        .map_err(unreachable)?;
    let mut request = http.get(url.clone());
    if let Some(origin) = &options.origin {
        request = request.header(header::ORIGIN, origin);
    }
    let mut response = request.send().await.map_err(unreachable)?;
    if !response.status().is_success() {
        return Err(ConnectError::Status { url: url.to_string(), status: response.status().as_u16() });
    }
    let answered_by = response.remote_addr().map(|address| address.ip());
    let date = response.headers().get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let invalid = |reason: String| ConnectError::Document { url: url.to_string(), reason };
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        document.extend_from_slice(&chunk);
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(invalid(format!("more than {DOCUMENT_BYTES_MAX} bytes")));
        }
    }
    let discovery = Discovery::parse(&document).map_err(|error| invalid(error.to_string()))?;
    Ok(Discovery { date, answered_by, ..discovery })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_of_the_specification_is_understood() {
        let text = r#"{"name": "switchboard", "version": "0.1.0", "transports": [
            {"type": "webtransport", "url": "https://localhost:8080/wt", "codecs": ["msgpack"], "certificateHashes": [
                {"algorithm": "sha-256", "value": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
                {"algorithm": "sha-999", "value": "?"}]},
            {"type": "carrier-pigeon", "loft": 7},
            {"type": "websocket", "url": "ws://localhost:8080/ws", "codecs": ["json", "msgpack"]}
        ], "dialects": ["native"]}"#;
        let discovery = Discovery::parse(text.as_bytes()).unwrap();
        let hash = std::array::from_fn(|at| at as u8);
        let webtransport =
            Transport::WebTransport { url: Url::parse("https://localhost:8080/wt").unwrap(), certificate_hashes: vec![hash] };
        assert_eq!(discovery.transport(Door::WebTransport), Some(&webtransport));
        let websocket = Transport::WebSocket { url: Url::parse("ws://localhost:8080/ws").unwrap() };
        assert_eq!(discovery.transports, [webtransport, websocket]);
        assert_eq!(discovery.dialects, ["native"]);
    }

    #[test]
    fn what_is_no_document_is_told_why() {
        let fault = |text: &str| Discovery::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(fault("<html>").contains("expected value"));
        let transports = |entry: &str| fault(&format!(r#"{{"version":"1","transports":[{entry}]}}"#));
        assert_eq!(transports(r#"{"type":"websocket"}"#), "the transport websocket has no url");
        assert_eq!(transports(r#"{"type":"websocket","url":"/ws"}"#), r#""/ws": relative URL without a base"#);
        let hash = r#"{"type":"webtransport","url":"https://h/wt","certificateHashes":[{"algorithm":"sha-256","value":"AAAA"}]}"#;
        assert_eq!(transports(hash), r#""AAAA" is no SHA-256"#);
    }

    #[test]
    fn a_base_url_leads_to_the_document_with_or_without_a_slash() {
        for (base, document) in [
            ("http://localhost:8080", "http://localhost:8080/.well-known/switchboard"),
            ("https://[::1]/", "https://[::1]/.well-known/switchboard"),
            ("https://example.org/calls/", "https://example.org/calls/.well-known/switchboard"),
        ] {
            assert_eq!(document_url(base).unwrap().as_str(), document);
        }
        for base in ["", "localhost:8080", "ws://localhost", "http://localhost/?room=1", "http://localhost/#a"] {
            assert!(matches!(document_url(base), Err(ConnectError::BaseUrl(url)) if url == base), "{base}");
        }
    }
}
