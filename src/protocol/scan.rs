//! JSON as programs write it, read without looking closer than carrying it needs: what a message says of itself, and where a value of the
//! application's ends.
//!
//! Most of a message is text that has to be found valid and nothing else, so strings are passed over many bytes at a time. Whatever is unusual,
//! a line break between tokens or an escape in a name, is left to serde, and so is everything that is wrong: it knows how to say what.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::message::Fields;

/// How deep values may nest here.
const NESTING_MAX: usize = 100;

/// The fields that a client's message may have, out of the UTF-8 of a whole frame, into such as are empty: they are large, and to hand them on takes
/// longer than to fill them. `None` leaves it to another to read it, or to refuse it, and then nothing in `fields` means anything.
pub fn fields<'a>(text: &'a [u8], fields: &mut Fields<'a>) -> Option<()> {
    if has_control_characters(text) {
        return None;
    }
    let mut scanner = Scanner { rest: text, deepest: 0 };
    let (mut kind, mut room, mut to) = (None, None, None);
    scanner.take(b'{')?;
    loop {
        let key = scanner.plain_string()?;
        scanner.take(b':')?;
        let is_first = match key {
            b"type" => kind.replace(scanner.plain_string()?).is_none(),
            b"id" => fields.id.replace(scanner.integer()?).is_none(),
            b"room" => room.replace(scanner.name()?).is_none(),
            b"to" => to.replace(scanner.plain_string()?).is_none(),
            b"received" => fields.received.replace(scanner.integer()?).is_none(),
            b"token" | b"resume" => return None,
            b"payload" => fields.payload.replace(scanner.value()?).is_none(),
            // It may be null, which is as good as none, once.
            b"metadata" => fields.metadata.replace(scanner.value().filter(|value| *value != b"null")?).is_none(),
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
    (fields.kind, fields.room, fields.to) = (kind.map(Cow::Borrowed), room.map(Cow::Borrowed), to.map(Cow::Borrowed));
    fields.depth = Some(scanner.deepest);
    scanner.is_at_end().then_some(())
}

/// Is there anything in a text that a string of JSON has an escape for?
pub fn needs_escapes(text: &str) -> bool {
    quote_or_escape(text.as_bytes()).is_some() || has_control_characters(text.as_bytes())
}

/// How many bytes are looked at together where each is looked at.
const WIDTH: usize = 16;

/// Looking at all is many times as fast as looking for the first.
fn has_control_characters(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<WIDTH>() else { return text.iter().any(|byte| *byte < b' ') };
    // What the last ones have in common with those before is looked at twice rather than byte by byte.
    let (chunks, _) = text.as_chunks::<WIDTH>();
    let least = chunks.iter().fold(*last, |least, chunk| std::array::from_fn(|at| least[at].min(chunk[at])));
    least.iter().fold(false, |is_control, byte| is_control | (*byte < b' '))
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
/// two times eight.
#[inline]
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    let Some((words, rest)) = text.split_first_chunk::<WIDTH>() else {
        return text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    };
    let words = u128::from_le_bytes(*words);
    for (place, word) in [words as u64, (words >> 64) as u64].into_iter().enumerate() {
        let found = zeros(word ^ (EACH * u64::from(b'"'))) | zeros(word ^ (EACH * u64::from(b'\\')));
        if found != 0 {
            return Some(8 * place + found.trailing_zeros() as usize / 8);
        }
    }
    memchr2(b'"', b'\\', rest).map(|at| WIDTH + at)
}

/// One in each of eight bytes.
const EACH: u64 = u64::from_le_bytes([1; 8]);

/// The highest bit of the first byte that is zero, and perhaps of some behind it.
fn zeros(bytes: u64) -> u64 {
    bytes.wrapping_sub(EACH) & !bytes & (EACH << 7)
}

/// A place in a text without control characters.
struct Scanner<'a> {
    /// What is behind it.
    rest: &'a [u8],
    /// How deep the values nest that were passed so far.
    deepest: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is no space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        match self.rest {
            [b' ', ..] => self.peek_past_spaces(),
            [next, ..] => Some(*next),
            [] => None,
        }
    }

    #[cold]
    fn peek_past_spaces(&mut self) -> Option<u8> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// The same, and what follows is behind it.
    #[inline]
    fn token(&mut self) -> Option<u8> {
        let token = self.peek()?;
        self.skip(1);
        Some(token)
    }

    #[inline]
    fn take(&mut self, token: u8) -> Option<()> {
        (self.token()? == token).then_some(())
    }

    #[inline]
    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// What `pass` passes.
    #[inline]
    fn passed(&mut self, pass: impl FnOnce(&mut Self) -> Option<()>) -> Option<&'a [u8]> {
        let before = self.rest;
        pass(self)?;
        before.get(..before.len() - self.rest.len())
    }

    /// The bytes of a string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let (string, behind) = self.rest.split_at_checked(quote_or_escape(self.rest)?)?;
        self.rest = behind.strip_prefix(b"\"")?;
        Some(string)
    }

    /// The same as text.
    fn name(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.plain_string()?).ok()
    }

    /// A whole number that is not negative, and not too long to be read at a glance.
    fn integer(&mut self) -> Option<u64> {
        self.peek()?;
        let digits = self.digits()?;
        let is_short = digits.len() < "10000000000000000000".len() && (digits.len() == 1 || digits[0] != b'0');
        is_short.then(|| digits.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0')))
    }

    /// Any value, as it is written.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        self.passed(|scanner| scanner.pass(0))
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
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// What an array or an object has in it, each behind what `name` passes.
    fn items(&mut self, end: u8, depth: usize, name: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        if depth > NESTING_MAX {
            return None;
        }
        self.deepest = self.deepest.max(depth);
        self.skip(1);
        if self.peek()? == end {
            self.skip(1);
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

    #[inline]
    fn string(&mut self) -> Option<()> {
        self.skip(1);
        self.skip(quote_or_escape(self.rest)?);
        match self.rest {
            [b'"', rest @ ..] => {
                self.rest = rest;
                Some(())
            }
            _ => self.rest_of_string(),
        }
    }

    /// What is left of a string from its first escape on.
    fn rest_of_string(&mut self) -> Option<()> {
        self.skip(length_of_lines(self.rest).unwrap_or(0));
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Some(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => self.rest = rest,
                [b'\\', b'u', a, b, c, d, rest @ ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => self.rest = rest,
                [b'\\', ..] => return None,
                rest => self.skip(memchr2(b'"', b'\\', rest)?),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
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

    #[inline]
    fn optional(&mut self, any_of: &[u8]) -> bool {
        match self.rest {
            [first, rest @ ..] if any_of.iter().any(|byte| byte == first) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// One or more of them.
    fn digits(&mut self) -> Option<&'a [u8]> {
        let count = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        (count > 0).then_some(digits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{super::json, *};

    /// Both readings of a text: of the scanner, if it is one for it, and of serde.
    fn both(text: &str) -> (Option<String>, Option<String>) {
        let shown = |fields: Fields<'_>| {
            let Fields { kind, id, room, to, received, token, resume, payload, metadata, depth } = fields;
            let nesting = [payload, metadata].into_iter().flatten().map(|value| json::nesting(value, 0)).max().unwrap_or(0);
            assert!(depth.is_none_or(|depth| depth >= nesting), "{depth:?} for {nesting}");
            format!("{:?}", (kind, id, room, to, received, token, resume.is_some(), payload, metadata))
        };
        let mut scanned = Fields::default();
        let scanned = fields(text.as_bytes(), &mut scanned).map(|()| shown(scanned));
        (scanned, json::with_serde(text.as_bytes()).ok().map(shown))
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
        for length in 0..30 {
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
    fn a_control_character_is_found_wherever_it_is() {
        for length in 0..50 {
            let plain = vec![b' '; length];
            assert!(!has_control_characters(&plain));
            for at in 0..length {
                for control in [0, 0x1f] {
                    let mut text = plain.clone();
                    text[at] = control;
                    assert!(has_control_characters(&text), "{length} {at}");
                }
            }
        }
    }

    #[test]
    fn what_programs_write_is_read_here() {
        for text in [
            r#"{"type":"ping","id":9999999999999999999,"received":0}"#,
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
            r#"{"type":"ping","id":18446744073709551615}"#,
            r#"{"type":"ping","id":18446744073709551616}"#,
            r#"{"type":"ping","id":01}"#,
            r#"{"type":"ping","id":-0}"#,
            r#"{"type":"ping","id":1.5}"#,
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
