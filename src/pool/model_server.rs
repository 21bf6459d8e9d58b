//! A ModelServer, read once when it is observed: what it says of how its pool is sent requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connections::ConnectionLimits;
use super::data_parallel;
use super::disaggregation::Disaggregation;
use super::kv_events::KvEvents;
use super::policy::{BackendProtocol, PickerPolicy, PoolPolicy};
use super::retry::RetryPolicy;
use super::session::SessionKeys;
use super::time_limits::TimeLimits;
use crate::controller::KV_EVENTS;
use crate::kinds::duration::DurationError;
use crate::kinds::faults::{Fault, model_server_faults};
use crate::kinds::model_server::ModelServerSpec;
use crate::object::ObjectKey;
use crate::record::Record;

/// A ModelServer as the router keeps it.
#[derive(Clone, Debug)]
pub struct Server {
    /// The object.
    pub key: ObjectKey,
    /// The API server's records of it.
    pub record: Record,
    /// The object's spec.
    pub spec: Arc<ModelServerSpec>,
    /// What its traffic policy says, or why the spec cannot be used.
    pub policy: Result<Arc<PoolPolicy>, Vec<Fault>>,
    /// The scheduler's profile that its annotation names.
    pub profile: Option<Arc<str>>,
    /// How many data-parallel ranks each Pod has, at ports that follow each other.
    pub ranks: u16,
}

impl Server {
    /// Reads a ModelServer's policy; faults of its spec are kept, because they are reported by condition.
    pub fn compile(
        key: ObjectKey,
        record: Record,
        spec: ModelServerSpec,
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Self {
        let mut faults = model_server_faults(&spec);
        let kv_events = KvEvents::of(annotations).unwrap_or_else(|message| {
            faults.push(Fault { path: format!("metadata.annotations[{KV_EVENTS}]"), message });
            None
        });
        let ranks = data_parallel::ranks(annotations, spec.port()).unwrap_or_else(|message| {
            faults.push(Fault { path: format!("metadata.annotations[{}]", data_parallel::ANNOTATION), message });
            1
        });
        let policy = if faults.is_empty() {
            pool_policy(&spec, kv_events)
                .map(Arc::new)
                .map_err(|error| vec![Fault { path: "spec.trafficPolicy".to_owned(), message: error.to_string() }])
        } else {
            Err(faults)
        };
        Self { key, record, spec: Arc::new(spec), policy, profile: None, ranks }
    }
}

fn pool_policy(spec: &ModelServerSpec, kv_events: Option<KvEvents>) -> Result<PoolPolicy, DurationError> {
    let connections = spec.traffic_policy.as_ref().and_then(|policy| policy.connection_pool.as_ref());
    let sticky = spec.traffic_policy.as_ref().and_then(|policy| policy.session_sticky.as_ref());
    Ok(PoolPolicy {
        served_model: spec.served_model().map(str::to_owned),
        engine: Some(spec.inference_engine),
        protocol: BackendProtocol::Http1,
        https: spec.speaks_https(),
        timeout: spec.timeout()?,
        limits: TimeLimits::of_server(spec)?,
        connections: connections.map(ConnectionLimits::of).transpose()?,
        retry: match spec.retry()? {
            Some((attempts, interval)) => RetryPolicy::of_engines(attempts, interval),
            None => RetryPolicy::Engines,
        },
        picker: PickerPolicy::BuiltIn,
        sessions: sticky.map(|sticky| SessionKeys::of(&sticky.sources)).unwrap_or_default(),
        requests: None,
        kv_events,
        disaggregation: Disaggregation::of_server(spec),
    })
}
