//! RFC 6455 by the published cases of the Autobahn test suite, sections 1 to 7, 9 and 10, against the echo of `--example conformance`: the
//! reader and the writer of the server. `tests/autobahn/run` has the suite itself judge the same echo, where it can be had.
//!
//! What the suite waits a second for, to see that nothing comes, stands here as what comes next.

#[path = "../examples/conformance/echo.rs"]
mod echo;
mod support;

use std::{io::ErrorKind, net::SocketAddr, sync::LazyLock, thread, time::Duration};

use support::{
    raw::{self, RawWebSocket, first::*},
    within,
};
use switchboard::ingress::listener;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// RFC 6455 §7.4.1.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;

const TEXT_WHOLE: u8 = FINISHED | TEXT;
const BINARY_WHOLE: u8 = FINISHED | BINARY;
const LAST: u8 = FINISHED | CONTINUATION;
const PING_WHOLE: u8 = FINISHED | PING;
const PONG_WHOLE: u8 = FINISHED | PONG;
const CLOSE_WHOLE: u8 = FINISHED | CLOSE;

/// The echo, for as long as this program runs.
static ECHO: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listeners = listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = listeners[0].address;
    let serve = || actix_rt::System::new().block_on(async { echo::server(listeners)?.workers(1).disable_signals().run().await });
    thread::spawn(serve);
    address
});

/// What a case does, in order.
#[derive(Clone, Debug)]
enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Receives this frame: its first byte, and what is in it.
    Hear(u8, Vec<u8>),
}
use Step::{Hear, Send};

/// How a case ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The client closes, and its close is answered.
    Clean,
    /// The client has closed, or has done something else that the server answers with a close of this code, and with nothing before it.
    Closed(u16),
}

/// A frame as clients send them.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = raw::header(first, payload.len() as u64);
    let mask = frame.len() - MASK.len();
    frame[mask..].copy_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn send(first: u8, payload: impl AsRef<[u8]>) -> Step {
    Send(frame(first, payload.as_ref()))
}

fn hear(first: u8, payload: impl AsRef<[u8]>) -> Step {
    Hear(first, payload.as_ref().to_owned())
}

/// A message in fragments of so many bytes; an empty one is in one fragment.
fn fragments(kind: u8, payload: &[u8], bytes: usize) -> Vec<u8> {
    let pieces: Vec<&[u8]> = if payload.is_empty() { vec![payload] } else { payload.chunks(bytes).collect() };
    let last = pieces.len() - 1;
    let first = |n| if n == last { FINISHED } else { 0 } | if n == 0 { kind } else { CONTINUATION };
    pieces.iter().enumerate().flat_map(|(n, piece)| frame(first(n), piece)).collect()
}

fn close(code: u16, reason: &[u8]) -> Step {
    send(CLOSE_WHOLE, [&code.to_be_bytes(), reason].concat())
}

/// Plays a case with everything that is sent cut into writes of `chop` bytes at the most.
async fn play_chopped(id: &str, steps: &[Step], end: End, chop: usize) {
    let what = |part: &dyn std::fmt::Debug| format!("case {id}, in chops of {chop}: {part:?}");
    let mut socket = RawWebSocket::open(*ECHO, "any").await.expect("a WebSocket");
    let (read, mut write) = socket.tcp.split();
    let mut read = BufReader::new(read);
    let code = match end {
        End::Clean => NORMAL,
        End::Closed(code) => code,
    };
    let closing = [close(NORMAL, b""), hear(CLOSE_WHOLE, code.to_be_bytes())];
    let closing = if matches!(end, End::Clean) { &closing[..] } else { &closing[1..] };
    for step in steps.iter().chain(closing) {
        match step {
            Send(bytes) => {
                for chop in bytes.chunks(chop) {
                    within(&what(&"a write"), write.write_all(chop)).await.unwrap_or_else(|error| panic!("{error}: {}", what(&"a write")));
                }
            }
            Hear(first, payload) => {
                let heard = within(&what(&first), raw::receive(&mut read)).await;
                let (kind, heard) = heard.unwrap_or_else(|error| panic!("{error}: {}", what(&first)));
                let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
                assert!(
                    kind == *first && heard == *payload,
                    "{}: {kind:#x}, {} bytes {:?} and not {first:#x}, {} bytes {:?}",
                    what(&""),
                    heard.len(),
                    shown(&heard),
                    payload.len(),
                    shown(payload)
                );
            }
        }
    }
    // The server is the first to close the socket, and it is no reset.
    let mut more = Vec::new();
    let read = within(&what(&"the end"), read.read_to_end(&mut more)).await;
    assert!(read.is_ok() && more.is_empty(), "{}: {read:?} {more:?}", what(&"the end"));
}

/// Plays a case as it is, and byte by byte.
async fn play(id: &str, steps: &[Step], end: End) {
    for chop in [usize::MAX, 1] {
        play_chopped(id, steps, end, chop).await;
    }
}

#[tokio::test]
async fn section_1_messages_of_every_spelling_of_their_length() {
    for length in [0, 125, 126, 127, 128, 65_535, 65_536] {
        for (first, byte) in [(TEXT_WHOLE, b'*'), (BINARY_WHOLE, 0xfe)] {
            let payload = vec![byte; length];
            for chop in [usize::MAX, 997] {
                play_chopped(&format!("1, {length} bytes"), &[send(first, &payload), hear(first, &payload)], End::Clean, chop).await;
            }
        }
    }
}

#[tokio::test]
async fn section_2_pings_and_pongs() {
    let longest = [0xfe; 125];
    for (id, payload) in [("2.1", &b""[..]), ("2.2", b"Hello, world!"), ("2.3", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), ("2.4", &longest)] {
        play(id, &[send(PING_WHOLE, payload), hear(PONG_WHOLE, payload)], End::Clean).await;
    }
    play("2.5", &[send(PING_WHOLE, [0xfe; 126])], End::Closed(PROTOCOL_ERROR)).await;
    play("2.7", &[send(PONG_WHOLE, "")], End::Clean).await;
    play("2.8", &[send(PONG_WHOLE, "unsolicited pong payload")], End::Clean).await;
    play("2.9", &[send(PONG_WHOLE, "unsolicited"), send(PING_WHOLE, "ping"), hear(PONG_WHOLE, "ping")], End::Clean).await;
    let payloads: Vec<String> = (0..10).map(|n| format!("payload-{n}")).collect();
    let pings = Send(payloads.iter().flat_map(|payload| frame(PING_WHOLE, payload.as_bytes())).collect());
    let pongs = payloads.iter().map(|payload| hear(PONG_WHOLE, payload));
    play("2.10", &[pings].into_iter().chain(pongs).collect::<Vec<_>>(), End::Clean).await;
}

#[tokio::test]
async fn section_3_reserved_bits() {
    for reserved in 1..=7_u8 {
        let id = format!("3.{reserved}");
        for first in [TEXT_WHOLE, BINARY_WHOLE, PING_WHOLE, PONG_WHOLE, CLOSE_WHOLE] {
            play(&id, &[send(first | reserved << 4, "")], End::Closed(PROTOCOL_ERROR)).await;
        }
        // What was right before is answered, what comes behind is not.
        let wrong = [send(TEXT_WHOLE, "Hello, world!"), send(TEXT_WHOLE | reserved << 4, "Hello, world!"), send(PING_WHOLE, "")];
        let all = Send(wrong.iter().flat_map(|step| if let Send(bytes) = step { bytes.clone() } else { vec![] }).collect());
        play(&id, &[all, hear(TEXT_WHOLE, "Hello, world!")], End::Closed(PROTOCOL_ERROR)).await;
    }
}

#[tokio::test]
async fn section_4_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let id = format!("4, opcode {opcode}");
        play(&id, &[send(FINISHED | opcode, "")], End::Closed(PROTOCOL_ERROR)).await;
        let sent = [frame(TEXT_WHOLE, b"Hello, world!"), frame(FINISHED | opcode, b"Hello, world!"), frame(PING_WHOLE, b"")];
        play(&id, &[Send(sent.concat()), hear(TEXT_WHOLE, "Hello, world!")], End::Closed(PROTOCOL_ERROR)).await;
    }
}

#[tokio::test]
async fn section_5_fragments() {
    let refused = End::Closed(PROTOCOL_ERROR);
    play("5.1", &[send(PING, "fragment1"), send(LAST, "fragment2")], refused).await;
    play("5.2", &[send(PONG, "fragment1"), send(LAST, "fragment2")], refused).await;
    for kind in [TEXT, BINARY] {
        let both = hear(FINISHED | kind, "fragment1fragment2");
        play("5.3", &[send(kind, "fragment1"), send(LAST, "fragment2"), both.clone()], End::Clean).await;
        let pinged = [send(kind, "fragment1"), send(PING_WHOLE, "ping payload"), hear(PONG_WHOLE, "ping payload")];
        play("5.6", &[&pinged[..], &[send(LAST, "fragment2"), both]].concat(), End::Clean).await;
    }
    for (id, first) in [("5.9", LAST), ("5.12", CONTINUATION)] {
        play(id, &[send(first, "non-continuation payload"), send(TEXT_WHOLE, "Hello, world!")], refused).await;
    }
    let whole = [frame(TEXT, b"fragment1"), frame(LAST, b"fragment2")].concat();
    let wrong = [frame(CONTINUATION, b"fragment3"), frame(TEXT_WHOLE, b"fragment4")].concat();
    play("5.15", &[Send([whole, wrong].concat()), hear(TEXT_WHOLE, "fragment1fragment2")], refused).await;
    for (id, first) in [("5.16", CONTINUATION), ("5.17", LAST)] {
        play(id, &[send(first, "fragment1"), send(TEXT, "fragment2"), send(LAST, "fragment3")], refused).await;
    }
    play("5.18", &[send(TEXT, "fragment1"), send(TEXT_WHOLE, "fragment2")], refused).await;
    let interleaved = [
        send(TEXT, "fragment1"),
        send(CONTINUATION, "fragment2"),
        send(PING_WHOLE, "pongme 1!"),
        hear(PONG_WHOLE, "pongme 1!"),
        send(CONTINUATION, "fragment3"),
        send(CONTINUATION, "fragment4"),
        send(PING_WHOLE, "pongme 2!"),
        send(LAST, "fragment5"),
        hear(PONG_WHOLE, "pongme 2!"),
        hear(TEXT_WHOLE, "fragment1fragment2fragment3fragment4fragment5"),
    ];
    play("5.19", &interleaved, End::Clean).await;
}

/// RFC 6455 §5.1 and §5.2; the suite has no cases for them.
#[tokio::test]
async fn frames_without_a_mask_and_lengths_that_are_spelled_too_long_are_refused() {
    for first in [TEXT_WHOLE, BINARY_WHOLE, TEXT, PING_WHOLE, PONG_WHOLE, CLOSE_WHOLE] {
        play("no mask", &[Send(vec![first, 0])], End::Closed(PROTOCOL_ERROR)).await;
    }
    for length in [&[0xfe, 0, 125][..], &[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]] {
        play("a length", &[Send([&[TEXT_WHOLE], length].concat())], End::Closed(PROTOCOL_ERROR)).await;
    }
}

/// "κόσμε", by which the suite tries what is valid.
const KOSME: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

#[tokio::test]
async fn section_6_utf_8_in_pieces() {
    let both = [b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!", KOSME].concat();
    play("6.1.1", &[send(TEXT_WHOLE, ""), hear(TEXT_WHOLE, "")], End::Clean).await;
    play("6.1.2", &[send(TEXT, ""), send(CONTINUATION, ""), send(LAST, ""), hear(TEXT_WHOLE, "")], End::Clean).await;
    play("6.1.3", &[send(TEXT, ""), send(CONTINUATION, KOSME), send(LAST, ""), hear(TEXT_WHOLE, KOSME)], End::Clean).await;
    for bytes in [usize::MAX, 7, 1] {
        play("6.2", &[Send(fragments(TEXT, &both, bytes)), hear(TEXT_WHOLE, &both)], End::Clean).await;
        let broken = [KOSME, b"\xed\xa0\x80edited"].concat();
        play("6.3", &[Send(fragments(TEXT, &broken, bytes))], End::Closed(INVALID_DATA)).await;
    }
    let alive = [send(PING_WHOLE, "alive?"), hear(PONG_WHOLE, "alive?")];
    for (id, good, bad) in [("6.4.1", KOSME.to_vec(), &b"\xf4\x90\x80\x80"[..]), ("6.4.2", [KOSME, b"\xf4"].concat(), b"\x90")] {
        let steps = [&[send(TEXT, &good)][..], &alive, &[send(CONTINUATION, bad)]].concat();
        play(id, &steps, End::Closed(INVALID_DATA)).await;
        // In one frame, of which the rest never comes: 6.4.3 and 6.4.4.
        let mut unfinished = frame(TEXT_WHOLE, &[&*good, bad, b"edited"].concat());
        unfinished.truncate(unfinished.len() - 6);
        play(id, &[Send(unfinished)], End::Closed(INVALID_DATA)).await;
    }
}

/// Markus Kuhn's UTF-8 decoder stress test, and who of it is valid, as in the suite's sections 6.5 to 6.23.
fn utf_8_sequences() -> Vec<(&'static str, bool, Vec<Vec<u8>>)> {
    let owned = |sequences: &[&[u8]]| sequences.iter().map(|sequence| sequence.to_vec()).collect::<Vec<_>>();
    let character_ends = [2, 5, 7, 9, 11];
    let prefixes =
        |whole: bool| (1..=KOSME.len()).filter(move |end| character_ends.contains(end) == whole).map(|end| KOSME[..end].to_vec());
    let incomplete: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let lonely = [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd_u8];
    let continuations = (1..=6).map(|length| [0x80, 0xbf].repeat(3)[..length].to_vec()).chain([vec![0xbf], (0x80..=0xbf).collect()]);
    let planes = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    let non_characters = planes.map(|point| char::from_u32(point).expect("it is no surrogate").to_string().into_bytes());
    let surrogate = |point: u16| vec![0xed, 0x80 | (point >> 6 & 0x3f) as u8, 0x80 | (point & 0x3f) as u8];
    let surrogates = [0xd800, 0xdb7f, 0xdb80, 0xdbff, 0xdc00, 0xdf80, 0xdfff].map(surrogate);
    let high = [0xd800, 0xdb7f, 0xdb80, 0xdbff];
    let pairs = high.into_iter().flat_map(|high| [0xdc00, 0xdfff].map(|low| [surrogate(high), surrogate(low)].concat()));
    vec![
        ("6.5", true, owned(&[b"hello$world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world", KOSME])),
        ("6.6, characters", true, prefixes(true).collect()),
        ("6.6, cut characters", false, prefixes(false).collect()),
        ("6.7", true, owned(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"])),
        ("6.8", false, owned(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"])),
        ("6.9", true, owned(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"])),
        ("6.10", false, owned(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"])),
        ("6.11", true, owned(&[b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"])),
        ("6.11, past the last", false, owned(&[b"\xf4\x90\x80\x80"])),
        ("6.12", false, continuations.collect()),
        ("6.13", false, lonely.map(|starts| starts.flat_map(|start| [start, b' ']).collect()).into()),
        ("6.14", false, owned(&incomplete)),
        ("6.15", false, vec![incomplete.concat()]),
        ("6.16", false, owned(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"])),
        ("6.17", false, owned(&[b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"])),
        ("6.18", false, owned(&[b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"])),
        ("6.19", false, owned(&[b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"])),
        ("6.20", false, surrogates.into()),
        ("6.21", false, pairs.collect()),
        ("6.22", true, non_characters.collect()),
        ("6.23", true, (0xb9..=0xbf).map(|last| vec![0xef, 0xbf, last]).collect()),
    ]
}

#[tokio::test]
async fn section_6_utf_8_sequences_valid_and_not() {
    let mut played = 0;
    for (id, valid, sequences) in utf_8_sequences() {
        for sequence in sequences {
            let id = format!("{id}, {sequence:x?}");
            let (echoed, end) = if valid { (vec![hear(TEXT_WHOLE, &sequence)], End::Clean) } else { (vec![], End::Closed(INVALID_DATA)) };
            for sent in [frame(TEXT_WHOLE, &sequence), fragments(TEXT, &sequence, 1)] {
                play_chopped(&id, &[vec![Send(sent)], echoed.clone()].concat(), end, usize::MAX).await;
            }
            // A binary message is anything.
            let binary = [send(BINARY_WHOLE, &sequence), hear(BINARY_WHOLE, &sequence)];
            play_chopped(&id, &binary, End::Clean, usize::MAX).await;
            // A reason is text as well.
            let end = if valid { End::Closed(NORMAL) } else { End::Closed(INVALID_DATA) };
            play_chopped(&id, &[close(NORMAL, &sequence)], end, usize::MAX).await;
            played += 1;
        }
    }
    assert!(played > 130, "only {played} sequences");
}

#[tokio::test]
async fn section_7_closes() {
    let normal = End::Closed(NORMAL);
    play("7.1.1", &[send(TEXT_WHOLE, "Hello World!"), hear(TEXT_WHOLE, "Hello World!")], End::Clean).await;
    for (id, behind) in [("7.1.2", CLOSE_WHOLE), ("7.1.3", PING_WHOLE), ("7.1.4", TEXT_WHOLE), ("7.1.5", TEXT)] {
        let sent = [frame(CLOSE_WHOLE, &NORMAL.to_be_bytes()), frame(behind, b"")].concat();
        play(id, &[Send(sent)], normal).await;
    }
    play("7.1.5", &[send(TEXT, "fragment1"), close(NORMAL, b""), send(LAST, "fragment2")], normal).await;
    play("7.3.1", &[send(CLOSE_WHOLE, "")], normal).await;
    play("7.3.2", &[send(CLOSE_WHOLE, "a")], End::Closed(PROTOCOL_ERROR)).await;
    play("7.3.3", &[close(NORMAL, b"")], normal).await;
    play("7.3.4", &[close(NORMAL, b"Hello World!")], normal).await;
    play("7.3.5", &[close(NORMAL, &[b'*'; 123])], normal).await;
    play("7.3.6", &[close(NORMAL, &[b'*'; 124])], End::Closed(PROTOCOL_ERROR)).await;
    play("7.5.1", &[close(NORMAL, &[KOSME, b"\xed\xa0\x80edited"].concat())], End::Closed(INVALID_DATA)).await;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        play(&format!("7.7, {code}"), &[close(code, b"")], End::Closed(code)).await;
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        play(&format!("7.9 and 7.13, {code}"), &[close(code, b"")], End::Closed(PROTOCOL_ERROR)).await;
    }
}

/// Text and binary, and what an echo of it is: the first byte, and bytes that show where they belong.
fn kinds(bytes: usize) -> [(u8, Vec<u8>); 2] {
    let text = (0..bytes).map(|n| b"BAsd7&jh23-"[n % 11]).collect();
    let binary = (0..bytes).map(|n| (n % 251) as u8).collect();
    [(TEXT, text), (BINARY, binary)]
}

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn section_9_messages_of_up_to_16_mib() {
    for bytes in [64 * 1024, 256 * 1024, MIB, 4 * MIB, 8 * MIB, 16 * MIB] {
        for (kind, payload) in kinds(bytes) {
            let first = FINISHED | kind;
            play_chopped("9.1 and 9.2", &[send(first, &payload), hear(first, &payload)], End::Clean, usize::MAX).await;
        }
    }
    assert_eq!(echo::MESSAGE_BYTES_MAX, 16 * MIB);
}

#[tokio::test]
async fn section_9_messages_in_fragments_and_in_chops() {
    for (kind, payload) in kinds(4 * MIB) {
        for bytes in [64, 256, 1024, 4 * 1024, 16 * 1024, 64 * 1024, 256 * 1024, MIB, 4 * MIB] {
            let steps = [Send(fragments(kind, &payload, bytes)), hear(FINISHED | kind, &payload)];
            play_chopped(&format!("9.3 and 9.4, {bytes}"), &steps, End::Clean, usize::MAX).await;
        }
    }
    for (kind, payload) in kinds(MIB) {
        for chop in [64, 128, 256, 512, 1024, 2048] {
            let first = FINISHED | kind;
            play_chopped("9.5 and 9.6", &[send(first, &payload), hear(first, &payload)], End::Clean, chop).await;
        }
    }
    // The longest message in the most fragments.
    let (kind, payload) = kinds(16 * MIB).into_iter().next().expect("there is text");
    play_chopped("16 MiB", &[Send(fragments(kind, &payload, 64)), hear(FINISHED | kind, &payload)], End::Clean, usize::MAX).await;
}

#[tokio::test]
async fn section_9_many_messages_one_after_another() {
    for bytes in [0, 16, 64, 256, 1024, 4096] {
        for (kind, payload) in kinds(bytes) {
            let (there, back) = (send(FINISHED | kind, &payload), hear(FINISHED | kind, &payload));
            play_chopped("9.7 and 9.8", &vec![[there, back]; 1000].concat(), End::Clean, usize::MAX).await;
        }
    }
}

#[tokio::test]
async fn section_10_a_client_that_fragments_by_itself() {
    let payload = vec![b'*'; 65_536];
    play("10.1.1", &[Send(fragments(TEXT, &payload, 1300)), hear(TEXT_WHOLE, &payload)], End::Clean).await;
}

/// Without an extension there is none to negotiate, whatever is offered: RFC 6455 §9.1.
#[tokio::test]
async fn no_extension_is_negotiated() {
    let mut tcp = TcpStream::connect(*ECHO).await.unwrap();
    let offer = "\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    tcp.write_all(raw::handshake("any").trim_end().to_owned().as_bytes()).await.unwrap();
    tcp.write_all(offer.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within("an answer", tcp.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
}

/// A client sends without end and reads nothing: it is the one that waits, and all that was taken comes back once it reads.
#[tokio::test]
async fn an_echo_that_is_not_read_takes_no_more_until_it_is() {
    /// Far more than the sockets and the outbox hold.
    const BYTES_MAX: usize = 256 * MIB;
    /// Who could send nothing for so long is waiting. A machine on which that is too short ends the test early, and no more.
    const STALLED: Duration = Duration::from_secs(1);
    let socket = RawWebSocket::open(*ECHO, "any").await.unwrap();
    let (read, write) = socket.tcp.into_split();
    let payload = vec![7; 64 * 1024];
    let message = frame(BINARY_WHOLE, &payload);
    let mut taken = 0;
    while tokio::time::timeout(STALLED, write.writable()).await.is_ok() {
        taken += match write.try_write(&message[taken % message.len()..]) {
            // It was not writable after all.
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written.expect("the echo goes on"),
        };
        assert!(taken < BYTES_MAX, "{taken} bytes were taken");
    }
    let mut read = BufReader::new(read);
    for _ in 0..taken / message.len() {
        let echoed = within("an echo", raw::receive(&mut read)).await.unwrap();
        assert!(echoed.0 == BINARY_WHOLE && echoed.1 == payload);
    }
}
