//! What a request is answered with, whoever gives the answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kthena_router_downstream::Upgrade;
use kthena_router_upstream::BodyError;

use super::answer::{Answer, AnswerBody, Passing};
use super::pace::Pace;
use super::tunnel;
use crate::edge::errors::ProxyError;
use crate::edge::exchange::{Exchange, Held};
use crate::edge::heads::response_filters::Sharing;
use crate::ops::requests::facts::REQUEST_ID;

/// What a backend answers, and how that is passed on.
pub(in crate::edge) struct Reply {
    /// The answer.
    pub answer: Answer,
    /// How it is passed on.
    pub passing: Passing,
    /// The time that it has.
    pub pace: Pace,
    /// The client's connection, where the client asks to change the protocol.
    pub upgrade: Option<Upgrade>,
}

/// What ends with a request.
pub(in crate::edge) struct Ending<'w> {
    /// What is said of it.
    pub exchange: Exchange,
    /// What it holds.
    pub held: Held,
    /// What other origins learn from an answer of the router's own.
    pub sharing: Option<Box<Sharing<'w>>>,
    /// Whether the client's connection ends as well.
    pub closes: bool,
}

/// What the router answers itself, so that no further stage is reached.
pub(in crate::edge) enum Early {
    /// An answer that the routes, or an endpoint picker, give.
    Answer(Box<Response<Bytes>>),
    /// An error.
    Error(ProxyError),
}

/// The body of an answer.
pub enum ReplyBody {
    /// The router's own.
    Own(Bytes),
    /// A backend's, as it arrives.
    Backend(Box<AnswerBody>),
}

impl Reply {
    /// Makes the response to a client. What is said of the request, and what it holds, end with the response.
    pub(in crate::edge) fn complete(reply: Result<Self, Early>, ending: Ending<'_>) -> Response<ReplyBody> {
        let Ending { mut exchange, mut held, sharing, closes } = ending;
        let (status, reason) = match &reply {
            Ok(Self { answer, .. }) => (answer.upstream.head.status, "answered"),
            Err(Early::Answer(response)) => (response.status(), "answered by the router"),
            Err(Early::Error(error)) => (error.status(), error.reason()),
        };
        exchange.tell_decision(status.as_u16(), reason);
        let sharing = sharing.filter(|_| reply.is_err());
        let mut response = match reply {
            Ok(Self { answer: Answer { upstream, lease, prefill, prompt, first }, passing, pace, upgrade }) => {
                let passing = Passing { prompt, ..passing };
                (held.lease, held.prefill) = (Some(lease), prefill);
                match upgrade {
                    Some(client) if upstream.head.status == StatusCode::SWITCHING_PROTOCOLS => {
                        return tunnel::response(upstream, client, exchange, held).map(ReplyBody::Own);
                    }
                    _ => {
                        let time = (first, pace);
                        AnswerBody::response(upstream, passing, exchange, held, time).map(ReplyBody::Backend)
                    }
                }
            }
            Err(Early::Answer(response)) => {
                exchange.completes(response.status().as_u16());
                own(*response, &mut exchange)
            }
            Err(Early::Error(error)) => failed(&error, &mut exchange),
        };
        if let Some(sharing) = sharing {
            sharing.apply(response.headers_mut());
        }
        if closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Makes the response that tells a client of an error.
pub(in crate::edge) fn failed(error: &ProxyError, exchange: &mut Exchange) -> Response<ReplyBody> {
    exchange.fails(error);
    own(error.response(exchange.api), exchange)
}

/// Completes an answer of the router's own.
fn own(mut response: Response<Bytes>, exchange: &mut Exchange) -> Response<ReplyBody> {
    response.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
    if exchange.method != Method::HEAD {
        exchange.bytes = response.body().len() as u64;
        return response.map(ReplyBody::Own);
    }
    // There are clients that parse what they are told is JSON, although an answer to HEAD has no body.
    response.headers_mut().remove(CONTENT_TYPE);
    let length = response.body().len();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response.map(|_| ReplyBody::Own(Bytes::new()))
}

impl From<ProxyError> for Early {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}

impl From<Response<Bytes>> for Early {
    fn from(response: Response<Bytes>) -> Self {
        Self::Answer(Box::new(response))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Backend(body) => body.poll_piece(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Backend(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Backend(body) => body.size_hint(),
        }
    }
}
