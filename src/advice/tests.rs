//! Each piece of advice, on manifests as a user writes them.

use super::{Severity, advise};
use crate::controller::Controller;
use crate::fixtures::{controller, world};
use crate::plan::plan;

const GATEWAY: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: \
                       {gatewayClassName: kthena-router, listeners: [{name: http, port: 8081, protocol: HTTP}]}}\n---\n";

fn gateway(name: &str, class: &str, port: u16) -> String {
    GATEWAY
        .replace("name: g}", &format!("name: {name}}}"))
        .replace("kthena-router", class)
        .replace("8081", &port.to_string())
}

fn model_server(name: &str) -> String {
    format!(
        "{{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {{name: {name}}}, spec: \
         {{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: {name}}}}}, workloadPort: {{port: 80}}}}}}\n---\n"
    )
}

fn model_route(name: &str, parents: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelRoute, metadata: {{name: {name}}}, spec: \
         {{modelName: m, parentRefs: [{parents}], rules: [{rules}]}}}}\n---\n"
    )
}

fn http_route(name: &str, parents: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: \
         {{parentRefs: [{parents}], rules: [{rules}]}}}}\n---\n"
    )
}

fn inference_pool(name: &str) -> String {
    format!(
        "{{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {{name: {name}}}, spec: \
         {{selector: {{matchLabels: {{app: x}}}}, targetPorts: [{{number: 80}}]}}}}\n---\n"
    )
}

/// Returns what is said of a manifest, one line each: severity, object, field and text.
fn advice(manifest: &str) -> Vec<String> {
    let controller = Controller { inference_extension: true, ..controller() };
    let world = world(manifest);
    let found =
        advise(&world, &plan(&world, &controller), &controller, &[(9090, "--metrics-port"), (15000, "--debug-port")]);
    let line = |advice: &super::Advice| {
        let severity = if advice.severity == Severity::Fault { "fault" } else { "warning" };
        format!("{severity}: {} {} {}: {}", advice.kind, advice.key, advice.path, advice.text)
    };
    found.iter().map(line).collect()
}

const TO_A: &str = "{targetModels: [{modelServerName: a}]}";
const MATCHED: &str = "{modelMatch: {headers: {x: {exact: v}}}, targetModels: [{modelServerName: a}]}";
const TO_POOL: &str = "{backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]}";

#[test]
fn manifests_without_a_mistake_are_not_commented_on() {
    let model = GATEWAY.to_owned() + &model_server("a") + &model_route("r", "{name: g}", TO_A);
    assert_eq!(advice(&model), [""; 0]);
    let service = inference_pool("p") + &http_route("h", "{name: default}", TO_POOL);
    assert_eq!(advice(&service), [""; 0], "the default Gateway needs no manifest");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row for each mistake")]
fn what_cannot_be_meant_is_said() {
    let server = model_server("a");
    let used = server.clone() + &model_route("r", "{name: default}", TO_A);
    let cases: [(&str, String, &[&str]); 13] = [
        (
            "a class that is nobody's",
            gateway("g", "nginx", 80),
            &["warning: Gateway default/g spec.gatewayClassName: there is no GatewayClass `nginx` here, and this router's \
               is `kthena-router`: the Gateway is not served"],
        ),
        (
            "a class of another controller",
            gateway("g", "nginx", 80)
                + "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: nginx}, spec: \
                   {controllerName: example.org/x}}\n---\n",
            &["warning: Gateway default/g spec.gatewayClassName: the GatewayClass `nginx` belongs to `example.org/x`: the \
               Gateway is not served"],
        ),
        (
            "the port of the metrics",
            gateway("g", "kthena-router", 9090),
            &["fault: Gateway default/g spec.listeners[0].port: the router itself listens on port 9090: choose another one, \
               or another `--metrics-port`"],
        ),
        (
            "an HTTPRoute to no Gateway",
            GATEWAY.to_owned() + &http_route("h", "{name: gone}", "{filters: [{type: RequestRedirect, requestRedirect: {}}]}"),
            &["fault: HTTPRoute default/h spec.parentRefs[0]: there is no Gateway `default/gone`; the Gateways of this router \
               are `default/default`, `default/g`"],
        ),
        (
            "a ModelRoute to no Gateway",
            server.clone() + &model_route("r", "{name: default, namespace: kthena-system}", TO_A),
            &["fault: ModelRoute default/r spec.parentRefs[0]: there is no Gateway `kthena-system/default`; the only Gateway \
               of this router is `default/default`"],
        ),
        (
            "a route to a Gateway of another class",
            gateway("g", "nginx", 80) + &server + &model_route("r", "{name: g}", TO_A),
            &[
                "warning: Gateway default/g spec.gatewayClassName: there is no GatewayClass `nginx` here, and this router's \
                 is `kthena-router`: the Gateway is not served",
                "warning: ModelRoute default/r spec.parentRefs[0]: the Gateway `default/g` is not served by this router",
            ],
        ),
        (
            "a rule after one for everything",
            server.clone() + &model_route("r", "{name: default}", &format!("{MATCHED}, {TO_A}, {MATCHED}")),
            &["warning: ModelRoute default/r spec.rules[2]: no request gets here: rule 1 matches every one"],
        ),
        (
            "two routes of one model",
            used.clone() + &model_route("s", "{name: default}", MATCHED),
            &["warning: ModelRoute default/s : the ModelRoute `default/r` serves the model `m` on `default/default` first; \
               this one gets no request"],
        ),
        (
            "two routes that divide a model",
            server.clone() + &model_route("r", "{name: default}", MATCHED) + &model_route("s", "{name: default}", TO_A),
            &["warning: ModelRoute default/s : the ModelRoute `default/r` serves the model `m` on `default/default` first; \
               this one gets only what that one's rules do not match"],
        ),
        (
            "a rule without backends",
            http_route("h", "{name: default}", "{matches: [{path: {value: /a}}]}"),
            &["warning: HTTPRoute default/h spec.rules[0]: it has no backendRefs and no redirect: every request is answered \
               with 500"],
        ),
        (
            "the same matches twice",
            inference_pool("p") + &http_route("h", "{name: default}", &format!("{TO_POOL}, {TO_POOL}")),
            &["warning: HTTPRoute default/h spec.rules[1]: no request gets here: rule 0 has the same matches"],
        ),
        (
            "pools without a route",
            used + &model_server("b") + &inference_pool("q"),
            &[
                "warning: ModelServer default/b : no ModelRoute leads to it",
                "warning: InferencePool default/q : no HTTPRoute leads to it",
            ],
        ),
        (
            "a ListenerSet of no Gateway",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: ListenerSet, metadata: {name: s}, spec: {parentRef: {name: \
             gone}, listeners: [{name: http, port: 15000, protocol: HTTP}]}}\n"
                .to_owned(),
            &[
                "fault: ListenerSet default/s spec.listeners[0].port: the router itself listens on port 15000: choose another \
                 one, or another `--debug-port`",
                "fault: ListenerSet default/s spec.parentRef: its Gateway is not one of this router's; the only Gateway of \
                 this router is `default/default`",
            ],
        ),
    ];
    for (case, manifest, expected) in cases {
        assert_eq!(advice(&manifest), expected, "{case}");
    }
}

#[test]
fn models_on_different_gateways_do_not_meet() {
    let manifest = GATEWAY.to_owned()
        + &model_server("a")
        + &model_route("r", "{name: default}", TO_A)
        + &model_route("s", "{name: g}", TO_A);
    assert_eq!(advice(&manifest), [""; 0]);
}
