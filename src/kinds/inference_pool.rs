//! InferencePools as the router reads them: Pods of engines that requests are spread over.
//!
//! Source: <https://gateway-api-inference-extension.sigs.k8s.io/reference/spec/#inferencepool>, and the validation
//! rules of its CustomResourceDefinition, which nobody applies to a file.

use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::names::{is_label_key, is_label_value};

/// The API group of InferencePools.
pub const POOL_GROUP: &str = "inference.networking.k8s.io";

/// The protocol that an InferencePool without another one speaks.
pub const HTTP: &str = "http";

/// The word for HTTP/2 without TLS.
pub const H2C: &str = "kubernetes.io/h2c";

/// How a picker is told to fail if nothing else is said.
pub const FAIL_CLOSE: &str = "FailClose";

/// What a picker is told whose absence should not matter.
pub const FAIL_OPEN: &str = "FailOpen";

/// The most ports.
const MAX_PORTS: usize = 8;

/// The most labels of a selector.
const MAX_LABELS: usize = 64;

/// Groups the Pods that serve the same models.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "inference.networking.k8s.io",
    version = "v1",
    kind = "InferencePool",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct InferencePoolSpec {
    /// The Pods, in the pool's namespace.
    pub selector: PoolSelector,

    /// The ports that each of the Pods serves on, every one an endpoint of its own.
    pub target_ports: Vec<TargetPort>,

    /// The protocol of the ports: `http` or `kubernetes.io/h2c`.
    #[serde(default = "http")]
    pub app_protocol: String,

    /// Who picks the endpoint of each request; the router itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_picker_ref: Option<EndpointPickerRef>,
}

/// Selects Pods.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSelector {
    /// Labels that a Pod must have, all of them.
    pub match_labels: BTreeMap<String, String>,
}

/// A port.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TargetPort {
    /// Its number.
    pub number: i32,
}

/// Names an endpoint picker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPickerRef {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,

    /// Kind.
    #[serde(default = "service")]
    pub kind: String,

    /// Name, in the pool's namespace.
    pub name: String,

    /// The port of a Service, which must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<TargetPort>,

    /// How requests are treated while the picker cannot be asked: `FailOpen` or `FailClose`.
    #[serde(default = "fail_close")]
    pub failure_mode: String,
}

/// Returns what is wrong with a pool beyond its types.
pub fn inference_pool_faults(spec: &InferencePoolSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |path: String, message: String| faults.push(Fault { path, message });
    let labels = &spec.selector.match_labels;
    let path = "spec.selector.matchLabels";
    match labels.len() {
        0 => add(path.to_owned(), "at least one label is needed: a pool of all Pods is never meant".to_owned()),
        1..=MAX_LABELS => {}
        found => add(path.to_owned(), format!("at most {MAX_LABELS} labels are allowed, found {found}")),
    }
    for (key, value) in labels.iter().filter(|(key, value)| !is_label_key(key) || !is_label_value(value)) {
        add(path.to_owned(), format!("`{key}: {value}` cannot be a label"));
    }
    match spec.target_ports.len() {
        0 => add("spec.targetPorts".to_owned(), "at least one port is needed".to_owned()),
        1..=MAX_PORTS => {}
        found => add("spec.targetPorts".to_owned(), format!("at most {MAX_PORTS} ports are allowed, found {found}")),
    }
    for (place, port) in spec.target_ports.iter().enumerate() {
        let path = format!("spec.targetPorts[{place}].number");
        if port.valid().is_none() {
            add(path, format!("`{}` is not a port: 1 to 65535 are", port.number));
        } else if spec.target_ports[..place].contains(port) {
            add(path, format!("the port {} is there twice", port.number));
        }
    }
    if ![HTTP, H2C].contains(&&*spec.app_protocol) {
        add("spec.appProtocol".to_owned(), format!("`{}` is not served: `{HTTP}` and `{H2C}` are", spec.app_protocol));
    }
    if let Some(picker) = &spec.endpoint_picker_ref
        && ![FAIL_OPEN, FAIL_CLOSE].contains(&&*picker.failure_mode)
    {
        let message = format!("`{}` is neither `{FAIL_CLOSE}` nor `{FAIL_OPEN}`", picker.failure_mode);
        add("spec.endpointPickerRef.failureMode".to_owned(), message);
    }
    faults
}

impl TargetPort {
    /// Returns the number if it is a valid port.
    pub fn valid(self) -> Option<u16> {
        u16::try_from(self.number).ok().filter(|number| *number > 0)
    }
}

fn http() -> String {
    HTTP.to_owned()
}

fn service() -> String {
    "Service".to_owned()
}

fn fail_close() -> String {
    FAIL_CLOSE.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_definition_refuses_is_refused_in_files_too() {
        let labels: Vec<_> = (0..=MAX_LABELS).map(|number| format!("l{number}: x")).collect();
        let ports: Vec<_> = (1..=9).map(|number| format!("{{number: {number}}}")).collect();
        for (case, selector, rest, expected) in [
            ("a pool as in the guides", "app: a", "targetPorts: [{number: 8000}]".to_owned(), None),
            ("no label", "", "targetPorts: [{number: 8000}]".to_owned(), Some("spec.selector.matchLabels")),
            (
                "too many labels",
                &*labels.join(", "),
                "targetPorts: [{number: 1}]".to_owned(),
                Some("spec.selector.matchLabels"),
            ),
            ("no label's key", "'a b': c", "targetPorts: [{number: 1}]".to_owned(), Some("spec.selector.matchLabels")),
            ("no port", "app: a", "targetPorts: []".to_owned(), Some("spec.targetPorts")),
            ("too many ports", "app: a", format!("targetPorts: [{}]", ports.join(", ")), Some("spec.targetPorts")),
            ("no such port", "app: a", "targetPorts: [{number: 0}]".to_owned(), Some("spec.targetPorts[0].number")),
            (
                "a port too large",
                "app: a",
                "targetPorts: [{number: 65536}]".to_owned(),
                Some("spec.targetPorts[0].number"),
            ),
            (
                "a port twice",
                "app: a",
                "targetPorts: [{number: 1}, {number: 1}]".to_owned(),
                Some("spec.targetPorts[1].number"),
            ),
            (
                "a protocol",
                "app: a",
                "targetPorts: [{number: 1}], appProtocol: grpc".to_owned(),
                Some("spec.appProtocol"),
            ),
            (
                "a failure mode",
                "app: a",
                "targetPorts: [{number: 1}], endpointPickerRef: {name: p, failureMode: Fail}".to_owned(),
                Some("spec.endpointPickerRef.failureMode"),
            ),
        ] {
            let text = format!("{{selector: {{matchLabels: {{{selector}}}}}, {rest}}}");
            let spec: InferencePoolSpec = serde_saphyr::from_str(&text).unwrap();
            let faults = inference_pool_faults(&spec);
            let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
            assert_eq!(paths, Vec::from_iter(expected), "{case}: {faults:?}");
        }
    }
}
