//! The connections from the router to the pods of a ModelServer.
//!
//! Source: `ModelServer.spec.trafficPolicy.connectionPool` of the Go kthena-router.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many connections there are to pods, and for how long they wait for requests. The figures are for one replica of the
/// router, whose worker threads have equal shares, of one connection at least.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPool {
    /// Most idle connections to all pods together. 0 is any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle_connections: Option<u32>,

    /// Most idle connections to one pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle_connections_per_host: Option<u32>,

    /// Most requests under way at one pod, each on a connection of its own; further ones wait. 0 is any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections_per_host: Option<u32>,

    /// How long a connection waits for its next request, such as `2s`. The default is less than 5s, after which the web
    /// server of vLLM and SGLang closes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"))]
    pub idle_timeout: Option<String>,
}
