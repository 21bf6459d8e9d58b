//! A backend's answer: its head, and its body as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http::response::Parts;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::error::BodyError;
use super::{http1, http2};

/// An answer whose head is there.
pub struct Answer {
    /// The status and the headers that are meant for the client. Headers that frame the body are left out, except for
    /// the length that a 304 announces.
    pub head: Parts,
    /// How long the body is. After `HEAD` it is the announced length, and no body follows.
    pub size: BodySize,
    /// The body.
    pub body: AnswerBody,
    /// How often the request was written to a connection, this time included: at least 1. It is more than 1 only where
    /// a backend provably had not processed the request before.
    pub sends: u32,
}

/// How long the body of an answer is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// There is no body and no length of one.
    None,
    /// The body has this many bytes.
    Sized(u64),
    /// The length shows at the end.
    Stream,
}

/// The body of an answer; it ends with an error when the answer ends before its end.
pub struct AnswerBody {
    pub(crate) source: Source,
    /// The place among the connections of its endpoint, where those are limited; given back with the body.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// Where a body comes from.
pub(crate) enum Source {
    Http1(http1::Incoming),
    Http2(http2::Incoming),
}

/// A connection whose two sides have changed to another protocol: what arrives on it, and where it is written.
pub struct Tunnel {
    /// What has arrived already.
    pub arrived: Bytes,
    /// What arrives.
    pub reader: Box<dyn AsyncRead + Unpin>,
    /// Where to write. Shutting it down tells the backend that no more comes, which may still send.
    pub writer: Box<dyn AsyncWrite + Unpin>,
}

impl AnswerBody {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, place: None }
    }

    /// Returns the connection after an answer that changes to another protocol; `None` after any other.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        match self.source {
            Source::Http1(incoming) => incoming.into_tunnel(),
            Source::Http2(_) => None,
        }
    }

    /// Returns the trailers, once [`poll_chunk`](Self::poll_chunk) has returned `None`. Over HTTP/1.1 they are left
    /// out.
    pub fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, BodyError>> {
        match &mut self.source {
            Source::Http1(_) => Poll::Ready(Ok(None)),
            Source::Http2(incoming) => incoming.poll_trailers(context),
        }
    }

    /// Returns the next piece of the body as soon as it is there, `None` at its end.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Http1(incoming) => incoming.poll_chunk(context),
            Source::Http2(incoming) => incoming.poll_chunk(context),
        }
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_chunk(context)
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let body = self.get_mut();
        if let Some(piece) = ready!(body.poll_chunk(context)) {
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        body.poll_trailers(context).map(|trailers| trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}
