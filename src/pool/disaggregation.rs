//! Whether the engines of a pool share the work on a request, and who arranges it.
//!
//! A ModelServer with `workloadSelector.pdGroup` says so; `kvConnector.type` names the connector, `http` where only
//! the object is written. Engines of SGLang speak their own protocol, unless it says `http` or `lmcache`: their prefill and
//! decode engines share a store then, as those of vLLM may. The Pods of an InferencePool say so by their labels, and
//! the annotation [`KV_CONNECTOR`] of the pool names the connector, or `sidecar`, the default.

use bytes::Bytes;

use crate::controller::KV_CONNECTOR;
use crate::inference::api::{Api, Body};
use crate::inference::disaggregation::{Connector, Order, SplitRequest, Whole};
use crate::inference::request::ParseError;
use crate::kinds::ModelServerSpec;
use crate::kinds::model_server::{InferenceEngine, KvConnectorKind};
use crate::scheduling::request::Split;

/// The header that tells the sidecar of a decode Pod where the prompt is to be computed: a host and a port.
pub const PREFILLER_HEADER: &str = "x-prefiller-host-port";

/// What the annotation says where a sidecar does the work.
const SIDECAR: &str = "sidecar";

/// Who arranges that two engines work on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disaggregation {
    /// The router, which sends to both as this connector wants it.
    Legs(Connector),
    /// The sidecar of the decode Pod, which is told by [`PREFILLER_HEADER`] of the other one. One that is told nothing has
    /// its own engine do all of it.
    Sidecar,
}

impl Disaggregation {
    /// Reads a ModelServer; `None` where each engine does all of a request.
    pub fn of_server(spec: &ModelServerSpec) -> Option<Self> {
        spec.workload_selector.pd_group.as_ref()?;
        let kind = spec.kv_connector.as_ref().map(|connector| connector.kind);
        Some(Self::Legs(match (kind, spec.inference_engine) {
            (Some(KvConnectorKind::Http), _) | (None, InferenceEngine::Vllm) => Connector::Http,
            (Some(KvConnectorKind::Lmcache), _) => Connector::Lmcache,
            (_, InferenceEngine::Sglang) => Connector::Sglang,
            (Some(KvConnectorKind::Nixl), InferenceEngine::Vllm) => Connector::Nixl,
            (Some(KvConnectorKind::Mooncake), InferenceEngine::Vllm) => Connector::Mooncake,
        }))
    }

    /// Reads the annotation of an InferencePool.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it.
    pub fn of_annotation(text: &str) -> Result<Self, String> {
        let named = || Connector::ALL.into_iter().find(|connector| connector.protocol().name == text);
        let read = if text == SIDECAR { Some(Self::Sidecar) } else { named().map(Self::Legs) };
        read.ok_or_else(|| {
            let names: Vec<_> = Connector::ALL.iter().map(|connector| connector.protocol().name).collect();
            let names = names.join("`, `");
            format!("the annotation `{KV_CONNECTOR}` is `{text}`, and neither `{SIDECAR}` nor one of `{names}`")
        })
    }

    /// Returns whether two engines may work on a request with this body, as an engine would get it that does all of it;
    /// and what makes the bodies of both, where the router does.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with a body that cannot be changed.
    pub fn split(self, api: Api, body: Bytes) -> Result<(Split, Option<SplitRequest>), ParseError> {
        let connector = match self {
            Self::Legs(connector) => connector,
            Self::Sidecar if api.traits().generates && api.traits().repeatable => {
                return Ok((Split::Allowed { alone: true, anywhere: false }, None));
            }
            Self::Sidecar => return Ok((Split::Never(Whole::Api.label()), None)),
        };
        if api.traits().body != Body::Json {
            return Ok((Split::Never(Whole::Api.label()), None));
        }
        let request = SplitRequest::read(connector, api, body)?;
        let split = match request.whole() {
            Some(whole) => Split::Never(whole.label()),
            None => Split::Allowed { alone: self.decodes_alone(), anywhere: connector.protocol().prefills_alone },
        };
        Ok((split, Some(request)))
    }

    /// Returns how many bodies that are made of a client's one exist at the same time.
    pub fn bodies_at_once(self) -> usize {
        match self {
            Self::Legs(connector) if connector.protocol().order == Order::Together => 2,
            Self::Legs(_) => 1,
            Self::Sidecar => 0,
        }
    }

    /// Returns whether a decode engine can do all of a request.
    pub fn decodes_alone(self) -> bool {
        match self {
            Self::Legs(connector) => connector.protocol().decodes_alone,
            Self::Sidecar => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_the_connector_say_what_is_spoken() {
        for (engine, connector, expected) in [
            ("vLLM", None, Connector::Http),
            ("vLLM", Some("{}"), Connector::Http),
            ("vLLM", Some("{type: lmcache}"), Connector::Lmcache),
            ("vLLM", Some("{type: nixl}"), Connector::Nixl),
            ("vLLM", Some("{type: mooncake}"), Connector::Mooncake),
            ("SGLang", None, Connector::Sglang),
            ("SGLang", Some("{type: mooncake}"), Connector::Sglang),
            ("SGLang", Some("{type: nixl}"), Connector::Sglang),
            ("SGLang", Some("{type: lmcache}"), Connector::Lmcache),
            ("SGLang", Some("{}"), Connector::Http),
        ] {
            let connector = connector.map(|text| format!(", kvConnector: {text}")).unwrap_or_default();
            let spec = |group: &str| {
                let text = format!(
                    "{{inferenceEngine: {engine}, workloadPort: {{port: 1}}, workloadSelector: {{matchLabels: {{a: b}}{group}}}{connector}}}"
                );
                serde_saphyr::from_str::<ModelServerSpec>(&text).unwrap()
            };
            let group = ", pdGroup: {groupKey: g, prefillLabels: {r: p}, decodeLabels: {r: d}}";
            let read = Disaggregation::of_server(&spec(group));
            assert_eq!(read, Some(Disaggregation::Legs(expected)), "{engine}{connector}");
            assert_eq!(Disaggregation::of_server(&spec("")), None, "without a group nothing is shared");
        }
    }

    #[test]
    fn an_annotation_of_a_pool_is_read_or_refused() {
        let of = Disaggregation::of_annotation;
        assert_eq!(of("sidecar"), Ok(Disaggregation::Sidecar));
        assert_eq!(of("nixl"), Ok(Disaggregation::Legs(Connector::Nixl)));
        for wrong in ["", "NIXL", "p2p"] {
            assert!(of(wrong).unwrap_err().contains("nixl"), "{wrong}");
        }
    }
}
