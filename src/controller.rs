//! The router's own settings, and its names in the cluster.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::addresses::AddressProvider;
use crate::object::{Bind, ObjectKey};

/// The controller that our GatewayClasses name.
pub const CONTROLLER_NAME: &str = "volcano.sh/kthena-router";

/// The GatewayClass that is ours even where nobody wrote it.
pub const CLASS_NAME: &str = "kthena-router";

/// The name that the router's own Service has unless it was told another.
pub const SERVICE_NAME: &str = "kthena-router";

/// The annotation of a ModelServer or an InferencePool that names the scheduler's profile by which its endpoints are
/// picked.
pub const SCHEDULER_PROFILE: &str = "networking.serving.volcano.sh/scheduler-profile";

/// The annotation of a Gateway that says which other origins may call its ModelRoutes: the fields of an HTTPRoute's CORS
/// filter, as YAML or JSON.
pub const CORS: &str = "networking.serving.volcano.sh/cors";

/// The annotation of an InferencePool that says how its prefill Pods hand KV caches to its decode Pods: `http`, `lmcache`,
/// `nixl`, `mooncake`, `sglang`, or `sidecar`.
pub const KV_CONNECTOR: &str = "networking.serving.volcano.sh/kv-connector";

/// The annotation of a ModelServer or an InferencePool that says where its engines tell of their KV caches: `PORT`,
/// `PORT/REPLAYPORT` or `discover`.
pub const KV_EVENTS: &str = "networking.serving.volcano.sh/kv-events";

/// The name of the default Gateway.
pub const DEFAULT_GATEWAY: &str = "default";

/// The router's own settings, as far as plans depend on them.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Whether Gateways are served.
    pub gateway_api: bool,
    /// Whether HTTPRoutes may lead to InferencePools.
    pub inference_extension: bool,
    /// Whether the router picks the endpoints of InferencePools itself even where they refer to a picker.
    pub prefer_builtin_picker: bool,
    /// The router's own namespace.
    pub namespace: String,
    /// The address that ports are opened on.
    pub bind_address: IpAddr,
    /// Where the addresses of Gateways come from.
    pub addresses: AddressProvider,
    /// The inference port.
    pub port: u16,
    /// Whether the inference port speaks TLS.
    pub tls: bool,
    /// Whether a Pod without status conditions counts as ready, as in a directory of manifests.
    pub trust_pods_without_conditions: bool,
    /// The router's own Service; its addresses are all Gateways' addresses.
    pub service: ObjectKey,
    /// Whether the ports of that Service are kept in step with the listeners.
    pub sync_service_ports: bool,
    /// The names of the scheduler's profiles.
    pub profiles: BTreeSet<Arc<str>>,
    /// Whether the GatewayClass and the default Gateway are created where they are missing.
    pub provides: bool,
}

impl Default for Controller {
    /// Returns a router that serves from a directory of manifests without any option.
    fn default() -> Self {
        Self {
            gateway_api: true,
            inference_extension: false,
            prefer_builtin_picker: false,
            namespace: "default".to_owned(),
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            addresses: AddressProvider::Shared,
            port: 8080,
            tls: false,
            trust_pods_without_conditions: true,
            service: ObjectKey::new("default", SERVICE_NAME),
            sync_service_ports: false,
            profiles: BTreeSet::new(),
            provides: false,
        }
    }
}

impl Controller {
    /// Returns the key of the default Gateway.
    pub fn default_gateway(&self) -> ObjectKey {
        ObjectKey::new(&*self.namespace, DEFAULT_GATEWAY)
    }

    /// Says that a pool names a profile that the scheduler does not have; nothing for one that it has.
    pub fn unknown_profile(&self, name: Option<&str>) -> Option<String> {
        let name = name.filter(|name| !self.profiles.contains(*name))?;
        Some(format!(
            "the annotation `{SCHEDULER_PROFILE}` names the profile `{name}`, which `--scheduler-config` does not have: \
             endpoints are picked as for pools without it"
        ))
    }

    /// Returns whether a socket speaks TLS whatever the listeners on it say: the inference port with a certificate.
    pub fn speaks_tls(&self, bind: Bind) -> bool {
        self.tls && bind == Bind { address: self.bind_address, port: self.port }
    }
}
