//! GatewayClasses: which of them are ours, and what is reported of them.
//!
//! Source: Gateway API, `GatewayClass`: a class belongs to the controller that it names, and `SupportedVersion` tells
//! whether that controller serves the release of the installed CustomResourceDefinitions.

use super::features;
use crate::addresses::AddressProvider;
use crate::conditions::{Condition, kind, reason};
use crate::controller::{CLASS_NAME, CONTROLLER_NAME};
use crate::object::ObjectKey;
use crate::world::World;

/// The CustomResourceDefinition whose annotation says which release of the Gateway API is installed.
pub const DEFINITION: &str = "gatewayclasses.gateway.networking.k8s.io";

/// The major and the last minor version of the Gateway API that the router serves, from the first of that major on.
const SERVED: (u32, u32) = (1, 7);

/// Returns the features that a class can be said to support; none where the installed release has no field for them.
pub fn features(world: &World, addresses: &AddressProvider) -> Vec<&'static str> {
    let Some(facts) = world.definitions.find(&ObjectKey::new("", DEFINITION)) else { return Vec::new() };
    match facts.bundle_version.as_deref().and_then(version) {
        // Only this provider makes something in the namespace of a Gateway.
        Some((1, minor)) => features::supported(minor, facts.channel, matches!(addresses, AddressProvider::Pool(_))),
        Some(_) | None => Vec::new(),
    }
}

/// Returns whether Gateways of this class are ours: by the class's controller, or by name while the class is unknown.
pub fn is_own(world: &World, class: &str) -> bool {
    match world.gateway_classes.find(&ObjectKey::new("", class)) {
        Some(known) => known.controller_name == CONTROLLER_NAME,
        None => class == CLASS_NAME,
    }
}

/// Returns each of our classes with its generation and its conditions.
pub fn conditions(world: &World) -> impl Iterator<Item = (&ObjectKey, i64, Vec<Condition>)> {
    let version = world.definitions.find(&ObjectKey::new("", DEFINITION)).map(|facts| facts.bundle_version.as_deref());
    let ours = world.gateway_classes.iter().filter(|(_, class)| class.controller_name == CONTROLLER_NAME);
    ours.map(move |(key, class)| {
        let accepted = Condition::holds(kind::ACCEPTED, reason::ACCEPTED);
        (key, class.record.generation, std::iter::once(accepted).chain(version.map(supported_version)).collect())
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
    use crate::object::Kind;

    fn world_with(annotations: &str) -> World {
        crate::fixtures::world(&format!(
            "{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: {DEFINITION}, \
             annotations: {{{annotations}}}}}, spec: {{group: gateway.networking.k8s.io, scope: Cluster, \
             names: {{kind: GatewayClass, plural: gatewayclasses}}, versions: []}}}}"
        ))
    }

    #[test]
    fn the_installed_definitions_decide_which_features_are_claimed() {
        let installed = |release: &str, channel: &str| {
            world_with(&format!(
                "gateway.networking.k8s.io/bundle-version: {release}, gateway.networking.k8s.io/channel: {channel}"
            ))
        };
        for (case, world, any, retry) in [
            ("the standard channel of 1.7", installed("v1.7.0", "standard"), true, "HTTPRouteRetryCodes"),
            ("the experimental channel of 1.6", installed("v1.6.1", "experimental"), true, "HTTPRouteRetry"),
            ("the standard channel of 1.6, which drops `retry`", installed("v1.6.1", "standard"), true, ""),
            ("a release without the field", installed("v1.3.0", "experimental"), false, ""),
            ("a release of another major version", installed("v2.0.0", "standard"), false, ""),
            ("an unknown release", world_with(""), false, ""),
            ("no definition", World::default(), false, ""),
        ] {
            let features = features(&world, &AddressProvider::Shared);
            assert_eq!(!features.is_empty(), any, "{case}");
            let found: Vec<_> =
                features.iter().filter(|name| matches!(**name, "HTTPRouteRetry" | "HTTPRouteRetryCodes")).collect();
            assert_eq!(found, Vec::from_iter((!retry.is_empty()).then_some(&retry)), "{case}");
        }
    }

    #[test]
    fn the_definition_that_is_watched_is_the_one_that_is_read() {
        let watched = Kind::CustomResourceDefinition.field_selector();
        assert_eq!(watched, Some(&*format!("metadata.name={DEFINITION}")));
    }

    #[test]
    fn only_releases_up_to_the_served_one_are_supported() {
        let cases = [
            ("v1.0.0", true),
            ("v1.6.1", true),
            ("v1.5.0-rc.1", true),
            ("v1.7.0", true),
            ("v1.8.0", false),
            ("v0.8.1", false),
            ("", false),
        ];
        for (version, expected) in cases {
            assert_eq!(supported_version(Some(version)).status, expected, "{version}");
        }
        assert!(!supported_version(None).status, "a definition without the annotation");
    }
}
