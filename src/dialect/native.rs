//! Our own spelling, in either codec: one frame is one message.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::{Dialect, Frames, Heard};
use crate::protocol::{
    ClientMessage, Codec, Envelope, ErrorCode, Refusal, Request, ServerMessage, Token,
    framing::{Frame, LentFrame},
};

/// The native dialect on a connection of this codec.
pub struct Native(pub Codec);

impl Native {
    /// The same one for all connections of this codec: it has nothing to remember of any.
    pub fn shared(codec: Codec) -> Arc<dyn Dialect> {
        static JSON: LazyLock<Arc<dyn Dialect>> = LazyLock::new(|| Arc::new(Native(Codec::Json)));
        static MSGPACK: LazyLock<Arc<dyn Dialect>> = LazyLock::new(|| Arc::new(Native(Codec::MsgPack)));
        match codec {
            Codec::Json => JSON.clone(),
            Codec::MsgPack => MSGPACK.clone(),
        }
    }

    fn frame(&self, bytes: Bytes) -> Frame {
        match self.0 {
            Codec::Json => Frame::Text(bytes),
            Codec::MsgPack => Frame::Binary(bytes),
        }
    }
}

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn token<'a>(&self, first: LentFrame<'a>) -> Option<Token<'a>> {
        match self.decode(first, usize::MAX).ok()? {
            Heard::Request(Request { message: ClientMessage::Hello { token, .. }, .. }) => token,
            _ => None,
        }
    }

    fn decode<'a>(&self, frame: LentFrame<'a>, nesting_max: usize) -> Result<Heard<'a>, Refusal> {
        let bytes = match (self.0, frame) {
            (Codec::Json, LentFrame::Text(bytes)) | (Codec::MsgPack, LentFrame::Binary(bytes) | LentFrame::Datagram(bytes)) => bytes,
            (Codec::Json, _) => return Err(Refusal::new(None, ErrorCode::BadMessage, "this connection takes JSON in text frames")),
            (Codec::MsgPack, _) => {
                return Err(Refusal::new(None, ErrorCode::BadMessage, "this connection takes MessagePack in binary frames"));
            }
        };
        Request::decode(self.0, bytes, nesting_max).map(Heard::Request)
    }

    fn encode(&self, envelope: &Envelope) -> Frames {
        let bytes = envelope.spell(self.0);
        // Only a stream of MessagePack has datagrams beside it; the door sends them as frames where it cannot do better.
        let is_datagram = envelope.is_best_effort() && self.0 == Codec::MsgPack;
        Frames::One(if is_datagram { Frame::Datagram(bytes) } else { self.frame(bytes) })
    }

    fn spell(&self, message: &ServerMessage) -> Frames {
        Frames::One(self.frame(message.spell(self.0).into()))
    }

    fn spell_into<'a>(&self, message: &ServerMessage, out: &'a mut Vec<u8>) -> Option<LentFrame<'a>> {
        message.spell_into(self.0, out);
        Some(match self.0 {
            Codec::Json => LentFrame::Text(out),
            Codec::MsgPack if message.is_best_effort() => LentFrame::Datagram(out),
            Codec::MsgPack => LentFrame::Binary(out),
        })
    }

    /// A value that the earlier codec could not express stays what it had become there.
    fn respell(&self, frame: Frame) -> Frame {
        let codec = match frame {
            Frame::Text(_) => Codec::Json,
            Frame::Binary(_) | Frame::Datagram(_) => Codec::MsgPack,
        };
        if codec == self.0 {
            return frame;
        }
        self.frame(ServerMessage::decode(codec, frame.bytes()).expect("the server reads what it wrote").spell(self.0).into())
    }
}
