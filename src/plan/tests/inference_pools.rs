use super::*;
use crate::fixtures::{Outcome, http_decision};
use crate::kinds::model_server::InferenceEngine;
use crate::object::Kind;
use crate::pool::kv_events::KvEvents;
use crate::pool::policy::{BackendProtocol, ExternalPicker, PickerPolicy};
use crate::pool::told::priority;
use crate::scheduling::objective::OBJECTIVE_HEADERS;

/// Two Gateways, Pods of two engines, and a picker's Service `epp` with a port of each protocol.
const SCENE: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: kthena-router, \
 listeners: [{name: http, port: 8081, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: h}, spec: {gatewayClassName: kthena-router, \
 listeners: [{name: http, port: 8082, protocol: HTTP}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a-0, labels: {app: a}}, status: {podIP: 10.1.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a-1, labels: {app: a, rank: '1'}}, status: {podIP: 10.1.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a-2, labels: {app: a}}, status: {podIP: 10.1.0.3, conditions: [{type: Ready, status: 'False'}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: s-0, labels: {app: s, llm-d.ai/engine-type: sglang}}, status: {podIP: 10.1.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a-3, namespace: other, labels: {app: a}}, status: {podIP: 10.1.0.5}}
---
{apiVersion: v1, kind: Service, metadata: {name: epp}, spec: {ports: [{name: tls, port: 9002, appProtocol: http2}, {name: plain, port: 9003, appProtocol: kubernetes.io/h2c}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: epp-1, labels: {kubernetes.io/service-name: epp}}, addressType: IPv4, \
 ports: [{name: tls, port: 19002}, {name: plain, port: 19003}], endpoints: [{addresses: [10.2.0.2]}, {addresses: [10.2.0.1]}, {addresses: [10.2.0.3], conditions: {ready: false}}]}
---
";

fn object(group_version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("{{apiVersion: {group_version}, kind: {kind}, metadata: {{{metadata}}}, spec: {{{spec}}}}}\n---\n")
}

fn pool(metadata: &str, app: &str, rest: &str) -> String {
    let spec = format!("selector: {{matchLabels: {{{app}}}}}, targetPorts: [{{number: 8000}}]{rest}");
    object("inference.networking.k8s.io/v1", "InferencePool", metadata, &spec)
}

fn route(name: &str, gateway: &str, backend: &str) -> String {
    let backend = format!("{{group: inference.networking.k8s.io, kind: InferencePool, {backend}}}");
    let spec = format!("parentRefs: [{{name: {gateway}}}], rules: [{{backendRefs: [{backend}]}}]");
    object("gateway.networking.k8s.io/v1", "HTTPRoute", &format!("name: {name}"), &spec)
}

fn planned(manifest: &str) -> Plan {
    plan(&world(manifest), &extended())
}

fn extended() -> Controller {
    Controller { inference_extension: true, ..controller() }
}

/// Returns what a pool reports, one line for each Gateway.
fn parents(plan: &Plan, pool: &str) -> Vec<String> {
    let report = &plan.reports.inference_pools[&ObjectKey::new("default", pool)];
    let words = |AncestorReport { gateway, verdict }: &AncestorReport| {
        let words = verdict.iter().map(|condition| match condition.status {
            true => condition.kind.to_owned(),
            false => format!("{}={}", condition.kind, condition.reason),
        });
        format!("{} {}", gateway.name, words.collect::<Vec<_>>().join(" "))
    };
    report.parents.iter().map(words).collect()
}

fn resolved(plan: &Plan, route: &str) -> Option<&'static str> {
    let report = &plan.reports.http_routes[&ObjectKey::new("default", route)];
    failing(report.parents[0].verdict.iter(), kind::RESOLVED_REFS)
}

fn found(plan: &Plan) -> &PoolPlan {
    plan.pools.iter().find(|pool| pool.key.kind == Kind::InferencePool).expect("a route refers to the pool")
}

#[test]
fn every_ready_pod_is_an_endpoint_at_every_port() {
    for (case, app, rest, expected, selected, engine, protocol) in [
        (
            "one port",
            "app: a",
            "",
            vec!["a-0 10.1.0.1:8000", "a-1 10.1.0.2:8000"],
            3,
            Some(InferenceEngine::Vllm),
            BackendProtocol::Http1,
        ),
        (
            "data parallel ranks",
            "rank: '1', app: a",
            ", targetPorts: [{number: 8001}, {number: 8000}]",
            vec!["a-1 10.1.0.2:8001", "a-1 10.1.0.2:8000"],
            1,
            Some(InferenceEngine::Vllm),
            BackendProtocol::Http1,
        ),
        (
            "another engine and protocol",
            "app: s",
            ", appProtocol: kubernetes.io/h2c",
            vec!["s-0 10.1.0.4:8000"],
            1,
            Some(InferenceEngine::Sglang),
            BackendProtocol::H2c,
        ),
        ("nothing", "app: x", "", vec![], 0, Some(InferenceEngine::Vllm), BackendProtocol::Http1),
    ] {
        let pool = pool("name: p", app, rest);
        let pool =
            if rest.contains("targetPorts") { pool.replacen("targetPorts: [{number: 8000}], ", "", 1) } else { pool };
        let plan = planned(&(SCENE.to_owned() + &pool + &route("r", "g", "name: p, port: 1")));
        let found = found(&plan);
        let endpoints: Vec<_> =
            found.endpoints.iter().map(|endpoint| format!("{} {}", endpoint.pod.name, endpoint.socket())).collect();
        assert_eq!(endpoints, expected, "{case}");
        assert_eq!(
            (found.selected, found.policy.engine, found.policy.protocol),
            (selected, engine, protocol),
            "{case}"
        );
        assert_eq!(found.policy.picker, PickerPolicy::BuiltIn, "{case}");
        assert_eq!(parents(&plan, "p"), ["g Accepted ResolvedRefs"], "{case}");
        let outcome = Outcome::Pool("InferencePool default/p".to_owned());
        assert_eq!((resolved(&plan, "r"), http_decision(&plan, 8081, "any", "/")), (None, outcome), "{case}");
    }
}

#[test]
fn references_that_lead_nowhere_are_told_of_and_answered_with_500() {
    let grant = |kind: &str| {
        object(
            "gateway.networking.k8s.io/v1beta1",
            "ReferenceGrant",
            "name: g, namespace: other",
            &format!(
                "from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}}], to: [{{group: inference.networking.k8s.io, kind: {kind}}}]"
            ),
        )
    };
    let good = pool("name: p", "app: a", "");
    let elsewhere = pool("name: p, namespace: other", "app: a", "");
    let broken = pool("name: p", "", "");
    for (case, objects, backend, enabled, expected) in [
        ("a pool", good.clone(), "name: p", true, None),
        ("no such pool", String::new(), "name: p", true, Some(reason::BACKEND_NOT_FOUND)),
        ("another namespace", elsewhere.clone(), "name: p, namespace: other", true, Some(reason::REF_NOT_PERMITTED)),
        ("a grant", elsewhere.clone() + &grant("InferencePool"), "name: p, namespace: other", true, None),
        (
            "a grant for another kind",
            elsewhere + &grant("Service"),
            "name: p, namespace: other",
            true,
            Some(reason::REF_NOT_PERMITTED),
        ),
        ("a pool that is invalid", broken, "name: p", true, Some(reason::UNSUPPORTED_VALUE)),
        ("the extension is off", good, "name: p", false, Some(reason::INVALID_KIND)),
    ] {
        let world = world(&(SCENE.to_owned() + &objects + &route("r", "g", backend)));
        let plan = plan(&world, &Controller { inference_extension: enabled, ..controller() });
        assert_eq!(resolved(&plan, "r"), expected, "{case}");
        let report = &plan.reports.http_routes[&ObjectKey::new("default", "r")];
        assert_eq!(
            failing(report.parents[0].verdict.iter(), kind::ACCEPTED),
            None,
            "{case}: the route is accepted all the same"
        );
        let serves = matches!(http_decision(&plan, 8081, "any", "/"), Outcome::Pool(_));
        assert_eq!(serves, expected.is_none(), "{case}");
        let told = plan
            .reports
            .inference_pools
            .iter()
            .any(|(key, report)| &*key.namespace == "other" && !report.parents.is_empty());
        assert_eq!(told, case == "a grant", "{case}: only a pool that lets the route in tells of its Gateway");
    }
}

#[test]
fn a_pool_tells_of_each_gateway_with_an_accepted_route_to_it() {
    let pool = SCENE.to_owned() + &pool("name: p", "app: a", "") + &self::pool("name: q", "app: s", "");
    let (on_g, on_h) = (route("r", "g", "name: p"), route("s", "h", "name: p"));
    let not_accepted = on_h.replace("name: h}", "name: h, port: 1}");
    let ok = "Accepted ResolvedRefs";
    for (case, routes, expected) in [
        ("no route", String::new(), vec![]),
        ("one", on_g.clone(), vec![format!("g {ok}")]),
        ("two on one Gateway", on_g.clone() + &route("t", "g", "name: p"), vec![format!("g {ok}")]),
        ("two Gateways", on_g.clone() + &on_h, vec![format!("g {ok}"), format!("h {ok}")]),
        ("one that is not accepted", on_g + &not_accepted, vec![format!("g {ok}")]),
    ] {
        let plan = planned(&(pool.clone() + &routes));
        assert_eq!(parents(&plan, "p"), expected, "{case}");
        assert_eq!(parents(&plan, "q"), Vec::<String>::new(), "{case}: nobody refers to the other pool");
    }
    let plan = planned(&(SCENE.to_owned() + &self::pool("name: p", "", "") + &route("r", "g", "name: p")));
    assert_eq!(parents(&plan, "p"), ["g Accepted=NotSupportedByParent ResolvedRefs"], "an invalid pool");
}

#[test]
fn a_picker_is_asked_where_its_reference_leads_to_one() {
    let external = |port: u16, own: u16, fail_open, tls| {
        let endpoints = vec![([10, 2, 0, 1], own).into(), ([10, 2, 0, 2], own).into()];
        let service = ObjectKey::new("default", "epp");
        PickerPolicy::External(Arc::new(ExternalPicker { service, port, endpoints, fail_open, tls }))
    };
    let missing = |message: &str| PickerPolicy::Unavailable(message.to_owned());
    for (case, picker, expected, resolves) in [
        ("TLS", "name: epp, port: {number: 9002}", external(9002, 19002, false, true), true),
        (
            "plain and open",
            "group: '', kind: Service, name: epp, port: {number: 9003}, failureMode: FailOpen",
            external(9003, 19003, true, false),
            true,
        ),
        ("no Service", "name: x, port: {number: 9002}", missing("there is no Service `default/x`"), false),
        ("no such port", "name: epp, port: {number: 1}", missing("the Service `default/epp` has no TCP port 1"), false),
        ("no port", "name: epp", missing("the reference to the Service `default/epp` has no port"), false),
        (
            "another kind",
            "group: x.org, kind: Picker, name: epp",
            missing("`epp` is of kind `Picker` in group `x.org`, and only a Service can be a picker"),
            false,
        ),
    ] {
        let pool = pool("name: p", "app: a", &format!(", endpointPickerRef: {{{picker}}}"));
        let world = world(&(SCENE.to_owned() + &pool + &route("r", "g", "name: p")));
        let plan = plan(&world, &extended());
        let policy = &found(&plan).policy;
        assert_eq!(policy.picker, expected, "{case}");
        let refs = if resolves { "ResolvedRefs" } else { "ResolvedRefs=InvalidExtensionRef" };
        assert_eq!(parents(&plan, "p"), [format!("g Accepted {refs}")], "{case}");
        assert_eq!(
            policy.engine.is_some(),
            case == "plain and open",
            "{case}: engines are scraped where the router may pick"
        );
        assert_eq!(resolved(&plan, "r"), None, "{case}: that is not the route's fault");
        let plan = self::plan(&world, &Controller { prefer_builtin_picker: true, ..extended() });
        let policy = &found(&plan).policy;
        assert_eq!(policy.picker, PickerPolicy::BuiltIn, "{case}: the built-in one is preferred, and needs no Service");
        assert!(policy.engine.is_some(), "{case}: the router picks");
        assert_eq!(parents(&plan, "p"), [format!("g Accepted {refs}")], "{case}");
    }
}

#[test]
fn objectives_and_rewrites_are_those_of_the_pool_in_both_groups() {
    let (new, old) = ("llm-d.ai/v1alpha2", "inference.networking.x-k8s.io/v1alpha2");
    let objective = |group: &str, name: &str, spec: &str| {
        object(group, "InferenceObjective", &format!("name: {name}"), &format!("poolRef: {{{spec}"))
    };
    let rewrite = |group: &str, name: &str, day: &str, to: &str| {
        let metadata = format!("name: {name}, creationTimestamp: '2026-01-{day}T00:00:00Z'");
        let rules = format!("poolRef: {{name: p}}, rules: [{{targets: [{{weight: 1, modelRewrite: {to}}}]}}]");
        object(group, "InferenceModelRewrite", &metadata, &rules)
    };
    let objects = SCENE.to_owned()
        + &pool("name: p", "app: a", "")
        + &route("r", "g", "name: p")
        + &objective(new, "batch", "name: p}, priority: -1")
        + &objective(old, "batch", "name: p}, priority: 9")
        + &objective(old, "gold", "name: p}, priority: 3")
        + &objective(new, "plain", "name: p}")
        + &objective(new, "others", "name: q}, priority: 7")
        + &objective(new, "service", "group: '', kind: Service, name: p}, priority: 8")
        + &rewrite(new, "young", "02", "young")
        + &rewrite(old, "young", "01", "hidden")
        + &rewrite(old, "old", "01", "old");
    let plan = planned(&objects);
    let requests = found(&plan).policy.requests.as_ref().expect("the pool has objectives");
    let priorities = ["batch", "gold", "plain", "others", "service"].map(|name| requests.objectives.priority(name));
    assert_eq!(priorities, [Some(-1), Some(3), Some(0), None, None]);
    for (named, expected) in [(Some("batch"), -1), (Some("plain"), 0), (Some("others"), 7), (None, 7)] {
        let told = priority(&found(&plan).policy, 7, |name| named.filter(|_| name == OBJECTIVE_HEADERS[1]));
        assert_eq!(told, expected, "{named:?} goes before the priority of the route, which is 7");
    }
    assert_eq!(requests.rewrites.rewrite("m", |_| 0), Some("old"), "of the older object, whatever its group");
    let external = objects.replace("targetPorts", "endpointPickerRef: {name: epp, port: {number: 9002}}, targetPorts");
    assert_eq!(found(&planned(&external)).policy.requests, None, "they are up to the picker where there is one");
}

#[test]
fn a_model_server_and_a_pool_may_have_one_name_and_the_same_pods() {
    let server = object(
        "networking.serving.volcano.sh/v1alpha1",
        "ModelServer",
        "name: p",
        "inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: a}}, workloadPort: {port: 9000}",
    );
    let plan = planned(&(SCENE.to_owned() + &server + &pool("name: p", "app: s", "") + &route("r", "g", "name: p")));
    let report = &plan.reports.servers[&ObjectKey::new("default", "p")];
    assert_eq!((report.endpoints, report.ready_endpoints), (3, 2), "a report tells of its own pool");
    assert_eq!(plan.pools.len(), 2);
}

#[test]
fn a_pool_of_ten_thousand_pods_has_all_of_them() {
    let pods: String = (0..10_000)
        .map(|number| {
            let address = format!("10.{}.{}.{}", 2 + number / 62_500, number / 250 % 250, 1 + number % 250);
            format!("{{apiVersion: v1, kind: Pod, metadata: {{name: x-{number}, labels: {{app: x}}}}, status: {{podIP: {address}}}}}\n---\n")
        })
        .collect();
    let plan = planned(&(SCENE.to_owned() + &pods + &pool("name: p", "app: x", "") + &route("r", "g", "name: p")));
    assert_eq!((found(&plan).endpoints.len(), found(&plan).selected), (10_000, 10_000));
}

#[test]
fn an_annotation_says_where_engines_tell_of_their_caches() {
    let ports = |port, replay| Some(KvEvents::Ports { port, replay });
    for (text, expected, complaints) in [
        ("5557/5558", ports(5557, Some(5558)), 0),
        ("discover", Some(KvEvents::Discovered), 0),
        ("tcp://*:5557", None, 1),
    ] {
        let annotated = format!("name: p, annotations: {{networking.serving.volcano.sh/kv-events: '{text}'}}");
        let plan = planned(&(SCENE.to_owned() + &pool(&annotated, "app: a", "") + &route("r", "g", "name: p")));
        assert_eq!(found(&plan).policy.kv_events, expected, "{text}");
        let unserved = plan.reports.unserved();
        assert_eq!(unserved.len(), complaints, "{text}: {unserved:?}");
        assert!(unserved.iter().all(|complaint| complaint.text.contains(text)), "{unserved:?}");
    }
}
