//! What answers requests.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use thiserror::Error;

use crate::connection::Connection;
use crate::incoming::Incoming;

/// An error of which nothing more is known.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Answers the requests of one thread. It lives there, and need not be `Send`.
pub trait Service: 'static {
    /// The body of an answer. One that ends with an error breaks the connection or the stream off.
    ///
    /// Its size hint, if exact, becomes the `Content-Length`; HTTP/1.1 sends other bodies in chunks. A body is polled
    /// to its end before it is dropped, if the client takes all of it; for `HEAD`, and where its length is 0, it is not
    /// polled.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + 'static;

    /// Answers a request.
    ///
    /// Its URI has the one authority and the one path of the request, whatever form they came in: `Host`, `:authority`
    /// and absolute targets are checked against each other, and the field `Host` is taken out. Only a request of
    /// HTTP/1 with an empty `Host`, or of HTTP/1.0 without it, has no authority. The path begins with `/`, or is `*`
    /// for `OPTIONS`.
    ///
    /// An answer with `Connection: close` ends the connection in either version: HTTP/2 sends GOAWAY, and lets the
    /// other requests end.
    ///
    /// The future is dropped, and after it the body, when the client leaves or gives the request up.
    fn handle(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Self::Body>>>>;

    /// Notes a request or connection that never came to [`Service::handle`], and makes the answer. The answer is not
    /// used where the server has answered already, or where nobody would understand one.
    fn refuse(&self, connection: &Connection, refused: &Refused<'_>) -> Response<Self::Body>;
}

/// A request, or a connection without one, that is refused before the service sees it.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'r> {
    /// Why.
    pub why: Refusal,
    /// The head of the request, if it was understood so far.
    pub head: Option<&'r Parts>,
}

/// Why a request is refused before the service sees it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The head is no HTTP.
    #[error("the request head is not valid HTTP")]
    Syntax,
    /// The target is neither a path nor a whole URI.
    #[error("the request target is neither a path nor an absolute URI")]
    Target,
    /// The router makes no tunnels to where a client says.
    #[error("the method `CONNECT` is not served")]
    Connect,
    /// The host is missing, or there are several.
    #[error("the request must name exactly one host")]
    HostCount,
    /// The host is not a name or address with or without a port.
    #[error("the host of the request is not a host")]
    Host,
    /// HTTP/2 names the host twice, and not the same.
    #[error("`host` differs from `:authority`")]
    HostDiffers,
    /// The length of the body is given twice, or is not that of the body.
    #[error("the `content-length` of the request is not that of its body")]
    Length,
    /// The body is coded in a way other than in chunks.
    #[error("the only transfer coding that is served is `chunked`")]
    TransferCoding,
    /// The target is too long.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head has too many bytes or fields.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// The head did not arrive in time.
    #[error("the request head did not arrive in time")]
    TooSlow,
    /// There is no memory for another request.
    #[error("the router has no memory left for another request")]
    Memory,
    /// The TLS handshake failed.
    #[error("the tls handshake failed")]
    Handshake,
    /// No listener has the server name of the handshake.
    #[error("no listener has the server name of the handshake")]
    ServerName,
    /// The client broke the protocol of HTTP/2.
    #[error("the client broke the http/2 protocol")]
    Http2,
}

impl Refusal {
    /// Returns the status that a request is refused with; `None` where there is no request that could be answered.
    #[must_use]
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Self::Syntax
            | Self::Target
            | Self::Connect
            | Self::HostCount
            | Self::Host
            | Self::HostDiffers
            | Self::Length
            | Self::TransferCoding => Some(StatusCode::BAD_REQUEST),
            Self::TargetTooLong => Some(StatusCode::URI_TOO_LONG),
            Self::HeadTooLarge => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::TooSlow => Some(StatusCode::REQUEST_TIMEOUT),
            Self::Memory => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::Handshake | Self::ServerName | Self::Http2 => None,
        }
    }

    /// Returns a word for logs and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Syntax => "malformed_syntax",
            Self::Target => "malformed_target",
            Self::Connect => "connect",
            Self::HostCount => "malformed_host_count",
            Self::Host => "malformed_host",
            Self::HostDiffers => "malformed_host_differs",
            Self::Length => "malformed_length",
            Self::TransferCoding => "transfer_coding",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooSlow => "head_timeout",
            Self::Memory => "memory",
            Self::Handshake => "tls_handshake",
            Self::ServerName => "tls_server_name",
            Self::Http2 => "http2_protocol",
        }
    }
}
