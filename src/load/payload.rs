//! What browsers send, by shape and size: a session description is lines that end in CR LF, which JSON has to escape.

use serde_json::{Value, json};

use super::{speech::Signal, template::Marker};

/// Smallest payload of either kind: what stands around its filling.
pub const BYTES_MIN: usize = 160;

/// Lines that every audio and data offer has in some form, over and over until the size is reached.
const LINES: &[&str] = &[
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126",
    "c=IN IP4 0.0.0.0",
    "a=rtcp:9 IN IP4 0.0.0.0",
    "a=ice-ufrag:8hhY",
    "a=ice-pwd:asd88fgpdd777uzjYhagZg0p",
    "a=ice-options:trickle",
    "a=fingerprint:sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08",
    "a=setup:actpass",
    "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
];

/// A payload whose JSON takes exactly so many bytes, or [`BYTES_MIN`] if that is more. It holds a marker.
pub fn payload(signal: Signal, bytes: usize) -> Value {
    let marker = Marker { sender: 0, number: 0, due: 0 }.text();
    let (frame, lines): (fn(String) -> Value, String) = match signal {
        Signal::Offer => {
            let head = format!("v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns={marker}\r\nt=0 0\r\n");
            (|sdp| json!({"type": "offer", "sdp": sdp}), head)
        }
        Signal::Candidate => {
            let line = format!("candidate:{marker} 1 udp 2122260223 192.0.2.1 61764 typ host ");
            (|candidate| json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}), line)
        }
    };
    let spelled = |text: &str| frame(text.to_owned()).to_string().len();
    let mut text = lines;
    if signal == Signal::Offer {
        for line in LINES.iter().cycle() {
            // Each of the two characters at its end is two in JSON.
            if spelled(&text) + line.len() + 4 > bytes {
                break;
            }
            text += line;
            text += "\r\n";
        }
    }
    let missing = bytes.max(BYTES_MIN).saturating_sub(spelled(&text));
    text += &"x".repeat(missing);
    frame(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_size_that_was_asked_for_and_a_marker() {
        for signal in [Signal::Offer, Signal::Candidate] {
            for bytes in [BYTES_MIN, 200, 1000, 2048, 60_000] {
                let text = payload(signal, bytes).to_string();
                assert_eq!(text.len(), bytes, "{signal:?}");
                assert!(Marker::find(text.as_bytes()).is_some());
            }
        }
    }
}
