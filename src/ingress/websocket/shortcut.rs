//! Writing to a client past the task of its door.
//!
//! To wake a task costs about as much as to write a message, and a thread that sleeps even more. So what comes for a client that has read all before it
//! is written by who has it, or by the [`postman`](crate::session::postman). The outbox sees to it that this never overtakes the door.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::server::TlsStream;

use super::{super::departing::write_past_door, Pings, write::spell};
use crate::{protocol::framing::Frame, session::outbox::Shortcut};

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
        let write = Arc::new(Mutex::new(write));
        let shortcut = TcpShortcut(write.clone());
        (Tcp { read, write }, Some(Arc::new(shortcut)))
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
    write: Arc<Mutex<OwnedWriteHalf>>,
}

struct TcpShortcut(Arc<Mutex<OwnedWriteHalf>>);

impl Shortcut for TcpShortcut {
    fn write(&self, next: &mut dyn FnMut() -> Option<Frame>) -> Bytes {
        write_past_door(next, |outgoing, out| spell(outgoing, Pings::Frames, out), |bytes| lock(&self.0).try_write(bytes).ok())
    }

    fn is_for_all(&self) -> bool {
        true
    }
}

impl Tcp {
    fn write_half(&mut self) -> MutexGuard<'_, OwnedWriteHalf> {
        lock(&self.write)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.write_half()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.write_half()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.write_half()).poll_shutdown(cx)
    }
}

fn lock(write: &Mutex<OwnedWriteHalf>) -> MutexGuard<'_, OwnedWriteHalf> {
    write.lock().unwrap_or_else(PoisonError::into_inner)
}
