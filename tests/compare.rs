//! `benches/compare` measures with relays and dialects of its own: that the relays pass everything on, once and in order, is checked here.

#[path = "../benches/compare/relay/mod.rs"]
#[allow(dead_code, reason = "the bench runs it in a process of its own")]
mod relay;
#[path = "../benches/compare/speech/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other dialects need other servers")]
mod speech;

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use relay::Relay;
use switchboard::load::{Pace, Plan, Progress, Scenario, Signal, Speech, measure};

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_bare_websocket_relay_passes_everything_on() {
    let address = start(Relay::WebSocket).parse().expect("an address");
    everything_arrives(speech::BareWebSocket(address)).await;
}

#[tokio::test]
async fn the_bare_webtransport_relay_passes_everything_on() {
    let words = start(Relay::WebTransport);
    everything_arrives(speech::BareWebTransport::new(&words).expect("an address and a hash")).await;
}

/// Where it listens. It serves until the tests are over.
fn start(relay: Relay) -> String {
    let (says, hears) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let announce = move |words| says.send(words).expect("the test waits");
        tokio::task::LocalSet::new().block_on(&runtime, relay::serve(relay, announce))
    });
    hears.recv_timeout(DEADLINE).expect("a relay that listens")
}

async fn everything_arrives<S: Speech>(speech: S) {
    let speech = Arc::new(speech);
    let pairs = Scenario::Forward { signal: Signal::Offer, pairs: 4, bytes: 2048 };
    let room = Scenario::Broadcast { rooms: 1, members: 5, bytes: 200 };
    let visits = Scenario::Churn { rooms: 2, members: 2 };
    for (scenario, pace) in [(pairs, Pace::InFlight(8)), (room, Pace::InFlight(8)), (visits, Pace::InFlight(1))] {
        let plan = Plan { scenario, pace, warm_up: Duration::ZERO, length: Duration::from_millis(200), process: None };
        let measured = tokio::time::timeout(DEADLINE, measure(&speech, &plan, &Arc::new(Progress::default()))).await;
        let outcome = measured.expect("in time").expect("an outcome");
        assert!(outcome.faults.is_clean() && outcome.recording.delivered > 0, "{scenario}: {:?}", outcome.faults);
    }
}
