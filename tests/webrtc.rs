//! Peers of WebRTC: what goes through a channel comes back, for many at once, and within bounds.
#![cfg(feature = "webrtc")]

mod support;

use serde_json::json;
use support::within;
use switchboard::{
    protocol::{Kind, Payload, PeerId},
    webrtc::{Channel, Connection, Description, Echo, Event, Fault, Limits, Message, Options, candidate_text, spell_candidate},
};

/// An echo on this machine, and those who call it.
struct Scene {
    echo: Echo,
    callers: Vec<Caller>,
}

struct Caller {
    id: PeerId,
    connection: Connection,
}

/// What may wait for the echo.
const QUEUED_BYTES: usize = 2 * 1024 * 1024;

fn options() -> Options {
    Options { loopback: true, queued_bytes_max: QUEUED_BYTES, ..Options::default() }
}

impl Scene {
    fn new(limits: Limits) -> Self {
        Self { echo: Echo::new(options(), limits), callers: vec![] }
    }

    /// One more who offers a channel of this label.
    fn call(&mut self, label: &str) -> usize {
        let mut connection = Connection::new(options()).unwrap();
        let id = PeerId::random();
        let offer = connection.offer(label);
        self.echo.take(id, Kind::Offer, &Description::spell("offer", &offer));
        self.callers.push(Caller { id, connection });
        self.callers.len() - 1
    }

    /// Takes signals where they belong until this caller's connection tells of something.
    async fn next(&mut self, caller: usize) -> Event {
        within("an event", async {
            loop {
                let Self { echo, callers } = self;
                tokio::select! {
                    signal = echo.next() => {
                        let Some(caller) = callers.iter_mut().find(|caller| caller.id == signal.to) else { continue };
                        match signal.kind {
                            Kind::Answer => caller.connection.take_answer(&Description::read(&signal.payload).unwrap().sdp).unwrap(),
                            _ => caller.connection.take_candidate(&candidate_text(&signal.payload).unwrap()),
                        }
                    }
                    event = callers[caller].connection.next() => match event {
                        Event::Candidate(text) => echo.take(callers[caller].id, Kind::IceCandidate, &spell_candidate(&text)),
                        event => return event,
                    },
                }
            }
        })
        .await
    }

    async fn opened(&mut self, caller: usize) -> Channel {
        loop {
            if let Event::Opened(channel, _) = self.next(caller).await {
                return channel;
            }
        }
    }

    async fn answered(&mut self, caller: usize) -> Message {
        loop {
            match self.next(caller).await {
                Event::Message(_, message) => return message,
                Event::Ended => panic!("the echo has ended it"),
                _ => {}
            }
        }
    }

    async fn says(&mut self, caller: usize, channel: Channel, message: &Message) {
        self.callers[caller].connection.send(channel, message.clone()).unwrap();
        assert!(self.answered(caller).await == *message);
    }
}

fn text(text: &str) -> Message {
    Message { is_binary: false, data: text.as_bytes().to_vec() }
}

fn bytes(length: usize) -> Message {
    Message { is_binary: true, data: (0..length).map(|at| at as u8).collect() }
}

#[tokio::test]
async fn what_goes_through_a_channel_comes_back_as_it_was() {
    let mut scene = Scene::new(Limits::default());
    let [ann, bob] = [scene.call("chat"), scene.call("")];
    let [to_ann, to_bob] = [scene.opened(ann).await, scene.opened(bob).await];
    scene.says(ann, to_ann, &text("Grüße")).await;
    scene.says(bob, to_bob, &bytes(256 * 1024)).await;
    scene.says(ann, to_ann, &bytes(1)).await;
    assert_eq!(scene.echo.peers(), 2);
    scene.echo.leave(scene.callers[ann].id);
    while !matches!(scene.next(ann).await, Event::Ended) {}
    scene.says(bob, to_bob, &text("still there")).await;
}

/// The SCTP below counts an empty message and does not send it: whoever listened waited for it, and heard nothing behind it.
#[tokio::test]
async fn an_empty_message_holds_up_none_behind_it() {
    let mut scene = Scene::new(Limits::default());
    let ann = scene.call("");
    let channel = scene.opened(ann).await;
    for is_binary in [false, true] {
        scene.callers[ann].connection.send(channel, Message { is_binary, data: vec![] }).unwrap();
        scene.says(ann, channel, &text("x")).await;
    }
}

#[tokio::test]
async fn what_is_sent_before_its_channel_is_open_waits_and_what_is_too_large_is_refused() {
    let mut scene = Scene::new(Limits::default());
    let ann = scene.call("one");
    let one = scene.opened(ann).await;
    let connection = &mut scene.callers[ann].connection;
    assert!(matches!(connection.send(one, bytes(256 * 1024 + 1)), Err(Fault::TooLarge(_))));
    let two = connection.open("two");
    connection.send(two, text("early")).unwrap();
    connection.send(one, text("meanwhile")).unwrap();
    let mut came = [scene.answered(ann).await, scene.answered(ann).await];
    came.sort_by_key(|message| message.data.len());
    assert_eq!(came, [text("early"), text("meanwhile")]);
    // What waits for a channel that is closed is no longer kept.
    scene.callers[ann].connection.close_channel(two);
    scene.callers[ann].connection.send(two, text("late")).unwrap();
    scene.says(ann, one, &text("still there")).await;
}

#[tokio::test]
async fn what_waits_for_a_peer_that_does_not_read_is_bounded() {
    const IN_FLIGHT_BYTES: usize = 1024 * 1024;
    let mut scene = Scene::new(Limits::default());
    let ann = scene.call("");
    let channel = scene.opened(ann).await;
    let (mut count, message) = (0, bytes(64 * 1024));
    // Neither of the two goes on meanwhile, so nothing is read.
    while count < 1_000 && scene.callers[ann].connection.send(channel, message.clone()).is_ok() {
        count += 1;
    }
    let taken = count * message.data.len();
    assert!((QUEUED_BYTES..=QUEUED_BYTES + IN_FLIGHT_BYTES).contains(&taken), "{taken}");
    // What was taken is not lost, and then there is room again.
    for _ in 0..count {
        assert!(scene.answered(ann).await == message);
    }
    scene.says(ann, channel, &text("and more")).await;
}

#[tokio::test]
async fn who_makes_more_wait_than_may_is_ended_and_another_notices_nothing() {
    let mut scene = Scene::new(Limits { queued_bytes: 100_000, ..Limits::default() });
    let [glutton, other] = [scene.call(""), scene.call("")];
    let [channel, to_other] = [scene.opened(glutton).await, scene.opened(other).await];
    scene.says(glutton, channel, &bytes(90_000)).await;
    scene.callers[glutton].connection.send(channel, bytes(100_000)).unwrap();
    while !matches!(scene.next(glutton).await, Event::Ended) {}
    scene.says(other, to_other, &text("still there")).await;
    assert_eq!(scene.echo.peers(), 1);
}

#[tokio::test]
async fn more_peers_and_channels_than_there_may_be_are_refused_and_hurt_nobody() {
    let mut scene = Scene::new(Limits { peers: 1, channels: 1, ..Limits::default() });
    let ann = scene.call("one");
    let channel = scene.opened(ann).await;
    let stranger = scene.call("one too many");
    scene.says(ann, channel, &text("first")).await;
    assert_eq!(scene.echo.peers(), 1);
    let second = scene.callers[ann].connection.open("two");
    loop {
        match scene.next(ann).await {
            Event::Closed(closed) => break assert!(closed == second, "{closed:?}"),
            Event::Ended => panic!("the echo has ended it"),
            _ => {}
        }
    }
    scene.says(ann, channel, &text("still there")).await;
    // With a place free it is answered.
    scene.echo.leave(scene.callers[ann].id);
    let offer = scene.callers[stranger].connection.offer("again");
    scene.echo.take(scene.callers[stranger].id, Kind::Offer, &Description::spell("offer", &offer));
    scene.opened(stranger).await;
}

/// An offer of a new connection ended the last one and began at once, and what the last one held was counted no more.
#[tokio::test]
async fn a_connection_begins_when_there_is_room_and_the_last_of_its_peer_has_ended() {
    let mut scene = Scene::new(Limits { peers: 1, ..Limits::default() });
    let ann = scene.call("");
    scene.opened(ann).await;
    for _ in 0..20 {
        let mut connection = Connection::new(options()).unwrap();
        let offer = connection.offer("once more");
        scene.callers[ann].connection = connection;
        scene.echo.take(scene.callers[ann].id, Kind::Offer, &Description::spell("offer", &offer));
        assert_eq!((scene.echo.peers(), scene.echo.connections()), (1, 1));
    }
    let channel = scene.opened(ann).await;
    scene.says(ann, channel, &text("here again")).await;
    assert_eq!((scene.echo.peers(), scene.echo.connections()), (1, 1));
}

#[tokio::test]
async fn the_channels_of_our_browser_client_are_beside_those_that_there_may_be() {
    let mut scene = Scene::new(Limits { channels: 1, ..Limits::default() });
    let mut connection = Connection::new(options()).unwrap();
    let id = PeerId::random();
    let [_, control] = [connection.agree(0, "switchboard"), connection.agree(1, "switchboard.control")];
    let offer = json!({ "type": "offer", "sdp": connection.offer("one of its own"), "turns": true });
    scene.echo.take(id, Kind::Offer, &Payload::from_serialize(&offer).unwrap());
    scene.callers.push(Caller { id, connection });
    let mut open = vec![];
    while open.len() < 3 {
        open.push(scene.opened(0).await);
    }
    for channel in open.into_iter().filter(|channel| *channel != control) {
        scene.says(0, channel, &text("here")).await;
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_not_answered_and_hurts_nobody() {
    let mut scene = Scene::new(Limits { peers: 2, ..Limits::default() });
    let ann = scene.call("");
    let channel = scene.opened(ann).await;
    let stranger = PeerId::random();
    let offer = Connection::new(options()).unwrap().offer("another");
    let without = |name: &str| offer.lines().filter(|line| !line.contains(name)).map(|line| format!("{line}\r\n")).collect::<String>();
    let bad = ["", "v=0", "\u{0}", &"a=".repeat(30_000), &without("fingerprint"), &without("ice-"), &without("m="), &without("setup")];
    for sdp in bad {
        scene.echo.take(stranger, Kind::Offer, &Description::spell("offer", sdp));
        scene.echo.take(stranger, Kind::IceCandidate, &spell_candidate("candidate:1 1 udp 0 999.0.0.1 70000 typ house"));
        scene.echo.take(stranger, Kind::Answer, &Description::spell("answer", sdp));
        scene.says(ann, channel, &text(&format!("after {} bytes", sdp.len()))).await;
    }
}
