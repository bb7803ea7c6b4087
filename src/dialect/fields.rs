//! The fields of a JSON object, in the order in which they stand, with their values as they were written.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::protocol::{Codec, Payload};

/// One JSON object.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A string that borrows from the text where it can.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// Reads an object; `None` for everything else.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The value of a field as it was written. Of two with one name it is the last, as in JavaScript.
    pub fn find(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// The field of an object that has just one.
    pub fn only(&self) -> Option<(&str, &'a RawValue)> {
        match &self.0[..] {
            [(key, value)] => Some((key, value)),
            _ => None,
        }
    }

    /// The value of a field that is a string.
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Text<'_>>(self.find(key)?.get()).ok().map(|text| text.0)
    }

    /// The value of a field that is read as a type of ours.
    pub fn read<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.find(key)?.get()).ok()
    }

    /// Puts all fields but these behind what is in `object`, which is an object that is open and has fields already.
    pub fn write_without(&self, without: &[&str], object: &mut Vec<u8>) {
        for (key, value) in self.0.iter().filter(|(key, _)| !without.contains(&&**key)) {
            object.push(b',');
            object.extend_from_slice(&serde_json::to_vec(key).expect("a string can be written"));
            object.push(b':');
            object.extend_from_slice(value.get().as_bytes());
        }
    }

    /// An object of all fields but these, as a payload; `None` if it nests deeper than that.
    pub fn payload_without(&self, without: &[&str], nesting_max: usize) -> Option<Payload<'static>> {
        let mut object = b"{".to_vec();
        self.write_without(without, &mut object);
        if object.len() > 1 {
            object.remove(1);
        }
        object.push(b'}');
        Payload::parse_json(object, nesting_max)
    }
}

/// Puts a payload behind what is in `object`, which is an object that is open and has fields already: the fields of the payload but `without`
/// these, or a field `payload` if it is no object.
pub fn write_payload(payload: &Payload, without: &[&str], object: &mut Vec<u8>) {
    write_json(&payload.spell(Codec::Json), without, object);
}

/// The same for a payload that is spelled already.
pub fn write_json(text: &[u8], without: &[&str], object: &mut Vec<u8>) {
    match Fields::parse(text) {
        Some(fields) => fields.write_without(without, object),
        None => {
            object.extend_from_slice(br#","payload":"#);
            object.extend_from_slice(text);
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_their_spelling() {
        let fields = Fields::parse(br#"{ "b": 1.50, "a" : {"x":[1, 2]}, "\u0062":"last", "n":null }"#).unwrap();
        assert_eq!(fields.text("b").as_deref(), Some("last"));
        assert_eq!(fields.text("a"), None);
        let payload = fields.payload_without(&["n"], 3).unwrap();
        assert_eq!(payload.spell(Codec::Json), br#"{"b":1.50,"a":{"x":[1, 2]},"b":"last"}"#.as_slice());
        assert_eq!(fields.payload_without(&["a", "b", "n"], 3).unwrap().spell(Codec::Json), b"{}".as_slice());
        assert!(fields.payload_without(&[], 2).is_none(), "it nests three deep");
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in ["", "[]", "\"announce\"", "{", "{\"a\":}", "{} {}", "7"] {
            assert!(Fields::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_payload_that_is_no_object_is_a_field() {
        let spelled = |text: &str| {
            let mut object = br#"{"type":"offer""#.to_vec();
            write_payload(&Payload::parse_json(text.to_owned(), 9).unwrap(), &["type"], &mut object);
            String::from_utf8(object).unwrap()
        };
        assert_eq!(spelled(r#"{"type":"x","sdp":"v=0"}"#), r#"{"type":"offer","sdp":"v=0""#);
        assert_eq!(spelled("[1]"), r#"{"type":"offer","payload":[1]"#);
    }
}
