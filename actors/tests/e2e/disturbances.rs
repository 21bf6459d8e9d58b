//! Something is wrong with a file, an object or an engine: everything else goes on, and the fault can be seen.

use serde_json::json;
use simulated_engine::{Engine, EngineConfig};

use crate::changes::Load;
use crate::harness::{ENGINE_PORT, Harness, Network, PORT, gateway_yaml, route_with, route_yaml};

/// A router with the models `a` and `b`, whose routes `first` and `second` are in files of their own.
async fn two_routes() -> (Harness, [Engine; 2]) {
    let network = Network::new();
    let engines = [network.engine(10, "a").await, network.engine(11, "b").await];
    network.model_server("a", "a", &[10]);
    network.model_server("b", "b", &[11]);
    network.write("1-first.yaml", &route_yaml("first", "first", "a"));
    network.write("2-second.yaml", &route_yaml("second", "second", "b"));
    (network.start(&[]).await, engines)
}

async fn faults(harness: &Harness) -> f64 {
    harness.metric("kthena_router_manifest_faults", &[]).await
}

async fn answer(harness: &Harness, model: &str) -> String {
    let answer = harness.complete(model).await;
    if answer.status == 200 { answer.answered_by() } else { answer.status.to_string() }
}

#[actix_web::test]
async fn a_file_that_cannot_be_read_keeps_its_last_good_objects() {
    let good = route_yaml("first", "first", "a");
    let (harness, _engines) = two_routes().await;
    let unquoted = good.replace("modelName: first", "modelName: \"first");
    let mistyped = good.replace("rules:", "rules: many\n  other:");
    let second_document = format!("{good}\nkind: [\n");
    let cases: [(&str, &[u8]); 4] = [
        ("a syntax error", unquoted.as_bytes()),
        ("a value of the wrong type", mistyped.as_bytes()),
        ("a good object before a broken one", second_document.as_bytes()),
        ("bytes that are not text", b"kind: ModelRoute\xff\xfe"),
    ];
    for (turn, (case, text)) in cases.into_iter().enumerate() {
        let path = harness.manifests.path().join("1-first.yaml");
        std::fs::write(path, text).unwrap();
        harness.until(&format!("{case} is seen"), async || faults(&harness).await > 0.0).await;
        let name = format!("second-{turn}");
        harness.write("2-second.yaml", &route_yaml("second", &name, "b"));
        harness.until("another file takes effect", async || answer(&harness, &name).await == "b").await;
        assert_eq!(answer(&harness, "first").await, "a", "{case}");
        assert!(faults(&harness).await > 0.0, "{case} is still there");
        // The very text that was there before the fault.
        harness.write("1-first.yaml", &good);
        harness.until(&format!("{case} is repaired"), async || faults(&harness).await == 0.0).await;
        assert_eq!(answer(&harness, "first").await, "a", "{case}");
    }
}

#[actix_web::test]
async fn a_file_that_is_written_in_pieces_fails_no_request() {
    let (harness, _engines) = two_routes().await;
    let load = Load::start(&harness, PORT, "first", 4);
    load.goes_on(&harness, 20).await;
    let text = route_yaml("first", "first", "b");
    let path = harness.manifests.path().join("1-first.yaml");
    // Up to here the rules are missing.
    let half = text.find("  rules:").unwrap();
    std::fs::write(&path, &text[..half]).unwrap();
    harness.until("the half is seen", async || faults(&harness).await > 0.0).await;
    load.goes_on(&harness, 20).await;
    assert_eq!(answer(&harness, "first").await, "a");
    std::fs::write(&path, &text).unwrap();
    harness.until("the whole is seen", async || answer(&harness, "first").await == "b").await;
    assert_eq!(faults(&harness).await, 0.0);
    let tally = load.tally().await;
    assert!(tally.keys().all(|answer| answer == "a" || answer == "b"), "{tally:?}");
}

#[actix_web::test]
async fn ten_thousand_lines_take_effect() {
    let (harness, _engines) = two_routes().await;
    let routes = |server: &str| -> String {
        (0..1_500).map(|number| route_yaml(&format!("r-{number}"), &format!("m-{number}"), server)).collect()
    };
    let text = routes("a");
    assert!(text.lines().count() >= 10_000, "{} lines", text.lines().count());
    let load = Load::start(&harness, PORT, "first", 2);
    harness.write("3-many.yaml", &text);
    harness.until("the last route serves", async || answer(&harness, "m-1499").await == "a").await;
    assert_eq!(answer(&harness, "m-0").await, "a");
    assert_eq!(harness.registry().await.objects["ModelRoute"], 1_502);
    harness.write("3-many.yaml", &routes("b"));
    harness.until("the last route has changed", async || answer(&harness, "m-1499").await == "b").await;
    assert_eq!(faults(&harness).await, 0.0);
    let tally = load.tally().await;
    assert_eq!(tally.keys().collect::<Vec<_>>(), ["a"], "{tally:?}");
}

#[actix_web::test]
async fn of_two_files_with_one_object_the_later_is_used_and_the_other_is_not_lost() {
    let (harness, _engines) = two_routes().await;
    harness.write("3-again.yaml", &route_yaml("first", "first", "b"));
    harness.until("the later file is used", async || answer(&harness, "first").await == "b").await;
    assert_eq!(faults(&harness).await, 1.0);
    harness.write("3-again.yaml", &route_yaml("renamed", "renamed", "b"));
    harness.until("the earlier file is used", async || answer(&harness, "first").await == "a").await;
    harness.until("there is no fault", async || faults(&harness).await == 0.0).await;
    assert_eq!(answer(&harness, "renamed").await, "b");
}

#[actix_web::test]
async fn an_invalid_regex_disturbs_no_other_route_and_is_reported() {
    let (harness, _engines) = two_routes().await;
    let rules = |regex: &str| {
        format!(
            "- modelMatch: {{headers: {{x: {{regex: \"{regex}\"}}}}}}\n  targetModels: [{{modelServerName: a}}]\n\
             - targetModels: [{{modelServerName: b}}]"
        )
    };
    let route = |regex: &str| route_with("matching", "modelName: matching", "default", &rules(regex));
    let accepted = async |name: &str| {
        let route = harness.dump(&format!("namespaces/default/modelroutes/{name}")).await;
        let text = |field: &str| route.json()["status"]["conditions"][0][field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    };
    harness.write("3-matching.yaml", &route("("));
    harness.until("the regex is refused", async || accepted("matching").await.0 == "False").await;
    let (_, reason, message) = accepted("matching").await;
    assert_eq!(reason, "UnsupportedValue");
    assert!(message.contains("spec.rules[0].modelMatch.headers"), "{message}");
    assert_eq!(answer(&harness, "matching").await, "404", "a route that is not accepted serves nothing");
    assert_eq!(accepted("first").await.0, "True");
    assert_eq!((answer(&harness, "first").await, answer(&harness, "second").await), ("a".into(), "b".into()));
    harness.write("3-matching.yaml", &route("^v[0-9]+$"));
    harness.until("the regex is accepted", async || accepted("matching").await.0 == "True").await;
    assert_eq!(answer(&harness, "matching").await, "b");
}

#[actix_web::test]
async fn listeners_of_one_gateway_in_conflict_leave_its_others_alone() {
    let (harness, _engines) = two_routes().await;
    harness.write("3-gateway.yaml", &gateway_yaml("twice", &[(8081, None), (8081, None), (8082, None)]));
    let route = route_with("twice", "modelName: twice", "twice", "- targetModels: [{modelServerName: a}]");
    harness.write("4-route.yaml", &route);
    let conditions = async || {
        let gateway = harness.dump("namespaces/default/gateways/twice").await.json();
        let condition = |listener: usize, kind: &str| {
            let conditions = gateway["status"]["listeners"][listener]["conditions"].as_array()?;
            Some(conditions.iter().find(|condition| condition["type"] == kind)?["status"].clone())
        };
        [0, 1, 2].map(|listener| [condition(listener, "Conflicted"), condition(listener, "Programmed")])
    };
    let [yes, no] = ["True", "False"].map(|status| Some(json!(status)));
    let conflict = [yes.clone(), no.clone()];
    let expected = [conflict.clone(), conflict, [no, yes]];
    harness.until("the conflict is reported", async || conditions().await == expected).await;
    assert_eq!(harness.complete_on(8082, "twice").await.answered_by(), "a");
    assert_eq!(answer(&harness, "first").await, "a");
    assert!(std::net::TcpStream::connect((harness.host(1), 8081)).is_err(), "neither of the two is served");
}

#[actix_web::test]
async fn an_engine_that_dies_under_load_fails_no_request_and_comes_back() {
    let network = Network::new();
    let steady = network.engine(10, "m").await;
    let dying = network.engine(11, "m").await;
    network.model_server("s", "m", &[10, 11]);
    network.write("route.yaml", &route_yaml("r", "m", "s"));
    let host = network.host(11);
    let harness = network.start(&[]).await;
    let endpoints = async |state: &str| {
        let state = format!("state=\"{state}\"");
        harness.metric("kthena_router_endpoints", &["pool=\"ModelServer default/s\"", &state]).await
    };
    let load = Load::start(&harness, PORT, "m", 4);
    load.goes_on(&harness, 50).await;
    assert!(steady.requests() > 0 && dying.requests() > 0, "both engines serve at first");
    assert_eq!((endpoints("ready").await, endpoints("ejected").await), (2.0, 0.0));

    dying.stop().await;
    harness.until("the dead engine is ejected", async || endpoints("ejected").await == 1.0).await;
    assert_eq!(endpoints("ready").await, 1.0);
    assert_eq!(harness.metric("kthena_router_endpoint_ejections_total", &[]).await, 1.0);
    let failed = async || harness.metric("kthena_router_scrapes_total", &["outcome=\"connect\""]).await;
    harness.until("its scrapes fail", async || failed().await > 0.0).await;
    let before = harness.metric("kthena_router_upstream_attempts_total", &["refused"]).await;
    load.goes_on(&harness, 50).await;
    let after = harness.metric("kthena_router_upstream_attempts_total", &["refused"]).await;
    assert_eq!(before, after, "an endpoint that is set aside is not tried");

    let config = EngineConfig { addresses: vec![host], ports: vec![ENGINE_PORT], ..EngineConfig::new("m") };
    let back = simulated_engine::start(config).await.unwrap();
    harness.until("it serves again", async || back.requests() > 0).await;
    assert_eq!((endpoints("ready").await, endpoints("ejected").await), (2.0, 0.0));
    let tally = load.tally().await;
    assert_eq!(tally.keys().collect::<Vec<_>>(), ["m"], "{tally:?}");
}
