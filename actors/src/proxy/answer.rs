//! Passes an engine's answer to the client as it arrives.
//!
//! The body is pulled by the client's connection: while a client does not read, nothing is read from its engine, and a
//! client that leaves drops the body and with it the connection to the engine and the lease.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_http::Response;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::{Method, StatusCode, header};
use actix_web::web::Bytes;
use kthena_router::inference::model_names::ModelNames;
use kthena_router::inference::usage::{Fed, Finished, UsageTap};
use tokio::time::{Sleep, sleep_until};

use super::body::WithUnread;
use super::exchange::Exchange;
use super::forward::Engine;
use super::headers::REQUEST_ID;
use super::tunnel;
use crate::lease::Lease;
use crate::picker::Consultation;
use crate::upstream::{self, BodyError};

/// How an answer is read for its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Not at all.
    Unread,
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
    names: Option<ModelNames>,
    deadline: Option<Instant>,
    unread: Option<Payload>,
}

/// What is learned from an answer.
enum Tap {
    /// What the engine says it consumed.
    Usage(UsageTap),
    /// Nothing.
    Nothing,
}

/// The body of an answer while it is passed on.
struct AnswerBody {
    incoming: upstream::AnswerBody,
    size: BodySize,
    status: u16,
    /// What is left of the answer's reading; `None` once it has ended.
    tap: Option<Tap>,
    /// Gives the model its name back.
    names: Option<ModelNames>,
    /// When it has to have ended.
    deadline: Option<Pin<Box<Sleep>>>,
    exchange: Exchange,
    /// Given back when the body is dropped.
    _lease: Lease,
    /// Ended at the same time.
    _consultation: Option<Consultation>,
}

impl Answer {
    /// Makes an answer that is read as `reading` says.
    pub(super) fn new(engine: Engine, reading: Reading) -> Self {
        Self { engine, reading, names: None, deadline: None, unread: None }
    }

    /// Has a model's name changed in the answer.
    pub(super) fn renamed(self, names: Option<ModelNames>) -> Self {
        Self { names, ..self }
    }

    /// Breaks the answer off if it has not ended at that time.
    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Keeps what follows the request, for the tunnel that the answer may be the beginning of.
    pub(super) fn or_tunnel(self, unread: Payload) -> Self {
        Self { unread: Some(unread), ..self }
    }

    /// Makes the response that passes the answer on; `exchange` ends with it.
    pub(super) fn into_response(self, exchange: Exchange) -> HttpResponse {
        let Engine { answer, lease, consultation } = self.engine;
        let upstream::Answer { mut head, size, body: incoming } = answer;
        let streamed = is_event_stream(&head);
        let (tap, size) = match self.reading {
            // An announced length counts the event that is taken out.
            Reading::StreamWithAddedUsage if streamed => (Tap::Usage(UsageTap::strip()), BodySize::Stream),
            Reading::Stream if streamed => (Tap::Usage(UsageTap::observe()), size),
            Reading::Unread => (Tap::Nothing, size),
            // Errors, and answers of engines that do not stream, are whole bodies whatever was asked for.
            _ => (Tap::Usage(UsageTap::whole_body()), size),
        };
        head.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            return tunnel::response(head, incoming, self.unread.unwrap_or(Payload::None), exchange, lease);
        }
        // Names differ in length.
        let is_empty = matches!(size, BodySize::None | BodySize::Sized(0));
        let size = if self.names.is_some() && !is_empty { BodySize::Stream } else { size };
        let status = head.status().as_u16();
        let deadline = self.deadline.map(|deadline| Box::pin(sleep_until(deadline.into())));
        let head_only = exchange.request.method() == Method::HEAD;
        let mut body = AnswerBody {
            incoming,
            size,
            status,
            tap: Some(tap),
            names: self.names,
            deadline,
            exchange,
            _lease: lease,
            _consultation: consultation,
        };
        if head_only || is_empty {
            // The server never asks for a body of which it knows that it is empty.
            body.end();
        }
        HttpResponse::from(head.set_body(body)).map_body(|_, body| match self.unread {
            None => BoxBody::new(body),
            Some(unread) => BoxBody::new(WithUnread::new(BoxBody::new(body), unread)),
        })
    }
}

impl AnswerBody {
    /// Returns whether the time for the answer is over.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.tap.is_some() && self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }

    /// Takes in what the tap has learned, and returns what was held back.
    fn end(&mut self) -> Option<Bytes> {
        let tap = self.tap.take()?;
        self.exchange.completes(self.status);
        let mut leftover = None;
        if let Tap::Usage(mut tap) = tap {
            let Finished { leftover: held, usage } = tap.finish();
            self.exchange.usage = usage;
            leftover = held;
        }
        if let Some(names) = &mut self.names {
            let held = [names.feed(leftover.unwrap_or_default().into()), names.finish()].concat();
            leftover = Some(held).filter(|held| !held.is_empty());
        }
        leftover.map(Bytes::from)
    }

    /// Notes that the engine broke the answer off, so that the client's connection breaks as well.
    fn break_off(&mut self, error: BodyError) -> BodyError {
        self.exchange.usage = match self.tap.take() {
            Some(Tap::Usage(tap)) => tap.usage(),
            Some(Tap::Nothing) | None => None,
        };
        self.exchange.breaks_off(self.status);
        error
    }
}

impl MessageBody for AnswerBody {
    type Error = BodyError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let this = self.get_mut();
        if this.is_late(context) {
            let late = BodyError::Broken(ErrorKind::TimedOut.into());
            return Poll::Ready(Some(Err(this.break_off(late))));
        }
        loop {
            let Some(tap) = &mut this.tap else { return Poll::Ready(None) };
            let chunk = match ready!(this.incoming.poll_chunk(context)) {
                None => return Poll::Ready(this.end().map(Ok)),
                Some(Err(error)) => return Poll::Ready(Some(Err(this.break_off(error)))),
                Some(Ok(chunk)) => chunk,
            };
            let passed = match tap {
                Tap::Nothing => chunk,
                Tap::Usage(tap) => match tap.feed(&chunk) {
                    Fed::Unchanged => chunk,
                    Fed::Slice(range) => chunk.slice(range),
                    Fed::Replaced(bytes) => Bytes::from(bytes),
                    Fed::Nothing => continue,
                },
            };
            let Some(names) = &mut this.names else { return Poll::Ready(Some(Ok(passed))) };
            let renamed = names.feed(passed);
            if !renamed.is_empty() {
                return Poll::Ready(Some(Ok(renamed)));
            }
        }
    }
}

fn is_event_stream(head: &Response<()>) -> bool {
    let content_type = head.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| content_type.starts_with("text/event-stream"))
}
