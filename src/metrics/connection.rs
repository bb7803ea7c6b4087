//! What one connection adds to the counts, for as long as it is there.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use super::{
    Metrics,
    labels::{DialectName, Door, Way},
};

/// A connection of a client, counted as open until this is dropped, and as a peer while its client is in a room.
pub struct ConnectionMeter {
    metrics: Arc<Metrics>,
    dialect: DialectName,
    /// The index of its door, and whether its client is in a room. One number, so that who changes the one knows the other.
    state: AtomicU8,
}

const IS_PEER: u8 = 0x80;

impl ConnectionMeter {
    /// Counts one that is opened.
    pub fn new(metrics: Arc<Metrics>, door: Door, dialect: DialectName) -> Self {
        let meter = Self { metrics, dialect, state: AtomicU8::new(door as u8) };
        meter.metrics.connection_opened(meter.way(door as u8));
        meter
    }

    /// Where everything else is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The door that it is at.
    pub fn door(&self) -> Door {
        self.way(self.state.load(Ordering::Relaxed)).door
    }

    /// It goes on at another door, which counts as a connection opened there.
    pub fn change_door(&self, door: Door) {
        let before = self.change(|state| state & IS_PEER | door as u8);
        self.metrics.connection_closed(self.way(before));
        self.metrics.connection_opened(self.way(door as u8));
        if before & IS_PEER != 0 {
            self.metrics.peers(self.way(before), -1);
            self.metrics.peers(self.way(door as u8), 1);
        }
    }

    /// Notes whether its client is in a room; whether that is news.
    pub fn set_peer(&self, is_peer: bool) -> bool {
        let before = self.change(|state| if is_peer { state | IS_PEER } else { state & !IS_PEER });
        let is_news = (before & IS_PEER != 0) != is_peer;
        if is_news {
            self.metrics.peers(self.way(before), if is_peer { 1 } else { -1 });
        }
        is_news
    }

    fn change(&self, change: impl Fn(u8) -> u8) -> u8 {
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(change(state))).unwrap_or_else(|state| state)
    }

    fn way(&self, state: u8) -> Way {
        Way { door: Door::ALL[usize::from(state & !IS_PEER)], dialect: self.dialect }
    }
}

impl Drop for ConnectionMeter {
    fn drop(&mut self) {
        self.set_peer(false);
        self.metrics.connection_closed(self.way(self.state.load(Ordering::Relaxed)));
    }
}
