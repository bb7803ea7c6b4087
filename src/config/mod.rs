//! The settings: one struct per section, whose doc comments are the manual and whose defaults are the truth.
//!
//! A [`Config`] comes together in [`Sources`] from flags, environment and a file; a program that embeds the server may as well
//! start from [`Config::default`] and change fields. Each part of the server takes its own section and never sees the rest.
//! Nothing here opens a socket or knows what a setting is good for.

mod auth;
mod choices;
mod conflicts;
mod in_force;
mod listen;
mod ports;
mod sources;
mod timeouts;
mod value;

use std::{net::IpAddr, num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use confique::Config as _;
use ipnet::IpNet;
use serde::Serialize;

use self::value::{
    blocks, certificate_names, dialects, external_addresses, ice_servers, integer, log_filter, origins, path, paths, room_patterns,
    turn_urls, url_path, url_segment,
};
pub use self::{
    auth::Auth,
    choices::{ForeignDialect, LogFormat, Rates},
    in_force::InForce,
    listen::{Listen, ListenError},
    ports::{Ports, PortsError},
    sources::{Fault, InvalidConfig, Origin, SettingOrigins, Sources},
    timeouts::Timeouts,
    value::log_filter_fault,
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

    /// Files with a secret each that those servers know (`static-auth-secret`), one line. The first signs, and the next one when that is gone; at the start all
    /// have to be there and good. A file that changes is read again. README.md says how a secret is changed. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_ICE_TURN_SECRET_FILES", default = [], deserialize_with = paths)]
    pub turn_secret_files: Vec<PathBuf>,

    /// How long a credential is good, in milliseconds. A client that stays is told of a new one when half of it is over.
    /// Range: 10000 to 604800000 (7 days).
    #[config(env = "SWITCHBOARD_ICE_TURN_TTL_MS", default = 86400000, deserialize_with = integer::<_, _, 10_000, 604_800_000>)]
    pub turn_ttl_ms: u64,

    /// Rooms whose peers are told to show nobody their addresses, and to connect through TURN servers alone (`iceTransportPolicy: "relay"`): names, a `*` at the end
    /// of one stands for whatever follows. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_ICE_RELAY_ONLY_ROOMS", default = [], deserialize_with = room_patterns)]
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

    /// The UDP ports that packets are relayed by, as FIRST-LAST, at least as many as allocations_max says. Which one an allocation gets nobody can foretell.
    #[config(env = "SWITCHBOARD_TURN_PORTS", default = "49152-65535")]
    pub ports: Ports,

    /// Peers beside those of the public internet, as CIDR blocks or addresses. By default none is in loopback, link-local, private, carrier-grade, multicast,
    /// broadcast, unspecified, documentation, benchmarking and reserved addresses, nor is this machine itself but for what it relays, nor a cloud's
    /// metadata service. A block opens no address of this machine in it, loopback among them: such an address has to be named alone. In the environment they
    /// are separated by commas.
    #[config(env = "SWITCHBOARD_TURN_ALLOW", default = [], deserialize_with = blocks)]
    pub allow: Vec<IpNet>,

    /// What is no peer, as CIDR blocks or addresses, whatever allow says. In the environment they are separated by commas.
    #[config(env = "SWITCHBOARD_TURN_DENY", default = [], deserialize_with = blocks)]
    pub deny: Vec<IpNet>,

    /// Allocations of one session. One more is refused with 486.
    /// Range: 1 to 1000.
    #[config(env = "SWITCHBOARD_TURN_ALLOCATIONS_PER_SESSION_MAX", default = 12, deserialize_with = integer::<_, _, 1, 1000>)]
    pub allocations_per_session_max: usize,

    /// Allocations of the clients of one address, or of one /64 block of IPv6, whatever their sessions. One more is refused with 486.
    /// Range: 1 to 64000.
    #[config(env = "SWITCHBOARD_TURN_ALLOCATIONS_PER_ADDRESS_MAX", default = 400, deserialize_with = integer::<_, _, 1, 64_000>)]
    pub allocations_per_address_max: usize,

    /// Allocations on this server, each of which is a port and an open file. One more is refused with 508.
    /// Range: 1 to 64000.
    #[config(env = "SWITCHBOARD_TURN_ALLOCATIONS_MAX", default = 4000, deserialize_with = integer::<_, _, 1, 64_000>)]
    pub allocations_max: usize,

    /// Bytes that one allocation relays in a second, both ways together, with the headers of IP and UDP; as many at once. More are lost.
    /// Range: 1000 to 10000000000 (10 GB).
    #[config(env = "SWITCHBOARD_TURN_ALLOCATION_BYTES_PER_SECOND", default = 2000000, deserialize_with = integer::<_, _, 1000, 10_000_000_000>)]
    pub allocation_bytes_per_second: u64,

    /// Bytes that all allocations relay in a second, both ways together, with the headers of IP and UDP; as many at once. More are lost.
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

    #[test]
    fn the_manual_parses_back_to_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("switchboard.toml");
        let settings = manual_switched_on();
        // All but tls_cert, tls_key, workers, admin_listen, turn's listen and tls_listen, and auth's jwks_url, issuer, audience, callback_url and callback_secret_file
        // have a default.
        assert_eq!(settings.lines().filter(|line| line.starts_with(|char: char| char.is_alphabetic())).count(), 67);
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
}
