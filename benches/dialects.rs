//! Reading an offer as the clients of each foreign dialect send it, and spelling it for the client that it is for.
//!
//! `cargo bench --bench dialects`. What a client of the dialect says is what another of the same dialect hears, both in the room already; the
//! sizes named are those of whole frames. In `y-webrtc` it goes to everybody, as everything does there. Our own dialect is in `codec`.

mod support;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use serde_json::{Value, json};
use support::offer;
use switchboard::{
    dialect::{Classic, Deed, Dialect, Frames, Heard, Matchbox, PeerJs, SocketIo, Tracker, Wish, YWebrtc},
    protocol::{
        ClientLimits, Codec, Envelope, Kind, Payload, PeerId, PeerName, ResumeToken, RoomId, ServerMessage, Welcome,
        framing::{Frame, LentFrame},
    },
};

const NESTING_MAX: usize = 64;
/// The name of the room, in every dialect that lets its clients choose any.
const ROOM: &str = "00000000-0000-0000-0000-000000000001";
/// What a tracker calls a swarm and two peers of it.
const SWARM: &str = "swarm of twenty char";
const SEEDER: &str = "-WW0102-000000000001";
const LEECHER: &str = "-WW0102-000000000002";

criterion_group! { name = benches; config = support::criterion(); targets = dialects }
criterion_main!(benches);

fn dialects(criterion: &mut Criterion) {
    let pairs = [peerjs(), socketio(), tracker(), classic(), y_webrtc(), matchbox()];
    each(criterion.benchmark_group("decode an offer"), &pairs, |group, id, pair| {
        group.throughput(Throughput::Bytes(pair.offer.bytes().len() as u64));
        group.bench_function(id(pair.offer.bytes().len()), |bencher| {
            bencher.iter(|| black_box(pair.speaker.decode(black_box(pair.offer.lend()), NESTING_MAX).expect("an offer")));
        });
    });
    each(criterion.benchmark_group("encode an offer"), &pairs, |group, id, pair| {
        let (kind, payload, from) = pair.heard();
        // Spelled once for all who hear it, so each time it is another envelope.
        let envelope = || {
            let (room, payload) = (pair.room.clone(), payload.clone());
            let message = ServerMessage::Forwarded { kind, from, room, payload, to: None, best_effort: false };
            Envelope::new(message).with(Some(pair.called.clone()), 2)
        };
        let bytes = text(&pair.listener.encode(&envelope())).bytes().len();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(id(bytes), |bencher| {
            bencher.iter_batched(envelope, |envelope| (black_box(pair.listener.encode(&envelope)), envelope), BatchSize::SmallInput);
        });
    });
}

fn each(
    mut group: BenchmarkGroup<'_, WallTime>,
    pairs: &[Pair],
    bench: impl Fn(&mut BenchmarkGroup<'_, WallTime>, &dyn Fn(usize) -> BenchmarkId, &Pair),
) {
    for pair in pairs {
        bench(&mut group, &|bytes| BenchmarkId::new(pair.speaker.name(), format!("{bytes} B")), pair);
    }
    group.finish();
}

/// Two clients of one dialect, and what the one says to the other.
struct Pair {
    speaker: Box<dyn Dialect>,
    listener: Box<dyn Dialect>,
    offer: Frame,
    room: RoomId,
    /// What others call the speaker.
    called: PeerName,
}

impl Pair {
    fn new<D: Dialect + 'static>([speaker, listener]: [D; 2], room: RoomId, called: &str, offer: impl ToString) -> Self {
        let called = PeerName::parse(called, 128).expect("a valid name");
        Self { speaker: Box::new(speaker), listener: Box::new(listener), offer: Frame::Text(offer.to_string().into()), room, called }
    }

    /// What the server makes of the offer.
    fn heard(&self) -> (Kind, Payload<'static>, PeerId) {
        let Ok(Heard::Wishes(wishes)) = self.speaker.decode(self.offer.lend(), NESTING_MAX) else { panic!("an offer is heard") };
        let forward = |wish: Wish| match wish.deed {
            Deed::Forward { kind, payload, .. } | Deed::Broadcast { kind, payload, .. } => Some((kind, payload)),
            _ => None,
        };
        let (kind, payload) = wishes.into_iter().find_map(forward).expect("an offer is passed on");
        (kind, payload, PeerId::random())
    }
}

fn peerjs() -> Pair {
    let client = |id: &str| PeerJs::new("peerjs", false, &format!("key=peerjs&id={id}&token=secret"));
    let payload =
        json!({ "sdp": description(), "type": "data", "connectionId": "dc_8gmlcyukmb7", "label": "dc_8gmlcyukmb7", "reliable": false });
    let room = RoomId::parse_in("peerjs", "peerjs", 128).expect("a valid name");
    Pair::new(["anna", "bert"].map(client), room, "anna", json!({ "type": "OFFER", "payload": payload, "dst": "bert" }))
}

/// In the vocabulary of the tutorials.
fn socketio() -> Pair {
    let client = |_| {
        let client = SocketIo::new(65_536);
        client.spell(&ServerMessage::Welcome(Box::new(welcome())));
        enter(&client, ["40".to_owned(), format!("42{}", json!(["announce", { "hash": ROOM }]))], &room());
        client
    };
    let event = json!(["offer", { "targetPeer": PeerId::random().to_string(), "offer": description() }]);
    Pair::new([(); 2].map(client), room(), "anna", format!("42{event}"))
}

/// The second announce of a peer, with one offer.
fn tracker() -> Pair {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let announce = |peer_id: &str| json!({ "action": "announce", "info_hash": SWARM, "peer_id": peer_id, "left": 0, "numwant": 1 });
    let room = RoomId::parse_in("tracker", &hex(SWARM), 128).expect("a valid name");
    let client = |peer_id: &str| {
        let client = Tracker::default();
        enter(&client, [announce(peer_id).to_string()], &room);
        client
    };
    let mut offer = announce(SEEDER);
    offer["offers"] = json!([{ "offer": description(), "offer_id": "ffe8c6a4d2b0918273f5" }]);
    Pair::new([SEEDER, LEECHER].map(client), room.clone(), &hex(SEEDER), offer)
}

fn classic() -> Pair {
    let client = |_| {
        let client = Classic::new(true, true);
        enter(&client, [json!({ "type": "announce", "hash": ROOM }).to_string()], &room());
        client
    };
    let offer = json!({ "type": "offer", "targetPeer": PeerId::random().to_string(), "offer": description() });
    Pair::new([(); 2].map(client), room(), "anna", offer)
}

fn y_webrtc() -> Pair {
    let signal = json!({ "to": ROOM, "from": ROOM, "type": "signal", "token": 1_795_317_635_032.042_7, "signal": description() });
    let room = RoomId::parse_in("y-webrtc", "kitchen", 128).expect("a valid name");
    Pair::new([YWebrtc, YWebrtc], room, "anna", json!({ "type": "publish", "topic": "kitchen", "data": signal }))
}

fn matchbox() -> Pair {
    let client = |_| Matchbox::at(&format!("/matchbox/{ROOM}"), "").expect("a path of matchbox").expect("a valid name");
    let offer = json!({ "Signal": { "receiver": ROOM, "data": { "Offer": description()["sdp"] } } });
    Pair::new([(); 2].map(client), room(), "anna", offer)
}

/// Says this, and is told that it is in the room.
fn enter(client: &dyn Dialect, says: impl IntoIterator<Item = String>, room: &RoomId) {
    for text in says {
        assert!(client.decode(LentFrame::Text(text.as_bytes()), NESTING_MAX).is_ok(), "{text}");
    }
    let joined = ServerMessage::Joined { room: room.clone(), peer_id: PeerId::random(), peers: vec![], relays_only: false };
    client.encode(&joined.into());
}

fn welcome() -> Welcome {
    let limits = ClientLimits {
        message_bytes: 65_536,
        rooms_per_client: 8,
        peers_per_room: 1_000,
        metadata_bytes: 4_096,
        room_name_bytes: 128,
        nesting: NESTING_MAX,
        rates: None,
    };
    Welcome {
        peer_id: PeerId::random(),
        resume_token: ResumeToken::random(),
        resumed: false,
        received: 0,
        ice_servers: Payload::parse_json("[]".to_owned(), 1).expect("JSON"),
        heartbeat_ms: 30_000,
        resume_window_ms: 0,
        limits,
    }
}

fn room() -> RoomId {
    support::room(1)
}

/// A session description as browsers have it.
fn description() -> Value {
    serde_json::from_slice(&offer().spell(Codec::Json)).expect("JSON")
}

fn text(frames: &Frames) -> &Frame {
    match frames.as_slice() {
        [frame @ Frame::Text(_)] => frame,
        other => panic!("an offer is one frame of text: {other:?}"),
    }
}
