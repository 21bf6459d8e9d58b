//! Sends a request to an engine, and to another one when that cannot answer.
//!
//! Tried again is what another endpoint may do better: connections that fail, and the statuses 502, 503 and 504, all
//! before the first byte has reached the client. Any other answer is the engine's word on the request and passes.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{HttpMessage, Request};
use actix_web::http::header;
use actix_web::http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};
use kthena_router::inference::picker::PickError;
use kthena_router::routing::pool::PoolPolicy;

use super::error::{AttemptFailure, ProxyError};
use super::exchange::Exchange;
use super::headers::{REQUEST_ID, copy_end_to_end};
use super::worker::Worker;
use crate::lease::Lease;
use crate::metrics::AttemptLabels;
use crate::published::Pool;
use crate::scheduler::PickEndpoint;

/// A request on its way to a pool.
pub(super) struct Outbound<'r> {
    /// The client's request.
    pub request: &'r Request,
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
    pub response: ClientResponse,
    /// The reservation of its endpoint.
    pub lease: Lease,
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
        let ask = || PickEndpoint { pool: Arc::clone(outbound.pool), tried: tried.clone() };
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
        count(worker, &outcome);
        match outcome {
            Ok(response) => {
                exchange.marks.answered = Some(Instant::now());
                exchange.upstream_status = Some(response.status().as_u16());
                return Ok(Engine { response, lease });
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
) -> Result<ClientResponse, Failed> {
    let Some(uri) = uri(outbound, lease.authority()) else {
        return Err(Failed::Attempt(AttemptFailure::Broken));
    };
    let request = worker.client.request(outbound.request.method().clone(), uri).no_decompress();
    // Given the address, the client resolves no name; that of an IPv6 address it could only resolve on another thread.
    let mut request = request.address(lease.endpoint().socket());
    if let Some(timeout) = outbound.policy.timeout {
        request = request.timeout(timeout);
    }
    copy_end_to_end(outbound.request.headers(), request.headers_mut(), |name| {
        // The length is the client's to set, from the body that is sent.
        *name == header::CONTENT_LENGTH || *name == header::EXPECT || *name == REQUEST_ID
    });
    request.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
    match request.send_body(outbound.body.clone()).await {
        Ok(response) => {
            lease.note_answer();
            match response.status().as_u16() {
                status @ (502..=504) => {
                    exchange.upstream_status = Some(status);
                    Err(Failed::Attempt(AttemptFailure::Status(status)))
                }
                _ => Ok(response),
            }
        }
        Err(SendRequestError::Timeout) => Err(Failed::Timeout),
        // An established connection that ends before the answer, which is no refusal.
        Err(SendRequestError::Connect(ConnectError::Disconnected)) => Err(Failed::Attempt(AttemptFailure::Broken)),
        Err(SendRequestError::Connect(_)) => {
            lease.note_refusal();
            Err(Failed::Attempt(AttemptFailure::Refused))
        }
        Err(_) => Err(Failed::Attempt(AttemptFailure::Broken)),
    }
}

/// Returns where a request goes, made of parts that are there: nothing is written and parsed.
fn uri(outbound: &Outbound<'_>, authority: &Authority) -> Option<Uri> {
    let received = outbound.request.uri().path_and_query().cloned();
    let mut parts = Parts::default();
    parts.scheme = Some(if outbound.policy.https { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(received.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).ok()
}

fn count(worker: &Worker, outcome: &Result<ClientResponse, Failed>) {
    let outcome = match outcome {
        Ok(_) => {
            worker.answered.inc();
            return;
        }
        Err(Failed::Timeout) => "timeout",
        Err(Failed::Attempt(AttemptFailure::Refused)) => "refused",
        Err(Failed::Attempt(AttemptFailure::Broken)) => "broken",
        Err(Failed::Attempt(AttemptFailure::Status(_))) => "unavailable",
    };
    worker.door.serving.metrics.attempts.get_or_create(&AttemptLabels { outcome }).inc();
}
