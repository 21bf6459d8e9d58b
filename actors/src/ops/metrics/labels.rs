//! The labels of the metrics. Their values are bounded: names of objects that exist, and constants of the program.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A text that many label sets share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text(pub Arc<str>);

/// The labels that say where a request went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct BackendLabels {
    pub model_route: Text,
    pub backend_type: &'static str,
    pub backend_name: Text,
    pub upstream_model: Text,
}

/// Labels of a finished request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct RequestLabels {
    pub model: Text,
    pub path: &'static str,
    pub status_code: u16,
    pub error_type: &'static str,
    #[prometheus(flatten)]
    pub backend: BackendLabels,
}

/// Labels of a request's duration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct DurationLabels {
    pub model: Text,
    pub path: &'static str,
    pub status_code: u16,
    #[prometheus(flatten)]
    pub backend: BackendLabels,
}

/// Labels of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct TokenLabels {
    pub model: Text,
    pub path: &'static str,
    pub token_type: &'static str,
    #[prometheus(flatten)]
    pub backend: BackendLabels,
}

/// Labels of requests at engines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct UpstreamLabels {
    pub model_server: Text,
    #[prometheus(flatten)]
    pub backend: BackendLabels,
}

/// The label of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct ModelLabel {
    pub model: Text,
}

/// Labels of refusals by a token limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct RateLimitLabels {
    pub model: Text,
    pub limit_type: &'static str,
    pub path: &'static str,
}

/// Labels of attempts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct AttemptLabels {
    pub pool: Text,
    pub outcome: &'static str,
}

/// The label of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct BindLabel {
    pub bind: String,
}

/// The label of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct PoolLabel {
    pub pool: String,
}

/// Labels of KV events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct KvEventLabels {
    pub pool: String,
    pub what: &'static str,
}

/// Labels of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct EndpointLabels {
    pub pool: String,
    pub state: &'static str,
}

/// The labels of a scheduler plugin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct PluginLabels {
    pub plugin: &'static str,
    pub r#type: &'static str,
}

/// The label of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct BuildLabels {
    pub version: &'static str,
}

/// Labels of ejections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct EjectionLabels {
    pub pool: String,
    pub cause: &'static str,
}

/// Labels of readings of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct LoadLabels {
    pub outcome: &'static str,
}

/// Labels of scrapes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct ScrapeLabels {
    pub pool: String,
    pub outcome: &'static str,
}

/// Labels of what endpoint pickers are asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct PickerLabels {
    pub pool: String,
    pub outcome: &'static str,
}

/// The label of a kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct KindLabel {
    pub kind: &'static str,
}

/// Labels of a watch; the namespace is empty for a watch of all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct WatchLabels {
    pub kind: &'static str,
    pub namespace: Text,
}

/// Labels of writes to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct WriteLabels {
    pub kind: &'static str,
    pub purpose: &'static str,
    pub outcome: &'static str,
}

/// The label of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the field is the label")]
pub struct ActorLabel {
    pub actor: &'static str,
}

/// Labels of an actor's messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct MessageLabels {
    pub actor: &'static str,
    pub message: &'static str,
}

/// Labels of restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct RestartLabels {
    pub actor: &'static str,
    pub cause: &'static str,
}

/// Labels of requests and connections that were refused before they could be routed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct RefusedLabels {
    pub reason: &'static str,
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl EncodeLabelValue for Text {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.as_ref(), encoder)
    }
}
