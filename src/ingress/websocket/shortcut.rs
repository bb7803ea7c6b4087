//! Writing to a client past the task of its door.
//!
//! To wake a task costs about as much as to write a message, and a thread that sleeps even more. So what comes for a client that has read all before it
//! is written by who has it, or by the [`postman`](crate::session::postman). The outbox sees to it that this never overtakes the door.

use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::server::TlsStream;

use super::write::spell_frame;
use crate::{protocol::framing::LentFrame, session::outbox::Shortcut};

/// A socket as HTTP hands it over.
pub trait Handover: AsyncRead + AsyncWrite + Unpin + 'static {
    /// What the door serves.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The socket for the door, and how others write past it, if they can.
    fn hand_over(self) -> (Self::Io, Option<Arc<dyn Shortcut>>);
}

impl Handover for TcpStream {
    type Io = Tcp;

    fn hand_over(self) -> (Tcp, Option<Arc<dyn Shortcut>>) {
        let (read, write) = self.into_split();
        let write = Arc::new(TcpWriting(write));
        (Tcp { read, write: write.clone() }, Some(write))
    }
}

impl Handover for TlsStream<TcpStream> {
    type Io = Self;

    /// The keys are the door's own.
    fn hand_over(self) -> (Self, Option<Arc<dyn Shortcut>>) {
        (self, None)
    }
}

/// A TCP connection to whose end others can write as well.
pub struct Tcp {
    read: OwnedReadHalf,
    write: Arc<TcpWriting>,
}

/// Where all write, and no two at the same time: others do so under the outbox's lock, while it knows the door to wait for something to write.
struct TcpWriting(OwnedWriteHalf);

impl TcpWriting {
    fn stream(&self) -> &TcpStream {
        self.0.as_ref()
    }
}

impl Shortcut for TcpWriting {
    fn spell(&self, frame: LentFrame<'_>, out: &mut BytesMut) {
        spell_frame(frame, out);
    }

    fn write(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes).unwrap_or(0)
    }

    fn is_for_all(&self) -> bool {
        true
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    /// The half of the socket has its own, but wants to be borrowed by one alone for it.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.write.stream();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    /// There is no buffer.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(self.write.stream()).shutdown(Shutdown::Write) {
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        })
    }
}
