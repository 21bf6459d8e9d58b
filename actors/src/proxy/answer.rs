//! Passes an engine's answer to the client as it arrives.
//!
//! The body is pulled by the client's connection: while a client does not read, nothing is read from its engine, and a
//! client that leaves drops the body and with it the connection to the engine and the lease.

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
        let tap = match self.reading {
            Reading::StreamWithAddedUsage if streamed => UsageTap::strip(),
            Reading::Stream if streamed => UsageTap::observe(),
            // Errors, and answers of engines that do not stream, are whole bodies whatever was asked for.
            _ => UsageTap::whole_body(),
        };
        let size = content_length(&response).map_or(BodySize::Stream, BodySize::Sized);
        let mut builder = HttpResponse::build(status);
        let mut passed = builder.finish();
        copy_end_to_end(response.headers(), passed.headers_mut(), |name| *name == header::CONTENT_LENGTH);
        passed.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
        let status = status.as_u16();
        passed
            .set_body(AnswerBody { response, size, status, tap: Some(tap), exchange, _lease: lease })
            .map_into_boxed_body()
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
                None => return Poll::Ready(this.end().map(Ok)),
                Some(Err(error)) => {
                    this.exchange.usage = tap.usage();
                    this.exchange.breaks_off(this.status);
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(chunk)) => chunk,
            };
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

fn content_length(response: &ClientResponse) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
