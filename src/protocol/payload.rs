//! Values that belong to the application: carried as the bytes they came in, spelled anew only for a client of the other codec.

use std::{borrow::Cow, ops::Deref};

use bytes::Bytes;

use super::{
    framing::{Frame, LentFrame},
    message::nests_deeper,
    msgpack::{self, Head},
    transcode,
};

/// How messages are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// UTF-8 text, RFC 8259.
    Json,
    /// Bytes, as in the MessagePack specification.
    MsgPack,
}

/// One opaque value, valid in its codec and nested no deeper than the bound, because only the decoders make one.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    codec: Codec,
    bytes: Octets<'a>,
}

/// Where it is not passed on at once, a value has its bytes with others, and otherwise they stay where they were read.
#[derive(Clone, Debug)]
enum Octets<'a> {
    Shared(Bytes),
    Lent(&'a [u8]),
}

impl Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Lent(bytes) => bytes,
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.codec == other.codec && *self.bytes == *other.bytes
    }
}

impl<'a> Payload<'a> {
    /// Wraps bytes that were found to be exactly one valid value.
    pub(super) fn lent(codec: Codec, bytes: &'a [u8]) -> Self {
        Self { codec, bytes: Octets::Lent(bytes) }
    }
}

impl Payload<'static> {
    /// The same, with bytes of its own.
    pub(super) fn new(codec: Codec, bytes: Bytes) -> Self {
        Self { codec, bytes: Octets::Shared(bytes) }
    }

    /// Takes JSON text; `None` if it is none, or nests deeper than that.
    pub fn parse_json(text: impl Into<Bytes>, nesting_max: usize) -> Option<Self> {
        let payload = Self::new(Codec::Json, text.into());
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&payload.bytes).is_ok();
        (is_json && !nests_deeper(payload.codec, &payload.bytes, nesting_max)).then_some(payload)
    }

    /// Takes MessagePack; `None` if it is not exactly one value, or nests deeper than that.
    pub fn parse_msgpack(bytes: impl Into<Bytes>, nesting_max: usize) -> Option<Self> {
        let payload = Self::new(Codec::MsgPack, bytes.into());
        let is_value = msgpack::length(&payload.bytes).is_ok_and(|length| length == payload.bytes.len());
        (is_value && !nests_deeper(payload.codec, &payload.bytes, nesting_max)).then_some(payload)
    }

    /// A whole frame as a value: text, or bytes.
    pub fn from_frame(frame: LentFrame<'_>) -> Self {
        const STR_32: u8 = 0xdb;
        const BIN_32: u8 = 0xc6;
        let bytes = frame.bytes();
        let length = u32::try_from(bytes.len()).expect("a frame is far smaller than 4 GiB");
        let marker = if matches!(frame, LentFrame::Text(_)) { STR_32 } else { BIN_32 };
        Self::new(Codec::MsgPack, [&[marker], &length.to_be_bytes()[..], bytes].concat().into())
    }

    /// Spells a value of the program's own.
    pub fn from_serialize(value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|text| Self::new(Codec::Json, text.into()))
    }
}

impl Payload<'_> {
    /// The frame that [`Payload::from_frame`] made a value of; `None` for any other value.
    pub fn to_frame(&self) -> Option<Frame> {
        let (head, length) = if self.codec == Codec::MsgPack { Head::read(&self.bytes)? } else { return None };
        let bytes = match &self.bytes {
            Octets::Shared(bytes) => bytes.slice(length..),
            Octets::Lent(bytes) => Bytes::copy_from_slice(&bytes[length..]),
        };
        match head {
            Head::Str(_) => Some(Frame::Text(bytes)),
            Head::Bin(_) => Some(Frame::Binary(bytes)),
            _ => None,
        }
    }

    /// The codec in which it came.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// How many bytes it came in.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true of a valid value.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The value in this codec: the bytes as they came where the codec is the same.
    pub fn spell(&self, codec: Codec) -> Cow<'_, [u8]> {
        if self.codec == codec {
            return Cow::Borrowed(&self.bytes);
        }
        let mut out = Vec::with_capacity(self.bytes.len());
        self.write(codec, &mut out);
        Cow::Owned(out)
    }

    /// Puts the value behind what is in `out`.
    pub fn write(&self, codec: Codec, out: &mut Vec<u8>) {
        match (self.codec, codec) {
            (Codec::Json, Codec::MsgPack) => transcode::json_to_msgpack(&self.bytes, out),
            (Codec::MsgPack, Codec::Json) => transcode::msgpack_to_json(&self.bytes, out),
            _ => out.extend_from_slice(&self.bytes),
        }
    }

    /// The length that counts against bounds on what is kept: that of the longer spelling, because either may be asked for.
    pub fn kept_bytes(&self) -> usize {
        let other = match self.codec {
            Codec::Json => Codec::MsgPack,
            Codec::MsgPack => Codec::Json,
        };
        self.bytes.len().max(self.spell(other).len())
    }

    /// The same value in memory of its own, for what is kept longer than the buffer it was read into.
    pub fn detached(&self) -> Payload<'static> {
        Payload::new(self.codec, Bytes::copy_from_slice(&self.bytes))
    }

    /// Reads the value as a type of the program's own.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        match self.codec {
            Codec::Json => Ok(serde_json::from_slice(&self.bytes)?),
            Codec::MsgPack => Ok(rmp_serde::from_slice(&self.bytes)?),
        }
    }
}
