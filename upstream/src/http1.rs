//! One HTTP/1.1 connection: sends a request and reads its answer, both at once.
//!
//! Source: RFC 9112. An answer may come before its request is sent whole; then sending goes on while the answer is
//! read.

mod head;
mod sending;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use kthena_router_wire::{Decoded, Framing};
use tokio_util::io::poll_read_buf;

use super::answer::{Answer, AnswerBody, BodySize, Source, Tunnel};
use super::ask::{Ask, BodyFault};
use super::error::{AttemptError, BodyError, Progress};
use super::pool::Slot;
use super::stream::Stream;
use head::{Decoder, Expected, Head};
use sending::{SendError, Sending};

/// With less room than this left, room for more is made before the next read.
const LEAST_ROOM: usize = 2 << 10;
/// How much is read at once at first, and kept by an idle connection.
const ROOM: usize = 16 << 10;
/// How much is read at once when much arrives.
const MOST_ROOM: usize = 64 << 10;

/// A connection that takes one request at a time.
pub(super) struct Connection {
    stream: Stream,
    /// What has arrived and was not taken yet.
    input: BytesMut,
    heads: Decoder,
    sending: Sending,
    room: usize,
    /// For how many seconds the backend keeps it, as it has said last.
    kept_for: Option<u64>,
}

/// The body of an answer as it arrives.
pub(super) struct Incoming {
    /// The connection; it is gone once the body has ended.
    connection: Option<Box<Connection>>,
    framing: Framing,
    /// Whether the connection may serve another request.
    reusable: bool,
    slot: Rc<Slot>,
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn exchange(
    mut connection: Box<Connection>,
    ask: &mut Ask<'_>,
    slot: &Rc<Slot>,
    progress: &Progress,
) -> Result<Box<Answer>, AttemptError> {
    connection.sending.begin(ask);
    let expected = Expected { head_only: ask.method == Method::HEAD, upgrade: ask.upgrade.is_some() };
    let head = poll_fn(|context| connection.poll_head(expected, progress, context)).await?;
    Ok(connection.into_answer(head, expected, slot, progress.sends()))
}

impl Connection {
    /// Makes a connection of a fresh stream of bytes. It is boxed, as it changes hands with each request.
    pub(super) fn new(stream: Stream) -> Box<Self> {
        let (heads, sending) = (Decoder::default(), Sending::default());
        Box::new(Self { stream, input: BytesMut::new(), heads, sending, room: ROOM, kept_for: None })
    }

    /// Returns whether nothing has arrived, as it should be while there is no request; as the kernel knows it, or tokio.
    pub(super) fn is_quiet(&mut self, asks_kernel: bool) -> bool {
        self.stream.is_quiet(asks_kernel)
    }

    /// Returns for how many seconds the backend keeps the connection while there is no request, if it has said so.
    pub(super) fn kept_for(&self) -> Option<u64> {
        self.kept_for
    }

    /// Notes for how many seconds the backend says that it keeps the connection, if it does.
    pub(super) fn keep_for(&mut self, seconds: Option<u64>) {
        self.kept_for = seconds.or(self.kept_for);
    }

    fn poll_head(
        &mut self,
        expected: Expected,
        progress: &Progress,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, AttemptError>> {
        let had_begun = self.sending.has_begun();
        let sent = self.sending.poll(&mut self.stream, context);
        if self.sending.has_begun() && !had_begun {
            progress.note_send();
        }
        match sent {
            Poll::Ready(Err(SendError::Body(fault))) => return Poll::Ready(Err(AttemptError::RequestBody(fault))),
            // What arrives on a connection that has taken nothing is no answer to this request.
            Poll::Ready(Err(SendError::Connection(error))) if !self.sending.has_begun() => {
                return Poll::Ready(Err(AttemptError::Broken(error)));
            }
            // One that takes no more may still bring an answer.
            Poll::Ready(Err(SendError::Connection(_)) | Ok(())) | Poll::Pending => {}
        }
        loop {
            if let Some(head) = self.heads.decode(&mut self.input, expected).map_err(AttemptError::Malformed)? {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_read(context)) {
                Ok(()) => progress.note_heard(),
                Err(error) => return Poll::Ready(Err(AttemptError::Broken(error))),
            }
        }
    }

    /// Sends what can be sent. A connection that takes no more may still have an answer to read, so that only a fault
    /// of the request's own body is an error here.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), BodyFault> {
        // As it is for nearly every piece of an answer.
        if self.sending.is_done() {
            return Ok(());
        }
        match self.sending.poll(&mut self.stream, context) {
            Poll::Ready(Err(SendError::Body(fault))) => Err(fault),
            Poll::Ready(Err(SendError::Connection(_)) | Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Reads what is there; the end of the connection is an error.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.input.capacity() - self.input.len() < LEAST_ROOM {
            self.input.reserve(self.room);
        }
        let room = self.input.capacity() - self.input.len();
        match ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => {
                if read == room {
                    self.room = MOST_ROOM;
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn into_answer(mut self: Box<Self>, head: Head, expected: Expected, slot: &Rc<Slot>, sends: u32) -> Box<Answer> {
        let Head { response, framing, announced, reusable, kept_for } = head;
        self.keep_for(kept_for);
        let size = match (&framing, announced) {
            (Framing::Length(length), _) => BodySize::Sized(*length),
            (Framing::Ended, Some(length)) if expected.head_only || length == 0 => BodySize::Sized(length),
            (Framing::Ended, _) => BodySize::None,
            _ => BodySize::Stream,
        };
        let mut incoming = Incoming { connection: Some(self), framing, reusable, slot: Rc::clone(slot) };
        if incoming.framing == Framing::Ended {
            incoming.end();
        }
        Box::new(Answer { head: response, size, body: AnswerBody::new(Source::Http1(incoming)), sends })
    }
}

impl Incoming {
    /// Returns the connection for another protocol, with what has arrived of it.
    pub(super) fn into_tunnel(self) -> Option<Tunnel> {
        let connection = *self.connection.filter(|_| self.framing == Framing::UntilClose)?;
        let arrived = connection.input.freeze();
        let (reader, writer) = connection.stream.split();
        Some(Tunnel { arrived, reader, writer })
    }

    /// Returns the next piece of the body as soon as it is there, `None` at its end.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match ready!(self.poll(context)) {
            Ok(Some(piece)) => {
                if self.framing == Framing::Ended {
                    self.end();
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Ok(None) => {
                self.end();
                Poll::Ready(None)
            }
            Err(error) => {
                // Nobody has a use for what may still come.
                self.connection = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
        connection.poll_send(context).map_err(BodyError::RequestBody)?;
        loop {
            match self.framing.decode(&mut connection.input).map_err(BodyError::Malformed)? {
                Decoded::Piece(piece) => return Poll::Ready(Ok(Some(piece))),
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::Nothing => {}
            }
            match ready!(connection.poll_read(context)) {
                Ok(()) => {}
                Err(error) if self.framing.ends_with_connection() && is_end(&connection.stream, &error) => {
                    return Poll::Ready(Ok(None));
                }
                // What the backend has sent of a chunk is the client's, even if the rest never comes.
                Err(error) => match self.framing.give_up(&mut connection.input) {
                    Some(piece) => return Poll::Ready(Ok(Some(piece))),
                    None => return Poll::Ready(Err(BodyError::Broken(error))),
                },
            }
        }
    }

    /// Gives the connection to the next request if it is fit for one, and closes it otherwise.
    fn end(&mut self) {
        self.framing = Framing::Ended;
        let Some(mut connection) = self.connection.take() else { return };
        // What is left over would be taken for a part of the next answer.
        if self.reusable && connection.sending.is_done() && connection.input.is_empty() {
            if connection.room > ROOM {
                (connection.input, connection.room) = (BytesMut::new(), ROOM);
            }
            self.slot.give_back(connection);
        }
    }
}

/// Returns whether an error is the end that the other side meant. Within TLS an end without a farewell is not told
/// apart from an attack by the stream, which makes it an error of its own kind with a text; a plain end has none.
fn is_end(stream: &Stream, error: &io::Error) -> bool {
    let is_eof = error.kind() == io::ErrorKind::UnexpectedEof;
    match stream {
        Stream::Plain(_) => is_eof,
        #[cfg(feature = "fuzzing")]
        Stream::Memory(_) => is_eof,
        Stream::Tls(_) => is_eof && error.get_ref().is_none(),
    }
}
