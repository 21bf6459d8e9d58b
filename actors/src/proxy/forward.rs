//! Sends a request to an engine, and to another one when that cannot answer.
//!
//! Tried again is what another endpoint may do better: connections that fail, and the statuses 502, 503 and 504, all
//! before the first byte has reached the client. Any other answer is the engine's word on the request and passes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{HttpMessage, Request};
use actix_web::http::uri::PathAndQuery;
use actix_web::web::Bytes;
use kthena_router::inference::health::Outcome;
use kthena_router::routing::pool::PoolPolicy;
use kthena_router::scheduling::picker::PickError;

use super::error::{AttemptFailure, ProxyError};
use super::exchange::Exchange;
use super::headers::REQUEST_ID;
use super::worker::Worker;
use crate::lease::Lease;
use crate::picker::Consultation;
use crate::published::Pool;
use crate::scheduler::PickEndpoint;
use crate::upstream::{Answer, Ask, AttemptError, Body, Peer};

/// A request on its way to a pool.
pub(super) struct Outbound<'r> {
    /// The client's request.
    pub request: &'r Request,
    /// The host that it names; empty if it names none.
    pub host: &'r str,
    /// The body to send.
    pub body: Bytes,
    /// The pool that it goes to.
    pub pool: &'r Arc<Pool>,
    /// How requests are sent to the pool.
    pub policy: &'r PoolPolicy,
}

/// An engine that has begun to answer.
pub(super) struct Engine {
    /// The head of its answer, and the body still to come.
    pub answer: Answer,
    /// The reservation of its endpoint.
    pub lease: Lease,
    /// The exchange with the picker that has chosen the endpoint, if it was not the router's own.
    pub consultation: Option<Consultation>,
}

/// Has a request answered by an endpoint of its pool.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    outbound: &Outbound<'_>,
    exchange: &mut Exchange,
) -> Result<Engine, ProxyError> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut failure = AttemptFailure::Refused;
    let attempts = outbound.policy.retry_attempts as usize + 1;
    while exchange.attempts < attempts {
        if exchange.attempts > 0 && !outbound.policy.retry_interval.is_zero() {
            tokio::time::sleep(outbound.policy.retry_interval).await;
        }
        let ask = || PickEndpoint { pool: Arc::clone(outbound.pool), facts: None, tried: tried.clone() };
        let lease = match worker.pick(ask).await? {
            Ok(lease) => lease,
            // A connection may have failed because it was an old one; an engine's own word is not asked for twice.
            Err(PickError::AllTried) if !matches!(failure, AttemptFailure::Status(_)) => {
                tried.clear();
                continue;
            }
            Err(PickError::AllTried) => break,
            Err(PickError::NoEndpoints | PickError::Filtered { .. }) if exchange.attempts > 0 => break,
            Err(PickError::NoEndpoints | PickError::Filtered { .. }) => {
                return Err(ProxyError::PoolEmptied { pool: outbound.pool.key.clone() });
            }
        };
        exchange.attempts += 1;
        exchange.endpoint = Some(Arc::clone(lease.endpoint()));
        exchange.marks.sent.get_or_insert_with(Instant::now);
        let outcome = attempt(worker, outbound, exchange, &lease).await;
        worker.note_attempt(outcome.as_ref().map_or_else(Failed::label, |_| "answered"));
        match outcome {
            Ok(answer) => {
                exchange.marks.answered = Some(Instant::now());
                exchange.upstream_status = Some(answer.head.status().as_u16());
                return Ok(Engine { answer, lease, consultation: None });
            }
            Err(Failed::Timeout) => return Err(ProxyError::UpstreamTimeout),
            Err(Failed::Attempt(how)) => {
                tried.push(lease.endpoint().socket());
                failure = how;
            }
        }
    }
    Err(ProxyError::AllAttemptsFailed { attempts: exchange.attempts, failure })
}

/// How an attempt fails.
enum Failed {
    /// In a way that another endpoint may do better.
    Attempt(AttemptFailure),
    /// By taking too long, which another endpoint would add to.
    Timeout,
}

/// Sends a request to the leased endpoint, and waits for the head of its answer.
async fn attempt(
    worker: &Worker,
    outbound: &Outbound<'_>,
    exchange: &mut Exchange,
    lease: &Lease,
) -> Result<Answer, Failed> {
    let policy = outbound.policy;
    let transport = worker.door.serving.upstream.engines(policy.https);
    let peer = Peer { address: lease.endpoint().socket(), transport };
    let authority = if outbound.host.is_empty() { lease.authority().as_str() } else { outbound.host };
    let mut ask = Ask {
        method: outbound.request.method(),
        target: outbound.request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
        host: authority,
        headers: outbound.request.headers(),
        replaced: &[(REQUEST_ID, exchange.request_id.clone())],
        upgrade: None,
        body: Body::Whole(outbound.body.clone()),
        timeout: policy.timeout,
    };
    match worker.client.send(&peer, &mut ask).await {
        Ok(answer) => {
            lease.note(Outcome::Answered(answer.head.status().as_u16()));
            match answer.head.status().as_u16() {
                status @ (502..=504) => {
                    exchange.upstream_status = Some(status);
                    Err(Failed::Attempt(AttemptFailure::Status(status)))
                }
                _ => Ok(answer),
            }
        }
        Err(AttemptError::Timeout) => {
            lease.note(Outcome::Late);
            Err(Failed::Timeout)
        }
        Err(AttemptError::Connect(_)) => {
            lease.note(Outcome::Refused);
            Err(Failed::Attempt(AttemptFailure::Refused))
        }
        Err(AttemptError::Handshake(_)) => {
            lease.note(Outcome::Handshake);
            Err(Failed::Attempt(AttemptFailure::Handshake))
        }
        Err(AttemptError::Malformed(_)) => {
            lease.note(Outcome::Malformed);
            Err(Failed::Attempt(AttemptFailure::Broken))
        }
        Err(AttemptError::Broken(_)) => {
            lease.note(Outcome::Reset);
            Err(Failed::Attempt(AttemptFailure::Broken))
        }
        Err(AttemptError::RequestBody(_)) => Err(Failed::Attempt(AttemptFailure::Broken)),
    }
}

impl Failed {
    fn label(&self) -> &'static str {
        match self {
            Self::Attempt(failure) => failure.label(),
            Self::Timeout => "timeout",
        }
    }
}
