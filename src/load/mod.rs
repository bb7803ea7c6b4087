//! The load engine: many clients, a pace, and the books of every message. It measures any server whose [`Speech`] it is given.
//!
//! It knows bytes and no meanings: a message that counts carries a [`Marker`] inside its payload, in whatever dialect and codec. To send one
//! is to copy a [`Template`] and fill in the marker, to receive one is to find it. So the engine costs little beside the server that it
//! shares a machine with, and a foreign server is measured by the same code as ours.
//!
//! | file | owns |
//! |---|---|
//! | [`speech`] | what a kind of server has to be told to play: the trait |
//! | [`native`] | the speech of Switchboard, by each of its doors |
//! | [`plan`] | what is measured; [`measure`] does it |
//! | `cast` | who speaks and who hears what in a scenario |
//! | `run`, `speaking`, `hearing` | one run, from the first client to the last message |
//! | `connecting`, `resuming` | runs in which clients come in, or come back |
//! | `entry`, `meter` | clients in and out again, and what the server uses meanwhile |
//! | [`books`] | what is lost, came twice or in another order |
//! | [`outcome`], [`recorder`] | what came of it |
//! | [`process`] | what the kernel tells of the server |
//! | [`wire`] | a connected line: WebSocket frames or a WebTransport stream |
//! | [`template`] | a message made once, and its marker |
//! | [`payload`] | texts like those that browsers send |

pub mod books;
mod cast;
mod connecting;
mod entry;
mod hearing;
mod meter;
pub mod native;
pub mod outcome;
pub mod payload;
pub mod plan;
pub mod process;
pub mod recorder;
mod resuming;
mod run;
mod speaking;
pub mod speech;
pub mod template;
mod websocket;
mod webtransport;
pub mod wire;

use std::sync::Arc;

pub use self::{
    books::Faults,
    native::Native,
    outcome::{Outcome, Progress},
    plan::{Pace, Plan, Scenario},
    process::{Process, Usage},
    recorder::Recording,
    resuming::storm as resume_storm,
    speech::{Address, Comings, Member, Presence, Signal, Speech},
    template::{Marker, Template},
    webtransport::Endpoint,
    wire::{Handshake, Outgoing, Receiver, Sender, Wire},
};
use crate::client::{ComeInError, ConnectError};

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There was no connection, or no certificate to trust.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection ended in the middle of a run.
    #[error("{0}")]
    Ended(String),
    /// A client did not come in, or not back.
    #[error(transparent)]
    ComeIn(#[from] ComeInError),
    /// The server said something else than its speech expects, or the speech has no such message.
    #[error("{0}")]
    Speech(String),
    /// The kernel did not tell what was asked of it.
    #[error("{what}: {source}")]
    System { what: String, source: std::io::Error },
}

/// Measures. Called within a runtime, of which one thread is enough.
pub async fn measure<S: Speech>(speech: &Arc<S>, plan: &Plan, progress: &Arc<Progress>) -> Result<Outcome, LoadError> {
    match plan.scenario {
        Scenario::Forward { pairs, .. } => run::talk(speech, plan, pairs, 2, progress).await,
        Scenario::Broadcast { rooms, members, .. } | Scenario::Churn { rooms, members } => {
            run::talk(speech, plan, rooms, members, progress).await
        }
        Scenario::Idle { clients } => connecting::idle(speech, plan, clients, progress).await,
        Scenario::Connect { clients } => connecting::connect(speech, plan, clients, progress).await,
    }
}

impl LoadError {
    /// A server that does not speak as expected.
    pub fn speech(what: impl Into<String>) -> Self {
        Self::Speech(what.into())
    }

    pub(crate) fn ended(why: impl std::fmt::Display) -> Self {
        Self::Ended(format!("a connection ended: {why}"))
    }
}
