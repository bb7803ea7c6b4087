//! Where candidates come from: the addresses of this machine, what STUN servers see of them, and relays.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use stun_types::{
    attribute::XorMappedAddress,
    message::{BINDING, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, TransactionId},
};
use tokio::{io::ReadBuf, net::UdpSocket};

/// So many addresses of this machine are used.
const HOSTS_MAX: usize = 16;
/// A question to a STUN server is asked again after so long,
const AGAIN: Duration = Duration::from_millis(500);
/// and not more often than that.
const ATTEMPTS_MAX: u32 = 7;

/// A socket on one address of this machine.
pub struct Host {
    pub address: SocketAddr,
    pub socket: UdpSocket,
}

impl Host {
    /// One for each address that others may reach. Loopback is for peers on this machine, where that is known or there is nothing else.
    pub fn all(loopback: bool) -> io::Result<Vec<Self>> {
        let addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect();
        let (local, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_loopback);
        let others: Vec<_> = others.into_iter().filter(|ip| !is_link_local(*ip)).collect();
        let loopback = loopback || others.is_empty();
        let addresses = others.into_iter().chain(local.into_iter().filter(|_| loopback)).take(HOSTS_MAX);
        // An address may be gone by now.
        Ok(addresses.filter_map(|ip| Self::bind(ip).ok()).collect())
    }

    fn bind(ip: IpAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((ip, 0))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// The next packet: from whom, and how much of the buffer it takes.
    pub fn poll(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<(SocketAddr, usize)> {
        loop {
            let mut read = ReadBuf::new(buffer);
            match self.socket.poll_recv_from(context, &mut read) {
                Poll::Ready(Ok(source)) => return Poll::Ready((source, read.filled().len())),
                // What an earlier packet has met on its way.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// These differ from one link to another, and candidates cannot say by which they are meant.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// What a STUN server is asked from one socket: by what address it sees it.
pub struct Question {
    pub from: SocketAddr,
    pub to: SocketAddr,
    transaction: TransactionId,
    pub bytes: Vec<u8>,
    attempts: u32,
    /// When it is to be asked.
    pub due: Instant,
}

impl Question {
    /// To be asked at once.
    pub fn new(from: SocketAddr, to: SocketAddr, now: Instant) -> Self {
        let request = Message::builder_request(BINDING, MessageWriteVec::new());
        let transaction = request.transaction_id();
        Self { from, to, transaction, bytes: request.finish(), attempts: 0, due: now }
    }

    /// May this socket ask that server at all?
    pub fn makes_sense(from: SocketAddr, to: SocketAddr) -> bool {
        from.is_ipv4() == to.is_ipv4() && from.ip().is_loopback() == to.ip().is_loopback()
    }

    /// It is asked now; false if it has been asked often enough.
    pub fn ask(&mut self, now: Instant) -> bool {
        self.attempts += 1;
        self.due = now + AGAIN;
        self.attempts <= ATTEMPTS_MAX
    }

    /// What the server says to it, if this is its answer.
    pub fn answer(&self, at: SocketAddr, source: SocketAddr, bytes: &[u8]) -> Option<SocketAddr> {
        if (at, source) != (self.from, self.to) {
            return None;
        }
        let message = Message::from_bytes(bytes).ok().filter(|message| message.transaction_id() == self.transaction)?;
        Some(message.attribute::<XorMappedAddress>().ok()?.addr(self.transaction))
    }
}
