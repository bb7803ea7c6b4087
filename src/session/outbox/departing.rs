//! What is about to be written, on its way from an outbox to a socket or a stream: one buffer for all connections of a thread.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;

use super::{Outbox, Outgoing};

/// Bytes that are written at once, about.
pub(super) const WRITE_BYTES: usize = 64 * 1024;
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
    poll_fn(|cx| {
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

/// Lends the thread's buffer, empty.
pub(super) fn with_buffer<T>(fill: impl FnOnce(&mut BytesMut) -> T) -> T {
    DEPARTING.with_borrow_mut(|departing| {
        departing.clear();
        let filled = fill(departing);
        if departing.capacity() > KEPT_BYTES {
            *departing = BytesMut::with_capacity(WRITE_BYTES);
        }
        filled
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible, future::pending, pin::pin, sync::Arc, task::Waker};

    use futures_util::future::Either;

    use super::{
        super::tests::{Wakes, opened},
        *,
    };
    use crate::{
        protocol::{CloseCode, framing::Frame},
        session::backlog::Backlog,
    };

    /// Takes all that there is, and leaves its words.
    async fn batch(outbox: &Outbox) -> BytesMut {
        let spell = |outgoing: &Outgoing, out: &mut BytesMut| out.extend_from_slice(format!("{outgoing:?};").as_bytes());
        write_batch(outbox, spell, |_, _| Poll::Ready(Ok::<_, Infallible>(0))).await.unwrap()
    }

    #[test]
    fn who_asked_is_not_polled_again_and_is_woken_by_all_that_there_is_to_write() {
        type Happening = fn(&Arc<Outbox>);
        let news: [(&str, Happening); 5] = [
            ("Frame", |outbox| assert!(outbox.push(Frame::Text("hi".into()), None, None))),
            ("Ping", |outbox| outbox.ping()),
            ("Pong", |outbox| outbox.pong("hi".into())),
            ("End", |outbox| outbox.close(CloseCode::Draining, None)),
            ("Frame", |outbox| outbox.open(Backlog::new(10_000, Arc::default()), [Frame::Text("hi".into())])),
        ];
        for (what, happen) in news {
            let (outbox, wakes) = (opened(), Arc::new(Wakes::default()));
            let waker = Waker::from(wakes.clone());
            let mut cx = Context::from_waker(&waker);
            let polls = Cell::new(0);
            let mut batch = pin!(batch(&outbox));
            let counted = poll_fn(|cx| {
                polls.set(polls.get() + 1);
                batch.as_mut().poll(cx)
            });
            let mut asking = pin!(outbox.run_unless_idle(counted, pending::<()>()));
            for _ in 0..3 {
                assert!(asking.as_mut().poll(&mut cx).is_pending(), "{what}");
            }
            assert_eq!((polls.get(), wakes.count()), (1, 0), "{what}");
            happen(&outbox);
            assert_eq!(wakes.count(), 1, "{what}");
            let Poll::Ready(Either::Left(written)) = asking.as_mut().poll(&mut cx) else { panic!("{what} is not written") };
            assert!(written.starts_with(what.as_bytes()), "{what}: {written:?}");
        }
    }

    #[test]
    fn who_asks_after_another_is_the_one_that_is_woken() {
        let (outbox, before, after) = (opened(), Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        assert!(pin!(batch(&outbox)).poll(&mut Context::from_waker(&Waker::from(before.clone()))).is_pending());
        let waker = Waker::from(after.clone());
        let mut asking = pin!(batch(&outbox));
        assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(outbox.push(Frame::Text("hi".into()), None, None));
        assert_eq!((before.count(), after.count()), (0, 1));
        assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
}
