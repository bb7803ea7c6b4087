//! The half of a WebSocket connection that writes: what the outbox holds, as much at once as there is.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, time::Duration};

use actix_http::ws::{OpCode, Parser};
use actix_web_actors::ws::CloseReason;
use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use tokio::{io::AsyncWrite, time::timeout};

use super::Pings;
use crate::{
    protocol::framing::LentFrame,
    session::outbox::{End, Outbox, Outgoing, departing::write_batch},
};

/// Writes until the end. Who takes nothing for as long as `patience` takes nothing any more, whatever else it sends.
pub async fn write<Io>(io: &RefCell<Io>, outbox: &Outbox, pings: Pings, patience: Duration) -> io::Result<()>
where
    Io: AsyncWrite + Unpin,
{
    loop {
        let mut is_last = false;
        let spell = |outgoing: &Outgoing, out: &mut BytesMut| {
            is_last = matches!(outgoing, Outgoing::End(_));
            spell(outgoing, pings, out);
        };
        let mut left = write_batch(outbox, spell, |cx, bytes| Pin::new(&mut *io.borrow_mut()).poll_write(cx, bytes)).await?;
        while left.has_remaining() {
            let written = poll_fn(|cx| Pin::new(&mut *io.borrow_mut()).poll_write(cx, &left));
            match Box::pin(timeout(patience, written)).await?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => left.advance(bytes),
            }
        }
        // TLS has a buffer of its own; plain TCP is done at once, and needs no timer to be made.
        let mut flushing = poll_fn(|cx| Pin::new(&mut *io.borrow_mut()).poll_flush(cx));
        match (&mut flushing).now_or_never() {
            Some(flushed) => flushed?,
            None => Box::pin(timeout(patience, flushing)).await??,
        }
        outbox.written();
        if is_last {
            return poll_fn(|cx| Pin::new(&mut *io.borrow_mut()).poll_shutdown(cx)).await;
        }
    }
}

/// Puts it behind what is in `out`, as RFC 6455 writes it.
pub fn spell(outgoing: &Outgoing, pings: Pings, out: &mut BytesMut) {
    match outgoing {
        Outgoing::Begun(rest) => out.extend_from_slice(rest),
        Outgoing::Frame(frame) => spell_frame(frame.lend(), out),
        Outgoing::Ping if pings == Pings::Packets => Parser::write_message(out, "2", OpCode::Text, true, false),
        Outgoing::Ping => Parser::write_message(out, "", OpCode::Ping, true, false),
        Outgoing::Pong(data) => Parser::write_message(out, data, OpCode::Pong, true, false),
        Outgoing::End(End::Close(code)) => {
            Parser::write_close(out, Some(CloseReason { code: code.number().into(), description: Some(code.slug().into()) }), false);
        }
        Outgoing::End(End::Answer(Some(code))) => {
            Parser::write_close(out, Some(CloseReason { code: (*code).into(), description: None }), false);
        }
        Outgoing::End(End::Answer(None)) => {}
    }
}

/// The same with a message.
pub fn spell_frame(frame: LentFrame<'_>, out: &mut BytesMut) {
    match frame {
        LentFrame::Text(bytes) => Parser::write_message(out, bytes, OpCode::Text, true, false),
        LentFrame::Binary(bytes) | LentFrame::Datagram(bytes) => Parser::write_message(out, bytes, OpCode::Binary, true, false),
    }
}
