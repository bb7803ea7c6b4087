//! Signals as browsers write them: `RTCSessionDescription` and `RTCIceCandidate`, as JSON. All of it is read with mistrust.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::protocol::{Object, Payload};

/// A session description, and what our browser client says beside it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Description {
    /// The text of it.
    pub sdp: String,
    /// Whoever says so is a `PeerLink` of our browser client, whose channels 0 and 1 are agreed on beforehand.
    #[serde(default)]
    pub turns: bool,
}

impl Description {
    /// What a peer sent as one, if it is the shape of one.
    pub fn read(payload: &Payload) -> Option<Self> {
        payload.parse().ok().map(|Object(description)| description)
    }

    /// The payload of a message that carries this text.
    pub fn spell(kind: &str, sdp: &str) -> Payload<'static> {
        Payload::from_serialize(&json!({ "type": kind, "sdp": sdp })).expect("text can be spelled")
    }

    /// What every description of one connection has in common, and no other has: the id of its session, the second field of the line `o=`.
    pub fn session(&self) -> Option<&str> {
        self.sdp.lines().find_map(|line| line.strip_prefix("o="))?.split(' ').nth(1)
    }
}

/// The text of a candidate that a peer sent; `None` for one that says that there are no more, and for what is none.
pub fn candidate_text(payload: &Payload) -> Option<String> {
    let value: Value = payload.parse().ok()?;
    let text = value.get("candidate")?.as_str()?.trim_start_matches("a=");
    (!text.is_empty()).then(|| text.to_owned())
}

/// The payload of a message that carries this candidate. All of a connection goes one way, that of its first part.
pub fn spell_candidate(text: &str) -> Payload<'static> {
    Payload::from_serialize(&json!({ "candidate": text, "sdpMid": null, "sdpMLineIndex": 0 })).expect("text can be spelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: Value) -> Payload<'static> {
        Payload::from_serialize(&value).unwrap()
    }

    #[test]
    fn what_a_peer_sends_is_read_if_it_has_the_shape() {
        let description =
            Description::read(&payload(json!({"type": "offer", "sdp": "v=0\r\no=- 4711 2 IN IP4 0.0.0.0\r\n", "turns": true})));
        let description = description.unwrap();
        assert_eq!((description.session(), description.turns), (Some("4711"), true));
        for other in [json!(null), json!({"sdp": 7}), json!("v=0"), json!(["v=0", true]), json!({"type": "offer"})] {
            assert!(Description::read(&payload(other.clone())).is_none(), "{other}");
        }
        assert_eq!(candidate_text(&payload(json!({"candidate": "a=candidate:1"}))), Some("candidate:1".into()));
        for none in [json!(null), json!({"candidate": ""}), json!({"candidate": null}), json!([])] {
            assert_eq!(candidate_text(&payload(none.clone())), None, "{none}");
        }
        assert_eq!(candidate_text(&spell_candidate("candidate:1")), Some("candidate:1".into()));
    }
}
