//! Bringing clients in, many at a time, and letting them go.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::timeout};

use super::{LoadError, Member, Progress, Sender, Speech};

/// Rooms that are filled at the same time.
const ROOMS_AT_ONCE: usize = 64;
/// How long one client may take to come in.
pub const ENTRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all clients together may take to go.
pub const PARTING: Duration = Duration::from_secs(5);

/// What the rooms of one run are called: on a server that runs already, those of an earlier run may still have somebody in them.
#[derive(Clone, Copy)]
pub struct RoomNames(u32);

impl RoomNames {
    pub fn random() -> Self {
        Self(fastrand::u32(..))
    }

    /// No longer than the 20 characters that a tracker takes.
    pub fn of(self, room: usize) -> String {
        format!("load-{:08x}-{room}", self.0)
    }
}

/// Fills so many rooms, each with so many clients, one after the other within a room. Client `n` of room `r` has the number `r * members + n`.
pub async fn fill_rooms<S: Speech>(
    speech: &Arc<S>,
    rooms: usize,
    members: usize,
    progress: &Arc<Progress>,
) -> Result<Vec<Vec<Member>>, LoadError> {
    let names = RoomNames::random();
    let mut filling: JoinSet<Result<(usize, Vec<Member>), LoadError>> = JoinSet::new();
    let mut filled: Vec<Vec<Member>> = Vec::new();
    filled.resize_with(rooms, Vec::new);
    let mut next = 0;
    loop {
        while next < rooms && filling.len() < ROOMS_AT_ONCE {
            let (speech, progress, room) = (speech.clone(), progress.clone(), next);
            next += 1;
            filling.spawn(async move {
                let mut inside = Vec::with_capacity(members);
                for number in room * members..(room + 1) * members {
                    inside.push(enter(&*speech, number, &names.of(room)).await?);
                    progress.connected.fetch_add(1, Ordering::Relaxed);
                }
                Ok((room, inside))
            });
        }
        let Some(room) = filling.join_next().await else { return Ok(filled) };
        let (room, inside) = room.expect("no client panics")?;
        filled[room] = inside;
    }
}

/// Brings one client in, in time.
pub async fn enter<S: Speech>(speech: &S, number: usize, room: &str) -> Result<Member, LoadError> {
    let late = |_| LoadError::speech(format!("client {number} was not in its room within {} s", ENTRY_TIMEOUT.as_secs()));
    timeout(ENTRY_TIMEOUT, speech.enter(number, room)).await.map_err(late)?
}

/// Says goodbye on all of these, so that a server that goes on keeps no session for clients that do not come back. `hearing` are the tasks that
/// receive on them, each of which ends with its connection.
pub async fn part(senders: &[Sender], hearing: &mut JoinSet<Result<(), LoadError>>) {
    let parting = async {
        join_all(senders.iter().map(Sender::close)).await;
        while hearing.join_next().await.is_some() {}
    };
    // Who does not answer is left.
    let _ = timeout(PARTING, parting).await;
    hearing.shutdown().await;
}
