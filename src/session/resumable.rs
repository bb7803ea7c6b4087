//! Which session a secret resumes, and how many sessions may wait for their clients. Each secret is good for one use.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::Addr;

use super::Session;
use crate::protocol::ResumeToken;

/// The sessions that can be resumed, by their current secrets. Shared by the doors and all sessions.
pub struct Resumables {
    sessions: Mutex<HashMap<ResumeToken, Addr<Session>>>,
    detached: AtomicUsize,
    detached_max: usize,
}

/// A session's leave to wait without a connection. Given back when dropped.
pub struct Detached(Arc<Resumables>);

impl Resumables {
    /// At most `detached_max` sessions wait at the same time.
    pub fn new(detached_max: usize) -> Arc<Self> {
        Arc::new(Self { sessions: Mutex::default(), detached: AtomicUsize::new(0), detached_max })
    }

    /// Notes a session under its new secret.
    pub fn insert(&self, token: ResumeToken, session: Addr<Session>) {
        self.sessions().insert(token, session);
    }

    /// Gives out the session of this secret, which from here on is used: of two rivals one gets it.
    pub fn take(&self, token: ResumeToken) -> Option<Addr<Session>> {
        self.sessions().remove(&token)
    }

    /// Lets a session wait for its client, unless too many do.
    pub fn detach(self: &Arc<Self>) -> Option<Detached> {
        let more = |count| (count < self.detached_max).then_some(count + 1);
        let taken = self.detached.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Detached(self.clone()))
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ResumeToken, Addr<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.detached.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_and_one_more_when_one_is_back() {
        let resumables = Resumables::new(1);
        let first = resumables.detach();
        assert!(first.is_some() && resumables.detach().is_none());
        drop(first);
        assert!(resumables.detach().is_some());
    }
}
