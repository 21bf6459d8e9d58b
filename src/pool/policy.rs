//! How requests are sent to the endpoints of a pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::inference::model_rewrite::ModelRewrites;
use crate::kinds::model_server::InferenceEngine;
use crate::object::ObjectKey;
use crate::pool::connections::ConnectionLimits;
use crate::pool::disaggregation::Disaggregation;
use crate::pool::kv_events::KvEvents;
use crate::pool::retry::RetryPolicy;
use crate::pool::session::SessionKeys;
use crate::pool::time_limits::TimeLimits;
use crate::scheduling::objective::Objectives;

/// Finds a pool in the list of them that a plan has, and in whatever list is kept beside it in the same order.
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
    /// How long everything else may take, where that is not left to the router's own limits.
    pub limits: TimeLimits,
    /// How many connections there are, where that is not left to the client.
    pub connections: Option<ConnectionLimits>,
    /// Which attempts are repeated, where a route says nothing.
    pub retry: RetryPolicy,
    /// Who chooses among the endpoints.
    pub picker: PickerPolicy,
    /// Where the session of a request is found that is to stay at one endpoint.
    pub sessions: SessionKeys,
    /// How requests are changed before an endpoint is picked; `None` leaves them as they are.
    pub requests: Option<Arc<RequestPolicy>>,
    /// Where the engines tell of their KV caches; `None` where they are not listened to.
    pub kv_events: Option<KvEvents>,
    /// How its endpoints share the work on a request; `None` where each does all of it.
    pub disaggregation: Option<Disaggregation>,
}

/// How an InferencePool's own objects rate and change its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPolicy {
    /// How important requests are.
    pub objectives: Objectives,
    /// Which models they get.
    pub rewrites: ModelRewrites,
}

/// Who chooses the endpoint of a pool that serves a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PickerPolicy {
    /// The router itself.
    #[default]
    BuiltIn,
    /// An endpoint picker in the cluster, as an InferencePool's `endpointPickerRef` says.
    External(Arc<ExternalPicker>),
    /// A picker that the reference does not lead to, for this reason: requests are answered with 500.
    Unavailable(String),
}

/// An endpoint picker that is asked over Envoy's `ext_proc` protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalPicker {
    /// The picker's Service.
    pub service: ObjectKey,
    /// The port of the Service.
    pub port: u16,
    /// Where that port of the Service leads to: the ready endpoints, in order.
    pub endpoints: Vec<SocketAddr>,
    /// Whether the router chooses while the picker cannot be asked; else such requests fail.
    pub fail_open: bool,
    /// Whether TLS is spoken, without verification; `false` where the port of the Service says `kubernetes.io/h2c`.
    pub tls: bool,
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
