//! Joining and leaving a room of 10, 1,000 and 100,000 peers, and beside it the bare measure: its presence handed to each, and nothing else.
//!
//! `cargo bench --bench rooms`. To `nowhere` it is the cost of the rules alone. `keepers` spell what they are told and keep it, as sessions do:
//! there a join should take at most one and a half times the bare fan-out. Filling a room with 100,000 announces each of them to all who are
//! there, which takes a minute, so tests leave that room out.

mod support;

use std::{
    cell::{OnceCell, RefCell},
    env,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{Keeper, Nowhere, room};
use switchboard::{
    protocol::{Codec, Envelope, LeaveReason, Peer, PeerId, RoomId, ServerMessage},
    registry::{
        inlet::Inlet,
        rooms::{Entry, RoomLimits, Rooms},
    },
};

const LIMITS: RoomLimits = RoomLimits { rooms_max: 1, peers_max: usize::MAX, metadata_bytes_max: 0, quiet_peers_max: 0 };

criterion_group! { name = benches; config = support::criterion(); targets = nowhere, keepers }
criterion_main!(benches);

fn nowhere(criterion: &mut Criterion) {
    let inlet: Arc<dyn Inlet> = Arc::new(Nowhere);
    let is_bench = env::args().any(|arg| arg == "--bench");
    for peers in [10, 1_000, 100_000].into_iter().filter(|peers| is_bench || *peers <= 1_000) {
        bench(criterion, "nowhere", peers, || inlet.clone());
    }
}

fn keepers(criterion: &mut Criterion) {
    for peers in [10, 1_000] {
        bench(criterion, "keepers", peers, || Keeper::inlet(Codec::Json));
    }
}

fn bench(criterion: &mut Criterion, to: &str, peers: usize, inlet: impl Fn() -> Arc<dyn Inlet>) {
    let mut group = criterion.benchmark_group(format!("rooms/{to}"));
    group.throughput(Throughput::Elements(peers as u64));
    // Made when the first bench that was asked for needs it.
    let full = OnceCell::new();
    let full = || full.get_or_init(|| RefCell::new(Full::new(peers, &inlet)));
    // The room is filled outside of what Criterion watches, from which it guesses how often to measure.
    group.bench_function(BenchmarkId::new("join", peers), |bencher| {
        let mut full = full().borrow_mut();
        bencher.iter_custom(|times| full.come_and_go(times).0);
    });
    group.bench_function(BenchmarkId::new("leave", peers), |bencher| {
        let mut full = full().borrow_mut();
        bencher.iter_custom(|times| full.come_and_go(times).1);
    });
    group.bench_function(BenchmarkId::new("bare fan-out", peers), |bencher| {
        let full = full().borrow();
        bencher.iter(|| full.fan_out());
    });
}

/// A room with its peers, and one more who comes and goes.
struct Full {
    rooms: Rooms,
    inlets: Vec<Arc<dyn Inlet>>,
    comer: (PeerId, Arc<dyn Inlet>),
    /// The name of the room.
    id: RoomId,
}

impl Full {
    fn new(peers: usize, inlet: &impl Fn() -> Arc<dyn Inlet>) -> Self {
        let (mut rooms, id) = (Rooms::new(LIMITS), room(1));
        let inlets: Vec<_> = (0..peers).map(|_| inlet()).collect();
        for inlet in &inlets {
            rooms.join(PeerId::random(), inlet.clone(), id.clone(), Entry::default()).expect("there is room");
        }
        Self { rooms, inlets, comer: (PeerId::random(), inlet()), id }
    }

    /// The time that coming took, and the time that going took.
    fn come_and_go(&mut self, times: u64) -> (Duration, Duration) {
        let (mut coming, mut going) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..times {
            let (peer_id, inlet, id) = (self.comer.0, self.comer.1.clone(), self.id.clone());
            let begin = Instant::now();
            self.rooms.join(peer_id, inlet, id, Entry::default()).expect("there is room");
            coming += begin.elapsed();
            let begin = Instant::now();
            self.rooms.leave(peer_id, &self.id, Some(LeaveReason::Left));
            going += begin.elapsed();
        }
        (coming, going)
    }

    fn fan_out(&self) {
        let peer = Peer { peer_id: self.comer.0, metadata: None, user: None, name: None };
        let envelope = Envelope::new(ServerMessage::PeerJoined { room: self.id.clone(), peer });
        for inlet in &self.inlets {
            let _ = black_box(inlet.deliver(&envelope));
        }
    }
}
