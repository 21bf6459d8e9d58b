//! HTTP/2 on one connection: with prior knowledge, or negotiated by ALPN.
//!
//! Source: RFC 9113. A connection and its requests are one task, so that a connection with many requests has no more of
//! its thread than one with a single request. A request that its client resets drops its handler, and with it what is
//! under way for it. A connection that is idle for too long, or whose port closes, is told so by GOAWAY (section 6.8),
//! and its running requests end in their own time; the client's answer to it is not waited for without end.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::header::CONNECTION;
use http::{HeaderMap, Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::clock::Clock;
use crate::connection::Connection;
use crate::head;
use crate::incoming::Incoming;
use crate::progress::{InFlight, Overdue, yield_turn};
use crate::server::{Server, head_room, room};
use crate::service::{Refusal, Refused, Service};
use crate::stream::Stream;
use send::send;

mod send;

/// Time in which a client without requests must take its leave once it was told to.
const FAREWELL: Duration = Duration::from_secs(3);
/// Requests that are begun, and requests that are ended, in one turn of a connection.
const TURN: usize = 32;

/// Serves a connection to its end.
pub(crate) async fn serve<T, S>(server: Rc<Server<S>>, stream: Stream<T>, connection: Rc<Connection>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let limits = &server.limits;
    let progress = &connection.progress;
    progress.become_http2();
    let handshake = Builder::new()
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buffer_size(send::BUFFER)
        .handshake::<_, Bytes>(stream);
    let http2 = match timeout(limits.head_time, handshake).await {
        Ok(Ok(http2)) => http2,
        Ok(Err(error)) => return note(&server, &connection, &error),
        Err(_) => {
            server.service.refuse(&connection, &Refused { why: Refusal::TooSlow, head: None });
            return;
        }
    };
    let attend = |request, answer| {
        let in_flight = connection.progress.begin_request();
        let attended = attend(Rc::clone(&server), Rc::clone(&connection), request, answer, in_flight);
        // A handler that panics costs its own request, not those beside it.
        AssertUnwindSafe(attended).catch_unwind().map(|attended| attended.unwrap_or(After::Stay))
    };
    let mut session = Session { http2, requests: FuturesUnordered::new(), attend, leaving_since: None };
    let mut closing = pin!(server.closing.cancelled());
    let mut clock = Clock::default();
    let ended = poll_fn(|context| {
        progress.begin_turn();
        if session.leaving_since.is_none() && closing.as_mut().poll(context).is_ready() {
            session.leave();
        }
        loop {
            if let Poll::Ready(ended) = session.poll(context) {
                return Poll::Ready(ended);
            }
            let deadline = match (progress.deadline(limits), session.leaving_since) {
                (Some((_, Overdue::Request)), Some(since)) => {
                    // From the end of the last request, whose answer is yet to be written.
                    Some((since.max(progress.quiet_since()) + FAREWELL, Overdue::Request))
                }
                (deadline, _) => deadline,
            };
            if clock.poll(context, deadline.map(|(at, _)| at)).is_pending() {
                return Poll::Pending;
            }
            if session.leaving_since.is_some() || matches!(deadline, Some((_, Overdue::Reading))) {
                return Poll::Ready(Ok(()));
            }
            session.leave();
        }
    });
    if let Err(error) = ended.await {
        note(&server, &connection, &error);
    }
}

/// Notes how a connection broke: as a refusal if its client broke the protocol.
fn note<S: Service>(server: &Server<S>, connection: &Connection, error: &h2::Error) {
    debug!(peer = %connection.peer, %error, "http/2 connection broke");
    if !error.is_io() && !error.is_remote() {
        server.service.refuse(connection, &Refused { why: Refusal::Http2, head: None });
    }
}

/// What becomes of a connection after one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Stay,
    /// The answer asks the client to connect anew, as `Connection: close` does in HTTP/1.
    Leave,
}

/// A connection with its requests.
struct Session<T, A, F> {
    http2: h2::server::Connection<T, Bytes>,
    requests: FuturesUnordered<F>,
    attend: A,
    leaving_since: Option<Instant>,
}

impl<T, A, F> Session<T, A, F>
where
    T: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    F: Future<Output = After>,
{
    /// Begins no more requests, and tells the client.
    fn leave(&mut self) {
        self.leaving_since = Some(Instant::now());
        self.http2.graceful_shutdown();
    }

    /// Completes when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut left = TURN;
        while left > 0 {
            match self.http2.poll_accept(context)? {
                Poll::Ready(Some((request, answer))) => self.requests.push((self.attend)(request, answer)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
            left -= 1;
        }
        let mut ended = 0;
        while ended < TURN
            && let Poll::Ready(Some(after)) = self.requests.poll_next_unpin(context)
        {
            ended += 1;
            if after == After::Leave && self.leaving_since.is_none() {
                self.leave();
                // What tells the client is yet to be written.
                left = 0;
            }
        }
        if left == 0 || ended == TURN {
            yield_turn(context);
        }
        Poll::Pending
    }
}

/// Serves one request.
async fn attend<S: Service>(
    server: Rc<Server<S>>,
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
    _in_flight: InFlight,
) -> After {
    let limits = &server.limits;
    let (mut parts, body) = request.into_parts();
    let ends = body.is_end_stream();
    let cost = head::cost(&parts.headers);
    let head_only = parts.method == Method::HEAD;
    let admitted = head::admit(&mut parts, limits.head_fields, connection.is_tls(), ends);
    let length = head::length(&parts.headers);
    let charged = admitted.and_then(|()| {
        let ahead = usize::try_from(limits.stream_window).unwrap_or(usize::MAX);
        let room = if ends { None } else { Some(room(&connection, length, ahead).map_err(|_| Refusal::Memory)?) };
        Ok((head_room(&connection, cost).map_err(|_| Refusal::Memory)?, room))
    });
    let (response, _head) = match charged {
        Ok((head, room)) => {
            let body = if ends { Incoming::empty() } else { Incoming::http2(body, length, limits.body_pause, room) };
            let handled = Rc::clone(&server.service).handle(Rc::clone(&connection), Request::from_parts(parts, body));
            let response = tokio::select! {
                response = handled => response,
                _ = poll_fn(|context| answer.poll_reset(context)) => return After::Stay,
            };
            (response, head)
        }
        Err(why) => {
            // Nothing of the body is kept: what arrives of it is thrown away.
            drop(body);
            (server.service.refuse(&connection, &Refused { why, head: Some(&parts) }), None)
        }
    };
    let after = if asks_to_leave(response.headers()) { After::Leave } else { After::Stay };
    // In a box: a request that is not answered yet has no room for its answer.
    if let Err(unsent) = Box::pin(send(response, answer, head_only, limits.write_stall)).await {
        debug!(peer = %connection.peer, %unsent, "answer was not sent to its end");
    }
    after
}

fn asks_to_leave(headers: &HeaderMap) -> bool {
    headers.get(CONNECTION).is_some_and(|connection| connection.as_bytes().eq_ignore_ascii_case(b"close"))
}
