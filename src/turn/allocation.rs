//! One allocation: a socket towards peers that a client has for a while, whom it may exchange packets with, and the channels by which it names them in four
//! bytes. A packet is copied neither on its way to a peer nor, by a channel, on its way back.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::SockRef;
use stun_types::message::{IntegrityKey, TransactionId};
use tokio::{net::UdpSocket, task::AbortHandle};

use super::{
    Origin, Shared,
    line::Line,
    message,
    peers::Verdict,
    quotas::{OwnPace, Share},
    relays::RelayPort,
};
use crate::{
    metrics::{TurnDirection, TurnRefusal, TurnTransport},
    protocol::PeerId,
};

/// What a client has to relay by.
pub struct Allocation {
    pub line: Line,
    pub transport: TurnTransport,
    pub peer_id: PeerId,
    pub username: String,
    pub key: IntegrityKey,
    /// The request that made it, which may come again.
    pub made_by: TransactionId,
    /// By what peers know it.
    pub relayed: SocketAddr,
    pub expires_at: Cell<Instant>,
    permissions: RefCell<Vec<Permission>>,
    channels: RefCell<Vec<Channel>>,
    pace: OwnPace,
    /// Ends what reads from the socket.
    pub reading: Cell<Option<AbortHandle>>,
    // In this order: the port is no relay any more when its socket closes.
    pub port: RelayPort,
    pub socket: UdpSocket,
    /// Given back at the end, before what reads from the socket knows of it.
    shares: Cell<Option<Shares>>,
}

/// What an allocation is made of.
pub struct Parts {
    pub line: Line,
    pub transport: TurnTransport,
    pub peer_id: PeerId,
    pub username: String,
    pub key: IntegrityKey,
    pub made_by: TransactionId,
    pub socket: UdpSocket,
    pub relayed: SocketAddr,
    pub port: RelayPort,
    pub expires_at: Instant,
    pub pace: OwnPace,
    pub shares: Shares,
}

/// The right to one allocation, of its session's and of its address's.
pub type Shares = (Share<PeerId>, Share<Origin>);

/// A peer from which packets may come and to which they may go.
struct Permission {
    peer: IpAddr,
    /// Is that an address of this server, where only relays are peers?
    is_own: bool,
    expires_at: Instant,
}

/// A peer with a number for it.
struct Channel {
    number: u16,
    peer: SocketAddr,
    is_own: bool,
    expires_at: Instant,
}

/// A peer that is none, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPeer {
    pub address: SocketAddr,
    pub why: PeerRefused,
}

/// Why a peer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefused {
    /// Its address is none that this server relays to.
    Forbidden,
    /// Its address is of the other family.
    Family,
    /// No channel has such a number.
    Number,
    /// The number is another peer's, or the peer has another number.
    Taken,
    /// There are as many as there may be.
    Full,
}

/// RFC 8656 §9.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// So many peers an allocation may have, and as many channels.
const PEERS_MAX: usize = 128;
/// A longer packet has no room in a message, which says in 16 bits how long it is.
const PACKET_BYTES_MAX: usize = 65_000;
/// What the headers of IP and UDP take beside each packet's data, so that none is free.
const HEADERS_BYTES_V4: usize = 20 + 8;
const HEADERS_BYTES_V6: usize = 40 + 8;
/// What stands before the data of a channel: its number and how much there is.
pub const CHANNEL_HEADER_BYTES: usize = 4;

impl Allocation {
    /// One without peers.
    pub fn new(parts: Parts) -> Self {
        let Parts { line, transport, peer_id, username, key, made_by, socket, relayed, port, expires_at, pace, shares } = parts;
        Self {
            line,
            transport,
            peer_id,
            username,
            key,
            made_by,
            relayed,
            expires_at: expires_at.into(),
            permissions: RefCell::default(),
            channels: RefCell::default(),
            pace,
            reading: Cell::default(),
            port,
            socket,
            shares: Some(shares).into(),
        }
    }

    /// Lets packets come from all of these peers, and go there, or none of them.
    pub fn permit(&self, peers: &[SocketAddr], shared: &Shared, now: Instant) -> Result<(), NoPeer> {
        let Some(last) = peers.last() else { return Ok(()) };
        let judged: Result<Vec<_>, _> = peers.iter().map(|peer| Ok((peer.ip(), self.judge(*peer, shared)?))).collect();
        let mut wanted = judged?;
        // A permission is for an address, however often that is named and by whatever ports.
        wanted.sort_unstable();
        wanted.dedup();
        let is_wanted = |permission: &Permission| wanted.binary_search_by_key(&permission.peer, |(peer, _)| *peer).is_ok();
        let mut permissions = self.permissions.borrow_mut();
        permissions.retain(|permission| permission.expires_at > now);
        let others = permissions.iter().filter(|permission| !is_wanted(permission)).count();
        if others + wanted.len() > PEERS_MAX {
            return Err(NoPeer { address: *last, why: PeerRefused::Full });
        }
        permissions.retain(|permission| !is_wanted(permission));
        let expires_at = now + PERMISSION_LIFETIME;
        permissions.extend(wanted.into_iter().map(|(peer, is_own)| Permission { peer, is_own, expires_at }));
        Ok(())
    }

    /// Gives a peer a number, and lets packets come from there, or neither.
    pub fn bind_channel(&self, number: u16, peer: SocketAddr, shared: &Shared, now: Instant) -> Result<(), NoPeer> {
        let refused = |why| Err(NoPeer { address: peer, why });
        // Those of RFC 5766; RFC 8656 has fewer, and clients that know it take them from there.
        if !(0x4000..=0x7fff).contains(&number) {
            return refused(PeerRefused::Number);
        }
        let is_own = self.judge(peer, shared)?;
        let mut channels = self.channels.borrow_mut();
        channels.retain(|channel| channel.expires_at > now);
        let before = channels.iter().position(|channel| channel.number == number || channel.peer == peer);
        match before {
            Some(before) if channels[before].number != number || channels[before].peer != peer => return refused(PeerRefused::Taken),
            None if channels.len() == PEERS_MAX => return refused(PeerRefused::Full),
            _ => self.permit(&[peer], shared, now)?,
        }
        let channel = Channel { number, peer, is_own, expires_at: now + CHANNEL_LIFETIME };
        match before {
            Some(before) => channels[before] = channel,
            None => channels.push(channel),
        }
        Ok(())
    }

    /// Is this peer's address the server's own? Only where it may be a peer.
    fn judge(&self, peer: SocketAddr, shared: &Shared) -> Result<bool, NoPeer> {
        let refused = |why| Err(NoPeer { address: peer, why });
        let verdict = shared.peers.judge(peer.ip());
        let is_own = verdict == Verdict::Own;
        if verdict == Verdict::Refused || (is_own && !shared.relays.is_live(peer)) {
            shared.metrics.turn_refused(TurnRefusal::ForbiddenPeer);
            return refused(PeerRefused::Forbidden);
        }
        if peer.is_ipv4() != self.relayed.is_ipv4() {
            return refused(PeerRefused::Family);
        }
        Ok(is_own)
    }

    /// Sends a packet of the client to the peer of this number.
    pub fn send_to_channel(&self, number: u16, packet: &[u8], shared: &Shared, now: Instant) {
        let channels = self.channels.borrow();
        match channels.iter().find(|channel| channel.number == number && channel.expires_at > now) {
            Some(channel) => self.send(channel.peer, channel.is_own, packet, shared, now),
            None => shared.metrics.turn_refused(TurnRefusal::NoPermission),
        }
    }

    /// Sends a packet of the client to this peer.
    pub fn send_to_peer(&self, peer: SocketAddr, packet: &[u8], shared: &Shared, now: Instant) {
        let permissions = self.permissions.borrow();
        match permissions.iter().find(|permission| permission.peer == peer.ip() && permission.expires_at > now) {
            Some(permission) => self.send(peer, permission.is_own, packet, shared, now),
            None => shared.metrics.turn_refused(TurnRefusal::NoPermission),
        }
    }

    fn send(&self, peer: SocketAddr, is_own: bool, packet: &[u8], shared: &Shared, now: Instant) {
        if is_own && !shared.relays.is_live(peer) {
            shared.metrics.turn_refused(TurnRefusal::ForbiddenPeer);
        } else if self.may_pass(packet.len(), shared, now) {
            // Not by way of the runtime, for which a new socket is not ready until it has looked. Packets may be lost, here too.
            let sent = SockRef::from(&self.socket).send_to(packet, &self.port.family().target(peer).into());
            if sent.is_ok() {
                shared.metrics.turn_relayed(TurnDirection::ToPeer, packet.len());
            }
        }
    }

    /// Hands the client a packet that came from there. It is in this buffer, behind the room for a channel's header.
    pub fn receive(&self, from: SocketAddr, buffer: &mut [u8], scratch: &mut [u8], shared: &Shared, now: Instant) {
        let peer = self.port.family().source(from);
        let permissions = self.permissions.borrow();
        let permission = permissions.iter().find(|permission| permission.peer == peer.ip() && permission.expires_at > now);
        let bytes = buffer.len() - CHANNEL_HEADER_BYTES;
        match permission {
            // Behind an address of our own somebody else may have come to have the port.
            Some(permission) if permission.is_own && !shared.relays.is_live(peer) => shared.metrics.turn_refused(TurnRefusal::NoPermission),
            None => shared.metrics.turn_refused(TurnRefusal::NoPermission),
            Some(_) if bytes > PACKET_BYTES_MAX => shared.metrics.turn_refused(TurnRefusal::Malformed),
            Some(_) if self.may_pass(bytes, shared, now) => {
                let channels = self.channels.borrow();
                let is_sent = match channels.iter().find(|channel| channel.peer == peer && channel.expires_at > now) {
                    Some(channel) => {
                        buffer[..2].copy_from_slice(&channel.number.to_be_bytes());
                        buffer[2..CHANNEL_HEADER_BYTES].copy_from_slice(&(bytes as u16).to_be_bytes());
                        self.line.send(buffer)
                    }
                    None => {
                        let length = message::write_data(peer, &buffer[CHANNEL_HEADER_BYTES..], scratch);
                        self.line.send(&scratch[..length])
                    }
                };
                if is_sent {
                    shared.metrics.turn_relayed(TurnDirection::ToClient, bytes);
                }
            }
            Some(_) => {}
        }
    }

    /// Nothing is read from the socket any more.
    pub fn end(&self) {
        self.shares.take();
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }

    fn may_pass(&self, data_bytes: usize, shared: &Shared, now: Instant) -> bool {
        let bytes = data_bytes + if self.relayed.is_ipv4() { HEADERS_BYTES_V4 } else { HEADERS_BYTES_V6 };
        if !self.pace.pass(bytes, now) {
            shared.metrics.turn_refused(TurnRefusal::AllocationRate);
            return false;
        }
        let may_pass = shared.pace.pass(bytes, now);
        if !may_pass {
            shared.metrics.turn_refused(TurnRefusal::ServerRate);
        }
        may_pass
    }
}
