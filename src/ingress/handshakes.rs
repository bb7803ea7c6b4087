//! Handshakes under way: so many at once, and for one more the oldest gives way. An honest one is soon over, one that is only begun is not, so
//! those that are driven out are those that were only begun, unless a flood begins as many as there may be in the time of one round trip.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::metrics::HandshakeFailure;

/// The handshakes of one listener.
pub struct Handshakes {
    max: usize,
    /// How long one may take.
    patience: Duration,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    begun: u64,
    /// In the order in which they began. Whoever is taken out gives up.
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

/// Why a handshake did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenUp {
    /// It took too long.
    #[error("a handshake took too long")]
    TooSlow,
    /// Too many others began after it.
    #[error("a handshake gave way to others")]
    GaveWay,
}

impl From<GivenUp> for HandshakeFailure {
    fn from(given_up: GivenUp) -> Self {
        match given_up {
            GivenUp::TooSlow => Self::TooSlow,
            GivenUp::GaveWay => Self::GaveWay,
        }
    }
}

impl Handshakes {
    /// None is under way.
    pub fn new(max: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { max, patience, under_way: Mutex::default() })
    }

    /// Are there so many that a newcomer should first prove who it is?
    pub fn are_many(&self) -> bool {
        self.under_way().places.len() >= self.max.div_ceil(2)
    }

    /// Begins one; the oldest gives way if there are too many.
    pub fn begin(self: &Arc<Self>) -> Handshake {
        let (stays, gives_way) = oneshot::channel();
        let mut under_way = self.under_way();
        if under_way.places.len() >= self.max {
            under_way.places.pop_first();
        }
        let number = under_way.begun;
        under_way.begun += 1;
        under_way.places.insert(number, stays);
        Handshake { handshakes: self.clone(), number, gives_way }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them. Over when dropped.
pub struct Handshake {
    handshakes: Arc<Handshakes>,
    number: u64,
    gives_way: oneshot::Receiver<()>,
}

impl Handshake {
    /// Sees it to its end, if that comes in time.
    pub async fn run<T>(mut self, handshake: impl Future<Output = T>) -> Result<T, GivenUp> {
        tokio::select! {
            biased;
            _ = &mut self.gives_way => Err(GivenUp::GaveWay),
            done = timeout(self.handshakes.patience, handshake) => done.map_err(|_| GivenUp::TooSlow),
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.handshakes.under_way().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn for_one_too_many_the_oldest_gives_way() {
        let handshakes = Handshakes::new(2, Duration::MAX);
        let begin = || tokio::spawn(handshakes.begin().run(pending::<()>()));
        let [first, second] = [begin(), begin()];
        assert!(handshakes.are_many());
        assert_eq!(handshakes.begin().run(ready(7)).await, Ok(7));
        assert_eq!(first.await.unwrap(), Err(GivenUp::GaveWay));
        assert!(!second.is_finished());
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!handshakes.are_many() && handshakes.under_way().places.is_empty());
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_given_up() {
        let handshakes = Handshakes::new(1, Duration::ZERO);
        assert_eq!(handshakes.begin().run(pending::<()>()).await, Err(GivenUp::TooSlow));
        assert!(handshakes.under_way().places.is_empty());
    }
}
