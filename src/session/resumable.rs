//! Which session a secret resumes. Each secret is good for one use.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use actix::Addr;

use super::Session;
use crate::protocol::ResumeToken;

/// The sessions that can be resumed, by their current secrets. Shared by the doors and all sessions.
#[derive(Default)]
pub struct Resumables(Mutex<HashMap<ResumeToken, Addr<Session>>>);

impl Resumables {
    /// Notes a session under its new secret.
    pub fn insert(&self, token: ResumeToken, session: Addr<Session>) {
        self.map().insert(token, session);
    }

    /// Gives out the session of this secret, which from here on is used: of two rivals one gets it.
    pub fn take(&self, token: ResumeToken) -> Option<Addr<Session>> {
        self.map().remove(&token)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<ResumeToken, Addr<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
