//! Which session a secret resumes, and how much all sessions may take that wait for their clients. Each secret is good for one use.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::{Addr, Message, WeakAddr};

use super::{Session, connection::Expected};
use crate::protocol::ResumeToken;

/// The sessions that can be resumed, by their current secrets. Shared by the doors and all sessions.
pub struct Resumables {
    /// A session keeps itself by its own delivery, with a connection or without, and takes itself out of here when it ends.
    sessions: Mutex<HashMap<ResumeToken, WeakAddr<Session>>>,
    waiting: Mutex<Waiting>,
    detached_bytes_max: usize,
}

/// The sessions that wait without a connection.
#[derive(Default)]
struct Waiting {
    /// In the order of the bytes that each takes.
    sessions: BTreeMap<Size, Forget>,
    bytes: usize,
    /// How many there have been.
    count: u64,
}

/// What one of them takes, and which of all it is.
type Size = (usize, u64);

/// How one of them is told to make room.
type Forget = Box<dyn Fn(Forgotten) + Send>;

/// A session's leave to wait without a connection, with what it keeps. Given back when dropped.
pub struct Detached {
    resumables: Arc<Resumables>,
    size: Size,
}

/// The session that waits with this leave, and takes more than others, has to make room for them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forgotten {
    which: u64,
}

/// What a session takes beside what it keeps for its client, at the most: with a connection about 6 KiB were measured.
const SESSION_BYTES: usize = 8 * 1024;

impl Resumables {
    /// Sessions that wait take at most so many bytes together.
    pub fn new(detached_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { sessions: Mutex::default(), waiting: Mutex::default(), detached_bytes_max })
    }

    /// Notes a session under its new secret.
    pub fn insert(&self, token: ResumeToken, session: &Addr<Session>) {
        self.sessions().insert(token, session.downgrade());
    }

    /// Gives out the session of this secret, which from here on is used: of two rivals one gets it.
    pub fn take(&self, token: ResumeToken) -> Option<Addr<Session>> {
        let session = self.sessions().remove(&token)?;
        session.upgrade()
    }

    /// Makes this secret one of nobody.
    pub fn forget(&self, token: ResumeToken) {
        self.sessions().remove(&token);
    }

    /// Tells the session of this secret that its client is at the door, if there is one.
    pub fn expect(&self, token: ResumeToken) -> Option<Expected> {
        let session = self.sessions().get(&token)?.upgrade();
        session.map(Expected::by)
    }

    /// Lets a session wait for its client, for which it keeps so many bytes, unless that is too much. Those that take more make room: a few
    /// whose clients did not read are not to cost everybody their sessions.
    pub fn detach(self: &Arc<Self>, kept_bytes: usize, forget: impl Fn(Forgotten) + Send + 'static) -> Option<Detached> {
        let mut waiting = self.waiting();
        let size = (SESSION_BYTES + kept_bytes, waiting.count);
        waiting.count += 1;
        waiting.add(size, Box::new(forget), self.detached_bytes_max).ok().map(|()| Detached { resumables: self.clone(), size })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ResumeToken, WeakAddr<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Adds one if it can, at the cost of those that take more.
    fn add(&mut self, size: Size, forget: Forget, bytes_max: usize) -> Result<(), Forget> {
        while self.bytes + size.0 > bytes_max {
            let Some(largest) = self.sessions.last_entry().filter(|largest| largest.key().0 > size.0) else { return Err(forget) };
            let ((bytes, which), forget) = largest.remove_entry();
            self.bytes -= bytes;
            forget(Forgotten { which });
        }
        self.bytes += size.0;
        self.sessions.insert(size, forget);
        Ok(())
    }

    fn remove(&mut self, size: Size) -> Option<Forget> {
        self.sessions.remove(&size).inspect(|_| self.bytes -= size.0)
    }
}

impl Detached {
    /// Counts so many bytes as kept, in place of what was kept before. If that is too much, the session is told to make room itself.
    pub fn resize(&mut self, kept_bytes: usize) {
        let mut waiting = self.resumables.waiting();
        let Some(forget) = waiting.remove(self.size) else { return };
        self.size.0 = SESSION_BYTES + kept_bytes;
        if let Err(forget) = waiting.add(self.size, forget, self.resumables.detached_bytes_max) {
            forget(Forgotten { which: self.size.1 });
        }
    }

    /// Is it this one that has to make room?
    pub fn is_meant(&self, forgotten: &Forgotten) -> bool {
        self.size.1 == forgotten.which
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.resumables.waiting().remove(self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_share_a_bound_and_who_takes_most_makes_room() {
        let forgotten: Arc<Mutex<Vec<u64>>> = Arc::default();
        let resumables = Resumables::new(3 * SESSION_BYTES);
        let detach = |bytes| {
            let forgotten = forgotten.clone();
            resumables.detach(bytes, move |who: Forgotten| forgotten.lock().unwrap().push(who.which))
        };
        let mut large = detach(SESSION_BYTES - 1).unwrap();
        let mut small = detach(1).unwrap();
        assert!(detach(SESSION_BYTES).is_none(), "it would take the most, and there is no room for it");
        large.resize(SESSION_BYTES);
        assert_eq!(*forgotten.lock().unwrap(), [large.size.1], "nor for what would make it larger");
        large.resize(SESSION_BYTES - 1);
        let large = detach(SESSION_BYTES - 1).unwrap();
        small.resize(2);
        let kept = [detach(0).unwrap(), small];
        assert_eq!(forgotten.lock().unwrap()[1..], [large.size.1], "who takes less goes before");
        drop((kept, large));
        assert_eq!(resumables.waiting().bytes, 0);
    }
}
