//! Has a request answered by an endpoint of its backend, and tries again as the rule says.
//!
//! Source: Gateway API, `HTTPRouteRetry`, `HTTPRouteTimeouts`. Beyond what a rule says, a request whose connection cannot
//! be made goes to another endpoint: nothing of it was sent, and no backend can tell. An answer that is worth another try
//! and gets none passes to the client as it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::error::PayloadError;
use actix_web::http::header::HeaderValue;
use kthena_router::inference::health::Outcome;
use kthena_router::routing::http::route::{Retry, Rule, Timeouts};
use kthena_router::scheduling::picker::PickError;
use tokio::time::{sleep, timeout_at};

use super::super::error::{AttemptFailure, ProxyError};
use super::super::exchange::Exchange;
use super::super::forward::Engine;
use super::super::worker::Worker;
use super::Target;
use super::outbound::Outbound;
use crate::lease::Lease;
use crate::scheduler::PickEndpoint;
use crate::upstream::{Answer, Ask, AttemptError, Body, BodyFault, Peer};

/// How many further endpoints a request is offered to whose connections cannot be made.
const MOVES: u32 = 2;

/// The attempts to have one request answered.
pub(super) struct Attempts<'a> {
    worker: &'a Worker,
    target: &'a Target,
    timeouts: Timeouts,
    retry: Option<&'a Retry>,
    /// When the request has to be answered.
    deadline: Option<Instant>,
    /// The endpoints that a picker allows, the best one first; without a picker there is no such list.
    picked: Option<&'a [SocketAddr]>,
    tried: Vec<SocketAddr>,
    retries: u32,
    moves: u32,
    /// Whether an endpoint may be tried that was tried before.
    may_return: bool,
}

/// Why an attempt yields nothing that is passed on.
enum Failed {
    /// By an endpoint's doing.
    Attempt(AttemptFailure),
    /// By taking too long.
    Late,
    /// Because the client's body could not be had.
    Body(BodyFault),
}

impl<'a> Attempts<'a> {
    pub(super) fn new(worker: &'a Worker, target: &'a Target, rule: &'a Rule, deadline: Option<Instant>) -> Self {
        Self {
            worker,
            target,
            timeouts: rule.timeouts,
            retry: rule.retry.as_ref(),
            deadline,
            picked: None,
            tried: Vec::new(),
            retries: 0,
            moves: 0,
            may_return: false,
        }
    }

    /// Makes attempts at these endpoints only, in this order.
    pub(super) fn at(self, picked: Option<&'a [SocketAddr]>) -> Self {
        Self { picked, ..self }
    }

    /// Makes attempts until one succeeds; returns what it yields, and when the answer has to have ended.
    pub(super) async fn make(
        self,
        outbound: &mut Outbound<'_>,
        upgrade: Option<&HeaderValue>,
        exchange: &mut Exchange,
    ) -> Result<(Engine, Option<Instant>), ProxyError> {
        match self.deadline {
            None => self.run(outbound, upgrade, exchange).await,
            Some(deadline) => {
                let answered = timeout_at(deadline.into(), self.run(outbound, upgrade, exchange)).await;
                answered.unwrap_or(Err(ProxyError::RequestTimeout))
            }
        }
    }

    async fn run(
        mut self,
        outbound: &mut Outbound<'_>,
        upgrade: Option<&HeaderValue>,
        exchange: &mut Exchange,
    ) -> Result<(Engine, Option<Instant>), ProxyError> {
        let mut last = None;
        loop {
            let Some(lease) = self.pick().await? else { return Err(self.give_up(last, exchange)) };
            exchange.attempts += 1;
            exchange.endpoint = Some(Arc::clone(lease.endpoint()));
            let begun = Instant::now();
            exchange.marks.sent.get_or_insert(begun);
            let failed = match self.attempt(outbound, upgrade, &lease).await {
                Ok(answer) => {
                    let status = answer.head.status().as_u16();
                    exchange.upstream_status = Some(status);
                    let unwanted = self.retry.is_some_and(|retry| retry.codes.contains(&status));
                    let failed = Failed::Attempt(AttemptFailure::Status(status));
                    if !unwanted || !self.goes_on_after(&failed, outbound) {
                        self.worker.note_attempt("answered");
                        exchange.marks.answered = Some(Instant::now());
                        return Ok((Engine { answer, lease, consultation: None }, self.end_of_attempt(begun)));
                    }
                    failed
                }
                Err(failed) if self.goes_on_after(&failed, outbound) => failed,
                Err(failed) => {
                    self.worker.note_attempt(failed.label());
                    return Err(self.give_up(Some(failed), exchange));
                }
            };
            self.worker.note_attempt(failed.label());
            self.tried.push(lease.endpoint().socket());
            drop(lease);
            last = Some(failed);
            if let (Some(retry), true) = (self.retry, self.may_return) {
                sleep(retry.backoff).await;
            }
        }
    }

    /// Picks an endpoint, one that was not tried yet if there is any; `None` if none may be tried.
    async fn pick(&mut self) -> Result<Option<Lease>, ProxyError> {
        loop {
            let pool = &self.target.pool;
            let ask = || PickEndpoint { pool: Arc::clone(pool), facts: None, tried: self.tried.clone() };
            let lease = match self.picked {
                Some(picked) => Lease::first_of(pool, picked, &self.tried),
                None => self.worker.pick(ask).await?,
            };
            match lease {
                Ok(lease) => return Ok(Some(lease)),
                Err(PickError::AllTried) if self.may_return => self.tried.clear(),
                Err(PickError::AllTried | PickError::NoEndpoints | PickError::Filtered { .. }) => return Ok(None),
            }
        }
    }

    /// Sends the request to an endpoint, and waits for the head of its answer.
    async fn attempt(
        &self,
        outbound: &mut Outbound<'_>,
        upgrade: Option<&HeaderValue>,
        lease: &Lease,
    ) -> Result<Answer, Failed> {
        let peer = Peer { address: lease.endpoint().socket(), transport: self.target.transport.clone() };
        let mut ask = Ask {
            method: outbound.method,
            target: &outbound.target,
            host: if outbound.host.is_empty() { lease.authority().as_str() } else { &outbound.host },
            headers: &outbound.headers,
            replaced: &outbound.replaced,
            upgrade,
            body: std::mem::replace(&mut outbound.body, Body::Gone),
            timeout: self.timeouts.backend_request,
        };
        let outcome = self.worker.client.send(&peer, &mut ask).await;
        outbound.body = ask.body;
        let failure = match outcome {
            Ok(answer) => {
                lease.note(Outcome::Answered(answer.head.status().as_u16()));
                return Ok(answer);
            }
            Err(AttemptError::Timeout) => {
                lease.note(Outcome::Late);
                return Err(Failed::Late);
            }
            Err(AttemptError::RequestBody(fault)) => return Err(Failed::Body(fault)),
            Err(AttemptError::Connect(_)) => {
                lease.note(Outcome::Refused);
                AttemptFailure::Refused
            }
            Err(AttemptError::Handshake(_)) => {
                lease.note(Outcome::Handshake);
                AttemptFailure::Handshake
            }
            Err(AttemptError::Broken(_)) => {
                lease.note(Outcome::Reset);
                AttemptFailure::Broken
            }
            Err(AttemptError::Malformed(_)) => {
                lease.note(Outcome::Malformed);
                AttemptFailure::Broken
            }
        };
        Err(Failed::Attempt(failure))
    }

    /// Returns whether another attempt is made after this failure, and counts it.
    fn goes_on_after(&mut self, failed: &Failed, outbound: &Outbound<'_>) -> bool {
        if matches!(failed, Failed::Body(_)) || !outbound.body.is_there() {
            return false;
        }
        self.may_return = self.retry.is_some_and(|retry| self.retries < retry.attempts);
        if self.may_return {
            self.retries += 1;
            return true;
        }
        let unsent = matches!(failed, Failed::Attempt(AttemptFailure::Refused | AttemptFailure::Handshake));
        self.moves += u32::from(unsent);
        unsent && self.moves <= MOVES
    }

    /// Returns when an answer must have ended whose attempt began at `begun`.
    fn end_of_attempt(&self, begun: Instant) -> Option<Instant> {
        let own = self.timeouts.backend_request.map(|limit| begun + limit);
        self.deadline.into_iter().chain(own).min()
    }

    fn give_up(&self, last: Option<Failed>, exchange: &Exchange) -> ProxyError {
        match last {
            None => ProxyError::PoolEmptied { pool: self.target.pool.key.clone() },
            Some(Failed::Late) => ProxyError::UpstreamTimeout,
            Some(Failed::Body(BodyFault::Late)) => ProxyError::BodyTimeout,
            Some(Failed::Body(BodyFault::Read(error))) => ProxyError::BodyRead(error),
            Some(Failed::Body(BodyFault::Length)) => ProxyError::BodyRead(PayloadError::Incomplete(None)),
            Some(Failed::Attempt(failure)) => ProxyError::AllAttemptsFailed { attempts: exchange.attempts, failure },
        }
    }
}

impl Failed {
    fn label(&self) -> &'static str {
        match self {
            Self::Attempt(failure) => failure.label(),
            Self::Late => "timeout",
            Self::Body(_) => "request_body",
        }
    }
}
