//! Which session a secret resumes, and how much all sessions may take that wait for their clients. Each secret is good for one use.

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
    detached_bytes: AtomicUsize,
    detached_bytes_max: usize,
}

/// A session's leave to wait without a connection, with what it keeps. Given back when dropped.
pub struct Detached {
    resumables: Arc<Resumables>,
    bytes: usize,
}

/// What a session takes beside what it keeps for its client: about as much memory as was measured.
const SESSION_BYTES: usize = 8 * 1024;

impl Resumables {
    /// Sessions that wait take at most so many bytes together.
    pub fn new(detached_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { sessions: Mutex::default(), detached_bytes: AtomicUsize::new(0), detached_bytes_max })
    }

    /// Notes a session under its new secret.
    pub fn insert(&self, token: ResumeToken, session: Addr<Session>) {
        self.sessions().insert(token, session);
    }

    /// Gives out the session of this secret, which from here on is used: of two rivals one gets it.
    pub fn take(&self, token: ResumeToken) -> Option<Addr<Session>> {
        self.sessions().remove(&token)
    }

    /// Lets a session wait for its client, for which it keeps so many bytes, unless that is too much.
    pub fn detach(self: &Arc<Self>, kept_bytes: usize) -> Option<Detached> {
        let mut detached = Detached { resumables: self.clone(), bytes: 0 };
        detached.keep(SESSION_BYTES + kept_bytes).then_some(detached)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ResumeToken, Addr<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detached {
    /// Counts more bytes that are kept. False if that is too much.
    pub fn keep(&mut self, bytes: usize) -> bool {
        let more = |before: usize| Some(before + bytes).filter(|after| *after <= self.resumables.detached_bytes_max);
        let taken = self.resumables.detached_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.resumables.detached_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_share_a_bound() {
        let resumables = Resumables::new(2 * SESSION_BYTES + 10);
        let mut first = resumables.detach(4).unwrap();
        let second = resumables.detach(5).unwrap();
        assert!(resumables.detach(0).is_none());
        assert!(first.keep(1) && !first.keep(1));
        drop(first);
        assert!(resumables.detach(5).is_some());
        drop(second);
        assert_eq!(resumables.detached_bytes.load(Ordering::Relaxed), 0);
    }
}
