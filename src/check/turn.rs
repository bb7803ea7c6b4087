//! What a STUN or TURN server is there for, a packet through its relay and back among it, and what to do about one that does not do that.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustls::Error as TlsError;
use switchboard::{
    client::{
        Options,
        turn::{Heard, TurnClient, TurnError},
    },
    ice::{By, IceUrl, TurnCredential},
    turn::is_public,
};
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};
use turn_types::AddressFamily;

/// After so long without an answer a packet is sent again.
const AGAIN: Duration = Duration::from_millis(500);
/// After so long a packet that nobody answers for is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many addresses of one host are tried.
const ADDRESSES_MAX: usize = 4;

/// Where the server is that names others: to tell whether one of those is meant to be itself.
pub struct Whereabouts {
    /// The address that answers.
    pub answered_by: Option<IpAddr>,
    /// All addresses of its host.
    pub addresses: Vec<IpAddr>,
}

/// Why a server does not do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Turn(#[from] TurnError),
    #[error("nothing comes back within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("it does not relay to {0}, which is public")]
    Denied(IpAddr),
    #[error("it has a relay at {0}, but a packet sent there does not come through")]
    Unreachable(SocketAddr),
}

impl Fault {
    /// What to do about it.
    pub fn advice(&self, url: &IceUrl, by: By, whereabouts: &Whereabouts) -> String {
        let (host, port) = (url.host(), url.port());
        if let Some(advice) = host.parse().ok().filter(|_| self.is_silence()).and_then(|ip| whereabouts.misnamed(ip)) {
            return advice;
        }
        match self {
            Self::Turn(TurnError::Io(error)) => match (error.kind(), error.get_ref().and_then(|cause| cause.downcast_ref())) {
                (_, Some(TlsError::InvalidCertificate(_))) => {
                    format!("its certificate is not good for {host}: browsers refuse it as well")
                }
                (_, Some(TlsError::AlertReceived(_))) => {
                    format!("it ends the handshake itself: does it speak TLS 1.2 or 1.3, and does it have a certificate for {host}?")
                }
                (_, Some(TlsError::InvalidMessage(_))) => {
                    format!("what listens on port {port} speaks no TLS: is that the port for it (turn.tls_listen; coturn: tls-listening-port)?")
                }
                (_, Some(_)) => "it speaks TLS otherwise than clients do: does its log say why?".into(),
                (io::ErrorKind::ConnectionRefused, None) => {
                    format!("nobody listens at {host} on port {port}: does the server run, and is the port the right one?")
                }
                _ => format!("does {host} have an address, and is port {port} open?"),
            },
            Self::Turn(TurnError::Refused(401 | 431 | 441) | TurnError::Unsigned) => {
                "it does not take the credentials: do both know the same secret (ice.turn_secret_files; coturn: static-auth-secret), and are both clocks right?".into()
            }
            Self::Turn(TurnError::Refused(437)) => {
                "it takes this client for one that has come before: does something on the way give several clients the same address and port?".into()
            }
            Self::Turn(TurnError::Refused(440)) => "it has no relays of this family of addresses: let it listen on one, or name it by the other".into(),
            Self::Turn(TurnError::Refused(442)) => "it does not relay UDP, which is all that browsers want: allow it (coturn: no-udp-relay)".into(),
            Self::Turn(TurnError::Refused(443)) => {
                "its relay is of another family of addresses than this machine: let it have relays of both (coturn: relay-ip)".into()
            }
            Self::Turn(TurnError::Refused(486 | 508)) => "it has as many relays as it may: raise its bounds, or wait".into(),
            Self::Turn(TurnError::Refused(_)) => "the log of the TURN server says why; the embedded one tells it at --log debug".into(),
            Self::Turn(TurnError::NoStun) => "is it a STUN or TURN server that listens there?".into(),
            Self::Silent(_) => {
                let transport = if by == By::Udp { "UDP" } else { "TCP" };
                format!("open {transport} port {port} in every firewall on the way, and look whether the server runs")
            }
            Self::Denied(peer) => {
                format!("take {peer} from what it denies (turn.deny; coturn: denied-peer-ip), for calls to the public internet need it")
            }
            Self::Unreachable(relayed) => format!(
                "is {} the address by which the world knows it (turn.external_ip; coturn: external-ip), and are its UDP ports for relays open (turn.ports; coturn: min-port, max-port)?{}",
                relayed.ip(),
                whereabouts.misnamed(relayed.ip()).map(|_| whereabouts.told()).unwrap_or_default()
            ),
        }
    }

    /// Has nobody answered?
    fn is_silence(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Turn(TurnError::Io(error)) => error.get_ref().is_none_or(|cause| !cause.is::<TlsError>()),
            _ => false,
        }
    }
}

impl Whereabouts {
    /// What to do if clients are told of this address, and the server is known by others.
    fn misnamed(&self, ip: IpAddr) -> Option<String> {
        let answered_by = self.answered_by.filter(|_| !self.addresses.contains(&ip))?;
        // Who asks from inside knows less of what the world knows it by than the setting says.
        if (answered_by.is_loopback() && !ip.is_loopback()) || (is_public(ip) && !is_public(answered_by)) {
            return None;
        }
        let inner = if is_public(ip) { "" } else { ", which is of an inner network" };
        Some(format!(
            "clients are told of {ip}{inner}, and this server answered by {answered_by}: if the TURN server is the one inside, set turn.external_ip = [\"{answered_by}\"], or what else the world knows it by; if it is another, does it run?"
        ))
    }

    fn told(&self) -> String {
        self.answered_by.map(|ip| format!(" This server answered by {ip}.")).unwrap_or_default()
    }
}

/// Asks the first address of the server that answers for what it is there for.
pub async fn examine(options: &Options, url: &IceUrl, by: By, credential: Option<TurnCredential>) -> Result<String, Fault> {
    let found = in_time(options.timeout, async { lookup_host((url.host(), url.port())).await.map_err(TurnError::Io) }).await?;
    let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
    ask_any(options, &addresses, url, by, credential).await
}

async fn ask_any(
    options: &Options,
    addresses: &[SocketAddr],
    url: &IceUrl,
    by: By,
    credential: Option<TurnCredential>,
) -> Result<String, Fault> {
    let mut silent = None;
    for address in addresses {
        match ask(options, *address, url, by, credential.clone()).await {
            Err(fault) if fault.is_silence() => silent = silent.or(Some(fault)),
            outcome => return outcome,
        }
    }
    Err(silent.unwrap_or_else(|| TurnError::Io(io::ErrorKind::AddrNotAvailable.into()).into()))
}

async fn ask(options: &Options, server: SocketAddr, url: &IceUrl, by: By, credential: Option<TurnCredential>) -> Result<String, Fault> {
    let mut client = in_time(options.timeout, TurnClient::connect(server, by, url.host(), options)).await?;
    if !url.is_turn() {
        return Ok(format!("sees this machine as {}", in_time(options.timeout, client.mapped()).await?));
    }
    client.use_credential(credential.clone());
    let (relayed, inner) = match relay(&mut client, server, options.timeout).await? {
        Relayed::Outside(detail) => return Ok(detail),
        Relayed::Not(relayed, inner) => (relayed, inner),
    };
    let mut other = in_time(options.timeout, TurnClient::connect(server, by, url.host(), options)).await?;
    other.use_credential(credential);
    match between((&mut client, relayed), &mut other, options.timeout).await {
        // It relays to nothing that could be asked to answer.
        Err(Fault::Turn(TurnError::Refused(403 | 443))) => Ok(format!("relays at {relayed}; {inner}, so no packet was sent through")),
        outcome => outcome,
    }
}

/// How far a packet came.
enum Relayed {
    /// To a socket of this machine and back.
    Outside(String),
    /// Nowhere, for this reason, from this relay.
    Not(SocketAddr, String),
}

/// Sends a packet to a relay from outside, and one back through it.
async fn relay(client: &mut TurnClient, server: SocketAddr, limit: Duration) -> Result<Relayed, Fault> {
    let of_ipv6 = server.is_ipv6().then_some(AddressFamily::IPV6);
    let (relayed, mapped) = match in_time(limit, client.allocate(of_ipv6)).await {
        // As browsers do, which are content with IPv4.
        Err(Fault::Turn(TurnError::Refused(440))) if of_ipv6.is_some() => in_time(limit, client.allocate(None)).await?,
        allocated => allocated?,
    };
    if relayed.is_ipv4() != mapped.is_ipv4() {
        return Ok(Relayed::Not(relayed, format!("this machine is {} to it", mapped.ip())));
    }
    match in_time(limit, client.permit(mapped)).await {
        Ok(()) => {}
        // A server on an inner network, which relays to the public internet alone, and nowhere to itself.
        Err(Fault::Turn(TurnError::Refused(403))) if !is_public(mapped.ip()) || [relayed.ip(), server.ip()].contains(&mapped.ip()) => {
            return Ok(Relayed::Not(relayed, format!("it does not relay to {}, where this machine is", mapped.ip())));
        }
        Err(Fault::Turn(TurnError::Refused(403))) => return Err(Fault::Denied(mapped.ip())),
        Err(fault) => return Err(fault),
    }
    let any = SocketAddr::new(if relayed.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
    let outside = UdpSocket::bind(any).await.map_err(TurnError::Io)?;
    let from = arrives(relayed, client, async || outside.send_to(b"there", relayed).await.map(drop).map_err(TurnError::Io)).await?;
    let mut back = [0; 16];
    client.send_to(from, b"back").await?;
    let returned = timeout(PATIENCE, outside.recv(&mut back)).await;
    returned.map_err(|_| Fault::Unreachable(relayed))?.map_err(TurnError::Io)?;
    Ok(Relayed::Outside(format!("relays at {relayed}, there and back")))
}

/// Sends a packet from one relay to another, and one back.
async fn between((one, at_one): (&mut TurnClient, SocketAddr), other: &mut TurnClient, limit: Duration) -> Result<String, Fault> {
    let family = at_one.is_ipv6().then_some(AddressFamily::IPV6);
    let (at_other, _) = in_time(limit, other.allocate(family)).await?;
    in_time(limit, one.permit(at_other)).await?;
    in_time(limit, other.permit(at_one)).await?;
    arrives(at_other, other, async || one.send_to(at_other, b"there").await).await?;
    arrives(at_one, one, async || other.send_to(at_one, b"back").await).await?;
    Ok(format!("relays at {at_one}, and from there to another relay of its own and back"))
}

/// Sends something to this relay until its client hears of it, for UDP loses some. From whom it came.
async fn arrives(
    relayed: SocketAddr,
    client: &mut TurnClient,
    mut send: impl AsyncFnMut() -> Result<(), TurnError>,
) -> Result<SocketAddr, Fault> {
    let heard = async {
        loop {
            send().await?;
            if let Ok(heard) = timeout(AGAIN, client.hear()).await {
                return heard;
            }
        }
    };
    match timeout(PATIENCE, heard).await.map_err(|_| Fault::Unreachable(relayed))?? {
        Heard::Data(from, _) => Ok(from),
        Heard::Channel(..) => Err(TurnError::NoStun.into()),
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, TurnError>>) -> Result<T, Fault> {
    Ok(timeout(limit, work).await.map_err(|_| Fault::Silent(limit))??)
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, InvalidMessage};
    use stun_types::{
        attribute::XorMappedAddress,
        message::{Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn nowhere() -> Whereabouts {
        Whereabouts { answered_by: None, addresses: vec![] }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tls(error: TlsError) -> Fault {
        TurnError::Io(io::Error::new(io::ErrorKind::InvalidData, error)).into()
    }

    #[test]
    fn each_fault_has_advice_of_its_own() {
        let refused = |code| Fault::Turn(TurnError::Refused(code));
        for (fault, expected) in [
            (tls(TlsError::InvalidCertificate(CertificateError::Expired)), "its certificate is not good for turn.example"),
            (tls(TlsError::AlertReceived(AlertDescription::HandshakeFailure)), "it ends the handshake itself"),
            (tls(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)), "speaks no TLS"),
            (tls(TlsError::PeerMisbehaved(rustls::PeerMisbehaved::TooMuchEarlyDataReceived)), "otherwise than clients do"),
            (refused(437), "takes this client for one"),
            (refused(440), "no relays of this family"),
            (refused(442), "does not relay UDP"),
            (refused(443), "of another family"),
            (refused(400), "--log debug"),
            (Fault::Silent(PATIENCE), "open TCP port 5349"),
            (Fault::Denied(ip("8.8.8.8")), "turn.deny"),
        ] {
            let advice = fault.advice(&"turns:turn.example".parse().unwrap(), By::Tls, &nowhere());
            assert!(advice.contains(expected), "{fault}: {advice}");
        }
    }

    #[tokio::test]
    async fn who_speaks_no_tls_is_told_from_who_has_a_bad_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            client.read_to_end(&mut vec![]).await
        });
        let url: IceUrl = format!("turns:{server}").parse().unwrap();
        let fault = examine(&Options::default(), &url, By::Tls, None).await.unwrap_err();
        assert!(fault.advice(&url, By::Tls, &nowhere()).contains("speaks no TLS"), "{fault}");
        answering.abort();
    }

    #[test]
    fn an_address_that_is_not_the_servers_is_laid_to_the_setting_where_nobody_answers() {
        let whereabouts = Whereabouts { answered_by: Some(ip("9.9.9.9")), addresses: vec![ip("9.9.9.9"), ip("9.9.9.10")] };
        let advice = |url: &str, fault: Fault| fault.advice(&url.parse().unwrap(), By::Udp, &whereabouts);
        let docker = advice("turn:172.17.0.2", Fault::Silent(PATIENCE));
        assert!(
            docker.starts_with("clients are told of 172.17.0.2, which is of an inner network, and this server answered by 9.9.9.9"),
            "{docker}"
        );
        assert!(docker.contains("turn.external_ip = [\"9.9.9.9\"]"), "{docker}");
        for (url, fault) in [
            ("turn:9.9.9.10", Fault::Silent(PATIENCE)),
            ("turn:turn.example", Fault::Silent(PATIENCE)),
            ("turn:172.17.0.2", TurnError::Refused(401).into()),
        ] {
            let advice = advice(url, fault);
            assert!(!advice.contains("external_ip"), "{url}: {advice}");
        }
        for (answered_by, told) in [("127.0.0.1", "192.168.1.2"), ("127.0.0.1", "9.9.9.9"), ("192.168.1.2", "9.9.9.9")] {
            let inside = Whereabouts { answered_by: Some(ip(answered_by)), addresses: vec![ip(answered_by)] };
            let advice = Fault::Silent(PATIENCE).advice(&format!("turn:{told}").parse().unwrap(), By::Udp, &inside);
            assert!(advice.starts_with("open UDP port 3478"), "{answered_by}: {advice}");
        }
        let relay = |ip: &str| advice("turn:9.9.9.9", Fault::Unreachable(SocketAddr::new(ip.parse().unwrap(), 1)));
        assert!(relay("172.17.0.2").ends_with("This server answered by 9.9.9.9."));
        assert!(relay("9.9.9.10").ends_with("max-port)?"));
    }

    #[tokio::test]
    async fn another_address_of_a_host_is_asked_where_the_first_does_not_answer() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let good = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut bytes = [0; 1500];
            loop {
                let (length, client) = server.recv_from(&mut bytes).await.unwrap();
                let request = Message::from_bytes(&bytes[..length]).unwrap();
                let mut answer = Message::builder_success(&request, MessageWriteVec::new());
                answer.add_attribute(&XorMappedAddress::new(client, request.transaction_id())).unwrap();
                server.send_to(&answer.finish(), client).await.unwrap();
            }
        });
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let refusing = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let options = Options { timeout: Duration::from_secs(1), ..Options::default() };
        let url = "stun:example.org".parse().unwrap();
        let asked = async |addresses: &[SocketAddr]| ask_any(&options, addresses, &url, By::Udp, None).await;
        let told = asked(&[silent.local_addr().unwrap(), refusing, good]).await.unwrap();
        assert!(told.starts_with("sees this machine as 127.0.0.1:"), "{told}");
        assert!(matches!(asked(&[silent.local_addr().unwrap(), refusing]).await, Err(Fault::Silent(_))));
        assert!(matches!(asked(&[]).await, Err(Fault::Turn(TurnError::Io(_)))));
        answering.abort();
    }
}
