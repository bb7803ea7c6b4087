//! What is about to be written, on its way from an outbox to a socket or a stream: one buffer for all connections of a thread.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use crate::{
    protocol::framing::Frame,
    session::outbox::{Outbox, Outgoing},
};

/// Bytes that are written at once, about.
const WRITE_BYTES: usize = 64 * 1024;
/// A buffer that a large message has made larger than this is given back.
const KEPT_BYTES: usize = 4 * WRITE_BYTES;

thread_local! {
    static DEPARTING: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(WRITE_BYTES));
}

/// Waits until the outbox has something, and writes all of it as `spell` spells it, as far as it is taken at once; what is left of it.
pub async fn write_batch<Error>(
    outbox: &Outbox,
    mut spell: impl FnMut(&Outgoing, &mut BytesMut),
    write: impl Fn(&mut Context<'_>, &[u8]) -> Poll<Result<usize, Error>>,
) -> Result<BytesMut, Error> {
    let mut has_asked = false;
    poll_fn(|cx| {
        // This is polled with all that the client says, most of which is for others.
        if has_asked && outbox.is_idle() {
            return Poll::Pending;
        }
        has_asked = true;
        with_buffer(|departing| {
            ready!(outbox.poll_take(cx, |outgoing| {
                spell(&outgoing, departing);
                departing.len() < WRITE_BYTES
            }));
            let written = match write(cx, departing) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            Poll::Ready(Ok(BytesMut::from(&departing[written..])))
        })
    })
    .await
}

/// Writes what `next` gives, as far as it is taken at once; what is left of it. Where writing fails, the door will see why.
pub fn write_past_door(
    next: &mut dyn FnMut() -> Option<Frame>,
    spell: impl Fn(&Outgoing, &mut BytesMut),
    write: impl FnOnce(&[u8]) -> Option<usize>,
) -> Bytes {
    with_buffer(|departing| {
        while departing.len() < WRITE_BYTES
            && let Some(frame) = next()
        {
            spell(&Outgoing::Frame(frame), departing);
        }
        let written = if departing.is_empty() { 0 } else { write(departing).unwrap_or(0) };
        Bytes::copy_from_slice(&departing[written..])
    })
}

/// Lends the thread's buffer, empty.
fn with_buffer<T>(fill: impl FnOnce(&mut BytesMut) -> T) -> T {
    DEPARTING.with_borrow_mut(|departing| {
        departing.clear();
        let filled = fill(departing);
        if departing.capacity() > KEPT_BYTES {
            *departing = BytesMut::with_capacity(WRITE_BYTES);
        }
        filled
    })
}
