//! How much of what a client sends is read before others of its thread have their turn.

use tokio::task::yield_now;

/// Frames that are read, or handed over at once, before others of the thread have their turn, at the most: a flood of small ones leaves them theirs.
pub const BATCH_FRAMES: usize = 64;
/// So many bytes take about as long as a frame.
pub const FRAME_BYTES: usize = 1024;

/// Frames that may be read yet before others have their turn. It counts over all reads between which nobody waited, however they cut what comes.
pub struct Allowance(usize);

impl Allowance {
    /// Of who has read nothing since others had their turn.
    pub const fn whole() -> Self {
        Self(BATCH_FRAMES)
    }

    /// Is there nothing left of it?
    pub const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Takes so many frames off it, as far as it goes.
    pub const fn spend(&mut self, frames: usize) {
        self.0 = self.0.saturating_sub(frames);
    }

    /// Takes all of it.
    pub const fn spend_all(&mut self) {
        self.0 = 0;
    }

    /// Others have their turn while one waits: then it is whole again, and what comes together is heard together.
    pub const fn renew(&mut self) {
        *self = Self::whole();
    }

    /// Leaves others their turn where it is spent.
    pub async fn turn(&mut self) {
        if self.is_spent() {
            self.renew();
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_spent_it_leaves_others_their_turn_once() {
        let mut allowance = Allowance::whole();
        allowance.spend(BATCH_FRAMES - 1);
        assert!(allowance.turn().now_or_never().is_some());
        allowance.spend(2);
        assert!(allowance.turn().now_or_never().is_none());
        assert!(allowance.turn().now_or_never().is_some());
        allowance.spend(BATCH_FRAMES - 1);
        assert!(!allowance.is_spent());
        allowance.renew();
        allowance.spend(BATCH_FRAMES - 1);
        assert!(!allowance.is_spent());
    }
}
