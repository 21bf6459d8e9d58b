//! What becomes of requests whose picker is of no help.

use std::time::Duration;

use tonic::Code;

use super::fake::{Conduct, FakePicker};
use super::scene::{Scene, Setting, endpoint, picker_yaml, scene, scene_on};
use crate::harness::Network;

/// A picker that decides in the time that it is given, or not at all.
const IMPATIENT: &[&str] = &["--endpoint-picker-timeout=2s"];

fn setting(failure_mode: &str) -> Setting<'_> {
    Setting { failure_mode, flags: IMPATIENT, ..Setting::default() }
}

/// Fails unless requests whose picker is of no help fail in a pool that fails closed.
async fn fails(scene: &Scene, case: &str, outcome: &str) {
    let before = scene.outcomes(outcome).await;
    let answer = scene.ask().await;
    assert_eq!(answer.status, 503, "{case}: {}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "endpoint_picker", "{case}");
    assert!(answer.header("retry-after").is_some(), "{case}");
    assert_eq!(scene.outcomes(outcome).await, before + 1.0, "{case}: {outcome}");
    assert_eq!(scene.backends.iter().map(crate::http_routes::backends::Backend::requests).sum::<usize>(), 0, "{case}");
}

fn faults(network: &Network) -> Vec<(&'static str, Conduct, &'static str)> {
    let inside = endpoint(network, 11);
    vec![
        ("it hangs", Conduct::Hangs, "timeout"),
        ("it dies", Conduct::Dies(inside), "broken"),
        ("it closes the connection", Conduct::Closes, "unreachable"),
        ("it fails", Conduct::Fails(Code::Internal), "broken"),
        ("it takes no requests", Conduct::Fails(Code::Unavailable), "unreachable"),
        ("it is no picker", Conduct::Fails(Code::Unimplemented), "unreachable"),
        ("it babbles", Conduct::Babbles, "broken"),
        ("it answers with no status", Conduct::Answers(42), "nonsense"),
        ("it names nothing", Conduct::NamesNothing, "no_endpoint"),
        ("it names an empty list", Conduct::Names(" ".to_owned()), "no_endpoint"),
        ("it names no address", Conduct::Names("pod-1, 10.0.0.1, :80".to_owned()), "nonsense"),
        ("it names an endpoint of nobody", Conduct::Names("127.0.0.1:3000".to_owned()), "outside_pool"),
        ("it names another port", Conduct::Names(format!("{}:3001", network.host(11))), "outside_pool"),
    ]
}

#[actix_web::test]
async fn a_pool_that_fails_closed_serves_nothing_without_its_picker() {
    let network = Network::new();
    let faults = faults(&network);
    let picker = FakePicker::start(network.host(20), Conduct::Hangs).await;
    let scene = scene_on(network, &setting("FailClose")).await;
    for (case, conduct, outcome) in faults {
        picker.turn_to(conduct);
        fails(&scene, case, outcome).await;
    }
    // None of this is held against the picker.
    picker.turn_to(Conduct::Names(scene.endpoint(11)));
    assert_eq!(scene.asked().await, "v2");
}

#[actix_web::test]
async fn a_pool_that_fails_open_is_served_without_its_picker() {
    let network = Network::new();
    let faults = faults(&network);
    let picker = FakePicker::start(network.host(20), Conduct::Hangs).await;
    let scene = scene_on(network, &setting("FailOpen")).await;
    for (case, conduct, outcome) in faults {
        picker.turn_to(conduct);
        assert_eq!(scene.ask().await.status, 200, "{case}");
        assert_eq!(scene.outcomes(outcome).await.min(1.0), 1.0, "{case}: {outcome}");
    }
    picker.turn_to(Conduct::Names(scene.endpoint(11)));
    assert_eq!(scene.asked().await, "v2");
}

#[actix_web::test]
async fn a_picker_that_is_not_there_is_told_from_one_that_refuses() {
    for (case, pickers, outcome) in
        [("nobody is ready", &[][..], "no_picker"), ("nobody listens", &[30, 31], "unreachable")]
    {
        let scene = scene_on(Network::new(), &Setting { pickers, ..setting("FailClose") }).await;
        fails(&scene, case, outcome).await;
        let scene = scene_on(Network::new(), &Setting { pickers, ..setting("FailOpen") }).await;
        assert_eq!(scene.ask().await.status, 200, "{case}");
        assert_eq!(scene.outcomes(outcome).await, 1.0, "{case}");
    }
}

#[actix_web::test]
async fn a_reference_to_a_service_that_is_missing_serves_nothing() {
    for failure_mode in ["FailClose", "FailOpen"] {
        let (scene, picker) = scene(&setting(failure_mode), |network| Conduct::Names(endpoint(network, 10))).await;
        scene.harness.remove("picker.yaml");
        scene.harness.until("the Service is gone", async || scene.ask().await.status == 500).await;
        assert_eq!(scene.ask().await.json()["error"]["code"], "endpoint_picker", "{failure_mode}");
        scene.harness.write("picker.yaml", &picker_yaml(&[scene.harness.host(20)], setting(failure_mode).port));
        scene.harness.until("the Service is back", async || scene.ask().await.status == 200).await;
        assert_eq!(picker.told_served(), Some(scene.endpoint(10)), "{failure_mode}");
    }
}

#[actix_web::test]
async fn a_picker_that_cannot_be_reached_leaves_it_to_the_next() {
    let network = Network::new();
    let conduct = Conduct::Names(endpoint(&network, 12));
    let picker = FakePicker::start(network.host(21), conduct.clone()).await;
    let refusing = FakePicker::start(network.host(22), Conduct::Fails(Code::Unavailable)).await;
    let scene = scene_on(network, &Setting { pickers: &[20, 21, 22], ..setting("FailClose") }).await;
    let mut requests = 0;
    // Each of them is asked first at some time.
    while requests < 20 || refusing.streams() == 0 {
        assert_eq!(scene.asked().await, "v3");
        requests += 1;
    }
    assert_eq!(picker.streams(), requests);
}

#[actix_web::test]
async fn a_picker_that_dies_late_costs_no_answer() {
    for conduct in [Conduct::DiesLate, Conduct::Names] {
        let (scene, picker) = scene(&setting("FailClose"), |network| conduct(endpoint(network, 10))).await;
        let answer = scene.ask().await;
        assert_eq!(answer.status, 200);
        let noted = matches!(conduct("".to_owned()), Conduct::Names(_));
        assert_eq!(answer.header("x-picker"), noted.then_some("noted"));
        assert_eq!(picker.told_served(), Some(scene.endpoint(10)));
        let outcome = if noted { "outcome=\"noted\"" } else { "outcome=\"broken\"" };
        assert_eq!(scene.harness.metric("kthena_router_endpoint_picker_reports_total", &[outcome]).await, 1.0);
    }
}

#[actix_web::test]
async fn the_time_of_the_request_is_that_of_the_picker_as_well() {
    let rules = format!("{}  timeouts: {{request: 200ms}}\n", super::scene::TO_POOL);
    let setting = Setting { rules: &rules, ..Setting::default() };
    let (scene, picker) = scene(&setting, |_| Conduct::Hangs).await;
    let answer = tokio::time::timeout(Duration::from_secs(8), scene.ask()).await.unwrap();
    assert_eq!(answer.status, 504);
    scene.harness.until("the exchange has ended", async || picker.open() == 0).await;
}
