//! Wrong input is refused with a message that names the field, or accepted and reported; it never hurts another route.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::text;
use kthena_router_integration::kinds::{Kind, MODEL_ROUTE, MODEL_SERVER};
use kthena_router_integration::objects::{Engines, object};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::DEFAULT_GATEWAY;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

/// What is wrong, the kind, its spec, and the texts that the refusal must have.
type Case = (&'static str, Kind, Value, [&'static str; 2]);

fn route_cases() -> Vec<Case> {
    let route = |rule: Value| json!({"modelName": "m", "parentRefs": [{"name": "g"}], "rules": [rule]});
    let to = |targets: Value| route(json!({"targetModels": targets}));
    let target = json!([{"modelServerName": "a"}]);
    let both = json!([{"modelServerName": "a", "externalModelProviderName": "b"}]);
    let heavy = json!([{"modelServerName": "a", "weight": 101}]);
    let many: Vec<Value> = (0..17).map(|_| json!({"modelServerName": "a"})).collect();
    let twice = json!({"modelMatch": {"uri": {"exact": "a", "prefix": "b"}}, "targetModels": target});
    let misspelt = json!({"targetModel": target, "targetModels": target});
    let nothing = json!({"rules": [{"targetModels": target}]});
    let one_of = "exactly one of modelServerName and externalModelProviderName must be set";
    vec![
        ("a route of nothing", MODEL_ROUTE, nothing, ["spec", "modelName or loraAdapters is required"]),
        ("a rule without targets", MODEL_ROUTE, to(json!([])), ["targetModels", "at least 1 item"]),
        ("too many targets", MODEL_ROUTE, to(many.into()), ["targetModels", "at most 16 items"]),
        ("a target that is two", MODEL_ROUTE, to(both), ["targetModels[0]", one_of]),
        ("a target that is none", MODEL_ROUTE, to(json!([{"weight": 1}])), ["targetModels[0]", one_of]),
        ("a weight over 100", MODEL_ROUTE, to(heavy), ["weight", "less than or equal to 100"]),
        (
            "two matchers in one",
            MODEL_ROUTE,
            route(twice),
            ["modelMatch.uri", "at most one of exact, prefix and regex"],
        ),
        ("a misspelt field", MODEL_ROUTE, route(misspelt), ["unknown field", "targetModel"]),
        ("a value of the wrong type", MODEL_ROUTE, json!({"modelName": 7, "rules": []}), ["modelName", "string"]),
    ]
}

fn server_cases() -> Vec<Case> {
    let server = |port: u32, engine: &str| {
        let selector = json!({"matchLabels": {"app": "a"}});
        json!({"inferenceEngine": engine, "workloadPort": {"port": port}, "workloadSelector": selector})
    };
    vec![
        ("an engine that nobody knows", MODEL_SERVER, server(1, "Llama"), ["inferenceEngine", "supported values"]),
        ("a port that is none", MODEL_SERVER, server(0, "vLLM"), ["workloadPort.port", "greater than or equal to 1"]),
    ]
}

pub(crate) async fn invalid_objects_are_refused_with_the_field_and_the_reason(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("refused").await?;
    for (case, kind, spec, expected) in [route_cases(), server_cases()].concat() {
        let object = object(kind, &sandbox.namespace, "wrong", &spec).to_string();
        let output = rig.shell.try_kubectl("apply -f -", &object).await?;
        ensure!(!output.success, "{case} is accepted");
        for text in expected {
            ensure!(output.stderr.contains(text), "{case}: `{text}` is missing from: {}", output.stderr);
        }
    }
    sandbox.route("r", "a").await?;
    let rename = r#"patch modelroute r --type=merge -p {"spec":{"modelName":"other"}} -n"#;
    let output = rig.shell.try_kubectl(&format!("{rename} {}", sandbox.namespace), "").await?;
    ensure!(output.stderr.contains("modelName is immutable"), "a renamed model: {output:?}");
    Ok(())
}

pub(crate) async fn a_route_that_cannot_be_used_is_reported_and_disturbs_no_other(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("unusable").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let good = sandbox.route("good", "a").await?;
    sandbox.serves(&good, "a").await?;
    let load = sandbox.load(&good, &["a"], 2).await?;
    let base = rig.base().await?;
    let rules = [
        (
            "bad-regex",
            json!({"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServerName": "a"}]}),
            "spec.rules[0].modelMatch.uri",
        ),
        ("no-weight", json!({"targetModels": [{"modelServerName": "a", "weight": 0}]}), "spec.rules[0].targetModels"),
    ];
    for (name, rule, place) in rules {
        let (namespace, gateway) = DEFAULT_GATEWAY;
        let model = sandbox.model(name);
        let parents = json!([{"namespace": namespace, "name": gateway}]);
        let spec = json!({"modelName": model, "parentRefs": parents, "rules": [rule]});
        rig.cluster.apply(&object(MODEL_ROUTE, &sandbox.namespace, name, &spec)).await?;
        let accepted = sandbox.has_condition(MODEL_ROUTE, name, "Accepted", "False").await?;
        let message = text(&accepted, "/message");
        ensure!(message.contains(place), "`{name}`: the condition does not say where: {accepted}");
        let event = eventually(&format!("there is an Event about `{name}`"), async || {
            let events = sandbox.events(MODEL_ROUTE, name).await?;
            let warning = events.into_iter().find(|event| event["type"] == "Warning");
            warning.ok_or_else(|| anyhow::anyhow!("no warning"))
        })
        .await?;
        ensure!(text(&event, "/note").contains(place), "`{name}`: the Event does not say where: {event}");
        rig.http.ensure_refusal(&base, &model, 404).await?;
    }
    let late = sandbox.route("late", "a").await?;
    sandbox.serves(&late, "a").await?;
    let tally = load.stop().await;
    tally.ensure_clean()
}

pub(crate) async fn a_missing_model_server_is_reported_and_answered_with_503(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("missing").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let model = sandbox.route("r", "nowhere").await?;
    let resolved = sandbox.has_condition(MODEL_ROUTE, "r", "ResolvedRefs", "False").await?;
    ensure!(resolved["reason"] == "BackendNotFound", "{resolved}");
    ensure!(text(&resolved, "/message").contains("nowhere"), "{resolved}");
    let route = sandbox.get(MODEL_ROUTE, "r").await?;
    let parent = &route["status"]["parents"][0];
    ensure!(parent["parentRef"]["name"] == DEFAULT_GATEWAY.1, "no state at the parent: {}", route["status"]);

    let base = rig.base().await?;
    let refusal =
        eventually("its traffic is refused", async || rig.http.ensure_refusal(&base, &model, 503).await).await?;
    let message = text(&refusal, "/error/message");
    ensure!(!text(&refusal, "/error/code").is_empty(), "no reason in {refusal}");
    ensure!(message.contains(&format!("{}/r", sandbox.namespace)), "the message does not name the route: {message}");
    ensure!(message.contains("nowhere"), "the message does not name the ModelServer that is missing: {message}");
    rig.note(format!("503: {message}"));

    sandbox.route("r", "a").await?;
    sandbox.has_condition(MODEL_ROUTE, "r", "ResolvedRefs", "True").await?;
    sandbox.serves(&model, "a").await
}
