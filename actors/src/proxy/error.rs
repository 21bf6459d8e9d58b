//! Why the router answers a request itself, with what status and in what words.
//!
//! The body has OpenAI's shape, `{"error":{"message","type","param","code"}}`, because clients parse it.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use kthena_router::inference::request::ParseError;
use kthena_router::object::{ObjectKey, PoolKey};
use kthena_router::routing::path::PathFault;
use kthena_router::scheduling::objective::{DROPPED_REASON, REJECTED_SATURATED};
use kthena_router_downstream::Refusal;
use serde_json::json;
use thiserror::Error;

use super::wellformed::Malformed;
use crate::picker::Fault;

/// After how many seconds a client may try again when the router or its engines are busy.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why the router answers a request itself.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The request can be understood in more than one way.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server has refused the request before the proxy saw it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The body is not what an inference API takes.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The client's body did not arrive whole.
    #[error("the request body could not be read")]
    BodyRead(#[source] actix_web::error::PayloadError),
    /// The client stopped sending its body.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The body is larger than allowed.
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The path is not part of the inference API.
    #[error("`{method} {path}` is not served here: the router serves `GET /v1/models` and inference by `POST /v1/…`")]
    NotServed {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// No listener serves the host.
    #[error("no listener serves the host `{host}`")]
    NoListener {
        /// The request's host.
        host: String,
    },
    /// No route serves the model.
    #[error("route not found: no ModelRoute of this listener serves the model `{model}`")]
    RouteNotFound {
        /// The requested model.
        model: String,
    },
    /// The path could be read in two ways.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// The connection was made for another listener than the request's host belongs to.
    #[error("the host `{host}` is not served on a connection for the server name `{server_name}`")]
    Misdirected {
        /// The request's host.
        host: String,
        /// The server name that the client asked for.
        server_name: String,
    },
    /// No rule of an HTTPRoute is for the request.
    #[error("no rule of an HTTPRoute of this listener matches `{method} {path}`")]
    NoRule {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The rule, or the backend that was chosen, cannot be used.
    #[error("the HTTPRoute `{route}` cannot be served: {reason}")]
    InvalidRule {
        /// The route.
        route: ObjectKey,
        /// What is wrong.
        reason: &'static str,
    },
    /// The time that the route gives the request is over.
    #[error("the request took longer than its route allows")]
    RequestTimeout,
    /// A route serves the model, but nothing is there to serve it.
    #[error("no endpoint of the ModelRoute `{route}` is ready{}", clauses(unresolved))]
    NoReadyEndpoint {
        /// The route.
        route: ObjectKey,
        /// Why some of its targets lead nowhere.
        unresolved: Vec<String>,
    },
    /// The last endpoint of the chosen pool went away after it was chosen.
    #[error("no endpoint of the {pool} is ready")]
    PoolEmptied {
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
    /// The request can be refused, and its pool has too much to do.
    #[error("the {pool} is saturated, and the request's objective has a priority below 0")]
    Saturated {
        /// The pool.
        pool: PoolKey,
    },
    /// Too many requests are in flight.
    #[error("too many requests are in flight")]
    Overloaded,
    /// Every attempt failed.
    #[error("all {attempts} attempts failed; the last endpoint {failure}")]
    AllAttemptsFailed {
        /// The number of attempts.
        attempts: usize,
        /// What the last endpoint did.
        failure: AttemptFailure,
    },
    /// The engine took too long to answer.
    #[error("the engine did not begin to answer within the timeout")]
    UpstreamTimeout,
    /// The scheduler is gone, and so is the one that took its place.
    #[error("the scheduler does not answer")]
    SchedulerGone,
}

/// How an attempt failed that another endpoint may do better.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AttemptFailure {
    /// No connection could be made.
    #[error("refused the connection")]
    Refused,
    /// It accepted the connection, and did not agree on TLS or HTTP/2.
    #[error("did not agree on TLS or HTTP/2")]
    Handshake,
    /// The connection broke before the answer began.
    #[error("closed the connection before it answered")]
    Broken,
    /// It answered that it cannot serve now.
    #[error("answered with status {0}")]
    Status(u16),
}

impl AttemptFailure {
    /// Returns what metrics call it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Handshake => "handshake",
            Self::Broken => "broken",
            Self::Status(_) => "unavailable",
        }
    }
}

fn clauses(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("; {reason}")).collect()
}

impl ProxyError {
    /// Returns the status that the client gets.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal
                .status()
                .and_then(|status| StatusCode::from_u16(status.as_u16()).ok())
                .unwrap_or(StatusCode::BAD_REQUEST),
            Self::Malformed(Malformed::TooManyFields) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Malformed(_) | Self::Path(_) | Self::Parse(_) | Self::BodyRead(_) => StatusCode::BAD_REQUEST,
            Self::Misdirected { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::InvalidRule { .. } | Self::NoPicker { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotServed { .. } | Self::NoListener { .. } | Self::RouteNotFound { .. } | Self::NoRule { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Overloaded | Self::Saturated { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NoReadyEndpoint { .. }
            | Self::PoolEmptied { .. }
            | Self::Picker { .. }
            | Self::AllAttemptsFailed { .. }
            | Self::SchedulerGone => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout | Self::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Returns the reason in one word, for logs, metrics and the answer's `code`; the Go router's where it has one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::TooSlow) => "head_timeout",
            Self::Refused(Refusal::Memory) => "overloaded",
            Self::Refused(_) => "malformed_request",
            Self::Malformed(_) | Self::Path(_) => "malformed_request",
            Self::Misdirected { .. } => "misdirected_request",
            Self::Parse(_) => "request_parsing",
            Self::BodyRead(_) => "body_read",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::NotServed { .. } => "path_not_served",
            Self::NoListener { .. } => "listener_not_found",
            Self::RouteNotFound { .. } | Self::NoRule { .. } => "route_not_found",
            Self::InvalidRule { .. } => "invalid_route",
            Self::NoReadyEndpoint { .. } | Self::PoolEmptied { .. } => "pod_discovery",
            Self::Picker { .. } | Self::NoPicker { .. } => "endpoint_picker",
            Self::Overloaded => "overloaded",
            Self::Saturated { .. } => "saturated",
            Self::AllAttemptsFailed { .. } => "proxy",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::SchedulerGone => "scheduling",
        }
    }

    /// Returns whether the client may try again soon.
    const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Refused(Refusal::Memory)
                | Self::Overloaded
                | Self::Saturated { .. }
                | Self::NoReadyEndpoint { .. }
                | Self::PoolEmptied { .. }
                | Self::Picker { .. }
                | Self::AllAttemptsFailed { .. }
                | Self::SchedulerGone
        )
    }

    /// Returns whether the rest of the request is still on its way or its end is unknown, so that the connection cannot be
    /// used again.
    const fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::Malformed(_) | Self::Refused(_) | Self::BodyRead(_) | Self::BodyTimeout | Self::BodyTooLarge { .. }
        )
    }

    /// Makes the answer.
    pub fn response(&self) -> HttpResponse {
        let kind = match self.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        let param = matches!(self, Self::RouteNotFound { .. }).then_some("model");
        let mut response = HttpResponse::build(self.status());
        if self.is_passing() {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        if matches!(self, Self::Saturated { .. }) {
            response.insert_header((DROPPED_REASON, REJECTED_SATURATED));
        }
        if self.leaves_body_unread() {
            response.force_close();
        }
        response.json(json!({
            "error": {"message": self.to_string(), "type": kind, "param": param, "code": self.reason()}
        }))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::{MessageBody, to_bytes};

    use super::*;

    #[actix_web::test]
    async fn errors_have_the_shape_that_openai_clients_parse() {
        let error = ProxyError::RouteNotFound { model: "gpt \"x\"".to_owned() };
        let response = error.response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let body = to_bytes(response.into_body().boxed()).await.expect("the body is in memory");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["code"], "route_not_found");
        assert_eq!(body["error"]["param"], "model");
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.contains("route not found")));
    }

    #[test]
    fn only_passing_troubles_invite_another_try() {
        for (error, status, retry) in [
            (ProxyError::Overloaded, 429, true),
            (ProxyError::NoReadyEndpoint { route: ObjectKey::new("a", "b"), unresolved: Vec::new() }, 503, true),
            (ProxyError::AllAttemptsFailed { attempts: 3, failure: AttemptFailure::Refused }, 503, true),
            (ProxyError::UpstreamTimeout, 504, false),
            (ProxyError::BodyTooLarge { limit: 1 }, 413, false),
            (ProxyError::BodyTimeout, 408, false),
        ] {
            let response = error.response();
            assert_eq!(response.status().as_u16(), status, "{error}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry, "{error}");
        }
    }
}
