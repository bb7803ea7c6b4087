//! How each of the servers is spoken to: one file for a dialect. What they say was read from the servers' and their clients' own code.

mod bare;
mod matchbox;
mod peerjs;
mod rooms;
mod socketio;
mod tracker;
mod ywebrtc;

use switchboard::load::{Address, LoadError, Wire};

pub use self::{
    bare::{BareWebSocket, BareWebTransport},
    matchbox::Matchbox,
    peerjs::PeerJs,
    rooms::Rooms,
    socketio::SocketIo,
    tracker::Tracker,
    ywebrtc::YWebrtc,
};

/// Waits for a frame that is what `find` looks for.
async fn wait_for<T>(wire: &mut Wire, find: impl Fn(&[u8]) -> Option<T>) -> Result<T, LoadError> {
    loop {
        if let Some(found) = find(&wire.receiver.next().await?) {
            return Ok(found);
        }
    }
}

fn address(number: usize, room: &str, id: impl Into<String>) -> Address {
    Address { number, room: room.to_owned(), id: id.into() }
}

fn holds(frame: &[u8], words: &str) -> bool {
    memchr::memmem::find(frame, words.as_bytes()).is_some()
}

/// What stands between these words and the next quotation mark: all ids here are plain.
fn quoted_after<'a>(frame: &'a [u8], words: &str) -> Option<&'a [u8]> {
    let rest = &frame[memchr::memmem::find(frame, words.as_bytes())? + words.len()..];
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

fn text(id: &[u8]) -> String {
    String::from_utf8_lossy(id).into_owned()
}
