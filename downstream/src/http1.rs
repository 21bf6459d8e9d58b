//! HTTP/1 on one connection.
//!
//! hyper reads and writes the messages, one request at a time, so that each has its own framing. What it leaves to its
//! user is here: one timer for all that a client can be too slow for, turns that end, answers for clients that are cut
//! off, and a moment for those who are still sending when they have their answer.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts as Head;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming as HyperBody;
use hyper::server::conn::http1::{Builder, Connection as Http1, Parts};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use crate::answer::Answer;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::connection::Connection;
use crate::head;
use crate::incoming::Incoming;
use crate::limits::Limits;
use crate::linger::linger;
use crate::progress::{InFlight, Overdue};
use crate::rest::{Shape, rest};
use crate::server::{Server, head_room, room};
use crate::service::{Refusal, Refused, Service};
use crate::stream::Stream;
use crate::upgraded::Upgraded;

/// The least that hyper can read a head into.
const LEAST_BUFFER: usize = 8 << 10;
/// A body of up to this length that nobody wants is read all the same, if it is there already: the connection lives on.
const CHEAP_REST: u64 = 8 << 10;

/// Time for what is said to a client that is cut off, and for those who are still sending when the port closes.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// What a client hears that takes too long for a head.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// What a client hears for whose head there is no memory.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What the requests of one connection share.
struct Requests<S: Service> {
    server: Rc<Server<S>>,
    connection: Rc<Connection>,
    /// Waits for the connection, for a request that asks to change the protocol.
    tunnel: RefCell<Option<oneshot::Sender<Upgraded>>>,
    /// Whether the client may still be sending a body that nobody reads.
    is_unread: Cell<bool>,
    /// The request that the service has.
    current: RefCell<Option<Current<S::Body>>>,
    /// The answer to the request that hyper is shown next, which has waited for it without hyper.
    ready: RefCell<Option<Response<Answer<S::Body>>>>,
}

/// A request while the service answers it.
struct Current<B> {
    answering: Pin<Box<dyn Future<Output = Response<B>>>>,
    in_flight: InFlight,
    head: Option<Charge>,
    /// The length of its body, if that is known.
    length: Option<u64>,
    /// Whether the body was read to its end; `None` if there is none.
    ended: Option<Rc<Cell<bool>>>,
    shape: Shape,
}

/// How hyper's part of a connection ended.
enum Ended {
    Done(hyper::Result<()>),
    Overdue(Overdue),
    /// The request waits, and needs nothing of hyper until it has its answer.
    Resting,
}

/// Serves a connection to its end.
pub(crate) fn serve<T, S>(
    server: Rc<Server<S>>,
    stream: Stream<T>,
    connection: Rc<Connection>,
) -> impl Future<Output = ()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let mut stream = stream.kept();
    let requests = Rc::new(Requests {
        server,
        connection,
        tunnel: RefCell::new(None),
        is_unread: Cell::new(false),
        current: RefCell::new(None),
        ready: RefCell::new(None),
    });
    // No `async fn`, which would have room for the connection twice.
    async move {
        loop {
            // In boxes: a connection that rests has room for neither.
            let (ended, ahead);
            (ended, stream, ahead) = Box::pin(requests.speak(stream)).await;
            if !matches!(ended, Ended::Resting) {
                requests.current.take();
                return Box::pin(requests.part(ended, stream, ahead)).await;
            }
            if !requests.rest(&mut stream, ahead).await {
                return;
            }
        }
    }
}

impl<S: Service> Requests<S> {
    /// Has hyper speak on the connection until it is done, or rests. Returns the connection, and what was read ahead.
    async fn speak<T>(self: &Rc<Self>, stream: Stream<T>) -> (Ended, Stream<T>, Bytes)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (server, progress) = (&self.server, &self.connection.progress);
        let mut http1 = self.begin(stream);
        let mut closing = pin!(server.closing.cancelled());
        let (mut is_leaving, mut told) = (false, Waker::noop().clone());
        let mut has_answer = self.ready.borrow().is_some();
        let mut clock = Clock::default();
        let mut done = None;
        let ended = poll_fn(|context| {
            progress.begin_turn();
            // Who is told already is not told again: that costs more than to look.
            let is_told = told.will_wake(context.waker()) && !server.closing.is_cancelled();
            if std::mem::take(&mut has_answer) {
                // hyper is shown the request first: told to leave before, it would do so without an answer.
                context.waker().wake_by_ref();
            } else if !is_leaving && !is_told {
                told.clone_from(context.waker());
                if closing.as_mut().poll(context).is_ready() {
                    is_leaving = true;
                    Pin::new(&mut http1).graceful_shutdown();
                }
            }
            while let Poll::Ready(again) = Pin::new(&mut http1).poll(context) {
                // hyper 1.12 does not wait for its last bytes to be sent where a request has asked to change the protocol,
                // even if it was not changed: it is asked a second time, which waits.
                match done.take() {
                    None if again.as_ref().map_or_else(hyper::Error::is_parse, |()| true) => done = Some(again),
                    None => return Poll::Ready(Ended::Done(again)),
                    Some(done) => return Poll::Ready(Ended::Done(done)),
                }
            }
            if progress.may_rest() && self.is_all_read() {
                return Poll::Ready(Ended::Resting);
            }
            let deadline = progress.deadline(&server.limits);
            clock
                .poll(context, deadline.map(|(at, _)| at))
                .map(|()| Ended::Overdue(deadline.map_or(Overdue::Request, |(_, overdue)| overdue)))
        });
        let ended = ended.await;
        let Parts { io, read_buf, .. } = http1.into_parts();
        (ended, io.into_inner(), read_buf)
    }

    /// Gives hyper the connection.
    fn begin<T>(
        self: &Rc<Self>,
        stream: Stream<T>,
    ) -> Http1<TokioIo<Stream<T>>, impl HttpService<HyperBody, ResBody = Answer<S::Body>, Error = Infallible> + use<T, S>>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (requests, head_bytes) = (Rc::clone(self), self.server.limits.head_bytes);
        Builder::new()
            .header_read_timeout(None)
            // With a queue of buffers, hyper 1.12 puts its 400 to a malformed request in front of what is left of the answer
            // before it.
            .writev(false)
            .max_header_size(head_bytes)
            .max_buf_size(head_bytes.max(LEAST_BUFFER))
            .serve_connection(
                TokioIo::new(stream),
                // In a box it is not moved, and a connection without a request has no room for one.
                service_fn(move |request| Box::pin(Rc::clone(&requests).attend(request))),
            )
    }

    /// Answers one request.
    async fn attend(self: Rc<Self>, request: Request<HyperBody>) -> Result<Response<Answer<S::Body>>, Infallible> {
        if let Some(answer) = self.ready.take() {
            return Ok(answer);
        }
        let in_flight = self.connection.progress.begin_request();
        if self.connection.progress.is_turn_over() {
            tokio::task::yield_now().await;
        }
        if let Some(refused) = self.give(request, in_flight) {
            return Ok(refused);
        }
        Ok(poll_fn(|context| self.poll_current(context)).await)
    }

    /// Gives a request to the service, or returns the answer that refuses it.
    fn give(&self, request: Request<HyperBody>, in_flight: InFlight) -> Option<Response<Answer<S::Body>>> {
        let server = &self.server;
        let (mut parts, body) = request.into_parts();
        let wants_upgrade = !parts.extensions.is_empty();
        // hyper's own way to an upgrade needs connections that can be sent to other threads.
        parts.extensions.clear();
        let length = http_body::Body::size_hint(&body).exact();
        let (head, room) = match self.admit(&mut parts, length) {
            Ok(charges) => charges,
            Err(why) => {
                let mut answer = server.service.refuse(&self.connection, &Refused { why, head: Some(&parts) });
                close(&mut answer);
                self.is_unread.set(length != Some(0));
                return Some(answer.map(|body| Answer::new(body, in_flight, None)));
            }
        };
        let (mut incoming, ended) = if length == Some(0) {
            (Incoming::empty(), None)
        } else {
            let ended = Rc::new(Cell::new(false));
            let incoming = Incoming::http1(body, server.limits.body_pause, room);
            (incoming.noting_end(Rc::clone(&ended)), Some(ended))
        };
        // A body is read to its end before the protocol changes: offers beside one are passed over.
        if wants_upgrade && length == Some(0) {
            let (tunnel, upgrade) = oneshot::channel();
            *self.tunnel.borrow_mut() = Some(tunnel);
            incoming = incoming.with_upgrade(upgrade);
        }
        let shape = Shape::of(&parts);
        let request = Request::from_parts(parts, incoming);
        let answering = Rc::clone(&server.service).handle(Rc::clone(&self.connection), request);
        *self.current.borrow_mut() = Some(Current { answering, in_flight, head, length, ended, shape });
        None
    }

    /// Waits for the service's answer to its request.
    fn poll_current(&self, context: &mut Context<'_>) -> Poll<Response<Answer<S::Body>>> {
        let mut current = self.current.borrow_mut();
        // A request that is gone has no answer.
        let Some(Current { answering, .. }) = &mut *current else { return Poll::Pending };
        let mut answer = ready!(answering.as_mut().poll(context));
        let Some(Current { in_flight, head, length, ended, .. }) = current.take() else { return Poll::Pending };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.tunnel.take();
        }
        if let Some(ended) = ended
            && !ended.get()
        {
            self.is_unread.set(true);
            // Nobody else has the body: nobody will read it.
            let is_dropped = Rc::strong_count(&ended) == 1;
            if is_dropped && length.is_none_or(|length| length > CHEAP_REST) {
                close(&mut answer);
            }
        } else {
            self.is_unread.set(false);
        }
        Poll::Ready(answer.map(|body| Answer::new(body, in_flight, head)))
    }

    /// Returns whether the service has a request of which nothing is still to come, and hyper knows no more than its head.
    fn is_all_read(&self) -> bool {
        let current = self.current.borrow();
        let is_all_read = |current: &Current<_>| current.ended.as_ref().is_none_or(|ended| ended.get());
        current.as_ref().is_some_and(|current| current.length.is_some() && is_all_read(current))
            && self.tunnel.borrow().is_none()
    }

    /// Waits for the answer to a request without hyper; returns whether there is one, and the client has not left.
    async fn rest<T>(&self, stream: &mut Stream<T>, ahead: Bytes) -> bool
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shape = self.current.borrow().as_ref().map(|current| current.shape.clone());
        let Some(shape) = shape else { return false };
        let Some(mut answer) = rest(stream, ahead, &shape, |context| self.poll_current(context)).await else {
            debug!(peer = %self.connection.peer, "client left while its request waited");
            return false;
        };
        if self.server.closing.is_cancelled() {
            close(&mut answer);
        }
        *self.ready.borrow_mut() = Some(answer);
        true
    }

    /// Checks a head whose body has this length, if it is known, and takes the memory for it and for the body.
    fn admit(&self, parts: &mut Head, length: Option<u64>) -> Result<(Option<Charge>, Option<Charge>), Refusal> {
        let limits = &self.server.limits;
        let cost = head::cost(&parts.headers);
        let is_chunked = parts.headers.contains_key(TRANSFER_ENCODING);
        // hyper takes a length beside chunks out. It closes the connection after the answer, but whether others on the way
        // read the request as it does is not known (RFC 9112, section 6.1).
        if self.connection.progress.has_line(is_chunked.then_some(b"content-length")) {
            return Err(Refusal::Length);
        }
        head::admit(parts, limits.head_fields, self.connection.is_tls(), false)?;
        let head = head_room(&self.connection, cost).map_err(|_| Refusal::Memory)?;
        let ahead = limits.head_bytes.max(LEAST_BUFFER);
        let room = if length == Some(0) { Ok(None) } else { room(&self.connection, length, ahead).map(Some) };
        Ok((head, room.map_err(|_| Refusal::Memory)?))
    }

    /// Does what is left to do on a connection that hyper is done with.
    async fn part<T>(&self, ended: Ended, mut stream: Stream<T>, ahead: Bytes)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if matches!(ended, Ended::Done(Ok(())))
            && let Some(tunnel) = self.tunnel.take()
        {
            return self.pass_on(tunnel, stream, ahead).await;
        }
        let Some(last_word) = self.last_word(&ended) else { return };
        if !last_word.is_empty()
            && !timeout(LAST_MOMENT, stream.write_all(last_word)).await.is_ok_and(|written| written.is_ok())
        {
            return;
        }
        let Limits { linger_time, linger_bytes, .. } = self.server.limits;
        let mut lingering = pin!(linger(stream, linger_time, linger_bytes));
        tokio::select! {
            biased;
            () = &mut lingering => return,
            () = self.server.closing.cancelled() => {}
        }
        // A port that closes waits for nobody who has the answer, and a moment for those who are still sending.
        if self.is_unread.get() {
            timeout(LAST_MOMENT, lingering).await.ok();
        }
    }

    /// Returns what the client hears last, beside what hyper has told it; `None` if nobody is there to hear it.
    fn last_word(&self, ended: &Ended) -> Option<&'static [u8]> {
        match ended {
            Ended::Done(Ok(())) | Ended::Overdue(Overdue::Request) | Ended::Resting => Some(b""),
            Ended::Done(Err(error)) => {
                let Some(why) = Refusal::of(error) else {
                    debug!(peer = %self.connection.peer, %error, "connection broke");
                    return None;
                };
                self.refuse(why);
                Some(if why == Refusal::Memory { UNAVAILABLE } else { b"" })
            }
            Ended::Overdue(Overdue::Head) => {
                self.refuse(Refusal::TooSlow);
                Some(REQUEST_TIMEOUT)
            }
            Ended::Overdue(Overdue::Reading) => {
                debug!(peer = %self.connection.peer, "client does not read its answer");
                None
            }
        }
    }

    /// Has the service note what is refused; the client has its answer already, or gets one of no more words.
    fn refuse(&self, why: Refusal) {
        self.is_unread.set(true);
        self.server.service.refuse(&self.connection, &Refused { why, head: None });
    }

    /// Gives the connection to who answered that it changes the protocol, and waits for its end.
    async fn pass_on<T>(&self, tunnel: oneshot::Sender<Upgraded>, stream: Stream<T>, ahead: Bytes)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let progress = &self.connection.progress;
        let _in_flight = progress.begin_request();
        progress.become_upgraded();
        let (ends, ended) = oneshot::channel();
        if tunnel.send(Upgraded::new(ahead, stream.unkept(), self.server.limits.write_stall, ends)).is_ok() {
            // Its end is all that is told.
            ended.await.ok();
        }
    }
}

/// Has the connection end with an answer.
fn close<B>(answer: &mut Response<B>) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}
