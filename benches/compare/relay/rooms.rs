//! Who hears whom, and what waits to be written to each. Everything is on one thread, so nothing is locked.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Buffers that are kept for the next who has something to write.
const SPARE_MAX: usize = 256;
/// Buffers larger than this are not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// All rooms of a relay.
#[derive(Default)]
pub struct Rooms {
    rooms: RefCell<HashMap<String, Rc<Room>>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

/// Those who hear each other.
#[derive(Default)]
pub struct Room {
    members: RefCell<Vec<Rc<Member>>>,
}

/// What waits for one client. A buffer is held only while there is something in it.
#[derive(Default)]
pub struct Member {
    waiting: RefCell<Vec<u8>>,
    writer: RefCell<Option<Waker>>,
    is_over: Cell<bool>,
}

impl Rooms {
    /// Puts a new member into the room of this name.
    pub fn enter(&self, name: &str) -> (Rc<Room>, Rc<Member>) {
        let room = self.rooms.borrow_mut().entry(name.to_owned()).or_default().clone();
        let member = Rc::new(Member::default());
        room.members.borrow_mut().push(member.clone());
        (room, member)
    }

    /// Takes it out again, and the room as well if it was the last.
    pub fn leave(&self, name: &str, room: &Room, member: &Rc<Member>) {
        let mut members = room.members.borrow_mut();
        members.retain(|other| !Rc::ptr_eq(other, member));
        if members.is_empty() {
            self.rooms.borrow_mut().remove(name);
        }
        member.is_over.set(true);
        member.wake();
    }

    /// Lets `write` put a frame behind what waits for the first of the others, and copies it for the rest.
    pub fn tell_others(&self, room: &Room, from: &Rc<Member>, write: impl FnOnce(&mut Vec<u8>)) {
        let members = room.members.borrow();
        let mut others = members.iter().filter(|member| !Rc::ptr_eq(member, from));
        let Some(first) = others.next() else { return };
        let mut frame = first.waiting(self);
        let at = frame.len();
        write(&mut frame);
        for other in others {
            other.waiting(self).extend_from_slice(&frame[at..]);
            other.wake();
        }
        drop(frame);
        first.wake();
    }

    /// Takes back a buffer whose bytes have been written.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

impl Member {
    /// Everything that waits, once there is something; nothing if no more will come.
    pub fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut waiting)));
        }
        if self.is_over.get() {
            return Poll::Ready(None);
        }
        let mut writer = self.writer.borrow_mut();
        if !writer.as_ref().is_some_and(|writer| writer.will_wake(context.waker())) {
            *writer = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn waiting(&self, rooms: &Rooms) -> std::cell::RefMut<'_, Vec<u8>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.capacity() == 0
            && let Some(spare) = rooms.spare.borrow_mut().pop()
        {
            *waiting = spare;
        }
        waiting
    }

    fn wake(&self) {
        if let Some(writer) = &*self.writer.borrow() {
            writer.wake_by_ref();
        }
    }
}
