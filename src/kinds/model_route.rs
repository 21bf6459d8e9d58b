//! ModelRoute: which requests go to which ModelServers.
//!
//! The fields, defaults and bounds are those of `networking.serving.volcano.sh/v1alpha1`. Where that API documents a
//! rule without enforcing it (one matcher per string match), the schema here enforces it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model_server::SessionKeySource;
use super::parent_reference::ParentReference;

/// The most LoRA adapters that one ModelRoute may name.
pub const MAX_LORA_ADAPTERS: usize = 10;

/// The most rules of a ModelRoute.
pub const MAX_RULES: usize = 16;

/// The most targets of a rule.
pub const MAX_TARGETS: usize = 16;

/// The most headers that one rule may match on; a bound that API servers need to price the rules on headers.
pub const MAX_HEADER_MATCHES: usize = 64;

/// The longest text of a matcher, in bytes.
pub const MAX_MATCHER: usize = 4096;

/// The largest weight of a target, and the weight of a target that names none.
pub const MAX_WEIGHT: u32 = 100;

/// Routes requests by the model that they name.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelRoute",
    namespaced,
    status = "ModelRouteStatus",
    derive = "PartialEq",
    shortname = "mr",
    category = "kthena",
    doc = "Routes inference requests to ModelServers by the model that they name.",
    printcolumn = r#"{"name":"Model","type":"string","jsonPath":".spec.modelName"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.modelName) && self.modelName != '') || (has(self.loraAdapters) && size(self.loraAdapters) > 0)",
    "message": "modelName or loraAdapters is required"
}]))]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteSpec {
    /// Value of the request's `model` field that this route serves, matched exactly. It need not be the name under
    /// which an engine knows the model. It cannot be changed once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "modelName is immutable"}]))]
    pub model_name: Option<String>,

    /// LoRA adapters that this route serves: values of the request's `model` field, matched exactly, and only when no
    /// route has that value as its modelName.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1)))]
    pub lora_adapters: Vec<String>,

    /// Gateways that this route takes traffic from. Required while the Gateway API is enabled; a route with parentRefs
    /// serves nothing while it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,

    /// Rules in order of precedence: the first one that matches a request decides where it goes.
    #[schemars(length(max = 16))]
    pub rules: Vec<RouteRule>,

    /// Limits on the requests for this model, and on the tokens that they may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// Sends the requests that match to one of the targets.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// Name of the rule, for logs and people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// What a request must look like; every request for the model matches if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_match: Option<ModelMatch>,

    /// Where the requests go: one target is drawn for each request, in proportion to the weights.
    #[schemars(length(min = 1, max = 16))]
    pub target_models: Vec<TargetModel>,
}

/// Conditions on a request, all of which must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelMatch {
    /// Conditions on the request's headers, by header name. A header that the request lacks does not match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub headers: BTreeMap<String, StringMatch>,

    /// Condition on the path of the request's URL, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,

    /// Condition on the request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyMatch>,
}

/// Condition on a text. A match with no matcher set holds for every text.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.exact) ? 1 : 0) + (has(self.prefix) ? 1 : 0) + (has(self.regex) ? 1 : 0) <= 1",
    "message": "at most one of exact, prefix and regex may be set"
}]))]
#[serde(rename_all = "camelCase")]
pub struct StringMatch {
    /// The text is equal to this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub exact: Option<String>,

    /// The text starts with this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub prefix: Option<String>,

    /// The text contains a match of this regular expression (RE2 syntax). Anchor it with `^` and `$` to match the
    /// whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub regex: Option<String>,
}

/// Condition on the request's body.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyMatch {
    /// The request's `model` field is equal to this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A place that requests can go to, in the route's namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": concat!(
        "(has(self.modelServerName) && self.modelServerName != '') != ",
        "(has(self.externalModelProviderName) && self.externalModelProviderName != '')"
    ),
    "message": "exactly one of modelServerName and externalModelProviderName must be set"
}]))]
#[serde(rename_all = "camelCase")]
pub struct TargetModel {
    /// Name of a ModelServer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_server_name: Option<String>,

    /// Name of an ExternalModelProvider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_model_provider_name: Option<String>,

    /// Share of the rule's requests, relative to the weights of the rule's other targets; the weights need not add up
    /// to 100. A target of weight 0 gets no requests.
    #[serde(default = "default_weight")]
    #[schemars(range(max = 100))]
    pub weight: u32,
}

/// Limits on the requests for a model and on the tokens that they may use.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Most tokens of prompts in one unit of time; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub input_tokens_per_unit: Option<u32>,

    /// Most tokens of answers in one unit of time; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_tokens_per_unit: Option<u32>,

    /// Most requests in one unit of time; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_unit: Option<u32>,

    /// Most requests that are under way at the same time, in each replica of the router; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrent_requests: Option<u32>,

    /// Unit of time.
    #[serde(default)]
    pub unit: RateLimitUnit,

    /// Gives each client limits of its own, in place of one for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_client: Option<PerClient>,

    /// Counts over all replicas of the router; each replica counts its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalRateLimit>,
}

/// How clients are told apart.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PerClient {
    /// Where the key of a request's client is looked for, such as the header `authorization`. The first source that has
    /// a value counts; requests without any share one limit. The signature of a token is not checked here.
    #[schemars(length(min = 1, max = 16))]
    pub sources: Vec<SessionKeySource>,
}

/// The unit of time of a rate limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitUnit {
    /// One second.
    #[default]
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 30 days.
    Month,
}

/// Where all replicas of the router count together.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GlobalRateLimit {
    /// The Redis server that holds the counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisServer>,
}

/// A Redis server.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RedisServer {
    /// Address as `host:port`, or `rediss://host:port` for TLS. A node of a Redis Cluster is `redis+cluster://host:port`, or
    /// `rediss+cluster://host:port` for TLS.
    pub address: String,
}

/// What the router makes of a ModelRoute.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteStatus {
    /// State of the route as a whole. `Accepted` is true when the route serves somewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// State of the route at each of its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parents: Vec<RouteParentStatus>,
}

/// The state of a route at one of its parents.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The entry of the route's parentRefs that this is about.
    pub parent_ref: ParentReference,

    /// Name of the controller that wrote this entry, as in the GatewayClass.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,

    /// State of the route at this parent: `Accepted` and `ResolvedRefs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl ModelRouteSpec {
    /// Returns the model that the route serves; an empty name means none.
    pub fn served_model(&self) -> Option<&str> {
        self.model_name.as_deref().filter(|name| !name.is_empty())
    }
}

impl TargetModel {
    /// Makes a target that sends to the ModelServer `name` with the default weight.
    pub fn to_model_server(name: impl Into<String>) -> Self {
        Self { model_server_name: Some(name.into()), external_model_provider_name: None, weight: default_weight() }
    }

    /// Returns the ModelServer that the target names; an empty name means none.
    pub fn model_server(&self) -> Option<&str> {
        self.model_server_name.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the ExternalModelProvider that the target names; an empty name means none.
    pub fn external_model_provider(&self) -> Option<&str> {
        self.external_model_provider_name.as_deref().filter(|name| !name.is_empty())
    }
}

fn default_weight() -> u32 {
    MAX_WEIGHT
}
