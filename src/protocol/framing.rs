//! Frames on a byte stream, which WebTransport has none of: 4 bytes of length, big-endian, then that many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One unit from or for a client, before it means anything or after it no longer has to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A WebSocket text frame: valid UTF-8.
    Text(Bytes),
    /// A WebSocket binary frame, or a frame on a stream.
    Binary(Bytes),
    /// A WebTransport datagram, which may be lost.
    Datagram(Bytes),
}

impl Frame {
    /// What is in it.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Datagram(bytes) => bytes,
        }
    }

    /// The same, lent.
    pub fn lend(&self) -> LentFrame<'_> {
        match self {
            Self::Text(bytes) => LentFrame::Text(bytes),
            Self::Binary(bytes) => LentFrame::Binary(bytes),
            Self::Datagram(bytes) => LentFrame::Datagram(bytes),
        }
    }
}

/// A [`Frame`] whose bytes lie in a buffer that is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LentFrame<'a> {
    /// Valid UTF-8.
    Text(&'a [u8]),
    /// The same as with one that has its own bytes.
    Binary(&'a [u8]),
    /// The same.
    Datagram(&'a [u8]),
}

impl<'a> LentFrame<'a> {
    /// What is in it.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Datagram(bytes) => bytes,
        }
    }
}

/// A frame with bytes of its own or with lent ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CowFrame<'a> {
    /// Copied by whoever keeps it.
    Lent(LentFrame<'a>),
    /// Kept as it is.
    Own(Frame),
}

impl CowFrame<'_> {
    /// The same, lent.
    pub fn lend(&self) -> LentFrame<'_> {
        match self {
            Self::Lent(frame) => *frame,
            Self::Own(frame) => frame.lend(),
        }
    }
}

impl From<Frame> for CowFrame<'_> {
    fn from(frame: Frame) -> Self {
        Self::Own(frame)
    }
}

impl<'a> From<LentFrame<'a>> for CowFrame<'a> {
    fn from(frame: LentFrame<'a>) -> Self {
        Self::Lent(frame)
    }
}

impl From<CowFrame<'_>> for Frame {
    fn from(frame: CowFrame<'_>) -> Self {
        match frame {
            CowFrame::Lent(frame) => frame.into(),
            CowFrame::Own(frame) => frame,
        }
    }
}

impl From<LentFrame<'_>> for Frame {
    /// With bytes of its own, which hold no more than themselves.
    fn from(frame: LentFrame<'_>) -> Self {
        match frame {
            LentFrame::Text(bytes) => Self::Text(Bytes::copy_from_slice(bytes)),
            LentFrame::Binary(bytes) => Self::Binary(Bytes::copy_from_slice(bytes)),
            LentFrame::Datagram(bytes) => Self::Datagram(Bytes::copy_from_slice(bytes)),
        }
    }
}

/// How many bytes stand in front of each frame.
pub const HEADER_BYTES: usize = 4;

/// The frame announces more bytes than it may have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {announced} bytes, more than {bytes_max}")]
pub struct TooLarge {
    /// What the header says.
    pub announced: usize,
    /// What it may say.
    pub bytes_max: usize,
}

/// Takes the next whole frame out of `buffer`, or leaves it as it is until more has been read. Nothing is allocated by what a header
/// claims, and a claim over `bytes_max` is refused before its bytes are waited for.
pub fn decode(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, TooLarge> {
    let Some(frame) = split_off(&mut &**buffer, bytes_max)?.map(<[u8]>::len) else { return Ok(None) };
    buffer.advance(HEADER_BYTES);
    Ok(Some(buffer.split_to(frame).freeze()))
}

/// The same of what is not to be kept.
pub fn split_off<'a>(input: &mut &'a [u8], bytes_max: usize) -> Result<Option<&'a [u8]>, TooLarge> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*header) as usize;
    if announced > bytes_max {
        return Err(TooLarge { announced, bytes_max });
    }
    let Some((frame, rest)) = rest.split_at_checked(announced) else { return Ok(None) };
    *input = rest;
    Ok(Some(frame))
}

/// Puts `frame` behind what is in `buffer`.
pub fn encode(frame: &[u8], buffer: &mut BytesMut) {
    buffer.put_u32(u32::try_from(frame.len()).expect("a frame is far smaller than 4 GiB"));
    buffer.put_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_wherever_the_stream_was_cut() {
        let mut wire = BytesMut::new();
        for frame in [&b"one"[..], b"", b"three"] {
            encode(frame, &mut wire);
        }
        for cut in 0..=wire.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = decode(&mut buffer, 5).expect("no frame is over the bound") {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"], "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_at_the_bound_passes_and_one_past_it_is_refused_by_its_header_alone() {
        let mut at = BytesMut::from(&[0, 0, 0, 5, 1, 2, 3, 4, 5][..]);
        assert_eq!(decode(&mut at, 5).unwrap().unwrap().len(), 5);
        let mut past = BytesMut::from(&[0, 0, 0, 6][..]);
        assert_eq!(decode(&mut past, 5), Err(TooLarge { announced: 6, bytes_max: 5 }));
    }
}
