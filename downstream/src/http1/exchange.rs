//! One request and its answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Response, StatusCode};
use kthena_router_wire::{Decoded, Framing};
use tokio::io::AsyncRead;
use tokio::sync::oneshot;

use super::answer::{Answer, Filled};
use super::head::Shape;
use super::input::Input;
use super::output::Output;
use super::upload::Upload;
use crate::budget::Charge;
use crate::incoming::ReadError;
use crate::progress::InFlight;
use crate::service::{BoxError, Service};
use crate::upgraded::Upgraded;

/// A body of up to this length that nobody wants is read all the same, if it is there already: the connection lives on.
const CHEAP_REST: u64 = 8 << 10;

/// A request, from its head to the end of its answer.
pub(super) struct Exchange<S: Service> {
    pub phase: Phase<S>,
    pub shape: Shape,
    /// What is still to come of the body.
    pub receiving: Option<Receiving>,
    /// Waits for the connection, if the request asks to change the protocol.
    pub tunnel: Option<oneshot::Sender<Upgraded>>,
    pub _in_flight: InFlight,
    /// What the head costs.
    pub _head: Option<Charge>,
}

/// How far a request is.
pub(super) enum Phase<S: Service> {
    /// The service has it.
    Answering(Pin<Box<dyn Future<Output = Response<S::Body>>>>),
    /// Its answer is being sent.
    Sending(Answer<S::Body>),
}

/// A body that is being received.
pub(super) struct Receiving {
    pub upload: Rc<Upload>,
    pub framing: Framing,
    /// Its whole length; `None` for one in chunks.
    pub length: Option<u64>,
    /// Whether the client waits for leave to send it.
    pub expects_continue: bool,
}

/// What became of a look at the client's side.
pub(super) enum Received {
    /// The service is to be asked again.
    More,
    /// It is not there yet, or nobody wants it.
    Waiting,
    /// No more will come that could be understood.
    Over,
}

impl<S: Service> Exchange<S> {
    /// Asks the service for what is there of its answer, and brings that into the output.
    pub(super) fn fill(&mut self, is_leaving: bool, output: &mut Output, context: &mut Context<'_>) -> Filled {
        loop {
            match &mut self.phase {
                Phase::Sending(answer) => return answer.fill(output, context),
                Phase::Answering(answering) => match answering.as_mut().poll(context) {
                    Poll::Pending => return Filled::Waiting,
                    Poll::Ready(response) => {
                        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                            self.tunnel = None;
                        }
                        let is_last = is_leaving || self.receiving.as_ref().is_some_and(Receiving::is_given_up);
                        // No leave to send the body is given in the midst of the answer.
                        if let Some(receiving) = &mut self.receiving {
                            receiving.expects_continue = false;
                        }
                        self.phase = Phase::Sending(Answer::begin(response, self.shape, is_last, output));
                    }
                },
            }
        }
    }

    /// Takes why the answer broke off.
    pub(super) fn failure(&mut self) -> Option<BoxError> {
        if let Phase::Sending(answer) = &mut self.phase { answer.failure.take() } else { None }
    }
}

impl Receiving {
    /// Returns whether nobody will read what is left of a body that cannot be thrown away, or is too long for that.
    fn is_given_up(&self) -> bool {
        let is_dropped = Rc::strong_count(&self.upload) == 1;
        // Who still waits for leave to send it has sent nothing that could be thrown away.
        let is_there = !self.expects_continue && self.length.is_some_and(|length| length <= CHEAP_REST);
        is_dropped && !self.upload.is_over() && !is_there
    }

    /// Gives the service what it asks for.
    pub(super) fn poll<T>(
        &mut self,
        input: &mut Input,
        output: &mut Output,
        stream: &mut T,
        context: &mut Context<'_>,
    ) -> Received
    where
        T: AsyncRead + Unpin,
    {
        if !self.upload.is_asked() {
            return Received::Waiting;
        }
        // Who has sent some of it does not wait for leave.
        if std::mem::take(&mut self.expects_continue) && input.bytes.is_empty() {
            output.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            return Received::More;
        }
        loop {
            let is_asked_again = match self.framing.decode(&mut input.bytes) {
                Ok(Decoded::Piece(piece)) => self.upload.give(piece, self.framing == Framing::Ended, context),
                Ok(Decoded::End) => self.upload.end(None, context),
                Ok(Decoded::Nothing) => {
                    let left = if let Framing::Length(left) = self.framing { Some(left) } else { None };
                    match input.poll_read_body(stream, left, context) {
                        Poll::Pending => return Received::Waiting,
                        Poll::Ready(Ok(1..)) => continue,
                        Poll::Ready(Ok(0)) => return self.fail(broken(io::ErrorKind::UnexpectedEof.into()), context),
                        Poll::Ready(Err(error)) => return self.fail(broken(error), context),
                    }
                }
                Err(what) => return self.fail(ReadError::Malformed(what.into()), context),
            };
            // Behind its end, the client is still looked at.
            return if is_asked_again || self.upload.is_over() { Received::More } else { Received::Waiting };
        }
    }

    fn fail(&mut self, why: ReadError, context: &Context<'_>) -> Received {
        self.upload.end(Some(why), context);
        Received::Over
    }

    /// Throws away what is left of a body that nobody reads, if it is short and there already; returns whether it was.
    pub(super) fn discard<T>(&mut self, input: &mut Input, stream: &mut T, context: &mut Context<'_>) -> bool
    where
        T: AsyncRead + Unpin,
    {
        let mut may_read = matches!(self.framing, Framing::Length(left) if left <= CHEAP_REST);
        loop {
            match self.framing.decode(&mut input.bytes) {
                Ok(Decoded::End) => return true,
                Ok(Decoded::Piece(_)) if self.framing == Framing::Ended => return true,
                Ok(Decoded::Piece(_)) => {}
                Ok(Decoded::Nothing) if std::mem::take(&mut may_read) => {
                    if !matches!(input.poll_read(stream, context), Poll::Ready(Ok(1..))) {
                        return false;
                    }
                }
                Ok(Decoded::Nothing) | Err(_) => return false,
            }
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Whoever still waits for it has waited long enough.
        self.upload.abandon();
    }
}

fn broken(error: io::Error) -> ReadError {
    ReadError::Broken(error.into())
}
