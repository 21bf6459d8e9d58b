//! How requests to a backend fail, and how far they got.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::ask::BodyFault;
use super::connect::DialError;

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
    /// What arrived is no HTTP.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The time for the head of the answer is over.
    #[error("the answer did not begin in time")]
    Timeout,
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

/// An attempt that failed on one connection.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: AttemptError,
    /// Whether the other side can be taken not to have begun: a kept connection was closed, or the request refused.
    pub unprocessed: bool,
}

impl From<DialError> for AttemptError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect(error) => Self::Connect(error),
            DialError::Handshake(error) => Self::Handshake(error),
        }
    }
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        Self { error, unprocessed: false }
    }
}
