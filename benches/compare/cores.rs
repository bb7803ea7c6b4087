//! Which core serves and which one makes the load: two programs that share a core measure each other.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where threads may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the core of the servers.
    Server,
    /// On the core of the load.
    Load,
    /// On all that this program was given.
    Anywhere,
}

/// The cores that this program was given.
#[derive(Clone, Debug)]
pub struct Cores(CpuSet);

impl Cores {
    /// Those of the calling thread.
    pub fn given() -> io::Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
    }

    /// Can a server be kept apart from the load?
    pub fn are_enough(&self) -> bool {
        self.0.count() > 1
    }

    /// Confines the calling thread, and whatever it starts from now on.
    pub fn confine(&self, place: Place) -> io::Result<()> {
        let mut given = (0..CpuSet::MAX_CPU).filter(|core| self.0.is_set(*core));
        let core = match place {
            // Interrupts mostly are on the first one.
            Place::Load => given.next(),
            Place::Server => given.next_back(),
            Place::Anywhere => None,
        };
        let set = core.filter(|_| self.are_enough()).map_or_else(
            || self.0,
            |core| {
                let mut set = CpuSet::new();
                set.set(core);
                set
            },
        );
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Does something on a thread of its own that is confined so.
    pub fn at<T: Send>(&self, place: Place, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                self.confine(place)?;
                work()
            });
            confined.join().expect("what is measured does not panic")
        })
    }
}
