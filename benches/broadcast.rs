//! Spelling one broadcast for all who get it, each in its own dialect: once per codec, and bytes that are shared after that.
//!
//! `cargo bench --bench broadcast`. A payload of 1,024 bytes, sent as JSON, for 1, 100 and 1,000 recipients: all of the sender's codec, or every
//! second one of the other.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{application_message, room};
use switchboard::{
    dialect::{Dialect, Native},
    protocol::{Codec, Envelope, Kind, PeerId, ServerMessage},
};

criterion_group! { name = benches; config = support::criterion(); targets = spell }
criterion_main!(benches);

fn spell(criterion: &mut Criterion) {
    let (from, room, payload) = (PeerId::random(), room(1), application_message());
    for (name, codecs) in [("one codec", [Codec::Json, Codec::Json]), ("both codecs", [Codec::MsgPack, Codec::Json])] {
        let mut group = criterion.benchmark_group(format!("broadcast/{name}"));
        for recipients in [1, 100, 1_000] {
            let dialects: Vec<Box<dyn Dialect>> = (0..recipients).map(|n| Box::new(Native(codecs[n % 2])) as _).collect();
            group.throughput(Throughput::Elements(recipients as u64));
            group.bench_with_input(BenchmarkId::new("recipients", recipients), &dialects, |bencher, dialects| {
                bencher.iter(|| {
                    let (room, payload) = (room.clone(), payload.clone());
                    let message = ServerMessage::Forwarded { kind: Kind::Message, from, room, payload, to: None, best_effort: false };
                    let envelope = Envelope::new(message);
                    for dialect in dialects {
                        black_box(dialect.encode(&envelope));
                    }
                });
            });
        }
    }
}
