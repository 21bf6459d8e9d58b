//! How requests are sent to the endpoints of a pool.

use std::time::Duration;

use crate::kinds::model_server::InferenceEngine;

/// Finds a pool in [`RouteTable::pools`](super::table::RouteTable::pools), and in whatever list is kept beside it in
/// the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// Finds the TLS settings of connections to a backend in the list of them that a plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsIndex(pub usize);

/// How requests are sent to the endpoints of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPolicy {
    /// The model name that the engines know, which replaces the one in the request.
    pub served_model: Option<String>,
    /// The engine, and so the dialect of its metrics; `None` for endpoints that are not scraped.
    pub engine: Option<InferenceEngine>,
    /// The version of HTTP that the endpoints speak.
    pub protocol: BackendProtocol,
    /// Whether the endpoints speak https, as a ModelServer says; a Service leaves that to a BackendTLSPolicy.
    pub https: bool,
    /// Time from sending a request to its response head, for each attempt; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// How many times a failed request is tried again, 0 or more.
    pub retry_attempts: u32,
    /// The pause before each retry.
    pub retry_interval: Duration,
}

/// A version of HTTP that endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 over plain TCP without an upgrade, known beforehand: `kubernetes.io/h2c`.
    H2c,
}
