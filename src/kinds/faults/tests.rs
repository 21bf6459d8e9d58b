//! Each rule of the API finds what breaks it, at its field.

use serde_json::{Value, json};

use super::*;
use crate::kinds::model_route::RateLimit;

/// The path of each fault and the start of its message.
type Expected<'a> = &'a [(&'a str, &'a str)];

fn check(case: &str, faults: &[Fault], expected: Expected<'_>) {
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, expected.iter().map(|(path, _)| *path).collect::<Vec<_>>(), "{case}: {faults:?}");
    for (fault, (_, message)) in faults.iter().zip(expected) {
        assert!(fault.message.starts_with(message), "{case}: {fault}");
    }
}

/// A route with one rule that has one target, and the given changes.
fn route(change: impl FnOnce(&mut Value)) -> ModelRouteSpec {
    let mut spec = json!({"modelName": "m", "rules": [{"targetModels": [{"modelServerName": "s"}]}]});
    change(&mut spec);
    serde_json::from_value(spec).expect("the route has the right types")
}

/// A server with the required fields, and the given changes.
fn server(change: impl FnOnce(&mut Value)) -> ModelServerSpec {
    let mut spec = json!({
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": "m"}},
        "workloadPort": {"port": 8000},
    });
    change(&mut spec);
    serde_json::from_value(spec).expect("the server has the right types")
}

#[test]
fn a_route_without_faults_has_none() {
    check("least", &model_route_faults(&route(|_| {})), &[]);
    let full = route(|spec| {
        *spec = json!({
            "modelName": "m", "loraAdapters": ["a", "b"],
            "parentRefs": [{"name": "g", "namespace": "n", "sectionName": "http", "port": 8080}],
            "rules": [{
                "name": "r",
                "modelMatch": {
                    "headers": {"x-user": {"exact": "a"}, "X-Tier": {"prefix": "p"}, "x-any": {}},
                    "uri": {"regex": "^/v1/(chat|completions)"},
                    "body": {"model": "m"},
                },
                "targetModels": [{"modelServerName": "s", "weight": 0}, {"modelServerName": "t", "weight": 1}],
            }],
            "rateLimit": {"inputTokensPerUnit": 1, "unit": "month", "global": {"redis": {"address": "[::1]:6379"}}},
        });
    });
    check("full", &model_route_faults(&full), &[]);
    let external = route(|spec| {
        spec["rules"][0]["targetModels"] = json!([{"modelServerName": "", "externalModelProviderName": "e"}]);
    });
    check("external", &model_route_faults(&external), &[]);
}

#[test]
fn names_and_parents_of_a_route_are_checked() {
    let no_name = "modelName or loraAdapters is required";
    let eleven: Vec<String> = (0..11).map(|index| format!("a{index}")).collect();
    let cases: [(&str, &str, Value, Expected<'_>); 6] = [
        ("no name", "modelName", json!(null), &[("spec", no_name)]),
        ("empty name", "modelName", json!(""), &[("spec", no_name)]),
        (
            "adapters",
            "loraAdapters",
            json!(eleven),
            &[("spec.loraAdapters", "at most 10 LoRA adapters are allowed, found 11")],
        ),
        (
            "empty adapter",
            "loraAdapters",
            json!(["a", ""]),
            &[("spec.loraAdapters[1]", "lora adapter name cannot be an empty string")],
        ),
        (
            "parents",
            "parentRefs",
            json!([{"name": ""}, {"name": "g", "namespace": "N", "sectionName": "a b", "port": 0}]),
            &[
                ("spec.parentRefs[0].name", "the parent's name must have from 1 to 253 characters, found 0"),
                ("spec.parentRefs[1].namespace", "`N` is not the name of a namespace"),
                ("spec.parentRefs[1].sectionName", "`a b` is not the name of a listener"),
                ("spec.parentRefs[1].port", "must be from 1 to 65535"),
            ],
        ),
        (
            "33 parents",
            "parentRefs",
            json!(vec![json!({"name": "g"}); 33]),
            &[("spec.parentRefs", "at most 32 parents are allowed, found 33")],
        ),
    ];
    for (case, field, value, expected) in cases {
        check(case, &model_route_faults(&route(|spec| spec[field] = value)), expected);
    }
}

#[test]
fn rules_of_a_route_are_checked() {
    let target = json!({"modelServerName": "s"});
    let cases: [(&str, Value, Expected<'_>); 8] = [
        ("no rules", json!([]), &[("spec.rules", "at least one rule is required")]),
        (
            "no target",
            json!([{"targetModels": []}]),
            &[("spec.rules[0].targetModels", "at least one target is required")],
        ),
        (
            "17 rules",
            json!(vec![json!({"targetModels": [target.clone()]}); 17]),
            &[("spec.rules", "at most 16 rules are allowed, found 17")],
        ),
        (
            "17 targets",
            json!([{"targetModels": vec![target.clone(); 17]}]),
            &[("spec.rules[0].targetModels", "at most 16 targets are allowed, found 17")],
        ),
        (
            "no name",
            json!([{"targetModels": [target.clone(), {"modelServerName": ""}]}]),
            &[(
                "spec.rules[0].targetModels[1]",
                "one of `modelServerName` and `externalModelProviderName` is required",
            )],
        ),
        (
            "both names",
            json!([{"targetModels": [{"modelServerName": "a", "externalModelProviderName": "b"}]}]),
            &[("spec.rules[0].targetModels[0]", "only one of")],
        ),
        (
            "weight",
            json!([{"targetModels": [target.clone()]}, {"targetModels": [{"modelServerName": "s", "weight": 101}]}]),
            &[("spec.rules[1].targetModels[0].weight", "must be from 0 to 100, found 101")],
        ),
        (
            "no weight",
            json!([{"targetModels": [{"modelServerName": "s", "weight": 0}, {"modelServerName": "t", "weight": 0}]}]),
            &[("spec.rules[0].targetModels", "the sum of the weights must be more than 0")],
        ),
    ];
    for (case, rules, expected) in cases {
        check(case, &model_route_faults(&route(|spec| spec["rules"] = rules)), expected);
    }
}

#[test]
fn matches_of_a_rule_are_checked() {
    let spec = route(|spec| {
        spec["rules"][0]["modelMatch"] = json!({
            "headers": {"a b": {"exact": "x"}, "x-re": {"regex": "(", "exact": "x"}},
            "uri": {"regex": "\\w{1000}{1000}"},
        });
    });
    let both = "at most one of `exact`, `prefix` and `regex` may be set, found `exact` and `regex`";
    let expected: Expected<'_> = &[
        ("spec.rules[0].modelMatch.headers[a b]", "`a b` is not a header name"),
        ("spec.rules[0].modelMatch.headers[x-re]", both),
        ("spec.rules[0].modelMatch.headers[x-re].regex", "regex `(` does not compile: unclosed group"),
        ("spec.rules[0].modelMatch.uri.regex", "regex `\\w{1000}{1000}` needs more than 1048576 bytes"),
    ];
    check("matches", &model_route_faults(&spec), expected);
}

#[test]
fn an_external_provider_cannot_serve_adapters() {
    let spec = route(|spec| {
        spec["loraAdapters"] = json!(["a"]);
        spec["rules"][0]["targetModels"][0] = json!({"externalModelProviderName": "e"});
    });
    let path = "spec.rules[0].targetModels[0].externalModelProviderName";
    check(
        "external",
        &model_route_faults(&spec),
        &[(path, "an external provider cannot serve the route's loraAdapters")],
    );
}

#[test]
fn rate_limits_are_checked() {
    let limit: RateLimit = serde_json::from_value(json!({"inputTokensPerUnit": 0, "outputTokensPerUnit": 0,
        "requestsPerUnit": 0, "concurrentRequests": 0, "perClient": {"sources": []}}))
    .expect("the limit has the right types");
    let spec = ModelRouteSpec { rate_limit: Some(limit), ..route(|_| {}) };
    let least = "must be at least 1, found 0";
    let expected: Expected<'_> = &[
        ("spec.rateLimit.inputTokensPerUnit", least),
        ("spec.rateLimit.outputTokensPerUnit", least),
        ("spec.rateLimit.requestsPerUnit", least),
        ("spec.rateLimit.concurrentRequests", least),
        ("spec.rateLimit.perClient.sources", "at least one source is required"),
    ];
    check("zero", &model_route_faults(&spec), expected);
    let nameless = route(|spec| {
        spec["rateLimit"] = json!({"perClient": {"sources": [{"type": "Header", "name": "no header"}]}});
    });
    check("name", &model_route_faults(&nameless), &[("spec.rateLimit.perClient.sources[0].name", "`no header`")]);
    for address in ["", "redis", "redis:", ":6379", "redis:0", "redis:x", "redis:70000"] {
        let spec = route(|spec| spec["rateLimit"] = json!({"global": {"redis": {"address": address}}}));
        check(address, &model_route_faults(&spec), &[("spec.rateLimit.global.redis.address", "`")]);
    }
}

#[test]
fn a_server_without_faults_has_none() {
    check("least", &model_server_faults(&server(|_| {})), &[]);
    let full = server(|spec| {
        spec["model"] = json!("m".repeat(256));
        spec["workloadSelector"]["pdGroup"] =
            json!({"groupKey": "a.b/c", "prefillLabels": {"r": "p"}, "decodeLabels": {"r": ""}});
        spec["trafficPolicy"] = json!({"timeout": "1m30s", "retry": {"attempts": 10, "retryInterval": "0"}});
        spec["kvConnector"] = json!({"type": "nixl"});
    });
    check("full", &model_server_faults(&full), &[]);
}

#[test]
fn fields_of_a_server_are_checked() {
    let selector = "spec.workloadSelector";
    let policy = "spec.trafficPolicy";
    let paths =
        |root: &str, fields: &[&str]| -> Vec<String> { fields.iter().map(|field| format!("{root}{field}")).collect() };
    let cases = [
        ("model", "/model", json!("m".repeat(257)), vec!["spec.model".to_owned()]),
        ("no labels", "/workloadSelector", json!({}), paths(selector, &[".matchLabels"])),
        (
            "labels",
            "/workloadSelector",
            json!({"matchLabels": {"": "v", "k": "a b"}}),
            paths(selector, &[".matchLabels[]", ".matchLabels[k]"]),
        ),
        (
            "pd group",
            "/workloadSelector",
            json!({"matchLabels": {"a": "b"}, "pdGroup": {"groupKey": "", "prefillLabels": {}, "decodeLabels": {"-": ""}}}),
            paths(selector, &[".pdGroup.groupKey", ".pdGroup.prefillLabels", ".pdGroup.decodeLabels[-]"]),
        ),
        ("port", "/workloadPort", json!({"port": 0}), vec!["spec.workloadPort.port".to_owned()]),
        ("no timeout", "/trafficPolicy", json!({"timeout": "0s"}), paths(policy, &[".timeout"])),
        ("negative", "/trafficPolicy", json!({"timeout": "-1s"}), paths(policy, &[".timeout"])),
        (
            "retry",
            "/trafficPolicy",
            json!({"timeout": "1s", "retry": {"attempts": 11, "retryInterval": "soon"}}),
            paths(policy, &[".retry.attempts", ".retry.retryInterval"]),
        ),
        (
            "sessions",
            "/trafficPolicy",
            json!({"sessionSticky": {"sessionAffinitySeconds": 0, "sources": [
                {"type": "Header", "name": "x y"}, {"type": "JWTClaim", "name": ""}, {"type": "Cookie", "name": "sid"}
            ]}}),
            paths(
                policy,
                &[
                    ".sessionSticky.sessionAffinitySeconds",
                    ".sessionSticky.sources[0].name",
                    ".sessionSticky.sources[1].name",
                ],
            ),
        ),
        (
            "sessions of nobody",
            "/trafficPolicy",
            json!({"sessionSticky": {"sources": []}}),
            paths(policy, &[".sessionSticky.sources"]),
        ),
    ];
    for (case, pointer, value, expected) in cases {
        let faults = model_server_faults(&server(|spec| spec[&pointer[1..]] = value));
        let found: Vec<String> = faults.iter().map(|fault| fault.path.clone()).collect();
        assert_eq!(found, expected, "{case}: {faults:?}");
    }
}

#[test]
fn listed_endpoints_are_checked() {
    let listed = |endpoints: Value, port: Value| {
        model_server_faults(&server(|spec| {
            spec["workloadSelector"] =
                json!({"pdGroup": {"groupKey": "g", "prefillLabels": {"r": "p"}, "decodeLabels": {"r": "d"}}});
            spec["endpoints"] = endpoints;
            spec["workloadPort"] = port;
        }))
    };
    let good = json!([
        {"name": "a-0.x", "address": "10.0.0.1", "port": 1, "labels": {"r": "p", "g": ""}},
        {"name": "b", "address": "fd00::1", "port": 65535},
        {"name": "c", "address": "Engine-0.engines.svc.cluster.local", "port": 8000},
    ]);
    check("own ports", &listed(good, Value::Null), &[]);
    check("the server's port", &listed(json!([{"name": "a", "address": "h"}]), json!({"port": 8000})), &[]);
    let bad = json!([
        {"name": "A", "address": "10.0.0.256.", "labels": {"r": "a b"}},
        {"name": "b", "address": "", "port": 0},
        {"name": "b", "address": "http://h", "port": 1},
    ]);
    let found: Vec<_> = listed(bad, Value::Null).into_iter().map(|fault| fault.path).collect();
    let fields =
        ["[0].name", "[0].address", "[0].port", "[0].labels[r]", "[1].address", "[1].port", "[2].name", "[2].address"];
    assert_eq!(found, fields.map(|field| format!("spec.endpoints{field}")));
    let beside = server(|spec| spec["endpoints"] = json!([{"name": "a", "address": "h"}]));
    check("beside labels", &model_server_faults(&beside), &[("spec.endpoints", "excludes")]);
    let nowhere = server(|spec| spec["workloadPort"] = Value::Null);
    check("no port", &model_server_faults(&nowhere), &[("spec.workloadPort", "is required")]);
    let many: Vec<_> =
        (0..1025).map(|number| json!({"name": format!("e{number}"), "address": "h", "port": 1})).collect();
    check("too many", &listed(many.into(), Value::Null), &[("spec.endpoints", "at most 1024")]);
}

#[test]
fn absent_fields_have_the_defaults_of_the_api() {
    let bare = server(|_| {});
    assert_eq!((bare.timeout(), bare.retry()), (Ok(None), Ok(None)));
    let spec = server(|spec| spec["trafficPolicy"] = json!({"timeout": "30s", "retry": {}}));
    assert_eq!(spec.timeout(), Ok(Some(Duration::from_secs(30))));
    assert_eq!(spec.retry(), Ok(Some((2, Duration::from_millis(100)))));
    let spec = server(|spec| spec["trafficPolicy"] = json!({"retry": {"attempts": 0, "retryInterval": "x"}}));
    assert!(spec.retry().is_err());
    let route = route(|spec| spec["parentRefs"] = json!([{"name": "g"}]));
    assert_eq!(route.parent_refs, [ParentReference::to_gateway("g")]);
    assert!(route.parent_refs[0].is_gateway());
    assert_eq!(route.rules[0].target_models, [TargetModel::to_model_server("s")]);
}
