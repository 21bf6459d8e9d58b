//! The features of the Gateway API that the router supports, by the release and the channel of the installed definitions.
//!
//! Source: Gateway API, `GatewayClassStatus.supportedFeatures`, and the package `pkg/features` of each release. A release
//! has names of its own for features, and the standard channel lacks some fields: the API server drops what is written in
//! them, so that a feature which needs them must not be claimed there.

use crate::world::Channel;

/// The first minor release whose GatewayClasses can say which features are supported.
const FIRST: u32 = 4;

/// A feature, and where the Gateway API knows it.
#[derive(Clone, Copy, Debug)]
struct Feature {
    name: &'static str,
    /// The first minor release whose experimental channel knows it.
    experimental: u32,
    /// The first minor release whose standard channel knows it; `None` if none does.
    standard: Option<u32>,
    /// The last minor release that knows it; `None` while it is still known.
    last: Option<u32>,
    /// Whether it needs addresses that belong to one Gateway alone.
    needs_own_addresses: bool,
}

impl Feature {
    /// A feature that both channels know since this minor release.
    const fn since(minor: u32, name: &'static str) -> Self {
        Self { name, experimental: minor, standard: Some(minor), last: None, needs_own_addresses: false }
    }

    /// A feature that both channels have always known.
    const fn always(name: &'static str) -> Self {
        Self::since(FIRST, name)
    }

    const fn in_standard_since(self, standard: u32) -> Self {
        Self { standard: Some(standard), ..self }
    }

    const fn experimental_only(self) -> Self {
        Self { standard: None, ..self }
    }

    const fn until(self, last: u32) -> Self {
        Self { last: Some(last), ..self }
    }

    const fn with_own_addresses(self) -> Self {
        Self { needs_own_addresses: true, ..self }
    }

    fn is_known_to(self, minor: u32, channel: Channel) -> bool {
        let first = match channel {
            Channel::Standard => self.standard,
            Channel::Experimental => Some(self.experimental),
        };
        first.is_some_and(|first| first <= minor) && self.last.is_none_or(|last| minor <= last)
    }
}

/// All of them, by name in alphabetical order.
const FEATURES: &[Feature] = &[
    Feature::always("BackendTLSPolicy"),
    Feature::always("BackendTLSPolicySANValidation"),
    Feature::always("Gateway"),
    Feature::always("GatewayAddressEmpty"),
    Feature::since(5, "GatewayBackendClientCertificate"),
    Feature::since(5, "GatewayFrontendClientCertificateValidation"),
    Feature::since(5, "GatewayFrontendClientCertificateValidationInsecureFallback"),
    Feature::always("GatewayHTTPListenerIsolation"),
    Feature::since(5, "GatewayHTTPSListenerDetectMisdirectedRequests"),
    Feature::since(7, "GatewayInfrastructure").with_own_addresses(),
    Feature::always("GatewayInfrastructurePropagation").until(6).with_own_addresses(),
    Feature::always("GatewayPort8080"),
    Feature::since(7, "GatewayRouteHostnameIntersectionPrecedence"),
    Feature::always("GatewayStaticAddresses"),
    Feature::always("HTTPRoute"),
    Feature::since(5, "HTTPRoute303RedirectStatusCode"),
    Feature::since(5, "HTTPRoute307RedirectStatusCode"),
    Feature::since(5, "HTTPRoute308RedirectStatusCode"),
    Feature::always("HTTPRouteBackendProtocolH2C"),
    Feature::always("HTTPRouteBackendProtocolWebSocket"),
    Feature::always("HTTPRouteBackendRequestHeaderModification"),
    Feature::always("HTTPRouteBackendTimeout"),
    Feature::since(7, "HTTPRouteBackendURLRewrite"),
    Feature::always("HTTPRouteCORS").in_standard_since(5),
    Feature::always("HTTPRouteDestinationPortMatching"),
    Feature::always("HTTPRouteHostRewrite"),
    Feature::always("HTTPRouteMethodMatching"),
    Feature::always("HTTPRouteNamedRouteRule"),
    Feature::always("HTTPRouteParentRefPort"),
    Feature::always("HTTPRoutePathRedirect"),
    Feature::always("HTTPRoutePathRewrite"),
    Feature::always("HTTPRoutePortRedirect"),
    Feature::always("HTTPRouteQueryParamMatching"),
    Feature::always("HTTPRouteRequestMirror"),
    Feature::always("HTTPRouteRequestMultipleMirrors"),
    Feature::always("HTTPRouteRequestPercentageMirror"),
    Feature::always("HTTPRouteRequestTimeout"),
    Feature::always("HTTPRouteResponseHeaderModification"),
    Feature::since(6, "HTTPRouteRetry").experimental_only().until(6),
    Feature::since(6, "HTTPRouteRetryBackendTimeout").experimental_only().until(6),
    Feature::since(7, "HTTPRouteRetryCodes"),
    Feature::since(6, "HTTPRouteRetryConnectionError").in_standard_since(7),
    Feature::always("HTTPRouteSchemeRedirect"),
    Feature::since(5, "ListenerSet"),
    Feature::always("ReferenceGrant"),
];

/// Returns the features that the minor release v1.`minor` knows on this channel, in alphabetical order; none where its
/// GatewayClasses have no field for them. `own_addresses` tells whether each Gateway gets addresses of its own.
pub(super) fn supported(minor: u32, channel: Channel, own_addresses: bool) -> Vec<&'static str> {
    if minor < FIRST {
        return Vec::new();
    }
    let known = FEATURES.iter().filter(|feature| feature.is_known_to(minor, channel));
    known.filter(|feature| own_addresses || !feature.needs_own_addresses).map(|feature| feature.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feature, where it is claimed, and where it is not.
    type Case = (&'static str, &'static [(u32, Channel)], &'static [(u32, Channel)]);

    #[test]
    fn features_are_in_alphabetical_order() {
        assert!(FEATURES.is_sorted_by_key(|feature| feature.name));
    }

    #[test]
    fn a_release_and_its_channel_decide_which_features_are_claimed() {
        use Channel::{Experimental, Standard};
        let cases: &[Case] = &[
            ("HTTPRoute", &[(4, Standard), (7, Experimental), (8, Standard)], &[(3, Experimental)]),
            ("HTTPRouteCORS", &[(4, Experimental), (5, Standard)], &[(4, Standard)]),
            ("ListenerSet", &[(5, Standard), (7, Standard)], &[(4, Experimental)]),
            ("HTTPRouteRetry", &[(6, Experimental)], &[(6, Standard), (5, Experimental), (7, Experimental)]),
            ("HTTPRouteRetryBackendTimeout", &[(6, Experimental)], &[(6, Standard), (7, Standard)]),
            ("HTTPRouteRetryConnectionError", &[(6, Experimental), (7, Standard)], &[(6, Standard)]),
            ("HTTPRouteRetryCodes", &[(7, Standard), (7, Experimental)], &[(6, Experimental)]),
            ("GatewayInfrastructure", &[(7, Standard)], &[(6, Experimental)]),
            ("GatewayInfrastructurePropagation", &[(4, Standard), (6, Standard)], &[(7, Experimental)]),
            ("GatewayRouteHostnameIntersectionPrecedence", &[(7, Standard)], &[(6, Experimental)]),
            ("HTTPRouteBackendURLRewrite", &[(7, Standard)], &[(6, Experimental)]),
        ];
        for (feature, claimed, unclaimed) in cases {
            for (release, expected) in [(claimed, true), (unclaimed, false)] {
                for (minor, channel) in *release {
                    let features = supported(*minor, *channel, true);
                    assert_eq!(features.contains(feature), expected, "{feature} in v1.{minor}, {channel:?}");
                }
            }
        }
    }

    #[test]
    fn what_needs_own_addresses_is_not_claimed_without_them() {
        for (minor, feature) in [(6, "GatewayInfrastructurePropagation"), (7, "GatewayInfrastructure")] {
            for own_addresses in [false, true] {
                let features = supported(minor, Channel::Standard, own_addresses);
                assert_eq!(features.contains(&feature), own_addresses, "{feature}: {own_addresses}");
            }
        }
    }
}
