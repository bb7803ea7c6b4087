//! What is written as an object, and not as an array.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A struct that is written as an object. Serde would fill it from an array as well, in the order of its fields: `[null]` for `{"payload": null}`.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair {
        left: u8,
        right: Option<u8>,
    }

    #[test]
    fn an_array_is_no_object_in_either_codec() {
        let json = |text: &str| serde_json::from_str(text).map(|Object(pair): Object<Pair>| pair);
        let msgpack = |bytes: &[u8]| rmp_serde::from_slice(bytes).map(|Object(pair): Object<Pair>| pair);
        assert_eq!(json(r#"{"right": 2, "left": 1}"#).unwrap(), Pair { left: 1, right: Some(2) });
        assert_eq!(msgpack(b"\x81\xa4left\x01").unwrap(), Pair { left: 1, right: None });
        for text in ["[1]", "[1, 2]", "[]", "null", "1"] {
            let refusal = json(text).unwrap_err().to_string();
            assert!(refusal.contains("expected an object"), "{text}: {refusal}");
        }
        for bytes in [&b"\x92\x01\x02"[..], b"\x91\x01", b"\x90", b"\xc0", b"\x01"] {
            assert!(msgpack(bytes).is_err(), "{bytes:x?}");
        }
    }
}
