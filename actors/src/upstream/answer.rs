//! A backend's answer: its head, and its body as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::Response;
use actix_web::body::BodySize;
use actix_web::web::Bytes;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::error::BodyError;
use super::{http1, http2};

/// An answer whose head is there.
pub struct Answer {
    /// The status and the headers that are meant for the client. What frames the body is not among them, but for the
    /// length that an answer without a body announces on behalf of one that has it.
    pub head: Response<()>,
    /// How long the body is, or would be if it had been asked for.
    pub size: BodySize,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an answer; its stream ends with an error when the answer ends before its end.
pub struct AnswerBody(pub(super) Source);

/// Where a body comes from.
pub(super) enum Source {
    Http1(http1::Incoming),
    Http2(http2::Incoming),
}

/// A connection whose two sides have changed to another protocol: what arrives on it, and where it is written.
pub struct Tunnel {
    /// What has arrived already.
    pub arrived: Bytes,
    /// What arrives.
    pub reader: Box<dyn AsyncRead + Unpin>,
    /// Where to write.
    pub writer: Box<dyn AsyncWrite + Unpin>,
}

impl AnswerBody {
    /// Returns the connection after an answer that changes to another protocol; `None` after any other.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        match self.0 {
            Source::Http1(incoming) => incoming.into_tunnel(),
            Source::Http2(_) => None,
        }
    }

    /// Returns the next piece of the body as soon as it is there, `None` at its end.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
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
