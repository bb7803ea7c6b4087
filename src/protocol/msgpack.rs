//! MessagePack: messages from bytes, and the walk that finds where a value ends.
//!
//! Lengths in headers lie, so nothing is allocated by them: a value is walked marker by marker, and a header that promises more than there
//! is runs out of bytes. A message of many small or deep values costs no more memory than one of a single value.

use std::borrow::Cow;

use rmp::Marker;

use super::{
    id::ResumeToken,
    message::{Fields, Malformed, Resume},
};

/// What a value begins with: the value itself if it is a scalar, and otherwise how much follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// nil
    Nil,
    /// true, false
    Bool(bool),
    /// positive fixint, uint 8 to 64
    Uint(u64),
    /// negative fixint, int 8 to 64
    Int(i64),
    /// float 32 and 64
    Float(f64),
    /// So many bytes of text follow.
    Str(usize),
    /// So many bytes follow.
    Bin(usize),
    /// So many bytes of an application's own type follow.
    Ext(i8, usize),
    /// So many values follow.
    Array(u32),
    /// So many keys, each with its value, follow.
    Map(u32),
}

impl Head {
    /// Reads it from the front of `bytes`: the head, and how many bytes it takes. `None` if it is cut short or no MessagePack.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let rest = bytes.get(1..)?;
        let u8 = || rest.first_chunk().copied().map(u8::from_be_bytes);
        let u16 = || rest.first_chunk().copied().map(u16::from_be_bytes);
        let u32 = || rest.first_chunk().copied().map(u32::from_be_bytes);
        let u64 = || rest.first_chunk().copied().map(u64::from_be_bytes);
        let ext = |length: usize, width: usize| Some((Self::Ext(*rest.get(width)? as i8, length), 2 + width));
        Some(match Marker::from_u8(*bytes.first()?) {
            Marker::Null => (Self::Nil, 1),
            Marker::Reserved => return None,
            Marker::False => (Self::Bool(false), 1),
            Marker::True => (Self::Bool(true), 1),
            Marker::FixPos(value) => (Self::Uint(value.into()), 1),
            Marker::U8 => (Self::Uint(u8()?.into()), 2),
            Marker::U16 => (Self::Uint(u16()?.into()), 3),
            Marker::U32 => (Self::Uint(u32()?.into()), 5),
            Marker::U64 => (Self::Uint(u64()?), 9),
            Marker::FixNeg(value) => (Self::Int(value.into()), 1),
            Marker::I8 => (Self::Int((u8()? as i8).into()), 2),
            Marker::I16 => (Self::Int((u16()? as i16).into()), 3),
            Marker::I32 => (Self::Int((u32()? as i32).into()), 5),
            Marker::I64 => (Self::Int(u64()? as i64), 9),
            Marker::F32 => (Self::Float(f32::from_bits(u32()?).into()), 5),
            Marker::F64 => (Self::Float(f64::from_bits(u64()?)), 9),
            Marker::FixStr(length) => (Self::Str(length.into()), 1),
            Marker::Str8 => (Self::Str(u8()?.into()), 2),
            Marker::Str16 => (Self::Str(u16()?.into()), 3),
            Marker::Str32 => (Self::Str(u32()? as usize), 5),
            Marker::Bin8 => (Self::Bin(u8()?.into()), 2),
            Marker::Bin16 => (Self::Bin(u16()?.into()), 3),
            Marker::Bin32 => (Self::Bin(u32()? as usize), 5),
            Marker::FixExt1 => ext(1, 0)?,
            Marker::FixExt2 => ext(2, 0)?,
            Marker::FixExt4 => ext(4, 0)?,
            Marker::FixExt8 => ext(8, 0)?,
            Marker::FixExt16 => ext(16, 0)?,
            Marker::Ext8 => ext(u8()?.into(), 1)?,
            Marker::Ext16 => ext(u16()?.into(), 2)?,
            Marker::Ext32 => ext(u32()? as usize, 4)?,
            Marker::FixArray(items) => (Self::Array(items.into()), 1),
            Marker::Array16 => (Self::Array(u16()?.into()), 3),
            Marker::Array32 => (Self::Array(u32()?), 5),
            Marker::FixMap(entries) => (Self::Map(entries.into()), 1),
            Marker::Map16 => (Self::Map(u16()?.into()), 3),
            Marker::Map32 => (Self::Map(u32()?), 5),
        })
    }
}

/// What is found of a value by walking it.
struct Extent {
    /// How many bytes it takes.
    bytes: usize,
    /// How many arrays and maps it has in it, itself among them: it nests no deeper.
    containers: usize,
}

/// Walks the value at the front of `bytes`. Time is bounded by the bytes that are there, and nothing is allocated.
fn extent(bytes: &[u8]) -> Result<Extent, Malformed> {
    let cut_short = || Malformed::new("the MessagePack is cut short or has the reserved marker 0xc1");
    let (mut at, mut left, mut containers) = (0, 1_u64, 0);
    while left > 0 {
        left -= 1;
        at += match bytes.get(at..) {
            // Short text and small numbers, of which most of a message is, tell all by their marker.
            Some([marker @ 0xa0..=0xbf, ..]) => 1 + usize::from(marker & 0x1f),
            Some([0x00..=0x7f, ..]) => 1,
            rest => {
                let (head, head_bytes) = rest.and_then(Head::read).ok_or_else(cut_short)?;
                containers += usize::from(matches!(head, Head::Array(_) | Head::Map(_)));
                left = left.saturating_add(match head {
                    Head::Array(items) => items.into(),
                    Head::Map(entries) => 2 * u64::from(entries),
                    _ => 0,
                });
                match head {
                    Head::Str(body) | Head::Bin(body) | Head::Ext(_, body) => head_bytes + body,
                    _ => head_bytes,
                }
            }
        };
    }
    if at > bytes.len() { Err(cut_short()) } else { Ok(Extent { bytes: at, containers }) }
}

/// How many bytes the value at the front of `bytes` takes.
pub fn length(bytes: &[u8]) -> Result<usize, Malformed> {
    extent(bytes).map(|extent| extent.bytes)
}

/// How deep arrays and maps nest in the valid value at the front of `bytes`: 0 for a scalar. Looks no deeper than one level past
/// `enough`, which bounds what it keeps.
pub fn nesting(bytes: &[u8], enough: usize) -> usize {
    let mut at = 0;
    let mut deepest = 0;
    // How many values are still to come on each level.
    let mut levels: Vec<u64> = vec![];
    while deepest <= enough {
        let (head, length) = Head::read(&bytes[at..]).expect("MessagePack that was accepted is valid");
        at += length;
        match head {
            Head::Str(length) | Head::Bin(length) | Head::Ext(_, length) => at += length,
            Head::Array(items) => levels.push(items.into()),
            Head::Map(entries) => levels.push(2 * u64::from(entries)),
            _ => {}
        }
        deepest = deepest.max(levels.len());
        while levels.last() == Some(&0) {
            levels.pop();
        }
        match levels.last_mut() {
            Some(left) => *left -= 1,
            None => break,
        }
    }
    deepest
}

/// The entries of a map: each key, and the bytes of its value. Ends with the first that is wrong.
pub struct Entries<'a> {
    rest: &'a [u8],
    /// How many are to come; none if there is no map.
    left: Option<u32>,
    has_failed: bool,
    /// How many arrays and maps are in the values so far.
    containers: usize,
}

/// The entries of the map that is the whole of `bytes`.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    let (left, length) = match Head::read(bytes) {
        Some((Head::Map(count), length)) => (Some(count), length),
        _ => (None, 0),
    };
    Entries { rest: &bytes[length..], left, has_failed: false, containers: 0 }
}

/// A key, whose bytes are yet to be found text, and its value.
type EntryInBytes<'a> = (&'a [u8], &'a [u8]);

impl<'a> Entries<'a> {
    /// The same as [`Iterator::next`], for who knows the keys.
    fn next_in_bytes(&mut self) -> Option<Result<EntryInBytes<'a>, Malformed>> {
        let next = match self.left {
            _ if self.has_failed => return None,
            None => Err(Malformed::new("a message is a MessagePack map")),
            Some(0) if self.rest.is_empty() => return None,
            Some(0) => Err(Malformed::new("something stands behind the message")),
            Some(count) => {
                self.left = Some(count - 1);
                self.entry()
            }
        };
        self.has_failed = next.is_err();
        Some(next)
    }

    fn entry(&mut self) -> Result<EntryInBytes<'a>, Malformed> {
        let key = body(self.value()?).ok_or_else(no_key)?;
        Ok((key, self.value()?))
    }

    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let Extent { bytes, containers } = extent(self.rest)?;
        self.containers += containers;
        let (value, behind) = self.rest.split_at(bytes);
        self.rest = behind;
        Ok(value)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(&'a str, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_in_bytes()?.and_then(|(key, value)| Ok((std::str::from_utf8(key).map_err(|_| no_key())?, value)));
        self.has_failed = next.is_err();
        Some(next)
    }
}

fn no_key() -> Malformed {
    Malformed::new("the keys of a message are strings")
}

/// Takes one value off the front.
pub fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (value, behind) = rest.split_at(length(rest)?);
    *rest = behind;
    Ok(value)
}

/// The text that a whole value is, or bytes that are text: some libraries write those.
fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(body(value)?).ok()
}

/// The same, left as bytes: nearly always ASCII, which is found faster than other text.
fn text_in_bytes(value: &[u8]) -> Option<&[u8]> {
    body(value).filter(|body| body.is_ascii()).or_else(|| text(value).map(str::as_bytes))
}

/// The bytes of it, before they are found text.
fn body(value: &[u8]) -> Option<&[u8]> {
    match value {
        [0xa0..=0xbf, body @ ..] => Some(body),
        _ => match Head::read(value)? {
            (Head::Str(_) | Head::Bin(_), length) => Some(&value[length..]),
            _ => None,
        },
    }
}

/// The values that have a meaning for us, before they are read.
#[derive(Default)]
struct Values<'a> {
    kind: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    room: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    token: Option<&'a [u8]>,
    resume: Option<&'a [u8]>,
}

/// The fields that a client's message may have, out of a whole frame, into such as are empty. After an error they mean nothing.
pub fn fields<'a>(frame: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    let mut values = Values::default();
    let mut entries = entries(frame);
    while let Some(entry) = entries.next_in_bytes() {
        let (key, value) = entry?;
        let place = match key {
            b"type" => &mut values.kind,
            b"id" => &mut values.id,
            b"room" => &mut values.room,
            b"to" => &mut values.to,
            b"received" => &mut values.received,
            b"token" => &mut values.token,
            b"resume" => &mut values.resume,
            b"payload" => &mut fields.payload,
            b"metadata" => &mut fields.metadata,
            _ if std::str::from_utf8(key).is_err() => return Err(no_key()),
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Malformed::twice(&String::from_utf8_lossy(key)));
        }
    }
    fields.kind = scalar("type", values.kind)?;
    fields.id = scalar("id", values.id)?;
    fields.room = scalar("room", values.room)?;
    fields.to = scalar("to", values.to)?;
    fields.received = scalar("received", values.received)?;
    fields.token = scalar("token", values.token)?;
    fields.resume = scalar("resume", values.resume)?.map(Box::new);
    if fields.metadata == Some(&[NIL]) {
        fields.metadata = None;
    }
    fields.depth = Some(entries.containers);
    Ok(())
}

/// The `id` of a message that is otherwise refused, so that the refusal can name it. Of two ids it is neither.
pub fn id(frame: &[u8]) -> Option<u64> {
    let mut id = None;
    for entry in entries(frame) {
        let (key, value) = entry.ok()?;
        if key == "id" && id.replace(value).is_some() {
            return None;
        }
    }
    u64::read(id?)?
}

/// nil, which is as good as missing, but for a payload.
const NIL: u8 = 0xc0;

fn scalar<'a, T: FromMsgPack<'a>>(key: &str, value: Option<&'a [u8]>) -> Result<Option<T>, Malformed> {
    value.map_or(Ok(None), |value| T::read(value).ok_or_else(|| Malformed::wrong_type(key)))
}

/// Scalars that a message's own fields hold; the outer `None` is a wrong type, the inner one nil.
trait FromMsgPack<'a>: Sized {
    fn read(value: &'a [u8]) -> Option<Option<Self>>;
}

impl<'a> FromMsgPack<'a> for Cow<'a, str> {
    fn read(value: &'a [u8]) -> Option<Option<Self>> {
        if value == [NIL] { Some(None) } else { text(value).map(|text| Some(Cow::Borrowed(text))) }
    }
}

impl<'a> FromMsgPack<'a> for Cow<'a, [u8]> {
    fn read(value: &'a [u8]) -> Option<Option<Self>> {
        if value == [NIL] { Some(None) } else { text_in_bytes(value).map(|text| Some(Cow::Borrowed(text))) }
    }
}

impl<'a> FromMsgPack<'a> for Resume {
    fn read(value: &'a [u8]) -> Option<Option<Self>> {
        if value == [NIL] {
            return Some(None);
        }
        let (mut token, mut received) = (None, None);
        for entry in entries(value) {
            let (key, value) = entry.ok()?;
            let place = match key {
                "token" => &mut token,
                "received" => &mut received,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(Some(Resume { token: ResumeToken::parse(text(token?)?), received: u64::read(received?)?? }))
    }
}

impl<'a> FromMsgPack<'a> for u64 {
    fn read(value: &'a [u8]) -> Option<Option<Self>> {
        match Head::read(value)?.0 {
            Head::Nil => Some(None),
            Head::Uint(value) => Some(Some(value)),
            Head::Int(value) => Some(Some(value.try_into().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of all kinds, in all spellings that are to be told apart.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let text = || "[a-zé]{0,40}".prop_map(String::into_bytes);
        let leaf = prop_oneof![
            any::<u64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
            any::<i64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
            (-40..200_i64).prop_map(|value| [&[0xd3], &value.to_be_bytes()[..]].concat()),
            any::<f64>().prop_map(|value| rmp_serde::to_vec(&value).unwrap()),
            prop::sample::select(&[0xc0_u8, 0xc2, 0xc3][..]).prop_map(|marker| vec![marker]),
            text().prop_map(|text| rmp_serde::to_vec(&String::from_utf8(text).unwrap()).unwrap()),
            // Bytes that are text, and text that is none.
            text().prop_map(|text| [&[0xc4, text.len() as u8], &text[..]].concat()),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| [&[0xa0 | bytes.len() as u8], &bytes[..]].concat()),
            any::<[u8; 2]>().prop_map(|bytes| [&[0xd5, 7], &bytes[..]].concat()),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| [&[0x90 | items.len() as u8], &items.concat()[..]].concat()),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(|entries| {
                    let spelled: Vec<u8> = entries.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect();
                    [&[0x80 | entries.len() as u8], &spelled[..]].concat()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_reads(value in value()) {
            let text = rmp_serde::from_slice::<Option<&str>>(&value).ok();
            prop_assert_eq!(Cow::<str>::read(&value), text.map(|text| text.map(Into::into)));
            prop_assert_eq!(Cow::<[u8]>::read(&value), text.map(|text| text.map(|text| text.as_bytes().into())));
            prop_assert_eq!(u64::read(&value), rmp_serde::from_slice::<Option<u64>>(&value).ok());
        }

        #[test]
        fn a_value_ends_where_it_ends_and_nests_no_deeper_than_is_told(value in value(), behind in any::<u8>()) {
            let longer = [&value[..], &[behind]].concat();
            let Extent { bytes, containers } = extent(&longer).unwrap();
            prop_assert_eq!(bytes, value.len());
            prop_assert!(containers >= nesting(&value, 100));
            for cut in 0..value.len() {
                prop_assert!(extent(&value[..cut]).is_err(), "cut at {}", cut);
            }
        }
    }

    #[test]
    fn a_value_tells_where_it_ends_and_how_deep_it_is() {
        for (bytes, length, depth) in [
            (&[0xc0, 9][..], 1, 0),
            (&[0x90, 9], 1, 1),
            (&[0x91, 0x91, 0x90, 9], 3, 3),
            (&[0x82, 1, 0x90, 2, 0x91, 0xa1, b'x', 9], 7, 2),
            (&[0xd8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 18, 0),
            (&[0xc7, 2, 5, 0, 0, 9], 5, 0),
        ] {
            assert_eq!(super::length(bytes), Ok(length), "{bytes:x?}");
            assert_eq!(nesting(bytes, 3), depth, "{bytes:x?}");
            for cut in 0..length {
                assert!(super::length(&bytes[..cut]).is_err(), "{bytes:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn lengths_that_lie_run_out_of_bytes() {
        for bytes in [
            &[0xdd, 255, 255, 255, 255][..],
            &[0xdf, 255, 255, 255, 255, 1],
            &[0xdb, 255, 255, 255, 255, b'x'],
            &[0xc6, 255, 255, 255, 255],
        ] {
            assert!(length(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_deep_value_is_walked_without_recursion_and_looked_into_no_further_than_asked() {
        let mut deep = vec![0x91; 1_000_000];
        deep.push(0xc0);
        assert_eq!(length(&deep), Ok(1_000_001));
        assert_eq!(nesting(&deep, 64), 65);
    }

    fn read(frame: &[u8]) -> Result<(), Malformed> {
        fields(frame, &mut Fields::default())
    }

    #[test]
    fn entries_end_with_the_first_that_is_wrong() {
        let all = |bytes: &'static [u8]| entries(bytes).collect::<Vec<_>>();
        assert_eq!(all(b"\x82\xa1a\x01\xa1b\x91\x02"), [Ok(("a", &b"\x01"[..])), Ok(("b", &b"\x91\x02"[..]))]);
        assert_eq!(all(b"\x80"), []);
        for (bytes, whole) in [
            (&b""[..], 0),
            (b"\x91\x01", 0),
            (b"\x82\xa1a\x01", 1),
            (b"\x81\xa1a\x01\x01", 1),
            (b"\x82\xa1a\x01\x07\x01", 1),
            (b"\x81\xa1\xff\x01", 0),
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
            let all = all(bytes);
            assert_eq!(all.len(), whole + 1, "{bytes:x?}");
            assert!(all[whole].is_err(), "{bytes:x?}");
        }
    }

    /// A key was taken to stand once as long as nothing but nil had stood under it, so `room: nil, room: "r"` was read as `room: "r"`.
    #[test]
    fn a_key_stands_twice_whatever_is_under_it() {
        for key in ["type", "id", "room", "to", "received", "payload", "metadata"] {
            for values in [[b"\xc0", b"\x01"], [b"\x01", b"\xc0"], [b"\xc0", b"\xc0"], [b"\x01", b"\x01"]] {
                let entry = |value: &[u8; 1]| [&[0xa0 | key.len() as u8], key.as_bytes(), value].concat();
                let frame = [b"\x82".to_vec(), entry(values[0]), entry(values[1])].concat();
                assert_eq!(read(&frame).err(), Some(Malformed::twice(key)), "{frame:x?}");
                assert_eq!(id(&frame), None);
            }
        }
        assert!(read(b"\x82\xa1x\x01\xa1x\x02").is_ok(), "a key without a meaning is not looked at");
    }
}
