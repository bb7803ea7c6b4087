//! The sockets of both doors: the same port for TCP and UDP, on every address that the setting `listen` stands for.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Listen;

/// One address with both of its sockets.
pub struct Listener {
    pub address: SocketAddr,
    pub tcp: TcpListener,
    pub udp: UdpSocket,
}

/// An address on which the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("{protocol} {address} cannot be listened on: {source}")]
pub struct BindError {
    protocol: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// How often another free port is tried when one is free for TCP and not for UDP, or not on both addresses.
const ATTEMPTS: usize = 32;
/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// What the kernel may keep of packets in either direction, where its own bound (`net.core.rmem_max`, `wmem_max`) allows as much.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Binds every address, one or two of them.
pub fn bind(listen: Listen) -> Result<Vec<Listener>, BindError> {
    bind_with(listen, |address| bind_both(address).map(|listener| (listener.address, listener)))
}

/// The same for TCP alone.
pub fn bind_tcp(listen: Listen) -> Result<Vec<(SocketAddr, TcpListener)>, BindError> {
    let bind = |address| {
        let bound = tcp(address).and_then(|tcp| Ok((tcp.local_addr()?, tcp)));
        let (address, tcp) = bound.map_err(|source| BindError { protocol: "TCP", address, source })?;
        Ok((address, (address, tcp)))
    };
    bind_with(listen, bind)
}

/// The same for TCP and so many sockets of UDP, among which the kernel deals out who sends: each sender always to the same one.
pub fn bind_shared(listen: Listen, sockets: usize) -> Result<Vec<(TcpListener, Vec<UdpSocket>)>, BindError> {
    bind_with(listen, |address| {
        let Listener { address, tcp, udp: first } = bind_both(address)?;
        let more = move || {
            // The first one was bound without it, so that the port is nobody else's.
            SockRef::from(&first).set_reuse_port(true)?;
            let mut udp = vec![first];
            while udp.len() < sockets {
                udp.push(udp_beside(address)?);
            }
            Ok(udp)
        };
        let udp = more().map_err(|source| BindError { protocol: "UDP", address, source })?;
        Ok((address, (tcp, udp)))
    })
}

fn bind_with<T>(listen: Listen, bind: impl Fn(SocketAddr) -> Result<(SocketAddr, T), BindError>) -> Result<Vec<T>, BindError> {
    let mut attempt = 1;
    loop {
        match bind_once(listen, &bind) {
            Err(error) if listen.port() == 0 && attempt < ATTEMPTS && error.source.kind() == io::ErrorKind::AddrInUse => attempt += 1,
            result => return result,
        }
    }
}

fn bind_once<T>(listen: Listen, bind: impl Fn(SocketAddr) -> Result<(SocketAddr, T), BindError>) -> Result<Vec<T>, BindError> {
    let mut listeners: Vec<T> = Vec::new();
    let mut port = None;
    for mut address in listen.addresses() {
        if let Some(port) = port {
            address.set_port(port);
        }
        match bind(address) {
            Ok((address, listener)) => {
                port = Some(address.port());
                listeners.push(listener);
            }
            // The machine may know only one of the two families.
            Err(error) if !listen.is_one_address() && is_missing(&error.source) => {}
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        let address = listen.addresses()[0];
        return Err(BindError { protocol: "TCP", address, source: io::ErrorKind::AddrNotAvailable.into() });
    }
    Ok(listeners)
}

fn bind_both(address: SocketAddr) -> Result<Listener, BindError> {
    let failed = |protocol| move |source| BindError { protocol, address, source };
    let tcp = tcp(address).map_err(failed("TCP"))?;
    let address = tcp.local_addr().map_err(failed("TCP"))?;
    let udp = udp(address).map_err(failed("UDP"))?;
    Ok(Listener { address, tcp, udp })
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of a server that has just stopped must not keep the next one from starting.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it. Without it a second small message waits for the client's acknowledgement of the first.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_udp(address, false)
}

/// One more on a port that has one.
fn udp_beside(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_udp(address, true)
}

fn bind_udp(address: SocketAddr, is_shared: bool) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    // All QUIC connections share them. With the kernel's default, two hundred clients that come at once lose each other's packets.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_serves_both_transports_on_every_address() {
        let listeners = bind("localhost:0".parse().unwrap()).unwrap();
        let port = listeners[0].address.port();
        assert_ne!(port, 0);
        for listener in &listeners {
            assert_eq!(listener.tcp.local_addr().unwrap(), listener.address);
            assert_eq!(listener.udp.local_addr().unwrap(), listener.address);
            assert_eq!(listener.address.port(), port);
        }
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap().remove(0);
        let refused = |taken: SocketAddr| bind(taken.into()).err().unwrap().to_string();
        let address = taken.address;
        assert!(refused(address).starts_with(&format!("TCP {address} cannot be listened on: ")));
        drop(taken.tcp);
        assert!(refused(address).starts_with(&format!("UDP {address} cannot be listened on: ")));
    }
}
