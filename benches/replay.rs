//! What a session keeps to say again after a resume: keeping a message, forgetting what was received, and finding what was missed.
//!
//! `cargo bench --bench replay`. Messages are frames of 300 bytes, for this session alone and so copied; `shared` ones are for others as well.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switchboard::{
    protocol::framing::{CowFrame, Frame},
    session::replay::{Replay, ReplayLimits},
};

/// As the server's defaults are, but for the bytes: here the number bounds.
const LIMITS: ReplayLimits = ReplayLimits { messages_max: 8_192, bytes_max: 8_192 * 1_024 };
const FRAME_BYTES: usize = 300;

criterion_group! { name = benches; config = support::criterion(); targets = keep, acknowledge, after }
criterion_main!(benches);

fn keep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/keep");
    let (own, shared) = (frame(), frame());
    let _others = shared.clone();
    // Of a client that never acknowledges the oldest is forgotten each time.
    let mut full = kept(LIMITS.messages_max);
    group.bench_function(BenchmarkId::new("full", LIMITS.messages_max), |bencher| bencher.iter(|| keep_one(&mut full, &own)));
    group.bench_function(BenchmarkId::new("full, shared", LIMITS.messages_max), |bencher| bencher.iter(|| keep_one(&mut full, &shared)));
    // One that does, often.
    let mut acknowledged = Replay::new(LIMITS);
    group.bench_function(BenchmarkId::new("acknowledged every", 32), |bencher| {
        bencher.iter(|| {
            keep_one(&mut acknowledged, &own);
            if acknowledged.sent().is_multiple_of(32) {
                acknowledged.acknowledge(acknowledged.sent()).expect("it was sent");
            }
        });
    });
}

fn acknowledge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/acknowledge");
    for messages in [1, 100, LIMITS.messages_max] {
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(BenchmarkId::new("messages", messages), |bencher| {
            let received = messages as u64;
            bencher.iter_batched_ref(|| kept(messages), |replay| replay.acknowledge(received).expect("it was sent"), BatchSize::SmallInput);
        });
    }
}

fn after(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay/after");
    for missed in [1, 100, LIMITS.messages_max] {
        let replay = kept(LIMITS.messages_max);
        let received = replay.sent() - missed as u64;
        group.throughput(Throughput::Elements(missed as u64));
        group.bench_function(BenchmarkId::new("missed", missed), |bencher| {
            bencher.iter(|| {
                black_box(&replay).after(black_box(received)).expect("all are kept").into_iter().for_each(|frame| drop(black_box(frame)))
            });
        });
    }
}

fn frame() -> CowFrame<'static> {
    Frame::Text(Bytes::from(vec![b'x'; FRAME_BYTES])).into()
}

fn keep_one(replay: &mut Replay, frame: &CowFrame<'_>) {
    replay.keep(frame);
    replay.bound(0);
}

fn kept(messages: usize) -> Replay {
    let (mut replay, frame) = (Replay::new(LIMITS), frame());
    (0..messages).for_each(|_| keep_one(&mut replay, &frame));
    replay
}
