//! A message on its way: to many spelled at most once per codec, and the bytes shared; to one the bytes are its own.

use std::{sync::OnceLock, time::Instant};

use bytes::Bytes;

use super::{id::PeerName, message::ServerMessage, payload::Codec};

/// A message of the server and its spellings so far.
#[derive(Debug)]
pub struct Envelope<'a> {
    message: ServerMessage<'a>,
    alone: Option<Instant>,
    name: Option<PeerName>,
    audience: usize,
    is_for_one: bool,
    heard_at: Option<Instant>,
    /// Boxed, because what is for one has none.
    spellings: OnceLock<Box<Spellings>>,
}

/// What many have the same bytes of.
#[derive(Debug, Default)]
struct Spellings {
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// In the first foreign dialect that spelled it the same for all.
    foreign: OnceLock<(&'static str, Bytes)>,
}

impl<'a> Envelope<'a> {
    /// Puts the message in; nothing is spelled yet.
    pub fn new(message: ServerMessage<'a>) -> Self {
        Self { message, alone: None, name: None, audience: 0, is_for_one: false, heard_at: None, spellings: OnceLock::new() }
    }

    /// The same for one peer, and with all that there is to say of it, for changing it afterwards means to move it: when it was heard, if no other came
    /// with it and there may be nothing to wait for with writing it, and from when its way is timed, if it is.
    pub fn to_one(message: ServerMessage<'a>, alone: Option<Instant>, heard_at: Option<Instant>) -> Self {
        Self { message, alone, name: None, audience: 0, is_for_one: true, heard_at, spellings: OnceLock::new() }
    }

    /// Adds what foreign dialects want to know: the name of the peer that it is from or about, where that is not its id, and for how many it is.
    pub fn with(self, name: Option<PeerName>, audience: usize) -> Self {
        Self { name, audience, ..self }
    }

    /// What foreign dialects call the peer that it is from or about, where that is not its id.
    pub fn name(&self) -> Option<&PeerName> {
        self.name.as_ref()
    }

    /// Is it for one peer, so that nobody else has its bytes?
    pub fn is_for_one(&self) -> bool {
        self.is_for_one
    }

    /// For how many it is, its sender among them; 0 if it is for one, or for those who may not know.
    pub fn audience(&self) -> usize {
        self.audience
    }

    /// The same for those who may not know for how many it is.
    pub fn uncounted(mut self) -> Self {
        if let Some(spellings) = self.spellings.get_mut() {
            spellings.foreign = OnceLock::new();
        }
        Self { audience: 0, ..self }
    }

    /// Says that it is for one peer: its bytes are shared with nobody.
    pub fn for_one(self) -> Self {
        Self { is_for_one: true, ..self }
    }

    /// Says when it was heard, for who wants to know how long it takes.
    pub fn timed(self, heard_at: Option<Instant>) -> Self {
        Self { heard_at, ..self }
    }

    /// When it was heard, if it is to be timed.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// When it was heard, if it is for one peer and no other came with it.
    pub fn heard_alone(&self) -> Option<Instant> {
        self.alone
    }

    /// What is in it.
    pub fn message(&self) -> &ServerMessage<'a> {
        &self.message
    }

    /// The same, as long as nobody has spelled it.
    pub fn message_mut(&mut self) -> &mut ServerMessage<'a> {
        debug_assert!(self.spellings.get().is_none(), "it would be spelled wrong");
        &mut self.message
    }

    /// The message as a whole frame of this codec. Who asks first pays, and the bytes are the same for all, unless it is for one.
    pub fn spell(&self, codec: Codec) -> Bytes {
        if self.is_for_one {
            return self.message.spell(codec).into();
        }
        let spelling = match codec {
            Codec::Json => &self.spellings().json,
            Codec::MsgPack => &self.spellings().msgpack,
        };
        spelling.get_or_init(|| self.message.spell(codec).into()).clone()
    }

    /// The message in a foreign dialect that spells it the same for all of its clients. Who asks first pays, unless it is for one.
    pub fn spell_once(&self, dialect: &'static str, spell: impl Fn() -> Bytes) -> Bytes {
        if self.is_for_one {
            return spell();
        }
        match self.spellings().foreign.get_or_init(|| (dialect, spell())) {
            (spelled, bytes) if *spelled == dialect => bytes.clone(),
            _ => spell(),
        }
    }

    fn spellings(&self) -> &Spellings {
        self.spellings.get_or_init(Box::default)
    }

    /// May it be lost on the way?
    pub fn is_best_effort(&self) -> bool {
        self.message.is_best_effort()
    }

    /// Does it tell who is in a room? Nobody sent it who could be told of its loss.
    pub fn is_presence(&self) -> bool {
        !matches!(self.message, ServerMessage::Forwarded { .. })
    }
}

impl<'a> From<ServerMessage<'a>> for Envelope<'a> {
    fn from(message: ServerMessage<'a>) -> Self {
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_by_all_who_ask_but_where_it_is_for_one() {
        let envelope = || Envelope::new(ServerMessage::Pong { received: 7 });
        for codec in [Codec::Json, Codec::MsgPack] {
            let (many, one) = (envelope(), envelope().for_one());
            assert_eq!(many.spell(codec), one.spell(codec));
            assert_eq!(many.spell(codec).as_ptr(), many.spell(codec).as_ptr(), "it is spelled once");
            assert!(!many.spell(codec).is_unique() && one.spell(codec).is_unique());
        }
        let spell = || Bytes::from(vec![7]);
        let (many, one) = (envelope(), envelope().for_one());
        assert!(!many.spell_once("a", spell).is_unique() && one.spell_once("a", spell).is_unique());
        assert!(many.spell_once("b", spell).is_unique(), "each dialect has its own");
    }
}
