//! Writes what came to the connections of a thread in one turn of its loop, past their doors.
//!
//! To wake the task of each door takes longer than to write what is there for it. So who has something for several connections of its own thread calls
//! the one postman of that thread, who makes his round when all that had arrived by then is dealt with: what came to a connection meanwhile is written
//! together.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::outbox::Outbox;

/// After so many visits the others of the thread have their turn.
const VISITS: usize = 64;

/// A longer list of calls is given back when it is empty.
const CALLS_KEPT: usize = 1024;

thread_local! {
    static ROUND: RefCell<Round> = RefCell::default();
}

#[derive(Default)]
struct Round {
    /// Who called and was not visited yet: each connection of the thread once at the most.
    calls: VecDeque<Arc<Outbox>>,
    /// How to wake the postman; none if the thread has none.
    postman: Option<Waker>,
}

/// Gives the thread its postman, unless it has one. Needs a runtime that runs tasks of the thread's own, one at a time.
pub(super) fn employ() {
    if ROUND.with_borrow(|round| round.postman.is_none()) {
        actix_rt::spawn(walk(Post));
        // Its first turn is yet to come, and needs nobody to wake it.
        ROUND.with_borrow_mut(|round| round.postman = Some(Waker::noop().clone()));
    }
}

/// Asks for a visit. False if the thread has no postman.
pub(super) fn call(outbox: &Arc<Outbox>) -> bool {
    ROUND.with_borrow_mut(|round| {
        if let Some(postman) = &round.postman {
            if round.calls.is_empty() {
                postman.wake_by_ref();
            }
            round.calls.push_back(outbox.clone());
        }
        round.postman.is_some()
    })
}

/// Held by the postman. With it goes the post: whoever still waits is told.
struct Post;

impl Drop for Post {
    fn drop(&mut self) {
        // A thread that ends may have forgotten already.
        let calls = ROUND.try_with(|round| round.take().calls).unwrap_or_default();
        calls.iter().for_each(|outbox| outbox.call_off());
    }
}

async fn walk(_post: Post) -> Infallible {
    poll_fn(round).await
}

/// Visits those who called, as many as there are for one turn.
pub(super) fn round(cx: &mut Context<'_>) -> Poll<Infallible> {
    for _ in 0..VISITS {
        let Some(outbox) = ROUND.with_borrow_mut(|round| round.calls.pop_front()) else { break };
        outbox.visit();
    }
    ROUND.with_borrow_mut(|round| {
        if !round.postman.as_ref().is_some_and(|postman| postman.will_wake(cx.waker())) {
            round.postman = Some(cx.waker().clone());
        }
        if !round.calls.is_empty() {
            cx.waker().wake_by_ref();
        } else if round.calls.capacity() > CALLS_KEPT {
            round.calls = VecDeque::new();
        }
    });
    Poll::Pending
}
