//! The packets of Socket.IO 5 (socket.io-parser 4), each in the text of one Engine.IO message: a digit, how many attachments follow, the
//! namespace, the number by which an answer is asked for, and JSON. Strict as the original server is, which closes on what is none.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::super::engineio;
use crate::protocol::framing::Frame;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
    BinaryEvent,
    BinaryAck,
}

/// One packet, without its attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: PacketKind,
    /// So many messages of bytes belong to it and follow.
    pub attachments: usize,
    pub namespace: &'a str,
    /// Wants an answer with this number, or is one.
    pub id: Option<u64>,
    /// Valid JSON of the shape that the kind has, or nothing where it may have none.
    pub data: &'a str,
}

/// Where everybody is who names no other.
pub const MAIN: &str = "/";

/// An array whose items are left as they were written.
pub type Items<'a> = Vec<&'a RawValue>;

impl PacketKind {
    const ALL: [Self; 7] =
        [Self::Connect, Self::Disconnect, Self::Event, Self::Ack, Self::ConnectError, Self::BinaryEvent, Self::BinaryAck];
}

impl<'a> Packet<'a> {
    /// Reads the text of an Engine.IO message, which begins with the digit of one.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(char::from(engineio::MESSAGE))?;
        let digit = text.bytes().next()?.checked_sub(b'0')?;
        let kind = *PacketKind::ALL.get(usize::from(digit))?;
        let mut rest = &text[1..];
        let mut attachments = 0;
        if matches!(kind, PacketKind::BinaryEvent | PacketKind::BinaryAck) {
            let (number, behind) = rest.split_once('-')?;
            (attachments, rest) = (unsigned(number)?, behind);
        }
        let mut namespace = MAIN;
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let id = if digits == 0 { None } else { Some(unsigned(&rest[..digits])?) };
        let packet = Self { kind, attachments, namespace, id, data: &rest[digits..] };
        packet.is_valid().then_some(packet)
    }

    /// The items of an event or an answer.
    pub fn items(&self) -> Option<Items<'a>> {
        serde_json::from_str(self.data).ok()
    }

    /// Has its data the shape that its kind has? (`Decoder.isPayloadValid`)
    fn is_valid(&self) -> bool {
        let begins = |with: &[char]| self.data.trim_start().starts_with(with) && serde_json::from_str::<&RawValue>(self.data).is_ok();
        match self.kind {
            PacketKind::Connect => self.data.is_empty() || begins(&['{']),
            PacketKind::Disconnect => self.data.is_empty(),
            PacketKind::ConnectError => begins(&['{', '"']),
            PacketKind::Event | PacketKind::BinaryEvent => self.items().is_some_and(|items| {
                items
                    .first()
                    .is_some_and(|name| name.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()))
            }),
            PacketKind::Ack | PacketKind::BinaryAck => self.items().is_some(),
        }
    }

    /// Spells it as an Engine.IO message, its attachments behind it.
    pub fn spell(&self, attachments: impl IntoIterator<Item = Bytes>) -> Vec<Frame> {
        let mut text = format!("{}{}", char::from(engineio::MESSAGE), self.kind as u8);
        if matches!(self.kind, PacketKind::BinaryEvent | PacketKind::BinaryAck) {
            let _ = write!(text, "{}-", self.attachments);
        }
        if self.namespace != MAIN {
            let _ = write!(text, "{},", self.namespace);
        }
        if let Some(id) = self.id {
            let _ = write!(text, "{id}");
        }
        text.push_str(self.data);
        [Frame::Text(text.into())].into_iter().chain(attachments.into_iter().map(Frame::Binary)).collect()
    }
}

/// Reads digits, and nothing but digits.
fn unsigned<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What a text packet with attachments waits for.
#[derive(Debug)]
pub struct Assembly {
    text: Bytes,
    wanted: usize,
    attachments: Vec<Bytes>,
    /// What it takes, about, and may take.
    bytes: usize,
    bytes_max: usize,
}

/// What has become of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// More attachments are to come.
    Waits,
    /// All are there: the text, and they.
    Whole(Bytes, Vec<Bytes>),
    /// It takes more than it may.
    TooLarge,
}

/// What an attachment takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 64;

impl Assembly {
    /// Waits for so many attachments, which take at most `bytes_max` together with the text.
    pub fn new(text: &[u8], wanted: usize, bytes_max: usize) -> Self {
        // Copied, as the attachments are: what waits is not to hold on to the buffers it was read into.
        let text = Bytes::copy_from_slice(text);
        Self { bytes: text.len(), text, wanted, attachments: vec![], bytes_max }
    }

    /// Takes the next.
    pub fn push(&mut self, attachment: &[u8]) -> Assembled {
        self.bytes += attachment.len() + OVERHEAD_BYTES;
        if self.bytes > self.bytes_max + OVERHEAD_BYTES {
            return Assembled::TooLarge;
        }
        self.attachments.push(Bytes::copy_from_slice(attachment));
        if self.attachments.len() < self.wanted {
            return Assembled::Waits;
        }
        Assembled::Whole(std::mem::take(&mut self.text), std::mem::take(&mut self.attachments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_read_back_as_they_are_spelled() {
        let packet = |kind, attachments, namespace, id, data| Packet { kind, attachments, namespace, id, data };
        for (text, packet) in [
            ("40", packet(PacketKind::Connect, 0, "/", None, "")),
            (r#"40{"token":"123"}"#, packet(PacketKind::Connect, 0, "/", None, r#"{"token":"123"}"#)),
            (r#"40/admin,{"a":1}"#, packet(PacketKind::Connect, 0, "/admin", None, r#"{"a":1}"#)),
            ("40/admin,", packet(PacketKind::Connect, 0, "/admin", None, "")),
            ("41", packet(PacketKind::Disconnect, 0, "/", None, "")),
            (r#"42["foo"]"#, packet(PacketKind::Event, 0, "/", None, r#"["foo"]"#)),
            (r#"42/admin,12["foo",{"a":[1,2]}]"#, packet(PacketKind::Event, 0, "/admin", Some(12), r#"["foo",{"a":[1,2]}]"#)),
            ("42[7]", packet(PacketKind::Event, 0, "/", None, "[7]")),
            ("4313[]", packet(PacketKind::Ack, 0, "/", Some(13), "[]")),
            (r#"44/x,{"message":"no"}"#, packet(PacketKind::ConnectError, 0, "/x", None, r#"{"message":"no"}"#)),
            (
                r#"452-/a,7["b",{"_placeholder":true,"num":0}]"#,
                packet(PacketKind::BinaryEvent, 2, "/a", Some(7), r#"["b",{"_placeholder":true,"num":0}]"#),
            ),
            ("461-3[null]", packet(PacketKind::BinaryAck, 1, "/", Some(3), "[null]")),
        ] {
            assert_eq!(Packet::parse(text.as_bytes()), Some(packet), "{text}");
            assert_eq!(packet.spell([]), [Frame::Text(text.into())]);
        }
        assert_eq!(Packet::parse(b"40/admin").unwrap().namespace, "/admin", "a namespace may end the packet");
    }

    #[test]
    fn what_is_no_packet_is_none() {
        for text in [
            "",
            "4",
            "2",
            "47",
            "4a",
            "4abc",
            "42",
            "42{}",
            "42[]",
            "42[null]",
            r#"42["a""#,
            r#"42abc["message"]"#,
            r#"42["a"]x"#,
            "41{}",
            "40[]",
            "40x",
            "43{}",
            "44",
            "45[\"a\"]",
            "45-[\"a\"]",
            "45x-[\"a\"]",
            "451[\"a\"]",
            "4599999999999999999999-[\"a\"]",
            r#"4299999999999999999999["a"]"#,
            "45+1-[\"a\"]",
        ] {
            assert_eq!(Packet::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Packet::parse(b"42[\"\xff\"]"), None);
    }

    #[test]
    fn attachments_are_waited_for_within_a_bound() {
        let mut assembly = Assembly::new(b"text", 2, 200);
        assert_eq!(assembly.push(b"one"), Assembled::Waits);
        assert_eq!(assembly.push(b"two"), Assembled::Whole("text".into(), vec!["one".into(), "two".into()]));
        let mut assembly = Assembly::new(b"text", usize::MAX, 200);
        let pushed: Vec<_> = (0..5).map(|_| assembly.push(b"")).collect();
        assert_eq!(
            pushed,
            [Assembled::Waits, Assembled::Waits, Assembled::Waits, Assembled::Waits, Assembled::TooLarge],
            "empty ones count as well"
        );
    }
}
