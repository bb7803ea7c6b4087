//! The half of a WebSocket connection that reads: bytes into whole messages, and a watch on silence.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::{coop::unconstrained, yield_now},
    time::Sleep,
};
use tracing::debug;

use super::{
    super::{BATCH_FRAMES, Stopped, converse},
    Pings,
    frame::{Decoder, Fault, Item, LEFT_BYTES_MAX},
};
use crate::{
    config::{Limits, Timeouts},
    protocol::{CloseCode, LeaveReason, framing::Frame},
    session::{
        connection::Ending,
        heartbeat::{Beat, Heartbeat},
        outbox::Outbox,
    },
};

/// Bytes that are read at once, at the most.
const READ_BYTES: usize = 64 * 1024;
/// RFC 6455 §7.4.1: an endpoint breaks the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// RFC 6455 §7.4.1: text that is not UTF-8.
const INVALID_DATA: u16 = 1007;

thread_local! {
    /// What a read fills, before it is known how much that is.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// The half of a connection that reads.
pub struct Reader<'a, Io> {
    io: &'a RefCell<Io>,
    arriving: &'a mut Arriving,
    outbox: &'a Outbox,
    /// Bytes that may wait for the client before its next message is read.
    answers_max: usize,
    heartbeat: Heartbeat,
    pings: Pings,
    /// Goes off when the heartbeat wanted to be asked the last time that it was. Set once for many messages.
    alarm: Pin<Box<Sleep>>,
    is_alarm_set: bool,
    /// Did the last read fill all that it may? Then others of the thread have their turn before the next.
    is_flooded: bool,
}

/// How far a socket was read. It belongs to the connection: another reader goes on with it.
pub struct Arriving {
    decoder: Decoder,
    /// What was read and the decoder has not taken: the beginning of a frame, or more than is heard at once, and then nothing more is read. Nothing once
    /// there is a stop.
    rest: BytesMut,
    /// Why reading ends, found behind frames that have to be heard first.
    stop: Option<Stop>,
}

/// Why reading ends.
pub enum Stop {
    /// The client sent a close frame, with this code if with any.
    Closed(Option<u16>),
    /// RFC 6455 was broken, with the close code that it names.
    Violation(u16),
    /// A bound was broken. Whoever attends to the connection closes it, as its client understands it.
    Fault(CloseCode),
    /// The socket is gone.
    Gone,
}

impl Stopped for Stop {
    fn ending(&self) -> Ending {
        match self {
            Self::Closed(_) => Ending::Left,
            Self::Violation(_) => Ending::Violation,
            Self::Fault(code) => Ending::Fault(*code),
            Self::Gone => Ending::Lost(LeaveReason::Disconnected),
        }
    }
}

impl From<CloseCode> for Stop {
    fn from(code: CloseCode) -> Self {
        Self::Fault(code)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        debug!(%fault, "a client is not served any longer");
        match fault {
            Fault::Protocol(_) => Self::Violation(PROTOCOL_ERROR),
            Fault::NotUtf8 => Self::Violation(INVALID_DATA),
            Fault::TooLarge(_) => Self::Fault(CloseCode::TooLarge),
        }
    }
}

impl Arriving {
    /// Of a socket of which so much was read already.
    pub fn new(leftover: BytesMut, limits: &Limits) -> Self {
        // With nothing in it, it may still be as large as what was read before.
        let rest = if leftover.is_empty() { BytesMut::new() } else { leftover };
        Self { decoder: Decoder::new(limits.message_bytes_max), rest, stop: None }
    }

    /// Decodes what was read, and keeps what is left of it.
    fn decode(&mut self, mut input: &mut [u8], frames: &mut VecDeque<Frame>, outbox: &Outbox) {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(input);
            return self.decode_rest(frames, outbox);
        }
        match take_frames(&mut self.decoder, &mut input, frames, outbox) {
            Ok(()) => self.rest.extend_from_slice(input),
            Err(stop) => self.stop = Some(stop),
        }
    }

    /// Decodes what was left.
    fn decode_rest(&mut self, frames: &mut VecDeque<Frame>, outbox: &Outbox) {
        if self.rest.is_empty() {
            return;
        }
        let mut input = &mut *self.rest;
        match take_frames(&mut self.decoder, &mut input, frames, outbox) {
            // The beginning of a frame does not keep the room of all that came before it.
            Ok(()) if input.len() <= LEFT_BYTES_MAX => self.rest = BytesMut::from(&*input),
            Ok(()) => {
                let left = input.len();
                self.rest.advance(self.rest.len() - left);
            }
            Err(stop) => (self.stop, self.rest) = (Some(stop), BytesMut::new()),
        }
    }
}

/// Takes whole messages off the front of `input`, no more than are heard at once. Control frames are dealt with on the way.
fn take_frames(decoder: &mut Decoder, input: &mut &mut [u8], frames: &mut VecDeque<Frame>, outbox: &Outbox) -> Result<(), Stop> {
    while frames.len() < BATCH_FRAMES {
        match decoder.decode(input)? {
            Some(Item::Message(frame)) => frames.push_back(frame),
            Some(Item::Ping(data)) => outbox.pong(data),
            Some(Item::Pong) => {}
            Some(Item::Close(code)) => return Err(Stop::Closed(code)),
            None => break,
        }
    }
    Ok(())
}

impl<'a, Io: AsyncRead + Unpin> Reader<'a, Io> {
    /// Goes on where the socket was read to.
    pub fn new(
        io: &'a RefCell<Io>,
        arriving: &'a mut Arriving,
        outbox: &'a Outbox,
        pings: Pings,
        limits: &Limits,
        timeouts: &Timeouts,
    ) -> Self {
        let now = Instant::now();
        Self {
            io,
            arriving,
            outbox,
            answers_max: limits.outbox_bytes_max / 2,
            heartbeat: Heartbeat::new(timeouts.heartbeat(), timeouts.silence(), now),
            pings,
            alarm: Box::pin(tokio::time::sleep_until(now.into())),
            is_alarm_set: false,
            is_flooded: false,
        }
    }

    /// When the client was last heard.
    pub(super) fn heard_at(&self) -> Instant {
        self.heartbeat.heard_at()
    }

    /// Hands over these frames, and then all that come until the client ends or has to be ended. `hear` leaves none.
    pub async fn converse(&mut self, frames: &mut VecDeque<Frame>, hear: impl AsyncFn(&mut VecDeque<Frame>)) -> Stop {
        converse(frames, self.outbox, self.answers_max, hear, async |frames| self.frames(frames).await).await
    }

    /// Adds the next whole messages to `frames`, one or more; what came before an end is heard before it. Control frames are dealt with on
    /// the way.
    pub async fn frames(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        loop {
            if std::mem::take(&mut self.is_flooded) {
                yield_now().await;
            }
            self.arriving.decode_rest(frames, self.outbox);
            if !frames.is_empty() {
                return Ok(());
            }
            if let Some(stop) = self.arriving.stop.take() {
                return Err(stop);
            }
            poll_fn(|cx| self.poll_read(cx, frames)).await?;
        }
    }

    /// Reads what the socket has, probing a client that is silent.
    fn poll_read(&mut self, cx: &mut Context<'_>, frames: &mut VecDeque<Frame>) -> Poll<Result<(), Stop>> {
        match poll_arrived(self.io, cx, |arrived| self.arriving.decode(arrived, frames, self.outbox)) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Stop::Gone)),
            Poll::Ready(Ok(bytes)) => {
                self.is_flooded = bytes == READ_BYTES;
                self.heartbeat.heard(Instant::now());
                self.outbox.heard();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                debug!(%error, "a socket failed");
                Poll::Ready(Err(Stop::Gone))
            }
            Poll::Pending => self.poll_silence(cx).map(Err),
        }
    }

    /// Waits until the client has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        if self.pings == Pings::Packets {
            return Poll::Pending;
        }
        loop {
            if self.is_alarm_set {
                if !self.alarm.is_elapsed() {
                    return Poll::Pending;
                }
                self.is_alarm_set = false;
            }
            let until = match self.heartbeat.beat(Instant::now()) {
                Beat::Wait(until) => until,
                Beat::Probe(until) => {
                    self.outbox.ping();
                    until
                }
                Beat::Dead => return Poll::Ready(Stop::Fault(CloseCode::Timeout)),
            };
            self.alarm.as_mut().reset(until.into());
            // Polled once, it wakes this task when it goes off; a task that has done much would be put off without being noted.
            self.is_alarm_set = pin!(unconstrained(self.alarm.as_mut())).poll(cx).is_pending();
        }
    }

    /// Reads to the end of the socket without looking: one that is closed with bytes unread is reset, and what was written with it.
    pub(super) async fn discard(&mut self) {
        while let Ok(1..) = poll_fn(|cx| poll_arrived(self.io, cx, |_| ())).await {}
    }
}

/// Reads what there is and shows it; how many bytes it was.
fn poll_arrived<Io>(io: &RefCell<Io>, cx: &mut Context<'_>, show: impl FnOnce(&mut [u8])) -> Poll<io::Result<usize>>
where
    Io: AsyncRead + Unpin,
{
    ARRIVED.with_borrow_mut(|arrived| {
        let mut arrived = ReadBuf::new(arrived);
        ready!(Pin::new(&mut *io.borrow_mut()).poll_read(cx, &mut arrived))?;
        show(arrived.filled_mut());
        Poll::Ready(Ok(arrived.filled().len()))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        config::Config,
        metrics::{ConnectionMeter, DialectName, Door},
    };

    fn arriving(leftover: &[u8]) -> Arriving {
        Arriving::new(leftover.into(), &Config::default().limits)
    }

    /// A frame as clients send them, masked with zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let header = match payload.len() {
            short @ 0..126 => vec![first, 0x80 | short as u8],
            long => [&[first, 0xfe], &(long as u16).to_be_bytes()[..]].concat(),
        };
        [&header, &[0; 4][..], payload].concat()
    }

    /// A connection at rest kept the buffer into which its handshake was read.
    #[test]
    fn what_was_read_with_nothing_left_in_it_takes_no_memory() {
        let limits = Config::default().limits;
        assert_eq!(Arriving::new(BytesMut::with_capacity(8 * 1024), &limits).rest.capacity(), 0);
        assert_eq!(&*Arriving::new(b"\x81"[..].into(), &limits).rest, b"\x81");
    }

    /// More messages than are heard at once, control frames between them, one in pieces, and the end behind all of them: wherever a read ends, and
    /// whatever was read with the handshake.
    #[test]
    fn what_is_read_is_heard_once_and_in_order_and_the_stop_behind_it() {
        let outbox = Outbox::new(ConnectionMeter::new(Arc::default(), Door::WebSocket, DialectName::Native));
        let texts: Vec<String> = (0..2 * BATCH_FRAMES + 9).map(|n| "x".repeat(n % 7 * 40) + &n.to_string()).collect();
        let in_pieces =
            |text: &str| [frame(0x01, &text.as_bytes()[..1]), frame(0x89, b"here?"), frame(0x80, &text.as_bytes()[1..])].concat();
        let frames = texts.iter().enumerate().map(|(n, text)| if n % 10 == 9 { in_pieces(text) } else { frame(0x81, text.as_bytes()) });
        let stream = [frames.collect::<Vec<_>>().concat(), frame(0x88, b"\x03\xe8"), b"what nobody reads".repeat(100)].concat();
        let expected: Vec<_> = texts.iter().map(|text| Frame::Text(Bytes::copy_from_slice(text.as_bytes()))).collect();
        for cut in (0..=stream.len()).step_by(37) {
            for begins in [0, cut / 2, cut] {
                let mut arriving = arriving(&stream[..begins]);
                let (mut heard, mut frames) = (vec![], VecDeque::new());
                let mut reads = [&stream[begins..cut], &stream[cut..]].map(<[u8]>::to_vec).into_iter();
                while arriving.stop.is_none() {
                    arriving.decode_rest(&mut frames, &outbox);
                    if frames.is_empty() && arriving.stop.is_none() {
                        assert!(arriving.rest.len() <= LEFT_BYTES_MAX && arriving.rest.capacity() <= LEFT_BYTES_MAX, "cut at {cut}");
                        let mut read = reads.next().expect("the end comes before");
                        arriving.decode(&mut read, &mut frames, &outbox);
                    }
                    assert!(frames.len() <= BATCH_FRAMES);
                    heard.extend(frames.drain(..));
                }
                assert!(heard == expected && matches!(arriving.stop, Some(Stop::Closed(Some(1000)))), "cut at {cut}");
                assert_eq!(arriving.rest.capacity(), 0);
            }
        }
    }
}
