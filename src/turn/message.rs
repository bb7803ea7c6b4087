//! Messages of STUN as they come and as they are answered: strict about what is read, and sparing with what is said. No answer names the software.

use std::{borrow::Cow, net::SocketAddr};

use stun_types::{
    attribute::{
        AttributeType, ErrorCode, Fingerprint, MessageIntegrity, MessageIntegritySha256, Nonce, Realm, UnknownAttributes, Username,
    },
    message::{
        IntegrityAlgorithm, IntegrityKey, Message, MessageHeader, MessageWrite as _, MessageWriteExt as _, MessageWriteMutSlice,
        MessageWriteVec,
    },
    prelude::*,
};
use turn_types::{
    attribute::{ChannelNumber, Data, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress},
    message::DATA,
};

/// The realm of all credentials. Short, for an answer has to stay small.
pub const REALM: &str = "turn";
/// An answer to who has not proved anything is at most 2.5 times as long as the question, or there is none.
const ANSWER_HALVES_MAX: usize = 5;
/// A message of STUN begins with so many bytes.
pub const HEADER_BYTES: usize = MessageHeader::LENGTH;
/// What stands around the data of a message to a client, for either family.
pub const DATA_OVERHEAD_MAX: usize = HEADER_BYTES + 24 + 4 + 3;

/// A message that is well-formed.
pub struct Incoming<'a> {
    pub message: Message<'a>,
    bytes: usize,
    has_fingerprint: bool,
}

/// What an answer is signed with.
pub struct Signature<'a> {
    pub key: &'a IntegrityKey,
    pub algorithm: IntegrityAlgorithm,
}

impl<'a> Incoming<'a> {
    /// Reads one that fills these bytes, with nothing behind what is signed and a fingerprint that is right, where there is one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        // The codec reads on behind the length that a message claims, takes what follows the signature for a part of it, and warns of every mistake of a
        // stranger.
        let claimed = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        if bytes.len() != HEADER_BYTES + claimed || claimed % 4 != 0 {
            return None;
        }
        let mut has_fingerprint = false;
        let mut is_signed = false;
        let mut rest = &bytes[HEADER_BYTES..];
        while !rest.is_empty() {
            let kind = AttributeType::new(u16::from_be_bytes([rest[0], rest[1]]));
            let value = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            rest = rest.get(4 + value.next_multiple_of(4)..)?;
            match kind {
                _ if has_fingerprint => return None,
                Fingerprint::TYPE => has_fingerprint = true,
                MessageIntegrity::TYPE if !is_signed => is_signed = true,
                // It may follow that of SHA-1, once.
                MessageIntegritySha256::TYPE => {
                    is_signed = true;
                    if !matches!(rest.len(), 0 | 8) {
                        return None;
                    }
                }
                _ if is_signed => return None,
                _ => {}
            }
        }
        let message = Message::from_bytes(bytes).ok()?;
        Some(Self { message, bytes: bytes.len(), has_fingerprint })
    }

    /// Is it signed at all?
    pub fn is_signed(&self) -> bool {
        self.message.has_attribute(MessageIntegrity::TYPE) || self.message.has_attribute(MessageIntegritySha256::TYPE)
    }

    /// What it has that has to be understood and is not.
    pub fn unknown(&self) -> Vec<AttributeType> {
        const KNOWN: [AttributeType; 13] = [
            Username::TYPE,
            MessageIntegrity::TYPE,
            MessageIntegritySha256::TYPE,
            Realm::TYPE,
            Nonce::TYPE,
            Fingerprint::TYPE,
            Lifetime::TYPE,
            XorPeerAddress::TYPE,
            Data::TYPE,
            ChannelNumber::TYPE,
            RequestedTransport::TYPE,
            RequestedAddressFamily::TYPE,
            EvenPort::TYPE,
        ];
        let kinds = self.message.iter_attributes().map(|(_, attribute)| attribute.get_type());
        kinds.filter(|kind| kind.comprehension_required() && !KNOWN.contains(kind)).collect()
    }

    /// An attribute that need not be there. One that is there and is none is a mistake of this code.
    pub fn optional<A: AttributeFromRaw<'a> + AttributeStaticType>(&'a self, mistake: u16) -> Result<Option<A>, u16> {
        match self.message.attribute::<A>() {
            Ok(attribute) => Ok(Some(attribute)),
            Err(_) if self.message.has_attribute(A::TYPE) => Err(mistake),
            Err(_) => Ok(None),
        }
    }

    /// All peers that it names; nothing if one of them is no address.
    pub fn peers(&self) -> Option<Vec<SocketAddr>> {
        let attributes = self.message.iter_attributes().map(|(_, attribute)| attribute);
        let peers = attributes.filter(|attribute| attribute.get_type() == XorPeerAddress::TYPE);
        peers.map(|peer| Some(XorPeerAddress::from_raw(peer).ok()?.addr(self.message.transaction_id()))).collect()
    }

    /// Yes, with these attributes.
    pub fn success(&self, attributes: &[&dyn AttributeWrite], signature: Option<&Signature<'_>>) -> Option<Vec<u8>> {
        self.finish(Message::builder_success(&self.message, MessageWriteVec::new()), attributes, signature)
    }

    /// No, for this reason.
    pub fn error(&self, code: u16, signature: Option<&Signature<'_>>) -> Option<Vec<u8>> {
        // Who is signed to has asked at length, so there is room for words.
        let reason = if signature.is_some() { ErrorCode::default_reason_for_code(code) } else { "" };
        self.failure(ErrorCode::new(code, reason).expect("it is a code"), &[], signature)
    }

    /// No, for it has these.
    pub fn unknown_attributes(&self, unknown: &[AttributeType], signature: Option<&Signature<'_>>) -> Option<Vec<u8>> {
        let error = ErrorCode::new(ErrorCode::UNKNOWN_ATTRIBUTE, "").expect("it is a code");
        self.failure(error, &[&UnknownAttributes::new(unknown)], signature)
    }

    /// No, but perhaps with credentials and this nonce.
    pub fn challenge(&self, code: u16, nonce: &str) -> Option<Vec<u8>> {
        let (realm, nonce) = (Realm::new(REALM).expect("it is short"), Nonce::new(nonce).expect("it is short"));
        self.failure(ErrorCode::new(code, "").expect("it is a code"), &[&realm, &nonce], None)
    }

    fn failure(&self, error: ErrorCode, attributes: &[&dyn AttributeWrite], signature: Option<&Signature<'_>>) -> Option<Vec<u8>> {
        let mut answer = Message::builder_error(&self.message, MessageWriteVec::new());
        answer.add_attribute(&error).expect("nothing is behind it");
        self.finish(answer, attributes, signature)
    }

    fn finish(
        &self,
        mut answer: MessageWriteVec,
        attributes: &[&dyn AttributeWrite],
        signature: Option<&Signature<'_>>,
    ) -> Option<Vec<u8>> {
        for attribute in attributes {
            answer.add_attribute(*attribute).expect("nothing is signed yet");
        }
        if let Some(Signature { key, algorithm }) = signature {
            answer.add_message_integrity_with_key(key, *algorithm).expect("nothing is signed yet");
        }
        if self.has_fingerprint {
            answer.add_fingerprint().expect("there is none yet");
        }
        let answer = answer.finish();
        (signature.is_some() || 2 * answer.len() <= ANSWER_HALVES_MAX * self.bytes).then_some(answer)
    }
}

/// The part of a message that counts: what stands behind its signature does not, but for a fingerprint (RFC 8489 §14.5 and §14.6), which is that of the part
/// then. Whatever is no message stays as it is.
pub fn signed_part(bytes: &[u8]) -> Cow<'_, [u8]> {
    cut_behind_signature(bytes).map_or(bytes.into(), Cow::Owned)
}

/// Nothing if there is nothing to be cut off.
fn cut_behind_signature(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut signed_by, mut has_more, mut has_fingerprint) = (None, false, false);
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let &[kind_high, kind_low, high, low] = bytes.get(at..at + 4)? else { return None };
        let kind = AttributeType::new(u16::from_be_bytes([kind_high, kind_low]));
        let end = at + 4 + usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
        match (kind, signed_by) {
            (Fingerprint::TYPE, _) => {
                let is_right = end == bytes.len() && bytes[at..] == *fingerprint(&bytes[..at]);
                has_fingerprint = is_right.then_some(true)?;
            }
            (MessageIntegrity::TYPE | MessageIntegritySha256::TYPE, None) => signed_by = Some((kind, end)),
            // It may follow that of SHA-1.
            (MessageIntegritySha256::TYPE, Some((MessageIntegrity::TYPE, signed))) if signed == at => {}
            _ => has_more |= signed_by.is_some(),
        }
        at = end;
    }
    let (_, signed) = signed_by.filter(|_| has_more && at == bytes.len())?;
    let mut part = bytes[..signed].to_vec();
    let claimed = signed - HEADER_BYTES + if has_fingerprint { 8 } else { 0 };
    part[2..4].copy_from_slice(&u16::try_from(claimed).ok()?.to_be_bytes());
    if has_fingerprint {
        let fingerprint = fingerprint(&part);
        part.extend(fingerprint);
    }
    Some(part)
}

/// The attribute that says what stands before it.
fn fingerprint(before: &[u8]) -> Box<[u8]> {
    Fingerprint::new(Fingerprint::compute(&[before])).to_raw().to_bytes().into()
}

/// Writes what a client is told of a packet from this peer, and returns how long that is. There have to be [`DATA_OVERHEAD_MAX`] bytes more than the packet has.
pub fn write_data(peer: SocketAddr, packet: &[u8], into: &mut [u8]) -> usize {
    let mut message = Message::builder_indication(DATA, MessageWriteMutSlice::new(into));
    let peer = XorPeerAddress::new(peer, message.transaction_id());
    message.add_attribute(&peer).expect("there is room");
    message.add_attribute(&Data::new(packet)).expect("there is room");
    let bytes = message.finish();
    // What was there before is none of the client's business.
    let padding = packet.len().next_multiple_of(4) - packet.len();
    into[bytes - padding..bytes].fill(0);
    bytes
}

#[cfg(test)]
mod tests {
    use stun_types::message::{BINDING, LongTermKeyCredentials};
    use turn_types::message::ALLOCATE;

    use super::*;

    fn key() -> IntegrityKey {
        LongTermKeyCredentials::new("anna".into(), "secret".into(), REALM.into()).make_key(IntegrityAlgorithm::Sha1)
    }

    fn signed() -> Vec<u8> {
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        request.add_message_integrity_with_key(&key(), IntegrityAlgorithm::Sha1).unwrap();
        request.add_fingerprint().unwrap();
        request.finish()
    }

    /// Adds an attribute to the end, and says so in the length.
    fn with_more(mut bytes: Vec<u8>, attribute: &[u8]) -> Vec<u8> {
        bytes.extend(attribute);
        let claimed = (bytes.len() - HEADER_BYTES) as u16;
        bytes[2..4].copy_from_slice(&claimed.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_not_exactly_a_message_is_none() {
        let good = signed();
        assert!(Incoming::read(&good).is_some_and(|incoming| incoming.is_signed() && incoming.unknown().is_empty()));
        for cut in 0..good.len() {
            assert!(Incoming::read(&good[..cut]).is_none(), "cut at {cut}");
        }
        assert!(Incoming::read(&[&good[..], &[0; 4]].concat()).is_none(), "more than it claims");
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            assert!(Incoming::read(&other).is_none(), "the fingerprint knows that byte {at} is another");
        }
        let peer = [0x00, 0x12, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(Incoming::read(&with_more(good.clone(), &peer)).is_none(), "behind the fingerprint");
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        request.add_message_integrity_with_key(&key(), IntegrityAlgorithm::Sha1).unwrap();
        let unsigned_tail = with_more(request.finish(), &peer);
        assert!(Incoming::read(&unsigned_tail).is_none(), "behind the signature");
        let bare = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        assert!(Incoming::read(&with_more(bare.clone(), &[0, 6, 0, 5, 1, 2, 3, 4])).is_none(), "an attribute that ends behind the message");
        assert!(Incoming::read(&with_more(bare, &[0, 6, 0, 3, 1, 2, 3, 0])).is_some());
    }

    /// Of a client that adds its SOFTWARE last, and of one that somebody adds to on the way.
    #[test]
    fn what_stands_behind_the_signature_does_not_count_but_for_a_fingerprint() {
        let lifetime = [0, 0x0d, 0, 4, 0, 0, 0, 0];
        for has_fingerprint in [false, true] {
            let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
            request.add_message_integrity_with_key(&key(), IntegrityAlgorithm::Sha1).unwrap();
            let mut bytes = with_more(request.finish(), &lifetime);
            if has_fingerprint {
                bytes = with_more(bytes, &[0; 8]);
                let at = bytes.len() - 8;
                let right = fingerprint(&bytes[..at]);
                bytes[at..].copy_from_slice(&right);
            }
            let part = signed_part(&bytes);
            let incoming = Incoming::read(&part).unwrap();
            assert_eq!(incoming.message.has_attribute(Fingerprint::TYPE), has_fingerprint);
            assert!(!incoming.message.has_attribute(Lifetime::TYPE));
            assert!(incoming.message.validate_integrity_with_key(&key()).is_ok());
            if has_fingerprint {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                assert!(Incoming::read(&signed_part(&bytes)).is_none(), "the fingerprint is wrong");
            }
        }
        let good = signed();
        assert!(matches!(signed_part(&good), Cow::Borrowed(_)));
        for cut in 0..good.len() {
            assert!(Incoming::read(&signed_part(&good[..cut])).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn nobody_gets_more_than_two_and_a_half_times_what_they_sent() {
        let nonce = "A".repeat(22);
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        let bare = request.clone_bytes();
        assert_eq!(Incoming::read(&bare).unwrap().challenge(401, &nonce), None, "20 bytes are not answered with 64");
        assert_eq!(Incoming::read(&bare).unwrap().error(400, None).unwrap().len(), 28);
        request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        let bytes = request.finish();
        let answer = Incoming::read(&bytes).unwrap().challenge(401, &nonce).unwrap();
        assert!(answer.len() * 2 <= bytes.len() * 5, "{} for {}", answer.len(), bytes.len());
        let with_fingerprint = signed();
        let answer = Incoming::read(&with_fingerprint).unwrap().challenge(401, &nonce).unwrap();
        assert!(Message::from_bytes(&answer).unwrap().has_attribute(Fingerprint::TYPE));
    }

    trait CloneBytes {
        fn clone_bytes(&self) -> Vec<u8>;
    }

    impl CloneBytes for MessageWriteVec {
        fn clone_bytes(&self) -> Vec<u8> {
            self.data().to_vec()
        }
    }

    #[test]
    fn padding_shows_nothing_of_what_was_sent_before() {
        for peer in ["192.0.2.1:5", "[2001:db8::1]:5"] {
            for length in 0..9 {
                let mut into = vec![0xaa; length + DATA_OVERHEAD_MAX];
                let bytes = write_data(peer.parse().unwrap(), &vec![0xbb; length], &mut into);
                let message = Message::from_bytes(&into[..bytes]).unwrap();
                assert_eq!(message.attribute::<Data<'_>>().unwrap().data(), vec![0xbb; length]);
                assert_eq!(message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id()), peer.parse().unwrap());
                let padding = length.next_multiple_of(4) - length;
                assert!(into[bytes - padding..bytes].iter().all(|byte| *byte == 0), "{length}");
            }
        }
    }
}
