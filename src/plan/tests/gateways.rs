use super::*;
use crate::addresses::AddressProvider;

/// A text as YAML takes it on one line.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// A Secret with a certificate and its key.
fn secret(name: &str, certificate: &str) -> String {
    let key = include_str!("../../certificate/rsa.pkcs1.key");
    format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {{name: {name}}}, \
         stringData: {{tls.crt: {}, tls.key: {}}}}}\n---\n",
        quoted(certificate),
        quoted(key)
    )
}

/// A ConfigMap with the certificate of an authority.
pub(super) fn authority(name: &str) -> String {
    let certificate = include_str!("../../certificate/rsa.crt");
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}, data: {{ca.crt: {}}}}}\n---\n",
        quoted(certificate)
    )
}

fn certificates() -> String {
    secret("good", include_str!("../../certificate/rsa.crt")) + &secret("broken", "Hello world") + &authority("ca")
}

fn gateway_with(name: &str, spec: &str, listeners: &str) -> String {
    gateway(name, listeners).replace("gatewayClassName", &format!("{spec}gatewayClassName"))
}

/// Returns what a listener or set is not, as words such as `Accepted=HostnameConflict`, in the order of its conditions.
fn faults(conditions: &[Condition]) -> String {
    let failing = conditions.iter().filter(|condition| !condition.status && condition.kind != kind::CONFLICTED);
    let words: Vec<_> = failing.map(|condition| format!("{}={}", condition.kind, condition.reason)).collect();
    words.join(" ")
}

/// Plans for a manifest all of whose sockets are open.
fn open_plan(manifest: &str) -> Plan {
    let mut world = world(manifest);
    for opened in plan(&world, &controller()).binds {
        world.binds.insert(opened.bind, BindState::Open);
    }
    plan(&world, &controller())
}

#[test]
fn https_listeners_need_a_certificate_that_can_be_used() {
    let https = |tls: &str| format!("{{name: l, port: 8443, protocol: HTTPS{tls}}}");
    let invalid = "Programmed=Invalid ResolvedRefs=InvalidCertificateRef";
    for (case, tls, expected, certificates_served) in [
        ("a certificate", "certificateRefs: [{name: good}]", "", 1),
        ("two", "certificateRefs: [{name: good}, {name: good}]", "", 2),
        ("none", "", invalid, 0),
        ("a Secret that is missing", "certificateRefs: [{name: gone}]", invalid, 0),
        ("a Secret that cannot be read", "certificateRefs: [{name: broken}]", invalid, 0),
        ("another kind", "certificateRefs: [{name: good, kind: Other}]", invalid, 0),
        ("another group", "certificateRefs: [{name: good, group: x.org}]", invalid, 0),
        (
            "another namespace",
            "certificateRefs: [{name: good, namespace: other}]",
            "Programmed=Invalid ResolvedRefs=RefNotPermitted",
            0,
        ),
        ("one of two", "certificateRefs: [{name: gone}, {name: good}]", "ResolvedRefs=InvalidCertificateRef", 1),
        (
            "TLS that ends at the backend",
            "mode: Passthrough, certificateRefs: [{name: good}]",
            "Accepted=UnsupportedValue Programmed=Invalid",
            0,
        ),
    ] {
        let plan = open_plan(&(certificates() + &gateway("g", &https(&format!(", tls: {{{tls}}}")))));
        let report = &plan.reports.gateways[&ObjectKey::new("default", "g")];
        assert_eq!(faults(&report.listeners[0].conditions), expected, "{case}");
        assert_eq!(report.listeners[0].supported_kinds.len(), 2, "{case}");
        let served = plan.tls.get(&bind(8443)).map_or(0, |listeners| listeners[0].1.certificates.len());
        assert_eq!(served, certificates_served, "{case}");
        assert_eq!(plan.binds.contains(&BindPlan { bind: bind(8443), tls: true }), served > 0, "{case}");
    }
}

#[test]
fn certificates_of_clients_are_validated_as_their_port_says() {
    let listeners = "{name: a, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: good}]}}, \
                     {name: b, port: 8444, protocol: HTTPS, tls: {certificateRefs: [{name: good}]}}, \
                     {name: c, port: 8080, protocol: HTTP}";
    let by = |reference: &str| format!("validation: {{caCertificateRefs: [{reference}]}}");
    let ca = by("{group: '', kind: ConfigMap, name: ca}");
    let insecure = ca.replace("validation: {", "validation: {mode: AllowInsecureFallback, ");
    let refused = |reason: &str| format!("Accepted=NoValidCACertificate Programmed=Invalid ResolvedRefs={reason}");
    for (case, default, port, on_a, on_b, required) in [
        ("no word of it", String::new(), None, String::new(), String::new(), [None, None]),
        ("on all ports", ca.clone(), None, String::new(), String::new(), [Some(true), Some(true)]),
        ("not on one port", ca.clone(), Some(String::new()), String::new(), String::new(), [Some(true), None]),
        ("loosely on one port", ca.clone(), Some(insecure), String::new(), String::new(), [Some(true), Some(false)]),
        (
            "a ConfigMap that is missing",
            by("{group: '', kind: ConfigMap, name: gone}"),
            Some(ca.clone()),
            refused("InvalidCACertificateRef"),
            String::new(),
            [None, Some(true)],
        ),
        (
            "another kind on one port",
            ca.clone(),
            Some(by("{group: '', kind: Service, name: ca}")),
            String::new(),
            refused("InvalidCACertificateKind"),
            [Some(true), None],
        ),
        (
            "another namespace on one port",
            ca.clone(),
            Some(by("{group: '', kind: ConfigMap, name: ca, namespace: other}")),
            String::new(),
            refused("RefNotPermitted"),
            [Some(true), None],
        ),
        (
            "one ConfigMap of two",
            by("{group: '', kind: ConfigMap, name: gone}, {group: '', kind: ConfigMap, name: ca}"),
            None,
            "ResolvedRefs=InvalidCACertificateRef".to_owned(),
            "ResolvedRefs=InvalidCACertificateRef".to_owned(),
            [Some(true), Some(true)],
        ),
    ] {
        let is_insecure = required.contains(&Some(false));
        let port = port.map(|port| format!(", perPort: [{{port: 8444, tls: {{{port}}}}}]")).unwrap_or_default();
        let spec = format!("tls: {{frontend: {{default: {{{default}}}{port}}}}}, ");
        let plan = open_plan(&(certificates() + &gateway_with("g", &spec, listeners)));
        let report = &plan.reports.gateways[&ObjectKey::new("default", "g")];
        let found: Vec<_> = report.listeners.iter().map(|listener| faults(&listener.conditions)).collect();
        assert_eq!(found, [on_a, on_b, String::new()], "{case}");
        let of = |port| Some(plan.tls.get(&bind(port))?[0].1.validation.as_ref()?.required);
        assert_eq!([of(8443), of(8444)], required, "{case}");
        let told = report.conditions.iter().any(|condition| condition.kind == kind::INSECURE_FRONTEND);
        assert_eq!(told, is_insecure, "{case}");
    }
}

#[test]
fn listeners_that_are_alike_are_conflicted_and_those_with_precedence_win() {
    let set = |name: &str, listeners: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: ListenerSet, metadata: {{name: {name}}}, \
             spec: {{parentRef: {{name: g}}, listeners: [{listeners}]}}}}\n---\n"
        )
    };
    let http = |name: &str, host: &str| format!("{{name: {name}, port: 8081, protocol: HTTP, hostname: {host}}}");
    let manifest = gateway_with(
        "g",
        "allowedListeners: {namespaces: {from: Same}}, ",
        &[http("a", "a.org"), http("b", "b.org"), http("b2", "b.org")].join(", "),
    ) + &set("s1", &[http("a", "a.org"), http("c", "c.org")].join(", "))
        + &set("s2", &http("c", "c.org"))
        + &set("s3", "{name: t, port: 8081, protocol: TCP}, {name: d, port: 8082, protocol: TCP}")
        + &set("s4", &http("b", "b.org"));
    let plan = open_plan(&manifest);
    let of_set = |name: &str| {
        let report = &plan.reports.listener_sets[&ObjectKey::new("default", name)];
        let listeners = report.listeners.iter().map(|listener| faults(&listener.conditions));
        std::iter::once(faults(&report.conditions)).chain(listeners).collect::<Vec<_>>()
    };
    let conflict = |reason: &str| format!("Accepted={reason} Programmed={reason}");
    let (hostname, protocol) = (conflict("HostnameConflict"), conflict("ProtocolConflict"));
    let no_listener = conflict("ListenersNotValid");
    let gateway = &plan.reports.gateways[&ObjectKey::new("default", "g")];
    let own: Vec<_> = gateway.listeners.iter().map(|listener| faults(&listener.conditions)).collect();
    assert_eq!(own, [String::new(), hostname.clone(), hostname.clone()], "none of those of one object wins");
    assert_eq!(of_set("s1"), [String::new(), hostname.clone(), String::new()], "the Gateway has precedence");
    assert_eq!(of_set("s2"), [no_listener.clone(), hostname.clone()], "the first set has precedence");
    let unsupported = "Accepted=UnsupportedProtocol Programmed=Invalid".to_owned();
    assert_eq!(of_set("s3"), [no_listener.clone(), protocol, unsupported], "a protocol on a port that is taken");
    assert_eq!(of_set("s4"), [no_listener, hostname], "a hostname that two listeners of the Gateway want");
    assert_eq!(gateway.attached_sets, 1);
    assert_eq!(gateway.conditions[0].reason, reason::LISTENERS_NOT_VALID);
    assert!(gateway.conditions[0].status);
}

#[test]
fn listener_sets_are_for_gateways_that_allow_them() {
    let set = "{apiVersion: gateway.networking.k8s.io/v1, kind: ListenerSet, metadata: {name: s, namespace: other}, \
               spec: {parentRef: {name: g, namespace: default}, listeners: [{name: l, port: 8082, protocol: HTTP}]}}\n---\n";
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: other}, \
                 spec: {parentRefs: [{kind: ListenerSet, name: s}]}}\n---\n";
    let http = "{name: l, port: 8081, protocol: HTTP}";
    for (case, spec, expected, on_route) in [
        ("no word of it", "", "Accepted=NotAllowed Programmed=NotAllowed", Some(reason::NO_MATCHING_PARENT)),
        (
            "its own namespace",
            "allowedListeners: {namespaces: {from: Same}}, ",
            "Accepted=NotAllowed Programmed=NotAllowed",
            Some(reason::NO_MATCHING_PARENT),
        ),
        ("all namespaces", "allowedListeners: {namespaces: {from: All}}, ", "", None),
        (
            "a Gateway that is not accepted",
            "infrastructure: {parametersRef: {group: x.org, kind: Z, name: z}}, allowedListeners: {namespaces: {from: All}}, ",
            "Accepted=ParentNotAccepted Programmed=ParentNotAccepted",
            Some(reason::NO_MATCHING_PARENT),
        ),
    ] {
        let plan = open_plan(&(gateway_with("g", spec, http) + set + route));
        let report = &plan.reports.listener_sets[&ObjectKey::new("other", "s")];
        assert_eq!(faults(&report.conditions), expected, "{case}");
        let parent = &plan.reports.http_routes[&ObjectKey::new("other", "r")].parents[0];
        assert_eq!(failing(parent.verdict.iter(), kind::ACCEPTED), on_route, "{case}");
        assert_eq!(plan.binds.iter().any(|plan| plan.bind.port == 8082), on_route.is_none(), "{case}");
    }
}

#[test]
fn gateways_that_share_a_socket_speak_one_protocol_with_one_set_of_certificates() {
    let listener = |protocol: &str, tls: &str| format!("{{name: l, port: 8443, protocol: {protocol}{tls}}}");
    let https = |secret: &str| listener("HTTPS", &format!(", tls: {{certificateRefs: [{{name: {secret}}}]}}"));
    let ec = secret("other", include_str!("../../certificate/rsa.crt"));
    for (case, second, expected) in [
        ("the same settings", https("other"), ""),
        ("plain text", listener("HTTP", ""), "Accepted=ProtocolConflict Programmed=ProtocolConflict"),
        (
            "other settings",
            listener("HTTPS", ", tls: {certificateRefs: [{name: good}, {name: good}]}"),
            "Accepted=HostnameConflict Programmed=HostnameConflict",
        ),
    ] {
        let plan = open_plan(&(certificates() + &ec + &gateway("a", &https("good")) + &gateway("b", &second)));
        let on = |name: &str| faults(&plan.reports.gateways[&ObjectKey::new("default", name)].listeners[0].conditions);
        assert_eq!((on("a"), on("b")), (String::new(), expected.to_owned()), "{case}");
        assert_eq!(plan.tls[&bind(8443)].len(), 1, "{case}");
    }
}

#[test]
fn each_gateway_of_a_pool_is_served_on_its_own_address() {
    let http = "{name: l, port: 80, protocol: HTTP}";
    let world = world(&(gateway("a", http) + &gateway("b", http)));
    let pool = AddressProvider::Pool(vec!["10.9.0.0/29".parse().expect("a network is read")]);
    let plan = plan(&world, &Controller { addresses: pool, ..controller() });
    let binds: Vec<_> = plan.binds.iter().map(|plan| plan.bind.to_string()).collect();
    assert_eq!(binds, ["0.0.0.0:8080", "10.9.0.1:80", "10.9.0.2:80"]);
    assert_eq!(plan.reports.gateways[&ObjectKey::new("default", "b")].addresses, ["10.9.0.2"]);
    assert_eq!(plan.allocations.len(), 2);
}

#[test]
fn each_gateway_with_a_load_balancer_has_ports_of_its_own() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: default-b-kthena-router, labels: {\
                   app.kubernetes.io/managed-by: kthena-router, gateway.networking.k8s.io/gateway-name: b}}, \
                   spec: {type: LoadBalancer, ports: [{port: 80, targetPort: 20000}]}, \
                   status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}}\n---\n";
    let http = "{name: l, port: 80, protocol: HTTP}";
    let world = world(&(gateway("a", http) + &gateway("b", http) + service));
    let plan = plan(&world, &Controller { addresses: AddressProvider::Service, ..controller() });
    let of = |name: &str| &plan.reports.gateways[&ObjectKey::new("default", name)];
    assert_eq!(of("b").ports, BTreeMap::from([(80, 20_000)]), "what its Service has already");
    assert_eq!(of("a").ports, BTreeMap::from([(80, 20_001)]));
    assert_eq!(of("b").addresses, ["192.0.2.9"]);
    assert_eq!(failing(&of("a").conditions, kind::PROGRAMMED), Some(reason::ADDRESS_NOT_ASSIGNED));
}
