//! How many clients there may be, and the place that each has meanwhile: one to stay at, or one to be told in that it cannot stay.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::address::Visit;
use crate::{
    dialect::Dialect,
    protocol::{CloseCode, ServerMessage},
    registry::drain::DrainWindow,
    session::{
        connection::{AddressShare, Connection},
        outbox::Outbox,
    },
};

/// How many clients there are, and whether more may come.
pub struct Clients {
    now: AtomicUsize,
    /// Those who are only there to be told that they cannot stay.
    refused: AtomicUsize,
    max: usize,
    draining: watch::Sender<Option<DrainWindow>>,
    /// Wakes whoever waits for the last one to go.
    gone: tokio::sync::Notify,
}

/// A client's place. Given back when dropped.
pub struct Place {
    clients: Arc<Clients>,
    pub(super) visit: Arc<Visit>,
    /// Why the client has to go again, unless it is in already by another connection.
    pub refusal: Option<CloseCode>,
    /// What the client brought in the address of its connection to prove who it is.
    pub(super) token: Option<String>,
    /// Is it one of those that clients may stay at?
    stays: AtomicBool,
}

impl Place {
    /// With what the client brought in the address of its connection.
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// What a door brings to a session that takes this place.
    pub fn connection(self: &Arc<Self>, dialect: Arc<dyn Dialect>, outbox: Arc<Outbox>) -> Connection {
        let address = AddressShare { address: self.visit.client, visit: self.visit.clone(), joins: self.visit.joins.clone() };
        Connection { dialect, outbox, address, place: self.clone() }
    }

    /// Waits for what a client has to do before it is in, and tells why it is not if that takes too long. One that is refused can only be let in for
    /// what it says, so it is not waited for long.
    pub async fn wait<T>(&self, step: impl Future<Output = T>, patience: Duration, too_late: CloseCode) -> Result<T, CloseCode> {
        let patience = if self.refusal.is_some() { patience.min(REFUSED_PATIENCE) } else { patience };
        timeout(patience, step).await.map_err(|_| self.refusal.unwrap_or(too_late))
    }

    /// Makes it one to stay at, if there is one left.
    pub(super) fn reserve(&self) -> bool {
        let reserved = take_one(&self.clients.now, self.clients.max);
        if reserved {
            self.clients.refused.fetch_sub(1, Ordering::Relaxed);
            self.stays.store(true, Ordering::Relaxed);
        }
        reserved
    }

    /// Makes one that was reserved what it was before.
    pub(super) fn give_back(&self) {
        if self.refusal.is_some() && self.stays.swap(false, Ordering::Relaxed) {
            self.clients.refused.fetch_add(1, Ordering::Relaxed);
            self.clients.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Makes it one to stay at in place of the client's earlier one, which is soon gone.
    pub(super) fn take_over(&self, before: &Self) {
        if !self.stays.load(Ordering::Relaxed) && before.stays.swap(false, Ordering::Relaxed) {
            self.stays.store(true, Ordering::Relaxed);
        }
    }
}

/// Counts one more, if there are less than `max`.
fn take_one(counter: &AtomicUsize, max: usize) -> bool {
    let more = |count| (count < max).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// So many clients beyond the bound are told why they have to go; more are turned away without a word.
const REFUSED_MAX: usize = 64;
/// A client that is refused has so long to say that it is in already, by another connection.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);

impl Clients {
    /// At most `max` clients.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            now: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            max,
            draining: watch::Sender::new(None),
            gone: tokio::sync::Notify::new(),
        })
    }

    /// Gives a place to a client, perhaps only to hear the reason why there is none; just the reason when even that is too much.
    pub fn admit(self: &Arc<Self>, visit: Arc<Visit>) -> Result<Place, CloseCode> {
        let reason =
            if self.is_draining() { Some(CloseCode::Draining) } else { visit.is_too_many.then_some(CloseCode::TooManyConnections) };
        let stays = reason.is_none() && take_one(&self.now, self.max);
        if stays {
            return Ok(Place { clients: self.clone(), visit, refusal: None, token: None, stays: true.into() });
        }
        let reason = reason.unwrap_or(CloseCode::ServerFull);
        match take_one(&self.refused, REFUSED_MAX) {
            true => Ok(Place { clients: self.clone(), visit, refusal: Some(reason), token: None, stays: false.into() }),
            false => Err(reason),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// How many connections there may be at once: those who stay, and those who are told that they cannot.
    pub fn connections_max(&self) -> usize {
        self.max + REFUSED_MAX
    }

    /// Are there as many as there may be?
    pub fn is_full(&self) -> bool {
        self.count() >= self.max
    }

    /// Takes no more.
    pub fn drain(&self, window: DrainWindow) {
        self.draining.send_replace(Some(window));
    }

    /// Are no more taken?
    pub fn is_draining(&self) -> bool {
        self.draining.borrow().is_some()
    }

    /// What to say to a client that is not taken.
    pub fn goodbye(&self, code: CloseCode) -> ServerMessage<'static> {
        match *self.draining.borrow() {
            Some(window) if code == CloseCode::Draining => window.goodbye(Instant::now()),
            _ => ServerMessage::goodbye(code),
        }
    }

    /// Waits until no more are taken.
    pub async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        draining.wait_for(Option::is_some).await.expect("the sender is in self");
    }

    /// Waits until the last one has gone.
    pub async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.count() + self.refused.load(Ordering::Relaxed) == 0 {
                return;
            }
            gone.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counter = if self.stays.load(Ordering::Relaxed) { &self.clients.now } else { &self.clients.refused };
        if counter.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.clients.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::address::{AddressLimits, Addresses},
        *,
    };

    #[test]
    fn clients_are_admitted_to_the_bound_then_told_then_dropped() {
        let clients = Clients::new(1);
        let addresses = Addresses::new(None, vec![]);
        let admit = || clients.admit(Arc::new(addresses.visit([192, 0, 2, 1].into(), Instant::now())));
        let first = admit().unwrap();
        assert_eq!(first.refusal, None);
        let refused: Vec<_> = (0..REFUSED_MAX).map(|_| admit().unwrap()).collect();
        assert!(refused.iter().all(|place| place.refusal == Some(CloseCode::ServerFull)));
        assert_eq!(admit().err(), Some(CloseCode::ServerFull));
        drop(first);
        assert_eq!(admit().unwrap().refusal, None, "those who are refused take nobody's place");
        let (full, before) = (&refused[0], admit().unwrap());
        assert!(!full.reserve(), "there is none left");
        full.take_over(&before);
        assert_eq!(clients.count(), 1);
        drop(before);
        assert_eq!(clients.count(), 1, "the place is another's");
        drop(refused);
        assert_eq!((clients.count(), clients.refused.load(Ordering::Relaxed)), (0, 0));
        let addresses = Addresses::new(Some(AddressLimits { connections_max: 0, joins_per_second: 1 }), vec![]);
        let many = clients.admit(Arc::new(addresses.visit([192, 0, 2, 1].into(), Instant::now()))).unwrap();
        assert_eq!(many.refusal, Some(CloseCode::TooManyConnections));
        assert!(many.reserve() && clients.is_full());
        many.give_back();
        assert!(!clients.is_full());
        drop(many);
        assert_eq!((clients.count(), clients.refused.load(Ordering::Relaxed)), (0, 0));
        clients.drain(DrainWindow::open(Duration::ZERO, Instant::now()));
        assert_eq!(admit().unwrap().refusal, Some(CloseCode::Draining));
    }
}
