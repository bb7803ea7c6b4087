//! What is about to be written, on its way from an outbox to a socket: one buffer for all connections of a thread.

use std::cell::RefCell;

use bytes::BytesMut;

/// Bytes that are written at once, about.
pub const WRITE_BYTES: usize = 64 * 1024;
/// A buffer that a large message has made larger than this is given back.
const KEPT_BYTES: usize = 4 * WRITE_BYTES;

thread_local! {
    static DEPARTING: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(WRITE_BYTES));
}

/// Lends the thread's buffer, empty.
pub fn with_buffer<T>(fill: impl FnOnce(&mut BytesMut) -> T) -> T {
    DEPARTING.with_borrow_mut(|departing| {
        departing.clear();
        let filled = fill(departing);
        if departing.capacity() > KEPT_BYTES {
            *departing = BytesMut::with_capacity(WRITE_BYTES);
        }
        filled
    })
}
