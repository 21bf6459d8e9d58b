//! The body of a request, of either version of HTTP.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::budget::Charge;
use crate::http1::Upload;
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
/// Nothing is read ahead of who asks, but for what the client was granted to send, and what came together with the head. A body that is dropped before its
/// end is read on and thrown away within bounds (HTTP/1), or refused (HTTP/2).
#[derive(Debug)]
pub struct Incoming {
    pieces: Pieces,
    announced: Option<u64>,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    upgrade: Option<Upgrade>,
    /// What the connection may hold of it.
    _room: Option<Charge>,
}

#[derive(Debug)]
enum Pieces {
    None,
    /// All of a body, which came together with the head.
    Whole(Option<Bytes>),
    Http1(Rc<Upload>),
    Http2(h2::RecvStream),
}

/// The connection of a request that changes the protocol, once it is answered with 101 (RFC 9110, section 7.8).
#[derive(Debug)]
pub struct Upgrade(oneshot::Receiver<Upgraded>);

impl Incoming {
    /// Makes a body of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { pieces: Pieces::None, announced: Some(0), pause: Duration::MAX, timer: None, upgrade: None, _room: None }
    }

    /// Makes a body that is there already.
    pub(crate) fn whole(bytes: Bytes, room: Charge) -> Self {
        let announced = Some(bytes.len() as u64);
        Self { announced, pieces: Pieces::Whole(Some(bytes)), _room: Some(room), ..Self::empty() }
    }

    pub(crate) fn http1(body: Rc<Upload>, announced: Option<u64>, pause: Duration, room: Charge) -> Self {
        Self { pieces: Pieces::Http1(body), announced, pause, _room: Some(room), ..Self::empty() }
    }

    pub(crate) fn http2(body: h2::RecvStream, announced: Option<u64>, pause: Duration, room: Option<Charge>) -> Self {
        Self { pieces: Pieces::Http2(body), announced, pause, _room: room, ..Self::empty() }
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
            return Poll::Ready(piece);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.pause)));
        timer.as_mut().poll(context).map(|()| Some(Err(ReadError::Late)))
    }
}

impl Pieces {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Http1(upload) => upload.poll(context),
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
