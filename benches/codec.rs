//! Reading what clients say and spelling what they are told, in either codec, and turning a payload of the one into one of the other.
//!
//! `cargo bench --bench codec`. Frames go through the native dialect, as they do in a session; the sizes named are those of whole frames.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{CODECS, application_message, candidate, metadata, offer, room};
use switchboard::{
    dialect::{Dialect, Native},
    protocol::{ClientMessage, Codec, Kind, Payload, Peer, PeerId, Request, ServerMessage, framing::Frame},
};

const NESTING_MAX: usize = 64;

criterion_group! { name = benches; config = support::criterion(); targets = decode, encode, transcode }
criterion_main!(benches);

fn decode(criterion: &mut Criterion) {
    for (codec, name) in CODECS {
        let dialect = Native(codec);
        let mut group = criterion.benchmark_group(format!("decode/{name}"));
        for (what, message) in said() {
            let frame = frame(codec, Request { id: Some(7), message }.spell(codec));
            group.throughput(Throughput::Bytes(frame.bytes().len() as u64));
            group.bench_with_input(id(what, frame.bytes().len()), &frame, |bencher, frame| {
                bencher.iter(|| black_box(dialect.decode(black_box(frame.lend()), NESTING_MAX).expect("a message")));
            });
        }
    }
}

fn encode(criterion: &mut Criterion) {
    for (codec, name) in CODECS {
        let dialect = Native(codec);
        let mut group = criterion.benchmark_group(format!("encode/{name}"));
        for (what, message) in told(codec) {
            let bytes = dialect.spell(&message).as_slice()[0].bytes().len();
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_with_input(id(what, bytes), &message, |bencher, message| {
                bencher.iter(|| black_box(dialect.spell(black_box(message))));
            });
        }
    }
}

fn transcode(criterion: &mut Criterion) {
    for (from, to, name) in [(Codec::Json, Codec::MsgPack, "json to msgpack"), (Codec::MsgPack, Codec::Json, "msgpack to json")] {
        let mut group = criterion.benchmark_group(format!("transcode/{name}"));
        for (what, payload) in [("offer", offer()), ("candidate", candidate())] {
            let payload = as_it_came(payload, from);
            group.throughput(Throughput::Bytes(payload.len() as u64));
            group.bench_with_input(id(what, payload.len()), &payload, |bencher, payload| {
                bencher.iter(|| black_box(black_box(payload).spell(to)));
            });
        }
    }
}

fn id(what: &str, bytes: usize) -> BenchmarkId {
    BenchmarkId::new(what, format!("{bytes} B"))
}

fn said() -> Vec<(&'static str, ClientMessage<'static>)> {
    let room = || room(1).as_str().to_owned().into();
    let forward = |kind, payload| (Kind::name(kind), ClientMessage::Forward { kind, to: PeerId::random(), room: Some(room()), payload });
    vec![
        ("join", ClientMessage::Join { room: room(), metadata: Some(metadata()) }),
        forward(Kind::Offer, offer()),
        forward(Kind::IceCandidate, candidate()),
        ("broadcast", ClientMessage::Broadcast { room: Some(room()), payload: application_message() }),
        ("ping", ClientMessage::Ping { received: Some(1_000) }),
    ]
}

/// Payloads come from a client of the same codec.
fn told(codec: Codec) -> Vec<(&'static str, ServerMessage<'static>)> {
    let peer_id = PeerId::random();
    let forwarded = |what, kind, payload| {
        let payload = as_it_came(payload, codec);
        (what, ServerMessage::Forwarded { kind, from: peer_id, room: room(1), payload, to: None, best_effort: false })
    };
    let peer = || Peer { peer_id: PeerId::random(), metadata: Some(as_it_came(metadata(), codec)), user: None, name: None };
    vec![
        ("joined, one peer", ServerMessage::Joined { room: room(1), peer_id, peers: vec![peer()], relays_only: false }),
        (
            "joined, 1000 peers",
            ServerMessage::Joined { room: room(1), peer_id, peers: (0..1_000).map(|_| peer()).collect(), relays_only: false },
        ),
        ("peer-joined", ServerMessage::PeerJoined { room: room(1), peer: peer() }),
        forwarded("offer", Kind::Offer, offer()),
        forwarded("ice-candidate", Kind::IceCandidate, candidate()),
        forwarded("broadcast", Kind::Message, application_message()),
        ("pong", ServerMessage::Pong { received: 1_000 }),
    ]
}

fn frame(codec: Codec, bytes: Vec<u8>) -> Frame {
    match codec {
        Codec::Json => Frame::Text(bytes.into()),
        Codec::MsgPack => Frame::Binary(bytes.into()),
    }
}

/// The payload as a client of this codec sends it.
fn as_it_came(payload: Payload, codec: Codec) -> Payload<'static> {
    let bytes = Bytes::from(Request { id: None, message: ClientMessage::Broadcast { room: None, payload } }.spell(codec));
    match Request::decode(codec, &bytes, NESTING_MAX).expect("a message").message {
        ClientMessage::Broadcast { payload, .. } => payload.detached(),
        other => panic!("{other:?}"),
    }
}
