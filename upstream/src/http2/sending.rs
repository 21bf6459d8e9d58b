//! Sends the body of a request as fast as the other side takes it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::state::Fenced;
use crate::ask::{Body, BodyFault, BodyStream};

/// The body of a request that is being sent.
pub(super) struct Sending {
    stream: Fenced<SendStream<Bytes>>,
    /// A piece, of which as much is sent at a time as the other side takes.
    piece: Bytes,
    rest: Rest,
}

/// What follows the piece.
enum Rest {
    /// The end, which was not sent yet.
    End,
    /// Pieces that are still to arrive.
    Stream(BodyStream),
    /// Nothing: all is sent.
    Nothing,
    /// The other side takes no more.
    Refused,
}

/// Why sending cannot go on.
pub(super) enum SendError {
    /// The request's own body cannot be had.
    Body(BodyFault),
    /// The other side takes no more.
    Connection,
}

impl Sending {
    /// Starts to send a body on the stream of its request.
    pub(super) fn new(stream: Fenced<SendStream<Bytes>>, body: Body) -> Self {
        let (piece, rest) = match body {
            Body::Empty | Body::Gone => (Bytes::new(), Rest::Nothing),
            Body::Whole(bytes) => (bytes, Rest::End),
            Body::Stream(body) => (Bytes::new(), Rest::Stream(body)),
        };
        Self { stream, piece, rest }
    }

    /// Sends what is there, and returns once all is sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let outcome = match self.rest {
            Rest::Nothing => return Poll::Ready(Ok(())),
            Rest::Refused => return Poll::Ready(Err(SendError::Connection)),
            Rest::End | Rest::Stream(_) => ready!(self.poll_all(context)),
        };
        self.rest = match &outcome {
            Ok(()) => Rest::Nothing,
            Err(SendError::Connection) => Rest::Refused,
            Err(SendError::Body(_)) => {
                if let Ok(stream) = self.stream.inner() {
                    stream.send_reset(Reason::CANCEL);
                }
                Rest::Refused
            }
        };
        Poll::Ready(outcome)
    }

    /// Gives back the room that the other side has for the piece, until the next poll.
    pub(super) fn pause(&mut self) {
        if !self.piece.is_empty() {
            self.stream.inner().into_iter().for_each(|stream| stream.reserve_capacity(0));
        }
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            ready!(self.poll_piece(context))?;
            let Rest::Stream(body) = &mut self.rest else {
                return Poll::Ready(self.send(Bytes::new(), true));
            };
            match ready!(body.source.as_mut().poll_next(context)).transpose().map_err(SendError::Body)? {
                Some(piece) => {
                    if let Some(left) = &mut body.length {
                        let length = piece.len() as u64;
                        *left = left.checked_sub(length).ok_or(SendError::Body(BodyFault::Length))?;
                    }
                    self.piece = piece;
                }
                None if body.length.is_some_and(|left| left > 0) => {
                    return Poll::Ready(Err(SendError::Body(BodyFault::Length)));
                }
                None => return Poll::Ready(self.send(Bytes::new(), true)),
            }
        }
    }

    /// Sends the piece, each part of it when the other side has room for it.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while !self.piece.is_empty() {
            let Ok(stream) = self.stream.inner() else { return Poll::Ready(Err(SendError::Connection)) };
            stream.reserve_capacity(self.piece.len());
            let room = match stream.capacity() {
                // It is only told when there is more than before.
                0 => match ready!(stream.poll_capacity(context)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(SendError::Connection)),
                },
                room => room,
            };
            let part = self.piece.split_to(room.min(self.piece.len()));
            let is_end = self.piece.is_empty() && matches!(self.rest, Rest::End);
            if !part.is_empty() && !is_end {
                self.send(part, false)?;
            } else if is_end {
                self.send(part, true)?;
                self.rest = Rest::Nothing;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, part: Bytes, is_end: bool) -> Result<(), SendError> {
        if matches!(self.rest, Rest::Nothing) {
            return Ok(());
        }
        let stream = self.stream.inner().map_err(|_| SendError::Connection)?;
        stream.send_data(part, is_end).map_err(|_| SendError::Connection)
    }
}
