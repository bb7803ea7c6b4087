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
    task::coop::unconstrained,
    time::Sleep,
};
use tracing::debug;

use super::{
    super::{
        Stopped,
        allowance::{Allowance, FRAME_BYTES},
        converse, keep,
    },
    Pings,
    frame::{Decoder, Fault, Item, LEFT_BYTES_MAX},
};
use crate::{
    config::{Limits, Timeouts},
    protocol::{
        CloseCode, LeaveReason,
        framing::{CowFrame, Frame},
    },
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
    /// What a read fills, before it is known how much that is. Whoever hears what is in it reads nothing meanwhile.
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
    allowance: Allowance,
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

    /// Decodes what was read, as much of it as may be, has it heard, and keeps what is left of it. What `hear` says.
    fn decode(
        &mut self,
        mut input: &mut [u8],
        allowance: &mut Allowance,
        outbox: &Outbox,
        hear: impl FnOnce(&mut Messages<'_, '_>) -> bool,
    ) -> bool {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(input);
            return self.decode_rest(allowance, outbox, hear);
        }
        let (goes_on, stop) = Messages::of(&mut self.decoder, &mut input, allowance, outbox).heard(hear);
        match stop {
            None => self.rest.extend_from_slice(input),
            stop => self.stop = stop,
        }
        goes_on
    }

    /// The same with what was left. True if that is nothing.
    fn decode_rest(&mut self, allowance: &mut Allowance, outbox: &Outbox, hear: impl FnOnce(&mut Messages<'_, '_>) -> bool) -> bool {
        if self.rest.is_empty() {
            return true;
        }
        let mut input = &mut *self.rest;
        let (goes_on, stop) = Messages::of(&mut self.decoder, &mut input, allowance, outbox).heard(hear);
        match stop {
            // The beginning of a frame does not keep the room of all that came before it.
            None if input.len() <= LEFT_BYTES_MAX => self.rest = BytesMut::from(&*input),
            None => {
                let left = input.len();
                self.rest.advance(self.rest.len() - left);
            }
            stop => (self.stop, self.rest) = (stop, BytesMut::new()),
        }
        goes_on
    }
}

/// The whole messages of what was read, no more than are heard at once, and whether each came alone. Frames that are none are dealt with on the way, and
/// count as much.
pub struct Messages<'r, 'a> {
    decoder: &'r mut Decoder,
    input: &'r mut &'a mut [u8],
    allowance: &'r mut Allowance,
    outbox: &'r Outbox,
    is_first: bool,
    stop: Option<Stop>,
}

impl<'r, 'a> Messages<'r, 'a> {
    /// Those at the front of `input`, off which they are taken.
    fn of(decoder: &'r mut Decoder, input: &'r mut &'a mut [u8], allowance: &'r mut Allowance, outbox: &'r Outbox) -> Self {
        Self { decoder, input, allowance, outbox, is_first: true, stop: None }
    }

    /// Has all of them heard; what `hear` says, and why there are no more, if that is the end.
    fn heard(mut self, hear: impl FnOnce(&mut Self) -> bool) -> (bool, Option<Stop>) {
        let goes_on = hear(&mut self);
        debug_assert!(self.allowance.is_spent() || self.next().is_none(), "what is not heard would be heard later than what is behind it");
        (goes_on, self.stop)
    }

    fn take(&mut self) -> Result<Option<CowFrame<'a>>, Stop> {
        while !self.allowance.is_spent()
            && let Some(item) = self.decoder.decode(self.input)?
        {
            self.allowance.spend(1);
            match item {
                Item::Message(message) => return Ok(Some(message)),
                Item::Ping(data) => self.outbox.pong(data),
                Item::Pong | Item::Fragment => {}
                Item::Close(code) => return Err(Stop::Closed(code)),
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Messages<'_, 'a> {
    type Item = (CowFrame<'a>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.is_some() {
            return None;
        }
        match self.take() {
            Ok(message) => Some((message?, std::mem::take(&mut self.is_first) && self.input.is_empty())),
            Err(stop) => {
                self.stop = Some(stop);
                None
            }
        }
    }
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
            allowance: Allowance::whole(),
        }
    }

    /// When the client was last heard.
    pub(super) fn heard_at(&self) -> Instant {
        self.heartbeat.heard_at()
    }

    /// Hands over these frames, and then all that come until the client ends or has to be ended. `hear` leaves none. What comes is heard `at_once` where
    /// it was read, and what has to wait is put into the list for `hear`. False from `at_once` means that `hear` has something to wait for without any.
    pub async fn converse(
        &mut self,
        frames: &mut VecDeque<Frame>,
        hear: impl AsyncFn(&mut VecDeque<Frame>),
        at_once: impl Fn(&mut Messages<'_, '_>, &mut VecDeque<Frame>) -> bool,
    ) -> Stop {
        let (outbox, answers_max) = (self.outbox, self.answers_max);
        let at_once = |messages: &mut Messages<'_, '_>, frames: &mut _| at_once(messages, frames) && !outbox.has_more_than(answers_max);
        converse(frames, outbox, answers_max, hear, async |frames| self.hear(frames, &at_once).await).await
    }

    /// Adds the next whole messages to `frames`, one or more; what came before an end is heard before it. Control frames are dealt with on
    /// the way.
    pub async fn frames(&mut self, frames: &mut VecDeque<Frame>) -> Result<(), Stop> {
        self.hear(frames, |messages, frames| keep(messages, frames)).await
    }

    /// Reads until there is something to wait for before the next message: a list of such as could not be heard at once, or what is told by `at_once`.
    async fn hear(
        &mut self,
        frames: &mut VecDeque<Frame>,
        at_once: impl Fn(&mut Messages<'_, '_>, &mut VecDeque<Frame>) -> bool,
    ) -> Result<(), Stop> {
        loop {
            self.allowance.turn().await;
            let mut goes_on = self.arriving.decode_rest(&mut self.allowance, self.outbox, |messages| at_once(messages, frames));
            // With the allowance used up, there may be more of what was read.
            if goes_on && !self.allowance.is_spent() && self.arriving.stop.is_none() && frames.is_empty() {
                goes_on = poll_fn(|cx| self.poll_read(cx, |messages| at_once(messages, frames))).await?;
            }
            if !frames.is_empty() || !goes_on {
                return Ok(());
            }
            if let Some(stop) = self.arriving.stop.take() {
                return Err(stop);
            }
        }
    }

    /// Reads what the socket has, probing a client that is silent.
    fn poll_read(&mut self, cx: &mut Context<'_>, hear: impl FnOnce(&mut Messages<'_, '_>) -> bool) -> Poll<Result<bool, Stop>> {
        let decode = |arrived: &mut [u8]| (arrived.len(), self.arriving.decode(arrived, &mut self.allowance, self.outbox, hear));
        match poll_arrived(self.io, cx, decode) {
            Poll::Ready(Ok((0, _))) => Poll::Ready(Err(Stop::Gone)),
            Poll::Ready(Ok((bytes, goes_on))) => {
                self.heartbeat.heard(Instant::now());
                self.outbox.heard();
                // Long ones take their time as well.
                self.allowance.spend(bytes / FRAME_BYTES);
                Poll::Ready(Ok(goes_on))
            }
            Poll::Ready(Err(error)) => {
                debug!(%error, "a socket failed");
                Poll::Ready(Err(Stop::Gone))
            }
            Poll::Pending => {
                self.allowance.renew();
                self.poll_silence(cx).map(Err)
            }
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
        while let Ok(1..) = poll_fn(|cx| poll_arrived(self.io, cx, |arrived| arrived.len())).await {}
    }
}

/// Reads what there is and shows it: nothing, at the end.
fn poll_arrived<Io, T>(io: &RefCell<Io>, cx: &mut Context<'_>, show: impl FnOnce(&mut [u8]) -> T) -> Poll<io::Result<T>>
where
    Io: AsyncRead + Unpin,
{
    ARRIVED.with_borrow_mut(|arrived| {
        let mut arrived = ReadBuf::new(arrived);
        ready!(Pin::new(&mut *io.borrow_mut()).poll_read(cx, &mut arrived))?;
        Poll::Ready(Ok(show(arrived.filled_mut())))
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        config::Config,
        ingress::allowance::BATCH_FRAMES,
        metrics::{ConnectionMeter, DialectName, Door},
        session::backlog::Backlog,
    };

    /// A socket on which nothing comes.
    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn outbox() -> Arc<Outbox> {
        Outbox::new(ConnectionMeter::new(Arc::default(), Door::WebSocket, DialectName::Native))
    }

    /// It was asked for more again and again, with half a header there and more unread than one may send behind, and nobody else had a turn.
    #[tokio::test]
    async fn a_connection_that_ends_with_much_unread_waits_for_its_client() {
        let mut config = Config::default();
        config.limits.outbox_bytes_max = 2_000;
        let (outbox, io, mut arriving) = (outbox(), RefCell::new(Silent), arriving(b"\x81"));
        outbox.open(Backlog::new(2_000, Arc::default()), []);
        assert!(outbox.push(Frame::Text(vec![b'x'; 1_500].into()), None, None));
        outbox.close(CloseCode::Draining, None);
        let mut reader = Reader::new(&io, &mut arriving, &outbox, Pings::Packets, &config.limits, &config.timeouts);
        let rounds = Cell::new(0);
        let hear = async |_: &mut VecDeque<Frame>| {
            rounds.set(rounds.get() + 1);
            assert!(rounds.get() < 9, "it does not wait");
        };
        let mut frames = VecDeque::new();
        let conversing = reader.converse(&mut frames, hear, |messages, frames| keep(messages, frames));
        assert!(conversing.now_or_never().is_none());
    }

    #[tokio::test]
    async fn others_have_their_turn_behind_as_much_as_is_heard_at_once() {
        let config = Config::default();
        let (outbox, io, mut arriving) = (outbox(), RefCell::new(Silent), arriving(&frame(0x81, b"x").repeat(2 * BATCH_FRAMES)));
        let mut reader = Reader::new(&io, &mut arriving, &outbox, Pings::Packets, &config.limits, &config.timeouts);
        // One is heard where it was read, and those behind it wait for what came of it.
        let at_once = |messages: &mut Messages<'_, '_>, frames: &mut VecDeque<Frame>| messages.next().is_some() && keep(messages, frames);
        let mut frames = VecDeque::new();
        assert!(matches!(reader.hear(&mut frames, at_once).now_or_never(), Some(Ok(()))));
        assert_eq!(frames.len(), BATCH_FRAMES - 1);
        frames.clear();
        assert!(reader.hear(&mut frames, at_once).now_or_never().is_none(), "it goes on without a pause");
    }

    /// A socket on which the same comes as often as it is read.
    struct Endless<'a> {
        bytes: &'a [u8],
        reads: usize,
    }

    impl AsyncRead for Endless<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.reads += 1;
            assert!(self.reads <= 2 * BATCH_FRAMES, "it is read on and on");
            buffer.put_slice(self.bytes);
            Poll::Ready(Ok(()))
        }
    }

    /// What reads kept up with who sent, and each read had less than it could have had: nobody else of the thread had a turn for 128 of them. Seen with
    /// a million pings a second.
    #[tokio::test]
    async fn others_have_their_turn_however_a_flood_is_cut_into_frames_and_reads() {
        let config = Config::default();
        let many_pings = frame(0x89, b"").repeat(1_000);
        for (name, leftover, bytes, reads) in [
            ("messages that come one by one", vec![], frame(0x81, b"x"), BATCH_FRAMES),
            ("messages in fragments", vec![], [frame(0x01, b"x"), frame(0x80, b"y")].concat(), BATCH_FRAMES / 2),
            ("pings that come one by one", vec![], frame(0x89, b""), BATCH_FRAMES),
            ("pongs", vec![], frame(0x8a, b"").repeat(BATCH_FRAMES / 2), 2),
            ("fragments", frame(0x01, b""), frame(0x00, b""), BATCH_FRAMES - 1),
            ("more pings than are answered at once", many_pings, vec![], 0),
            ("a long message", b"\x82\xff\0\0\0\0\0\x01\0\0mask".to_vec(), vec![0; 8 * FRAME_BYTES], BATCH_FRAMES / 8),
        ] {
            let (outbox, io, mut arriving) = (outbox(), RefCell::new(Endless { bytes: &bytes, reads: 0 }), arriving(&leftover));
            let mut reader = Reader::new(&io, &mut arriving, &outbox, Pings::Packets, &config.limits, &config.timeouts);
            let hearing = |messages: &mut Messages<'_, '_>, _: &mut VecDeque<Frame>| {
                messages.by_ref().for_each(drop);
                true
            };
            let mut frames = VecDeque::new();
            assert!(reader.hear(&mut frames, hearing).now_or_never().is_none(), "{name}");
            assert_eq!(io.borrow().reads, reads, "{name}");
        }
    }

    /// A socket on which the same comes after each pause.
    struct Pausing<'a> {
        bytes: &'a [u8],
        is_pausing: bool,
    }

    impl AsyncRead for Pausing<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.is_pausing = !self.is_pausing;
            if self.is_pausing {
                return Poll::Pending;
            }
            buffer.put_slice(self.bytes);
            Poll::Ready(Ok(()))
        }
    }

    /// Eight that came together were heard in two parts wherever the count of all that had come before ended between them.
    #[tokio::test]
    async fn who_waited_is_heard_like_a_newcomer() {
        let config = Config::default();
        let bytes = frame(0x81, b"x").repeat(BATCH_FRAMES - 1);
        let (outbox, io, mut arriving) = (outbox(), RefCell::new(Pausing { bytes: &bytes, is_pausing: true }), arriving(&[]));
        let mut reader = Reader::new(&io, &mut arriving, &outbox, Pings::Packets, &config.limits, &config.timeouts);
        let heard = Cell::new(0);
        let hearing = |messages: &mut Messages<'_, '_>, _: &mut VecDeque<Frame>| {
            heard.update(|heard| heard + messages.by_ref().count());
            true
        };
        let mut frames = VecDeque::new();
        let mut reading = pin!(reader.hear(&mut frames, hearing));
        for round in 1..5 {
            assert!(reading.as_mut().now_or_never().is_none());
            assert_eq!(heard.get(), round * (BATCH_FRAMES - 1));
        }
    }

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
        let outbox = outbox();
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
                    arriving.decode_rest(&mut Allowance::whole(), &outbox, |messages| keep(messages, &mut frames));
                    if frames.is_empty() && arriving.stop.is_none() {
                        assert!(arriving.rest.len() <= LEFT_BYTES_MAX && arriving.rest.capacity() <= LEFT_BYTES_MAX, "cut at {cut}");
                        let mut read = reads.next().expect("the end comes before");
                        arriving.decode(&mut read, &mut Allowance::whole(), &outbox, |messages| keep(messages, &mut frames));
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
