//! The settings: one struct per section, whose doc comments are the manual and whose defaults are the truth.
//!
//! A [`Config`] comes together in [`Sources`] from flags, environment and a file; a program that embeds the server may as well
//! start from [`Config::default`] and change fields. Each part of the server takes its own section and never sees the rest.
//! Nothing here opens a socket or knows what a setting is good for.

mod in_force;
mod listen;
mod ports;
mod sources;
mod value;

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use confique::Config as _;
use ipnet::IpNet;
use reqwest::Url;
use serde::{Deserialize, Serialize};

pub use self::{
    in_force::InForce,
    listen::{Listen, ListenError},
    ports::{Ports, PortsError},
    sources::{Fault, InvalidConfig, Origin, SettingOrigins, Sources},
    value::log_filter_fault,
};
use self::{
    sources::Conflict,
    value::{
        blocks, certificate_names, dialects, external_addresses, https_url, ice_servers, integer, log_filter, origins, path, paths, text,
        texts, turn_urls, url_path, url_segment, word,
    },
};
pub use crate::auth::origin::OriginRule;
pub use crate::ice::{IceServer, IceUrl};

/// The settings of Switchboard.
///
/// A flag beats an environment variable, which beats this file, which beats the default. Every setting below stands at its
/// default; remove the `#` in front of one to change it. Unknown settings are refused, and so are environment variables that
/// begin with SWITCHBOARD_ and name none; those that Kubernetes sets for services are let be. An empty variable counts as not
/// set, but in the section auth: there it is refused, or it would open a server that was to be closed. Paths are relative to the
/// directory that the server is started in. `switchboard config --check FILE` tells what is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Config {
    /// Where to listen, as HOST:PORT, on TCP and on UDP. `localhost` is 127.0.0.1 and `[::1]`; without a host, as in `:8080`, it is
    /// every address of both families; an IPv6 address stands in brackets. Port 0 picks a free one. Flag: --listen.
    #[config(env = "SWITCHBOARD_LISTEN", default = "localhost:8080")]
    pub listen: Listen,

    /// The certificate chain, a PEM file; needs tls_key beside it. Without the two, TCP is plain and QUIC gets a self-signed
    /// certificate. Flag: --tls-cert.
    #[config(env = "SWITCHBOARD_TLS_CERT", deserialize_with = path)]
    pub tls_cert: Option<PathBuf>,

    /// The private key of tls_cert, a PEM file. Flag: --tls-key.
    #[config(env = "SWITCHBOARD_TLS_KEY", deserialize_with = path)]
    pub tls_key: Option<PathBuf>,

    /// The directory in which the self-signed certificate is kept. Flag: --cert-dir.
    #[config(env = "SWITCHBOARD_CERT_DIR", default = "certs", deserialize_with = path)]
    pub cert_dir: PathBuf,

    /// DNS names and IP addresses for the self-signed certificate, beside those of this machine; by the names the administration may be asked for
    /// as well. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_CERT_NAMES", default = [], deserialize_with = certificate_names)]
    pub cert_names: Vec<String>,

    /// What is logged to stderr: a level (error, warn, info, debug, trace, off) or a list such as `info,switchboard=debug`.
    /// Flag: --log.
    #[config(env = "SWITCHBOARD_LOG", default = "info", deserialize_with = log_filter)]
    pub log: String,

    /// How a log line is written: `text` or `json`. Flag: --log-format.
    #[config(env = "SWITCHBOARD_LOG_FORMAT", default = "text")]
    pub log_format: LogFormat,

    /// Threads that serve clients; left out, as many as there are cores. Flag: --workers.
    /// Range: 1 to 512.
    #[config(env = "SWITCHBOARD_WORKERS", deserialize_with = integer::<_, _, 1, 512>)]
    pub workers: Option<usize>,

    /// Whether rates are bounded, as limits.messages_per_second, limits.bytes_per_second, limits.joins_per_second,
    /// limits.address_joins_per_second and limits.address_connections_max say: `on` or `off`, for load tests. Flag: --rates.
    #[config(env = "SWITCHBOARD_RATES", default = "on")]
    pub rates: Rates,

    /// The dialects that are spoken beside our own, which always is: those of clients that were written for other servers. `classic` (`/`), the rooms
    /// of the WebSocket tutorials, and `lobby` (`/`), where each message goes to everybody; `peerjs` (`/peerjs`), `socket.io` (`/socket.io/`),
    /// `tracker` (`/tracker` and `/announce`), `y-webrtc` (`/y`), `matchbox` (`/matchbox/ROOM`). In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_DIALECTS", default = ["classic", "lobby", "peerjs", "socket.io", "tracker", "y-webrtc", "matchbox"], deserialize_with = dialects)]
    pub dialects: Vec<ForeignDialect>,

    /// The proxies in front of this server, as CIDR blocks or addresses. What comes from them by TCP is counted for the address that
    /// they name in X-Forwarded-For, the last one there that is none of theirs; and where they say `https` in X-Forwarded-Proto, clients are
    /// told of a secure WebSocket. What they pass on by UDP names nobody, and is counted for their own: see limits.address_failures_max. In the
    /// environment they are separated by commas.
    #[config(env = "SWITCHBOARD_TRUSTED_PROXIES", default = [], deserialize_with = blocks)]
    pub trusted_proxies: Vec<IpNet>,

    /// The web pages that may come in, by every door and dialect: `same-host`, those of the host that they ask, whatever their port; `localhost`, those of
    /// the browser's own machine (localhost, *.localhost, 127.0.0.0/8 and `[::1]`); an origin such as `https://app.example.org` or
    /// `https://app.example.org:8443`; `https://*.example.org`, the hosts below example.org and not that one itself; `null`, pages of files and sandboxes;
    /// `*`, all. Pages of others are refused, with status 403. Programs that are no browsers send no origin and come in. `same-host` believes the request's
    /// Host, or of a proxy in trusted_proxies its X-Forwarded-Host. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_ORIGINS", default = ["same-host", "localhost"], deserialize_with = origins)]
    pub origins: Vec<OriginRule>,

    /// Where whoever runs the server looks at it and acts on it, as HOST:PORT like listen, in plain HTTP; nowhere if left out. Whoever reaches it
    /// from another machine should come by SSH or a proxy with TLS. Never the port of listen. Flag: --admin-listen.
    #[config(env = "SWITCHBOARD_ADMIN_LISTEN")]
    pub admin_listen: Option<Listen>,

    /// The administration, where admin_listen is set.
    #[config(nested)]
    pub admin: Admin,

    /// The dialect `peerjs`: what the library is told as `path` and `key`, and what its clients may ask for.
    #[config(nested)]
    pub peerjs: PeerJs,

    /// Who may come in: with one of these a server takes clients with a token alone, a JWT; without, everybody.
    #[config(nested)]
    pub auth: Auth,

    /// The STUN and TURN servers that clients are told of.
    #[config(nested)]
    pub ice: Ice,

    /// The embedded STUN and TURN server, off by default. It relays for sessions that are alive, to the public internet alone.
    #[config(nested)]
    pub turn: Turn,

    /// How much of everything there may be at most.
    #[config(nested)]
    pub limits: Limits,

    /// How long things may take, in milliseconds.
    #[config(nested)]
    pub timeouts: Timeouts,
}

/// Who may come in. With `keys` or `jwks_url` that is who has a token, a JWT; with `callback_url` whom the application lets in; with neither, everybody.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Auth {
    /// Files with the keys of who makes tokens: a public key in PEM (RSA for RS256, P-256 for ES256, Ed25519 for EdDSA), a JWK or a JWKS; for HS256 a JWK
    /// of kind `oct`, whose secret has 32 bytes at least. A token says by its `kid` which of them it is for; that of a key in PEM is the name of its file
    /// without the extension. A file that changes is read again. In the environment they are separated by commas. `switchboard keys` makes a pair.
    #[config(env = "SWITCHBOARD_AUTH_KEYS", default = [], deserialize_with = paths)]
    pub keys: Vec<PathBuf>,

    /// Where an identity provider publishes its keys, a JWKS: `https:`, or `http:` on this machine. They are fetched again for a token whose `kid` is not
    /// among them, at most every 10 seconds.
    #[config(env = "SWITCHBOARD_AUTH_JWKS_URL", deserialize_with = https_url)]
    #[serde(serialize_with = "value::as_text")]
    pub jwks_url: Option<Url>,

    /// How often they are fetched, in milliseconds.
    /// Range: 1000 to 86400000 (1 day).
    #[config(env = "SWITCHBOARD_AUTH_JWKS_REFRESH_MS", default = 300000, deserialize_with = integer::<_, _, 1000, 86_400_000>)]
    pub jwks_refresh_ms: u64,

    /// The only `iss` that a token may have; left out, it may have any or none.
    #[config(env = "SWITCHBOARD_AUTH_ISSUER", deserialize_with = text)]
    pub issuer: Option<String>,

    /// What has to be in the `aud` of a token; left out, that may be anything or nothing. Set it where the same keys sign tokens for other services.
    #[config(env = "SWITCHBOARD_AUTH_AUDIENCE", deserialize_with = text)]
    pub audience: Option<String>,

    /// How far the clocks of this server and of who makes tokens may be apart, in milliseconds: that long before `nbf` and after `exp` a token is taken.
    /// Range: 0 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_AUTH_LEEWAY_MS", default = 30000, deserialize_with = integer::<_, _, 0, 60_000>)]
    pub leeway_ms: u64,

    /// Where the application is asked who may come in, and which rooms they may enter, by a POST of JSON: `https:`, or `http:` on this machine. Beside keys
    /// it is asked about clients whose token is good. README.md says what is asked and answered.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_URL", deserialize_with = https_url)]
    #[serde(serialize_with = "value::as_text")]
    pub callback_url: Option<Url>,

    /// A file with the secret by which the application knows who asks: it is sent as a bearer token. Read once, at the start.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_SECRET_FILE", deserialize_with = path)]
    pub callback_secret_file: Option<PathBuf>,

    /// How long the application may take to answer, in milliseconds, from when it is to be asked; who takes longer has said no.
    /// Range: 10 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_TIMEOUT_MS", default = 3000, deserialize_with = integer::<_, _, 10, 60_000>)]
    pub callback_timeout_ms: u64,

    /// How long an answer is kept, in milliseconds, for who asks the same as the same: with the same token, or as the same user; without either,
    /// as the same peer. 0 asks each time.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_CACHE_MS", default = 10000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub callback_cache_ms: u64,

    /// Questions to the application that may be under way at once. One more waits for its turn, no longer than an answer may take.
    /// Range: 1 to 4096.
    #[config(env = "SWITCHBOARD_AUTH_CALLBACK_CONCURRENT_MAX", default = 64, deserialize_with = integer::<_, _, 1, 4096>)]
    pub callback_concurrent_max: usize,
}

/// The STUN and TURN servers that clients are told of: in `welcome`, and by HTTP at /ice.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Ice {
    /// Servers that are always the same, each a URL or, with a user name and a password that all clients get, a table:
    /// `["stun:stun.example.org", {urls = ["turn:turn.example.org"], username = "us", credential = "our password"}]`. In the environment they are URLs,
    /// separated by commas.
    #[config(env = "SWITCHBOARD_ICE_SERVERS", default = [], deserialize_with = ice_servers)]
    pub servers: Vec<IceServer>,

    /// TURN servers that take credentials which this server makes for each client (`use-auth-secret` of coturn): `turn:HOST[:PORT]` or `turns:HOST[:PORT]`, perhaps
    /// with `?transport=udp` or `?transport=tcp`. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_ICE_TURN_URLS", default = [], deserialize_with = turn_urls)]
    pub turn_urls: Vec<IceUrl>,

    /// Files with a secret each that those servers know (`static-auth-secret`), one line. The first signs; beside it may stand what the servers took before, or
    /// will take next, which has to be good as well. A file that changes is read again. README.md says how a secret is changed. In the environment they are
    /// separated by commas.
    #[config(env = "SWITCHBOARD_ICE_TURN_SECRET_FILES", default = [], deserialize_with = paths)]
    pub turn_secret_files: Vec<PathBuf>,

    /// How long a credential is good, in milliseconds. A client that stays is told of a new one when half of it is over.
    /// Range: 10000 to 604800000 (7 days).
    #[config(env = "SWITCHBOARD_ICE_TURN_TTL_MS", default = 86400000, deserialize_with = integer::<_, _, 10_000, 604_800_000>)]
    pub turn_ttl_ms: u64,

    /// Rooms whose peers are told to show nobody their addresses, and to connect through TURN servers alone (`iceTransportPolicy: "relay"`): names, a `*` at the end
    /// of one stands for whatever follows. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_ICE_RELAY_ONLY_ROOMS", default = [], deserialize_with = texts)]
    pub relay_only_rooms: Vec<String>,

    /// Credentials of the embedded TURN server that clients of one address may have at once from /ice, an hour each. One more is refused with status 429.
    /// An address is one of IPv4, or the first 64 bits of one of IPv6. For all together it is limits.clients_max.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_ICE_ADDRESS_CREDENTIALS_MAX", default = 100, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub address_credentials_max: usize,
}

/// The embedded STUN and TURN server, off by default. It relays for sessions that are alive, to the public internet alone.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Turn {
    /// Whether it runs: `true` or `false`. Flag: --turn.
    #[config(env = "SWITCHBOARD_TURN_ENABLED", default = false)]
    pub enabled: bool,

    /// Where it listens, as HOST:PORT like the setting listen, on UDP and on TCP; left out, the host of listen with port 3478. Flag: --turn-listen.
    #[config(env = "SWITCHBOARD_TURN_LISTEN")]
    pub listen: Option<Listen>,

    /// Where it listens for TLS over TCP, with the certificate of tls_cert, which it needs; left out, where there is one, the host of listen with port
    /// 5349. A network that lets nothing out but HTTPS lets port 443 out.
    #[config(env = "SWITCHBOARD_TURN_TLS_LISTEN")]
    pub tls_listen: Option<Listen>,

    /// By which addresses others know this machine, one of each family at most, where those are not its own: behind the NAT of a cloud, for instance. In
    /// the environment they are separated by commas. Flag: --turn-external-ip.
    #[config(env = "SWITCHBOARD_TURN_EXTERNAL_IP", default = [], deserialize_with = external_addresses)]
    pub external_ip: Vec<IpAddr>,

    /// The UDP ports that packets are relayed by, as FIRST-LAST. Which one an allocation gets nobody can foretell.
    #[config(env = "SWITCHBOARD_TURN_PORTS", default = "49152-65535")]
    pub ports: Ports,

    /// Peers beside those of the public internet, as CIDR blocks or addresses. By default none is in loopback, link-local, private, carrier-grade, multicast,
    /// broadcast, unspecified, documentation, benchmarking and reserved addresses, nor is this machine itself but for what it relays, nor a cloud's
    /// metadata service. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_TURN_ALLOW", default = [], deserialize_with = blocks)]
    pub allow: Vec<IpNet>,

    /// What is no peer, as CIDR blocks or addresses, whatever allow says. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_TURN_DENY", default = [], deserialize_with = blocks)]
    pub deny: Vec<IpNet>,

    /// Allocations of one session. One more is refused with 486.
    /// Range: 1 to 1000.
    #[config(env = "SWITCHBOARD_TURN_ALLOCATIONS_PER_SESSION_MAX", default = 12, deserialize_with = integer::<_, _, 1, 1000>)]
    pub allocations_per_session_max: usize,

    /// Allocations on this server, each of which is a port and an open file. One more is refused with 508.
    /// Range: 1 to 64000.
    #[config(env = "SWITCHBOARD_TURN_ALLOCATIONS_MAX", default = 4000, deserialize_with = integer::<_, _, 1, 64_000>)]
    pub allocations_max: usize,

    /// Bytes that one allocation relays in a second, both ways together; as many at once. More are lost.
    /// Range: 1000 to 10000000000 (10 GB).
    #[config(env = "SWITCHBOARD_TURN_ALLOCATION_BYTES_PER_SECOND", default = 2000000, deserialize_with = integer::<_, _, 1000, 10_000_000_000>)]
    pub allocation_bytes_per_second: u64,

    /// Bytes that all allocations relay in a second, both ways together; as many at once. More are lost.
    /// Range: 1000 to 100000000000 (100 GB).
    #[config(env = "SWITCHBOARD_TURN_BYTES_PER_SECOND", default = 100000000, deserialize_with = integer::<_, _, 1000, 100_000_000_000>)]
    pub bytes_per_second: u64,

    /// How long allocations and credentials outlive their session, in milliseconds: a client that comes back may still restart ICE.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TURN_GRACE_MS", default = 30000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub grace_ms: u64,
}

/// How much of everything there may be at most.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Limits {
    /// Clients on this server, over all doors. One more is closed as `server-full`.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_CLIENTS_MAX", default = 20000, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub clients_max: usize,

    /// Bytes that all sessions take together that wait for their clients to come back, 8 KiB for each and what is kept for them. Past it,
    /// the sessions end that take most.
    /// Range: 0 to 17179869184 (16 GiB).
    #[config(env = "SWITCHBOARD_LIMITS_DETACHED_BYTES_MAX", default = 134217728, deserialize_with = integer::<_, _, 0, 17_179_869_184>)]
    pub detached_bytes_max: usize,

    /// Handshakes under way at once at each listening address, of TLS and of QUIC each: for one more the oldest is cut. From half of it on
    /// newcomers have to prove their address first (QUIC: retry).
    /// Range: 2 to 100000.
    #[config(env = "SWITCHBOARD_LIMITS_HANDSHAKES_MAX", default = 1000, deserialize_with = integer::<_, _, 2, 100_000>)]
    pub handshakes_max: usize,

    /// Rooms on this server. One more is refused as `no-more-rooms`.
    /// Range: 1 to 10000000.
    #[config(env = "SWITCHBOARD_LIMITS_ROOMS_MAX", default = 100000, deserialize_with = integer::<_, _, 1, 10_000_000>)]
    pub rooms_max: usize,

    /// Peers in one room. One more is refused as `room-full`. Where nobody is told of the others, among the clients of PeerJS and of trackers, only
    /// clients_max counts.
    /// Range: 2 to 100000.
    #[config(env = "SWITCHBOARD_LIMITS_PEERS_PER_ROOM_MAX", default = 1000, deserialize_with = integer::<_, _, 2, 100_000>)]
    pub peers_per_room_max: usize,

    /// Rooms that one client may be in. One more is refused as `too-many-rooms`.
    /// Range: 1 to 1000.
    #[config(env = "SWITCHBOARD_LIMITS_ROOMS_PER_CLIENT_MAX", default = 32, deserialize_with = integer::<_, _, 1, 1000>)]
    pub rooms_per_client_max: usize,

    /// Bytes of one message from a client. A longer one closes its connection as `too-large`.
    /// Range: 1024 to 16777216 (16 MiB).
    #[config(env = "SWITCHBOARD_LIMITS_MESSAGE_BYTES_MAX", default = 65536, deserialize_with = integer::<_, _, 1024, 16_777_216>)]
    pub message_bytes_max: usize,

    /// Bytes of what a peer tells the others about itself in one room. More is refused as `metadata-too-large`.
    /// Range: 1 to 1048576 (1 MiB).
    #[config(env = "SWITCHBOARD_LIMITS_METADATA_BYTES_MAX", default = 4096, deserialize_with = integer::<_, _, 1, 1_048_576>)]
    pub metadata_bytes_max: usize,

    /// Bytes of the metadata of all peers of one room together. More is refused as `room-full`.
    /// Range: 1 to 67108864 (64 MiB).
    #[config(env = "SWITCHBOARD_LIMITS_ROOM_METADATA_BYTES_MAX", default = 524288, deserialize_with = integer::<_, _, 1, 67_108_864>)]
    pub room_metadata_bytes_max: usize,

    /// Bytes of a room's name, and of what a foreign client calls itself in a room. A longer one is refused as `bad-room-name`.
    /// Range: 1 to 1024.
    #[config(env = "SWITCHBOARD_LIMITS_ROOM_NAME_BYTES_MAX", default = 128, deserialize_with = integer::<_, _, 1, 1024>)]
    pub room_name_bytes_max: usize,

    /// How deep arrays and maps may nest in a payload or in metadata. Deeper is refused as `too-deep`.
    /// Range: 1 to 100.
    #[config(env = "SWITCHBOARD_LIMITS_NESTING_MAX", default = 64, deserialize_with = integer::<_, _, 1, 100>)]
    pub nesting_max: usize,

    /// Bytes that may wait for one client. Past it the client is closed as `slow-consumer`. It takes two of the longest messages
    /// (2 * message_bytes_max) and the list of a full room (room_metadata_bytes_max + 96 * peers_per_room_max).
    /// Range: 2048 to 134217728 (128 MiB).
    #[config(env = "SWITCHBOARD_LIMITS_OUTBOX_BYTES_MAX", default = 1048576, deserialize_with = integer::<_, _, 2048, 134_217_728>)]
    pub outbox_bytes_max: usize,

    /// Bytes of messages that are kept for one client until it says that it has received them. Past it the oldest are forgotten, and a
    /// client that had not received those cannot resume. Where it is smaller than outbox_bytes_max, nor can some that were slow.
    /// Range: 0 to 134217728 (128 MiB).
    #[config(env = "SWITCHBOARD_LIMITS_REPLAY_BYTES_MAX", default = 1048576, deserialize_with = integer::<_, _, 0, 134_217_728>)]
    pub replay_bytes_max: usize,

    /// Messages that are kept for one client until it says that it has received them. The default is as many as can be in replay_bytes_max, at
    /// 128 bytes beside each.
    /// Range: 0 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_REPLAY_MESSAGES_MAX", default = 8192, deserialize_with = integer::<_, _, 0, 1_000_000>)]
    pub replay_messages_max: usize,

    /// Messages from one client in a second; twice as many at once. More are refused as `rate-limited`, and a client that has as many
    /// refused as it may send at once, and goes on by more than a tenth of what it may send, is closed as `rate-limited`.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_MESSAGES_PER_SECOND", default = 200, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub messages_per_second: u32,

    /// Bytes of messages from one client in a second; twice as many at once, which is at least message_bytes_max. More are refused as
    /// `rate-limited`.
    /// Range: 512 to 1073741824 (1 GiB).
    #[config(env = "SWITCHBOARD_LIMITS_BYTES_PER_SECOND", default = 1048576, deserialize_with = integer::<_, _, 512, 1_073_741_824>)]
    pub bytes_per_second: u32,

    /// Rooms that one client may join in a second; twice as many at once. More are refused as `rate-limited`.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_JOINS_PER_SECOND", default = 20, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub joins_per_second: u32,

    /// Rooms that all clients of one address may join in a second; twice as many at once. More are refused as `rate-limited`. An
    /// address is one of IPv4, or the first 64 bits of one of IPv6.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_ADDRESS_JOINS_PER_SECOND", default = 1000, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub address_joins_per_second: u32,

    /// Connections from one address, over all doors, and sessions that wait for theirs. One more is closed as `too-many-connections`.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_ADDRESS_CONNECTIONS_MAX", default = 5000, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub address_connections_max: usize,

    /// Wrong credentials from one address that have no consequence: tokens, and those of administrators. One is forgotten each minute; each one beyond
    /// doubles what all of the address wait before their next is looked at, from 100 ms to timeouts.failure_delay_ms. Of wrong resume tokens there may be as
    /// many as address_connections_max: after a restart every client has one. So there may of wrong tokens from a proxy in trusted_proxies that names no client.
    /// Range: 1 to 1000000.
    #[config(env = "SWITCHBOARD_LIMITS_ADDRESS_FAILURES_MAX", default = 10, deserialize_with = integer::<_, _, 1, 1_000_000>)]
    pub address_failures_max: u32,
}

/// How long things may take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Timeouts {
    /// From a client's connection to its first message; then `hello-timeout`.
    /// Range: 10 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_HELLO_MS", default = 10000, deserialize_with = integer::<_, _, 10, 600_000>)]
    pub hello_ms: u64,

    /// From a WebTransport session to its first stream; then `stream-timeout`.
    /// Range: 10 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_STREAM_MS", default = 10000, deserialize_with = integer::<_, _, 10, 600_000>)]
    pub stream_ms: u64,

    /// Silence of a client before it is probed.
    /// Range: 10 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS", default = 10000, deserialize_with = integer::<_, _, 10, 3_600_000>)]
    pub heartbeat_ms: u64,

    /// Silence after which a client is gone, and closed as `timeout`. Greater than heartbeat_ms.
    /// Range: 20 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SILENCE_MS", default = 25000, deserialize_with = integer::<_, _, 20, 3_600_000>)]
    pub silence_ms: u64,

    /// How long a session outlives the last sign of life of its client, who may come back in that time and resume it; then others see it
    /// leave with reason `timeout`. 0 ends a session with its connection.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_RESUME_WINDOW_MS", default = 30000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub resume_window_ms: u64,

    /// How long a sender is not heard, once, while a peer that it sends to has more than half of `limits.outbox_bytes_max` to read: a burst slows
    /// down for who reads, and who does not read holds up nobody for longer. 0 does not wait.
    /// Range: 0 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SLOW_PEER_MS", default = 1000, deserialize_with = integer::<_, _, 0, 60_000>)]
    pub slow_peer_ms: u64,

    /// How long a closing connection may take to read its `goodbye`.
    /// Range: 10 to 60000 (1 minute).
    #[config(env = "SWITCHBOARD_TIMEOUTS_CLOSE_MS", default = 2000, deserialize_with = integer::<_, _, 10, 60_000>)]
    pub close_ms: u64,

    /// The time over which a shutdown spreads its goodbyes, so that clients do not all come back at once. 0 says all of them at once. It ends
    /// `close_ms` before `shutdown_grace_ms` does, so that the last one has time to read.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_DRAIN_MS", default = 3000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub drain_ms: u64,

    /// How long a shutdown waits for connections to close. 0 does not wait.
    /// Range: 0 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_SHUTDOWN_GRACE_MS", default = 10000, deserialize_with = integer::<_, _, 0, 3_600_000>)]
    pub shutdown_grace_ms: u64,

    /// The longest that clients of an address wait where wrong credentials came from, see limits.address_failures_max. Clients give up after ten seconds, so
    /// with more than nine a genuine one may not come in. 0 does not wait.
    /// Range: 0 to 600000 (10 minutes).
    #[config(env = "SWITCHBOARD_TIMEOUTS_FAILURE_DELAY_MS", default = 5000, deserialize_with = integer::<_, _, 0, 600_000>)]
    pub failure_delay_ms: u64,

    /// How often the files of the certificate and of keys for tokens are looked at, to take new ones, or to make a certificate in time.
    /// Range: 10 to 3600000 (1 hour).
    #[config(env = "SWITCHBOARD_TIMEOUTS_CERTIFICATE_CHECK_MS", default = 5000, deserialize_with = integer::<_, _, 10, 3_600_000>)]
    pub certificate_check_ms: u64,
}

/// The administration, where admin_listen is set.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct Admin {
    /// The file with the token that is wanted there, as `Authorization: Bearer TOKEN`. If there is none, it is made, readable for its owner alone.
    #[config(env = "SWITCHBOARD_ADMIN_TOKEN_FILE", default = "certs/admin-token", deserialize_with = path)]
    pub token_file: PathBuf,
}

/// The dialect `peerjs`: what the library is told as `path` and `key`, and what its clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq, confique::Config, Serialize)]
pub struct PeerJs {
    /// Where it is: the WebSocket at PATHpeerjs, ids at PATHKEY/id. It begins and ends with a slash.
    #[config(env = "SWITCHBOARD_PEERJS_PATH", default = "/", deserialize_with = url_path)]
    pub path: String,

    /// The only key that is taken: letters, digits, `-`, `.`, `_` and `~`. It counts as the name of a room.
    #[config(env = "SWITCHBOARD_PEERJS_KEY", default = "peerjs", deserialize_with = url_segment)]
    pub key: String,

    /// Whether everybody may ask for the ids of all who are there, at PATHKEY/peers (`allow_discovery` of the original): `true` or `false`.
    #[config(env = "SWITCHBOARD_PEERJS_DISCOVERY", default = false)]
    pub discovery: bool,
}

/// A dialect of clients that were written for other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignDialect {
    /// The rooms of the WebSocket tutorials.
    Classic,
    /// The tutorials' other way: each message goes to everybody.
    Lobby,
    /// The `peerjs` library.
    PeerJs,
    /// Socket.IO 4, over Engine.IO 4.
    SocketIo,
    /// WebTorrent's trackers.
    Tracker,
    /// The signaling of `y-webrtc`.
    YWebrtc,
    /// The signaling of `matchbox`.
    Matchbox,
}

impl ForeignDialect {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Classic, Self::Lobby, Self::PeerJs, Self::SocketIo, Self::Tracker, Self::YWebrtc, Self::Matchbox];

    /// The name in the settings and in the discovery document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Lobby => "lobby",
            Self::PeerJs => "peerjs",
            Self::SocketIo => "socket.io",
            Self::Tracker => "tracker",
            Self::YWebrtc => "y-webrtc",
            Self::Matchbox => "matchbox",
        }
    }
}

impl Serialize for ForeignDialect {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Whether rates are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rates {
    /// For everybody.
    On,
    /// Not at all: a client may send as fast as it is heard.
    Off,
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [("on", Self::On), ("off", Self::Off)])
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer, [("text", Self::Text), ("json", Self::Json)])
    }
}

/// Bytes that one peer takes in the list of a room, beside its metadata: its id and the keys around it, in either codec.
const PEER_ENTRY_BYTES: usize = 96;

impl Config {
    /// The whole default file as TOML: every setting with its manual text, range, default and environment variable.
    pub fn manual() -> String {
        confique::toml::template::<Self>(confique::toml::FormatOptions::default())
    }

    /// How many threads serve clients: the setting, or the number of cores.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get).min(512))
    }

    /// Where the embedded TURN server listens in the clear, if it does.
    pub fn turn_listen(&self) -> Option<Listen> {
        self.turn.enabled.then(|| self.turn.listen.unwrap_or(self.listen.with_port(3478)))
    }

    /// Where it listens for TLS, if it does.
    pub fn turn_tls_listen(&self) -> Option<Listen> {
        let listens = self.turn.enabled && self.tls_cert.is_some();
        listens.then(|| self.turn.tls_listen.unwrap_or(self.listen.with_port(5349)))
    }

    /// Refuses settings that contradict each other. Whoever starts a server from a `Config` that was filled by a program calls
    /// this first; [`Sources::finish`] has done it. Ranges are checked only where text is read.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let faults: Vec<Fault> = self.conflicts().into_iter().map(Fault::from).collect();
        if faults.is_empty() { Ok(()) } else { Err(InvalidConfig { faults }) }
    }

    fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut add = |settings: &'static [&'static str], problem| conflicts.push(Conflict { settings, problem });

        let both = "the two go together";
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), None) => add(&["tls_cert", "tls_key"], format!("is {cert:?}, and tls_key is not set; {both}")),
            (None, Some(key)) => add(&["tls_key", "tls_cert"], format!("is {key:?}, and tls_cert is not set; {both}")),
            (Some(_), Some(_)) | (None, None) => {}
        }

        if let Some(admin_listen) = self.admin_listen.filter(|admin_listen| admin_listen.overlaps(&self.listen)) {
            let problem =
                format!("is {admin_listen}, and listen is {}: clients are taken there already; give it another port", self.listen);
            add(&["admin_listen", "listen"], problem);
        }

        // Whoever sets one of these believes that the server asks for tokens.
        if !self.auth.asks_for_tokens() {
            let why = "no token is asked for without auth.keys or auth.jwks_url";
            if let Some(issuer) = &self.auth.issuer {
                add(&["auth.issuer", "auth.keys", "auth.jwks_url"], format!("is {issuer:?}, but {why}"));
            }
            if let Some(audience) = &self.auth.audience {
                add(&["auth.audience", "auth.keys", "auth.jwks_url"], format!("is {audience:?}, but {why}"));
            }
        }

        if let (Some(file), None) = (&self.auth.callback_secret_file, &self.auth.callback_url) {
            let problem = format!("is {file:?}, but nobody is asked without callback_url");
            add(&["auth.callback_secret_file", "auth.callback_url"], problem);
        }

        if let (Some(listen), None) = (self.turn.tls_listen, &self.tls_cert) {
            let problem = format!("tls_listen is {listen}, but there is no TLS without tls_cert");
            add(&["turn.tls_listen", "tls_cert"], problem);
        }

        let together = "turn_urls and turn_secret_files go together";
        match (&self.ice.turn_urls[..], &self.ice.turn_secret_files[..]) {
            ([url, ..], []) => {
                add(
                    &["ice.turn_urls", "ice.turn_secret_files"],
                    format!("turn_urls names \"{url}\" and turn_secret_files is empty; {together}"),
                );
            }
            ([], [file, ..]) => {
                add(
                    &["ice.turn_secret_files", "ice.turn_urls"],
                    format!("turn_secret_files names {file:?} and turn_urls is empty; {together}"),
                );
            }
            _ => {}
        }

        let Timeouts { heartbeat_ms, silence_ms, .. } = self.timeouts;
        if silence_ms <= heartbeat_ms {
            add(
                &["timeouts.silence_ms", "timeouts.heartbeat_ms"],
                format!("is {silence_ms}, but must be greater than heartbeat_ms, which is {heartbeat_ms}"),
            );
        }

        let Limits { outbox_bytes_max: outbox, message_bytes_max: message, .. } = self.limits;
        if outbox < message.saturating_mul(2) {
            add(
                &["limits.outbox_bytes_max", "limits.message_bytes_max"],
                format!("is {outbox}, but must be at least twice message_bytes_max, which is {message}"),
            );
        }

        let Limits { room_metadata_bytes_max: metadata, peers_per_room_max: peers, .. } = self.limits;
        let list = peers.saturating_mul(PEER_ENTRY_BYTES).saturating_add(metadata);
        if outbox < list {
            add(
                &["limits.outbox_bytes_max", "limits.room_metadata_bytes_max", "limits.peers_per_room_max"],
                format!(
                    "is {outbox}, but must be at least {list}, the list of a full room: room_metadata_bytes_max, \
                     which is {metadata}, and {PEER_ENTRY_BYTES} for each of peers_per_room_max, which is {peers}"
                ),
            );
        }

        let Limits { bytes_per_second, .. } = self.limits;
        if self.rates == Rates::On && (message as u64) > 2 * u64::from(bytes_per_second) {
            add(
                &["limits.bytes_per_second", "limits.message_bytes_max"],
                format!("is {bytes_per_second}, but must be at least half of message_bytes_max, which is {message}"),
            );
        }
        conflicts
    }
}

impl Auth {
    /// Is there a key that tokens are checked with?
    pub fn asks_for_tokens(&self) -> bool {
        !self.keys.is_empty() || self.jwks_url.is_some()
    }

    /// Who may come in by these settings, as a sentence without its full stop.
    pub fn admits(&self) -> String {
        let keys = (!self.keys.is_empty()).then_some("auth.keys");
        let published = self.jwks_url.is_some().then_some("auth.jwks_url");
        let named: Vec<&str> = keys.into_iter().chain(published).collect();
        match (&named[..], &self.callback_url) {
            ([], None) => "Anybody may come in".to_owned(),
            ([], Some(_)) => "The application decides who may come in (auth.callback_url)".to_owned(),
            (named, None) => format!("Clients need a token ({})", named.join(", ")),
            (named, Some(_)) => format!("Clients need a token ({}), and the application decides (auth.callback_url)", named.join(", ")),
        }
    }

    /// How often published keys are fetched.
    pub fn jwks_refresh(&self) -> Duration {
        Duration::from_millis(self.jwks_refresh_ms)
    }

    /// How long the application may take to answer.
    pub fn callback_timeout(&self) -> Duration {
        Duration::from_millis(self.callback_timeout_ms)
    }

    /// How long its answers are kept.
    pub fn callback_cache(&self) -> Duration {
        Duration::from_millis(self.callback_cache_ms)
    }

    /// How far clocks may be apart.
    pub fn leeway(&self) -> Duration {
        Duration::from_millis(self.leeway_ms)
    }
}

impl Ice {
    /// How long a credential is good.
    pub fn turn_ttl(&self) -> Duration {
        Duration::from_millis(self.turn_ttl_ms)
    }
}

impl Turn {
    /// How long credentials outlive their session.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl Timeouts {
    /// From a client's connection to its first message.
    pub fn hello(&self) -> Duration {
        Duration::from_millis(self.hello_ms)
    }

    /// From a WebTransport session to its first stream.
    pub fn stream(&self) -> Duration {
        Duration::from_millis(self.stream_ms)
    }

    /// Silence of a client before it is probed.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Silence after which a client is gone.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    /// How long a session outlives its client's last sign of life.
    pub fn resume_window(&self) -> Duration {
        Duration::from_millis(self.resume_window_ms)
    }

    /// How long who sends to a peer waits for it when it has much to read.
    pub fn slow_peer(&self) -> Duration {
        Duration::from_millis(self.slow_peer_ms)
    }

    /// How long a closing connection may take to read its goodbye.
    pub fn close(&self) -> Duration {
        Duration::from_millis(self.close_ms)
    }

    /// The time over which a shutdown spreads its goodbyes: so long that the last to be told can still read it.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.min(self.shutdown_grace_ms.saturating_sub(self.close_ms)))
    }

    /// How long a shutdown waits for connections to close.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    /// The longest wait before a credential is looked at.
    pub fn failure_delay(&self) -> Duration {
        Duration::from_millis(self.failure_delay_ms)
    }

    /// How often the files of the certificate and of keys are looked at.
    pub fn certificate_check(&self) -> Duration {
        Duration::from_millis(self.certificate_check_ms)
    }
}

/// Makes the defaults that stand beside the fields those of [`Default`] too.
macro_rules! default_from_fields {
    ($($section:ty),+) => {$(
        impl Default for $section {
            fn default() -> Self {
                Self::from_layer(confique::Layer::default_values()).expect("every setting has a default or is optional")
            }
        }
    )+};
}

default_from_fields!(Config, Admin, Auth, Ice, PeerJs, Turn, Limits, Timeouts);

#[cfg(test)]
mod tests {
    use super::*;

    /// The default file with the `#` in front of every setting taken away.
    fn manual_switched_on() -> String {
        let switched_on = |line: &str| match line.strip_prefix('#') {
            Some(setting) if setting.ends_with(" =") => format!("#{setting}"),
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        };
        Config::manual().lines().map(switched_on).collect::<Vec<_>>().join("\n")
    }

    fn conflict(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config.check().err().map(|error| error.to_string())
    }

    #[test]
    fn the_manual_parses_back_to_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("switchboard.toml");
        let settings = manual_switched_on();
        // All but tls_cert, tls_key, workers, admin_listen, turn's listen and tls_listen, and auth's jwks_url, issuer, audience, callback_url and callback_secret_file
        // have a default.
        assert_eq!(settings.lines().filter(|line| line.starts_with(|char: char| char.is_alphabetic())).count(), 66);
        for text in [Config::manual(), settings] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Sources::new().file(&path).finish(), Ok(Config::default()));
        }
    }

    #[test]
    fn a_section_has_the_defaults_that_the_whole_has() {
        let config = Config::default();
        assert_eq!(config.admin, Admin::default());
        assert_eq!(config.peerjs, PeerJs::default());
        assert_eq!(config.auth, Auth::default());
        assert_eq!(config.ice, Ice::default());
        assert_eq!(config.turn, Turn::default());
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.timeouts, Timeouts::default());
        assert_eq!(Sources::new().finish(), Ok(config));
    }

    #[test]
    fn workers_are_as_many_as_cores_unless_told_otherwise() {
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(Config::default().workers(), cores);
        assert_eq!(Config { workers: Some(3), ..Config::default() }.workers(), 3);
    }

    #[test]
    fn timeouts_are_handed_out_as_durations() {
        let timeouts = Timeouts {
            hello_ms: 1,
            stream_ms: 2,
            heartbeat_ms: 3,
            silence_ms: 4,
            resume_window_ms: 5,
            slow_peer_ms: 17,
            close_ms: 6,
            drain_ms: 7,
            shutdown_grace_ms: 15,
            failure_delay_ms: 18,
            certificate_check_ms: 16,
        };
        let all = [
            timeouts.hello(),
            timeouts.stream(),
            timeouts.heartbeat(),
            timeouts.silence(),
            timeouts.resume_window(),
            timeouts.close(),
            timeouts.drain(),
            timeouts.shutdown_grace(),
            timeouts.certificate_check(),
            timeouts.slow_peer(),
            timeouts.failure_delay(),
        ];
        assert_eq!(all.map(|duration| duration.as_millis()), [1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]);
        let late = Timeouts { drain_ms: 10, ..timeouts };
        assert_eq!(late.drain().as_millis(), 9, "whoever is told last has its time to read it");
    }

    #[test]
    fn a_certificate_needs_its_key_and_a_key_its_certificate() {
        assert_eq!(
            conflict(|config| config.tls_cert = Some("chain.pem".into())).unwrap(),
            "tls_cert: is \"chain.pem\", and tls_key is not set; the two go together"
        );
        assert_eq!(
            conflict(|config| config.tls_key = Some("key.pem".into())).unwrap(),
            "tls_key: is \"key.pem\", and tls_cert is not set; the two go together"
        );
        let both = |config: &mut Config| (config.tls_cert, config.tls_key) = (Some("chain.pem".into()), Some("key.pem".into()));
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn the_administration_never_has_the_port_of_clients() {
        let listens = |listen: &str, admin: &str| {
            conflict(|config| {
                config.listen = listen.parse().unwrap();
                config.admin_listen = Some(admin.parse().unwrap());
            })
        };
        assert_eq!(
            listens("localhost:8080", ":8080").unwrap(),
            "admin_listen: is :8080, and listen is localhost:8080: clients are taken there already; give it another port"
        );
        for (listen, admin) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("localhost:1", "[::1]:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::1]:1", "[::]:1"),
            (":1", "192.0.2.1:1"),
        ] {
            assert!(listens(listen, admin).is_some() && listens(admin, listen).is_some(), "{listen} {admin}");
        }
        for (listen, admin) in [
            ("localhost:1", "localhost:2"),
            (":0", ":0"),
            ("192.0.2.1:1", "localhost:1"),
            ("0.0.0.0:1", "[::]:1"),
            ("[::1]:1", "127.0.0.1:1"),
        ] {
            assert_eq!(listens(listen, admin), None, "{listen} {admin}");
        }
    }

    #[test]
    fn who_has_a_secret_for_the_application_says_where_that_is() {
        let secret = |config: &mut Config| config.auth.callback_secret_file = Some("secret".into());
        assert_eq!(conflict(secret).unwrap(), "auth.callback_secret_file: is \"secret\", but nobody is asked without callback_url");
        let both = |config: &mut Config| {
            secret(config);
            config.auth.callback_url = Some("https://app.example/may".parse().unwrap());
        };
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn turn_servers_need_their_secret_and_a_secret_its_servers() {
        let urls = |config: &mut Config| config.ice.turn_urls = vec!["turn:turn.example".parse().unwrap()];
        let secret = |config: &mut Config| config.ice.turn_secret_files = vec!["secret".into()];
        assert_eq!(
            conflict(urls).unwrap(),
            "ice.turn_urls: turn_urls names \"turn:turn.example\" and turn_secret_files is empty; turn_urls and turn_secret_files go together"
        );
        assert_eq!(
            conflict(secret).unwrap(),
            "ice.turn_secret_files: turn_secret_files names \"secret\" and turn_urls is empty; turn_urls and turn_secret_files go together"
        );
        let both = |config: &mut Config| {
            urls(config);
            secret(config);
        };
        assert_eq!(conflict(both), None);
    }

    #[test]
    fn who_expects_tokens_to_be_asked_for_names_a_key() {
        let issuer = |config: &mut Config| config.auth.issuer = Some("https://id.example".into());
        assert_eq!(
            conflict(issuer).unwrap(),
            "auth.issuer: is \"https://id.example\", but no token is asked for without auth.keys or auth.jwks_url"
        );
        let audience = |config: &mut Config| config.auth.audience = Some("switchboard".into());
        assert_eq!(
            conflict(audience).unwrap(),
            "auth.audience: is \"switchboard\", but no token is asked for without auth.keys or auth.jwks_url"
        );
        for keys in [
            |config: &mut Config| config.auth.keys = vec!["a.pem".into()],
            |config: &mut Config| {
                config.auth.jwks_url = Some("https://id.example/keys".parse().unwrap());
            },
        ] {
            let all = |config: &mut Config| {
                issuer(config);
                audience(config);
                keys(config);
            };
            assert_eq!(conflict(all), None);
        }
    }

    #[test]
    fn who_may_come_in_is_told_in_a_sentence() {
        let url = || Some("https://id.example/".parse().unwrap());
        let keys = || vec!["a.pem".into()];
        for (auth, said) in [
            (Auth::default(), "Anybody may come in"),
            (Auth { keys: keys(), ..Auth::default() }, "Clients need a token (auth.keys)"),
            (Auth { keys: keys(), jwks_url: url(), ..Auth::default() }, "Clients need a token (auth.keys, auth.jwks_url)"),
            (Auth { callback_url: url(), ..Auth::default() }, "The application decides who may come in (auth.callback_url)"),
            (
                Auth { jwks_url: url(), callback_url: url(), ..Auth::default() },
                "Clients need a token (auth.jwks_url), and the application decides (auth.callback_url)",
            ),
        ] {
            assert_eq!(auth.admits(), said);
        }
    }

    #[test]
    fn a_client_is_probed_before_it_is_given_up() {
        assert_eq!(conflict(|config| config.timeouts.silence_ms = 10_001), None);
        assert_eq!(
            conflict(|config| config.timeouts.silence_ms = 10_000).unwrap(),
            "timeouts.silence_ms: is 10000, but must be greater than heartbeat_ms, which is 10000"
        );
    }

    #[test]
    fn the_outbox_takes_two_of_the_longest_messages() {
        assert_eq!(conflict(|config| config.limits.message_bytes_max = 524_288), None);
        assert_eq!(
            conflict(|config| config.limits.message_bytes_max = 524_289).unwrap(),
            "limits.outbox_bytes_max: is 1048576, but must be at least twice message_bytes_max, which is 524289"
        );
        assert!(conflict(|config| config.limits.message_bytes_max = usize::MAX).is_some());
    }

    #[test]
    fn the_outbox_takes_the_list_of_a_full_room() {
        assert_eq!(conflict(|config| config.limits.outbox_bytes_max = 524_288 + 96_000), None);
        assert_eq!(
            conflict(|config| config.limits.outbox_bytes_max = 524_288 + 95_999).unwrap(),
            "limits.outbox_bytes_max: is 620287, but must be at least 620288, the list of a full room: \
             room_metadata_bytes_max, which is 524288, and 96 for each of peers_per_room_max, which is 1000"
        );
        assert!(conflict(|config| config.limits.peers_per_room_max = usize::MAX).is_some());
    }

    #[test]
    fn the_longest_message_passes_at_once() {
        assert_eq!(conflict(|config| config.limits.bytes_per_second = 32_768), None);
        let too_slow = |config: &mut Config| config.limits.bytes_per_second = 32_767;
        assert_eq!(
            conflict(too_slow).unwrap(),
            "limits.bytes_per_second: is 32767, but must be at least half of message_bytes_max, which is 65536"
        );
        let no_rates = |config: &mut Config| {
            too_slow(config);
            config.rates = Rates::Off;
        };
        assert_eq!(conflict(no_rates), None);
    }

    #[test]
    fn every_conflict_is_told() {
        let change = |config: &mut Config| {
            config.tls_key = Some("key.pem".into());
            config.timeouts.heartbeat_ms = 60_000;
            config.limits.outbox_bytes_max = 2048;
        };
        assert_eq!(conflict(change).unwrap().lines().count(), 4);
    }
}
