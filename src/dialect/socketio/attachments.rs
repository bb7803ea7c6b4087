//! Bytes in the JSON of Socket.IO: they travel beside it, and `{"_placeholder":true,"num":0}` stands where they belong (socket.io-parser 4,
//! `binary.ts`).
//!
//! In our payloads bytes are those of MessagePack: a native client with that codec has them as they are, and one with JSON as base64.

use bytes::Bytes;

use crate::protocol::{
    Codec, Payload,
    msgpack::{self, Head},
};

/// The key that makes an object stand for an attachment.
const PLACEHOLDER: &str = "_placeholder";
const NUMBER: &str = "num";

/// As deep as payloads may nest at the most, and one level more where bytes are the deepest value.
const NESTING_MAX: usize = 101;

/// Attachments that came with a packet and have not found their place yet.
pub struct Arrived(Vec<Option<Bytes>>);

/// An object stands for no attachment, or for one that stands elsewhere already: what stood for it often would be as large as one likes.
#[derive(Debug, PartialEq, Eq)]
pub struct Illegal;

impl Arrived {
    /// With this packet.
    pub fn new(attachments: Vec<Bytes>) -> Self {
        Self(attachments.into_iter().map(Some).collect())
    }

    /// Puts those that a payload has a place for where they belong.
    pub fn put_into(&mut self, payload: Payload<'static>, nesting_max: usize) -> Result<Payload<'static>, Illegal> {
        if self.0.is_empty() {
            return Ok(payload);
        }
        let bytes = payload.spell(Codec::MsgPack);
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = &*bytes;
        // The items of all values stand one behind the other, and what replaces one of them changes the count of none.
        while let Some((head, length)) = Head::read(rest) {
            if matches!(head, Head::Map(_))
                && let Some(number) = placeholder(rest)
            {
                let attachment = number.and_then(|number| self.0.get_mut(number)?.take()).ok_or(Illegal)?;
                rmp::encode::write_bin(&mut out, &attachment).expect("writing to memory succeeds");
                rest = &rest[msgpack::length(rest).map_err(|_| Illegal)?..];
                continue;
            }
            let whole = length + data_bytes(head);
            out.extend_from_slice(&rest[..whole]);
            rest = &rest[whole..];
        }
        Payload::parse_msgpack(out, nesting_max).ok_or(Illegal)
    }
}

/// The number of the attachment that a map stands for, if it stands for one.
fn placeholder(map: &[u8]) -> Option<Option<usize>> {
    let find =
        |key| msgpack::entries(map).flatten().find(|(name, _)| *name == key).and_then(|(_, value)| Head::read(value)).map(|(head, _)| head);
    (find(PLACEHOLDER) == Some(Head::Bool(true))).then(|| match find(NUMBER) {
        Some(Head::Uint(number)) => usize::try_from(number).ok(),
        _ => None,
    })
}

/// What follows a head and belongs to it alone.
fn data_bytes(head: Head) -> usize {
    match head {
        Head::Str(bytes) | Head::Bin(bytes) | Head::Ext(_, bytes) => bytes,
        _ => 0,
    }
}

/// The JSON of a packet on its way out, and the attachments of its payloads.
#[derive(Default)]
pub struct Departing {
    attachments: Vec<Bytes>,
}

impl Departing {
    /// A payload as JSON, with places for its bytes. Where it has what looks like such a place already, and a client would take it for one, the bytes
    /// are base64 as for everybody who has JSON alone.
    pub fn spell(&mut self, payload: &Payload) -> Vec<u8> {
        let text = || payload.spell(Codec::Json).into_owned();
        if payload.codec() == Codec::Json {
            return text();
        }
        let bytes = payload.spell(Codec::MsgPack);
        if memchr::memmem::find(&bytes, PLACEHOLDER.as_bytes()).is_some() {
            return text();
        }
        let before = self.attachments.len();
        let mut out = Vec::with_capacity(bytes.len());
        self.value(&mut &*bytes, &mut out);
        if self.attachments.len() == before {
            return text();
        }
        let with_places = Payload::parse_msgpack(out, NESTING_MAX).expect("one value stands for another");
        with_places.spell(Codec::Json).into_owned()
    }

    /// The attachments of all payloads, in order.
    pub fn into_attachments(self) -> Vec<Bytes> {
        self.attachments
    }

    /// Copies one valid value, which nests no deeper than payloads may.
    fn value(&mut self, rest: &mut &[u8], out: &mut Vec<u8>) {
        let (head, length) = Head::read(rest).expect("a payload is valid");
        let whole = length + data_bytes(head);
        let taken = &rest[..whole];
        *rest = &rest[whole..];
        match head {
            Head::Bin(_) => {
                let place = serde_json::json!({ PLACEHOLDER: true, NUMBER: self.attachments.len() });
                rmp_serde::encode::write_named(out, &place).expect("writing to memory succeeds");
                self.attachments.push(Bytes::copy_from_slice(&taken[length..]));
            }
            Head::Array(items) => {
                out.extend_from_slice(taken);
                (0..items).for_each(|_| self.value(rest, out));
            }
            Head::Map(entries) => {
                out.extend_from_slice(taken);
                for _ in 0..entries {
                    // A key is text in JSON, whatever it is here.
                    out.extend_from_slice(msgpack::take(rest).expect("a payload is valid"));
                    self.value(rest, out);
                }
            }
            _ => out.extend_from_slice(taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(json: &'static str, attachments: &[&'static [u8]]) -> Result<Payload<'static>, Illegal> {
        let payload = Payload::parse_json(json, 9).unwrap();
        Arrived::new(attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect()).put_into(payload, 9)
    }

    fn depart(payload: &Payload) -> (String, Vec<Bytes>) {
        let mut departing = Departing::default();
        let text = String::from_utf8(departing.spell(payload)).unwrap();
        (text, departing.into_attachments())
    }

    #[test]
    fn bytes_come_in_and_go_out_beside_the_json() {
        let text = r#"{"a":[{"_placeholder":true,"num":1},"x"],"b":{"_placeholder":true,"num":0},"c":{"num":7}}"#;
        let payload = arrive(text, &[b"\x00\xff", b"first"]).unwrap();
        assert_eq!(payload.codec(), Codec::MsgPack);
        assert_eq!(String::from_utf8_lossy(&payload.spell(Codec::Json)), r#"{"a":["Zmlyc3Q=","x"],"b":"AP8=","c":{"num":7}}"#);
        let (text, attachments) = depart(&payload);
        assert_eq!(text, r#"{"a":[{"_placeholder":true,"num":0},"x"],"b":{"_placeholder":true,"num":1},"c":{"num":7}}"#);
        assert_eq!(attachments, [&b"first"[..], b"\x00\xff"]);
        assert_eq!(arrive(r#"{ "_placeholder": true, "num": 0 }"#, &[b"all"]).unwrap().to_frame().unwrap().bytes(), &b"all"[..]);
    }

    #[test]
    fn without_bytes_json_stays_as_it_was_written() {
        let payload = arrive(r#"{"n":1.50,"_placeholder":true}"#, &[]).unwrap();
        assert_eq!(depart(&payload), (r#"{"n":1.50,"_placeholder":true}"#.into(), vec![]));
        let payload = Payload::parse_msgpack(payload.spell(Codec::MsgPack).into_owned(), 9).unwrap();
        assert_eq!(depart(&payload), (r#"{"n":1.5,"_placeholder":true}"#.into(), vec![]));
    }

    #[test]
    fn a_place_that_no_attachment_is_for_is_illegal() {
        for text in [
            r#"[{"_placeholder":true,"num":1}]"#,
            r#"[{"_placeholder":true,"num":-1}]"#,
            r#"[{"_placeholder":true}]"#,
            r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        ] {
            assert_eq!(arrive(text, &[b"one"]), Err(Illegal), "{text}");
        }
    }

    /// A client of Socket.IO closes its connection on a place for an attachment that it did not get, and any peer could make it one.
    #[test]
    fn what_looks_like_a_place_is_never_sent_beside_attachments() {
        let payload = rmp_serde::to_vec(&(serde_json::json!({"_placeholder": true, "num": 9}), rmp::Marker::Null.to_u8())).unwrap();
        let mut bytes = payload[..payload.len() - 2].to_vec();
        bytes.extend_from_slice(&[0xc4, 1, 7]);
        let payload = Payload::parse_msgpack(bytes, 9).unwrap();
        assert_eq!(depart(&payload), (r#"[{"_placeholder":true,"num":9},"Bw=="]"#.into(), vec![]));
    }
}
