//! Requests over HTTP/2 connections, each of which many requests share.
//!
//! Source: RFC 9113. A request that is refused, or that a `GOAWAY` says was not taken up, may be sent again (section 8.7).

mod inbox;
mod sending;
mod session;
mod state;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Scheme, Uri};
use http::{Method, Request, Response, StatusCode};

pub(crate) use session::Session;

use super::answer::{Answer, AnswerBody, BodySize, Source};
use super::ask::{Ask, Body, BodyFault};
use super::error::{AttemptError, BodyError, Progress};
use super::headers::{self, end_to_end};
use super::{Peer, Transport};
use sending::{SendError, Sending};
use state::{Fenced, Lost, Occupied};

/// The body of an answer as it arrives.
pub(crate) struct Incoming {
    sending: Sending,
    occupied: Occupied,
    /// Whether the body has ended, or broken off.
    has_ended: bool,
}

/// Why there is no head of an answer.
enum HeadError {
    /// The request's own body could not be had.
    Body(BodyFault),
    Connection(h2::Error),
    Lost,
}

/// Sends a request and waits for the head of its answer.
pub(crate) async fn exchange(
    session: Session,
    ask: &mut Ask<'_>,
    peer: &Peer,
    progress: &Progress,
) -> Result<Box<Answer>, AttemptError> {
    let occupied = session.occupy();
    let request = request(ask, peer).ok_or(AttemptError::Unsendable("its target or host cannot be put into HTTP/2"))?;
    let mut requests = session.ready().await.map_err(AttemptError::Broken)?;
    let ends = matches!(ask.body, Body::Empty | Body::Gone);
    let (answering, stream) =
        requests.send_request(request, ends).map_err(|error| AttemptError::Broken(into_io(error)))?;
    progress.note_send();
    let mut sending = Sending::new(occupied.fence(stream), ask.body.take());
    let response = head(occupied.fence(answering), &mut sending, &occupied).await.map_err(|error| match error {
        HeadError::Body(fault) => AttemptError::RequestBody(fault),
        HeadError::Lost => AttemptError::Broken(Lost.into()),
        HeadError::Connection(error) if is_unprocessed(&error) => {
            progress.note_unprocessed();
            AttemptError::Broken(into_io(error))
        }
        HeadError::Connection(error) if error.is_library() && error.is_reset() => {
            AttemptError::Malformed("it breaks the rules of HTTP/2, or its head is too long")
        }
        HeadError::Connection(error) => AttemptError::Broken(into_io(error)),
    })?;
    sending.pause();
    Ok(into_answer(response, sending, occupied, ask.method == Method::HEAD, progress.sends()))
}

async fn head(
    mut answering: Fenced<ResponseFuture>,
    sending: &mut Sending,
    occupied: &Occupied,
) -> Result<Response<RecvStream>, HeadError> {
    poll_fn(|context| {
        occupied.watch(context)?;
        // A backend that takes no more of the body may still answer.
        if let Poll::Ready(Err(SendError::Body(fault))) = sending.poll(context) {
            return Poll::Ready(Err(HeadError::Body(fault)));
        }
        Pin::new(answering.inner()?).poll(context).map_err(HeadError::Connection)
    })
    .await
}

fn request(ask: &Ask<'_>, peer: &Peer) -> Option<Request<()>> {
    let scheme = if matches!(peer.transport, Transport::Tls(_)) { Scheme::HTTPS } else { Scheme::HTTP };
    let authority: Authority = ask.host.parse().ok()?;
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(ask.target).build().ok()?;
    let mut request = Request::new(());
    *request.method_mut() = ask.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.reserve(ask.headers.len() + ask.replaced.len() + 2);
    for (name, value) in end_to_end(ask.headers).filter(|(name, _)| !ask.replaces(name)) {
        headers.append(name.clone(), value.clone());
    }
    for (name, value) in ask.replaced {
        headers.append(name.clone(), value.clone());
    }
    if headers::takes_trailers(ask.headers) {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let length = match &ask.body {
        Body::Whole(bytes) => Some(bytes.len() as u64),
        Body::Stream(stream) => stream.length,
        Body::Empty | Body::Gone => None,
    };
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Some(request)
}

fn into_answer(
    response: Response<RecvStream>,
    sending: Sending,
    occupied: Occupied,
    head_only: bool,
    sends: u32,
) -> Box<Answer> {
    let (mut head, stream) = response.into_parts();
    let announced = head.headers.remove(header::CONTENT_LENGTH);
    let length = announced.as_ref().and_then(|value| value.to_str().ok()?.parse().ok());
    let is_bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let has_no_body = head_only || is_bodiless;
    let size = match length.filter(|_| !is_bodiless) {
        Some(length) => BodySize::Sized(length),
        None if has_no_body => BodySize::None,
        None if stream.is_end_stream() => BodySize::Sized(0),
        None => BodySize::Stream,
    };
    headers::retain_end_to_end(&mut head.headers);
    if let Some(length) = announced.filter(|_| head.status == StatusCode::NOT_MODIFIED) {
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    // What a backend sends as the body of an answer that has none is not read: over HTTP/1.1 it could not be told from the
    // next answer (RFC 9110, section 6.4.1).
    if !has_no_body {
        occupied.receive(stream);
    }
    let incoming = Incoming { sending, occupied, has_ended: has_no_body };
    Box::new(Answer { head, size, body: AnswerBody::new(Source::Http2(incoming)), sends })
}

impl Incoming {
    /// Returns the next piece of the body as soon as it is there, `None` at its end.
    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let outcome = ready!(self.poll(context));
        if outcome.is_err() {
            self.has_ended = true;
            self.occupied.discard();
        }
        // The reader is busy now, perhaps for long: others need the room that the backend has for requests.
        self.sending.pause();
        Poll::Ready(outcome.transpose())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        self.occupied.watch(context).map_err(|lost| BodyError::Broken(lost.into()))?;
        if let Poll::Ready(Err(SendError::Body(fault))) = self.sending.poll(context) {
            return Poll::Ready(Err(BodyError::RequestBody(fault)));
        }
        let piece = ready!(self.occupied.poll_data(context)).transpose();
        Poll::Ready(piece.map_err(|error| BodyError::Broken(into_io(error))))
    }

    /// Returns the trailers, once the body has ended.
    pub(crate) fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, BodyError>> {
        if self.has_ended {
            return Poll::Ready(Ok(None));
        }
        self.occupied.watch(context).map_err(|lost| BodyError::Broken(lost.into()))?;
        let trailers = ready!(self.occupied.poll_trailers(context));
        self.has_ended = true;
        self.occupied.discard();
        Poll::Ready(trailers.map_err(|error| BodyError::Broken(into_io(error))))
    }
}

impl From<Lost> for HeadError {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

impl From<Lost> for io::Error {
    fn from(_: Lost) -> Self {
        Self::other("the task that served the connection is gone")
    }
}

/// Returns whether the other side says that it has not begun with a request (RFC 9113, sections 6.8 and 8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // Of the requests that were under way, this is told to those only whose number is higher than the last one that the
    // other side has taken up.
    error.is_remote() && (is_refused || error.is_go_away())
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
    }
    io::Error::other(error)
}
