//! A client's connection after it has changed to another protocol.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// The bytes of a connection that is no longer HTTP. It counts as a request in flight until it is dropped, and a write
/// that makes no progress for as long as an answer's may take fails.
pub struct Upgraded {
    /// What was read of it together with the request.
    ahead: Bytes,
    stream: Box<dyn Duplex>,
    /// The longest time in which nothing can be sent.
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Tells the server that it has ended.
    _ended: oneshot::Sender<()>,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Upgraded {
    pub(crate) fn new(
        ahead: Bytes,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        stall: Duration,
        ended: oneshot::Sender<()>,
    ) -> Self {
        Self { ahead, stream: Box::new(stream), stall, timer: None, _ended: ended }
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upgraded").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let length = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(written) = Pin::new(&mut this.stream).poll_write(context, bytes) {
            this.timer = None;
            return Poll::Ready(written);
        }
        // A client that does not read would hold its place for ever.
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.stall)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
