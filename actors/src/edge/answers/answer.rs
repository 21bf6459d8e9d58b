//! Passes an engine's answer to the client as it arrives.
//!
//! The body is pulled by the client's connection: while a client does not read, nothing is read from its engine, and a
//! client that leaves drops the body and with it the connection to the engine and the lease.

use std::io::ErrorKind;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, Version};
use http_body::SizeHint;
use kthena_router::inference::disaggregation::PromptCounts;
use kthena_router::inference::health::Outcome;
use kthena_router::inference::model_names::ModelNames;
use kthena_router::inference::tap::{AnswerHead, Ended, Reading, Tap};
use kthena_router::pool::time_limits::Limit;
use kthena_router_upstream::{self as upstream, BodyError, BodySize};

use super::naming::Naming;
use super::pace::{Due, Pace};
use crate::edge::exchange::{Exchange, Held};
use crate::edge::heads::text;
use crate::edge::limits::tell;
use crate::ops::requests::facts::REQUEST_ID;
use crate::pools::lease::Lease;

/// A backend's answer that is about to be passed on.
pub(in crate::edge) struct Answer {
    /// The head, and the body still to come.
    pub upstream: Box<upstream::Answer>,
    /// The reservation of the endpoint that answers.
    pub lease: Lease,
    /// The reservation of the endpoint that computes the prompt while this one answers.
    pub prefill: Option<Box<Lease>>,
    /// What the endpoint that computed the prompt says of it.
    pub prompt: Option<Box<PromptCounts>>,
    /// What is known of its first piece.
    pub first: First,
}

/// What was found out of the first piece of an answer.
#[derive(Default)]
pub(in crate::edge) struct First {
    /// What has come, where it was waited for: a piece, or the end.
    pub piece: Option<Option<Result<Bytes, BodyError>>>,
    /// When it must have come.
    pub until: Option<Instant>,
}

/// How the body of an answer is passed on.
#[derive(Default)]
pub(in crate::edge) struct Passing {
    /// How it is read.
    pub reading: Reading,
    /// Gives the model the name back that the client knows.
    pub names: Option<ModelNames>,
    /// Says of the prompt what the endpoint has said that computed it.
    pub prompt: Option<Box<PromptCounts>>,
    /// Notes where its response is.
    pub naming: Option<Box<Naming>>,
}

/// The body of an answer while it is passed on.
pub struct AnswerBody {
    incoming: upstream::AnswerBody,
    size: BodySize,
    status: u16,
    /// What is left of the answer's reading; `None` once it has ended.
    tap: Option<Tap>,
    /// Why the answer is broken off, once what precedes that was sent.
    broken: Option<BodyError>,
    /// Whether the server had a moment to send it.
    is_flushed: bool,
    /// Notes where its response is, until it is known.
    naming: Option<Box<Naming>>,
    /// What has arrived while the first piece was waited for.
    first: Option<Option<Result<Bytes, BodyError>>>,
    pace: Pace,
    /// Whether a piece has arrived.
    has_begun: bool,
    /// Whether the endpoint's health was told of this attempt.
    is_noted: bool,
    exchange: Exchange,
    held: Held,
}

impl Answer {
    /// Makes an answer of which nothing but its head is known.
    pub(in crate::edge) fn new(upstream: Box<upstream::Answer>, lease: Lease) -> Self {
        Self { upstream, lease, prefill: None, prompt: None, first: First::default() }
    }
}

impl AnswerBody {
    /// Makes the response that passes an answer on; the exchange and what is held end with it.
    pub(super) fn response(
        answer: Box<upstream::Answer>,
        passing: Passing,
        mut exchange: Exchange,
        held: Held,
        (first, mut pace): (First, Pace),
    ) -> Response<Box<Self>> {
        let upstream::Answer { mut head, size, body: incoming, .. } = *answer;
        // Which version is spoken is the server's to say.
        head.version = Version::default();
        head.headers.insert(REQUEST_ID, exchange.request_id.clone());
        if let Some(reservation) = &exchange.reservation {
            tell(&reservation.standings, &mut head.headers);
        }
        let Passing { reading, names, prompt, naming } = passing;
        let seen = AnswerHead {
            content_type: text(&head.headers, CONTENT_TYPE),
            content_encoding: text(&head.headers, CONTENT_ENCODING),
        };
        exchange.stream |= seen.is_event_stream();
        let tap = Tap::new(reading, names, exchange.api, seen).with_prompt(prompt.map(|prompt| *prompt));
        let is_empty = exchange.method == Method::HEAD || matches!(size, BodySize::None | BodySize::Sized(0));
        let size = if tap.changes_length() && !is_empty { BodySize::Stream } else { size };
        let status = head.status.as_u16();
        pace.expect_first(first.until);
        if size != BodySize::Stream {
            pace.be_still();
        }
        // Made where it stays, because it is large.
        let mut body = Box::write(
            Box::new_uninit(),
            Self {
                incoming,
                size,
                status,
                tap: Some(tap),
                broken: None,
                is_flushed: false,
                naming: naming.filter(|_| head.status.is_success()),
                first: first.piece,
                pace,
                has_begun: false,
                // A bad answer was told of before its body.
                is_noted: status >= 500,
                exchange,
                held,
            },
        );
        if is_empty {
            // The server never asks for a body of which it knows that it is empty.
            body.end();
            if let BodySize::Sized(length) = size {
                head.headers.insert(CONTENT_LENGTH, length.into());
            }
        }
        Response::from_parts(head, body)
    }

    /// Returns whether nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.tap.is_none() && self.broken.is_none()
    }

    /// Returns the length that the answer has, or would have if it were sent.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.size {
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Stream => SizeHint::default(),
        }
    }

    /// Returns the next piece that is passed on, `None` at the end.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.broken.is_none() {
            let passed = ready!(self.poll_passed(context));
            if passed.is_some() || self.broken.is_none() {
                return Poll::Ready(passed.map(Ok));
            }
        }
        // The server sends what it has while it waits, and drops it at an error: the head of the answer as well.
        if !std::mem::replace(&mut self.is_flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.broken.take().map(Err))
    }

    /// Returns the next piece that is passed on; `None` at the end, and where the answer is broken.
    fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(tap) = &mut self.tap else { return Poll::Ready(None) };
            let arrived = match self.first.take() {
                Some(first) => Poll::Ready(first),
                None => self.incoming.poll_chunk(context),
            };
            let piece = match arrived {
                Poll::Pending => match self.pace.look(context) {
                    Due::Nothing => return Poll::Pending,
                    Due::End(limit) => return Poll::Ready(self.time_out(limit)),
                    Due::Heartbeat(form) => match tap.heartbeat(form) {
                        Some(heartbeat) => return Poll::Ready(Some(self.beat(heartbeat))),
                        None => continue,
                    },
                },
                Poll::Ready(None) => {
                    let leftover = self.end();
                    return Poll::Ready(leftover.map(|piece| self.count(piece)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let why = error.to_string();
                    return Poll::Ready(self.break_off(error, "upstream_reset", why, Some(Outcome::Reset)));
                }
                Poll::Ready(Some(Ok(piece))) => piece,
            };
            if self.pace.is_past_end() {
                return Poll::Ready(self.time_out(Limit::Total));
            }
            if let (Some(naming), Some(lease)) = (&mut self.naming, &self.held.lease)
                && naming.is_over(&piece, lease.endpoint())
            {
                self.naming = None;
            }
            let passed = tap.feed(piece);
            if !self.has_begun {
                self.begin();
            }
            if let Some(piece) = passed {
                return Poll::Ready(Some(self.count(piece)));
            }
        }
    }

    /// Notes that the first piece has arrived.
    fn begin(&mut self) {
        self.has_begun = true;
        if let Some(lease) = &self.held.lease {
            lease.note_first_bytes(self.exchange.stream);
        }
        // What answers has the prompt.
        self.held.prefill = None;
        self.note(Outcome::Answered(self.status));
    }

    /// Takes in what the tap has learned, and returns what was held back.
    fn end(&mut self) -> Option<Bytes> {
        let Ended { leftover, usage } = self.tap.take()?.end();
        self.exchange.completes(self.status);
        self.exchange.usage = usage;
        if let (Some(lease), Some(usage)) = (&self.held.lease, usage) {
            lease.note_tokens(usage.prompt_tokens.saturating_add(usage.completion_tokens));
        }
        self.note(Outcome::Answered(self.status));
        leftover
    }

    /// Breaks the answer off because it takes too long. One that takes as long as it may is no fault of the endpoint's.
    fn time_out(&mut self, limit: Limit) -> Option<Bytes> {
        let late = BodyError::Broken(ErrorKind::TimedOut.into());
        let outcome = Some(Outcome::Late).filter(|_| limit != Limit::Total);
        self.break_off(late, limit.code(), format!("the endpoint {limit}"), outcome)
    }

    /// Breaks the answer off, so that the client's connection breaks as well; a stream of events says `why` before.
    fn break_off(
        &mut self,
        error: BodyError,
        code: &'static str,
        why: String,
        outcome: Option<Outcome>,
    ) -> Option<Bytes> {
        let mut tap = self.tap.take().unwrap_or_default();
        let Ended { leftover: event, usage } = tap.broken(code, &why);
        self.exchange.usage = usage;
        self.exchange.breaks_off(self.status, code, why);
        if let Some(outcome) = outcome
            && !matches!(error, BodyError::RequestBody(_))
        {
            self.is_noted = false;
            self.note(outcome);
        }
        self.broken = Some(error);
        event.map(|event| self.count(event))
    }

    /// Counts a heartbeat, which is nothing that an engine has said.
    fn beat(&mut self, heartbeat: &'static str) -> Bytes {
        self.exchange.bytes += heartbeat.len() as u64;
        Bytes::from_static(heartbeat.as_bytes())
    }

    fn count(&mut self, piece: Bytes) -> Bytes {
        self.exchange.pass(&piece);
        piece
    }

    /// Tells the endpoint's health how the attempt ended: a good answer counts once its body has begun.
    fn note(&mut self, outcome: Outcome) {
        if !self.is_noted
            && let Some(lease) = &self.held.lease
        {
            self.is_noted = true;
            lease.note(outcome);
        }
    }
}
