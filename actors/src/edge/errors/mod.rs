//! Why the router answers a request itself, with what status and in what words.
//!
//! The body has OpenAI's shape, `{"error":{"message","type","param","code"}}`, because clients parse it; an error of
//! the messages API has Anthropic's.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use kthena_router::inference::api::Api;
use kthena_router::inference::coding::ACCEPTED;
use kthena_router::inference::error_body::ApiError;
use kthena_router::inference::understood::NotUnderstood;
use kthena_router::object::{ObjectKey, PoolKey};
use kthena_router::pool::time_limits::Limit;
use kthena_router::request_head::path::PathFault;
use kthena_router::scheduling::objective::{DROPPED_REASONS, REJECTED_NO_ENDPOINTS, REJECTED_SATURATED};
use kthena_router_downstream::{Exhausted, ReadError, Refusal};
use thiserror::Error;

use crate::edge::ext_proc::Fault;
use crate::edge::limits::{Refused, tell};
use crate::pools::turnstile::Dropped;

/// Why the router answers a request itself.
#[derive(Debug, Error)]
pub(super) enum ProxyError {
    /// The server refused the request before anybody else saw it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The path could be read in two ways.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// The body is not what an inference API takes.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// The body did not arrive whole.
    #[error(transparent)]
    Body(#[from] ReadError),
    /// The body is larger than allowed.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no memory for the body.
    #[error(transparent)]
    Memory(#[from] Exhausted),
    /// No listener serves the host.
    #[error("no listener serves the host `{host}`")]
    NoListener {
        /// The request's host.
        host: String,
    },
    /// The connection was made for another listener than the request's host belongs to.
    #[error("the host `{host}` is not served on a connection for the server name `{server_name}`")]
    Misdirected {
        /// The request's host.
        host: String,
        /// The server name that the client asked for; empty if it named none.
        server_name: String,
    },
    /// No route serves the model.
    #[error("route not found: no ModelRoute of this listener serves the model `{model}`")]
    NoModel {
        /// The requested model.
        model: Arc<str>,
        /// Whether it is the model itself that was asked for, and not an answer of it.
        itself: bool,
    },
    /// No route serves the method and the path, or the path is not a client's to ask for.
    #[error("`{method} {path}` is not served by a route of this listener")]
    NoRoute {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// Whether there are HTTPRoutes, so that a path could be served.
        has_rules: bool,
    },
    /// The rule, or the backend that was chosen, cannot be used.
    #[error("the route `{route}` cannot be served: {reason}")]
    Invalid {
        /// The route.
        route: ObjectKey,
        /// What is wrong.
        reason: &'static str,
    },
    /// The response that the request is about is nowhere to be found.
    #[error("Response with id '{id}' not found: {why}")]
    NoResponse {
        /// The response.
        id: String,
        /// Why.
        why: Missing,
    },
    /// Nothing is there to serve the request.
    #[error(transparent)]
    NoEndpoint(#[from] NoEndpoint),
    /// A limit on tokens is reached.
    #[error("{0}")]
    RateLimited(Box<Refused>),
    /// Too many requests are in flight.
    #[error("too many requests are in flight")]
    Overloaded,
    /// The request can be refused, and its pool has too much to do.
    #[error("the {pool} is saturated, and the request has a priority below 0")]
    Saturated {
        /// The pool.
        pool: PoolKey,
        /// After how many seconds it may be worth another try.
        retry_after: u32,
    },
    /// The request did not get its turn.
    #[error("{}", untimely(pool, *dropped))]
    Dropped {
        /// The pool that it waited for.
        pool: PoolKey,
        /// Why.
        dropped: Dropped,
        /// After how many seconds it may be worth another try.
        retry_after: u32,
    },
    /// Every attempt failed.
    #[error("{}{failure}", course(*attempts))]
    Failed {
        /// The number of attempts.
        attempts: u32,
        /// What the last endpoint did.
        failure: AttemptFailure,
    },
}

/// Why a response is nowhere to be found.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Missing {
    /// The engine that has made it is gone, or was started anew.
    #[error("the engine that had it is gone, and with it the response")]
    Gone,
    /// No engine has it.
    #[error("no engine has it")]
    Unknown,
    /// No engine has said that it has it, and so many have said nothing.
    #[error("{0} of the engines that may have it cannot be asked")]
    Unsaid(usize),
    /// Too many requests are looking for a response.
    #[error("too many responses are being looked for")]
    Crowded,
}

/// Why nothing is there to serve a request.
#[derive(Debug, Error)]
pub(super) enum NoEndpoint {
    /// No target of a ModelRoute has an endpoint.
    #[error("no endpoint of the ModelRoute `{route}` is ready{}", clauses(unresolved))]
    Route {
        /// The route.
        route: ObjectKey,
        /// Why some of its targets lead nowhere.
        unresolved: Vec<String>,
    },
    /// The pool has no endpoint.
    #[error("no endpoint of the {pool} is ready")]
    Pool {
        /// The pool.
        pool: PoolKey,
    },
    /// The pool's endpoint picker is of no help, and the pool wants no other one.
    #[error("no endpoint of the {pool} was picked: {fault}")]
    Picker {
        /// The pool.
        pool: PoolKey,
        /// What is wrong with its picker.
        fault: Fault,
    },
    /// The pool refers to an endpoint picker that is not there.
    #[error("the {pool} has no endpoint picker: {reason}")]
    NoPicker {
        /// The pool.
        pool: PoolKey,
        /// Why the reference leads nowhere.
        reason: String,
    },
    /// The scheduler is gone, and so is the one that took its place.
    #[error("the scheduler does not answer")]
    Scheduler,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum AttemptFailure {
    /// No connection could be made.
    #[error("refused the connection")]
    Refused,
    /// It accepted the connection, and did not agree on TLS or HTTP/2.
    #[error("did not agree on TLS or HTTP/2")]
    Handshake,
    /// The connection broke before the answer began.
    #[error("closed the connection before it answered")]
    Broken,
    /// What it answered is no HTTP, or more than the router takes.
    #[error("gave an answer that cannot be read: {0}")]
    Malformed(&'static str),
    /// It computed a prompt for another endpoint, which cannot go on from what it answered.
    #[error("computed the prompt and handed nothing over that another endpoint could go on from")]
    Handover,
    /// A limit on the time was reached.
    #[error(transparent)]
    Late(#[from] Limit),
}

impl AttemptFailure {
    /// Returns what metrics call it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Handshake => "handshake",
            Self::Broken => "broken",
            Self::Malformed(_) => "malformed",
            Self::Handover => "handover",
            Self::Late(limit @ (Limit::Connect | Limit::FirstToken)) => limit.code(),
            Self::Late(_) => "timeout",
        }
    }

    /// Returns whether no time is left for the request itself.
    pub(super) const fn ends_request(self) -> bool {
        matches!(self, Self::Late(Limit::Request | Limit::Total))
    }

    /// Returns what metrics call it where the endpoint was to compute a prompt for another one.
    pub(super) const fn prefill_label(self) -> &'static str {
        match self {
            Self::Refused => "prefill_refused",
            Self::Handshake => "prefill_handshake",
            Self::Broken => "prefill_broken",
            Self::Malformed(_) => "prefill_malformed",
            Self::Handover => "prefill_handover",
            Self::Late(_) => "prefill_timeout",
        }
    }
}

fn clauses(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("; {reason}")).collect()
}

impl ProxyError {
    /// Returns the status that the client gets.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status().unwrap_or(StatusCode::BAD_REQUEST),
            Self::NotUnderstood(NotUnderstood::Encoded { .. } | NotUnderstood::NotJson { .. }) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::Body(ReadError::Late) => StatusCode::REQUEST_TIMEOUT,
            Self::Path(_) | Self::NotUnderstood(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoResponse { why: Missing::Unsaid(_) | Missing::Crowded, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoListener { .. } | Self::NoModel { .. } | Self::NoRoute { .. } | Self::NoResponse { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Misdirected { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::Invalid { .. } | Self::NoEndpoint(NoEndpoint::NoPicker { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Dropped { dropped: Dropped::NoEndpoints, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Overloaded | Self::RateLimited(_) | Self::Saturated { .. } | Self::Dropped { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Failed { failure: AttemptFailure::Late(_), .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Memory(_) | Self::NoEndpoint(_) | Self::Failed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the reason in one word, for logs, metrics and the answer's `code`; the Go router's where it has one.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Memory) | Self::Memory(_) => "memory",
            Self::Refused(Refusal::TooSlow) => "head_timeout",
            Self::Refused(_) | Self::Path(_) => "malformed_request",
            Self::NotUnderstood(_) => "request_parsing",
            Self::Body(ReadError::Late) => "body_timeout",
            Self::Body(_) => "body_read",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::NoListener { .. } => "listener_not_found",
            Self::Misdirected { .. } => "misdirected_request",
            Self::NoRoute { has_rules: false, .. } => "path_not_served",
            // As OpenAI has it.
            Self::NoModel { itself: true, .. } => "model_not_found",
            Self::NoModel { .. } | Self::NoRoute { .. } => "route_not_found",
            Self::NoResponse { why: Missing::Gone, .. } => "response_gone",
            Self::NoResponse { why: Missing::Unknown, .. } => "response_not_found",
            Self::NoResponse { why: Missing::Unsaid(_) | Missing::Crowded, .. } => "response_unreachable",
            Self::Invalid { .. } => "invalid_route",
            Self::NoEndpoint(NoEndpoint::Route { .. } | NoEndpoint::Pool { .. }) => "pod_discovery",
            Self::NoEndpoint(NoEndpoint::Picker { .. } | NoEndpoint::NoPicker { .. }) => "endpoint_picker",
            Self::NoEndpoint(NoEndpoint::Scheduler) => "scheduling",
            Self::RateLimited(_) => "rate_limit_exceeded",
            Self::Overloaded => "overloaded",
            Self::Saturated { .. } | Self::Dropped { dropped: Dropped::Saturated, .. } => "saturated",
            Self::Dropped { dropped: Dropped::NoEndpoints, .. } => "pod_discovery",
            Self::Dropped { dropped: Dropped::DrivenOut, .. } => "queue_pressure",
            Self::Dropped { .. } => "queue_timeout",
            Self::Failed { failure: AttemptFailure::Late(limit), .. } => limit.code(),
            Self::Failed { .. } => "proxy",
        }
    }

    /// Returns after how many seconds the client may try again, if that can help.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Saturated { retry_after, .. } | Self::Dropped { retry_after, .. } => Some(*retry_after),
            Self::RateLimited(refused) => Some(refused.retry_after()),
            Self::Failed { failure: AttemptFailure::Late(_), .. } | Self::NoEndpoint(NoEndpoint::NoPicker { .. }) => {
                None
            }
            Self::NoResponse { why: Missing::Unsaid(_) | Missing::Crowded, .. }
            | Self::Overloaded
            | Self::Memory(_)
            | Self::NoEndpoint(_)
            | Self::Failed { .. } => Some(1),
            _ => None,
        }
    }

    /// Makes the answer to a request of an API, if it is one.
    pub(super) fn response(&self, api: Option<Api>) -> Response<Bytes> {
        let param = match self {
            Self::NoModel { .. } => Some("model"),
            Self::NoResponse { .. } => Some("response_id"),
            _ => None,
        };
        let (status, message) = (self.status(), self.to_string());
        let error = ApiError { status: status.as_u16(), code: self.reason(), param, message: &message };
        let mut response = Response::new(error.body(api).into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if matches!(self, Self::NotUnderstood(NotUnderstood::Encoded { .. })) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        if let Self::RateLimited(refused) = self {
            tell(&refused.standings, headers);
        }
        if let Some(reason) = self.dropped_reason() {
            for name in DROPPED_REASONS {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(reason));
            }
        }
        response
    }

    /// Returns why no engine has worked on the request, in the word that clients of the Inference Extension know.
    fn dropped_reason(&self) -> Option<&'static str> {
        match self {
            Self::Saturated { .. } => Some(REJECTED_SATURATED),
            Self::NoEndpoint(NoEndpoint::Pool { .. } | NoEndpoint::Route { .. }) => Some(REJECTED_NO_ENDPOINTS),
            Self::Dropped { dropped, .. } => Some(dropped.reason()),
            _ => None,
        }
    }
}

/// Returns why a request did not get its turn.
fn untimely(pool: &PoolKey, dropped: Dropped) -> String {
    match dropped {
        Dropped::Saturated => format!("the {pool} is saturated, and no more requests may wait for it"),
        Dropped::Expired => format!("the {pool} is saturated, and had no room in the time that a request waits for it"),
        Dropped::DrivenOut => {
            format!("the {pool} is saturated, and requests of clients with fewer of them wait in the place of this one")
        }
        Dropped::NoEndpoints => format!("no endpoint of the {pool} came in the time that a request waits for one"),
        Dropped::PastDeadline => format!("the {pool} had no room within the time that the route gives the request"),
    }
}

/// Returns what is said before what the last endpoint did.
fn course(attempts: u32) -> String {
    match attempts {
        0 | 1 => "the endpoint ".to_owned(),
        several => format!("all {several} attempts failed; the last endpoint "),
    }
}

#[cfg(test)]
mod tests;
