//! What stands in the frames of a tracker: ids, offers and numbers, however leniently spelled, and the objects that answer.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use crate::{
    dialect::{Frames, fields::Fields},
    protocol::{Census, ErrorCode, Payload, Refusal, RoomId},
};

/// Offers of one announce that are passed on. The client of `bittorrent-tracker` makes 5, and of the other servers one passes on 82, others 20 or 10.
pub const OFFERS_MAX: usize = 20;

/// An `info_hash` or a `peer_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id([u8; 20]);

impl Id {
    /// Reads what a client calls a binary string.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let mut chars = text.chars();
        for byte in &mut bytes {
            *byte = u8::try_from(chars.next()?).ok()?;
        }
        chars.next().is_none().then_some(Self(bytes))
    }

    /// What [`Id::parse`] reads.
    pub fn binary(self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }

    /// What rooms and peers are named by.
    pub fn hex(self) -> String {
        self.0.iter().fold(String::with_capacity(40), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Reads what [`Id::hex`] wrote.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        if hex.len() != 2 * bytes.len() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The id with this key.
pub fn id(fields: &Fields<'_>, key: &str) -> Option<Id> {
    Id::parse(&fields.text(key)?)
}

/// The swarm that a room stands for.
pub fn swarm(room: &RoomId) -> Option<Id> {
    Id::from_hex(room.name())
}

/// What is not there for JavaScript.
pub fn is_falsy(value: &RawValue) -> bool {
    matches!(value.get(), "null" | "false" | "0" | r#""""#)
}

/// Is nothing left to be downloaded?
pub fn is_zero(left: &RawValue) -> bool {
    let text = serde_json::from_str::<String>(left.get());
    text.as_deref().unwrap_or(left.get()).trim().parse() == Ok(0.0)
}

/// The offers that are passed on, in order.
pub fn offers(fields: &Fields<'_>, nesting_max: usize) -> Result<Vec<Payload<'static>>, Refusal> {
    let offers: Vec<&RawValue> = fields.read("offers").unwrap_or_default();
    let parsed = offers.into_iter().filter_map(|offer| {
        let fields = Fields::parse(offer.get().as_bytes())?;
        Some(payload([("offer", fields.find("offer")?), ("offer_id", fields.find("offer_id")?)], nesting_max))
    });
    parsed.take(OFFERS_MAX).collect()
}

/// What is passed on: an object of these two.
pub fn payload(fields: [(&str, &RawValue); 2], nesting_max: usize) -> Result<Payload<'static>, Refusal> {
    let [first, second] = fields.map(|(key, value)| format!("\"{key}\":{}", value.get()));
    let payload = Payload::parse_json(format!("{{{first},{second}}}"), nesting_max);
    payload.ok_or_else(|| Refusal::new(None, ErrorCode::TooDeep, "a value nests too deep"))
}

/// Puts in how many have all, and how many have not.
pub fn counts(census: Census, mut object: serde_json::Value) -> serde_json::Value {
    object["complete"] = census.with_metadata.into();
    object["incomplete"] = (census.peers - census.with_metadata).into();
    object
}

/// An object as a frame.
pub fn text(object: &serde_json::Value) -> Frames {
    Frames::text(object.to_string())
}

/// What is no request, and why.
pub fn bad(message: &'static str) -> Refusal {
    Refusal::new(None, ErrorCode::BadMessage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_twenty_bytes_however_it_is_written() {
        let all: String = (0..=255).map(char::from).collect();
        for text in [&all[..20], &"ÿ".repeat(20), &"\u{80}".repeat(20)] {
            let id = Id::parse(text).unwrap();
            assert_eq!((id.binary(), Id::from_hex(&id.hex())), (text.to_owned(), Some(id)));
        }
        for text in ["", "x", &"x".repeat(19), &"x".repeat(21), &"Ā".repeat(20)] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
        for hex in ["", "00", &"0".repeat(41), &"g".repeat(40), &"é".repeat(20)] {
            assert_eq!(Id::from_hex(hex), None, "{hex}");
        }
    }
}
