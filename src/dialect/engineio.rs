//! Engine.IO 4: what stands under Socket.IO. A packet is one digit and what belongs to it.
//!
//! On a WebSocket a packet is a message: text with the digit in front, or bytes, which are always a message. Over HTTP several packets are one text
//! with U+001E between them, and bytes are base64 behind a `b` (engine.io-parser 5, `encodePacket` and `encodePayload`). Nothing here knows which
//! of the two carries it, or what a message means. The frames that sessions hear and say are messages as on a WebSocket, their digit included.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::protocol::framing::Frame;

/// What either side says.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// The transport is no longer wanted.
    Close,
    /// A probe; of a client only on a transport that it wants to change to.
    Ping(Bytes),
    /// The answer.
    Pong(Bytes),
    /// The application's own, with its digit if it is text.
    Message(Frame),
    /// From here on this transport is the one.
    Upgrade,
    /// Nothing.
    Noop,
}

/// What a client asks for in the query of its requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// The version of the protocol, which has to be 4.
    pub version: Option<&'a str>,
    pub transport: Option<&'a str>,
    /// The session that a request is for; none to open one.
    pub sid: Option<&'a str>,
}

/// Why a request is refused. The numbers and sentences are those of engine.io 6 (`Server.errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    UnknownTransport = 0,
    UnknownSession = 1,
    BadHandshakeMethod = 2,
    BadRequest = 3,
    /// No place for the client.
    Forbidden = 4,
    UnsupportedVersion = 5,
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A message announces more than it may have.
    TooLarge,
    NotUtf8,
}

/// In the first byte of a message on a stream: it is bytes, and not text.
const BINARY: u8 = 0x80;
/// The digit of a message.
pub const MESSAGE: u8 = b'4';
const SEPARATOR: u8 = 0x1e;
const BASE64: u8 = b'b';

impl Packet {
    /// Reads a message of a WebSocket.
    pub fn read(frame: Frame) -> Option<Self> {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) | Frame::Datagram(_) => return Some(Self::Message(frame)),
        };
        let rest = || text.slice(1..);
        Some(match text.first()? {
            b'1' => Self::Close,
            b'2' => Self::Ping(rest()),
            b'3' => Self::Pong(rest()),
            &MESSAGE => Self::Message(Frame::Text(text)),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return None,
        })
    }

    /// Reads the body of a request, one packet after another: `None` where there is none.
    pub fn read_all(body: &Bytes) -> impl Iterator<Item = Option<Self>> {
        let is_text = std::str::from_utf8(body).is_ok();
        body.split(|byte| *byte == SEPARATOR).map(move |packet| match packet.split_first() {
            _ if !is_text => None,
            Some((&BASE64, base64)) => Some(Self::Message(Frame::Binary(BASE64_STANDARD.decode(base64).ok()?.into()))),
            _ => Self::read(Frame::Text(body.slice_ref(packet))),
        })
    }

    /// Takes the next message of a WebTransport stream out of `buffer`, or leaves it until more has been read: as on a WebSocket, with lengths as a
    /// WebSocket has them and the first bit for bytes (engine.io-parser 5, `createPacketDecoderStream`).
    pub fn take_streamed(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, Malformed> {
        let Some(first) = buffer.first() else { return Ok(None) };
        let rest = &buffer[1..];
        let (length, header) = match first & !BINARY {
            126 => (rest.first_chunk().map(|bytes| u64::from(u16::from_be_bytes(*bytes))), 3),
            127 => (rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)), 9),
            length => (Some(length.into()), 1),
        };
        let Some(length) = length else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max).ok_or(Malformed::TooLarge)?;
        if buffer.len() < header + length {
            return Ok(None);
        }
        let is_binary = first & BINARY != 0;
        buffer.advance(header);
        let bytes = buffer.split_to(length).freeze();
        match is_binary {
            true => Ok(Some(Frame::Binary(bytes))),
            false if std::str::from_utf8(&bytes).is_err() => Err(Malformed::NotUtf8),
            false => Ok(Some(Frame::Text(bytes))),
        }
    }

    /// Puts a message behind others on a WebTransport stream.
    pub fn put_streamed(frame: &Frame, out: &mut BytesMut) {
        let bit = if matches!(frame, Frame::Text(_)) { 0 } else { BINARY };
        let bytes = frame.bytes();
        match (bytes.len(), u16::try_from(bytes.len())) {
            (length @ ..126, _) => out.put_u8(bit | length as u8),
            (_, Ok(length)) => {
                out.put_u8(bit | 126);
                out.put_u16(length);
            }
            (length, Err(_)) => {
                out.put_u8(bit | 127);
                out.put_u64(length as u64);
            }
        }
        out.put_slice(bytes);
    }

    /// Writes it behind others into the body of an answer.
    pub fn write(&self, body: &mut Vec<u8>) {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        let mut put = |digit, rest: &[u8]| {
            body.push(digit);
            body.extend_from_slice(rest);
        };
        match self {
            Self::Close => put(b'1', b""),
            Self::Ping(data) => put(b'2', data),
            Self::Pong(data) => put(b'3', data),
            Self::Message(Frame::Text(text)) => body.extend_from_slice(text),
            Self::Message(Frame::Binary(bytes) | Frame::Datagram(bytes)) => put(BASE64, BASE64_STANDARD.encode(bytes).as_bytes()),
            Self::Upgrade => put(b'5', b""),
            Self::Noop => put(b'6', b""),
        }
    }
}

impl<'a> Query<'a> {
    /// Reads the query. What is asked for needs no escapes; of two parameters with one name it is the first.
    pub fn parse(query: &'a str) -> Self {
        let find = |key| query.split('&').filter_map(|part| part.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value);
        Self { version: find("EIO"), transport: find("transport"), sid: find("sid") }
    }
}

impl Fault {
    /// For a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The body of the answer.
    pub fn json(self) -> String {
        format!(r#"{{"code":{},"message":"{}"}}"#, self as u8, self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Frame {
        Frame::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn each_packet_is_told_by_its_digit() {
        for (frame, packet) in [
            ("1", Packet::Close),
            ("2probe", Packet::Ping("probe".into())),
            ("3", Packet::Pong(Bytes::new())),
            ("4hello", Packet::Message(text("4hello"))),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(Packet::read(text(frame)), Some(packet.clone()), "{frame}");
            let mut body = vec![];
            packet.write(&mut body);
            assert_eq!(body, frame.as_bytes());
        }
        for nothing in ["", "7", "abc", "0{}"] {
            assert_eq!(Packet::read(text(nothing)), None, "{nothing}");
        }
    }

    #[test]
    fn several_packets_are_one_body_with_bytes_as_base64() {
        let packets = [
            Packet::Message(text("4€")),
            Packet::Message(Frame::Binary(Bytes::from_static(&[1, 2, 3, 4]))),
            Packet::Ping(Bytes::new()),
            Packet::Message(text("4")),
        ];
        let mut body = vec![];
        packets.iter().for_each(|packet| packet.write(&mut body));
        assert_eq!(body, "4€\u{1e}bAQIDBA==\u{1e}2\u{1e}4".as_bytes());
        assert_eq!(Packet::read_all(&body.into()).collect::<Option<Vec<_>>>().as_deref(), Some(&packets[..]));
        for nothing in [&b""[..], b"abc", b"4a\x1e", b"4a\x1ebA", b"b*", b"4\xff"] {
            assert_eq!(Packet::read_all(&Bytes::from_static(nothing)).find(Option::is_none), Some(None), "{nothing:?}");
        }
    }

    #[test]
    fn messages_on_a_stream_come_out_whole_wherever_it_was_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for frame in [Frame::Text(vec![b'4'; length].into()), Frame::Binary(vec![0xff; length].into())] {
                let mut wire = BytesMut::new();
                Packet::put_streamed(&frame, &mut wire);
                let whole = wire.clone();
                assert_eq!(Packet::take_streamed(&mut wire, 65_536), Ok(Some(frame)));
                assert!(wire.is_empty());
                for cut in [0, 1, 2, 5, whole.len() - 1].into_iter().filter(|cut| *cut < whole.len()) {
                    let mut part = BytesMut::from(&whole[..cut]);
                    assert_eq!(Packet::take_streamed(&mut part, 65_536), Ok(None), "{length} cut at {cut}");
                    assert_eq!(part.len(), cut);
                }
            }
        }
        let take = |bytes: &[u8]| Packet::take_streamed(&mut BytesMut::from(bytes), 5);
        assert_eq!(take(&[6]), Err(Malformed::TooLarge));
        assert_eq!(take(&[127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::TooLarge));
        assert_eq!(take(&[1, 0xff]), Err(Malformed::NotUtf8));
    }

    #[test]
    fn a_query_is_read_whatever_else_is_in_it() {
        let query = Query::parse("EIO=4&transport=polling&t=Pq8x&sid=ab12&x&sid=other");
        assert_eq!(query, Query { version: Some("4"), transport: Some("polling"), sid: Some("ab12") });
        assert_eq!(Query::parse(""), Query::default());
        assert_eq!(Fault::UnknownSession.json(), r#"{"code":1,"message":"Session ID unknown"}"#);
    }
}
