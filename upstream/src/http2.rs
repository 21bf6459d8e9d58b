//! One HTTP/2 connection, which many requests share.
//!
//! Source: RFC 9113. A request that is refused, or that a `GOAWAY` says was not taken up, may be sent again elsewhere.

mod sending;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, Reason, RecvStream};
use http::header;
use http::uri::{Authority, Scheme, Uri};
use http::{Method, StatusCode};
use http::{Request, Response};
use tracing::debug;

use super::answer::{Answer, AnswerBody, BodySize, Source};
use super::ask::{Ask, Body, BodyFault};
use super::error::{AttemptError, BodyError, Progress};
use super::headers::{self, end_to_end};
use super::pool::Clock;
use super::stream::Stream;
use super::{Peer, Transport};
use sending::{SendError, Sending};

/// How much of one answer may be under way without being asked for, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// How much of all answers of a connection may be: clients that do not read hold up nobody else's answer before that.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// The longest headers of an answer, in bytes.
const MAX_HEAD: u32 = 128 << 10;

/// A connection that takes many requests; clones share it.
#[derive(Clone)]
pub(super) struct Session {
    requests: SendRequest<Bytes>,
    state: Rc<State>,
}

/// What is known of a connection.
struct State {
    clock: Clock,
    open: Cell<bool>,
    streams: Cell<usize>,
    max_streams: Cell<usize>,
    idle_since: Cell<u64>,
    /// Whether it has answered before.
    kept: Cell<bool>,
}

/// One of a connection's streams that is in use.
struct Occupied(Rc<State>);

/// The body of an answer as it arrives.
pub(super) struct Incoming {
    /// Where it comes from; gone once it has broken off.
    stream: Option<RecvStream>,
    sending: Sending,
    _occupied: Occupied,
}

impl Session {
    /// Greets the other side on a fresh connection, and serves the connection until it ends.
    ///
    /// The other side has to answer a ping first: by then its settings are known, and with them how many streams it takes,
    /// so that none is refused.
    pub(super) async fn start(stream: Stream, clock: Clock) -> io::Result<Self> {
        let greeting = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .enable_push(false)
            .handshake(stream);
        let (requests, mut connection) = greeting.await.map_err(into_io)?;
        let mut ping_pong =
            connection.ping_pong().ok_or_else(|| io::Error::other("a fresh connection takes no ping"))?;
        let mut ping = pin!(ping_pong.ping(Ping::opaque()));
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(into_io(error))),
            Poll::Pending => ping.as_mut().poll(context).map_ok(drop).map_err(into_io),
        })
        .await?;
        let state = Rc::new(State {
            idle_since: Cell::new(clock.now()),
            clock,
            open: Cell::new(true),
            streams: Cell::new(0),
            max_streams: Cell::new(connection.max_concurrent_send_streams()),
            kept: Cell::new(false),
        });
        let watched = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let served = poll_fn(|context| {
                let served = Pin::new(&mut connection).poll(context);
                watched.max_streams.set(connection.max_concurrent_send_streams());
                served
            });
            if let Err(error) = served.await {
                debug!(%error, "connection to a backend has ended");
            }
            watched.open.set(false);
        });
        Ok(Self { requests, state })
    }

    /// Returns whether the connection takes requests, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.state.open.get()
    }

    /// Returns whether one more request would not have to wait for another one's end.
    pub(super) fn has_room(&self) -> bool {
        self.state.streams.get() < self.state.max_streams.get().max(1)
    }

    /// Returns the tick since which no request is in flight; `None` if any is.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.state.streams.get() == 0).then(|| self.state.idle_since.get())
    }
}

impl Occupied {
    fn new(state: &Rc<State>) -> Self {
        state.streams.set(state.streams.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(self.0.clock.now());
    }
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn exchange(
    session: Session,
    ask: &mut Ask<'_>,
    peer: &Peer,
    progress: &Progress,
) -> Result<Answer, AttemptError> {
    let occupied = Occupied::new(&session.state);
    let kept = session.state.kept.get();
    let request = request(ask, peer).ok_or(AttemptError::Malformed("the request cannot be put into HTTP/2"))?;
    let mut requests = session.requests.ready().await.map_err(|error| {
        // Nothing was sent: the connection takes no more requests, and must not be asked again.
        session.state.open.set(false);
        AttemptError::Broken(into_io(error))
    })?;
    let ends = matches!(ask.body, Body::Empty | Body::Gone);
    let (answering, stream) = requests.send_request(request, ends).map_err(|error| {
        session.state.open.set(false);
        AttemptError::Broken(into_io(error))
    })?;
    progress.note_send();
    let mut sending = Sending::new(stream, ask.body.take());
    let response = head(answering, &mut sending).await.map_err(|error| match error {
        HeadError::Body(fault) => AttemptError::RequestBody(fault),
        HeadError::Connection(error) => {
            if is_refused(&error) || (kept && error.is_io()) {
                progress.note_unprocessed();
            }
            AttemptError::Broken(into_io(error))
        }
    })?;
    session.state.kept.set(true);
    Ok(into_answer(response, sending, occupied, ask.method == Method::HEAD, progress.sends()))
}

/// Why there is no head of an answer.
enum HeadError {
    Body(BodyFault),
    Connection(h2::Error),
}

async fn head(mut answering: ResponseFuture, sending: &mut Sending) -> Result<Response<RecvStream>, HeadError> {
    poll_fn(|context| {
        if let Poll::Ready(Err(SendError::Body(fault))) = sending.poll(context) {
            return Poll::Ready(Err(HeadError::Body(fault)));
        }
        Pin::new(&mut answering).poll(context).map_err(HeadError::Connection)
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
    for (name, value) in end_to_end(ask.headers).filter(|(name, _)| !ask.replaces(name)) {
        headers.append(name.clone(), value.clone());
    }
    for (name, value) in ask.replaced {
        headers.append(name.clone(), value.clone());
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
) -> Answer {
    let (mut head, stream) = response.into_parts();
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let has_no_body = head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let size = match length {
        Some(length) => BodySize::Sized(length),
        None if has_no_body => BodySize::None,
        None if stream.is_end_stream() => BodySize::Sized(0),
        None => BodySize::Stream,
    };
    headers::retain_end_to_end(&mut head.headers);
    if head.status != StatusCode::NOT_MODIFIED {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let incoming = Incoming { stream: Some(stream), sending, _occupied: occupied };
    Answer { head, size, body: AnswerBody(Source::Http2(incoming)), sends }
}

impl Incoming {
    /// Returns the next piece of the body as soon as it is there, `None` at its end.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let outcome = ready!(self.poll(context));
        if outcome.is_err() {
            self.stream = None;
        }
        Poll::Ready(outcome.transpose())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        if let Poll::Ready(Err(SendError::Body(fault))) = self.sending.poll(context) {
            return Poll::Ready(Err(BodyError::RequestBody(fault)));
        }
        let broken = |error| BodyError::Broken(into_io(error));
        loop {
            let Some(piece) = ready!(stream.poll_data(context)).transpose().map_err(broken)? else {
                return Poll::Ready(Ok(None));
            };
            // The next piece may come now that somebody wants this one.
            stream.flow_control().release_capacity(piece.len()).map_err(broken)?;
            if !piece.is_empty() {
                return Poll::Ready(Ok(Some(piece)));
            }
        }
    }
}

/// Returns whether the other side says that it has not begun with a request (RFC 9113, section 8.7).
fn is_refused(error: &h2::Error) -> bool {
    let refused = error.is_remote() && error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // Of the requests that were under way, this is told to those only that the other side will not answer.
    refused || (error.is_remote() && error.is_go_away())
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
    }
    io::Error::other(error)
}
