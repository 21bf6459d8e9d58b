use super::gateways::authority;
use super::*;
use crate::gateway::tls::Trust;

/// A Gateway whose only route leads to both ports of a Service.
const SCENE: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: kthena-router, \
 listeners: [{name: plain, port: 8081, protocol: HTTP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{name: one, port: 443, appProtocol: HTTPS}, {name: two, port: 444}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {parentRefs: [{name: g}], \
 rules: [{backendRefs: [{name: s, port: 443}, {name: s, port: 444}]}]}}
---
";

fn policy(name: &str, target: &str, validation: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {{name: {name}}}, \
         spec: {{targetRefs: [{{group: '', kind: Service, {target}}}], validation: {{hostname: {name}.org, {validation}}}}}}}\n---\n"
    )
}

/// Returns what does not hold of a policy at its only Gateway.
fn told(plan: &Plan, name: &str) -> [Option<&'static str>; 2] {
    let report = &plan.reports.policies[&ObjectKey::new("default", name)];
    let [AncestorReport { gateway, verdict }] = &report.ancestors[..] else { panic!("`{name}` has one ancestor") };
    assert_eq!(gateway, &ObjectKey::new("default", "g"));
    [failing(verdict.iter(), kind::ACCEPTED), failing(verdict.iter(), kind::RESOLVED_REFS)]
}

const CA: &str = "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

#[test]
fn an_invalid_policy_is_told_of_and_lets_no_connection_be_made() {
    for (case, validation, expected, trusts_nobody) in [
        ("a ConfigMap", CA.to_owned(), [None, None], false),
        ("the system", "wellKnownCACertificates: System".to_owned(), [None, None], false),
        ("another well-known set", "wellKnownCACertificates: x.org/y".to_owned(), [Some(reason::INVALID), None], true),
        ("nothing", String::new(), [Some(reason::NO_VALID_CA_CERTIFICATE), None], true),
        (
            "a ConfigMap that is missing",
            CA.replace("name: ca", "name: gone"),
            [Some(reason::NO_VALID_CA_CERTIFICATE), Some(reason::INVALID_CA_CERTIFICATE_REF)],
            true,
        ),
        (
            "another kind",
            CA.replace("ConfigMap", "Secret"),
            [Some(reason::NO_VALID_CA_CERTIFICATE), Some(reason::INVALID_KIND)],
            true,
        ),
        (
            "a name of an unknown type",
            format!("{CA}, subjectAltNames: [{{type: IP}}]"),
            [Some(reason::INVALID), None],
            true,
        ),
        ("a name", format!("{CA}, subjectAltNames: [{{type: URI, uri: 'spiffe://a'}}]"), [None, None], false),
    ] {
        let plan = plan_of(&(SCENE.to_owned() + &authority("ca") + &policy("p", "name: s", &validation)));
        assert_eq!(told(&plan, "p"), expected, "{case}");
        let [tls] = &plan.upstream_tls[..] else { panic!("{case}: both ports have the same settings") };
        let nobody = matches!(&tls.trust, Trust::Authorities(trusted) if trusted.certificates().is_empty());
        assert_eq!(nobody, trusts_nobody, "{case}");
        assert_eq!(tls.server_name, "p.org", "{case}");
    }
}

#[test]
fn the_oldest_policy_has_a_service_and_one_for_a_port_has_the_port() {
    let dated = |name: &str, day: &str, target: &str| {
        policy(name, target, CA)
            .replace("metadata: {", &format!("metadata: {{creationTimestamp: '2026-01-{day}T00:00:00Z', "))
    };
    let conflicted = [Some(reason::CONFLICTED), None];
    for (case, policies, expected, names) in [
        ("by age", [dated("a", "02", "name: s"), dated("b", "01", "name: s")], [conflicted, [None; 2]], vec!["b.org"]),
        ("by name", [dated("a", "01", "name: s"), dated("b", "01", "name: s")], [[None; 2], conflicted], vec!["a.org"]),
        (
            "for one port",
            [dated("a", "01", "name: s"), dated("b", "02", "name: s, sectionName: one")],
            [[None; 2], [None; 2]],
            vec!["b.org", "a.org"],
        ),
        (
            "twice for one port",
            [dated("a", "02", "name: s, sectionName: one"), dated("b", "01", "name: s, sectionName: one")],
            [conflicted, [None; 2]],
            vec!["b.org"],
        ),
    ] {
        let plan = plan_of(&(SCENE.to_owned() + &authority("ca") + &policies.concat()));
        assert_eq!(["a", "b"].map(|name| told(&plan, name)), expected, "{case}");
        let used: Vec<_> = plan.upstream_tls.iter().map(|tls| &*tls.server_name).collect();
        assert_eq!(used, names, "{case}");
    }
}

#[test]
fn a_policy_that_no_route_leads_to_has_no_ancestor() {
    let plan = plan_of(&(SCENE.to_owned() + &authority("ca") + &policy("p", "name: other", CA)));
    assert!(plan.reports.policies[&ObjectKey::new("default", "p")].ancestors.is_empty());
    assert!(plan.upstream_tls.is_empty());
}
