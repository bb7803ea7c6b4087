//! The examples of `examples.md` are what is written and read, and show every message of the specification with each of its keys.

use bytes::{Bytes, BytesMut};

use super::{
    framing, json,
    message::{Request, ServerMessage},
    msgpack::Head,
    payload::Codec,
};

const EXAMPLES: &str = include_str!("examples.md");
const SPECIFICATION: &str = include_str!("protocol.md");

/// Of each side: its heading among the examples, and that of its table in the specification.
const CLIENT: [&str; 2] = ["## From the client", "### 3.1 From the client"];
const SERVER: [&str; 2] = ["## From the server", "### 3.2 From the server"];

/// What stands between the heading and the next one.
fn under(text: &'static str, heading: &str) -> &'static str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no heading {heading:?}"));
    below.split("\n#").next().unwrap_or_default()
}

/// The blocks under the heading: a line of JSON, and below it the MessagePack in hex.
fn examples(heading: &str) -> Vec<(&'static str, &'static str)> {
    let blocks = under(EXAMPLES, heading).split("```text\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default()).map(|block| block.split_once('\n').unwrap_or((block, ""))).collect()
}

fn from_hex(text: &str) -> Bytes {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// One group for each scalar and each head of a map or an array, in lines no longer than those of the code.
fn to_hex(mut bytes: &[u8]) -> String {
    const COLUMNS: usize = 140;
    let mut text = String::new();
    let mut column = 0;
    while let Some((head, length)) = Head::read(bytes) {
        let content = match head {
            Head::Str(length) | Head::Bin(length) | Head::Ext(_, length) => length,
            _ => 0,
        };
        let (value, behind) = bytes.split_at(length + content);
        bytes = behind;
        let group: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        if column > 0 && column + 1 + group.len() > COLUMNS {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(&group);
        column += group.len();
    }
    text
}

/// A message as a block has to show it.
fn block(spell: impl Fn(Codec) -> Vec<u8>) -> String {
    let json = String::from_utf8(spell(Codec::Json)).expect("JSON is UTF-8");
    format!("{json}\n{}", to_hex(&spell(Codec::MsgPack)))
}

/// Reads from either line and writes both: what does not come back was not understood, or is not how we write it.
fn check(side: [&str; 2], reread: impl Fn(Codec, &Bytes) -> String) {
    for (json, hex) in examples(side[0]) {
        for (codec, frame) in [(Codec::Json, Bytes::from(json)), (Codec::MsgPack, from_hex(hex))] {
            let again = reread(codec, &frame);
            assert!(again == format!("{json}\n{hex}"), "{codec:?}: this example\n\n{json}\n{hex}\n\nhas to be\n\n{again}\n");
        }
    }
}

#[test]
fn what_a_client_says_is_read_and_written_as_the_examples_show() {
    check(CLIENT, |codec, frame| {
        let request = Request::decode(codec, frame, 64).unwrap_or_else(|refusal| panic!("{refusal:?}: {codec:?} {frame:?}"));
        block(|codec| request.spell(codec))
    });
}

#[test]
fn what_the_server_says_is_read_and_written_as_the_examples_show() {
    check(SERVER, |codec, frame| {
        let message = ServerMessage::decode(codec, frame).unwrap_or_else(|malformed| panic!("{malformed}: {codec:?} {frame:?}"));
        block(|codec| message.spell(codec))
    });
}

#[test]
fn the_length_in_front_of_the_ack_is_as_told() {
    let (_, hex) = examples(SERVER[0]).into_iter().find(|(json, _)| keys(json).0 == "ack").expect("there is an ack");
    let ack = from_hex(hex);
    let mut framed = BytesMut::new();
    framing::encode(&ack, &mut framed);
    let told = format!("`{}` and its {} bytes", framed[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>(), ack.len());
    assert!(EXAMPLES.contains(&told), "{told}");
}

/// A row of a table in the specification.
struct Row {
    types: Vec<&'static str>,
    /// The keys that each message of these types has.
    keys: Vec<&'static str>,
    /// The keys that it may have.
    optional: Vec<&'static str>,
}

fn rows(heading: &str) -> Vec<Row> {
    let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let rows = under(SPECIFICATION, heading).lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        // `peers: [{peerId, metadata?}]` tells of the value as well.
        let fields = quoted(cells[2]).map(|field| field.split(':').next().unwrap_or_default());
        let (optional, keys) = fields.partition::<Vec<_>, _>(|field| field.ends_with('?'));
        Row { types: quoted(cells[1]).collect(), keys, optional: optional.into_iter().map(|key| key.trim_end_matches('?')).collect() }
    })
    .collect()
}

/// The keys of an example, and what stands under `type`.
fn keys(json: &'static str) -> (String, Vec<String>) {
    let entries = json::entries(json.as_bytes()).unwrap();
    let kind = entries.iter().find(|(key, _)| key == "type").map(|(_, value)| serde_json::from_slice(value).unwrap());
    (kind.expect("a message has a type"), entries.into_iter().map(|(key, _)| key.into_owned()).filter(|key| key != "type").collect())
}

#[test]
fn the_examples_show_every_message_of_the_specification_with_its_keys_and_no_other() {
    for (side, of_every_message) in [(CLIENT, &["id"][..]), (SERVER, &[])] {
        let examples: Vec<_> = examples(side[0]).into_iter().map(|(json, _)| keys(json)).collect();
        let rows = rows(side[1]);
        for (kind, keys) in &examples {
            let row = rows.iter().find(|row| row.types.contains(&&**kind)).unwrap_or_else(|| panic!("{kind} is not specified"));
            for key in &row.keys {
                assert!(keys.iter().any(|there| there == key), "a {kind} has `{key}`, in the specification");
            }
            let known = [&row.keys, &row.optional, of_every_message].concat();
            for key in keys {
                assert!(known.contains(&&**key), "the `{key}` of {kind} is not specified");
            }
        }
        for row in rows {
            for kind in &row.types {
                assert!(examples.iter().any(|(shown, _)| shown == kind), "there is no example of {kind}");
            }
            for key in &row.optional {
                let shown = |(kind, keys): &(String, Vec<String>)| row.types.contains(&&**kind) && keys.iter().any(|there| there == key);
                assert!(examples.iter().any(shown), "no example of {:?} has `{key}`", row.types);
            }
        }
        assert!(examples.iter().any(|(_, keys)| keys.iter().any(|key| key == "id")));
    }
}
