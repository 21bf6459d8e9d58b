//! Where the API server serves the kinds that tests work with.

use anyhow::{Context, Result};

/// A kind of object, and where it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The kind's name.
    pub kind: &'static str,
    /// The API group with its version; only the version for the core group.
    pub api_version: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

const fn namespaced(kind: &'static str, api_version: &'static str, plural: &'static str) -> Kind {
    Kind { kind, api_version, plural, namespaced: true }
}

const fn of_the_cluster(kind: &'static str, api_version: &'static str, plural: &'static str) -> Kind {
    Kind { kind, api_version, plural, namespaced: false }
}

/// Namespaces.
pub const NAMESPACE: Kind = of_the_cluster("Namespace", "v1", "namespaces");
/// Pods.
pub const POD: Kind = namespaced("Pod", "v1", "pods");
/// Services.
pub const SERVICE: Kind = namespaced("Service", "v1", "services");
/// ServiceAccounts.
pub const SERVICE_ACCOUNT: Kind = namespaced("ServiceAccount", "v1", "serviceaccounts");
/// Deployments.
pub const DEPLOYMENT: Kind = namespaced("Deployment", "apps/v1", "deployments");
/// Leases.
pub const LEASE: Kind = namespaced("Lease", "coordination.k8s.io/v1", "leases");
/// Events.
pub const EVENT: Kind = namespaced("Event", "events.k8s.io/v1", "events");
/// GatewayClasses.
pub const GATEWAY_CLASS: Kind = of_the_cluster("GatewayClass", "gateway.networking.k8s.io/v1", "gatewayclasses");
/// Gateways.
pub const GATEWAY: Kind = namespaced("Gateway", "gateway.networking.k8s.io/v1", "gateways");
/// ListenerSets.
pub const LISTENER_SET: Kind = namespaced("ListenerSet", "gateway.networking.k8s.io/v1", "listenersets");
/// HTTPRoutes.
pub const HTTP_ROUTE: Kind = namespaced("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes");
/// BackendTLSPolicies.
pub const BACKEND_TLS_POLICY: Kind =
    namespaced("BackendTLSPolicy", "gateway.networking.k8s.io/v1", "backendtlspolicies");
/// InferencePools.
pub const INFERENCE_POOL: Kind = namespaced("InferencePool", "inference.networking.k8s.io/v1", "inferencepools");
/// ModelRoutes.
pub const MODEL_ROUTE: Kind = namespaced("ModelRoute", "networking.serving.volcano.sh/v1alpha1", "modelroutes");
/// ModelServers.
pub const MODEL_SERVER: Kind = namespaced("ModelServer", "networking.serving.volcano.sh/v1alpha1", "modelservers");
/// CustomResourceDefinitions.
pub const DEFINITION: Kind =
    of_the_cluster("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions");
/// ConfigMaps.
pub const CONFIG_MAP: Kind = namespaced("ConfigMap", "v1", "configmaps");
/// ClusterRoles.
pub const CLUSTER_ROLE: Kind = of_the_cluster("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles");
/// ClusterRoleBindings.
pub const CLUSTER_ROLE_BINDING: Kind =
    of_the_cluster("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings");
/// Roles.
pub const ROLE: Kind = namespaced("Role", "rbac.authorization.k8s.io/v1", "roles");
/// RoleBindings.
pub const ROLE_BINDING: Kind = namespaced("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings");

const ALL: [Kind; 21] = [
    NAMESPACE,
    POD,
    CONFIG_MAP,
    SERVICE,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    LEASE,
    EVENT,
    GATEWAY_CLASS,
    GATEWAY,
    LISTENER_SET,
    HTTP_ROUTE,
    BACKEND_TLS_POLICY,
    INFERENCE_POOL,
    MODEL_ROUTE,
    MODEL_SERVER,
    DEFINITION,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    ROLE,
    ROLE_BINDING,
];

impl Kind {
    /// Returns the kind of this name.
    ///
    /// # Errors
    ///
    /// Returns an error for a name that no test uses.
    pub fn named(kind: &str) -> Result<Self> {
        ALL.into_iter()
            .find(|known| known.kind == kind)
            .with_context(|| format!("`{kind}` is not in the table of kinds"))
    }

    /// Returns the path of all objects of the kind, in a namespace or, with an empty one, everywhere.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let Self { api_version, plural, .. } = self;
        if namespace.is_empty() || !self.namespaced {
            format!("{root}/{api_version}/{plural}")
        } else {
            format!("{root}/{api_version}/namespaces/{namespace}/{plural}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(POD.path("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(POD.path(""), "/api/v1/pods");
        assert_eq!(GATEWAY.path("a"), "/apis/gateway.networking.k8s.io/v1/namespaces/a/gateways");
        assert_eq!(GATEWAY_CLASS.path("a"), "/apis/gateway.networking.k8s.io/v1/gatewayclasses");
        assert_eq!(Kind::named("Lease").map(|kind| kind.plural).ok(), Some("leases"));
    }
}
