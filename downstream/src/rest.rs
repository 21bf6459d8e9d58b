//! A connection of HTTP/1 whose request waits.
//!
//! hyper has three buffers of 8 KiB for a connection, and keeps them while a request waits for its answer, which may be
//! minutes. Where the service says that a request waits, and nothing of it is still to come, hyper is let go of. When the
//! answer is there, hyper is begun again, and is shown a head which is like that of the request in all that the framing of
//! an answer depends on: its method, its version, whether the connection is kept, and whether trailers are taken.
//!
//! Of a request in chunks hyper knows more: it closes the connection where a length was beside them, which it has taken out
//! of the head. Such a request waits with hyper.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, TE};
use http::request::Parts;
use http::{Method, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// Bytes that are read to see whether a client has left; those of its next request are kept.
const LOOK: usize = 64;

/// What the framing of an answer depends on.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    method: Method,
    version: Version,
    /// Whether the client wants the connection to be closed, and whether it wants it to be kept.
    closes: bool,
    keeps: bool,
    takes_trailers: bool,
}

impl Shape {
    /// Returns that of a request with this head.
    pub(crate) fn of(head: &Parts) -> Self {
        let (mut closes, mut keeps) = (false, false);
        for value in head.headers.get_all(CONNECTION) {
            for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                closes |= option.eq_ignore_ascii_case(b"close");
                keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        let takes_trailers = head.headers.get(TE).is_some_and(|te| te == "trailers");
        Self { method: head.method.clone(), version: head.version, closes, keeps, takes_trailers }
    }

    /// Returns a head of this shape.
    fn head(&self) -> String {
        let version = if self.version == Version::HTTP_10 { "1.0" } else { "1.1" };
        let closes = if self.closes { "connection: close\r\n" } else { "" };
        let keeps = if self.keeps { "connection: keep-alive\r\n" } else { "" };
        let trailers = if self.takes_trailers { "te: trailers\r\n" } else { "" };
        format!("{} / HTTP/{version}\r\n{closes}{keeps}{trailers}\r\n", self.method)
    }
}

/// Waits for an answer; `None` if the client has left before. From the connection a head of the request's shape is read
/// first after that, and then what the client has sent meanwhile.
pub(crate) async fn rest<T, A>(
    stream: &mut Stream<T>,
    ahead: Bytes,
    shape: &Shape,
    mut poll_answer: impl FnMut(&mut Context<'_>) -> Poll<A>,
) -> Option<A>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // A copy: what it is a part of is as large as hyper's buffers.
    let mut more = ahead.to_vec();
    drop(ahead);
    let answer = poll_fn(|context| {
        stream.progress().begin_turn();
        if let Poll::Ready(answer) = poll_answer(context) {
            return Poll::Ready(Some(answer));
        }
        // Who has sent more cannot be seen to have left.
        while more.is_empty() {
            let mut room = [0; LOOK];
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => more.extend_from_slice(buffer.filled()),
                Poll::Ready(_) => return Poll::Ready(None),
            }
        }
        Poll::Pending
    });
    let answer = answer.await?;
    let mut again = shape.head().into_bytes();
    again.append(&mut more);
    stream.put_back(again);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::rc::Rc;

    use http::{Request, Response};
    use http_body_util::Full;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::connection::Connection;
    use crate::http1::serve;
    use crate::incoming::Incoming;
    use crate::service::{Refused, Service};

    struct Silent;

    impl Service for Silent {
        type Body = Full<Bytes>;

        fn handle(
            self: Rc<Self>,
            _: Rc<Connection>,
            _: Request<Incoming>,
        ) -> Pin<Box<dyn Future<Output = Response<Self::Body>>>> {
            Box::pin(std::future::pending())
        }

        fn refuse(&self, _: &Connection, _: &Refused<'_>) -> Response<Self::Body> {
            Response::default()
        }
    }

    fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_rests_is_small() {
        let size = size(serve::<DuplexStream, Silent>);
        assert!(size <= 512, "{size} bytes beside the request");
    }

    #[test]
    fn a_head_has_the_shape_of_the_request() {
        let shape = |method: &str, version, fields: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).version(version).uri("/v1/completions?x");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            Shape::of(&request.body(()).unwrap().into_parts().0).head()
        };
        let (http10, http11) = (Version::HTTP_10, Version::HTTP_11);
        for (case, found, expected) in [
            ("plain", shape("POST", http11, &[("x", "y"), ("content-length", "9")]), "POST / HTTP/1.1\r\n\r\n"),
            ("head", shape("HEAD", http11, &[("te", "gzip")]), "HEAD / HTTP/1.1\r\n\r\n"),
            (
                "one that closes",
                shape("FOO", http11, &[("connection", "te , Close")]),
                "FOO / HTTP/1.1\r\nconnection: close\r\n\r\n",
            ),
            (
                "an old one",
                shape("GET", http10, &[("connection", "keep-alive")]),
                "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
            ),
            ("trailers", shape("GET", http11, &[("te", "trailers")]), "GET / HTTP/1.1\r\nte: trailers\r\n\r\n"),
        ] {
            assert_eq!(found, expected, "{case}");
        }
    }
}
