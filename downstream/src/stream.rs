//! A client's connection with or without TLS as one type, with notes on what passes through its socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::progress::{Progress, yield_turn};

/// Bytes of a connection's beginning that are looked at before HTTP begins: the preface of HTTP/2.
pub(crate) const BEGINNING: usize = 24;

/// A socket that notes what is read and written, and gives no more than a connection's share at a time.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    socket: T,
    progress: Rc<Progress>,
    /// The beginning, which was read already and is read again.
    ahead: [u8; BEGINNING],
    ahead_read: u8,
    ahead_length: u8,
}

/// A connection on which HTTP can begin.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    transport: Transport<T>,
}

#[derive(Debug)]
enum Transport<T> {
    Plain(Metered<T>),
    Tls(Box<TlsStream<Metered<T>>>),
}

impl<T> Metered<T> {
    pub(crate) fn new(socket: T, progress: Rc<Progress>) -> Self {
        Self { socket, progress, ahead: [0; BEGINNING], ahead_read: 0, ahead_length: 0 }
    }

    /// Returns what was read of the beginning.
    pub(crate) fn beginning(&self) -> &[u8] {
        &self.ahead[usize::from(self.ahead_read)..usize::from(self.ahead_length)]
    }
}

impl<T: AsyncRead + Unpin> Metered<T> {
    /// Reads more of the beginning; returns whether there is any. The bytes are there to be read again.
    pub(crate) async fn look(&mut self) -> io::Result<bool> {
        let length = usize::from(self.ahead_length);
        let mut buffer = ReadBuf::new(&mut self.ahead[length..]);
        std::future::poll_fn(|context| {
            self.progress.begin_turn();
            Pin::new(&mut self.socket).poll_read(context, &mut buffer)
        })
        .await?;
        let read = buffer.filled().len();
        self.ahead_length += u8::try_from(read).expect("the beginning is shorter than 256 bytes");
        self.progress.note_read(read)?;
        Ok(read > 0)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ahead = this.beginning();
        if !ahead.is_empty() {
            let length = ahead.len().min(buffer.remaining());
            buffer.put_slice(&ahead[..length]);
            this.ahead_read += u8::try_from(length).expect("the beginning is shorter than 256 bytes");
            return Poll::Ready(Ok(()));
        }
        if !this.progress.may_read() {
            yield_turn(context);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        Poll::Ready(this.progress.note_read(buffer.filled().len() - before))
    }
}

impl<T> Metered<T> {
    fn noted<R>(&self, written: Poll<R>) -> Poll<R> {
        self.progress.note_write(written.is_pending());
        written
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<T> Stream<T> {
    /// Takes a connection without TLS.
    pub(crate) fn plain(socket: Metered<T>) -> Self {
        Self { transport: Transport::Plain(socket) }
    }

    /// Takes a connection with TLS.
    pub(crate) fn tls(stream: TlsStream<Metered<T>>) -> Self {
        Self { transport: Transport::Tls(Box::new(stream)) }
    }

    /// Returns what the connection notes.
    pub(crate) fn progress(&self) -> &Rc<Progress> {
        match &self.transport {
            Transport::Plain(socket) => &socket.progress,
            Transport::Tls(stream) => &stream.get_ref().0.progress,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
