//! The UDP sockets that clients come by. One that is for all addresses of the machine answers each client by the address that it asked, because clients take
//! no answer from another.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt},
};
use tokio::{io::Interest, net::UdpSocket};

/// One socket of a worker.
pub struct ClientSocket {
    socket: UdpSocket,
    /// Room for what the kernel says beside a packet, where the socket is for all addresses.
    beside: Option<RefCell<Vec<u8>>>,
}

impl ClientSocket {
    /// One that is bound, served by this thread's runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let beside = local.ip().is_unspecified().then(|| cmsg_space!(libc::in6_pktinfo).into());
        match (&beside, local.is_ipv4()) {
            (Some(_), true) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            (Some(_), false) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            (None, _) => {}
        }
        Ok(Self { socket: UdpSocket::from_std(socket)?, beside })
    }

    /// There may be a packet.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next packet, if there is one: how long it is, from where, and to which address where that could be several.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        let Some(beside) = &self.beside else {
            return self.socket.try_recv_from(buffer).map(|(bytes, client)| (bytes, client, None));
        };
        self.socket.try_io(Interest::READABLE, || {
            let mut beside = beside.borrow_mut();
            let mut buffers = [IoSliceMut::new(buffer)];
            let received = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut buffers, Some(&mut *beside), MsgFlags::empty())?;
            let client = received.address.and_then(address).ok_or(io::ErrorKind::InvalidData)?;
            let asked = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))),
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
                _ => None,
            });
            Ok((received.bytes, client, asked))
        })
    }

    /// Sends a packet by this address, or by that which the system finds, if there is room.
    pub fn try_send(&self, bytes: &[u8], client: SocketAddr, by: Option<IpAddr>) -> io::Result<usize> {
        let Some(by) = by else { return self.socket.try_send_to(bytes, client) };
        let (v4, v6);
        let source = match by {
            IpAddr::V4(by) => {
                let unset = libc::in_addr { s_addr: 0 };
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(by.octets()) },
                    ipi_addr: unset,
                };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(by) => {
                v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: by.octets() }, ipi6_ifindex: 0 };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        self.socket.try_io(Interest::WRITABLE, || {
            let client = SockaddrStorage::from(client);
            Ok(sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], &[source], MsgFlags::empty(), Some(&client))?)
        })
    }
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}
