//! Clients that come by TCP, in the clear or by TLS: what they say is cut into messages, and what they are told is written as they read it.

use std::{io, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Origin,
    desk::{Desk, REQUEST_BYTES_MAX},
    line::{Line, Outbox, Way},
    message::HEADER_BYTES,
    quotas::Share,
};
use crate::metrics::{TurnRefusal, TurnTransport};

/// From its connection a client has so long to get an allocation, and so long it may be without one later.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A client that has taken nothing for so long is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

/// Serves one client until its stream ends. It has this place while it has no allocation.
pub async fn serve(
    desk: Rc<Desk>,
    stream: impl AsyncRead + AsyncWrite,
    client: SocketAddr,
    transport: TurnTransport,
    place: Share<Origin>,
) {
    let outbox = Rc::new(Outbox::default());
    let line = Line { client, socket: desk.number_socket(), asked: None, way: Way::Stream(outbox.clone()) };
    let (reader, writer) = tokio::io::split(stream);
    let mut writing = pin!(write(&outbox, writer, transport));
    tokio::select! {
        () = read(&desk, &line, transport, reader, place) => {
            // What the client was told last leaves as well, as far as there is room for it.
            tokio::select! {
                biased;
                () = &mut writing => {}
                () = yield_now() => {}
            }
        }
        () = &mut writing => {}
    }
    desk.hang_up(&line);
}

async fn read(desk: &Rc<Desk>, line: &Line, transport: TurnTransport, mut reader: impl AsyncRead + Unpin, place: Share<Origin>) {
    let mut bytes = BytesMut::new();
    let mut deadline = Instant::now() + PATIENCE;
    let mut place = Some(place);
    loop {
        bytes.reserve(READ_BYTES);
        let has_allocation = desk.has_allocation(line);
        if has_allocation {
            deadline = Instant::now() + PATIENCE;
            place = None;
        } else if place.is_none() {
            place = desk.shared.streams.take(Origin::of(line.client)).ok();
            if place.is_none() {
                return desk.refused(TurnRefusal::AddressQuota);
            }
        }
        // Its lifetime ends an allocation, and the next look sees to the stream.
        let until = if has_allocation { Instant::now() + PATIENCE } else { deadline };
        match timeout_at(until, reader.read_buf(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) if has_allocation => continue,
            Err(_) => return,
        }
        loop {
            match next_message(&bytes, desk.has_allocation(line)) {
                Ok(Some(length)) => desk.hear(line, transport, &bytes.split_to(length)),
                Ok(None) => break,
                // Where the next message begins nobody knows any more.
                Err(Unframed) => return,
            }
        }
        yield_now().await;
    }
}

async fn write(outbox: &Outbox, mut writer: impl AsyncWrite + Unpin, transport: TurnTransport) {
    loop {
        let mut bytes = outbox.next().await;
        if transport == TurnTransport::Tls {
            // Some clients take each record for a message, coturn's own among them.
            while let Ok(Some(length)) = next_message(&bytes, true) {
                if write_all(bytes.split_to(length), &mut writer).await.is_err() {
                    return;
                }
            }
        }
        if write_all(bytes, &mut writer).await.is_err() {
            return;
        }
    }
}

/// Writes all of it, as long as the client goes on taking some.
async fn write_all(mut bytes: BytesMut, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(WRITE_PATIENCE, async {
            let written = writer.write_buf(&mut bytes).await?;
            // TLS keeps what the socket does not take.
            writer.flush().await?;
            io::Result::Ok(written)
        });
        if written.await?? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// What is not the beginning of a message that this client may send.
#[derive(Debug, PartialEq, Eq)]
struct Unframed;

/// How long the message is that these bytes begin with, its padding included, once they have all of it.
fn next_message(bytes: &[u8], has_allocation: bool) -> Result<Option<usize>, Unframed> {
    let [kind, _, high, low, ..] = bytes else { return Ok(None) };
    let claimed = usize::from(u16::from_be_bytes([*high, *low]));
    let length = match kind {
        0..=0x3f if has_allocation || claimed <= REQUEST_BYTES_MAX => HEADER_BYTES + claimed,
        0x40..=0x7f if has_allocation => 4 + claimed.next_multiple_of(4),
        _ => return Err(Unframed),
    };
    Ok((bytes.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_where_its_messages_say() {
        assert_eq!(next_message(&[0, 1, 0], true), Ok(None));
        assert_eq!(next_message(&[0; 19], true), Ok(None));
        assert_eq!(next_message(&[0; 21], true), Ok(Some(20)));
        assert_eq!(next_message(&[0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0], true), Ok(None), "its padding is missing");
        assert_eq!(next_message(&[0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0], true), Ok(Some(12)));
        assert_eq!(next_message(&[0x40, 0, 0, 5], false), Err(Unframed), "who has no allocation has no channels");
        assert_eq!(next_message(&[0, 1, 0xff, 0xff], false), Err(Unframed), "nobody sends requests of that length");
        assert_eq!(next_message(b"GET / HTTP/1.1", false), Err(Unframed));
        assert_eq!(next_message(&[0x80, 0, 0, 0], true), Err(Unframed));
    }

    /// A line of a few hundred bytes in a second is slow, and a live one.
    #[tokio::test(start_paused = true)]
    async fn who_takes_a_little_again_and_again_is_written_to() {
        for transport in [TurnTransport::Tcp, TurnTransport::Tls] {
            let outbox = Rc::new(Outbox::default());
            let line = Line { client: ([127, 0, 0, 1], 9).into(), socket: 0, asked: None, way: Way::Stream(outbox.clone()) };
            let message = [&[0x40, 0, 0x0f, 0xfc][..], &[7; 4092]].concat();
            (0..4).for_each(|_| assert!(line.send(&message)));
            let (near, mut far) = tokio::io::duplex(1024);
            let reading = async {
                let mut taken = 0;
                let mut bytes = [0; 1024];
                while taken < 4 * message.len() {
                    tokio::time::sleep(WRITE_PATIENCE / 2).await;
                    taken += far.read(&mut bytes).await.unwrap();
                }
                tokio::time::sleep(2 * WRITE_PATIENCE).await;
            };
            tokio::select! {
                () = reading => {}
                () = write(&outbox, near, transport) => panic!("{transport:?}: it was left"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_any_more_is_left() {
        let outbox = Rc::new(Outbox::default());
        let line = Line { client: ([127, 0, 0, 1], 9).into(), socket: 0, asked: None, way: Way::Stream(outbox.clone()) };
        assert!(line.send(&[0; 4096]));
        let (near, _far) = tokio::io::duplex(1024);
        let since = Instant::now();
        write(&outbox, near, TurnTransport::Tcp).await;
        assert!((WRITE_PATIENCE..2 * WRITE_PATIENCE).contains(&since.elapsed()));
    }
}
