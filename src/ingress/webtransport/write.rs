//! The half of a WebTransport session that writes: what the outbox holds, as much at once as there is, by its door or past it.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::time::timeout;
use tracing::debug;

use super::http3;
use crate::{
    protocol::framing::{self, LentFrame},
    session::outbox::{End, Outbox, Outgoing, Shortcut, departing::write_batch},
};

/// The stream that carries the messages to a client, and the session that carries its datagrams.
pub struct Sending {
    stream: Mutex<SendStream>,
    session: Arc<http3::Session>,
}

impl Sending {
    pub fn new(stream: SendStream, session: Arc<http3::Session>) -> Arc<Self> {
        Arc::new(Self { stream: stream.into(), session })
    }

    /// Writes until the end. `None` if the stream broke before it: who takes nothing for as long as `patience` takes nothing any more, whatever else
    /// it sends.
    pub async fn write(&self, outbox: &Outbox, patience: Duration) -> Option<End> {
        loop {
            let mut end = None;
            let spell = |outgoing: &Outgoing, out: &mut BytesMut| {
                if let Outgoing::End(how) = outgoing {
                    end = Some(*how);
                }
                self.spell(outgoing, out);
            };
            let batch = write_batch(outbox, spell, |cx, bytes| self.poll_write(cx, bytes)).await;
            let mut left = batch.inspect_err(takes_no_more).ok()?;
            while left.has_remaining() {
                let written = Box::pin(timeout(patience, poll_fn(|cx| self.poll_write(cx, &left)))).await.ok()?;
                left.advance(written.inspect_err(takes_no_more).ok()?);
            }
            outbox.written();
            if end.is_some() {
                // Already reset by the client, perhaps; there is nothing more to say either way.
                let _ = self.stream().finish();
                return end;
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, WriteError>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut stream = self.stream();
        pin!(stream.write(bytes)).poll(cx)
    }

    /// Puts it behind what is in `out`, unless a datagram takes it.
    fn spell(&self, outgoing: &Outgoing, out: &mut BytesMut) {
        match outgoing {
            Outgoing::Begun(rest) => out.extend_from_slice(rest),
            Outgoing::Frame(frame) => self.spell_frame(frame.lend(), out),
            // QUIC probes and answers probes by itself.
            Outgoing::Ping | Outgoing::Pong(_) | Outgoing::End(_) => {}
        }
    }

    /// The same with a message.
    fn spell_frame(&self, frame: LentFrame<'_>, out: &mut BytesMut) {
        // A datagram that does not fit the path goes as a frame: slower, and not lost.
        let is_sent = matches!(frame, LentFrame::Datagram(_)) && self.session.send_datagram(frame.bytes()).is_ok();
        if !is_sent {
            framing::encode(frame.bytes(), out);
        }
    }

    fn stream(&self) -> MutexGuard<'_, SendStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shortcut for Sending {
    fn spell(&self, frame: LentFrame<'_>, out: &mut BytesMut) {
        self.spell_frame(frame, out);
    }

    fn write(&self, bytes: &[u8]) -> usize {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        }
    }

    /// QUIC works on the connection for a while when it sends, and nobody else has it meanwhile.
    fn is_for_all(&self) -> bool {
        false
    }
}

fn takes_no_more(error: &WriteError) {
    debug!(%error, "a stream takes no more");
}
