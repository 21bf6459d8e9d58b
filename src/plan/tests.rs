use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::conditions::{Condition, kind, reason};
use crate::controller::CONTROLLER_NAME;
use crate::fixtures::{FirstDraw, Pairs, bind, controller, decision, plan_of, world};
use crate::inference::health::Cause;
use crate::manifest::read;
use crate::object::{BindState, ObjectKey, PoolKey};
use crate::request_head::RequestHead;
use crate::routing::decision::{Asked, Decision, Verdict};
use crate::world::Ejected;

mod endpoints;
mod gateways;
mod http;
mod inference_pools;
mod policies;
mod profiles;

/// Two ModelServers, `small` with a ready Pod and `large` with one, and `empty` without any.
const SERVERS: &str = "
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {name: small}, spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: small}}, workloadPort: {port: 8000}}}
---
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {name: large}, spec: {inferenceEngine: SGLang, workloadSelector: {matchLabels: {app: large}}, workloadPort: {port: 8000}}}
---
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {name: empty}, spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: empty}}, workloadPort: {port: 8000}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: small-0, labels: {app: small}}, status: {podIP: 10.1.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: large-0, labels: {app: large}}, status: {podIP: 10.1.0.2}}
---
";

fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {name}}}, \
         spec: {{gatewayClassName: kthena-router, listeners: [{listeners}]}}}}\n---\n"
    )
}

fn route(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelRoute, \
         metadata: {{name: {name}}}, spec: {{{spec}}}}}\n---\n"
    )
}

fn to(server: &str) -> String {
    format!("rules: [{{targetModels: [{{modelServerName: {server}}}]}}]")
}

fn failing<'c>(conditions: impl IntoIterator<Item = &'c Condition>, kind: &str) -> Option<&'static str> {
    conditions
        .into_iter()
        .find(|condition| condition.kind == kind && !condition.status)
        .map(|condition| condition.reason)
}

#[test]
fn two_gateways_isolate_one_model_name() {
    let plan = plan_of(
        &(SERVERS.to_owned()
            + &gateway("other", "{name: http, port: 8081, protocol: HTTP}")
            + &route("first", &format!("modelName: m, parentRefs: [{{name: default}}], {}", to("small")))
            + &route("second", &format!("modelName: m, parentRefs: [{{name: other}}], {}", to("large")))),
    );
    assert_eq!(decision(&plan, 8080, "any", "m", &[]), "first -> small");
    assert_eq!(decision(&plan, 8081, "any", "m", &[]), "second -> large");
    assert_eq!(decision(&plan, 8082, "any", "m", &[]), "no listener");
    let ports: Vec<_> = plan.binds.iter().map(|plan| plan.bind.port).collect();
    assert_eq!(ports, [8080, 8081]);
}

#[test]
fn an_annotation_of_a_route_says_how_important_its_requests_are() {
    for (text, expected, complaints) in [("10", 10, 0), ("-1", -1, 0), ("high", 0, 1)] {
        let manifest = SERVERS.to_owned()
            + &route("r", &format!("modelName: m, parentRefs: [{{name: default}}], {}", to("small")));
        let annotated =
            format!("metadata: {{name: r, annotations: {{networking.serving.volcano.sh/priority: '{text}'}}}}");
        let plan = plan_of(&manifest.replace("metadata: {name: r}", &annotated));
        assert_eq!(decision(&plan, 8080, "any", "m", &[]), "r -> small", "{text}");
        let head = RequestHead { method: "POST", host: "any", path: "/", query: "", headers: &Pairs(&[]) };
        let decided = plan.table.decide(bind(8080), &head, Asked::Model("m"), &FirstDraw(&plan));
        let Ok(Verdict::Serve(Decision { route, .. })) = decided else { panic!("{decided:?}") };
        assert_eq!(route.priority(), expected, "{text}");
        let unserved = plan.reports.unserved();
        assert_eq!(unserved.len(), complaints, "{text}: {unserved:?}");
        assert!(unserved.iter().all(|complaint| complaint.text.contains(text)), "{unserved:?}");
        assert_eq!(plan.reports.complaints().len(), 0, "the route is served");
    }
}

#[test]
fn parent_refs_lead_to_the_listeners_that_they_name() {
    let listeners = "{name: a, port: 8081, protocol: HTTP, hostname: a.org}, {name: b, port: 8082, protocol: HTTP}";
    for (name, parent, on_a, on_b, refused) in [
        ("the whole gateway", "name: g", true, true, None),
        ("a section", "name: g, sectionName: a", true, false, None),
        ("a port", "name: g, port: 8082", false, true, None),
        ("a section on its port", "name: g, sectionName: a, port: 8081", true, false, None),
        (
            "a section on another port",
            "name: g, sectionName: a, port: 8082",
            false,
            false,
            Some(reason::NO_MATCHING_PARENT),
        ),
        ("an unknown section", "name: g, sectionName: c", false, false, Some(reason::NO_MATCHING_PARENT)),
        ("an unknown gateway", "name: h", false, false, Some(reason::NO_MATCHING_PARENT)),
        ("another namespace", "name: g, namespace: other", false, false, Some(reason::NO_MATCHING_PARENT)),
        ("another kind", "name: g, kind: Service, group: \"\"", false, false, Some(reason::NO_MATCHING_PARENT)),
    ] {
        let spec = format!("modelName: m, parentRefs: [{{{parent}}}], {}", to("small"));
        let plan = plan_of(&(SERVERS.to_owned() + &gateway("g", listeners) + &route("r", &spec)));
        let found = |port, host| decision(&plan, port, host, "m", &[]) == "r -> small";
        assert_eq!((found(8081, "a.org"), found(8082, "b.org")), (on_a, on_b), "{name}");
        let report = &plan.reports.routes[&ObjectKey::new("default", "r")];
        assert_eq!(failing(report.parents[0].iter(), kind::ACCEPTED), refused, "{name}");
    }
}

#[test]
fn listeners_let_in_whom_their_allowed_routes_name() {
    let spec = format!("modelName: m, parentRefs: [{{name: g, namespace: infra}}], {}", to("small"));
    let namespaces = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {team: a}}}\n---\n";
    for (name, allowed, attached) in [
        ("same namespace by default", "", false),
        ("all namespaces", ", allowedRoutes: {namespaces: {from: All}}", true),
        ("selected", ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}", true),
        ("not selected", ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}", false),
        (
            "selected by its name",
            ", allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: \
             [{key: kubernetes.io/metadata.name, operator: In, values: [default]}]}}}",
            true,
        ),
        ("this kind", ", allowedRoutes: {namespaces: {from: All}, kinds: [{kind: ModelRoute}]}", true),
        ("another kind", ", allowedRoutes: {namespaces: {from: All}, kinds: [{kind: HTTPRoute}]}", false),
    ] {
        let gateway = gateway("g, namespace: infra", &format!("{{name: http, port: 8081, protocol: HTTP{allowed}}}"));
        let plan = plan_of(&(SERVERS.to_owned() + namespaces + &gateway + &route("r", &spec)));
        let expected = if attached { "r -> small" } else { "no route" };
        assert_eq!(decision(&plan, 8081, "", "m", &[]), expected, "{name}");
        let report = &plan.reports.routes[&ObjectKey::new("default", "r")];
        let refused = (!attached).then_some(reason::NOT_ALLOWED_BY_LISTENERS);
        assert_eq!(failing(report.parents[0].iter(), kind::ACCEPTED), refused, "{name}");
        let count = plan.reports.gateways[&ObjectKey::new("infra", "g")].listeners[0].attached_routes;
        assert_eq!(count, usize::from(attached), "{name}");
    }
}

#[test]
fn the_most_specific_hostname_takes_the_request_and_keeps_it() {
    let manifest = SERVERS.to_owned()
        + &gateway("any", "{name: http, port: 8081, protocol: HTTP}")
        + &gateway("wild", "{name: http, port: 8081, protocol: HTTP, hostname: '*.org'}")
        + &gateway("longer", "{name: http, port: 8081, protocol: HTTP, hostname: '*.a.org'}")
        + &gateway("exact", "{name: http, port: 8081, protocol: HTTP, hostname: x.a.org}")
        + &["any", "wild", "longer", "exact"]
            .map(|name| route(name, &format!("modelName: m, parentRefs: [{{name: {name}}}], {}", to("small"))))
            .concat()
        + &route("only-any", &format!("modelName: other, parentRefs: [{{name: any}}], {}", to("small")));
    let plan = plan_of(&manifest);
    for (host, expected) in [
        ("x.a.org", "exact -> small"),
        ("X.A.ORG:8081", "exact -> small"),
        ("y.a.org", "longer -> small"),
        ("y.x.a.org", "longer -> small"),
        ("a.org", "wild -> small"),
        ("org", "any -> small"),
    ] {
        assert_eq!(decision(&plan, 8081, host, "m", &[]), expected, "{host}");
    }
    assert_eq!(decision(&plan, 8081, "x.a.org", "other", &[]), "no route", "a listener never falls back to another");
}

#[test]
fn gateways_with_one_port_and_hostname_are_asked_in_their_order() {
    let plan = plan_of(
        &(SERVERS.to_owned()
            + &gateway("a", "{name: http, port: 8080, protocol: HTTP}")
            + &route("on-default", &format!("modelName: m, parentRefs: [{{name: default}}], {}", to("small")))
            + &route("on-a", &format!("modelName: other, parentRefs: [{{name: a}}], {}", to("large")))),
    );
    assert_eq!(decision(&plan, 8080, "", "m", &[]), "on-default -> small");
    assert_eq!(decision(&plan, 8080, "", "other", &[]), "on-a -> large");
}

#[test]
fn a_route_without_a_matching_rule_passes_the_request_on() {
    let premium =
        "rules: [{modelMatch: {headers: {tier: {exact: premium}}}, targetModels: [{modelServerName: large}]}]";
    let plan = plan_of(
        &(SERVERS.to_owned()
            + &route("a", &format!("modelName: m, parentRefs: [{{name: default}}], {premium}"))
            + &route("b", &format!("modelName: m, parentRefs: [{{name: default}}], {}", to("small")))),
    );
    assert_eq!(decision(&plan, 8080, "", "m", &[("tier", "premium")]), "a -> large");
    assert_eq!(decision(&plan, 8080, "", "m", &[("tier", "basic"), ("tier", "premium")]), "a -> large");
    assert_eq!(decision(&plan, 8080, "", "m", &[]), "b -> small");
}

#[test]
fn the_older_route_is_asked_first() {
    let dated = |name: &str, day: &str, server: &str| {
        route(
            &format!("{name}, creationTimestamp: '2026-01-{day}T00:00:00Z'"),
            &format!("modelName: m, parentRefs: [{{name: default}}], {}", to(server)),
        )
    };
    let plan = plan_of(&(SERVERS.to_owned() + &dated("a", "02", "small") + &dated("b", "01", "large")));
    assert_eq!(decision(&plan, 8080, "", "m", &[]), "b -> large");
}

#[test]
fn a_target_without_endpoints_gives_its_share_to_the_others() {
    let both = "rules: [{targetModels: [{modelServerName: empty}, {modelServerName: small}]}]";
    let plan = plan_of(
        &(SERVERS.to_owned()
            + &route("both", &format!("modelName: m, parentRefs: [{{name: default}}], {both}"))
            + &route("none", &format!("modelName: other, parentRefs: [{{name: default}}], {}", to("empty")))
            + &route("gone", &format!("modelName: o, parentRefs: [{{name: default}}], {}", to("missing")))),
    );
    assert_eq!(decision(&plan, 8080, "", "m", &[]), "both -> small");
    assert_eq!(decision(&plan, 8080, "", "other", &[]), "none -> no endpoints");
    assert_eq!(decision(&plan, 8080, "", "o", &[]), "gone -> no endpoints");
    let report = &plan.reports.routes[&ObjectKey::new("default", "gone")];
    assert_eq!(failing(report.verdict.iter(), kind::RESOLVED_REFS), Some(reason::BACKEND_NOT_FOUND));
}

#[test]
fn an_invalid_route_is_reported_and_harms_no_other() {
    let bad = "rules: [{modelMatch: {uri: {regex: '('}}, targetModels: [{modelServerName: small}]}]";
    let plan = plan_of(
        &(SERVERS.to_owned()
            + &route("a-bad", &format!("modelName: m, parentRefs: [{{name: default}}], {bad}"))
            + &route("b-good", &format!("modelName: m, parentRefs: [{{name: default}}], {}", to("small")))),
    );
    assert_eq!(decision(&plan, 8080, "", "m", &[]), "b-good -> small");
    let report = &plan.reports.routes[&ObjectKey::new("default", "a-bad")];
    assert_eq!(failing(report.verdict.iter(), kind::ACCEPTED), Some(reason::UNSUPPORTED_VALUE));
    assert_eq!(failing(report.parents[0].iter(), kind::ACCEPTED), Some(reason::UNSUPPORTED_VALUE));
}

#[test]
fn parent_refs_are_required_with_the_gateway_api_and_refused_without() {
    let manifest = SERVERS.to_owned()
        + &route("bound", &format!("modelName: bound, parentRefs: [{{name: default}}], {}", to("small")))
        + &route("free", &format!("modelName: free, {}", to("small")));
    for (gateway_api, bound, free) in [(true, "bound -> small", "no route"), (false, "no route", "free -> small")] {
        let plan = plan(&world(&manifest), &Controller { gateway_api, ..controller() });
        assert_eq!(decision(&plan, 8080, "", "bound", &[]), bound, "gateway API {gateway_api}");
        assert_eq!(decision(&plan, 8080, "", "free", &[]), free, "gateway API {gateway_api}");
        let ignored = ObjectKey::new("default", if gateway_api { "free" } else { "bound" });
        let refused = failing(plan.reports.routes[&ignored].verdict.iter(), kind::ACCEPTED);
        assert_eq!(refused, Some(reason::NO_MATCHING_PARENT), "gateway API {gateway_api}");
    }
}

#[test]
fn invalid_listeners_are_reported_and_leave_the_others_alone() {
    let listeners = "{name: good, port: 8081, protocol: HTTP}, {name: tls, port: 8443, protocol: TLS}, \
                     {name: twin, port: 8082, protocol: HTTP}, {name: other-twin, port: 8082, protocol: HTTP}, \
                     {name: kinds, port: 8083, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}]}}";
    let mut world = world(&(SERVERS.to_owned() + &gateway("g", listeners)));
    world.binds.insert(bind(8081), BindState::Failed("address in use".to_owned()));
    let plan = plan(&world, &controller());
    let ports: Vec<_> = plan.binds.iter().map(|plan| plan.bind.port).collect();
    assert_eq!(ports, [8080, 8081]);
    let report = &plan.reports.gateways[&ObjectKey::new("default", "g")];
    for (listener, condition, expected) in [
        (0, kind::ACCEPTED, Some(reason::PORT_UNAVAILABLE)),
        (1, kind::ACCEPTED, Some(reason::UNSUPPORTED_PROTOCOL)),
        (2, kind::ACCEPTED, Some(reason::HOSTNAME_CONFLICT)),
        (3, kind::ACCEPTED, Some(reason::HOSTNAME_CONFLICT)),
        (4, kind::RESOLVED_REFS, Some(reason::INVALID_ROUTE_KINDS)),
        (4, kind::PROGRAMMED, Some(reason::INVALID)),
    ] {
        assert_eq!(failing(&report.listeners[listener].conditions, condition), expected, "{listener} {condition}");
    }
    assert_eq!(failing(&report.conditions, kind::PROGRAMMED), Some(reason::PENDING));
}

#[test]
fn gateways_of_foreign_classes_are_left_alone() {
    let class = |name: &str, controller: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: {name}}}, \
             spec: {{controllerName: {controller}}}}}\n---\n"
        )
    };
    let of = |class: &str| gateway("g", "{name: http, port: 8081, protocol: HTTP}").replace("kthena-router", class);
    for (name, manifest, ours) in [
        ("our class by name", of("kthena-router"), true),
        ("our controller under another name", of("mine") + &class("mine", CONTROLLER_NAME), true),
        ("our name with another controller", of("kthena-router") + &class("kthena-router", "example.org/x"), false),
        ("an unknown class", of("nginx"), false),
    ] {
        let plan = plan_of(&manifest);
        assert_eq!(plan.reports.gateways.contains_key(&ObjectKey::new("default", "g")), ours, "{name}");
        assert_eq!(plan.binds.len(), if ours { 2 } else { 1 }, "{name}");
    }
}

#[test]
fn only_ready_pods_with_an_address_are_endpoints() {
    let server = SERVERS.split("---").next().expect("the first document");
    let pod = |name: &str, rest: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: small}}}}, status: {{{rest}}}}}\n"
        )
    };
    let ready = |status: &str| format!("podIP: 10.1.0.9, conditions: [{{type: Ready, status: '{status}'}}]");
    let manifest = server.to_owned()
        + &pod("ready", &ready("True"))
        + &pod("not-ready", &ready("False"))
        + &pod("failed", &format!("phase: Failed, {}", ready("True")))
        + &pod("succeeded", &format!("phase: Succeeded, {}", ready("True")))
        + &pod("no-conditions", "podIP: 10.1.0.8")
        + &pod("no-address", "conditions: [{type: Ready, status: 'True'}]")
        + "---\n{apiVersion: v1, kind: Pod, metadata: {name: elsewhere, namespace: other, labels: {app: small}}, \
           status: {podIP: 10.1.0.7}}\n";
    for (trust, expected) in [(true, vec!["no-conditions", "ready"]), (false, vec!["ready"])] {
        let controller = Controller { trust_pods_without_conditions: trust, ..controller() };
        let plan = plan(&world(&manifest), &controller);
        let names: Vec<_> = plan.pools[0].endpoints.iter().map(|endpoint| &*endpoint.pod.name).collect();
        assert_eq!(names, expected, "trust {trust}");
        assert_eq!(plan.pools[0].selected, 6);
    }
}

#[test]
fn a_model_server_says_which_endpoints_are_ejected() {
    let mut world = world(SERVERS);
    let key = PoolKey::of_server(&ObjectKey::new("default", "small"));
    let ready = |world: &World| plan(world, &controller()).reports.servers[&key.object].ready.clone();
    let well = ready(&world);
    world.ejected.insert(key.clone(), Ejected::from([("default/small-0 (10.1.0.1:8000)".to_owned(), Cause::Status)]));
    let ill = ready(&world);
    assert_eq!((ill.kind, ill.status, ill.reason), ("Ready", true, "EndpointsEjected"));
    assert_eq!(
        ill.message,
        "1 of 1 endpoints get no requests: default/small-0 (10.1.0.1:8000): answers have a status of 500 or above"
    );
    world.ejected.insert(key.clone(), Ejected::new());
    assert_eq!(ready(&world), well);
}

proptest! {
    #[test]
    fn a_plan_does_not_depend_on_the_order_of_arrival(order in prop::collection::vec(any::<Index>(), 12)) {
        let manifest = SERVERS.to_owned()
            + &gateway("a", "{name: http, port: 8080, protocol: HTTP}")
            + &gateway("b", "{name: http, port: 8080, protocol: HTTP}")
            + &["r1", "r2", "r3", "r4"].map(|name| {
                route(name, &format!("modelName: m, parentRefs: [{{name: a}}, {{name: b}}], {}", to("small")))
            }).concat();
        let mut objects: Vec<_> = read(&manifest).objects.into_iter().map(|located| located.object).collect();
        let mut world = World::default();
        for index in order {
            if !objects.is_empty() {
                world.apply(objects.swap_remove(index.index(objects.len())));
            }
        }
        objects.into_iter().for_each(|object| world.apply(object));
        let (shuffled, straight) = (plan(&world, &controller()), plan_of(&manifest));
        prop_assert_eq!(&shuffled.binds, &straight.binds);
        prop_assert_eq!(&shuffled.pools, &straight.pools);
        prop_assert_eq!(&shuffled.reports, &straight.reports);
        prop_assert_eq!(decision(&shuffled, 8080, "", "m", &[]), "r1 -> small");
        let again = plan(&world, &controller());
        prop_assert_eq!(&again.reports, &shuffled.reports, "planning twice differs");
    }
}
