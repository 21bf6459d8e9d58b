//! How requests to a backend fail, and how far they got.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;

use super::ask::BodyFault;
use super::connect::DialError;

/// An attempt that yields no head of an answer.
#[derive(Debug, Error)]
#[error("the attempt failed")]
pub struct Failure {
    /// Why.
    #[source]
    pub error: AttemptError,
    /// Whether the backend may have acted on the request.
    pub processed: Processed,
    /// How often the request was written to a connection, wholly or in part.
    pub sends: u32,
}

/// Whether a backend may have acted on a request that it did not answer.
///
/// Source: RFC 9110, section 9.2.2: a request that is not idempotent is not repeated unless it is known that it was not
/// applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processed {
    /// It did not: it got nothing of the request, or it says that it did not begin with it.
    No,
    /// It may have: bytes of the request were handed to the connection.
    Maybe,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A connection is being made.
    Connect,
    /// The connection is there, and TLS or HTTP/2 is being agreed on.
    Handshake,
    /// The request is being sent, or its answer waited for.
    Exchange,
}

/// Why an attempt yields no head of an answer.
#[derive(Debug, Error)]
pub enum AttemptError {
    /// No connection could be made, or not in time.
    #[error("no connection could be made")]
    Connect(#[source] Arc<io::Error>),
    /// A connection was made, and no agreement on TLS or HTTP/2, or not in time.
    #[error("the other side could not be agreed with on TLS or HTTP/2")]
    Handshake(#[source] Arc<io::Error>),
    /// The connection ended before the head of an answer was there.
    #[error("the connection ended before the answer began")]
    Broken(#[source] io::Error),
    /// A connection that was kept from an earlier request was closed in order, before anything of an answer was there and
    /// within a tenth of a second: most likely because it was idle. Nothing proves that.
    #[error("a kept connection was closed before the answer began")]
    Stale(#[source] io::Error),
    /// The request cannot be put into the protocol that the backend speaks; nothing was sent.
    #[error("the request cannot be sent: {0}")]
    Unsendable(&'static str),
    /// What arrived is no HTTP, or exceeds the limits for heads (see the documentation of the crate).
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The time that the request has for the head of its answer is over; the stage says what it was spent on.
    #[error("the answer did not begin in time")]
    Timeout(Stage),
    /// The request's own body could not be had.
    #[error("the request's body could not be read")]
    RequestBody(#[source] BodyFault),
}

/// Why the body of an answer ends before its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection ended, or failed.
    #[error("the connection ended before the answer")]
    Broken(#[source] io::Error),
    /// What arrived is not what the answer's head has announced.
    #[error("the answer's body is malformed: {0}")]
    Malformed(&'static str),
    /// The request's own body could not be had.
    #[error("the request's body could not be read")]
    RequestBody(#[source] BodyFault),
}

/// How far an attempt got, noted outside of the future that a timeout drops.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The stage of the connection that is being made, by this attempt or by another one.
    dial: RefCell<Option<Rc<Cell<Stage>>>>,
    sends: Cell<u32>,
    /// Whether the last send may have been acted on.
    processed: Cell<bool>,
    /// Whether anything of an answer has arrived.
    heard: Cell<bool>,
}

impl Progress {
    /// Follows the stage of a connection that is being made.
    pub(crate) fn follow(&self, stage: &Rc<Cell<Stage>>) {
        *self.dial.borrow_mut() = Some(Rc::clone(stage));
    }

    /// Returns what the attempt is busy with.
    pub(crate) fn stage(&self) -> Stage {
        self.dial.borrow().as_ref().map_or(Stage::Exchange, |stage| stage.get())
    }

    /// Notes that there is a connection.
    pub(crate) fn note_connected(&self) {
        *self.dial.borrow_mut() = None;
    }

    /// Notes that bytes of the request are handed to a connection.
    pub(crate) fn note_send(&self) {
        self.sends.set(self.sends.get() + 1);
        self.processed.set(true);
    }

    /// Notes that the backend did not begin with what was sent to it.
    pub(crate) fn note_unprocessed(&self) {
        self.processed.set(false);
    }

    /// Returns whether the backend is known not to have acted on the request.
    pub(crate) fn is_unprocessed(&self) -> bool {
        !self.processed.get()
    }

    /// Notes that something of an answer has arrived.
    pub(crate) fn note_heard(&self) {
        self.heard.set(true);
    }

    /// Returns whether the backend may have acted on the request, and has said nothing.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.processed.get() && !self.heard.get()
    }

    /// Returns how often the request was sent.
    pub(crate) fn sends(&self) -> u32 {
        self.sends.get()
    }

    /// Makes the failure of the attempt.
    pub(crate) fn failure(&self, error: AttemptError) -> Failure {
        let processed = if self.processed.get() { Processed::Maybe } else { Processed::No };
        Failure { error, processed, sends: self.sends.get() }
    }
}

impl From<DialError> for AttemptError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect(error) => Self::Connect(error),
            DialError::Handshake(error) => Self::Handshake(error),
        }
    }
}
