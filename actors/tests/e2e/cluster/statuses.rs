//! Statuses are written once, and nothing is written while nothing changes.

use actix_web::test;
use serde_json::{Value, json};

use super::objects::{attached_route, definition, gateway, gateway_class, model_route, model_server, pod};
use super::{GATEWAYS, Setting};
use crate::api_server::{ApiServer, Write};

const HOLDS: (&str, &str) = ("True", "Accepted");

fn one_of_each(api: &ApiServer) {
    api.put(definition("v1.4.0"));
    api.put(gateway_class("ours", "volcano.sh/kthena-router"));
    api.put(gateway("own", "ours", 8081));
    api.put(attached_route("r", "served", "m", "own"));
}

/// Waits until every status is what it is to stay.
async fn settled(api: &ApiServer) {
    for (kind, name) in [("GatewayClass", "ours"), ("GatewayClass", "kthena-router"), ("ModelRoute", "r")] {
        api.has_condition(kind, name, "Accepted", HOLDS).await;
    }
    for name in ["own", "default"] {
        api.has_condition("Gateway", name, "Programmed", ("True", "Programmed")).await;
    }
    api.has_condition("ModelServer", "m", "Ready", ("True", "Ready")).await;
}

/// Returns all conditions of a status, wherever they are.
fn conditions(status: &Value) -> Vec<Value> {
    let own = status["conditions"].as_array().into_iter().flatten().cloned();
    let nested = ["listeners", "parents"].into_iter().filter_map(|list| status[list].as_array()).flatten();
    own.chain(nested.flat_map(conditions)).collect()
}

#[test]
async fn objects_of_a_cluster_are_served_and_their_statuses_are_written() {
    let setting = Setting::new(&[GATEWAYS], one_of_each).await;
    setting.serves_on(8081, "served").await;
    let api = &setting.api;
    settled(api).await;
    api.has_condition("GatewayClass", "ours", "SupportedVersion", ("True", "SupportedVersion")).await;
    api.has_condition("ModelRoute", "r", "ResolvedRefs", ("True", "ResolvedRefs")).await;
    let status = &api.object("ModelServer", "m")["status"];
    let counts = ["observedGeneration", "endpoints", "readyEndpoints"].map(|field| status[field].as_i64());
    assert_eq!(counts, [Some(1), Some(1), Some(1)]);
    let listener = &api.object("Gateway", "own")["status"]["listeners"][0];
    assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("http"), &json!(1)));
    let parent = &api.object("ModelRoute", "r")["status"]["parents"][0];
    assert_eq!(parent["parentRef"]["name"], "own");
    assert_eq!(parent["controllerName"], "volcano.sh/kthena-router");
}

#[test]
async fn a_status_is_applied_by_force_under_the_routers_name_with_times_and_generations() {
    let setting = Setting::new(&[GATEWAYS], one_of_each).await;
    settled(&setting.api).await;
    let statuses: Vec<_> = setting.api.writes().into_iter().filter(|write| write.subresource == "status").collect();
    assert!(statuses.len() >= 6, "{statuses:#?}");
    for Write { verb, place, manager, force, body, .. } in statuses {
        assert_eq!((verb, &*manager, force), ("apply", "kthena-router", true), "{place:?}");
        assert!(body["metadata"]["uid"].is_string(), "an object of the same name that was made since is left alone");
        assert!(body.get("spec").is_none(), "{body}");
        for condition in conditions(&body["status"]) {
            let time = condition["lastTransitionTime"].as_str().unwrap();
            assert!(time.len() == 20 && time.ends_with('Z'), "{place:?}: {time}");
            assert_eq!(condition["observedGeneration"], 1, "{place:?}: {condition}");
        }
    }
}

#[test]
async fn nothing_is_written_while_nothing_changes() {
    let setting = Setting::new(&[GATEWAYS], one_of_each).await;
    settled(&setting.api).await;
    for (kind, name) in [("ModelRoute", "r"), ("ModelServer", "m")] {
        assert_eq!(setting.api.writes_to(kind, name).len(), 1, "the {kind} is as it is from the first plan on");
    }
    let before = setting.api.writes().len();
    setting.makes_plans(8).await;
    setting.api.forget();
    setting.makes_plans(2).await;
    let after = setting.api.writes();
    assert_eq!(after.len(), before, "{:#?}", &after[before..]);
}

#[test]
async fn a_status_follows_its_object_and_what_it_refers_to() {
    let setting = Setting::new(&[GATEWAYS], one_of_each).await;
    let api = &setting.api;
    settled(api).await;
    let mut unready = pod("m-0", "m", setting.harness.host(10));
    unready["status"]["conditions"][0]["status"] = "False".into();
    api.put(unready);
    api.has_condition("ModelServer", "m", "Ready", ("False", "NoReadyEndpoints")).await;
    setting.harness.until("an Event tells of it", async || !api.events("ModelServer", "m").is_empty()).await;
    assert_eq!(api.events("ModelServer", "m")[0].0, "NoReadyEndpoints");

    api.put(attached_route("r", "served", "missing", "own"));
    api.has_condition("ModelRoute", "r", "ResolvedRefs", ("False", "BackendNotFound")).await;
    assert_eq!(api.condition("ModelRoute", "r", "ResolvedRefs").unwrap()["observedGeneration"], 2);
}

#[test]
async fn a_status_that_someone_wiped_is_written_again() {
    let setting = Setting::new(&[], |api| api.put(model_route("r", "served", "m"))).await;
    let api = &setting.api;
    api.has_condition("ModelRoute", "r", "Accepted", HOLDS).await;
    let mut route = model_route("r", "served", "m");
    route["status"] = json!({});
    api.put(route);
    api.has_condition("ModelRoute", "r", "Accepted", HOLDS).await;
}

#[test]
async fn a_write_that_failed_is_made_again() {
    let setting = Setting::new(&[], |api| api.fail_writes("ModelServer", 1)).await;
    setting.api.has_condition("ModelServer", "m", "Ready", ("True", "Ready")).await;
    let failed = setting.harness.metric("kthena_router_api_writes_total", &["ModelServer", "failed"]).await;
    assert_eq!((failed, setting.api.writes_to("ModelServer", "m").len()), (1.0, 1));
}

#[test]
async fn a_deleted_object_that_comes_back_gets_a_status_of_its_own() {
    let setting = Setting::new(&[], |_| {}).await;
    let api = &setting.api;
    for round in 0..3 {
        api.put(model_server("extra", "extra"));
        api.has_condition("ModelServer", "extra", "Ready", ("False", "NoReadyEndpoints")).await;
        api.delete("ModelServer", "extra");
        let count = async || setting.harness.registry().await.objects["ModelServer"];
        setting.harness.until(&format!("it is gone in round {round}"), async || count().await == 1).await;
    }
}

#[test]
async fn a_gateway_of_a_foreign_class_gets_no_status_and_no_port() {
    let setting = Setting::new(&[GATEWAYS, "--kube-api-qps=1000"], |api| {
        one_of_each(api);
        api.put(gateway_class("theirs", "example.com/other"));
        api.put(gateway("foreign", "theirs", 8082));
    })
    .await;
    settled(&setting.api).await;
    setting.makes_plans(2).await;
    for (kind, name) in [("Gateway", "foreign"), ("GatewayClass", "theirs")] {
        assert_eq!(setting.api.object(kind, name).get("status"), None, "{kind}");
        assert!(setting.api.writes_to(kind, name).is_empty(), "{kind}");
    }
    assert!(!setting.is_open(8082));
}
