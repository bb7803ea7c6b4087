//! RFC 6455 read strictly: bytes in, whole messages and control frames out. Nothing here touches a socket or a clock.
//!
//! A frame is judged as early as it can be: its header by the first byte that is wrong, its length before its payload comes, its text by the
//! first byte that cannot be UTF-8, wherever frames and reads are cut. What a header announces is not allocated before it arrives.

use bytes::Bytes;

use crate::protocol::framing::{CowFrame, Frame, LentFrame};

/// The reader of one connection's frames. After a [`Fault`] or [`Item::Close`] it is not to be asked again.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    /// The data frame whose payload is coming in.
    frame: Option<Payload>,
    /// The message that the frames so far have begun.
    message: Option<Message>,
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole message: where it was read, if it came in one piece.
    Message(CowFrame<'a>),
    /// A probe, to be answered with the same bytes.
    Ping(Bytes),
    /// The answer to a probe, or one that nobody asked for: RFC 6455 §5.5.3.
    Pong,
    /// A frame of a message that goes on.
    Fragment,
    /// The end, with this code if with any.
    Close(Option<u16>),
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A frame breaks RFC 6455.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text, or the reason of a close, is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A message is longer than it may be.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
}

/// What a header says about a data frame, less what has been taken of its payload.
#[derive(Debug)]
struct Payload {
    remaining: usize,
    /// Turned so that it begins with the next byte.
    mask: [u8; 4],
    is_last: bool,
}

/// A message that has begun and not ended.
#[derive(Debug)]
struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// So many bytes of it are characters; behind them there are at most three, the beginning of another.
    checked: usize,
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// What the opcodes of control frames have in common.
const CONTROL: u8 = 0x8;

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: usize = 125;
/// More is never left of what was decoded: a control frame with a byte missing. The header of a data frame is shorter.
pub const LEFT_BYTES_MAX: usize = 2 + 4 + CONTROL_BYTES_MAX - 1;

impl Decoder {
    /// Takes messages of at most `message_bytes_max`.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, frame: None, message: None }
    }

    /// Takes off the front of `input` what comes next. `None` if that is not all there: what has to be seen again with more behind it is left.
    pub fn decode<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Item<'a>>, Fault> {
        if self.frame.is_some() {
            return self.payload(input);
        }
        let Some(header) = Header::read(input, self.message.is_some())? else { return Ok(None) };
        if header.opcode & CONTROL != 0 {
            return control(&header, input);
        }
        let gathered = self.message.as_ref().map_or(0, |message| message.bytes.len());
        if header.length > self.message_bytes_max - gathered {
            return Err(Fault::TooLarge(self.message_bytes_max));
        }
        let (Some(mask), Some(_)) = (header.mask, input.split_off_mut(..header.bytes)) else { return Ok(None) };
        let is_text = header.opcode == TEXT;
        // Most messages come in one piece.
        if header.is_last
            && self.message.is_none()
            && let Some(payload) = input.split_off_mut(..header.length)
        {
            unmask(payload, mask);
            return whole(is_text, payload).map(Some);
        }
        self.message.get_or_insert_with(|| Message { is_text, bytes: Vec::new(), checked: 0 });
        self.frame = Some(Payload { remaining: header.length, mask, is_last: header.is_last });
        self.payload(input)
    }

    /// Takes what there is of a data frame's payload; with the end of it, the message or a fragment.
    fn payload<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Item<'a>>, Fault> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            unreachable!("a data frame belongs to a message");
        };
        let taken = input.len().min(frame.remaining);
        let Some(part) = input.split_off_mut(..taken) else { unreachable!("there is as much") };
        unmask(part, frame.mask);
        frame.mask.rotate_left(taken % 4);
        // The last frame tells how long the message becomes, others how long at the most.
        let expected = if frame.is_last { message.bytes.len() + frame.remaining } else { self.message_bytes_max };
        message.push(part, expected)?;
        frame.remaining -= taken;
        if frame.remaining > 0 {
            return Ok(None);
        }
        let is_last = frame.is_last;
        self.frame = None;
        match self.message.take_if(|_| is_last) {
            Some(Message { is_text: true, bytes, checked }) if checked < bytes.len() => Err(Fault::NotUtf8),
            Some(Message { is_text: true, bytes, .. }) => Ok(Some(Item::Message(CowFrame::Own(Frame::Text(bytes.into()))))),
            Some(Message { bytes, .. }) => Ok(Some(Item::Message(CowFrame::Own(Frame::Binary(bytes.into()))))),
            None => Ok(Some(Item::Fragment)),
        }
    }
}

impl Message {
    /// Takes more bytes; `expected` is the length that the message may yet reach.
    fn push(&mut self, more: &[u8], expected: usize) -> Result<(), Fault> {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            // Twice as much each time, so that every byte is moved once or twice, but not past what can still come.
            let capacity = (2 * self.bytes.capacity()).min(expected).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        if self.is_text {
            match std::str::from_utf8(&self.bytes[self.checked..]) {
                Ok(text) => self.checked += text.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Fault::NotUtf8),
            }
        }
        Ok(())
    }
}

/// The header of a frame, as far as it has come: RFC 6455 §5.2.
#[derive(Debug)]
struct Header {
    is_last: bool,
    opcode: u8,
    length: usize,
    /// The last part of a header: without it the header is not all there.
    mask: Option<[u8; 4]>,
    /// The header's own length.
    bytes: usize,
}

impl Header {
    /// Reads a header from the front of `input`, as soon as it tells the frame's length. A message may have begun before it.
    fn read(input: &[u8], within_message: bool) -> Result<Option<Self>, Fault> {
        let Some(first) = input.first() else { return Ok(None) };
        let (is_last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Fault::Protocol("a reserved bit"));
        }
        match opcode {
            CONTINUATION if !within_message => return Err(Fault::Protocol("a continuation of nothing")),
            TEXT | BINARY if within_message => return Err(Fault::Protocol("a message within another")),
            CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG => {}
            _ => return Err(Fault::Protocol("a reserved opcode")),
        }
        let is_control = opcode & CONTROL != 0;
        if is_control && !is_last {
            return Err(Fault::Protocol("a control frame in fragments"));
        }
        let Some(second) = input.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Fault::Protocol("a frame from a client without a mask"));
        }
        let short = second & 0x7f;
        if is_control && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Fault::Protocol("a control frame of more than 125 bytes"));
        }
        let (length, least, bytes) = match short {
            126 => match input.get(2..).and_then(<[u8]>::first_chunk) {
                Some(length) => (u16::from_be_bytes(*length).into(), 126, 4),
                None => return Ok(None),
            },
            127 => match input.get(2..).and_then(<[u8]>::first_chunk) {
                Some(length) => (u64::from_be_bytes(*length), 0x1_0000, 10),
                None => return Ok(None),
            },
            short => (short.into(), 0, 2),
        };
        if length < least {
            return Err(Fault::Protocol("a length that is longer than it has to be"));
        }
        if length >> 63 != 0 {
            return Err(Fault::Protocol("a length of more than 63 bits"));
        }
        let mask = input.get(bytes..).and_then(<[u8]>::first_chunk).copied();
        // No bound is as large as what does not fit.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Some(Self { is_last, opcode, length, mask, bytes: bytes + 4 }))
    }
}

/// A control frame, once all of it is there.
fn control<'a>(header: &Header, input: &mut &'a mut [u8]) -> Result<Option<Item<'a>>, Fault> {
    let (Some(mask), end) = (header.mask, header.bytes + header.length) else { return Ok(None) };
    let Some(frame) = input.split_off_mut(..end) else { return Ok(None) };
    let payload = &mut frame[header.bytes..];
    unmask(payload, mask);
    let item = match header.opcode {
        PING => Item::Ping(Bytes::copy_from_slice(payload)),
        PONG => Item::Pong,
        _ => Item::Close(close_code(payload)?),
    };
    Ok(Some(item))
}

/// Reads what a close frame holds: nothing, or a code and a reason (RFC 6455 §5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Fault::Protocol("a close with half a code")) };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455 §7.4: those below 3000 that the IANA has registered and that may be sent, and all from 3000 to 4999.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Protocol("a close with a code that may not be sent"));
    }
    std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
    Ok(Some(code))
}

/// A message in one piece.
fn whole(is_text: bool, bytes: &[u8]) -> Result<Item<'_>, Fault> {
    if is_text && simdutf8::basic::from_utf8(bytes).is_err() {
        return Err(Fault::NotUtf8);
    }
    let wrap = if is_text { LentFrame::Text } else { LentFrame::Binary };
    Ok(Item::Message(CowFrame::Lent(wrap(bytes))))
}

/// Takes the mask off: RFC 6455 §5.3. Sixteen bytes at a time, a long message is most of the work there is.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let wide: [u8; 16] = std::array::from_fn(|at| mask[at % 4]);
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        for (byte, mask) in chunk.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u8 = 0x80;
    const MASK: [u8; 4] = [0x00, 0xff, 0x5a, 0x11];
    const BOUND: usize = 0x2_0000;

    /// A frame as clients send them.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..0x1_0000 => frame.extend([&[0xfe], &(length as u16).to_be_bytes()[..]].concat()),
            length => frame.extend([&[0xff], &(length as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// All that comes out of these reads, with bytes of its own.
    fn read<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Item<'static>>, Option<Fault>) {
        let (mut decoder, mut left, mut items) = (Decoder::new(BOUND), Vec::new(), Vec::new());
        for bytes in reads {
            let mut input = [&*left, bytes].concat();
            let mut input = &mut *input;
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(Item::Message(message))) => items.push(Item::Message(CowFrame::Own(message.into()))),
                    Ok(Some(Item::Ping(data))) => items.push(Item::Ping(data)),
                    Ok(Some(Item::Pong)) => items.push(Item::Pong),
                    Ok(Some(Item::Fragment)) => items.push(Item::Fragment),
                    Ok(Some(Item::Close(code))) => items.push(Item::Close(code)),
                    Ok(None) => break,
                    Err(fault) => return (items, Some(fault)),
                }
            }
            left = input.to_vec();
        }
        (items, None)
    }

    /// How many bytes it takes until a fault is found, if there is one.
    fn found_after(stream: &[u8]) -> Option<usize> {
        (0..=stream.len()).find(|length| read([&stream[..*length]]).1.is_some())
    }

    fn text(text: &str) -> Item<'static> {
        Item::Message(CowFrame::Own(LentFrame::Text(text.as_bytes()).into()))
    }

    fn binary(bytes: &[u8]) -> Item<'static> {
        Item::Message(CowFrame::Own(LentFrame::Binary(bytes).into()))
    }

    #[test]
    fn messages_come_out_the_same_wherever_they_are_cut() {
        let long = "κόσμε".repeat(30);
        let stream = [
            frame(LAST | TEXT, "κόσμε".as_bytes()),
            frame(LAST | BINARY, b"\xff\x00"),
            frame(LAST | TEXT, b""),
            frame(TEXT, &long.as_bytes()[..7]),
            frame(LAST | PING, b"here?"),
            frame(CONTINUATION, b""),
            frame(CONTINUATION, &long.as_bytes()[7..8]),
            frame(LAST | PONG, b"unasked"),
            frame(LAST | CONTINUATION, &long.as_bytes()[8..]),
            frame(BINARY, b""),
            frame(LAST | CONTINUATION, b""),
            frame(LAST | CLOSE, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = [
            text("κόσμε"),
            binary(b"\xff\x00"),
            text(""),
            Item::Fragment,
            Item::Ping(Bytes::from_static(b"here?")),
            Item::Fragment,
            Item::Fragment,
            Item::Pong,
            text(&long),
            Item::Fragment,
            binary(b""),
            Item::Close(Some(1000)),
        ];
        for cut in 0..stream.len() {
            let (items, fault) = read([&stream[..cut], &stream[cut..]]);
            assert_eq!((&*items, fault), (&expected[..], None), "cut at {cut}");
        }
        assert_eq!(read(stream.chunks(1)).0, expected);
        assert_eq!(read(stream.chunks(3)).0, expected);
    }

    #[test]
    fn lengths_are_read_in_all_three_spellings_and_no_longer_than_they_have_to_be() {
        for length in [0, 125, 126, 127, 0xffff, 0x1_0000, BOUND] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            for chops in [1000, 0x1_0000] {
                assert_eq!(read(frame(LAST | BINARY, &payload).chunks(chops)), (vec![binary(&payload)], None));
            }
        }
        let too_large = Some(Fault::TooLarge(BOUND));
        assert_eq!(read([&[0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 1][..]]).1, too_large, "by its length alone");
        assert_eq!(read([&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..]]).1, too_large);
        assert_eq!(read([&frame(BINARY, &[0; BOUND])[..], &frame(LAST, &[0; 1])[..2]]).1, too_large, "in fragments");
        for longer_than_has_to_be in
            [&[0x82, 0xfe, 0, 125][..], &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(matches!(read([longer_than_has_to_be]).1, Some(Fault::Protocol(_))), "{longer_than_has_to_be:?}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_found_at_its_first_wrong_byte() {
        let begun = frame(TEXT, b"begun");
        let mut wrong = vec![
            (frame(CONTINUATION, b""), 1),
            (frame(LAST | CONTINUATION, b""), 1),
            ([begun.clone(), frame(LAST | TEXT, b"")].concat(), begun.len() + 1),
            ([begun.clone(), frame(BINARY, b"")].concat(), begun.len() + 1),
            (vec![LAST | TEXT, 5], 2),
            (frame(LAST | PING, &[0; 126]), 2),
            (frame(LAST | CLOSE, &[3; 126]), 2),
        ];
        wrong.extend([0x40, 0x20, 0x10].map(|reserved| (frame(LAST | reserved | TEXT, b""), 1)));
        wrong.extend([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|reserved| (frame(LAST | reserved, b""), 1)));
        wrong.extend([CLOSE, PING, PONG].map(|control| (frame(control, b""), 1)));
        for (stream, bytes) in wrong {
            assert_eq!(found_after(&stream), Some(bytes), "{stream:?}");
            assert!(matches!(read([&*stream]).1, Some(Fault::Protocol(_))), "{stream:?}");
        }
    }

    #[test]
    fn text_is_found_not_to_be_utf_8_at_the_first_byte_that_cannot_be() {
        for (bytes, good) in [
            (&b"ok\xff ok"[..], 2),
            (b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80ok", 6),
            (b"\xed\xa0\x80", 1),
            (b"\xc0\xaf", 0),
            (b"\xe0\x80\xaf", 1),
            (b"\xf8\x88\x80\x80\x80", 0),
        ] {
            let whole = [frame(LAST | TEXT, bytes), frame(LAST | PING, b"")].concat();
            assert_eq!(found_after(&whole), Some(6 + good + 1), "{bytes:?}");
            let fragments: Vec<u8> = [TEXT].iter().chain(&[CONTINUATION; 20]).zip(bytes).flat_map(|(op, b)| frame(*op, &[*b])).collect();
            assert_eq!(found_after(&fragments), Some(7 * (good + 1)), "{bytes:?}");
            let (before, fault) = read([&*fragments]);
            assert!(before.iter().all(|item| *item == Item::Fragment) && fault == Some(Fault::NotUtf8));
        }
        // A character that is not all there is only wrong once nothing can follow.
        let cut = [frame(TEXT, b"\xc3"), frame(LAST | CONTINUATION, b"")].concat();
        assert_eq!(found_after(&cut), Some(cut.len()));
        assert_eq!(read([&frame(LAST | TEXT, b"\xf0\x9f\x92")[..]]).1, Some(Fault::NotUtf8));
        assert_eq!(read([&frame(LAST | BINARY, b"\xff")[..]]).1, None);
    }

    #[test]
    fn a_close_holds_nothing_or_a_code_that_may_be_sent_and_a_reason() {
        let close = |payload: &[u8]| match read([&frame(LAST | CLOSE, payload)[..]]) {
            (items, None) => Ok(items),
            (_, Some(fault)) => Err(fault),
        };
        assert_eq!(close(b""), Ok(vec![Item::Close(None)]));
        assert!(matches!(close(b"\x03"), Err(Fault::Protocol(_))));
        for code in 0..=u16::MAX {
            let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(close(&code.to_be_bytes()).is_ok(), may_be_sent, "{code}");
        }
        let longest = [&[0x03, 0xe9][..], &[b'*'; 123]].concat();
        assert_eq!(close(&longest), Ok(vec![Item::Close(Some(1001))]));
        assert_eq!(close(b"\x03\xe8\xce\xba\xed\xa0\x80"), Err(Fault::NotUtf8));
    }

    #[test]
    fn a_message_takes_no_more_memory_than_twice_what_has_come_of_it() {
        let goes_on = |decoder: &mut Decoder, mut input: &mut [u8]| {
            assert!(matches!(decoder.decode(&mut input), Ok(None | Some(Item::Fragment))) && input.is_empty());
        };
        let mut decoder = Decoder::new(BOUND);
        goes_on(&mut decoder, &mut frame(LAST | BINARY, &[0; BOUND])[..100]);
        let capacity = |decoder: &Decoder| decoder.message.as_ref().map_or(0, |message| message.bytes.capacity());
        assert!(capacity(&decoder) < 200, "what is announced is not allocated");

        let mut decoder = Decoder::new(BOUND);
        goes_on(&mut decoder, &mut frame(BINARY, b"*"));
        for n in 2..=BOUND {
            goes_on(&mut decoder, &mut frame(CONTINUATION, b"*"));
            assert!(capacity(&decoder) <= 2 * n);
        }
        assert_eq!(capacity(&decoder), BOUND);
    }
}
