//! A value from one codec in the other, byte stream to byte stream, with no tree between them.
//!
//! The tables under *Payload and metadata* in the specification are what these two functions do. Both take input that a decoder has
//! found to be valid and nested no deeper than the bound, so they recurse, and they never fail.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rmp::encode;

use super::msgpack::{self, Head};

/// Writes one JSON value as MessagePack behind what is in `out`.
pub fn json_to_msgpack(text: &[u8], out: &mut Vec<u8>) {
    Json { text, at: 0 }.value(out);
}

/// Writes one MessagePack value as JSON behind what is in `out`.
pub fn msgpack_to_json(bytes: &[u8], out: &mut Vec<u8>) {
    MsgPack { bytes }.value(out);
}

/// A cursor over valid JSON.
struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

impl Json<'_> {
    fn value(&mut self, out: &mut Vec<u8>) {
        match self.peek() {
            b'{' => self.container(out, b'}', 0x80, [encode_map16, encode_map32], |json, out| {
                json.string(out);
                json.peek();
                json.at += 1; // the colon
                json.value(out);
            }),
            b'[' => self.container(out, b']', 0x90, [encode_array16, encode_array32], Json::value),
            b'"' => self.string(out),
            b't' => self.literal(4, 0xc3, out),
            b'f' => self.literal(5, 0xc2, out),
            b'n' => self.literal(4, 0xc0, out),
            _ => self.number(out),
        }
    }

    /// The next byte that is no white space; the cursor stands on it.
    fn peek(&mut self) -> u8 {
        while matches!(self.text[self.at], b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        self.text[self.at]
    }

    fn literal(&mut self, length: usize, marker: u8, out: &mut Vec<u8>) {
        self.at += length;
        out.push(marker);
    }

    /// How many items there are is known only behind the last one. Most containers are small, so one byte of header is left in front
    /// of them, and only a larger one is moved to make room.
    fn container(
        &mut self,
        out: &mut Vec<u8>,
        end: u8,
        fix_marker: u8,
        [encode16, encode32]: [fn(u32) -> Vec<u8>; 2],
        mut item: impl FnMut(&mut Self, &mut Vec<u8>),
    ) {
        let header = out.len();
        out.push(fix_marker);
        let mut items = 0_u32;
        self.at += 1;
        while self.peek() != end {
            if self.peek() == b',' {
                self.at += 1;
            }
            item(self, out);
            items += 1;
        }
        self.at += 1;
        match items {
            0..=15 => out[header] |= items as u8,
            16..=0xffff => drop(out.splice(header..=header, encode16(items))),
            _ => drop(out.splice(header..=header, encode32(items))),
        }
    }

    fn string(&mut self, out: &mut Vec<u8>) {
        self.peek();
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        while self.text[end] != b'"' {
            escaped |= self.text[end] == b'\\';
            end += if self.text[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        let raw = std::str::from_utf8(&self.text[start..end]).expect("JSON that was accepted is UTF-8");
        if escaped {
            write_str(&unescape(raw), out);
        } else {
            write_str(raw, out);
        }
    }

    fn number(&mut self, out: &mut Vec<u8>) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).unwrap_or(rest.len());
        self.at += length;
        let token = std::str::from_utf8(&rest[..length]).expect("a number is ASCII");
        let written = match (token, token.parse::<u64>(), token.parse::<i64>()) {
            ("-0", ..) => encode::write_f64(out, -0.0).map(drop),
            (_, Ok(unsigned), _) => encode::write_uint(out, unsigned).map(drop),
            (_, _, Ok(signed)) => encode::write_sint(out, signed).map(drop),
            _ => encode::write_f64(out, token.parse().expect("a JSON number reads as a float")).map(drop),
        };
        written.expect("writing to memory succeeds");
    }
}

fn encode_map16(items: u32) -> Vec<u8> {
    [&[0xde], &(items as u16).to_be_bytes()[..]].concat()
}

fn encode_map32(items: u32) -> Vec<u8> {
    [&[0xdf], &items.to_be_bytes()[..]].concat()
}

fn encode_array16(items: u32) -> Vec<u8> {
    [&[0xdc], &(items as u16).to_be_bytes()[..]].concat()
}

fn encode_array32(items: u32) -> Vec<u8> {
    [&[0xdd], &items.to_be_bytes()[..]].concat()
}

fn write_str(text: &str, out: &mut Vec<u8>) {
    encode::write_str(out, text).expect("writing to memory succeeds");
}

/// The text behind JSON's escapes. A surrogate without its partner, which JavaScript can send and UTF-8 cannot hold, becomes U+FFFD.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut units = Vec::new();
    let mut rest = raw;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        rest = &rest[backslash..];
        // A run of \u escapes is UTF-16: pairs of surrogates stand for one character.
        units.clear();
        while let Some(hex) = rest.strip_prefix("\\u").and_then(|digits| digits.get(..4)) {
            units.push(u16::from_str_radix(hex, 16).expect("JSON that was accepted has hexadecimal escapes"));
            rest = &rest[6..];
        }
        if units.is_empty() {
            text.push(match rest.as_bytes()[1] {
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                itself => char::from(itself),
            });
            rest = &rest[2..];
        } else {
            text.extend(char::decode_utf16(units.iter().copied()).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
    }
    text + rest
}

/// A cursor over valid MessagePack.
struct MsgPack<'a> {
    bytes: &'a [u8],
}

impl<'a> MsgPack<'a> {
    fn value(&mut self, out: &mut Vec<u8>) {
        match self.head() {
            Head::Nil => out.extend_from_slice(b"null"),
            Head::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Head::Uint(value) => write_json(&value, out),
            Head::Int(value) => write_json(&value, out),
            // serde_json spells what is no finite number as null.
            Head::Float(value) => write_json(&value, out),
            Head::Str(length) => write_json(&String::from_utf8_lossy(self.take(length)), out),
            Head::Bin(length) => write_json(&BASE64_STANDARD.encode(self.take(length)), out),
            Head::Ext(kind, length) => {
                let data = BASE64_STANDARD.encode(self.take(length));
                out.extend_from_slice(format!(r#"{{"ext":{kind},"data":"{data}"}}"#).as_bytes());
            }
            Head::Array(items) => {
                out.push(b'[');
                for item in 0..items {
                    if item > 0 {
                        out.push(b',');
                    }
                    self.value(out);
                }
                out.push(b']');
            }
            Head::Map(entries) => {
                out.push(b'{');
                for entry in 0..entries {
                    if entry > 0 {
                        out.push(b',');
                    }
                    self.key(out);
                    out.push(b':');
                    self.value(out);
                }
                out.push(b'}');
            }
        }
    }

    /// A key is a string in JSON, whatever it was: text and binary as they would be as values, arrays and maps as if they were
    /// binary, anything else as its JSON text. The JSON text of an array or a map may hold keys that are text of JSON already; each
    /// level escapes the one below, and the backslashes would double.
    fn key(&mut self, out: &mut Vec<u8>) {
        if let (Head::Array(_) | Head::Map(_), _) = self.peek() {
            let length = msgpack::length(self.bytes).expect("MessagePack that was accepted is valid");
            return write_json(&BASE64_STANDARD.encode(self.take(length)), out);
        }
        let start = out.len();
        self.value(out);
        if out[start] != b'"' {
            let text = String::from_utf8(out.split_off(start)).expect("JSON is UTF-8");
            write_json(&text, out);
        }
    }

    fn peek(&self) -> (Head, usize) {
        Head::read(self.bytes).expect("MessagePack that was accepted is valid")
    }

    fn head(&mut self) -> Head {
        let (head, length) = self.peek();
        self.take(length);
        head
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }
}

fn write_json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("writing a scalar to memory succeeds");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn to_msgpack(json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        json_to_msgpack(json.as_bytes(), &mut out);
        out
    }

    fn to_json(msgpack: &[u8]) -> String {
        let mut out = Vec::new();
        msgpack_to_json(msgpack, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no other", |f| f.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 128, 40, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..40).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..40).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_json_value_arrives_equal(value in any_json()) {
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let msgpack = to_msgpack(&text);
                prop_assert_eq!(&rmp_serde::from_slice::<Value>(&msgpack).unwrap(), &value);
                prop_assert_eq!(&serde_json::from_str::<Value>(&to_json(&msgpack)).unwrap(), &value);
            }
        }
    }

    #[test]
    fn large_containers_get_large_headers() {
        for items in [0, 15, 16, 65_535, 65_536] {
            let array = Value::from(vec![1; items]);
            assert_eq!(rmp_serde::from_slice::<Value>(&to_msgpack(&array.to_string())).unwrap(), array);
            let map: Value = (0..items).map(|n| (n.to_string(), Value::Null)).collect::<serde_json::Map<_, _>>().into();
            assert_eq!(rmp_serde::from_slice::<Value>(&to_msgpack(&map.to_string())).unwrap(), map);
        }
    }

    #[test]
    fn what_json_says_beyond_messagepack_is_as_specified() {
        let float = |value: f64| [&[0xcb], &value.to_be_bytes()[..]].concat();
        assert_eq!(to_msgpack("18446744073709551615"), [&[0xcf], &[0xff; 8][..]].concat());
        assert_eq!(to_msgpack("18446744073709551616"), float(18_446_744_073_709_551_616.0));
        assert_eq!(to_msgpack("-9223372036854775808"), [&[0xd3, 0x80], &[0; 7][..]].concat());
        assert_eq!(to_msgpack("-0"), float(-0.0));
        assert_eq!(to_msgpack("1.0"), float(1.0));
        assert_eq!(to_msgpack("1e400"), float(f64::INFINITY));
        assert_eq!(to_msgpack("-1e400"), float(f64::NEG_INFINITY));
        assert_eq!(to_msgpack(r#""\ud800x""#), "\u{a4}".as_bytes()[1..].iter().chain("\u{fffd}x".as_bytes()).copied().collect::<Vec<_>>());
        assert_eq!(to_msgpack(r#""\ud83d\ude00\n\/\\""#), [&[0xa7], "😀\n/\\".as_bytes()].concat());
        assert_eq!(to_msgpack(r#"{"a":1,"a":2}"#), [0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]);
    }

    #[test]
    fn what_messagepack_says_beyond_json_is_as_specified() {
        assert_eq!(to_json(&[0xc4, 3, 0, 1, 255]), r#""AAH/""#);
        assert_eq!(to_json(&[0xcf, 0, 0x20, 0, 0, 0, 0, 0, 1]), "9007199254740993");
        assert_eq!(to_json(&[0xca, 0x3f, 0x80, 0, 0]), "1.0");
        assert_eq!(to_json(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]), "null");
        assert_eq!(to_json(&[0xca, 0x7f, 0x80, 0, 0]), "null");
        assert_eq!(to_json(&[0xa2, b'a', 0xff]), "\"a\u{fffd}\"");
        assert_eq!(to_json(&[0xd6, 0xff, 0, 0, 0, 1]), r#"{"ext":-1,"data":"AAAAAQ=="}"#);
        let keys = [0x85, 1, 0xc0, 0xc3, 0xc0, 0xc4, 1, 0, 0xc0, 0x91, 0xa1, b'x', 0xc0, 0xc0, 0xc0];
        assert_eq!(to_json(&keys), r#"{"1":null,"true":null,"AA==":null,"kaF4":null,"null":null}"#);
    }

    /// A map as the key of a map as the key of a map was spelled as JSON text within JSON text within JSON text, and the backslashes
    /// doubled with every level: 200 bytes could ask for more memory than there is.
    #[test]
    fn keys_within_keys_do_not_grow_without_bound() {
        let mut nested = vec![0x81; 64];
        nested.extend([0xc0; 65]);
        assert!(to_json(&nested).len() < 2 * nested.len());
    }
}
