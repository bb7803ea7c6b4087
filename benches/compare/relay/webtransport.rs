//! The bare WebTransport relay: `wtransport` as it comes. One bidirectional stream for each client, frames with their length before them, which
//! is read so that those of several clients do not run into each other.

use std::{fmt::Write as _, future::poll_fn, net::Ipv4Addr, rc::Rc};

use tokio::task::spawn_local;
use wtransport::{Endpoint, Identity, RecvStream, SendStream, ServerConfig, endpoint::IncomingSession};

use super::rooms::{Member, Room, Rooms};

const HEADER_BYTES: usize = 4;
/// What is read at once, into the one buffer that all connections share.
const READ_BYTES: usize = 64 * 1024;

pub async fn serve(announce: impl FnOnce(String)) -> anyhow::Result<()> {
    let identity = Identity::self_signed(["localhost", "127.0.0.1"])?;
    let hash = identity.certificate_chain().as_slice()[0].hash();
    let config = ServerConfig::builder().with_bind_address((Ipv4Addr::LOCALHOST, 0).into()).with_identity(identity).build();
    let endpoint = Endpoint::server(config)?;
    let hexadecimal = hash.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    });
    announce(format!("{} {hexadecimal}", endpoint.local_addr()?));
    let rooms = Rc::new(Rooms::default());
    loop {
        let session = endpoint.accept().await;
        let rooms = rooms.clone();
        spawn_local(async move {
            // Whoever goes takes its connection along, and nobody else.
            let _ = serve_one(session, &rooms).await;
        });
    }
}

async fn serve_one(session: IncomingSession, rooms: &Rc<Rooms>) -> anyhow::Result<()> {
    let request = session.await?;
    let path = request.path().to_owned();
    let connection = request.accept().await?;
    let (mut writing, reading) = connection.accept_bi().await?;
    let (room, member) = rooms.enter(&path);
    // Says to the client that it is in.
    writing.write_all(&[0; HEADER_BYTES]).await?;
    spawn_local(write_all(writing, member.clone(), rooms.clone()));
    let outcome = read_all(reading, &room, &member, rooms).await;
    rooms.leave(&path, &room, &member);
    outcome
}

async fn read_all(mut reading: RecvStream, room: &Room, member: &Rc<Member>, rooms: &Rooms) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(chunk) = reading.quic_stream_mut().read_chunk(READ_BYTES, true).await? {
        if rest.is_empty() {
            let used = pass_on(&chunk.bytes, room, member, rooms);
            rest.extend_from_slice(&chunk.bytes[used..]);
        } else {
            rest.extend_from_slice(&chunk.bytes);
            let used = pass_on(&rest, room, member, rooms);
            rest.drain(..used);
        }
        if rest.is_empty() {
            rest = Vec::new();
        }
    }
    Ok(())
}

/// Passes on every frame that is whole, and tells how many bytes that were.
fn pass_on(bytes: &[u8], room: &Room, member: &Rc<Member>, rooms: &Rooms) -> usize {
    let mut used = 0;
    while let Some(header) = bytes[used..].first_chunk::<HEADER_BYTES>()
        && let Some(frame) = bytes.get(used..used + HEADER_BYTES + u32::from_be_bytes(*header) as usize)
    {
        used += frame.len();
        // The first frame is empty: a stream is not there before something has been sent on it.
        if frame.len() == HEADER_BYTES {
            continue;
        }
        rooms.tell_others(room, member, |out| out.extend_from_slice(frame));
    }
    used
}

async fn write_all(mut half: SendStream, member: Rc<Member>, rooms: Rc<Rooms>) {
    while let Some(waiting) = poll_fn(|context| member.poll_take(context)).await {
        if half.write_all(&waiting).await.is_err() {
            return;
        }
        rooms.give_back(waiting);
    }
}
