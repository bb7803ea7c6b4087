//! JSON as programs write it, read without looking closer than carrying it needs: what a message says of itself, and where a value of the
//! application's ends.
//!
//! Most of a message is text that has to be found valid and nothing else, so strings are passed over many bytes at a time. Whatever is unusual,
//! a line break between tokens or an escape in a name, is left to serde, and so is everything that is wrong: it knows how to say what.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::{
    message::Fields,
    payload::{Codec, Payload},
};

/// How deep values may nest here.
const NESTING_MAX: usize = 100;

/// The fields that a client's message may have, out of a whole frame; `None` leaves it to another to read it, or to refuse it.
pub fn fields<'a>(frame: &'a Bytes, text: &'a str) -> Option<Fields<'a>> {
    if has_control_characters(frame) {
        return None;
    }
    let mut scanner = Scanner { text, at: 0, deepest: 0 };
    let mut fields = Fields::default();
    let opaque = |value: &str| Some(Payload::new(Codec::Json, frame.slice_ref(value.as_bytes())));
    scanner.take(b'{')?;
    loop {
        let key = scanner.plain_string()?;
        scanner.take(b':')?;
        let is_first = match key {
            "type" => fields.kind.replace(Cow::Borrowed(scanner.plain_string()?)).is_none(),
            "id" => fields.id.replace(scanner.integer()?).is_none(),
            "room" => fields.room.replace(Cow::Borrowed(scanner.plain_string()?)).is_none(),
            "to" => fields.to.replace(Cow::Borrowed(scanner.plain_string()?)).is_none(),
            "received" => fields.received.replace(scanner.integer()?).is_none(),
            "token" | "resume" => return None,
            "payload" => std::mem::replace(&mut fields.payload, opaque(scanner.value()?)).is_none(),
            // It may be null, which is as good as none, once.
            "metadata" => std::mem::replace(&mut fields.metadata, opaque(scanner.value().filter(|value| *value != "null")?)).is_none(),
            _ => scanner.value().is_some(),
        };
        if !is_first {
            return None;
        }
        match scanner.token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    fields.depth = Some(scanner.deepest);
    scanner.is_at_end().then_some(fields)
}

/// Counting all is many times as fast as looking for the first.
fn has_control_characters(text: &[u8]) -> bool {
    text.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < b' '
}

/// Where the string that `text` is the rest of ends, if it has no escapes but line breaks: then no byte of it needs a look of its own. So it is
/// with SDP.
fn length_of_lines(text: &[u8]) -> Option<usize> {
    let length = memchr(b'"', text)?;
    let is_other = |byte: u8, next: u8| u8::from(byte == b'\\') & u8::from(next != b'r') & u8::from(next != b'n');
    let others = text[..length].iter().zip(&text[1..]).fold(0, |others, (byte, next)| others | is_other(*byte, *next));
    (others == 0).then_some(length)
}

/// How far it is to the next quote or escape. Most names are short, and a search of many bytes at a time takes longer to begin than to look at
/// eight.
#[inline]
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    if let Some(first) = text.first_chunk() {
        let first = u64::from_le_bytes(*first);
        let found = zeros(first ^ (EACH * u64::from(b'"'))) | zeros(first ^ (EACH * u64::from(b'\\')));
        if found != 0 {
            return Some(found.trailing_zeros() as usize / 8);
        }
    }
    memchr2(b'"', b'\\', text)
}

/// One in each of eight bytes.
const EACH: u64 = u64::from_le_bytes([1; 8]);

/// The highest bit of the first byte that is zero, and perhaps of some behind it.
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(EACH) & !bytes & (EACH << 7)
}

/// A place in a text without control characters.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// How deep the values nest that were passed so far.
    deepest: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// The next byte that is no space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    fn token(&mut self) -> Option<u8> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    fn take(&mut self, token: u8) -> Option<()> {
        (self.token()? == token).then_some(())
    }

    fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let begin = self.at;
        self.at += quote_or_escape(self.rest())?;
        let string = &self.text[begin..self.at];
        self.take(b'"')?;
        Some(string)
    }

    /// A whole number that is not negative.
    fn integer(&mut self) -> Option<u64> {
        self.peek()?;
        let begin = self.at;
        self.number()?;
        self.text[begin..self.at].parse().ok()
    }

    /// Any value, as it is written.
    fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let begin = self.at;
        self.pass(0)?;
        Some(&self.text[begin..self.at])
    }

    fn pass(&mut self, outside: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.items(b'}', outside + 1, |scanner| {
                scanner.peek().filter(|next| *next == b'"')?;
                scanner.string()?;
                scanner.take(b':')
            }),
            b'[' => self.items(b']', outside + 1, |_| Some(())),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    /// What an array or an object has in it, each behind what `name` passes.
    fn items(&mut self, end: u8, depth: usize, name: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        if depth > NESTING_MAX {
            return None;
        }
        self.deepest = self.deepest.max(depth);
        self.at += 1;
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            name(self)?;
            self.pass(depth)?;
            match self.token()? {
                b',' => {}
                token => return (token == end).then_some(()),
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        self.at += quote_or_escape(self.rest())?;
        if self.rest().starts_with(b"\\") {
            self.at += length_of_lines(self.rest()).unwrap_or(0);
        }
        loop {
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Some(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => self.at += 6,
                [b'\\', ..] => return None,
                rest => self.at += memchr2(b'"', b'\\', rest)?,
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Option<()> {
        self.optional(b"-");
        if !self.optional(b"0") {
            self.digits()?;
        }
        if self.optional(b".") {
            self.digits()?;
        }
        if self.optional(b"eE") {
            self.optional(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn optional(&mut self, any_of: &[u8]) -> bool {
        let is_there = self.rest().first().is_some_and(|byte| any_of.contains(byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::json, *};

    /// Both readings of a text: of the scanner, if it is one for it, and of serde.
    fn both(text: &str) -> (Option<String>, Option<String>) {
        let frame = Bytes::copy_from_slice(text.as_bytes());
        let shown = |fields: Fields<'_>| {
            let Fields { kind, id, room, to, received, token, resume, payload, metadata, depth } = fields;
            let values = [&payload, &metadata].into_iter().flatten().map(|value| value.spell(Codec::Json).into_owned());
            let nesting = values.map(|value| json::nesting(&value, 0)).max().unwrap_or(0);
            assert!(depth.is_none_or(|depth| depth >= nesting), "{depth:?} for {nesting}");
            format!("{:?}", (kind, id, room, to, received, token, resume.is_some(), payload, metadata))
        };
        let scanned = fields(&frame, std::str::from_utf8(&frame).unwrap()).map(shown);
        (scanned, json::with_serde(&frame, std::str::from_utf8(&frame).unwrap()).ok().map(shown))
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// Names that mean something and others, each with any value.
    fn message() -> impl Strategy<Value = String> {
        let key = prop::sample::select(
            &["type", "id", "room", "to", "received", "token", "resume", "payload", "metadata", "other", "\\u0069d"][..],
        );
        let value = prop_oneof![value(), any::<u32>().prop_map(Value::from), "[a-z]{1,9}".prop_map(Value::from)];
        (prop::collection::vec((key, value), 0..6), any::<bool>()).prop_map(|(fields, wide)| {
            let (comma, colon) = if wide { (" , ", " : ") } else { (",", ":") };
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\"{colon}{value}")).collect();
            format!("{{{}}}", fields.join(comma))
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_reads(text in message()) {
            let (scanned, read) = both(&text);
            prop_assert!(scanned.is_none() || scanned == read, "{scanned:?} for {read:?}");
        }

        #[test]
        fn what_serde_refuses_is_not_read(text in message(), at in any::<prop::sample::Index>(), other in any::<char>()) {
            let mut characters: Vec<_> = text.chars().collect();
            let at = at.index(characters.len());
            for changed in [Some(other), None, Some('"'), Some('\\'), Some('}'), Some('0'), Some('e')] {
                characters.splice(at..=at, changed);
                let (scanned, read) = both(&characters.iter().collect::<String>());
                prop_assert!(scanned.is_none() || scanned == read, "{scanned:?} for {read:?}");
                if changed.is_none() {
                    characters.insert(at, 'x');
                }
            }
        }
    }

    #[test]
    fn the_next_quote_or_escape_is_found_wherever_it_is() {
        for length in 0..20 {
            for at in 0..length {
                for (sought, other) in [(b'"', b'#'), (b'\\', b']'), (b'"', b'!'), (b'"', 0xa2), (b'\\', 0xff), (b'"', 0)] {
                    let mut text = vec![other; length];
                    assert_eq!(quote_or_escape(&text), None, "{text:?}");
                    text[at] = sought;
                    assert_eq!(quote_or_escape(&text), Some(at), "{text:?}");
                    text[at..].fill(sought);
                    assert_eq!(quote_or_escape(&text), Some(at), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn what_programs_write_is_read_here() {
        for text in [
            r#"{"type":"offer","to":"b","payload":{"type":"offer","sdp":"v=0\r\no=\u00e9 \"é\" \/"}}"#,
            r#"{ "type": "message", "id": 7, "room": "r", "payload": [null, true, false, -0.5e+3, {}, [], ""] }"#,
            r#"{"type":"ping","received":0,"unknown":{"a":[{"b":1}]}}"#,
            r#"{"type":"message","payload":null}"#,
        ] {
            let (scanned, read) = both(text);
            assert!(scanned.is_some() && scanned == read, "{text}: {scanned:?} for {read:?}");
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_left_to_serde() {
        let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(NESTING_MAX + 1), "]".repeat(NESTING_MAX + 1));
        for text in [
            "",
            "{}",
            "[]",
            "{\"type\":\n\"ping\"}",
            r#"{"type":"p\u0069ng"}"#,
            r#"{"type":"ping","type":"ping"}"#,
            r#"{"type":"join","metadata":null}"#,
            r#"{"type":"ping","id":1e3}"#,
            r#"{"type":"ping","id":18446744073709551616}"#,
            r#"{"payload":01}"#,
            r#"{"payload":1.}"#,
            r#"{"payload":-}"#,
            r#"{"payload":"\x"}"#,
            r#"{"payload":"\u00g0"}"#,
            r#"{"payload":[1,]}"#,
            r#"{"payload":{"a"}}"#,
            r#"{"payload":tru}"#,
            r#"{"payload":1}}"#,
            r#"{"payload":1"#,
            r#"{"payload":"open"#,
            r#"{"payload":"\"#,
            &deep,
        ] {
            assert_eq!(both(text).0, None, "{text}");
        }
    }
}
