//! JSON: messages from text. A payload is found, checked and left as the bytes it came in.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    id::ResumeToken,
    message::{Fields, Malformed, Resume},
    object::Object,
    scan,
};

/// What serde reads of a message: one pass, nothing copied but strings with escapes.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    id: Option<u64>,
    #[serde(borrow)]
    room: Option<Text<'a>>,
    #[serde(borrow)]
    to: Option<Text<'a>>,
    received: Option<u64>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    resume: Option<Object<ResumeFields<'a>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// What `hello` says to go on with a session.
#[derive(Deserialize)]
struct ResumeFields<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    received: u64,
}

impl ResumeFields<'_> {
    /// As it is meant.
    fn parse(&self) -> Resume {
        Resume { token: ResumeToken::parse(&self.token.0), received: self.received }
    }
}

/// A string that borrows from the text where it can. Serde borrows into a field that is a `Cow`, but not into an `Option` of one.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'a> Text<'a> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        match self.0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// Tells `null`, which is a payload, from no payload.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The fields that a client's message may have, out of a whole frame of text, into such as are empty. After an error they mean nothing. That a frame of
/// text is UTF-8 its door has found already.
pub fn fields<'a>(frame: &'a [u8], fields: &mut Fields<'a>) -> Result<(), Malformed> {
    debug_assert!(std::str::from_utf8(frame).is_ok(), "its door has found it already");
    if scan::fields(frame, fields).is_none() {
        *fields = with_serde(frame)?;
    }
    Ok(())
}

/// The same, however it is written.
#[cold]
pub(super) fn with_serde(text: &[u8]) -> Result<Fields<'_>, Malformed> {
    if !is_object(text) {
        return Err(Malformed::new("a message is a JSON object"));
    }
    let envelope: Envelope = serde_json::from_slice(text).map_err(|error| Malformed::new(error.to_string()))?;
    Ok(Fields {
        kind: envelope.kind.map(Text::into_bytes),
        id: envelope.id,
        room: envelope.room.map(|text| text.0),
        to: envelope.to.map(Text::into_bytes),
        received: envelope.received,
        token: envelope.token.map(|text| text.0),
        resume: envelope.resume.map(|Object(resume)| resume.parse().into()),
        payload: envelope.payload.map(|value| value.get().as_bytes()),
        metadata: envelope.metadata.map(|value| value.get().as_bytes()),
        depth: None,
    })
}

/// Each key of an object, and the bytes of its value.
pub type Entries<'a> = Vec<(Cow<'a, str>, &'a [u8])>;

/// The entries of the object that is the whole of `text`.
pub fn entries(text: &[u8]) -> Result<Entries<'_>, Malformed> {
    struct Collect;

    impl<'de> Visitor<'de> for Collect {
        type Value = Entries<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((Text(key), value)) = map.next_entry::<_, &RawValue>()? {
                entries.push((key, value.get().as_bytes()));
            }
            Ok(entries)
        }
    }

    let malformed = |error: serde_json::Error| Malformed::new(error.to_string());
    if !is_object(text) {
        return Err(Malformed::new("a message is a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let entries = deserializer.deserialize_map(Collect).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(entries)
}

/// The `id` of a message that is otherwise refused, so that the refusal can name it.
pub fn id(frame: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<u64>,
    }
    serde_json::from_slice(frame).ok().and_then(|Object(OnlyId { id })| id)
}

/// Serde would also read a struct from an array, field by field.
fn is_object(frame: &[u8]) -> bool {
    frame.trim_ascii_start().starts_with(b"{")
}

/// How deep arrays and objects nest in text that is valid JSON: 0 for a scalar. Exact where it is over `enough`, else possibly less.
pub fn nesting(text: &[u8], enough: usize) -> usize {
    // Counting is many times as fast as looking, and almost every payload has few brackets. Both differ in one bit alone, and counts of one byte
    // fit many to a register.
    let brackets = |part: &[u8]| part.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    if text.chunks(255).map(|part| usize::from(brackets(part))).sum::<usize>() <= enough {
        return 0;
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth -= 1,
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_strings() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[{}]}"#, 3), (r#"["[[[",{"\"[":1}]"#, 2), ("[[],[],[[]]]", 3)] {
            assert_eq!(nesting(text.as_bytes(), 0), depth, "{text}");
        }
    }

    /// An array was read as if its first item were the `id`, so the refusal of `[7]` named a message 7 that there was not.
    #[test]
    fn an_array_has_no_id() {
        assert_eq!(id(b"[7]"), None);
        assert_eq!(id(br#" {"id":7}"#), Some(7));
    }

    #[test]
    fn few_brackets_are_never_looked_at() {
        assert_eq!(nesting(b"[[[]]]", 3), 0);
        assert_eq!(nesting(b"[[[]]]", 2), 3);
    }
}
