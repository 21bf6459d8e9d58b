//! A request as the client is asked to send it.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::LocalBoxStream;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A request to send.
pub struct Ask<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path and the query.
    pub target: &'r str,
    /// The value of `Host`, or of `:authority`.
    pub host: &'r str,
    /// The headers; those of one connection and those that frame the message are left out.
    pub headers: &'r HeaderMap,
    /// Headers that take the place of those with the same name.
    pub replaced: &'r [(HeaderName, HeaderValue)],
    /// The protocol to change to, if the other side agrees; HTTP/1.1 only.
    pub upgrade: Option<&'r HeaderValue>,
    /// The body.
    pub body: Body,
    /// How many connections there are to its endpoint, and for how long; `None` leaves that as it is.
    pub keeping: Option<Keeping>,
    /// How long it may take to connect, and TLS and HTTP/2 as long again; `None` leaves that to the client's own limit.
    pub connect_timeout: Option<Duration>,
    /// How long the head of the answer may take, the time to connect included.
    pub timeout: Option<Duration>,
    /// Whether it needs an HTTP/1.1 connection of its own, because those that are kept may be closed meanwhile.
    pub fresh: bool,
    /// Whether its sender sends it again, as a [`fresh`](Self::fresh) one, after
    /// [`AttemptError::Stale`](super::AttemptError::Stale): then the kernel is not asked whether a kept connection has ended.
    pub repeated: bool,
}

impl<'r> Ask<'r> {
    /// Asks for what is at `target`, without a body; the connection is kept as the client does it, and nothing but the
    /// client's own limits bounds the time.
    pub fn get(target: &'r str, host: &'r str, headers: &'r HeaderMap) -> Self {
        Self {
            method: &Method::GET,
            target,
            host,
            headers,
            replaced: &[],
            upgrade: None,
            body: Body::Empty,
            keeping: None,
            connect_timeout: None,
            timeout: None,
            fresh: false,
            repeated: false,
        }
    }
}

/// How many connections a client has to one endpoint, and for how long they wait for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// How long a connection waits for its next request, in steps of half a second; `None` is 3.5 s to 4 s.
    pub idle_timeout: Option<Duration>,
    /// How many of them wait at most; `None` is any number.
    pub most_idle: Option<usize>,
    /// How many HTTP/1.1 requests are under way at most, each on a connection of its own; further ones wait. `None` is any
    /// number.
    pub most_active: Option<usize>,
    /// Among which connections to several endpoints this one counts while it waits; `None` is among none.
    pub together: Option<Together>,
}

/// A bound on the connections that wait, over the endpoints that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Together {
    /// What the endpoints have in common, such as the hash of a name.
    pub key: u64,
    /// How many connections to all of them wait at most; a further one is closed.
    pub most: usize,
}

/// The body of a request.
pub enum Body {
    /// There is none.
    Empty,
    /// All of it is there, and it can be sent again.
    Whole(Bytes),
    /// It arrives while it is sent.
    Stream(BodyStream),
    /// It was on its way in an earlier attempt, and cannot be sent again.
    Gone,
}

/// A body that arrives while it is sent.
pub struct BodyStream {
    /// Its pieces.
    pub source: LocalBoxStream<'static, Result<Bytes, BodyFault>>,
    /// Its length in bytes, if that is known; otherwise it is sent in chunks.
    pub length: Option<u64>,
}

/// Why a request's body cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// The client broke off, or sent what is no HTTP.
    #[error("it could not be read")]
    Read(#[source] Box<dyn Error + Send + Sync>),
    /// The client paused for too long.
    #[error("it did not arrive in time")]
    Late,
    /// The client sent more or less than it has announced.
    #[error("its length is not the announced one")]
    Length,
}

impl Ask<'_> {
    /// Returns whether the request is lost, or may be processed twice, when its connection ends while it is sent.
    pub(super) fn is_sent_once(&self) -> bool {
        matches!(self.body, Body::Stream(_)) || !self.method.is_idempotent()
    }

    /// Returns whether it is sent again where a kept connection has ended.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated && !matches!(self.body, Body::Stream(_))
    }

    /// Returns whether a header of this name is left out, because another one takes its place.
    pub(super) fn replaces(&self, name: &HeaderName) -> bool {
        self.replaced.iter().any(|(replaced, _)| replaced == name)
    }
}

impl Body {
    /// Returns whether the body can be sent now.
    pub fn is_there(&self) -> bool {
        !matches!(self, Self::Gone)
    }

    /// Takes the body for one attempt; only a stream is gone after that.
    pub(super) fn take(&mut self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Stream(_) | Self::Gone => std::mem::replace(self, Self::Gone),
        }
    }
}
