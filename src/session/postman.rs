//! Writes what came to the connections of a thread in one turn of its loop, past their doors.
//!
//! To wake the task of each door takes longer than to write what is there for it, and from another thread longer still. So who has something for
//! several connections calls the postman of the thread that their doors are on. He makes his round when all that had arrived there by then is dealt
//! with: what came to a connection meanwhile is written together.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
};

use super::outbox::Outbox;

/// After so many visits the others of the thread have their turn.
const VISITS: usize = 64;
/// A longer list of calls is given back when it is empty.
const CALLS_KEPT: usize = 1024;

thread_local! {
    static HERE: RefCell<Weak<Post>> = const { RefCell::new(Weak::new()) };
}

/// Where the postman of a thread is called.
pub struct Post {
    thread: ThreadId,
    round: Mutex<Round>,
}

struct Round {
    /// Who called and was not visited yet: each connection of the thread once at the most.
    calls: VecDeque<Arc<Outbox>>,
    /// How to wake the postman; none once he is gone.
    postman: Option<Waker>,
}

/// With him goes the post: whoever still waits is told.
struct Postman(Arc<Post>);

impl Post {
    /// That of this thread, on which tasks of its own have to run.
    pub(super) fn here() -> Arc<Self> {
        HERE.with_borrow_mut(|here| {
            here.upgrade().filter(|post| post.round().postman.is_some()).unwrap_or_else(|| {
                // The postman's first turn is yet to come, and needs nobody to wake him.
                let post = Arc::new(Self::new(Some(Waker::noop().clone())));
                actix_rt::spawn(Postman(post.clone()).walk());
                *here = Arc::downgrade(&post);
                post
            })
        })
    }

    /// One of this thread, with this postman if with any.
    pub(super) fn new(postman: Option<Waker>) -> Self {
        Self { thread: thread::current().id(), round: Round { calls: VecDeque::new(), postman }.into() }
    }

    /// Is it that of this thread?
    pub(super) fn is_here(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// Asks for a visit, from any thread. False if nobody will come.
    pub(super) fn call(&self, outbox: &Arc<Outbox>) -> bool {
        let mut round = self.round();
        if let Some(postman) = &round.postman {
            if round.calls.is_empty() {
                postman.wake_by_ref();
            }
            round.calls.push_back(outbox.clone());
        }
        round.postman.is_some()
    }

    /// Visits those who called, as many as there are for one turn.
    pub(super) fn poll_round(&self, cx: &mut Context<'_>) -> Poll<Infallible> {
        for _ in 0..VISITS {
            let Some(outbox) = self.round().calls.pop_front() else { break };
            outbox.visit();
        }
        let mut round = self.round();
        if !round.postman.as_ref().is_some_and(|postman| postman.will_wake(cx.waker())) {
            round.postman = Some(cx.waker().clone());
        }
        if !round.calls.is_empty() {
            cx.waker().wake_by_ref();
        } else if round.calls.capacity() > CALLS_KEPT {
            round.calls = VecDeque::new();
        }
        Poll::Pending
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Postman {
    async fn walk(self) -> Infallible {
        poll_fn(|cx| self.0.poll_round(cx)).await
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        let mut round = self.0.round();
        round.postman = None;
        let calls = std::mem::take(&mut round.calls);
        drop(round);
        calls.iter().for_each(|outbox| outbox.call_off());
    }
}
