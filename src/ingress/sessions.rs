//! What the sessions behind all doors have in common.

use std::{sync::Arc, time::Duration};

use actix::Addr;

use crate::{
    config::{Limits, Timeouts},
    protocol::ClientRates,
    registry::RoomRegistry,
    session::{SessionSettings, Shared, replay::ReplayLimits, resumable::Resumables},
};

/// What sessions share: those whose clients may come back, and those whose dialect has no word for it.
pub struct Sessions {
    resumable: Arc<Shared>,
    passing: Arc<Shared>,
}

impl Sessions {
    /// For a server that bounds its clients like this.
    pub fn new(limits: &Limits, timeouts: &Timeouts, rates: Option<ClientRates>, registry: Addr<RoomRegistry>) -> Self {
        let resumables = Resumables::new(limits.detached_bytes_max);
        let shared = |resume_window: Duration| {
            // What nobody can come back for need not be kept.
            let kept = |max: usize| if resume_window.is_zero() { 0 } else { max };
            let settings = SessionSettings {
                rooms_max: limits.rooms_per_client_max,
                room_name_bytes_max: limits.room_name_bytes_max,
                metadata_bytes_max: limits.metadata_bytes_max,
                nesting_max: limits.nesting_max,
                rates_max: rates,
                outbox_bytes_max: limits.outbox_bytes_max,
                slow_peer: timeouts.slow_peer(),
                replay: ReplayLimits { messages_max: kept(limits.replay_messages_max), bytes_max: kept(limits.replay_bytes_max) },
                resume_window,
                welcome_lost_after: timeouts.heartbeat() / 2,
            };
            Arc::new(Shared { settings, registry: registry.clone(), resumables: resumables.clone() })
        };
        Self { resumable: shared(timeouts.resume_window()), passing: shared(Duration::ZERO) }
    }

    /// What those share whose clients may come back, or those whose clients cannot.
    pub fn shared(&self, resumes: bool) -> Arc<Shared> {
        if resumes { self.resumable.clone() } else { self.passing.clone() }
    }

    /// How fast each client may send; not bounded if missing.
    pub fn rates(&self) -> Option<ClientRates> {
        self.resumable.settings.rates_max
    }

    /// Who knows the rooms.
    pub fn registry(&self) -> &Addr<RoomRegistry> {
        &self.resumable.registry
    }

    /// Who may come back.
    pub fn resumables(&self) -> &Resumables {
        &self.resumable.resumables
    }
}
