//! The way back to a client: packets of a listening socket, or a stream with a bound on what waits in it.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use bytes::BytesMut;
use tokio::sync::Notify;

use super::socket::ClientSocket;

/// Where a client is, and how it is reached.
#[derive(Clone)]
pub struct Line {
    pub client: SocketAddr,
    /// Which of the worker's sockets it comes by.
    pub socket: u64,
    /// Which address of this machine it asks, where the socket is for several.
    pub asked: Option<IpAddr>,
    pub way: Way,
}

/// How a client is reached.
#[derive(Clone)]
pub enum Way {
    Udp(Rc<ClientSocket>),
    Stream(Rc<Outbox>),
}

/// What waits to be written to a stream.
#[derive(Default)]
pub struct Outbox {
    bytes: RefCell<BytesMut>,
    filled: Notify,
    is_closed: Cell<bool>,
}

/// So many bytes may wait for one stream; more packets are lost, as they are where a network is full.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

impl Line {
    /// Sends a message, or drops it where there is no room.
    pub fn send(&self, bytes: &[u8]) -> bool {
        match &self.way {
            // Packets may be lost.
            Way::Udp(socket) => socket.try_send(bytes, self.client, self.asked).is_ok(),
            Way::Stream(outbox) => outbox.push(bytes),
        }
    }

    /// Nobody is there any more.
    pub fn close(&self) {
        if let Way::Stream(outbox) = &self.way {
            outbox.is_closed.set(true);
        }
    }

    /// Is nobody there any more, as far as can be known?
    pub fn is_closed(&self) -> bool {
        matches!(&self.way, Way::Stream(outbox) if outbox.is_closed.get())
    }
}

impl Outbox {
    /// A message of a stream ends on a multiple of four bytes (RFC 8656 §12.5).
    fn push(&self, message: &[u8]) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        let padded = message.len().next_multiple_of(4);
        if bytes.len() + padded > OUTBOX_BYTES_MAX {
            return false;
        }
        let was_empty = bytes.is_empty();
        bytes.extend_from_slice(message);
        let end = bytes.len() + padded - message.len();
        bytes.resize(end, 0);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// All that waits, as soon as something does.
    pub async fn next(&self) -> BytesMut {
        loop {
            let bytes = self.bytes.borrow_mut().split();
            if !bytes.is_empty() {
                return bytes;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_keeps_messages_whole_and_padded_up_to_its_bound() {
        let outbox = Outbox::default();
        assert!(outbox.push(b"12345") && outbox.push(b"1234"));
        assert_eq!(&outbox.next().await[..], b"12345\0\0\x001234");
        let accepted = (0..OUTBOX_BYTES_MAX).take_while(|_| outbox.push(&[7; 1021])).count();
        assert_eq!(accepted, OUTBOX_BYTES_MAX / 1024);
        assert_eq!(outbox.next().await.len(), OUTBOX_BYTES_MAX);
    }
}
