//! Bringing clients in, many at a time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use super::{LoadError, Member, Progress, Speech};

/// Rooms that are filled at the same time.
const ROOMS_AT_ONCE: usize = 64;
/// How long one client may take to come in.
pub const ENTRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Fills so many rooms, each with so many clients, one after the other within a room. Client `n` of room `r` has the number `r * members + n`.
pub async fn fill_rooms<S: Speech>(
    speech: &Arc<S>,
    rooms: usize,
    members: usize,
    progress: &Arc<Progress>,
) -> Result<Vec<Vec<Member>>, LoadError> {
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
                    inside.push(enter(&*speech, number, &room_name(room)).await?);
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

/// What the engine's rooms are called.
pub fn room_name(room: usize) -> String {
    format!("load-{room}")
}
