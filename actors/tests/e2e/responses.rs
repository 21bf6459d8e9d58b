//! A response is kept by the engine that has made it, and every call about it reaches that engine, through any replica.

use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig};

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, route_yaml};
use crate::inference_pools::{EXTENSION, pod_yaml, pool_yaml};
use crate::wire::{Reply, Wire, behind_script, post};

const PATH: &str = "/v1/responses";
/// The turns of a conversation.
const TURNS: usize = 6;

/// Sends a request by hand, so that every method has the same way.
async fn send(harness: &Harness, method: &str, path: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: router\r\ncontent-length: 0\r\n\r\n");
    let mut client = Wire::open(harness).await;
    client.ask(head).await
}

async fn respond(harness: &Harness, model: &str, more: Value) -> Answer {
    let mut body = json!({"model": model, "input": "x"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Wire::open(harness).await.ask(post(PATH, "", &body.to_string())).await
}

/// Returns the id of the response that an answer is, whole or as a stream.
fn id(answer: &Answer) -> String {
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    let rest = text.split("\"id\":\"resp_").nth(1).unwrap_or_else(|| panic!("no id: {text}"));
    format!("resp_{}", rest.split('"').next().unwrap())
}

/// Starts two replicas in front of the same two engines of the model `m`, by ModelRoutes for `public`.
async fn replicas() -> ([Harness; 2], [Engine; 2]) {
    let (first, second) = (Network::new(), Network::new());
    let engines =
        [first.engine_with(10, EngineConfig::new("m")).await, first.engine_with(11, EngineConfig::new("m")).await];
    for network in [&first, &second] {
        network.write("m.yaml", &first.model_server_yaml("m", "m", &[10, 11], ""));
        network.write("route.yaml", &route_yaml("route", "public", "m"));
    }
    ([first.start(&[]).await, second.start(&[]).await], engines)
}

#[actix_web::test]
async fn a_conversation_stays_with_the_engine_that_knows_it_through_any_replica() {
    let (routers, _engines) = replicas().await;
    for stream in [false, true] {
        for start in 0..4 {
            let mut previous = id(&respond(&routers[start % 2], "public", json!({"stream": stream})).await);
            for turn in 1..TURNS {
                let more = json!({"stream": stream, "previous_response_id": previous});
                let answer = respond(&routers[(start + turn) % 2], "public", more).await;
                assert_eq!(answer.status, 200, "stream {stream}, turn {turn}: {}", answer.text());
                previous = id(&answer);
            }
        }
    }
}

#[actix_web::test]
async fn every_call_about_a_response_reaches_its_engine() {
    let (routers, _engines) = replicas().await;
    // Both know nothing of what the other one has sent.
    for (case, router) in [("the same replica", &routers[0]), ("another replica", &routers[1])] {
        for _ in 0..4 {
            let made = respond(&routers[0], "public", json!({"input": "what was asked"})).await;
            let id = id(&made);
            let path = format!("{PATH}/{id}");
            let got = send(router, "GET", &path).await;
            assert_eq!((got.status, &got.json()["id"]), (200, &json!(id)), "{case}");
            let events = send(router, "GET", &format!("{path}?stream=true&starting_after=3")).await.text();
            assert!(events.starts_with("event: ") && events.contains("\"sequence_number\":4,"), "{case}: {events}");
            assert!(!events.contains("\"sequence_number\":3,"), "{case}: {events}");
            let items = send(router, "GET", &format!("{path}/input_items")).await;
            assert_eq!(items.json()["data"][0]["content"], "what was asked", "{case}");
            let cancelled = send(router, "POST", &format!("{path}/cancel")).await;
            assert_eq!(cancelled.status, 400, "{case}: the engine's own word: {}", cancelled.text());
            assert_eq!(send(router, "DELETE", &path).await.json()["deleted"], true, "{case}");
            let gone = send(router, "GET", &path).await;
            assert_eq!((gone.status, &gone.json()["error"]["param"]), (404, &json!("response_id")), "{case}");
        }
    }
}

#[actix_web::test]
async fn a_response_in_the_background_is_asked_for_and_cancelled() {
    let network = Network::new();
    let slow = || EngineConfig { time_to_first_token: std::time::Duration::from_secs(3600), ..EngineConfig::new("m") };
    let _engines = (network.engine_with(10, slow()).await, network.engine_with(11, slow()).await);
    network.model_server("m", "m", &[10, 11]);
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    let harness = network.start(&[]).await;
    for _ in 0..4 {
        let id = id(&respond(&harness, "public", json!({"background": true})).await);
        assert_eq!(send(&harness, "GET", &format!("{PATH}/{id}")).await.json()["status"], "queued");
        assert_eq!(send(&harness, "POST", &format!("{PATH}/{id}/cancel")).await.json()["status"], "cancelled");
        assert_eq!(send(&harness, "GET", &format!("{PATH}/{id}")).await.json()["status"], "cancelled");
    }
}

#[actix_web::test]
async fn what_no_engine_has_any_more_is_said_and_never_answered_without_it() {
    let (routers, engines) = replicas().await;
    let unknown = send(&routers[0], "GET", &format!("{PATH}/resp_never")).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("response_not_found")));
    let made =
        [id(&respond(&routers[0], "public", json!({})).await), id(&respond(&routers[0], "public", json!({})).await)];
    let [first, second] = engines;
    first.stop().await;
    second.stop().await;
    for (made, router, code) in [
        (&made[0], &routers[0], "proxy"),
        (&made[0], &routers[1], "response_unreachable"),
        (&made[1], &routers[1], "response_unreachable"),
    ] {
        let answer = send(router, "GET", &format!("{PATH}/{made}")).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!(code)), "{}", answer.text());
    }
    // Other Pods take the place of those.
    let fresh = Network::new();
    let _engines =
        [fresh.engine_with(10, EngineConfig::new("m")).await, fresh.engine_with(11, EngineConfig::new("m")).await];
    for router in &routers {
        router.write("m.yaml", &fresh.model_server_yaml("m", "m", &[10, 11], ""));
        router.until("the new Pods serve", async || router.complete("public").await.status == 200).await;
    }
    for (router, code) in [(&routers[0], "response_gone"), (&routers[1], "response_not_found")] {
        for answer in [
            send(router, "GET", &format!("{PATH}/{}", made[0])).await,
            respond(router, "public", json!({"previous_response_id": made[1]})).await,
            respond(router, "public", json!({"previous_response_id": made[1], "stream": true})).await,
        ] {
            let error = &answer.json()["error"];
            let said = (answer.status, &error["code"], &error["type"], &error["param"]);
            let expected = (404, &json!(code), &json!("invalid_request_error"), &json!("response_id"));
            assert_eq!(said, expected, "{}", answer.text());
        }
    }
}

/// Case 14 of docs/clients.md: a router is started anew between turns, and then the engine is killed.
#[actix_web::test]
async fn a_conversation_goes_on_after_its_router_and_ends_with_its_engine() {
    for stream in [false, true] {
        let ([first, second], engines) = replicas().await;
        let mut previous = id(&respond(&first, "public", json!({"stream": stream})).await);
        let manifest = std::fs::read_to_string(first.manifests.path().join("m.yaml")).unwrap();
        drop(first);
        let network = Network::new();
        network.write("m.yaml", &manifest);
        network.write("route.yaml", &route_yaml("route", "public", "m"));
        let fresh = network.start(&[]).await;
        for turn in 1..TURNS {
            let router = if turn % 2 == 0 { &second } else { &fresh };
            let more = json!({"stream": stream, "previous_response_id": previous});
            previous = id(&respond(router, "public", more).await);
        }
        let more = json!({"stream": stream, "previous_response_id": previous});
        let before = engines[0].requests();
        let last = id(&respond(&fresh, "public", more).await);
        let [host, other] = if engines[0].requests() > before { [10, 11] } else { [11, 10] };
        let [mut killed, mut alive] = engines.map(Some);
        if host == 11 {
            std::mem::swap(&mut killed, &mut alive);
        }
        killed.unwrap().stop().await;
        let (alive, more) = (alive.unwrap(), json!({"stream": stream, "previous_response_id": last}));
        let before = alive.requests();
        for (router, code) in [(&fresh, "proxy"), (&second, "response_unreachable")] {
            let answer = respond(router, "public", more.clone()).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!(code)), "{}", answer.text());
        }
        let left: String =
            manifest.split_inclusive("---\n").filter(|text| !text.contains(&format!("m-{host}"))).collect();
        for (router, code) in [(&fresh, "response_gone"), (&second, "response_not_found")] {
            router.write("m.yaml", &left);
            let is_told = async || respond(router, "public", more.clone()).await.json()["error"]["code"] == code;
            router.until(&format!("{code}, and only {other} is left"), is_told).await;
        }
        assert_eq!(alive.requests(), before, "nobody goes on without what went before");
    }
}

#[actix_web::test]
async fn ids_that_nobody_has_cost_engines_few_questions_at_once() {
    // It says nothing before it is told to.
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    const ASKED: u8 = 12;
    let (harness, engine) = behind_script(&[Reply::Pause("", MISSING)]).await;
    let mut clients = Vec::new();
    for number in 0..ASKED {
        let mut client = Wire::open(&harness).await;
        client.send(format!("GET {PATH}/resp_{number} HTTP/1.1\r\nhost: router\r\n\r\n")).await;
        clients.push(client);
    }
    let in_flight = async || harness.metric("kthena_router_listener_inflight_requests", &[]).await;
    harness.until("all of them are in the router", async || in_flight().await == f64::from(ASKED)).await;
    for answered in 0..ASKED {
        let asked = usize::from((answered + 4).min(ASKED));
        harness.until("the next one has its turn", async || engine.received().len() == asked).await;
        engine.go_on();
    }
    for mut client in clients {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("response_not_found")));
    }
}

#[actix_web::test]
async fn responses_of_several_models_are_told_apart_by_their_pools() {
    let network = Network::new();
    let _engines = (network.engine(10, "a").await, network.engine(11, "b").await, network.engine(12, "b").await);
    network.model_server("a", "a", &[10]);
    network.model_server("b", "b", &[11, 12]);
    network.write("routes.yaml", &(route_yaml("a", "a", "a") + &route_yaml("b", "b", "b")));
    let harness = network.start(&[]).await;
    for model in ["a", "b", "a", "b"] {
        let id = id(&respond(&harness, model, json!({})).await);
        let got = send(&harness, "GET", &format!("{PATH}/{id}")).await;
        assert_eq!((got.status, &got.json()["model"]), (200, &json!(model)), "{}", got.text());
        harness.logged(&format!("\"GET {PATH}/{id} ")).await;
    }
}

#[actix_web::test]
async fn an_http_route_to_an_inference_pool_finds_them_as_well() {
    let networks = [Network::new(), Network::new()];
    let _engines = (networks[0].engine(10, "m").await, networks[0].engine(11, "m").await);
    let pods = pod_yaml("p-0", networks[0].host(10)) + &pod_yaml("p-1", networks[0].host(11));
    let mut routers = Vec::new();
    for network in networks {
        network.write("pods.yaml", &pods);
        network.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &pool_yaml("g", "")));
        routers.push(network.start(&[EXTENSION]).await);
    }
    let mut previous = id(&respond(&routers[0], "m", json!({})).await);
    for turn in 1..TURNS {
        let router = &routers[turn % 2];
        assert_eq!(send(router, "GET", &format!("{PATH}/{previous}")).await.status, 200, "turn {turn}");
        previous = id(&respond(router, "m", json!({"previous_response_id": previous})).await);
    }
    let unknown = send(&routers[0], "GET", &format!("{PATH}/resp_never")).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("response_not_found")));
}
