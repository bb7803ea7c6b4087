//! What belongs to the application arrives: byte for byte in the same codec, and as the specification's tables say in the other.

mod support;

use serde_json::{Value, json};
use support::{Random, RawClient, TestServer, seed, within};
use switchboard::{
    client::Door,
    protocol::{Codec, Payload, ServerMessage},
};

/// A client at each door, all in the room "r", and all that they had to hear of it heard.
async fn one_at_each_door(server: &TestServer) -> Vec<RawClient> {
    let mut clients: Vec<RawClient> = Vec::new();
    for door in Door::ALL {
        let newcomer = RawClient::joined(server, door, "r").await;
        for client in &mut clients {
            assert_eq!(client.hear().await["type"], "peer-joined");
        }
        clients.push(newcomer);
    }
    clients
}

/// A message whose last value is these bytes.
fn message_of(kind: &str, key: &str, value: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Json => [format!(r#"{{"type":"{kind}","{key}":"#).as_bytes(), value, b"}"].concat(),
        Codec::MsgPack => {
            let mut bytes = vec![0x82];
            for text in ["type", kind, key] {
                bytes.extend(support::spell(&json!(text), codec));
            }
            [&bytes, value].concat()
        }
    }
}

/// The value of the next message, in the bytes in which it came.
async fn heard_value(client: &mut RawClient) -> Vec<u8> {
    let value = match within("a message", client.client.receive()).await.expect("a connection") {
        ServerMessage::Forwarded { payload, .. } => payload,
        ServerMessage::PeerUpdated { peer, .. } => peer.metadata.expect("metadata"),
        other => panic!("{other:?}"),
    };
    value.spell(client.codec).into_owned()
}

/// Sends values of one codec from each door that speaks it to each other door, as payload and as metadata. Each row has the value and
/// what it is in the other codec.
async fn check(codec: Codec, rows: &[(&[u8], &[u8])]) {
    let server = TestServer::start();
    let mut clients = one_at_each_door(&server).await;
    for sender in 0..clients.len() {
        if clients[sender].codec != codec {
            continue;
        }
        for (sent, elsewhere) in rows {
            for (kind, key) in [("message", "payload"), ("metadata", "metadata")] {
                // Metadata that is null in either codec is none there.
                if key == "metadata" && [sent, elsewhere].into_iter().any(|value| [&b"null"[..], b"\xc0"].contains(value)) {
                    continue;
                }
                let message = message_of(kind, key, sent, codec);
                clients[sender].say_bytes(message).await;
                for receiver in (0..clients.len()).filter(|receiver| *receiver != sender) {
                    let heard = heard_value(&mut clients[receiver]).await;
                    let expected = if clients[receiver].codec == codec { sent } else { elsewhere };
                    let [heard, expected, sent] = [&heard, *expected, *sent].map(|bytes| bytes.escape_ascii().to_string());
                    assert_eq!(heard, expected, "{kind} of {sent} from {} to {}", Door::ALL[sender], Door::ALL[receiver]);
                }
            }
        }
        clients[sender].hears_nothing().await;
    }
}

/// A float 64 in MessagePack.
macro_rules! float {
    ($value:expr) => {
        &[&[0xcb][..], &f64::to_be_bytes($value)].concat()
    };
}

#[tokio::test]
async fn json_arrives_byte_for_byte_and_in_messagepack_as_specified() {
    let long = format!("[{}1]", "1,".repeat(65_535 / 4));
    let long_in_msgpack = [&[0xdc, 0x40, 0x00][..], &[1; 16_384]].concat();
    let rows: &[(&str, &[u8])] = &[
        ("null", b"\xc0"),
        ("true", b"\xc3"),
        (r#"  [ 1 ,	"x" ]"#, b"\x92\x01\xa1x"),
        (r#"{"b":1,"a":{"z":[],"y":{}}}"#, b"\x82\xa1b\x01\xa1a\x82\xa1z\x90\xa1y\x80"),
        (r#"{"a":1,"a":2}"#, b"\x82\xa1a\x01\xa1a\x02"),
        ("0", b"\x00"),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
        ("256", b"\xcd\x01\x00"),
        ("65536", b"\xce\x00\x01\x00\x00"),
        ("4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        ("18446744073709551615", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("-1", b"\xff"),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-9223372036854775808", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("1.0", float!(1.0)),
        ("1e2", float!(100.0)),
        ("0.1", float!(0.1)),
        ("-0", float!(-0.0)),
        ("18446744073709551616", float!(18_446_744_073_709_551_616.0)),
        ("-9223372036854775809", float!(-9_223_372_036_854_775_808.0)),
        ("123456789012345678901234567890.123456789", float!(1.234_567_890_123_456_8e29)),
        ("1e400", float!(f64::INFINITY)),
        ("-1e400", float!(f64::NEG_INFINITY)),
        (r#""\ud800x""#, b"\xa4\xef\xbf\xbdx"),
        (r#""\ud83d\ude00\u0000\n\/""#, b"\xa7\xf0\x9f\x98\x80\x00\n/"),
        ("\"\u{1f600}\"", b"\xa4\xf0\x9f\x98\x80"),
    ];
    let rows: Vec<(&[u8], &[u8])> = rows.iter().map(|(json, msgpack)| (json.as_bytes(), *msgpack)).collect();
    check(Codec::Json, &rows).await;
    check_payload_alone(Codec::Json, long.as_bytes(), &long_in_msgpack).await;
}

#[tokio::test]
async fn messagepack_arrives_byte_for_byte_and_in_json_as_specified() {
    let rows: &[(&[u8], &str)] = &[
        (b"\xc0", "null"),
        (b"\xc2", "false"),
        // Headers larger than they need be stay so.
        (b"\xdd\x00\x00\x00\x01\xd9\x01x", r#"["x"]"#),
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
        (b"\x82\xa1b\x01\xa1a\x81\xa1z\xd0\xff", r#"{"b":1,"a":{"z":-1}}"#),
        (b"\x82\xa1a\x01\xa1a\x02", r#"{"a":1,"a":2}"#),
        (b"\xc4\x00", r#""""#),
        (b"\xc4\x03\x00\x01\xff", r#""AAH/""#),
        (b"\xc5\x00\x04\xfb\xff\xbe\x00", r#""+/++AA==""#),
        (b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", "9007199254740993"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xca\x3f\x80\x00\x00", "1.0"),
        (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
        (float!(0.1), "0.1"),
        (float!(-0.0), "-0.0"),
        (float!(f64::NAN), "null"),
        (float!(f64::INFINITY), "null"),
        (b"\xca\xff\x80\x00\x00", "null"),
        (
            b"\x86\x01\xc0\xc3\xc0\xc0\xc0\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc0\xff\xc0\xa0\xc0",
            r#"{"1":null,"true":null,"null":null,"1.5":null,"-1":null,"":null}"#,
        ),
        (b"\x83\xc4\x01\x00\x01\x91\xa1x\x02\x81\x01\x02\x03", r#"{"AA==":1,"kaF4":2,"gQEC":3}"#),
        (b"\xd6\xff\x00\x00\x00\x01", r#"{"ext":-1,"data":"AAAAAQ=="}"#),
        (b"\xc7\x00\x05", r#"{"ext":5,"data":""}"#),
        (b"\xa3a\xff\x22", r#""a�\"""#),
        (b"\xa5\x00\n\"\\\x7f", "\"\\u0000\\n\\\"\\\\\x7f\""),
    ];
    let rows: Vec<(&[u8], &[u8])> = rows.iter().map(|(msgpack, json)| (*msgpack, json.as_bytes())).collect();
    check(Codec::MsgPack, &rows).await;
    let binary: Vec<u8> = (0..30_000_u32).map(|n| n as u8).collect();
    let text = json!(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &binary)).to_string();
    check_payload_alone(Codec::MsgPack, &[&[0xc5, 0x75, 0x30], &binary[..]].concat(), text.as_bytes()).await;
}

/// As [`check`], for a value too large for metadata.
async fn check_payload_alone(codec: Codec, sent: &[u8], elsewhere: &[u8]) {
    let server = TestServer::start();
    let mut clients = one_at_each_door(&server).await;
    let sender = clients.iter().position(|client| client.codec == codec).expect("a door of each codec");
    clients[sender].say_bytes(message_of("message", "payload", sent, codec)).await;
    for receiver in (0..clients.len()).filter(|receiver| *receiver != sender) {
        let heard = heard_value(&mut clients[receiver]).await;
        let expected = if clients[receiver].codec == codec { sent } else { elsewhere };
        assert!(heard == expected, "{} bytes from {} to {}", sent.len(), Door::ALL[sender], Door::ALL[receiver]);
    }
}

#[tokio::test]
async fn metadata_is_the_same_for_those_who_come_later() {
    let server = TestServer::start();
    let mut anna = RawClient::welcomed(&server, Door::WebSocket(Codec::Json)).await;
    let text = r#"{"b" : 1.0, "a":18446744073709551615}"#;
    anna.say_bytes(format!(r#"{{"metadata":{text},"type":"join","room":"r"}}"#)).await;
    assert_eq!(anna.hear().await["type"], "joined");
    for (door, expected) in [
        (Door::WebSocket(Codec::Json), text.as_bytes()),
        (Door::WebTransport, &[&b"\x82\xa1b"[..], float!(1.0), b"\xa1a\xcf\xff\xff\xff\xff\xff\xff\xff\xff"].concat()),
    ] {
        let mut ben = RawClient::welcomed(&server, door).await;
        let peers = within("a join", ben.client.join("r", None)).await.unwrap();
        let seen: Vec<Payload> = peers.into_iter().filter_map(|peer| peer.metadata).collect();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].spell(door.codec()), expected);
        ben.done(json!({"type": "leave"})).await;
    }
}

#[tokio::test]
async fn a_value_may_nest_as_deep_as_the_limit_and_no_deeper() {
    let server = TestServer::start();
    let mut clients = one_at_each_door(&server).await;
    let nested = |depth| (0..depth).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) });
    for sender in 0..clients.len() {
        clients[sender].done(json!({"type": "message", "payload": nested(64)})).await;
        for receiver in (0..clients.len()).filter(|receiver| *receiver != sender) {
            assert_eq!(clients[receiver].hear().await["payload"], nested(64));
        }
        for message in [json!({"type": "message", "payload": nested(65)}), json!({"type": "metadata", "metadata": nested(65)})] {
            assert_eq!(clients[sender].refused(message).await["code"], "too-deep");
        }
    }
    for client in &mut clients {
        client.hears_nothing().await;
    }
}

#[tokio::test]
async fn whatever_both_codecs_can_express_arrives_equal() {
    const VALUES: usize = 300;
    let mut random = Random::new(seed());
    let server = TestServer::start();
    let mut clients = one_at_each_door(&server).await;
    for n in 0..VALUES {
        let sender = n % clients.len();
        let value = any_value(&mut random, 5);
        clients[sender].say(json!({"type": "message", "payload": value})).await;
        for receiver in (0..clients.len()).filter(|receiver| *receiver != sender) {
            let heard = clients[receiver].hear().await;
            assert!(heard["payload"] == value, "value {n} from {} to {}", Door::ALL[sender], Door::ALL[receiver]);
        }
    }
}

/// Any JSON value, nested no deeper than `depth`.
fn any_value(random: &mut Random, depth: u64) -> Value {
    let kinds = if depth == 0 { 6 } else { 8 };
    match random.below(kinds) {
        0 => json!(null),
        1 => json!(random.below(2) == 0),
        // As many bits as not, so that every size of integer is there.
        2 => json!(random.next() >> random.below(64)),
        3 => json!((random.next() as i64) >> random.below(64)),
        4 => Some(f64::from_bits(random.next())).filter(|float| float.is_finite()).map_or(json!(0.5), |float| json!(float)),
        5 => json!(any_text(random)),
        6 => (0..random.below(7)).map(|_| any_value(random, depth - 1)).collect(),
        _ => (0..random.below(7)).map(|_| (any_text(random), any_value(random, depth - 1))).collect(),
    }
}

/// Text of characters from everywhere, those that JSON has to escape most of all.
fn any_text(random: &mut Random) -> String {
    let length = random.below(30) * random.below(2);
    let any_char = |random: &mut Random| match random.below(3) {
        0 => random.below(0x80) as u32,
        1 => random.below(0x11_0000) as u32,
        _ => u32::from(b"\"\\/\0\n"[random.below(5) as usize]),
    };
    (0..length).map(|_| char::from_u32(any_char(random)).unwrap_or('\u{fffd}')).collect()
}
