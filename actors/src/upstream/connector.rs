//! Connections to engines, whose end is never taken for the end of an answer.
//!
//! awc ends a body in chunks without an error when the connection ends, whether the last chunk came or not, and a client
//! would take half an answer for a whole one. Here the end of a connection is an error. The few answers that it is meant
//! to end, those without a length in HTTP/1.0, are known by their heads to whoever reads them. Over TLS only an end
//! without a farewell is seen, which is how a process that dies leaves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Connector, ConnectorService};
use actix_web::dev::Service;
use actix_web::http::Uri;
use actix_web::rt::net::{ActixStream, Ready};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Connects to engines.
#[derive(Clone)]
pub(super) struct EngineConnector(ConnectorService);

/// A connection whose end is an error.
#[derive(Debug)]
pub(super) struct EngineStream(TcpStream);

impl EngineConnector {
    /// Makes a connector.
    pub(super) fn new() -> Self {
        Self(Connector::default().service())
    }
}

impl Service<ConnectInfo<Uri>> for EngineConnector {
    type Response = Connection<Uri, EngineStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let connecting = self.0.call(request);
        async {
            let (stream, connection) = connecting.await?.replace_io(());
            // Otherwise the last part of a large body waits for the acknowledgement of what precedes it.
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(connection.replace_io(EngineStream(stream)).1)
        }
        .boxed_local()
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        let is_end = before > 0 && buffer.remaining() == before;
        Poll::Ready(if is_end { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl ActixStream for EngineStream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.0, context)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.0, context)
    }
}
