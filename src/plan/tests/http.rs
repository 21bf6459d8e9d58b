use super::*;
use crate::fixtures::{Outcome, http_decision};

/// A Gateway with two listeners, and Services `a` and `b` with an endpoint each, `empty` without one.
const SCENE: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: kthena-router, \
 listeners: [{name: plain, port: 8081, protocol: HTTP}, {name: named, port: 8082, protocol: HTTP, hostname: '*.a.org'}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: web, port: 80}, {name: h2, port: 81, appProtocol: kubernetes.io/h2c}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b, namespace: other}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: secure}, spec: {ports: [{port: 443, appProtocol: HTTPS}, {name: odd, port: 80, appProtocol: example.com/odd}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, \
 ports: [{name: web, port: 3000}, {name: h2, port: 3001}], endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2], conditions: {ready: false}}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-2, labels: {kubernetes.io/service-name: a}}, addressType: IPv6, \
 ports: [{name: web, port: 3000}], endpoints: [{addresses: ['fd00::1'], targetRef: {kind: Pod, name: a-0}}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-3, labels: {kubernetes.io/service-name: a}}, addressType: IPv4, \
 ports: [{name: web, port: 3000}], endpoints: [{addresses: [10.1.0.1]}]}
---
";

fn http_route(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n"
    )
}

/// Returns the conditions of the only HTTPRoute for each of its parents, as words such as `0 Accepted` or
/// `1 Accepted=NoMatchingParent`.
fn parents(plan: &Plan) -> Vec<String> {
    let [report] = plan.reports.http_routes.values().collect::<Vec<_>>()[..] else { panic!("there is one route") };
    let words = |HttpParentReport { place, verdict }: &HttpParentReport| {
        let words = verdict.iter().map(|condition| match condition.status {
            true => condition.kind.to_owned(),
            false => format!("{}={}", condition.kind, condition.reason),
        });
        format!("{place} {}", words.collect::<Vec<_>>().join(" "))
    };
    report.parents.iter().map(words).collect()
}

#[test]
fn a_route_is_told_of_each_of_its_own_parents() {
    let ok = "Accepted ResolvedRefs";
    for (case, spec, expected, attached) in [
        ("the whole Gateway", "parentRefs: [{name: g}]", vec![format!("0 {ok}")], [1, 1]),
        ("a section", "parentRefs: [{name: g, sectionName: named}]", vec![format!("0 {ok}")], [0, 1]),
        ("a port", "parentRefs: [{name: g, port: 8081}]", vec![format!("0 {ok}")], [1, 0]),
        (
            "both of two sections",
            "parentRefs: [{name: g, sectionName: plain}, {name: g, sectionName: named}]",
            vec![format!("0 {ok}"), format!("1 {ok}")],
            [1, 1],
        ),
        (
            "the Gateway and a section of it",
            "parentRefs: [{name: g}, {name: g, sectionName: named}]",
            vec![format!("0 {ok}"), format!("1 {ok}")],
            [1, 1],
        ),
        (
            "a port without a listener",
            "parentRefs: [{name: g, port: 1}]",
            vec!["0 Accepted=NoMatchingParent ResolvedRefs".to_owned()],
            [0, 0],
        ),
        ("a stranger beside it", "parentRefs: [{name: x}, {name: g}]", vec![format!("1 {ok}")], [1, 1]),
        ("a Service", "parentRefs: [{group: '', kind: Service, name: g}]", vec![], [0, 0]),
        ("hostnames of one listener", "parentRefs: [{name: g}], hostnames: [b.org]", vec![format!("0 {ok}")], [1, 0]),
        (
            "no hostname of the listener",
            "parentRefs: [{name: g, sectionName: named}], hostnames: [b.org]",
            vec!["0 Accepted=NoMatchingListenerHostname ResolvedRefs".to_owned()],
            [0, 0],
        ),
        (
            "hostnames that cannot be read",
            "parentRefs: [{name: g}], hostnames: ['a b']",
            vec!["0 Accepted=UnsupportedValue ResolvedRefs".to_owned()],
            [0, 0],
        ),
    ] {
        let plan = plan_of(&(SCENE.to_owned() + &http_route("r", spec)));
        assert_eq!(parents(&plan), expected, "{case}");
        let listeners = &plan.reports.gateways[&ObjectKey::new("default", "g")].listeners;
        assert_eq!([listeners[0].attached_routes, listeners[1].attached_routes], attached, "{case}");
    }
}

#[test]
fn backends_lead_to_pools_or_are_told_of() {
    let grant = "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: g, namespace: other}, \
                 spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service}]}}\n---\n";
    for (case, backend, extra, expected, outcome) in [
        ("a Service", "name: a, port: 80", "", "ResolvedRefs", Outcome::Pool("Service default/a".to_owned())),
        (
            "another namespace",
            "name: b, namespace: other, port: 80",
            "",
            "ResolvedRefs=RefNotPermitted",
            Outcome::Invalid,
        ),
        (
            "another namespace that allows it",
            "name: b, namespace: other, port: 80",
            grant,
            "ResolvedRefs",
            Outcome::Pool("Service other/b".to_owned()),
        ),
        ("no such Service", "name: x, port: 80", "", "ResolvedRefs=BackendNotFound", Outcome::Invalid),
        ("no such port", "name: a, port: 82", "", "ResolvedRefs=BackendNotFound", Outcome::Invalid),
        ("no port", "name: a", "", "ResolvedRefs=BackendNotFound", Outcome::Invalid),
        ("another kind", "group: x.org, kind: Z, name: a, port: 80", "", "ResolvedRefs=InvalidKind", Outcome::Invalid),
        ("TLS without a policy", "name: secure, port: 443", "", "ResolvedRefs=UnsupportedProtocol", Outcome::Invalid),
        (
            "a protocol that says nothing",
            "name: secure, port: 80",
            "",
            "ResolvedRefs",
            Outcome::Pool("Service default/secure".to_owned()),
        ),
    ] {
        let spec = format!("parentRefs: [{{name: g, port: 8081}}], rules: [{{backendRefs: [{{{backend}}}]}}]");
        let plan = plan_of(&(SCENE.to_owned() + extra + &http_route("r", &spec)));
        assert_eq!(parents(&plan), [format!("0 Accepted {expected}")], "{case}");
        assert_eq!(http_decision(&plan, 8081, "any", "/"), outcome, "{case}");
    }
}

#[test]
fn the_endpoints_of_a_service_are_those_of_its_slices_that_are_ready() {
    let spec = "parentRefs: [{name: g}], rules: [{backendRefs: [{name: a, port: 80}, {name: a, port: 81}]}]";
    let plan = plan_of(&(SCENE.to_owned() + &http_route("r", spec)));
    let endpoints = |port: u16| -> Vec<String> {
        let is_it = |pool: &&PoolPlan| pool.key.port == Some(port);
        let pool = plan.pools.iter().find(is_it).expect("there is a pool for the port");
        pool.endpoints.iter().map(ToString::to_string).collect()
    };
    assert_eq!(endpoints(80), ["default/10.1.0.1 (10.1.0.1:3000)", "default/a-0 ([fd00::1]:3000)"]);
    assert_eq!(endpoints(81), ["default/10.1.0.1 (10.1.0.1:3001)"]);
    let is_h2c = |pool: &PoolPlan| pool.policy.protocol == crate::pool::policy::BackendProtocol::H2c;
    assert_eq!(plan.pools.iter().map(is_h2c).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn rules_that_cannot_be_used_keep_their_requests() {
    let good = "{matches: [{path: {value: /good}}], backendRefs: [{name: a, port: 80}]}";
    let bad = "{matches: [{path: {value: /bad}}], filters: [{type: ExtensionRef}], backendRefs: [{name: a, port: 80}]}";
    for (case, rules, expected, attached, on_good) in [
        ("all are valid", good.to_owned(), "Accepted ResolvedRefs", 1, Outcome::Pool("Service default/a".to_owned())),
        (
            "some are not",
            format!("{good}, {bad}"),
            "Accepted ResolvedRefs PartiallyInvalid",
            1,
            Outcome::Pool("Service default/a".to_owned()),
        ),
        ("none is", bad.to_owned(), "Accepted=UnsupportedValue ResolvedRefs", 0, Outcome::NoRoute),
    ] {
        let spec = format!("parentRefs: [{{name: g, port: 8081}}], rules: [{rules}]");
        let plan = plan_of(&(SCENE.to_owned() + &http_route("r", &spec)));
        assert_eq!(parents(&plan), [format!("0 {expected}")], "{case}");
        let listener = &plan.reports.gateways[&ObjectKey::new("default", "g")].listeners[0];
        assert_eq!(listener.attached_routes, attached, "{case}");
        assert_eq!(http_decision(&plan, 8081, "any", "/good"), on_good, "{case}");
        let on_bad = if rules.contains("/bad") { Outcome::Invalid } else { Outcome::NoRoute };
        assert_eq!(http_decision(&plan, 8081, "any", "/bad"), on_bad, "{case}");
    }
}
