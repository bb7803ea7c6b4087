//! Who is where: the one actor that changes membership, one command after another.
//!
//! The rules are in `rooms`; this file only receives commands. The registry knows no session, just the way into each.

pub mod command;
pub mod drain;
pub mod inlet;
mod members;
pub mod rooms;
pub mod view;

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::prelude::*;

use self::{
    command::{
        Answer, CloseRoom, Count, Drain, FindPeer, FindRoom, Join, Leave, ListPeers, ListRooms, Register, Rename, TakeNames, TakeSnapshot,
        Unregister, Unwatch, Update, Watch,
    },
    drain::DrainWindow,
    inlet::Inlet,
    members::PeerIdHasher,
    rooms::{RoomLimits, Rooms},
};
use crate::auth::RoomPattern;
use crate::metrics::Metrics;
use crate::protocol::{ErrorCode, PeerId, RoomId};

/// The actor that owns membership.
pub struct RoomRegistry {
    rooms: Rooms,
    sessions: HashMap<PeerId, Arc<dyn Inlet>, PeerIdHasher>,
    draining: Option<DrainWindow>,
    metrics: Arc<Metrics>,
}

impl RoomRegistry {
    /// Nobody is anywhere yet.
    pub fn new(limits: RoomLimits, metrics: Arc<Metrics>) -> Self {
        Self { rooms: Rooms::new(limits).counted_in(metrics.clone()), sessions: HashMap::default(), draining: None, metrics }
    }

    /// With the rooms in which nobody's address is to be shown.
    pub fn relaying(self, relay_only: Vec<RoomPattern>) -> Self {
        Self { rooms: self.rooms.relaying(relay_only), ..self }
    }
}

/// Puts a command into the registry's mailbox, where it is counted until its turn.
pub fn ask<C>(registry: &Addr<RoomRegistry>, metrics: &Metrics, command: C)
where
    C: Message<Result = ()> + Send + 'static,
    RoomRegistry: Handler<C, Result = ()>,
{
    metrics.registry_mailbox(1);
    registry.do_send(command);
}

impl Actor for RoomRegistry {
    type Context = Context<Self>;
}

impl Handler<Register> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Register { peer_id, inlet }: Register, _: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        if let Some(window) = self.draining {
            inlet.drain(window);
        }
        self.sessions.insert(peer_id, inlet);
    }
}

impl Handler<Unregister> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Unregister { peer_id, rooms, reason }: Unregister, _: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        self.sessions.remove(&peer_id);
        for room in rooms {
            self.rooms.leave(peer_id, &room, reason);
        }
    }
}

impl Handler<Join> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        let mut entry = join.entry.clone();
        // Who would come in without its name waits for it as well: a name that only a dead connection holds is nobody's.
        if let Some(claim) = &mut entry.claim {
            claim.insists = true;
        }
        match self.rooms.join(join.peer_id, join.inlet.clone(), join.room.clone(), entry) {
            Ok(()) => {}
            Err(ErrorCode::NameTaken) => {
                let claim = join.entry.claim.as_ref();
                if claim.is_some_and(|claim| self.rooms.challenge(&join.room, &claim.name)) {
                    ctx.run_later(CHALLENGE, |registry, _| registry.join_again(join));
                } else {
                    self.join_again(join);
                }
            }
            Err(code) => join.inlet.answer(Answer::Refused(code)),
        }
    }
}

/// How long who has a name may take to show that it is alive, when another one wants it; and a little longer until it is surely gone.
const CHALLENGE: Duration = Duration::from_millis(2_250);

impl RoomRegistry {
    /// For one whose name was taken, when who had it has had the time to answer.
    fn join_again(&mut self, Join { peer_id, inlet, room, entry }: Join) {
        // Its client may have gone meanwhile.
        if self.sessions.contains_key(&peer_id)
            && let Err(code) = self.rooms.join(peer_id, inlet.clone(), room, entry)
        {
            inlet.answer(Answer::Refused(code));
        }
    }
}

impl Handler<Rename> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, rename: Rename, ctx: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        match self.rooms.rename(rename.peer_id, &rename.room, &rename.name) {
            Err(ErrorCode::NameTaken) if self.rooms.challenge(&rename.room, &rename.name) => {
                ctx.run_later(CHALLENGE, |registry, _| {
                    let outcome = registry.rooms.rename(rename.peer_id, &rename.room, &rename.name);
                    rename.answer(outcome);
                });
            }
            outcome => rename.answer(outcome),
        }
    }
}

impl Handler<Count> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Count { inlet, rooms }: Count, _: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        let count = |room: RoomId| {
            let census = self.rooms.census(&room);
            (room, census)
        };
        inlet.answer(Answer::Counted(rooms.into_iter().map(count).collect()));
    }
}

impl Handler<TakeNames> for RoomRegistry {
    type Result = MessageResult<TakeNames>;

    fn handle(&mut self, TakeNames(room): TakeNames, _: &mut Context<Self>) -> MessageResult<TakeNames> {
        MessageResult::<TakeNames>(self.rooms.names(&room))
    }
}

impl Handler<Leave> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Leave { peer_id, inlet, rooms, reason, is_awaited }: Leave, _: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        for room in rooms {
            self.rooms.leave(peer_id, &room, Some(reason));
        }
        if is_awaited {
            inlet.answer(Answer::Left);
        }
    }
}

impl Handler<Update> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Update { peer_id, inlet, room, metadata }: Update, _: &mut Context<Self>) {
        self.metrics.registry_mailbox(-1);
        inlet.answer(match self.rooms.update(peer_id, &room, metadata) {
            Ok(()) => Answer::Updated,
            Err(code) => Answer::Refused(code),
        });
    }
}

impl Handler<Drain> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Drain(window): Drain, _: &mut Context<Self>) {
        self.draining = Some(window);
        for inlet in self.sessions.values() {
            inlet.drain(window);
        }
    }
}

impl Handler<TakeSnapshot> for RoomRegistry {
    type Result = MessageResult<TakeSnapshot>;

    fn handle(&mut self, TakeSnapshot: TakeSnapshot, _: &mut Context<Self>) -> MessageResult<TakeSnapshot> {
        MessageResult::<TakeSnapshot>(self.rooms.snapshot())
    }
}

impl Handler<ListRooms> for RoomRegistry {
    type Result = MessageResult<ListRooms>;

    fn handle(&mut self, ListRooms { after, dialect, limit }: ListRooms, _: &mut Context<Self>) -> MessageResult<ListRooms> {
        MessageResult(self.rooms.page(after.as_ref(), dialect.as_deref(), limit))
    }
}

impl Handler<ListPeers> for RoomRegistry {
    type Result = MessageResult<ListPeers>;

    fn handle(&mut self, ListPeers { after, limit }: ListPeers, _: &mut Context<Self>) -> MessageResult<ListPeers> {
        let behind = self.sessions.keys().copied().filter(|id| after.is_none_or(|after| *id > after));
        MessageResult(view::first(behind, limit).map(|id| (id, self.sessions[&id].clone())))
    }
}

impl Handler<FindRoom> for RoomRegistry {
    type Result = MessageResult<FindRoom>;

    fn handle(&mut self, FindRoom(room): FindRoom, _: &mut Context<Self>) -> MessageResult<FindRoom> {
        MessageResult(self.rooms.find(&room))
    }
}

impl Handler<FindPeer> for RoomRegistry {
    type Result = MessageResult<FindPeer>;

    fn handle(&mut self, FindPeer(peer_id): FindPeer, _: &mut Context<Self>) -> MessageResult<FindPeer> {
        MessageResult(self.sessions.get(&peer_id).cloned())
    }
}

impl Handler<CloseRoom> for RoomRegistry {
    type Result = MessageResult<CloseRoom>;

    fn handle(&mut self, CloseRoom(room): CloseRoom, _: &mut Context<Self>) -> MessageResult<CloseRoom> {
        MessageResult(self.rooms.close(&room))
    }
}

impl Handler<Watch> for RoomRegistry {
    type Result = MessageResult<Watch>;

    fn handle(&mut self, Watch { room, watcher, limit }: Watch, _: &mut Context<Self>) -> MessageResult<Watch> {
        MessageResult(self.rooms.watch(&room, watcher, limit))
    }
}

impl Handler<Unwatch> for RoomRegistry {
    type Result = ();

    fn handle(&mut self, Unwatch { room, watcher }: Unwatch, _: &mut Context<Self>) {
        self.rooms.unwatch(&room, &watcher);
    }
}
