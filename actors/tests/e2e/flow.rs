//! Requests wait in the router while their pool has no room, in a fair order, and for one that has no endpoint.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt::spawn;
use actix_web::rt::task::JoinHandle;
use serde_json::json;
use simulated_engine::{Engine, EngineConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, PORT, pod_yaml, read, route_yaml};

const ONE_AT_A_TIME: &str = "--max-requests-per-endpoint=1";
const FLOW: &str = "x-llm-d-inference-fairness-id";
const REASONS: [&str; 2] = ["x-llm-d-request-dropped-reason", "x-gateway-request-dropped-reason"];

/// A router with one engine.
async fn scene(flags: &[&str]) -> (Harness, Engine) {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    (network.start(flags).await, engine)
}

/// Asks for an answer in the name of a flow.
fn ask(harness: &Harness, flow: &str) -> JoinHandle<Answer> {
    let body = json!({"model": "chat", "prompt": "Say something.", "max_tokens": 5}).to_string();
    let request = harness.post_to(PORT, "/v1/completions").insert_header((FLOW, flow));
    spawn(async move { read(request.send_body(body).await.unwrap()).await })
}

/// Sends a request that is not answered, and is over when what is returned is dropped.
async fn occupy(host: std::net::IpAddr, port: u16, model: &str) -> TcpStream {
    let body = json!({"model": model, "prompt": "Say something."}).to_string();
    let mut stream = TcpStream::connect((host, port)).await.unwrap();
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nx-simulate-fault: hang\r\n";
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    stream
}

/// Takes the only place of the engine.
async fn occupied(harness: &Harness, engine: &Engine) -> TcpStream {
    let occupant = occupy(harness.host(1), PORT, "chat").await;
    harness.until("the engine has the request", async || engine.requests() == 1).await;
    occupant
}

async fn waits(harness: &Harness, count: u32) {
    let waiting = async || harness.metric("kthena_router_queue_requests", &[]).await == f64::from(count);
    harness.until(&format!("{count} requests wait"), waiting).await;
}

fn assert_dropped(answer: &Answer, status: u16, reason: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    for header in REASONS {
        assert_eq!(answer.header(header), Some(reason), "{}", answer.text());
    }
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
}

#[actix_web::test]
async fn a_quiet_flow_does_not_wait_behind_a_flood() {
    let (harness, engine) = scene(&[ONE_AT_A_TIME]).await;
    let occupant = occupied(&harness, &engine).await;
    let order = Rc::new(RefCell::new(String::new()));
    let mut clients = Vec::new();
    for (number, flow) in ["a", "a", "a", "b"].into_iter().enumerate() {
        let (answer, order) = (ask(&harness, flow), Rc::clone(&order));
        clients.push(spawn(async move {
            assert_eq!(answer.await.unwrap().status, 200);
            order.borrow_mut().push_str(flow);
        }));
        waits(&harness, u32::try_from(number + 1).unwrap()).await;
    }
    assert_eq!(engine.requests(), 1, "they wait in the router");
    drop(occupant);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(*order.borrow(), "baaa");
    let dispatched = harness.metric("kthena_router_queue_outcomes_total", &["outcome=\"dispatched\"", "default"]).await;
    assert_eq!(dispatched, 4.0);
    assert!(harness.logged("queued_ms=").await.contains("selected_pod=s-10"));
    let told = harness.get_debug_page("/debug/decisions").await.json();
    let queue = &told["decisions"][0]["queue"];
    assert!(queue["priority"] == 0 && queue["seconds"].is_number(), "{told}");
}

/// Returns the YAML of a ModelRoute whose requests have a priority.
fn prioritized(name: &str, priority: i32) -> String {
    let metadata =
        format!("metadata: {{name: {name}, annotations: {{networking.serving.volcano.sh/priority: '{priority}'}}}}");
    route_yaml(name, name, "s").replace(&format!("metadata: {{name: {name}}}"), &metadata)
}

#[actix_web::test]
async fn the_requests_of_an_important_route_go_first() {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    network.model_server("s", "m", &[]);
    network.write("pods.yaml", &pod_yaml("s-10", "s", network.host(10)));
    network
        .write("route.yaml", &(route_yaml("chat", "chat", "s") + &prioritized("gold", 10) + &prioritized("low", -1)));
    let harness = network.start(&[ONE_AT_A_TIME]).await;
    let occupant = occupied(&harness, &engine).await;
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut clients = Vec::new();
    for (number, model) in ["chat", "chat", "gold"].into_iter().enumerate() {
        let body = json!({"model": model, "prompt": "Say something.", "max_tokens": 5}).to_string();
        let (request, order) = (harness.post_to(PORT, "/v1/completions"), Rc::clone(&order));
        clients.push(spawn(async move {
            assert_eq!(read(request.send_body(body).await.unwrap()).await.status, 200);
            order.borrow_mut().push(model);
        }));
        waits(&harness, u32::try_from(number + 1).unwrap()).await;
    }
    assert_eq!(engine.requests(), 1, "they wait in the router");
    drop(occupant);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(*order.borrow(), ["gold", "chat", "chat"]);
    let dispatched = harness.metric("kthena_router_queue_outcomes_total", &["outcome=\"dispatched\"", "high"]).await;
    assert_eq!(dispatched, 1.0);
    // Of an endpoint that nobody can ask nothing is known, and its pool counts as saturated.
    harness.write("pods.yaml", &pod_yaml("s-12", "s", harness.host(12)));
    let ask = async |model: &str| {
        let body = json!({"model": model, "prompt": "Say something."}).to_string();
        read(harness.post_to(PORT, "/v1/completions").send_body(body).await.unwrap()).await
    };
    harness.until("the important ones alone are tried", async || ask("low").await.status == 429).await;
    assert_dropped(&ask("low").await, 429, "rejected-saturated");
    assert_eq!(ask("gold").await.status, 503, "nobody is there");
}

#[actix_web::test]
async fn what_cannot_wait_is_told_so() {
    let (harness, engine) = scene(&[ONE_AT_A_TIME, "--queue-max-requests=1", "--queue-timeout=300ms"]).await;
    let occupant = occupied(&harness, &engine).await;
    let first = ask(&harness, "a");
    waits(&harness, 1).await;
    assert_dropped(&ask(&harness, "a").await.unwrap(), 429, "rejected-saturated");
    assert_dropped(&first.await.unwrap(), 429, "rejected-ttl-expired");
    assert_eq!(engine.requests(), 1, "no work was done for them");
    drop(occupant);
    harness.until("there is room again", async || ask(&harness, "a").await.unwrap().status == 200).await;
}

#[actix_web::test]
async fn a_client_that_leaves_frees_its_place_at_once() {
    let (harness, engine) = scene(&[ONE_AT_A_TIME, "--queue-max-requests=1"]).await;
    let occupant = occupied(&harness, &engine).await;
    let leaving = occupy(harness.host(1), PORT, "chat").await;
    waits(&harness, 1).await;
    drop(leaving);
    waits(&harness, 0).await;
    let log = harness.logged("queued_ms=").await;
    assert!(log.lines().any(|line| line.contains("queued_ms=") && line.contains("499")), "{log}");
    let next = ask(&harness, "a");
    waits(&harness, 1).await;
    drop(occupant);
    assert_eq!(next.await.unwrap().status, 200);
    assert_eq!(engine.requests(), 2);
    let left = harness.metric("kthena_router_queue_outcomes_total", &["outcome=\"rejected-context-cancelled\""]).await;
    assert_eq!(left, 1.0);
}

#[actix_web::test]
async fn an_engine_that_shows_how_much_it_does_is_sent_no_more() {
    let network = Network::new();
    let engine = network.engine_with(10, EngineConfig { max_concurrency: 2, ..EngineConfig::new("m") }).await;
    network.model_server("s", "m", &[10]);
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    let harness = network.start(&[]).await;
    let mut occupants = Vec::new();
    for _ in 0..12 {
        occupants.push(occupy(harness.host(10), ENGINE_PORT, "m").await);
    }
    harness.until("ten of them wait", async || engine.waiting() == 10).await;
    let is_bounded = async || harness.dump("pools").await.text().contains("\"limit\":4");
    harness.until("the router knows what the engine works on", is_bounded).await;
    let waiting = ask(&harness, "a");
    waits(&harness, 1).await;
    assert_eq!(engine.requests(), 12, "it waits in the router");
    drop(occupants);
    assert_eq!(waiting.await.unwrap().status, 200);
    let unbounded = async || !harness.dump("pools").await.text().contains("\"limit\":4");
    harness.until("an idle engine is held back from nothing", unbounded).await;
}

#[actix_web::test]
async fn requests_for_a_pool_at_zero_are_answered_when_its_first_pod_is_there() {
    let network = Network::new();
    let _engine = network.engine(10, "m").await;
    network.model_server("s", "m", &[]);
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    let harness = network.start(&["--hold-without-endpoints=60s", "--hold-max-requests=50"]).await;
    let held: Vec<_> = (0..50).map(|number| ask(&harness, &number.to_string())).collect();
    waits(&harness, 50).await;
    let demand = harness.get_metrics_page("/demand/default/modelserver/s").await.json();
    assert_eq!((&demand["endpoints"], &demand["queued"], &demand["demand"]), (&json!(0), &json!(50), &json!(50)));
    assert_dropped(&ask(&harness, "late").await.unwrap(), 503, "rejected-no-endpoints");
    harness.write("pod.yaml", &pod_yaml("s-10", "s", harness.host(10)));
    for answer in held {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    let is_over = async || {
        let all = harness.get_debug_page("/debug/demand").await.json();
        let of = &all["pools"][0];
        of["demand"] == 0 && of["saturation"].is_number() && of["tokensPerSecond"].as_f64().unwrap() > 0.0
    };
    harness.until("nothing is asked any more, and tokens were counted", is_over).await;
    assert_eq!(harness.get_metrics_page("/demand/default/modelserver/x").await.status, 404);
}

#[actix_web::test]
async fn a_pool_without_endpoints_is_not_waited_for_unless_it_is_said() {
    let network = Network::new();
    network.model_server("s", "m", &[]);
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    let harness = network.start(&[]).await;
    assert_dropped(&ask(&harness, "a").await.unwrap(), 503, "rejected-no-endpoints");
}

#[actix_web::test]
async fn a_draining_engine_finishes_what_it_has_and_gets_nothing_more() {
    let network = Network::new();
    let slow = EngineConfig {
        output_tokens: Some(20),
        time_per_output_token: Duration::from_millis(50),
        ..EngineConfig::new("m")
    };
    let draining = network.engine_with(10, slow).await;
    let staying = network.engine(11, "m").await;
    let sticky = "  trafficPolicy: {sessionSticky: {sources: [{type: Header, name: X-Session}]}}";
    network.write("server.yaml", &network.model_server_yaml("s", "m", &[], sticky));
    network.write("pods.yaml", &pod_yaml("s-10", "s", network.host(10)));
    network.write("route.yaml", &route_yaml("chat", "chat", "s"));
    let harness = network.start(&[]).await;
    let in_session = || {
        let body = json!({"model": "chat", "prompt": "Say something.", "max_tokens": 20}).to_string();
        let request = harness.post_to(PORT, "/v1/completions").insert_header(("x-session", "1"));
        spawn(async move { read(request.send_body(body).await.unwrap()).await })
    };
    let begun = in_session();
    harness.until("the engine has the request", async || draining.requests() == 1).await;
    let drained = pod_yaml("s-10", "s", harness.host(10))
        .replace("labels: {", "labels: {modelserving.volcano.sh/traffic-draining: 'true', ");
    harness.write("pods.yaml", &(drained + &pod_yaml("s-11", "s", harness.host(11))));
    let has_moved = async || {
        let pools = harness.dump("pools").await.text();
        pools.contains("s-11") && !pools.contains("s-10")
    };
    harness.until("the other engine alone is left", has_moved).await;
    for _ in 0..10 {
        assert_eq!(in_session().await.unwrap().status, 200);
    }
    let answer = begun.await.unwrap();
    assert_eq!((answer.status, &answer.json()["usage"]["completion_tokens"]), (200, &json!(20)));
    assert_eq!((draining.requests(), staying.requests()), (1, 10), "the session has moved");
}

#[actix_web::test]
async fn the_go_routers_options_for_its_queues_mean_the_same() {
    let fairness = ["--enable-fairness-scheduling", "--fairness-max-concurrent=1", "--fairness-queue-timeout=300ms"];
    let (harness, engine) = scene(&fairness).await;
    let occupant = occupied(&harness, &engine).await;
    assert_dropped(&ask(&harness, "a").await.unwrap(), 429, "rejected-ttl-expired");
    let of_model = ["model=\"chat\"", "user_id=\"_all\""];
    assert_eq!(harness.metric("kthena_router_fairness_queue_cancelled_total", &of_model).await, 1.0);
    drop(occupant);
    harness.until("there is room again", async || ask(&harness, "a").await.unwrap().status == 200).await;
    harness.write("route.yaml", "# nothing\n");
    let is_told =
        async || harness.get_metrics_page("/metrics").await.text().contains("fairness_queue_cancelled_total{");
    harness.until("the series have gone with the model", async || !is_told().await).await;
}

#[actix_web::test]
async fn a_session_that_had_an_answer_goes_before_new_ones() {
    let (harness, engine) = scene(&["--enable-session-boost", "--session-boost-inflight-per-pod=1"]).await;
    let order = Rc::new(RefCell::new(String::new()));
    let in_session = |session: &'static str| {
        let body = json!({"model": "chat", "prompt": "Say something.", "max_tokens": 5}).to_string();
        let request = harness.post_to(PORT, "/v1/completions").insert_header(("x-session-id", session));
        let order = Rc::clone(&order);
        spawn(async move {
            assert_eq!(read(request.send_body(body).await.unwrap()).await.status, 200);
            order.borrow_mut().push_str(session);
        })
    };
    in_session("k").await.unwrap();
    let occupant = occupy(harness.host(1), PORT, "chat").await;
    harness.until("the engine has it", async || engine.requests() == 2).await;
    let mut clients = Vec::new();
    for (number, session) in ["n", "o", "k"].into_iter().enumerate() {
        clients.push(in_session(session));
        waits(&harness, u32::try_from(number + 1).unwrap()).await;
    }
    drop(occupant);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(*order.borrow(), "kkno");
    assert_eq!(harness.metric("kthena_router_session_boost_queue_dequeue_total", &["model=\"chat\""]).await, 3.0);
}
