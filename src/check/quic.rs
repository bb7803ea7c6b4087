//! Whether anybody speaks QUIC on a port of UDP: a version that nobody has is answered by those that are had (RFC 9000 §6, RFC 8999).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

/// What comes back from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// QUIC is spoken there.
    Quic,
    /// The host says that nobody listens there.
    Refused,
    /// Nothing does.
    Silence,
}

/// A version of those that are kept free to exercise this (RFC 9000 §15).
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// A server need not answer to less.
const PACKET_BYTES: usize = 1200;
const ID_BYTES: u8 = 8;
/// UDP loses some.
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_millis(700);

/// Asks this port.
pub async fn ask(address: SocketAddr) -> io::Result<Answer> {
    let any: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Only a connected one hears that nobody listens.
    socket.connect(address).await?;
    let mut packet = vec![0; PACKET_BYTES];
    packet[0] = 0xc0;
    packet[1..5].copy_from_slice(&NO_VERSION);
    packet[5] = ID_BYTES;
    packet[6..14].fill_with(|| fastrand::u8(..));
    packet[14] = ID_BYTES;
    packet[15..23].fill_with(|| fastrand::u8(..));
    for _ in 0..ATTEMPTS {
        let mut answer = [0; 1500];
        let asked = async {
            socket.send(&packet).await?;
            socket.recv(&mut answer).await
        };
        match timeout(PATIENCE, asked).await {
            // A long header of version 0 that has our connection ids the other way round.
            Ok(Ok(bytes)) if bytes > 23 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4] && answer[6..14] == packet[15..23] => {
                return Ok(Answer::Quic);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(Answer::Refused),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
    Ok(Answer::Silence)
}
