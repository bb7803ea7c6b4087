//! A message that is made once and sent often: its bytes, and where in them the marker stands.
//!
//! Markers are ASCII of a fixed width that neither JSON escapes nor MessagePack changes: `@@` sender `:` number `:` due `@@`.

use std::sync::LazyLock;

use memchr::memmem::{Finder, find};

use super::LoadError;

/// What a message that counts says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The engine's number of who sent it.
    pub sender: u32,
    /// Counts the messages from this sender to the same receivers, from 0.
    pub number: u64,
    /// When it was due, in microseconds since the engine's epoch.
    pub due: u64,
}

const SENDER_DIGITS: usize = 6;
const NUMBER_DIGITS: usize = 10;
const DUE_DIGITS: usize = 12;
const FENCE: &[u8; 2] = b"@@";

impl Marker {
    /// How long every marker is.
    pub const BYTES: usize = 2 * FENCE.len() + SENDER_DIGITS + NUMBER_DIGITS + DUE_DIGITS + 2;

    /// The text.
    pub fn text(self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("digits are ASCII")
    }

    /// Finds the first one in a frame.
    pub fn find(frame: &[u8]) -> Option<Self> {
        static FENCES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FENCE));
        let mut from = 0;
        loop {
            let at = from + FENCES.find(&frame[from..])?;
            if let Some(marker) = frame.get(at..at + Self::BYTES).and_then(Self::parse) {
                return Some(marker);
            }
            from = at + 1;
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (sender, rest) = bytes.strip_prefix(FENCE)?.split_at(SENDER_DIGITS);
        let (number, rest) = rest.strip_prefix(b":")?.split_at(NUMBER_DIGITS);
        let (due, rest) = rest.strip_prefix(b":")?.split_at(DUE_DIGITS);
        (rest == FENCE).then_some(())?;
        Some(Self { sender: u32::try_from(decimal(sender)?).ok()?, number: decimal(number)?, due: decimal(due)? })
    }

    /// Digits that do not fit are cut off: no run is so long.
    fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [b':'; Self::BYTES];
        let end = Self::BYTES - FENCE.len();
        bytes[..2].copy_from_slice(FENCE);
        bytes[end..].copy_from_slice(FENCE);
        let number = 3 + SENDER_DIGITS;
        write_decimal(self.sender.into(), &mut bytes[2..2 + SENDER_DIGITS]);
        write_decimal(self.number, &mut bytes[number..number + NUMBER_DIGITS]);
        write_decimal(self.due, &mut bytes[end - DUE_DIGITS..end]);
        bytes
    }
}

/// A message with room for a marker. Cheap to fill, of one size for ever.
#[derive(Clone, Debug)]
pub struct Template {
    frame: Vec<u8>,
    at: usize,
}

impl Template {
    /// Takes a spelled message that holds any marker.
    pub fn new(frame: Vec<u8>) -> Result<Self, LoadError> {
        let is_marker = |at: &usize| frame.get(*at..at + Marker::BYTES).and_then(Marker::parse).is_some();
        let at = find(&frame, FENCE).filter(is_marker).ok_or_else(|| LoadError::speech("a message was spelled without its marker"))?;
        Ok(Self { frame, at })
    }

    /// The whole message, with whatever marker it was made with.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Puts the message with this marker behind what is in `buffer`.
    pub fn fill(&self, marker: Marker, buffer: &mut Vec<u8>) {
        let at = buffer.len() + self.at;
        buffer.extend_from_slice(&self.frame);
        buffer[at..at + Marker::BYTES].copy_from_slice(&marker.bytes());
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

fn write_decimal(mut value: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_wherever_it_stands_and_nowhere_else() {
        let marker = Marker { sender: 7, number: 1_234_567_890, due: 999_999_999_999 };
        assert_eq!(marker.text(), "@@000007:1234567890:999999999999@@");
        for around in [["", ""], ["{\"a\":\"@@", "\"}"], ["@@1:2:3@@ @", "@@"]] {
            let frame = format!("{}{}{}", around[0], marker.text(), around[1]);
            assert_eq!(Marker::find(frame.as_bytes()), Some(marker), "{frame}");
        }
        for text in ["", "@@", "@@000007:1234567890:99999999999@@", "@@00000x:1234567890:999999999999@@"] {
            assert_eq!(Marker::find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_template_changes_nothing_but_its_marker() {
        let [first, second] = [1, 2].map(|number| Marker { sender: 3, number, due: 4 });
        let template = Template::new(format!("before{}after", first.text()).into()).unwrap();
        let mut buffer = b"earlier ".to_vec();
        template.fill(second, &mut buffer);
        assert_eq!(buffer, format!("earlier before{}after", second.text()).into_bytes());
        assert!(Template::new(b"nothing".to_vec()).is_err());
    }
}
