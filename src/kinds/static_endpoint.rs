//! Serving instances that a ModelServer lists instead of selecting Pods.
//!
//! Source: `ModelServer.spec.endpoints` of the Go kthena-router, whose file mode has no Pods to select.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::faults::{Faults, label_map_faults};
use super::model_server::ModelServerSpec;
use super::names::is_dns_subdomain;

/// The most serving instances that a ModelServer lists.
pub const MAX_ENDPOINTS: usize = 1024;

/// A serving instance.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct StaticEndpoint {
    /// Name of the instance, unique within the ModelServer. In metrics and logs the instance is called
    /// `<name of the ModelServer>:<name>`.
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,

    /// IP address or DNS name of the instance.
    #[schemars(length(max = 253))]
    pub address: String,

    /// Port of the instance; that of `spec.workloadPort` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,

    /// Labels of the instance, by which `spec.workloadSelector.pdGroup` tells its role.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl StaticEndpoint {
    /// Returns the name by which the instance has to be looked up; `None` for one with an IP address.
    pub fn dns_name(&self) -> Option<&str> {
        Some(self.address.as_str()).filter(|address| address.parse::<IpAddr>().is_err())
    }
}

/// Checks which instances a ModelServer has: listed ones, or Pods that it selects.
pub(super) fn endpoint_faults(spec: &ModelServerSpec, faults: &mut Faults) {
    let (selects, path) = (!spec.workload_selector.match_labels.is_empty(), "spec.endpoints");
    if spec.endpoints.is_empty() {
        return;
    }
    faults.check(!selects, path, || {
        "excludes `spec.workloadSelector.matchLabels`: only one of them may be set".to_owned()
    });
    faults.at_most(MAX_ENDPOINTS, spec.endpoints.len(), path, "endpoints");
    let mut names = BTreeSet::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let StaticEndpoint { name, address, port, labels } = endpoint;
        let path = format!("{path}[{index}]");
        faults.check(is_dns_subdomain(name), &format!("{path}.name"), || {
            format!("`{name}` is not a name: lower case, digits, `-` and `.`")
        });
        faults
            .check(names.insert(name), &format!("{path}.name"), || format!("`{name}` is the name of another endpoint"));
        let is_address = address.parse::<IpAddr>().is_ok() || is_dns_subdomain(&address.to_ascii_lowercase());
        faults.check(is_address, &format!("{path}.address"), || {
            format!("`{address}` is neither an IP address nor a DNS name")
        });
        let port = port.or_else(|| spec.port());
        faults.check(port.is_some_and(|port| port != 0), &format!("{path}.port"), || {
            "is required where `spec.workloadPort` has no port".to_owned()
        });
        label_map_faults(labels, &format!("{path}.labels"), faults);
    }
}
