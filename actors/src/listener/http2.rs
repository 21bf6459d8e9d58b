//! HTTP/2 on one connection: with prior knowledge, or negotiated by ALPN.
//!
//! Source: RFC 9113. Each stream is a task of the worker thread. A stream that its client resets drops its handler, and
//! with it what is under way for the request. A connection that is idle for too long, or whose server closes, is told so
//! by GOAWAY (section 6.8), and its running streams end in their own time.

use std::cmp::min;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use actix_http::error::PayloadError;
use actix_http::{HttpMessage, Payload, Request};
use actix_server::GracefulShutdownSignal;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::web::Bytes;
use futures::Stream;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use thiserror::Error;
use tokio::time::{error::Elapsed, sleep, timeout};
use tracing::debug;

use super::stream::ClientStream;
use crate::proxy::{self, Connection, Worker};

/// Requests that a connection may have in flight.
const MAX_STREAMS: u32 = 256;
/// The largest request head in bytes, each field with 32 bytes more; as large as in HTTP/1.1.
const MAX_HEAD: u32 = 128 << 10;
/// Bytes of a request's body that a client may send ahead.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of all request bodies of a connection that a client may send ahead.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// Bytes of an answer that are asked for to be sent at a time.
const PIECE: usize = 64 << 10;

/// Why a connection ended before its client was done.
#[derive(Debug, Error)]
pub(super) enum Http2Error {
    /// The client did not finish its preface.
    #[error("the preface did not arrive in time")]
    TooSlow(#[from] Elapsed),
    /// The client broke the protocol or the connection.
    #[error(transparent)]
    Protocol(#[from] h2::Error),
}

/// Why an answer was not sent to its end.
#[derive(Debug, Error)]
enum Unsent {
    #[error("the client has given up the request")]
    Reset,
    #[error(transparent)]
    Stream(#[from] h2::Error),
    #[error("the answer broke off")]
    BrokenOff(#[source] Box<dyn Error>),
}

/// The body of a request; what was read may be sent anew.
struct RequestBody(RecvStream);

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut self.get_mut().0;
        let piece = ready!(stream.poll_data(context)).map(|piece| {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            Ok(piece)
        });
        Poll::Ready(
            piece.map(|piece| piece.map_err(|error: h2::Error| PayloadError::Incomplete(Some(io_error(error))))),
        )
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: ClientStream,
    worker: Rc<Worker>,
    closing: &GracefulShutdownSignal,
) -> Result<(), Http2Error> {
    let limits = worker.limits();
    let connection = Connection::open(&stream, limits);
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream);
    let mut http2 = timeout(limits.client_timeout, handshake).await??;
    let mut closing = pin!(closing.notified());
    let mut leaving = false;
    loop {
        let idle = connection.left(limits.client_keep_alive);
        if !leaving && (idle.is_none() || worker.is_stopping()) {
            leaving = true;
            http2.graceful_shutdown();
        }
        tokio::select! {
            accepted = http2.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, answer) = accepted?;
                actix::spawn(attend(request, answer, Rc::clone(&connection), Rc::clone(&worker)));
            }
            () = &mut closing, if !leaving => {
                leaving = true;
                http2.graceful_shutdown();
            }
            () = sleep(idle.unwrap_or_default()), if !leaving => {}
        }
    }
}

/// Serves one request.
async fn attend(
    request: http02::Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
    connection: Rc<Connection>,
    worker: Rc<Worker>,
) {
    let head_only = request.method() == Method::HEAD;
    let request = received(request, connection);
    let response = tokio::select! {
        response = proxy::handle(worker, request) => response,
        _ = poll_fn(|context| answer.poll_reset(context)) => return,
    };
    if let Err(error) = send(response, answer, head_only).await {
        let error: &dyn Error = &error;
        debug!(error, "answer was not sent to its end");
    }
}

/// Makes a request of what a client has sent.
fn received(request: http02::Request<RecvStream>, connection: Rc<Connection>) -> Request {
    let (parts, body) = request.into_parts();
    let payload = if body.is_end_stream() {
        Payload::None
    } else {
        Payload::Stream { payload: Box::pin(RequestBody(body)) as Pin<Box<dyn Stream<Item = _>>> }
    };
    let mut request = Request::with_payload(payload);
    let head = request.head_mut();
    head.uri = parts.uri;
    head.method = parts.method;
    head.version = Version::HTTP_2;
    head.headers = parts.headers.into();
    head.peer_addr = Some(connection.peer);
    request.extensions_mut().insert(connection);
    request
}

async fn send(response: HttpResponse<BoxBody>, mut answer: SendResponse<Bytes>, head_only: bool) -> Result<(), Unsent> {
    let (response, body) = response.into_parts();
    let size = if has_no_body(response.status()) { BodySize::None } else { body.size() };
    let is_whole = head_only || size.is_eof();
    let mut stream = answer.send_response(head(&response, size), is_whole)?;
    if is_whole {
        return Ok(());
    }
    match send_body(body, &mut stream).await {
        Err(error @ Unsent::BrokenOff(_)) => {
            // Without it the client would take what it has for the whole answer.
            stream.send_reset(Reason::INTERNAL_ERROR);
            Err(error)
        }
        sent => sent,
    }
}

/// Passes a body on as fast as the client takes it.
async fn send_body(body: BoxBody, stream: &mut SendStream<Bytes>) -> Result<(), Unsent> {
    let mut body = pin!(body);
    loop {
        let next = poll_fn(|context| match stream.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(Err(Unsent::Reset)),
            Poll::Pending => body.as_mut().poll_next(context).map(Ok),
        });
        let Some(chunk) = next.await? else { break };
        let mut chunk = chunk.map_err(Unsent::BrokenOff)?;
        while !chunk.is_empty() {
            stream.reserve_capacity(min(chunk.len(), PIECE));
            let capacity = poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Unsent::Reset)??;
            stream.send_data(chunk.split_to(min(chunk.len(), capacity)), false)?;
        }
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

/// Makes the head of an answer: without what concerns a connection of HTTP/1.1 (RFC 9113, section 8.2.2).
fn head(response: &HttpResponse<()>, size: BodySize) -> http02::Response<()> {
    let mut head = http02::Response::new(());
    *head.status_mut() = response.status();
    let headers = head.headers_mut();
    for (name, value) in response.headers() {
        let is_superseded = *name == header::CONTENT_LENGTH && matches!(size, BodySize::Sized(_));
        if !is_superseded && !concerns_connection(name) {
            headers.append(name, value.clone());
        }
    }
    if let BodySize::Sized(length) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(header::DATE)
        && let Ok(now) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()))
    {
        headers.insert(header::DATE, now);
    }
    head
}

fn concerns_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

fn io_error(error: h2::Error) -> std::io::Error {
    std::io::Error::other(error)
}
