//! Names of peers, rooms and sessions: parsed once, valid ever after.
//!
//! Random ids are 128 bits from the operating system, written as 32 lower-case hexadecimal digits, so that every dialect can carry them:
//! they are valid PeerJS ids, DOM ids and URL segments.

use std::{fmt, sync::Arc};

/// Who a client is for others: random, given by the server, never chosen by the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u128);

/// The secret that proves to be the owner of a session. Never logged: its `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResumeToken(u128);

/// The name of a room: 1 to `room_name_bytes_max` bytes of UTF-8 without control characters. Cheap to clone.
///
/// A dialect whose clients understand no others has rooms of its own, which no client of another dialect can name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Arc<str>);

/// What a peer of a foreign dialect calls itself in a room, where it may: bounded as a room's name is. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName(Arc<str>);

/// Stands around the name of the dialect that a room is for, in front of the room's own name, which has none of it.
const OF_DIALECT: char = '\u{1}';

impl PeerId {
    /// Whoever runs the server, where that speaks to a room. No peer has this id.
    pub const SERVER: Self = Self(0);

    /// A new one, unguessable.
    pub fn random() -> Self {
        Self(random_bits())
    }

    /// Reads what [`fmt::Display`] wrote; anything else names nobody.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_bytes(text.as_bytes())
    }

    /// The same, of the bytes of a frame.
    pub fn parse_bytes(text: &[u8]) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// The spelling, without an allocation.
    pub fn hex(self) -> Hex {
        to_hex(self.0)
    }
}

impl ResumeToken {
    /// A new one, unguessable.
    pub fn random() -> Self {
        Self(random_bits())
    }

    /// Reads the spelling that its owner was told.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text.as_bytes()).map(Self)
    }

    /// The spelling that its owner is told.
    pub fn hex(self) -> Hex {
        to_hex(self.0)
    }
}

impl RoomId {
    /// Takes the name if it is a valid one of at most `bytes_max` bytes.
    pub fn parse(name: &str, bytes_max: usize) -> Option<Self> {
        is_name(name, bytes_max).then(|| Self(name.into()))
    }

    /// The same for a room of this dialect alone.
    pub fn parse_in(dialect: &str, name: &str, bytes_max: usize) -> Option<Self> {
        is_name(name, bytes_max).then(|| Self(format!("{OF_DIALECT}{dialect}{OF_DIALECT}{name}").into()))
    }

    /// A room of the same name, unlike any other.
    pub fn another(&self) -> Self {
        Self(format!("{}{OF_DIALECT}{}", self.0, to_hex(random_bits()).as_str()).into())
    }

    /// The dialect whose clients have it to themselves; an empty name if clients of several meet there.
    pub fn dialect(&self) -> &str {
        match self.0.strip_prefix(OF_DIALECT) {
            Some(rest) => rest.split(OF_DIALECT).next().unwrap_or_default(),
            None => "",
        }
    }

    /// What tells it from others of the same name, if there may be others.
    pub fn which(&self) -> Option<&str> {
        let parts = if self.dialect().is_empty() { 1 } else { 3 };
        self.0.split(OF_DIALECT).nth(parts)
    }

    /// The room of these parts, whatever they are: there need not be one.
    pub fn from_parts(dialect: &str, name: &str, which: Option<&str>) -> Self {
        let mut id = if dialect.is_empty() { name.to_owned() } else { format!("{OF_DIALECT}{dialect}{OF_DIALECT}{name}") };
        if let Some(which) = which {
            id.push(OF_DIALECT);
            id.push_str(which);
        }
        Self(id.into())
    }

    /// The whole name, unlike that of any other room.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as those who are in the room know it.
    pub fn name(&self) -> &str {
        let mut parts = self.0.split(OF_DIALECT);
        match parts.next() {
            Some("") | None => parts.nth(1).unwrap_or_default(),
            Some(name) => name,
        }
    }
}

impl PeerName {
    /// Takes the name if it is a valid one of at most `bytes_max` bytes.
    pub fn parse(name: &str, bytes_max: usize) -> Option<Self> {
        is_name(name, bytes_max).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

impl std::borrow::Borrow<str> for PeerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(secret)")
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 128 bits as text, on the stack.
pub struct Hex([u8; Self::BYTES]);

impl Hex {
    /// How long it is.
    pub const BYTES: usize = 32;

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }

    /// The same as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    u128::from_be_bytes(bytes)
}

fn to_hex(bits: u128) -> Hex {
    let mut hex = [0; 32];
    let words = [bits >> 96, bits >> 64, bits >> 32, bits].map(|bits| bits as u32);
    for (digits, word) in hex.chunks_exact_mut(8).zip(words) {
        digits.copy_from_slice(&eight_digits(word));
    }
    Hex(hex)
}

/// Eight at once, one in each byte of a register: a room's newcomer is told the ids of all who are there.
fn eight_digits(word: u32) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let spread = |bits: u64, by: u32, kept: u64| (bits | bits << by) & kept;
    let nibbles = spread(u64::from(word), 16, 0x0000_ffff_0000_ffff);
    let nibbles = spread(spread(nibbles, 8, 0x00ff_00ff_00ff_00ff), 4, 0x0f * EACH);
    // One where adding 6 carries into the upper half of the byte: there stands a letter.
    let letters = ((nibbles + 6 * EACH) >> 4) & EACH;
    let to_letters = u64::from(b'a' - 10 - b'0');
    (nibbles + u64::from(b'0') * EACH + letters * to_letters).to_be_bytes()
}

fn from_hex(text: &[u8]) -> Option<u128> {
    let digits: &[u8; 32] = text.try_into().ok()?;
    // Reckoned to the end before it is judged, for the same reason.
    let (mut nibbles, mut is_canonical) = ([0; 32], true);
    for (nibble, digit) in nibbles.iter_mut().zip(digits) {
        let (number, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        *nibble = if number < 10 { number } else { letter.wrapping_add(10) };
        is_canonical &= number < 10 || letter < 6;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(nibbles.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1] & 15;
    }
    is_canonical.then(|| u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_reads_back_as_it_was_written() {
        let id = PeerId::random();
        assert_eq!(PeerId::parse(&id.to_string()), Some(id));
        assert_ne!(id, PeerId::random());
    }

    #[test]
    fn ids_are_written_as_hexadecimal_digits() {
        let each_digit_everywhere = (0..16).map(|digit| 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.rotate_left(4 * digit));
        for bits in each_digit_everywhere.chain([0, u128::MAX]).chain((0..1000).map(|_| random_bits())) {
            assert_eq!(to_hex(bits).as_str(), format!("{bits:032x}"));
        }
    }

    #[test]
    fn only_the_canonical_spelling_names_a_peer() {
        for text in ["", "0", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33), &format!("+{}", "0".repeat(31))] {
            assert_eq!(PeerId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_room_name_has_bounds_and_no_control_characters() {
        assert!(RoomId::parse("ü", 2).is_some());
        assert!(RoomId::parse("üx", 2).is_none());
        assert!(RoomId::parse("", 2).is_none());
        assert!(RoomId::parse("a\n", 2).is_none());
        assert!(RoomId::parse("\u{85}", 2).is_none());
    }

    #[test]
    fn a_resume_token_is_not_debugged() {
        assert_eq!(format!("{:?}", ResumeToken::random()), "ResumeToken(secret)");
    }
}
