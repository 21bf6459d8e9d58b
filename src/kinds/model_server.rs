//! ModelServer: which pods serve a model, and how the router talks to them.
//!
//! The fields, defaults and bounds are those of `networking.serving.volcano.sh/v1alpha1`, with an upper bound on
//! `retry.attempts` that the API leaves open.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection_pool::ConnectionPool;
use super::duration::{DurationError, parse_duration};
use super::static_endpoint::StaticEndpoint;

/// The longest name of a served model, in characters.
pub const MAX_MODEL: usize = 256;

/// The most further attempts after a failed one.
pub const MAX_RETRY_ATTEMPTS: u32 = 10;

/// The most places where the key of a session is looked for.
pub const MAX_SESSION_SOURCES: usize = 16;

/// The further attempts after a failed one where a ModelServer does not say.
pub const DEFAULT_RETRY_ATTEMPTS: u32 = 2;

/// Selects the pods that serve a model.
#[derive(Clone, CustomResource, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServer",
    namespaced,
    status = "ModelServerStatus",
    derive = "PartialEq",
    shortname = "ms",
    category = "kthena",
    doc = "Selects the pods that serve a model and says how to talk to them.",
    printcolumn = r#"{"name":"Engine","type":"string","jsonPath":".spec.inferenceEngine"}"#,
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.workloadPort.port"}"#,
    printcolumn = r#"{"name":"Protocol","type":"string","jsonPath":".spec.workloadPort.protocol"}"#,
    printcolumn = r#"{"name":"Ready endpoints","type":"integer","jsonPath":".status.readyEndpoints"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelServerSpec {
    /// Name under which the engine knows the model. It replaces the request's `model` field, except in requests for a
    /// LoRA adapter; the request's own name is passed on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,

    /// Engine that the pods run. It decides how their metrics are read.
    pub inference_engine: InferenceEngine,

    /// Which pods serve the model. Beside `endpoints`, only `pdGroup` may be set.
    #[serde(default, skip_serializing_if = "WorkloadSelector::is_empty")]
    pub workload_selector: WorkloadSelector,

    /// Instances that serve the model, listed one by one instead of pods that are selected: for those that are no pods of
    /// the cluster, or where there is no cluster. Excludes `workloadSelector.matchLabels`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub endpoints: Vec<StaticEndpoint>,

    /// Port of the pods that takes requests and shows metrics. Only where every one of `endpoints` has a port of its own, it
    /// may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_port: Option<WorkloadPort>,

    /// How requests to the pods time out and are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,

    /// How prefill pods hand their key-value cache to decode pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_connector: Option<KvConnector>,
}

/// An inference engine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum InferenceEngine {
    /// vLLM.
    #[serde(rename = "vLLM")]
    Vllm,
    /// SGLang.
    #[serde(rename = "SGLang")]
    Sglang,
}

/// Selects pods in the ModelServer's namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that a pod must have, all of them. At least one is needed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,

    /// Tells prefill pods from decode pods, and which of them work together; every pod does both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pd_group: Option<PdGroup>,
}

/// Tells prefill pods from decode pods.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PdGroup {
    /// Key of the label whose value names the group: pods with equal values work together.
    #[schemars(length(min = 1))]
    pub group_key: String,

    /// Labels that make a pod a prefill pod.
    #[schemars(extend("minProperties" = 1))]
    pub prefill_labels: BTreeMap<String, String>,

    /// Labels that make a pod a decode pod.
    #[schemars(extend("minProperties" = 1))]
    pub decode_labels: BTreeMap<String, String>,
}

/// The port of the pods.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// Port number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Protocol that the pods speak on the port.
    #[serde(default)]
    pub protocol: WorkloadProtocol,
}

/// A protocol that pods speak.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadProtocol {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

/// How requests to the pods time out and are tried again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Time that one attempt may take up to the response's headers, such as `30s` or `1m30s`. The response's body may
    /// take longer. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub timeout: Option<String>,

    /// How long the other parts of a request may take. The router's own limits hold if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,

    /// What clients of streams get while the engine is silent. Nothing if absent, unless the router says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatSpec>,

    /// When and how often a failed attempt is followed by another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// How many connections there are to the pods, and for how long they wait for requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<ConnectionPool>,

    /// Keeps requests of one session at one pod, as long as that pod has room. Requests go where the scheduler sends them
    /// if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_sticky: Option<SessionSticky>,
}

/// How long the parts of a request may take, each such as `30s` or `1m30s`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Time to connect to a pod; TLS has as long again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub connect: Option<String>,

    /// Time that one attempt may take up to the first piece of a stream. It does not concern answers that are not streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub first_token: Option<String>,

    /// Longest pause within an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub idle: Option<String>,

    /// Time from a request to the end of its answer, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub total: Option<String>,
}

/// What clients of streams get while the engine is silent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatSpec {
    /// How long the engine is silent before the first heartbeat, and between two, such as `15s`.
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub interval: String,

    /// What a heartbeat looks like.
    #[serde(default)]
    pub form: HeartbeatForm,
}

/// What a heartbeat looks like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize, clap::ValueEnum)]
pub enum HeartbeatForm {
    /// A comment, which every reader of event streams passes over.
    #[default]
    Comment,
    /// The API's own event for that purpose: `ping` of the messages API; a comment where an API has none.
    Ping,
}

/// Keeps requests of one session at one pod.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionSticky {
    /// Seconds for which a session stays at its pod. It has no effect: which pod a session belongs to is calculated from
    /// its key, nothing is stored, and so nothing expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub session_affinity_seconds: Option<u32>,

    /// Where the key of a request's session is looked for. The first source that has a value counts; a request without
    /// any belongs to no session.
    #[schemars(length(min = 1, max = 16))]
    pub sources: Vec<SessionKeySource>,
}

/// A place where the key of a session may stand.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SessionKeySource {
    /// Kind of the place.
    #[serde(rename = "type")]
    pub kind: SessionKeySourceKind,

    /// Name of the header, query parameter, cookie or claim.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
}

/// A kind of place where the key of a session may stand.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum SessionKeySourceKind {
    /// A header.
    Header,
    /// A parameter of the query.
    Query,
    /// A cookie.
    Cookie,
    /// A claim of the bearer token, which is not verified for this.
    #[serde(rename = "JWTClaim")]
    JwtClaim,
}

/// How often a failed attempt is followed by another.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Most further attempts after the first.
    #[serde(default = "default_attempts")]
    #[schemars(range(max = 10))]
    pub attempts: u32,

    /// Pause before each further attempt, such as `100ms`.
    #[serde(default = "default_interval")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub retry_interval: String,
}

/// How prefill pods hand their key-value cache to decode pods.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KvConnector {
    /// Name of the connector.
    #[serde(default, rename = "type")]
    pub kind: KvConnectorKind,
}

/// A way to hand a key-value cache from one pod to another.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvConnectorKind {
    /// The engine's own transfer, arranged over HTTP.
    #[default]
    Http,
    /// LMCache.
    Lmcache,
    /// NIXL.
    Nixl,
    /// Mooncake.
    Mooncake,
}

/// What the router makes of a ModelServer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelServerStatus {
    /// State of the ModelServer: `Accepted` and `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Generation of the ModelServer that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Pods that the selector matches.
    #[serde(default)]
    pub endpoints: i32,

    /// Pods that the selector matches and that can take requests.
    #[serde(default)]
    pub ready_endpoints: i32,
}

impl WorkloadSelector {
    fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.pd_group.is_none()
    }
}

impl ModelServerSpec {
    /// Returns the port of the pods, and of listed instances without a port of their own.
    pub fn port(&self) -> Option<u16> {
        self.workload_port.as_ref().map(|port| port.port)
    }

    /// Returns whether the pods speak https.
    pub fn speaks_https(&self) -> bool {
        self.workload_port.as_ref().is_some_and(|port| port.protocol == WorkloadProtocol::Https)
    }

    /// Returns the name that requests are rewritten to; an empty name means none.
    pub fn served_model(&self) -> Option<&str> {
        self.model.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns how long one attempt may take up to the response's headers; `None` means without limit.
    ///
    /// # Errors
    /// Returns what is wrong with `trafficPolicy.timeout` if it is not a duration.
    pub fn timeout(&self) -> Result<Option<Duration>, DurationError> {
        self.traffic_policy.as_ref().and_then(|policy| policy.timeout.as_deref()).map(parse_duration).transpose()
    }

    /// Returns how many attempts may follow a failed first one, and the pause before each; `None` where nothing is
    /// written.
    ///
    /// # Errors
    /// Returns what is wrong with `trafficPolicy.retry.retryInterval` if it is not a duration.
    pub fn retry(&self) -> Result<Option<(u32, Duration)>, DurationError> {
        let written = self.traffic_policy.as_ref().and_then(|policy| policy.retry.as_ref());
        written.map(|retry| Ok((retry.attempts, parse_duration(&retry.retry_interval)?))).transpose()
    }
}

fn default_attempts() -> u32 {
    DEFAULT_RETRY_ATTEMPTS
}

fn default_interval() -> String {
    "100ms".to_owned()
}
