//! Passes an engine's answer to the client as it arrives.
//!
//! The body is pulled by the client's connection: while a client does not read, nothing is read from its engine, and a
//! client that leaves drops the body and with it the connection to the engine and the lease.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header;
use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::PayloadError;
use futures::Stream;
use kthena_router::inference::usage::{Fed, Finished, UsageTap};

use super::exchange::Exchange;
use super::forward::Engine;
use super::headers::{REQUEST_ID, copy_end_to_end};
use crate::lease::Lease;

/// How an answer is read for its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// One JSON object.
    Whole,
    /// A stream of events.
    Stream,
    /// A stream of events, one of which exists only because the router asked for it, and is taken out.
    StreamWithAddedUsage,
}

/// An engine's answer that is about to be passed on.
pub(super) struct Answer {
    engine: Engine,
    reading: Reading,
}

/// The body of an answer while it is passed on.
struct AnswerBody {
    response: ClientResponse,
    size: BodySize,
    /// Bytes that the engine has announced and not sent yet; 0 if it announced none.
    missing: u64,
    /// Whether the end of the connection is the end of the answer.
    ends_with_connection: bool,
    status: u16,
    /// What is left of the answer's reading; `None` once it has ended.
    tap: Option<UsageTap>,
    exchange: Exchange,
    /// Given back when the body is dropped.
    _lease: Lease,
}

impl Answer {
    /// Makes an answer that is read as `reading` says.
    pub(super) fn new(engine: Engine, reading: Reading) -> Self {
        Self { engine, reading }
    }

    /// Makes the response that passes the answer on; `exchange` ends with it.
    pub(super) fn into_response(self, exchange: Exchange) -> HttpResponse {
        let Engine { response, lease } = self.engine;
        let status = response.status();
        let streamed = is_event_stream(&response);
        let length = content_length(&response);
        let size = length.map_or(BodySize::Stream, BodySize::Sized);
        let (tap, size) = match self.reading {
            // An announced length counts the event that is taken out.
            Reading::StreamWithAddedUsage if streamed => (UsageTap::strip(), BodySize::Stream),
            Reading::Stream if streamed => (UsageTap::observe(), size),
            // Errors, and answers of engines that do not stream, are whole bodies whatever was asked for.
            _ => (UsageTap::whole_body(), size),
        };
        let mut builder = HttpResponse::build(status);
        let mut passed = builder.finish();
        copy_end_to_end(response.headers(), passed.headers_mut(), |name| *name == header::CONTENT_LENGTH);
        passed.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
        let status = status.as_u16();
        let mut body = AnswerBody {
            size,
            missing: length.unwrap_or_default(),
            ends_with_connection: length.is_none() && !response.headers().contains_key(header::TRANSFER_ENCODING),
            response,
            status,
            tap: Some(tap),
            exchange,
            _lease: lease,
        };
        if size == BodySize::Sized(0) {
            // The server never asks for a body of which it knows that it is empty.
            body.end();
        }
        passed.set_body(body).map_into_boxed_body()
    }
}

impl AnswerBody {
    /// Takes in what the tap has learned, and returns what it held back.
    fn end(&mut self) -> Option<Bytes> {
        let Finished { leftover, usage } = self.tap.take()?.finish();
        self.exchange.usage = usage;
        self.exchange.completes(self.status);
        leftover.map(Bytes::from)
    }

    /// Notes that the engine broke the answer off, so that the client's connection breaks as well.
    fn break_off(&mut self, error: PayloadError) -> PayloadError {
        self.exchange.usage = self.tap.as_ref().and_then(UsageTap::usage);
        self.exchange.breaks_off(self.status);
        error
    }
}

impl MessageBody for AnswerBody {
    type Error = PayloadError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let this = self.get_mut();
        loop {
            let Some(tap) = &mut this.tap else { return Poll::Ready(None) };
            let chunk = match ready!(Pin::new(&mut this.response).poll_next(context)) {
                None if this.missing > 0 => {
                    return Poll::Ready(Some(Err(this.break_off(PayloadError::Incomplete(None)))));
                }
                None => return Poll::Ready(this.end().map(Ok)),
                Some(Err(error)) if this.ends_with_connection && is_end(&error) => {
                    return Poll::Ready(this.end().map(Ok));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(this.break_off(error)))),
                Some(Ok(chunk)) => chunk,
            };
            this.missing = this.missing.saturating_sub(chunk.len() as u64);
            let passed = match tap.feed(&chunk) {
                Fed::Unchanged => chunk,
                Fed::Slice(range) => chunk.slice(range),
                Fed::Replaced(bytes) => Bytes::from(bytes),
                Fed::Nothing => continue,
            };
            return Poll::Ready(Some(Ok(passed)));
        }
    }
}

fn is_event_stream(response: &ClientResponse) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.starts_with("text/event-stream"))
}

/// Returns whether an error is no more than the end of the connection.
fn is_end(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Incomplete(Some(error)) if error.kind() == ErrorKind::UnexpectedEof)
}

fn content_length(response: &ClientResponse) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
