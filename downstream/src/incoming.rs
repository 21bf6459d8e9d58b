//! The body of a request, of either version of HTTP.

use std::cell::Cell;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::Body;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::budget::Charge;
use crate::service::BoxError;
use crate::upgraded::Upgraded;

/// Why a request's body could not be read to its end.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The next piece did not arrive in time.
    #[error("the request body did not arrive in time")]
    Late,
    /// It is not framed as it must be.
    #[error("the request body is malformed")]
    Malformed(#[source] BoxError),
    /// The client has left, or has given the request up.
    #[error("the request body broke off")]
    Broken(#[source] BoxError),
}

/// The body of a request.
///
/// Nothing is read ahead of who asks, but for what the client was granted to send. A body that is dropped before its
/// end is read on and thrown away within bounds (HTTP/1), or refused (HTTP/2).
#[derive(Debug)]
pub struct Incoming {
    pieces: Pieces,
    announced: Option<u64>,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    ended: Option<Rc<Cell<bool>>>,
    upgrade: Option<Upgrade>,
    /// What the connection may hold of it.
    _room: Option<Charge>,
}

#[derive(Debug)]
enum Pieces {
    None,
    Http1(hyper::body::Incoming),
    Http2(h2::RecvStream),
}

/// The connection of a request that changes the protocol, once it is answered with 101 (RFC 9110, section 7.8).
#[derive(Debug)]
pub struct Upgrade(oneshot::Receiver<Upgraded>);

impl Incoming {
    /// Makes a body of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            pieces: Pieces::None,
            announced: Some(0),
            pause: Duration::MAX,
            timer: None,
            ended: None,
            upgrade: None,
            _room: None,
        }
    }

    pub(crate) fn http1(body: hyper::body::Incoming, pause: Duration, room: Option<Charge>) -> Self {
        let announced = body.size_hint().exact();
        Self { pieces: Pieces::Http1(body), announced, pause, _room: room, ..Self::empty() }
    }

    pub(crate) fn http2(body: h2::RecvStream, announced: Option<u64>, pause: Duration, room: Option<Charge>) -> Self {
        Self { pieces: Pieces::Http2(body), announced, pause, _room: room, ..Self::empty() }
    }

    /// Notes in a cell when the body was read to its end.
    pub(crate) fn noting_end(self, ended: Rc<Cell<bool>>) -> Self {
        Self { ended: Some(ended), ..self }
    }

    pub(crate) fn with_upgrade(self, upgrade: oneshot::Receiver<Upgraded>) -> Self {
        Self { upgrade: Some(Upgrade(upgrade)), ..self }
    }

    /// Returns whether there is no body: the request ended with its head. It is `false` for a body that was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.pieces, Pieces::None)
    }

    /// Returns the length in bytes that the client has announced; the server sees to it that the body has it.
    #[must_use]
    pub fn announced_length(&self) -> Option<u64> {
        self.announced
    }

    /// Takes the connection out, for a request that asks to change the protocol (`Upgrade` in HTTP/1.1); once.
    #[must_use]
    pub fn upgrade(&mut self) -> Option<Upgrade> {
        self.upgrade.take()
    }

    /// Takes the body, and leaves one of nothing.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::empty())
    }

    /// Returns the next piece, which must arrive within the body's pause after it was first asked for.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        if let Poll::Ready(piece) = self.pieces.poll(context) {
            self.timer = None;
            // Who knows the length need not ask for what follows the last piece.
            if (piece.is_none() || self.pieces.is_over())
                && let Some(ended) = &self.ended
            {
                ended.set(true);
            }
            return Poll::Ready(piece);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.pause)));
        timer.as_mut().poll(context).map(|()| Some(Err(ReadError::Late)))
    }
}

impl Pieces {
    /// Returns whether all pieces of a body of HTTP/1 whose length is known were taken.
    fn is_over(&self) -> bool {
        matches!(self, Self::Http1(body) if body.is_end_stream())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => loop {
                let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(context)) else { return Poll::Ready(None) };
                match frame {
                    Err(error) => return Poll::Ready(Some(Err(http1_error(error)))),
                    // Trailers are not passed on.
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                        _ => {}
                    },
                }
            },
            Self::Http2(stream) => {
                let Some(piece) = ready!(stream.poll_data(context)) else { return Poll::Ready(None) };
                let piece = piece.and_then(|bytes| {
                    // What is read may be sent anew.
                    stream.flow_control().release_capacity(bytes.len())?;
                    Ok(bytes)
                });
                Poll::Ready(Some(piece.map_err(|error| ReadError::Broken(error.into()))))
            }
        }
    }
}

fn http1_error(error: hyper::Error) -> ReadError {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => ReadError::Malformed(error.into()),
        _ => ReadError::Broken(error.into()),
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_piece(context)
    }
}

impl Future for Upgrade {
    /// The connection; `None` if the request was answered otherwise.
    type Output = Option<Upgraded>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().0).poll(context).map(Result::ok)
    }
}
