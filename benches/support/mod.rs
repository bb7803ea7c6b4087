//! What several benches share: how long they measure, who takes part, and what is sent.

// Each bench uses some of it.
#![allow(dead_code)]

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use criterion::Criterion;
use serde_json::Value;
use switchboard::{
    dialect::{Dialect, Native},
    load::{payload, speech::Signal},
    protocol::{Codec, Envelope, Payload, RoomId},
    registry::{
        command::Answer,
        drain::DrainWindow,
        inlet::{Inlet, Untaken},
    },
    session::replay::{Replay, ReplayLimits},
};

pub const CODECS: [(Codec, &str); 2] = [(Codec::Json, "json"), (Codec::MsgPack, "msgpack")];

/// All benches together take a few minutes.
pub fn criterion() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1_500)).sample_size(30)
}

/// A room's name, as long as a UUID, which is what many take for one.
pub fn room(n: u32) -> RoomId {
    RoomId::parse(&format!("00000000-0000-0000-0000-{n:012}"), 128).expect("a valid name")
}

/// A session description whose JSON has 2,048 bytes.
pub fn offer() -> Payload<'static> {
    own(&payload::payload(Signal::Offer, 2_048))
}

/// An ICE candidate whose JSON has 200 bytes.
pub fn candidate() -> Payload<'static> {
    own(&payload::payload(Signal::Candidate, 200))
}

/// A value of an application, whose JSON has 1,024 bytes.
pub fn application_message() -> Payload<'static> {
    own(&Value::from("x".repeat(1_022)))
}

/// What a peer may tell about itself.
pub fn metadata() -> Payload<'static> {
    own(&serde_json::json!({ "name": "Ada", "color": "#7b61ff" }))
}

fn own(value: &Value) -> Payload<'static> {
    Payload::from_serialize(value).expect("JSON")
}

/// Takes everything and does nothing.
pub struct Nowhere;

impl Inlet for Nowhere {
    fn deliver(&self, _: &Envelope) -> Result<(), Untaken> {
        Ok(())
    }

    fn answer(&self, _: Answer) {}

    fn drain(&self, _: DrainWindow) {}
}

/// Does with a message what every session does before a door is woken: spells it, and keeps it, under a lock.
pub struct Keeper {
    dialect: Native,
    kept: Mutex<Replay>,
}

impl Keeper {
    pub fn inlet(codec: Codec) -> Arc<dyn Inlet> {
        let limits = ReplayLimits { messages_max: 8, bytes_max: usize::MAX };
        Arc::new(Self { dialect: Native(codec), kept: Replay::new(limits).into() })
    }
}

impl Inlet for Keeper {
    fn deliver(&self, envelope: &Envelope) -> Result<(), Untaken> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.dialect.encode(envelope).into_iter().for_each(|frame| kept.keep(&frame.into()));
        kept.bound(0);
        Ok(())
    }

    fn answer(&self, _: Answer) {}

    fn drain(&self, _: DrainWindow) {}
}
