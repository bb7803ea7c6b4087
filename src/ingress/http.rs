//! Plain HTTP: discovery, health, the page and the browser modules, and the upgrade that hands a socket to the WebSocket door.
//!
//! Every path has an answer that a person can use, wrong ones too. Nothing here knows what a frame is.

use std::{
    fmt::{Debug, Write as _},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::{
    Extensions, HttpMessage as _, HttpServiceBuilder, KeepAlive, Request, Response, ResponseBuilder,
    body::{BodySize, BoxBody},
    error::DispatchError,
    h1, ws,
};
use actix_rt::net::TcpStream;
use actix_service::{IntoServiceFactory as _, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{AppConfig, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap},
        uri::Authority,
    },
    web::{self, Data},
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, future::ready};
use rust_embed::RustEmbed;
use serde::Serialize;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;

use super::{
    Doorkeeper, NoIce, Place,
    address::Visit,
    dialects::{Dialects, PeerJsRequest},
    engineio::{self, EngineIo},
    handshakes::Handshakes,
    logs::{span, spawn_in},
    origins::share,
    self_signed::Hash,
    tls::Certificates,
    websocket::{self, Handover},
    webtransport,
};
use crate::{
    config::Timeouts,
    dialect::PEERJS,
    ice::TooMany,
    metrics::{Door, HandshakeFailure},
    protocol::{CloseCode, Codec, PeerId, RoomId},
    registry::command::TakeNames,
};

/// Where WebSockets are asked for.
pub const WEBSOCKET_PATH: &str = "/ws";
/// Where clients ask for ICE servers that no session tells of them.
pub const ICE_PATH: &str = "/ice";
/// Where a client asks for everything else that it has to know.
pub const DISCOVERY_PATH: &str = "/.well-known/switchboard";

const PATHS: &str = "\
/                          pages to try this server with: /call, /phrases, /stream, /inspect, /check
/client.js                 the browser client, an ES module
/.well-known/switchboard   discovery: where the doors are
/ws                        the WebSocket door
/wt                        the WebTransport door, over HTTP/3
/ice                       ICE servers, for clients that no session tells of them
/healthz                   is the server alive?
/readyz                    does it take new clients?
";

/// What plain HTTP is answered from.
pub struct Site {
    pub doorkeeper: Arc<Doorkeeper>,
    pub certificates: Arc<Certificates>,
    /// Where this listener is, for clients that name no host.
    pub address: SocketAddr,
    pub handshakes: Arc<Handshakes>,
    pub dialects: Arc<Dialects>,
    /// The sessions of Socket.IO, where that is spoken.
    pub socket_io: Option<Arc<EngineIo>>,
}

impl Site {
    /// Drops a connection whose address has far too many, before it costs anything.
    fn let_in(&self, io: TcpStream) -> Result<(TcpStream, Option<SocketAddr>), DispatchError> {
        let peer = io.peer_addr().map_err(DispatchError::Io)?;
        if self.doorkeeper.addresses.is_swamped(peer.ip()) {
            self.failed(HandshakeFailure::TooManyConnections);
            return Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into()));
        }
        Ok((io, Some(peer)))
    }

    /// Notes a connection from `peer`. Those of a proxy are noted for whom it names, which is not known yet.
    fn visit(&self, peer: IpAddr) -> Option<Arc<Visit>> {
        let addresses = &self.doorkeeper.addresses;
        (!addresses.is_proxy(peer)).then(|| Arc::new(addresses.visit(peer, Instant::now())))
    }

    /// The client that asks for an upgrade. None when its connection is gone already.
    fn visitor(&self, request: &Request) -> Option<Arc<Visit>> {
        self.visitor_at(request.conn_data()?, request.peer_addr(), request.headers())
    }

    /// The client behind a connection, where there is a note of it, or else whom a proxy names.
    fn visitor_at(&self, visit: &Option<Arc<Visit>>, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<Arc<Visit>> {
        match visit {
            Some(visit) => Some(visit.clone()),
            None => {
                let addresses = &self.doorkeeper.addresses;
                let client = addresses.client(peer?.ip(), headers);
                Some(Arc::new(addresses.visit(client, Instant::now())))
            }
        }
    }

    /// As much of a path as may be told of: in front of the last part of one of PeerJS may be a token.
    fn told<'a>(&self, path: &'a str) -> &'a str {
        if self.dialects.peerjs(path).is_some() { &path[path.rfind('/').unwrap_or_default()..] } else { path }
    }

    /// The sessions of Socket.IO, at their path.
    fn socket_io(&self, path: &str) -> Option<&Arc<EngineIo>> {
        self.socket_io.as_ref().filter(|_| EngineIo::is_at(path))
    }

    /// Lets a client in that is to stay, and nobody who is only to hear why it cannot.
    fn admit(&self, visit: Option<Arc<Visit>>) -> Result<Place, CloseCode> {
        let place = self.doorkeeper.clients.admit(visit.ok_or(CloseCode::Timeout)?)?;
        match place.refusal {
            Some(code) => Err(code),
            None => Ok(place),
        }
    }

    fn failed(&self, cause: impl Into<HandshakeFailure>) {
        self.doorkeeper.metrics.handshake_failed(cause);
    }
}

/// The page and the browser modules.
#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[exclude = "admin/*"]
#[exclude = "test/*"]
#[exclude = "node_modules/*"]
#[exclude = "examples/*"]
struct Web;

/// What is served at a path: `/` is `/index.html`, and every page is also found without its `.html`.
fn file_at(path: &str) -> Option<rust_embed::EmbeddedFile> {
    let path = if path == "/" { "index" } else { path.trim_start_matches('/') };
    Web::get(path).or_else(|| Web::get(&format!("{path}.html")))
}

/// Answers every request that asks for no upgrade. What leads to sessions, or tells of peers, is for pages that may come in. The rest is the same for
/// everybody and says nothing of anybody: the pages and modules, which are imported from other origins, the health, and help for whoever went astray.
async fn answer(request: HttpRequest, body: web::Payload, site: Data<Site>) -> HttpResponse {
    let path = request.path();
    let is_socket_io = site.socket_io(path).is_some();
    let is_peerjs = site.dialects.peerjs(path).is_some() && file_at(path).is_none();
    if !is_socket_io && !is_peerjs && ![DISCOVERY_PATH, ICE_PATH].contains(&path) {
        return answer_anybody(&request, body, &site).await;
    }
    let headers = request.headers();
    if !site.doorkeeper.admits_request(headers, request.peer_addr(), site.told(path)) {
        let mut refusal = plain(StatusCode::FORBIDDEN, FORBIDDEN);
        share(refusal.headers_mut(), None, false);
        return refusal;
    }
    let mut response = answer_anybody(&request, body, &site).await;
    share(response.headers_mut(), headers.get(header::ORIGIN), is_socket_io);
    response
}

async fn answer_anybody(request: &HttpRequest, body: web::Payload, site: &Site) -> HttpResponse {
    if let Some(engine) = site.socket_io(request.path()) {
        let connection = request.conn_data::<Option<Arc<Visit>>>().cloned().flatten();
        let begin = || {
            // A session outlives the connection that it begins on, which may bring many requests: it is counted for itself.
            let visit = match &connection {
                Some(connection) => Some(Arc::new(connection.session(Instant::now()))),
                None => site.visitor_at(&None, request.peer_addr(), request.headers()),
            };
            site.admit(visit).map(|place| engineio::attend(place, site.doorkeeper.clone()))
        };
        return engineio::answer(request, body, engine, connection.clone(), begin).await;
    }
    let file = file_at(request.path());
    let peerjs = site.dialects.peerjs(request.path());
    if request.path() == ICE_PATH && *request.method() == Method::OPTIONS {
        return preflight();
    }
    let known = file.is_some() || peerjs.is_some() || PATHS.lines().any(|line| line.split(' ').next() == Some(request.path()));
    // At `/ice` an answer to HEAD would lend what nobody gets to see.
    let (methods, allow): (&[Method], _) = match request.path() {
        ICE_PATH => (&[Method::GET], "GET"),
        _ => (&[Method::GET, Method::HEAD], "GET, HEAD"),
    };
    if known && !methods.contains(request.method()) {
        let text = format!("{} takes {}, not {}\n", request.path(), allow.replace(", ", " and "), request.method());
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, text);
        refusal.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
        return refusal;
    }
    if let (None, Some(peerjs)) = (&file, peerjs) {
        return answer_peerjs(peerjs, request, site).await;
    }
    if let (None, Some((status, text))) = (&file, site.dialects.page(request.path())) {
        return if status == StatusCode::UPGRADE_REQUIRED { upgrade_required(text) } else { plain(status, text) };
    }
    match (request.path(), file) {
        (_, Some(file)) => serve_file(request.headers(), file),
        (DISCOVERY_PATH, _) => discovery(request, site),
        (ICE_PATH, _) => ice_servers(request, site).await,
        ("/healthz", _) => plain(StatusCode::OK, "alive\n"),
        ("/readyz", _) if site.doorkeeper.clients.is_draining() => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down: no new clients are taken\n")
        }
        ("/readyz", _) if site.doorkeeper.clients.is_full() => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "full: as many clients as limits.clients_max allows\n")
        }
        ("/readyz", _) => plain(StatusCode::OK, "ready: new clients are taken\n"),
        (WEBSOCKET_PATH, _) => upgrade_required(format!("{WEBSOCKET_PATH} is a WebSocket: {SEE_DISCOVERY}")),
        (webtransport::PATH, _) => {
            plain(StatusCode::BAD_REQUEST, format!("{} is WebTransport, over HTTP/3 on UDP: {SEE_DISCOVERY}", webtransport::PATH))
        }
        (path, _) => plain(StatusCode::NOT_FOUND, format!("There is nothing at {path:?}. There is:\n\n{PATHS}{}", site.dialects.paths())),
    }
}

/// What a page hears that may not come in. Why is in the log.
const FORBIDDEN: &str = "forbidden\n";
const SEE_DISCOVERY: &str = "connect with a client, /.well-known/switchboard says where\n";

fn plain(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .content_type("text/plain; charset=utf-8")
        .body(text.into())
}

fn upgrade_required(text: impl Into<String>) -> HttpResponse {
    let mut wanted = plain(StatusCode::UPGRADE_REQUIRED, text);
    wanted.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    wanted.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    wanted
}

/// Answers the `peerjs` library, as its own server does.
async fn answer_peerjs(asked: PeerJsRequest, request: &HttpRequest, site: &Site) -> HttpResponse {
    let path = request.path();
    match asked {
        PeerJsRequest::About => json(&PeerJsServer {
            name: "PeerJS Server",
            description: "A server side element to broker connections between PeerJS clients.",
            website: "https://peerjs.com/",
        }),
        PeerJsRequest::Socket => upgrade_required(format!("{path} is a WebSocket: connect with the peerjs library\n")),
        // It says what it is and means it no more than there: the library reads text.
        PeerJsRequest::Id => HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .content_type("text/html; charset=utf-8")
            .body(PeerId::random().to_string()),
        // To this status the library knows what to say.
        PeerJsRequest::Peers(None) => plain(StatusCode::UNAUTHORIZED, "the setting peerjs.discovery is off\n"),
        PeerJsRequest::Peers(Some(room)) if !may_list(&room, request, site).await => {
            plain(StatusCode::UNAUTHORIZED, "not without a good token in the place of the key\n")
        }
        PeerJsRequest::Peers(Some(room)) => match site.doorkeeper.sessions.registry().send(TakeNames(room)).await {
            Ok(names) => json(&names.iter().map(|name| name.as_str()).collect::<Vec<_>>()),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
        },
    }
}

/// May who asks know who is in this room?
async fn may_list(room: &RoomId, request: &HttpRequest, site: &Site) -> bool {
    let token = site.dialects.token(request.path(), request.query_string());
    let visit = request.conn_data::<Option<Arc<Visit>>>();
    let Some(visit) = visit.and_then(|visit| site.visitor_at(visit, request.peer_addr(), request.headers())) else { return false };
    site.doorkeeper.may_observe(room, token, visit.address(), PEERJS).await
}

#[derive(Serialize)]
struct PeerJsServer {
    name: &'static str,
    description: &'static str,
    website: &'static str,
}

fn json(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(serde_json::to_string(document).expect("JSON can be written"))
}

/// Lets a page ask with a token in a header. Only pages that may come in get here.
fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}

/// The ICE servers, for clients whose dialect has no word for them. Who asks has no session: nobody could tell whether one that it names is its own.
async fn ice_servers(request: &HttpRequest, site: &Site) -> HttpResponse {
    let visit = request.conn_data::<Option<Arc<Visit>>>();
    let Some(visit) = visit.and_then(|visit| site.visitor_at(visit, request.peer_addr(), request.headers())) else {
        return plain(StatusCode::BAD_REQUEST, "nobody is there any more\n");
    };
    let token = bearer(request.headers()).or_else(|| site.dialects.token(request.path(), request.query_string()));
    match site.doorkeeper.ice_servers(token, &visit).await {
        Ok(offer) => {
            let ttl = offer.ttl_s(SystemTime::now()).map_or(String::new(), |ttl| format!(",\"ttl\":{ttl}"));
            let servers = String::from_utf8_lossy(&offer.servers.spell(Codec::Json)).into_owned();
            HttpResponse::Ok()
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .content_type("application/json")
                .body(format!("{{\"iceServers\":{servers}{ttl}}}"))
        }
        Err(NoIce::Refused(CloseCode::Unavailable)) => {
            later(StatusCode::SERVICE_UNAVAILABLE, "whoever decides cannot be asked at the moment\n", Duration::from_secs(1))
        }
        Err(NoIce::Refused(_)) => {
            let mut refusal = plain(StatusCode::UNAUTHORIZED, "not without a good token\n");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            refusal
        }
        Err(NoIce::TooMany(TooMany { retry_after })) => {
            later(StatusCode::TOO_MANY_REQUESTS, "your address has as many credentials as it may, or all together have\n", retry_after)
        }
    }
}

/// An answer to somebody who may ask again then.
fn later(status: StatusCode, text: &'static str, retry_after: Duration) -> HttpResponse {
    let mut refusal = plain(status, text);
    let headers = refusal.headers_mut();
    headers.insert(header::RETRY_AFTER, retry_after.as_millis().div_ceil(1000).max(1).to_string().parse().expect("digits are a value"));
    // Pages of other origins are shown few headers by themselves, and not this one.
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, header::HeaderValue::from_static("Retry-After"));
    refusal
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The page works from any origin, and so do its parts. They change with the server, so a browser asks each time whether they did.
fn serve_file(headers: &HeaderMap, file: rust_embed::EmbeddedFile) -> HttpResponse {
    let etag = file.metadata.sha256_hash()[..16].iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let etag = format!("\"{etag}\"");
    let unchanged = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = HttpResponse::build(if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if unchanged {
        return response.finish();
    }
    let mime = file.metadata.mimetype();
    let charset = if mime.starts_with("text/") { "; charset=utf-8" } else { "" };
    response.content_type(format!("{mime}{charset}")).body(Bytes::from(file.data.into_owned()))
}

/// What a client is told about the doors, the preferred one first.
#[derive(Serialize)]
struct Discovery {
    name: &'static str,
    version: &'static str,
    transports: [Transport; 2],
    dialects: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transport {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
    codecs: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_hashes: Vec<CertificateHash>,
}

#[derive(Serialize)]
struct CertificateHash {
    algorithm: &'static str,
    value: String,
}

impl From<&Hash> for CertificateHash {
    fn from(hash: &Hash) -> Self {
        Self { algorithm: "sha-256", value: BASE64_STANDARD.encode(hash) }
    }
}

/// Names the doors by the host that the client asked for: it has reached that one.
fn discovery(request: &HttpRequest, site: &Site) -> HttpResponse {
    let headers = request.headers();
    let host = match headers.get(header::HOST).map(|host| host.to_str().ok().and_then(|host| host.parse::<Authority>().ok())) {
        Some(Some(host)) if !host.as_str().contains('@') => host.to_string(),
        Some(_) => return plain(StatusCode::BAD_REQUEST, "the Host header is no host\n"),
        None => site.address.to_string(),
    };
    let ended_by_proxy = || request.peer_addr().is_some_and(|peer| site.doorkeeper.addresses.is_secure(peer.ip(), headers));
    let tls = if !site.certificates.is_self_signed() || ended_by_proxy() { "s" } else { "" };
    let document = Discovery {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        transports: [
            Transport {
                kind: "webtransport",
                url: format!("https://{host}{}", webtransport::PATH),
                codecs: &["msgpack"],
                certificate_hashes: site.certificates.hashes().iter().map(CertificateHash::from).collect(),
            },
            Transport {
                kind: "websocket",
                url: format!("ws{tls}://{host}{WEBSOCKET_PATH}"),
                codecs: &["json", "msgpack"],
                certificate_hashes: vec![],
            },
        ],
        dialects: site.dialects.names(),
    };
    let text = serde_json::to_string_pretty(&document).expect("JSON can be written") + "\n";
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).content_type("application/json").body(text)
}

/// Serves connections in the clear.
pub fn service(site: Arc<Site>) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let http = http(site.clone(), |io: &TcpStream| io.peer_addr());
    fn_service(move |io| ready(site.let_in(io))).and_then(http)
}

/// Serves connections over TLS.
pub fn service_tls(
    site: Arc<Site>,
    tls: rustls::ServerConfig,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let http = http(site.clone(), |io: &TlsStream<TcpStream>| io.get_ref().0.peer_addr());
    let handshake = move |io| {
        let (site, acceptor) = (site.clone(), acceptor.clone());
        async move {
            let (io, peer) = site.let_in(io)?;
            let accepted = site.handshakes.begin().run(acceptor.accept(io)).await;
            let (cause, error) = match accepted {
                Ok(Ok(io)) => return Ok((io, peer)),
                Ok(Err(error)) => (HandshakeFailure::Tls, error),
                Err(given_up) => (given_up.into(), io::Error::other(given_up)),
            };
            site.failed(cause);
            debug!(%error, "a TLS handshake failed");
            Err(DispatchError::Io(error))
        }
    };
    fn_service(handshake).and_then(http)
}

/// HTTP on connections of either kind.
fn http<Io>(
    site: Arc<Site>,
    peer: fn(&Io) -> io::Result<SocketAddr>,
) -> impl ServiceFactory<(Io, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    Io: Handover,
{
    let builder = builder(&site.doorkeeper.timeouts).on_connect_ext(note_visit(site.clone(), peer));
    builder.upgrade(upgrade_service(site.clone())).h1(app(site))
}

/// Keeps a note of a connection for as long as it lasts.
fn note_visit<Io>(site: Arc<Site>, peer: fn(&Io) -> io::Result<SocketAddr>) -> impl Fn(&Io, &mut Extensions) {
    move |io, connection| {
        // A connection that is gone already has no address, and no request.
        if let Ok(peer) = peer(io) {
            connection.insert(site.visit(peer.ip()));
        }
    }
}

/// HTTP as it is served here, without the services that answer.
pub fn builder<Io, S>(timeouts: &Timeouts) -> HttpServiceBuilder<Io, S>
where
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: Debug,
    <S::Service as Service<Request>>::Future: 'static,
{
    HttpServiceBuilder::default()
        .client_request_timeout(timeouts.hello() + CLOCK_LAG)
        .client_disconnect_timeout(timeouts.close() + CLOCK_LAG)
        // Only the first request of a connection has a deadline in the crate, so there is no second.
        .keep_alive(KeepAlive::Disabled)
        // Whoever says no more is gone, and no answer that is still waited for reaches it. One that is there at once does: all but one for
        // messages or with some (`engineio::polling`), and the list of peers for PeerJS.
        .h1_allow_half_closed(false)
}

/// The HTTP crate counts deadlines from a clock that it reads twice a second (`actix_http::date::DateService`), so a connection may begin
/// with this much of its time gone.
const CLOCK_LAG: Duration = Duration::from_millis(500);

fn app(site: Arc<Site>) -> impl ServiceFactory<Request, Config = (), Response = Response<BoxBody>, Error = Error, InitError = ()> {
    let app = App::new().app_data(Data::from(site)).default_service(web::to(answer));
    map_config(app.into_factory(), |()| AppConfig::default()).map(|response: ServiceResponse| response.into())
}

fn upgrade_service<Io>(
    site: Arc<Site>,
) -> impl ServiceFactory<(Request, Framed<Io, h1::Codec>), Config = (), Response = (), Error = actix_http::Error, InitError = ()>
where
    Io: Handover,
{
    fn_service(move |(request, framed)| {
        let site = site.clone();
        async move {
            if let Err(error) = upgrade(request, framed, &site).await {
                debug!(%error, "a socket failed in its handshake");
            }
            Ok(())
        }
    })
}

/// Takes over a connection whose client asked for an upgrade: a WebSocket on its path, or a refusal.
async fn upgrade<Io>(request: Request, mut framed: Framed<Io, h1::Codec>, site: &Site) -> io::Result<()>
where
    Io: Handover,
{
    if !site.doorkeeper.admits_request(request.headers(), request.peer_addr(), site.told(request.path())) {
        return write_response(&mut framed, StatusCode::FORBIDDEN, FORBIDDEN).await;
    }
    if let Some(engine) = site.socket_io(request.path()) {
        let visit = site.visitor(&request);
        let begin = || site.admit(visit.clone()).map(|place| engineio::attend(place, site.doorkeeper.clone()));
        return engineio::upgrade(request, framed, engine, visit.clone(), begin).await;
    }
    let query = request.uri().query().unwrap_or_default();
    let speaks = match request.path() {
        WEBSOCKET_PATH => {
            let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
            Some(websocket::negotiate(&offered.collect::<Vec<_>>().join(",")))
        }
        path => site.dialects.at(path, query).map(|dialect| (dialect, None)),
    };
    let (status, text) = if *request.method() == Method::CONNECT {
        site.failed(HandshakeFailure::WebSocket);
        (StatusCode::METHOD_NOT_ALLOWED, "there is no CONNECT over HTTP/1.1\n".into())
    } else if let Some(objection) = site.dialects.objection(request.path(), query, &site.doorkeeper.limits) {
        site.failed(HandshakeFailure::WebSocket);
        (StatusCode::BAD_REQUEST, objection)
    } else if let Some((dialect, subprotocol)) = speaks {
        match handshake(&request) {
            Ok(mut accepted) => {
                if let Some(subprotocol) = subprotocol {
                    accepted.insert_header((header::SEC_WEBSOCKET_PROTOCOL, subprotocol));
                }
                let Some(visit) = site.visitor(&request) else { return Ok(()) };
                let place = match site.doorkeeper.clients.admit(visit) {
                    Ok(place) => place.with_token(site.dialects.token(request.path(), query)),
                    Err(code) => {
                        site.failed(code);
                        return write_response(&mut framed, StatusCode::SERVICE_UNAVAILABLE, &format!("no place: {}\n", code.slug())).await;
                    }
                };
                let (io, leftover) = switch_protocols(framed, accepted).await?;
                // A task of its own: what is left of HTTP takes several KiB, which are not to wait for the end of the connection.
                let span = span(Door::WebSocket, dialect.name());
                spawn_in(span, websocket::serve(io, leftover, dialect, Arc::new(place), site.doorkeeper.clone()));
                return Ok(());
            }
            Err(text) => {
                site.failed(HandshakeFailure::WebSocket);
                (StatusCode::BAD_REQUEST, text)
            }
        }
    } else {
        site.failed(HandshakeFailure::NoSuchPath);
        (StatusCode::NOT_FOUND, format!("There is no WebSocket at {:?}. There is:\n\n{PATHS}{}", request.path(), site.dialects.paths()))
    };
    write_response(&mut framed, status, &text).await
}

/// Reads a request as a WebSocket handshake (RFC 6455 §4.2.1): the answer to give, or the reason why there is none, for a person.
pub fn handshake(request: &Request) -> Result<ResponseBuilder, String> {
    ws::handshake(request.head()).map_err(|error| {
        debug!(%error, "a WebSocket handshake is no good");
        format!("this is no WebSocket handshake (RFC 6455, version 13): {error}\n")
    })
}

/// Answers a handshake. From here on the socket is a WebSocket; what was read of it already comes with it.
pub async fn switch_protocols<Io>(mut framed: Framed<Io, h1::Codec>, mut accepted: ResponseBuilder) -> io::Result<(Io, BytesMut)>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    framed.send(h1::Message::Item((accepted.finish().drop_body(), BodySize::None))).await?;
    let parts = framed.into_parts();
    Ok((parts.io, parts.read_buf))
}

/// Answers what asks for an upgrade that it does not get, and closes the connection.
pub async fn write_response<Io>(framed: &mut Framed<Io, h1::Codec>, status: StatusCode, text: &str) -> io::Result<()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut response = Response::build(status);
    response.insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8")).insert_header((header::CONNECTION, "close"));
    if status == StatusCode::BAD_REQUEST {
        response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
    }
    let head = response.finish().drop_body();
    framed.feed(h1::Message::Item((head, BodySize::Sized(text.len() as u64)))).await?;
    framed.feed(h1::Message::Chunk(Some(Bytes::copy_from_slice(text.as_bytes())))).await?;
    // Closing alone would drop what is not written yet.
    framed.send(h1::Message::Chunk(None)).await?;
    framed.close().await
}
