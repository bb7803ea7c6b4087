//! The sockets that packets of clients leave by: each on a port that nobody can foretell, and by what address peers know it.
//!
//! Two clients of this server meet at its own address, where nothing else is a peer. So it is known which ports are relays now; and where others know the
//! server by an address that is not its own (behind NAT), what goes from one of its relays to another does not leave the machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use socket2::{Domain, Protocol, Socket, Type};

/// The relays of both families.
pub struct Relays {
    ports: RangeInclusive<u16>,
    v4: Option<Arc<Family>>,
    v6: Option<Arc<Family>>,
}

/// The relays of one family.
pub struct Family {
    /// What their sockets are bound to; perhaps unspecified.
    bind: IpAddr,
    /// By what others know it, if that is not the address itself.
    external: Option<IpAddr>,
    /// A bit for each port that is a relay now.
    live: Box<[AtomicU64]>,
}

/// A port that is a relay as long as this is kept.
pub struct RelayPort {
    family: Arc<Family>,
    port: u16,
}

/// So many ports are tried at random before they are tried one after another.
const RANDOM_ATTEMPTS: u32 = 16;
/// What the kernel may keep of packets in either direction: 50 ms of 40 Mbit/s.
const BUFFER_BYTES: usize = 256 * 1024;

impl Relays {
    /// On these addresses, one of each family at most, known by these others.
    pub fn new(bind: &[IpAddr], external: &[IpAddr], ports: RangeInclusive<u16>) -> Self {
        let family = |is_v4: bool| {
            let of = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| address.is_ipv4() == is_v4);
            let live = (0..=u16::MAX / 64).map(|_| AtomicU64::new(0)).collect();
            of(bind).map(|bind| Arc::new(Family { bind, external: of(external), live }))
        };
        Self { ports, v4: family(true), v6: family(false) }
    }

    /// Those of the family of IPv4, or of IPv6, if there are any.
    pub fn family(&self, is_v4: bool) -> Option<&Arc<Family>> {
        if is_v4 { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// Binds one, on an even port if it has to be, and tells by which address peers know it, where the client is.
    pub fn bind(&self, family: &Arc<Family>, client: IpAddr, is_even: bool) -> io::Result<(UdpSocket, SocketAddr, RelayPort)> {
        let advertised = match family.external {
            Some(external) => external,
            None if family.bind.is_unspecified() => own_address_towards(client, family.bind.is_ipv4())?,
            None => family.bind,
        };
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let ports = last - first + 1;
        let mut start = 0;
        for attempt in 0..RANDOM_ATTEMPTS + ports {
            // Where there is hardly a port left, all of them are tried.
            if attempt <= RANDOM_ATTEMPTS {
                let mut random = [0; 8];
                getrandom::fill(&mut random)?;
                start = u32::try_from(u64::from_ne_bytes(random) % u64::from(ports)).expect("it is below the number of ports");
            }
            let port = first + (start + attempt.saturating_sub(RANDOM_ATTEMPTS)) % ports;
            let port = u16::try_from(port).expect("it is in the range");
            if is_even && port % 2 == 1 || family.is_live(port) {
                continue;
            }
            match socket((family.bind, port).into()) {
                Ok(socket) => {
                    family.set(port, true);
                    return Ok((socket, (advertised, port).into(), RelayPort { family: family.clone(), port }));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Is this address, which is the server's own, that of a relay?
    pub fn is_live(&self, address: SocketAddr) -> bool {
        self.family(address.is_ipv4()).is_some_and(|family| {
            (family.bind.is_unspecified() || family.bind == address.ip() || family.external == Some(address.ip()))
                && family.is_live(address.port())
        })
    }
}

impl Family {
    /// Where a packet to this peer goes: to a relay of our own without a detour.
    pub fn target(&self, peer: SocketAddr) -> SocketAddr {
        if self.external == Some(peer.ip()) && self.is_live(peer.port()) { (self.inside(), peer.port()).into() } else { peer }
    }

    /// Whom a packet from there comes from.
    pub fn source(&self, from: SocketAddr) -> SocketAddr {
        match self.external {
            Some(external) if from.ip() == self.inside() && self.is_live(from.port()) => (external, from.port()).into(),
            _ => from,
        }
    }

    /// By which address relays reach each other.
    fn inside(&self) -> IpAddr {
        match self.bind {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        }
    }

    fn is_live(&self, port: u16) -> bool {
        self.live[usize::from(port / 64)].load(Ordering::Relaxed) & (1 << (port % 64)) != 0
    }

    fn set(&self, port: u16, is_live: bool) {
        let (word, bit) = (&self.live[usize::from(port / 64)], 1 << (port % 64));
        if is_live {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

impl RelayPort {
    /// The family that it is of.
    pub fn family(&self) -> &Family {
        &self.family
    }
}

impl Drop for RelayPort {
    fn drop(&mut self) {
        self.family.set(self.port, false);
    }
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The address of this machine by which it reaches that client, or anybody where that is nobody of this family. No packet is sent for it.
pub fn own_address_towards(client: IpAddr, is_v4: bool) -> io::Result<IpAddr> {
    let (any, anybody): (IpAddr, IpAddr) = match is_v4 {
        true => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        false => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((if client.is_ipv4() == is_v4 && !client.is_unspecified() { client } else { anybody }, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_is_a_relay_as_long_as_it_is_kept() {
        let relays = Relays::new(&[ip("127.0.0.1")], &[], 49152..=65535);
        let family = relays.family(true).unwrap();
        let (_socket, address, port) = relays.bind(family, ip("192.0.2.1"), false).unwrap();
        assert_eq!(address.ip(), ip("127.0.0.1"));
        assert!(address.port() >= 49152 && relays.is_live(address));
        assert!(!relays.is_live((ip("127.0.0.2"), address.port()).into()), "another address");
        assert!(!relays.is_live((ip("127.0.0.1"), address.port() ^ 1).into()), "another port");
        assert_eq!(family.target(address), address);
        drop(port);
        assert!(!relays.is_live(address));
        assert!(relays.family(false).is_none());
    }

    #[test]
    fn relays_of_a_server_behind_nat_reach_each_other_inside() {
        let relays = Relays::new(&[ip("0.0.0.0")], &[ip("203.0.113.9")], 49152..=65535);
        let family = relays.family(true).unwrap();
        let (_socket, address, _port) = relays.bind(family, ip("192.0.2.1"), false).unwrap();
        assert_eq!(address.ip(), ip("203.0.113.9"));
        let inside: SocketAddr = (ip("127.0.0.1"), address.port()).into();
        assert_eq!((family.target(address), family.source(inside)), (inside, address));
        let other: SocketAddr = (ip("203.0.113.9"), address.port() ^ 1).into();
        assert_eq!(family.target(other), other, "no relay");
        let stranger: SocketAddr = (ip("127.0.0.1"), address.port() ^ 1).into();
        assert_eq!(family.source(stranger), stranger);
    }

    #[test]
    fn ports_come_in_no_order_and_from_the_range() {
        let relays = Relays::new(&[ip("127.0.0.1")], &[], 50_000..=50_999);
        let family = relays.family(true).unwrap();
        let bound: Vec<_> = (0..32).map(|_| relays.bind(family, ip("127.0.0.1"), true).unwrap()).collect();
        let ports: Vec<u16> = bound.iter().map(|(_, address, _)| address.port()).collect();
        assert!(ports.iter().all(|port| (50_000..=50_999).contains(port) && port % 2 == 0), "{ports:?}");
        assert!(!ports.is_sorted(), "{ports:?}");
        drop(bound);
        // No other test's, nor the system's for whoever asks for no port in particular.
        let relays = Relays::new(&[ip("127.0.0.1")], &[], 20_000..=20_399);
        let family = relays.family(true).unwrap();
        let bound: Vec<_> = (0..400).map_while(|_| relays.bind(family, ip("127.0.0.1"), false).ok()).collect();
        assert_eq!(bound.len(), 400, "down to the last one");
        assert!(relays.bind(family, ip("127.0.0.1"), false).is_err());
        let none = Relays::new(&[ip("127.0.0.1")], &[], bound[0].1.port()..=bound[0].1.port());
        assert!(none.bind(none.family(true).unwrap(), ip("127.0.0.1"), false).is_err(), "the only port is taken");
    }
}
