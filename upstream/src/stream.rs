//! The bytes of a connection, encrypted or not.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, split};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The bytes of a connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// In memory.
    #[cfg(feature = "fuzzing")]
    Memory(tokio::io::DuplexStream),
}

impl Stream {
    /// Returns whether the other side has neither sent anything nor ended the connection, as far as is known: to the kernel
    /// itself, or else to tokio, which costs no system call and is as old as its last look at all sockets.
    pub(super) fn is_quiet(&mut self, asks_kernel: bool) -> bool {
        if let Self::Tls(stream) = self {
            // What TLS says for itself, such as a ticket for the next connection, is no answer.
            let (mut byte, mut context) = ([0], Context::from_waker(Waker::noop()));
            if Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_ready() {
                return false;
            }
        }
        let socket = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            #[cfg(feature = "fuzzing")]
            Self::Memory(_) => return false,
        };
        let peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
        let peeked = if asks_kernel { peek() } else { socket.try_io(Interest::READABLE, peek) };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Returns the two ways, each of which ends by itself.
    pub(super) fn split(self) -> (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Tls(stream) => {
                let (reader, writer) = split(stream);
                (Box::new(reader), Box::new(writer))
            }
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => {
                let (reader, writer) = split(stream);
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            #[cfg(feature = "fuzzing")]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
