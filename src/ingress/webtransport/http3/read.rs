//! Numbers, frames and capsules off a stream: RFC 9000 §16, RFC 9114 §7, RFC 9297 §3.

use quinn::{ReadError, ReadExactError, RecvStream};
use tokio::task::coop::consume_budget;
use wtransport::proto::{bytes::BytesReader as _, error::ErrorCode, varint::VarInt};

/// Types of frames: RFC 9114 §7.2.
pub const DATA: u64 = 0x00;
pub const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
pub const SETTINGS: u64 = 0x04;
const PUSH_PROMISE: u64 = 0x05;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;
/// Bytes of a request or of settings, at the most. Browsers send some hundreds.
const PAYLOAD_BYTES_MAX: u64 = 4096;

/// What a stream with frames is for.
#[derive(Clone, Copy, Debug)]
pub enum StreamKind {
    /// The client's control stream, behind its settings.
    Control,
    /// A request.
    Request,
}

impl StreamKind {
    /// May a client's frame of this type come here?
    pub fn allows(self, kind: u64) -> Result<(), ErrorCode> {
        let is_out_of_place = match (kind, self) {
            // Those of HTTP/2, and a server's own: RFC 9114 §7.2.5 and §7.2.8.
            (0x02 | 0x06 | 0x08 | 0x09 | PUSH_PROMISE | SETTINGS, _) => true,
            (DATA | HEADERS, stream) => matches!(stream, Self::Control),
            (CANCEL_PUSH | GOAWAY | MAX_PUSH_ID, stream) => matches!(stream, Self::Request),
            _ => false,
        };
        if is_out_of_place { Err(ErrorCode::FrameUnexpected) } else { Ok(()) }
    }
}

/// Why something is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The stream ended in front of it.
    Ended,
    /// The stream ended within it.
    Cut,
    /// The client took the stream back.
    Reset,
    /// The connection is gone.
    Gone,
    /// It is not what may come there.
    Broken(ErrorCode),
}

impl Unread {
    /// What it is where something was begun.
    fn within(self) -> Self {
        if self == Self::Ended { Self::Cut } else { self }
    }
}

/// Where bytes come from.
pub trait Source {
    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Unread>;

    /// A number: RFC 9000 §16.
    async fn number(&mut self) -> Result<u64, Unread> {
        let mut bytes = [0; VarInt::MAX_SIZE];
        self.fill(&mut bytes[..1]).await?;
        let size = VarInt::parse_size(bytes[0]);
        self.fill(&mut bytes[1..size]).await.map_err(Unread::within)?;
        Ok((&bytes[..size]).get_varint().expect("it is all there").into_inner())
    }

    /// The type of a frame or a capsule, and how long the rest of it is.
    async fn header(&mut self) -> Result<(u64, u64), Unread> {
        let kind = self.number().await?;
        Ok((kind, self.number().await.map_err(Unread::within)?))
    }

    async fn skip(&mut self, mut length: u64) -> Result<(), Unread> {
        let mut bytes = [0; 64];
        while length > 0 {
            let part = length.min(bytes.len() as u64);
            self.fill(&mut bytes[..part as usize]).await.map_err(Unread::within)?;
            length -= part;
        }
        Ok(())
    }

    /// The payload of a frame that has to be looked at as a whole.
    async fn payload(&mut self, length: u64) -> Result<Vec<u8>, Unread> {
        if length > PAYLOAD_BYTES_MAX {
            return Err(Unread::Broken(ErrorCode::ExcessiveLoad));
        }
        let mut payload = vec![0; length as usize];
        self.fill(&mut payload).await.map_err(Unread::within)?;
        Ok(payload)
    }
}

impl Source for RecvStream {
    async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Unread> {
        // Who reads has much to read, perhaps, and QUIC knows of no turn of others.
        consume_budget().await;
        self.read_exact(bytes).await.map_err(|error| match error {
            ReadExactError::FinishedEarly(0) => Unread::Ended,
            ReadExactError::FinishedEarly(_) => Unread::Cut,
            ReadExactError::ReadError(ReadError::Reset(_)) => Unread::Reset,
            ReadExactError::ReadError(_) => Unread::Gone,
        })
    }
}

/// What the DATA frames of a request hold, as if it were one: RFC 9297 §3.1.
pub struct Data<S> {
    stream: S,
    /// Bytes of the frame that is being read.
    left: u64,
}

impl<S> Data<S> {
    /// Those of this stream, behind the request itself.
    pub fn of(stream: S) -> Self {
        Self { stream, left: 0 }
    }
}

impl<S: Source> Source for Data<S> {
    async fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), Unread> {
        let mut has_begun = false;
        while !bytes.is_empty() {
            if self.left == 0 {
                match self.stream.header().await {
                    Ok((DATA, length)) => self.left = length,
                    Ok((kind, length)) => {
                        StreamKind::Request.allows(kind).map_err(Unread::Broken)?;
                        self.stream.skip(length).await?;
                    }
                    Err(unread) => return Err(if has_begun { unread.within() } else { unread }),
                }
                continue;
            }
            let part = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at_mut(part);
            self.stream.fill(now).await.map_err(Unread::within)?;
            (self.left, bytes, has_begun) = (self.left - part as u64, later, true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    impl Source for &[u8] {
        async fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Unread> {
            let unread = if self.is_empty() { Unread::Ended } else { Unread::Cut };
            bytes.copy_from_slice(self.split_off(..bytes.len()).ok_or(unread)?);
            Ok(())
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("all of it is there")
    }

    #[test]
    fn numbers_are_read_in_all_their_sizes_and_not_when_they_are_cut() {
        // The examples of RFC 9000, appendix A.1.
        for (bytes, number) in [
            (&b"\x25"[..], 37),
            (b"\x40\x25", 37),
            (b"\x7b\xbd", 15_293),
            (b"\x9d\x7f\x3e\x7d", 494_878_333),
            (b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c", 151_288_809_941_952_652),
        ] {
            assert_eq!(now((&*bytes).number()), Ok(number));
            assert_eq!(now((&bytes[..0]).number()), Err(Unread::Ended));
            for cut in 1..bytes.len() {
                assert_eq!(now((&bytes[..cut]).number()), Err(Unread::Cut));
            }
        }
    }

    #[test]
    fn frames_come_only_where_they_may() {
        let allowed = |stream: StreamKind| (0..0x40).filter(|kind| stream.allows(*kind).is_ok()).collect::<Vec<_>>();
        let unknown = [&[0x0a, 0x0b, 0x0c][..], &(0x0e..0x40).collect::<Vec<_>>()].concat();
        assert_eq!(allowed(StreamKind::Control), [&[0x03, 0x07][..], &unknown[..3], &[0x0d], &unknown[3..]].concat());
        assert_eq!(allowed(StreamKind::Request), [&[0x00, 0x01][..], &unknown].concat());
    }

    /// However it is cut into frames, with others between, empty ones among them.
    #[test]
    fn what_data_frames_hold_is_read_as_one_and_its_end_is_told_from_a_cut() {
        let content = b"\x17\x04\x01\x02\x03\x04\x68\x43";
        for size in 1..=content.len() {
            let frames = content.chunks(size).map(|part| [b"\x00\x00\x21\x03abc\x00", &[part.len() as u8][..], part].concat());
            let stream = frames.collect::<Vec<_>>().concat();
            for cut in 0..=stream.len() {
                let mut data = Data::of(&stream[..cut]);
                let mut read = vec![];
                let unread = loop {
                    match now(data.number()) {
                        Ok(number) => read.push(number),
                        Err(unread) => break unread,
                    }
                };
                let expected = [0x17, 4, 1, 2, 3, 4, 0x2843];
                assert!(expected.starts_with(&read), "{read:?}");
                assert_eq!(unread == Unread::Ended && read == expected, cut == stream.len(), "{size} {cut}");
            }
        }
        for broken in [&b"\x04\x00"[..], b"\x00\x01w\x08\x00", b"\x07\x00"] {
            let mut data = Data::of(broken);
            let mut two = [0; 2];
            assert_eq!(now(data.fill(&mut two)), Err(Unread::Broken(ErrorCode::FrameUnexpected)));
        }
        assert_eq!(now((&b""[..]).payload(PAYLOAD_BYTES_MAX + 1)), Err(Unread::Broken(ErrorCode::ExcessiveLoad)));
        assert_eq!(now((&[7; 4096][..]).payload(PAYLOAD_BYTES_MAX)), Ok(vec![7; 4096]));
    }
}
