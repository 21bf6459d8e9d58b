//! Writes a request: its head, and its body as far as it is there.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderValue};
use tokio::io::AsyncWrite;

use crate::ask::{Ask, Body, BodyFault, BodyStream};
use crate::headers::end_to_end;
use crate::stream::Stream;

/// How much of a body that arrives bit by bit is gathered before it is written.
const GATHERED: usize = 64 << 10;
/// Up to how many bytes a body that is there is written behind its head in one piece: to copy so few costs less than what a
/// system call takes for a second piece.
const SMALL: usize = 2 << 10;
/// The capacity that is kept for the next request.
const KEPT_CAPACITY: usize = 16 << 10;

/// A request that is being written.
#[derive(Default)]
pub(super) struct Sending {
    /// The head, a small body, and pieces of one that arrives bit by bit.
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    rest: Rest,
    /// Whether the connection may have passed on any of it.
    has_begun: bool,
}

/// What follows the output.
#[derive(Default)]
enum Rest {
    /// Nothing.
    #[default]
    Nothing,
    /// The rest of a body that is there.
    Whole(Bytes),
    /// Pieces that are still to arrive, in chunks or up to an announced length.
    Stream(BodyStream),
    /// The connection takes no more.
    Refused,
}

/// Why sending cannot go on.
pub(super) enum SendError {
    /// The request's own body cannot be had.
    Body(BodyFault),
    /// The connection takes no more.
    Connection(io::Error),
}

impl Sending {
    /// Starts with a request's head.
    pub(super) fn begin(&mut self, ask: &mut Ask<'_>) {
        self.output.clear();
        self.written = 0;
        self.has_begun = false;
        write_head(&mut self.output, ask);
        self.rest = match ask.body.take() {
            Body::Empty | Body::Gone => Rest::Nothing,
            Body::Whole(bytes) if bytes.len() <= SMALL => {
                self.output.extend_from_slice(&bytes);
                Rest::Nothing
            }
            Body::Whole(bytes) => Rest::Whole(bytes),
            Body::Stream(stream) => Rest::Stream(stream),
        };
    }

    /// Returns whether the other side may have got any of the request.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Returns whether all is written, and not only into a buffer.
    pub(super) fn is_done(&self) -> bool {
        self.output.is_empty() && matches!(self.rest, Rest::Nothing)
    }

    /// Writes what is there, and returns once all is written.
    pub(super) fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        if matches!(self.rest, Rest::Refused) {
            return Poll::Ready(Err(SendError::Connection(io::ErrorKind::BrokenPipe.into())));
        }
        let outcome = ready!(self.poll_all(stream, context));
        if let Err(SendError::Connection(_)) = outcome {
            *self = Self { rest: Rest::Refused, has_begun: self.has_begun, ..Self::default() };
        }
        Poll::Ready(outcome)
    }

    fn poll_all(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            let source = self.gather(context).map_err(SendError::Body)?;
            while !self.is_written() {
                // TLS does not tell how much of what fails has left before.
                self.has_begun |= matches!(stream, Stream::Tls(_));
                match ready!(self.poll_write(stream, context)).map_err(SendError::Connection)? {
                    0 => return Poll::Ready(Err(SendError::Connection(io::ErrorKind::WriteZero.into()))),
                    written => self.advance(written),
                }
            }
            ready!(Pin::new(&mut *stream).poll_flush(context)).map_err(SendError::Connection)?;
            self.recycle();
            if self.is_done() {
                return Poll::Ready(Ok(()));
            }
            ready!(source);
        }
    }

    /// Returns whether what was gathered is written.
    fn is_written(&self) -> bool {
        self.written == self.output.len() && !matches!(self.rest, Rest::Whole(_))
    }

    fn poll_write(&self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let output = &self.output[self.written..];
        match &self.rest {
            Rest::Whole(bytes) => {
                Pin::new(stream).poll_write_vectored(context, &[IoSlice::new(output), IoSlice::new(bytes)])
            }
            _ => Pin::new(stream).poll_write(context, output),
        }
    }

    fn advance(&mut self, written: usize) {
        self.has_begun = true;
        let of_output = written.min(self.output.len() - self.written);
        self.written += of_output;
        if let Rest::Whole(bytes) = &mut self.rest {
            drop(bytes.split_to(written - of_output));
            if bytes.is_empty() && self.written == self.output.len() {
                self.rest = Rest::Nothing;
            }
        }
    }

    /// Empties the output, whose capacity serves again.
    fn recycle(&mut self) {
        self.output.clear();
        self.output.shrink_to(KEPT_CAPACITY);
        self.written = 0;
    }

    /// Takes in the pieces of a body that are there. Pending is a source that will wake the task.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, BodyFault> {
        let Rest::Stream(body) = &mut self.rest else { return Ok(Poll::Ready(())) };
        while self.output.len() < GATHERED {
            match body.source.as_mut().poll_next(context)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(piece)) => append(&mut self.output, body, &piece)?,
                Poll::Ready(None) => {
                    match body.length {
                        None => self.output.extend_from_slice(b"0\r\n\r\n"),
                        Some(0) => {}
                        Some(_) => return Err(BodyFault::Length),
                    }
                    self.rest = Rest::Nothing;
                    return Ok(Poll::Ready(()));
                }
            }
        }
        Ok(Poll::Ready(()))
    }
}

/// Appends a piece of a body.
fn append(output: &mut Vec<u8>, body: &mut BodyStream, piece: &[u8]) -> Result<(), BodyFault> {
    // An empty chunk would be the last one.
    if piece.is_empty() {
        return Ok(());
    }
    match &mut body.length {
        Some(left) => {
            *left = left.checked_sub(piece.len() as u64).ok_or(BodyFault::Length)?;
            output.extend_from_slice(piece);
        }
        None => {
            write(output, format_args!("{:x}\r\n", piece.len()));
            output.extend_from_slice(piece);
            output.extend_from_slice(b"\r\n");
        }
    }
    Ok(())
}

/// Writes the head of a request.
fn write_head(output: &mut Vec<u8>, ask: &Ask<'_>) {
    for part in [ask.method.as_str(), " ", ask.target, " HTTP/1.1\r\nhost: ", ask.host, "\r\n"] {
        output.extend_from_slice(part.as_bytes());
    }
    let mut cookies = 0;
    for (name, value) in end_to_end(ask.headers).filter(|(name, _)| !ask.replaces(name)) {
        if *name == header::COOKIE {
            cookies += 1;
            continue;
        }
        write_field(output, name.as_str(), value.as_bytes());
    }
    if cookies > 0 {
        // HTTP/2 may split the field, which HTTP/1.1 allows once (RFC 9113, section 8.2.3).
        let values: Vec<_> = ask.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        write_field(output, "cookie", &values.join(&b"; "[..]));
    }
    for (name, value) in ask.replaced {
        write_field(output, name.as_str(), value.as_bytes());
    }
    if let Some(protocol) = ask.upgrade {
        write_field(output, "connection", b"upgrade");
        write_field(output, "upgrade", protocol.as_bytes());
    }
    write_framing(output, ask);
    output.extend_from_slice(b"\r\n");
}

/// Writes the field that says where the body ends.
fn write_framing(output: &mut Vec<u8>, ask: &Ask<'_>) {
    let length = match &ask.body {
        Body::Whole(bytes) => Some(bytes.len() as u64),
        Body::Stream(BodyStream { length: None, .. }) => {
            return write_field(output, "transfer-encoding", b"chunked");
        }
        Body::Stream(BodyStream { length, .. }) => *length,
        // A server may wait for a body that such a request usually has.
        Body::Empty | Body::Gone => matches!(*ask.method, Method::POST | Method::PUT | Method::PATCH).then_some(0),
    };
    if let Some(length) = length {
        write_field(output, "content-length", itoa::Buffer::new().format(length).as_bytes());
    }
}

fn write_field(output: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        output.extend_from_slice(part);
    }
}

fn write(output: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    output.write_fmt(text).expect("memory takes everything");
}
