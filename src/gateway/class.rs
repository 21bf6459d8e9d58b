//! GatewayClasses: which of them are ours, and what is reported of them.
//!
//! Source: Gateway API, `GatewayClass`: a class belongs to the controller that it names, and `SupportedVersion` tells
//! whether that controller serves the release of the installed CustomResourceDefinitions.

use crate::addresses::AddressProvider;
use crate::conditions::{Condition, kind, reason};
use crate::controller::{CLASS_NAME, CONTROLLER_NAME};
use crate::object::ObjectKey;
use crate::world::World;

/// The CustomResourceDefinition whose annotation says which release of the Gateway API is installed.
pub const DEFINITION: &str = "gatewayclasses.gateway.networking.k8s.io";

/// The major and the last minor version of the Gateway API that the router serves, from the first of that major on.
const SERVED: (u32, u32) = (1, 6);

/// The first minor version whose GatewayClasses can say which features are supported.
const FEATURES_SINCE: u32 = 4;

/// The feature of carrying labels and annotations of a Gateway over to what is made for it.
const INFRASTRUCTURE: &str = "GatewayInfrastructurePropagation";

/// The features of the Gateway API that are supported, by name in alphabetical order.
pub const FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    INFRASTRUCTURE,
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
];

/// Returns the features that a class can be said to support; none where the installed release has no field for them.
pub fn features(world: &World, addresses: &AddressProvider) -> Vec<&'static str> {
    let definition = world.definitions.find(&ObjectKey::new("", DEFINITION));
    let version = definition.and_then(|facts| facts.bundle_version.as_deref()).and_then(version);
    if version.is_none_or(|version| version < (1, FEATURES_SINCE)) {
        return Vec::new();
    }
    // Only this provider makes something in the namespace of a Gateway.
    let propagates = matches!(addresses, AddressProvider::Pool(_));
    FEATURES.iter().copied().filter(|feature| propagates || *feature != INFRASTRUCTURE).collect()
}

/// Returns whether Gateways of this class are ours: by the class's controller, or by name while the class is unknown.
pub fn is_own(world: &World, class: &str) -> bool {
    match world.gateway_classes.find(&ObjectKey::new("", class)) {
        Some(known) => known.controller_name == CONTROLLER_NAME,
        None => class == CLASS_NAME,
    }
}

/// Returns the conditions of each of our classes.
pub fn conditions(world: &World) -> impl Iterator<Item = (ObjectKey, Vec<Condition>)> {
    let version = world.definitions.find(&ObjectKey::new("", DEFINITION)).map(|facts| facts.bundle_version.as_deref());
    let ours = world.gateway_classes.iter().filter(|(_, class)| class.controller_name == CONTROLLER_NAME);
    ours.map(move |(key, _)| {
        let accepted = Condition::holds(kind::ACCEPTED, reason::ACCEPTED);
        (key.clone(), std::iter::once(accepted).chain(version.map(supported_version)).collect())
    })
}

fn supported_version(installed: Option<&str>) -> Condition {
    let (major, minor) = SERVED;
    match installed {
        Some(version) if is_served(version) => Condition::holds(kind::SUPPORTED_VERSION, reason::SUPPORTED_VERSION),
        Some(version) => {
            let message = format!(
                "release `{version}` of the Gateway API is installed, v{major}.0 to v{major}.{minor} are served"
            );
            Condition::fails(kind::SUPPORTED_VERSION, reason::UNSUPPORTED_VERSION, message)
        }
        None => {
            let message = format!("the CustomResourceDefinition `{DEFINITION}` does not say which release it is of");
            Condition::fails(kind::SUPPORTED_VERSION, reason::UNSUPPORTED_VERSION, message)
        }
    }
}

fn is_served(installed: &str) -> bool {
    version(installed).is_some_and(|(major, minor)| major == SERVED.0 && minor <= SERVED.1)
}

/// Reads the major and the minor version of a release such as `v1.6.1`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.strip_prefix('v').unwrap_or(release).split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_listed_in_order_and_only_where_there_is_a_field_for_them() {
        assert!(FEATURES.is_sorted());
        let definition = |annotations: &str| {
            crate::fixtures::world(&format!(
                "{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: {DEFINITION}, \
                 annotations: {{{annotations}}}}}, spec: {{group: gateway.networking.k8s.io, scope: Cluster, \
                 names: {{kind: GatewayClass, plural: gatewayclasses}}, versions: []}}}}"
            ))
        };
        let release = |release: &str| definition(&format!("gateway.networking.k8s.io/bundle-version: {release}"));
        for (case, world, expected) in [
            ("a release with the field", release("v1.6.1"), true),
            ("a release without it", release("v1.3.0"), false),
            ("an unknown release", definition(""), false),
            ("no definition", World::default(), false),
        ] {
            let features = features(&world, &AddressProvider::Shared);
            assert_eq!(!features.is_empty(), expected, "{case}");
            assert!(!features.contains(&INFRASTRUCTURE), "{case}: nothing is made for Gateways");
        }
    }

    #[test]
    fn only_releases_up_to_the_served_one_are_supported() {
        let cases = [
            ("v1.0.0", true),
            ("v1.6.1", true),
            ("v1.5.0-rc.1", true),
            ("v1.7.0", false),
            ("v0.8.1", false),
            ("", false),
        ];
        for (version, expected) in cases {
            assert_eq!(supported_version(Some(version)).status, expected, "{version}");
        }
        assert!(!supported_version(None).status, "a definition without the annotation");
    }
}
