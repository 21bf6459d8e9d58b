//! Every connector against engines that refuse what real ones would do in another way than the request says.

use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig, HandoverFault, KvConnector, KvRole, TransferCounts};

use super::failures::outcomes;
use super::{ALWAYS, DEFAULT, PAIR, Pod, complete, decision, reserved, server_yaml, start, start_with};
use crate::harness::{ENGINE_PORT, Harness, Network, PORT, read};
use crate::wire::{Wire, post};

/// A connector: the engine and the spec of its ModelServer, and what the engines run with.
type Spoken = (&'static str, &'static str, KvConnector);

const CONNECTORS: [Spoken; 6] = [
    ("vLLM", "", KvConnector::Http),
    ("vLLM", "  kvConnector: {type: lmcache}", KvConnector::Lmcache),
    ("vLLM", "  kvConnector: {type: nixl}", KvConnector::Nixl),
    ("vLLM", "  kvConnector: {type: mooncake}", KvConnector::Mooncake),
    ("vLLM", "  kvConnector: {type: mooncake}", KvConnector::MooncakeAscend),
    ("SGLang", "", KvConnector::Sglang),
];
/// The engine that stands for a shared store.
const STORE: u8 = 30;

/// Starts an engine of a role.
async fn engine(network: &Network, connector: KvConnector, host: u8, kv_role: KvRole) -> Engine {
    engine_at(network, (connector, 8998), host, kv_role).await
}

/// Starts an engine of a role that others meet at a port.
async fn engine_at(
    network: &Network,
    (connector, bootstrap_port): (KvConnector, u16),
    host: u8,
    kv_role: KvRole,
) -> Engine {
    let config = EngineConfig {
        kv_connector: Some(connector),
        kv_role,
        kv_bootstrap_port: Some(bootstrap_port),
        kv_store: Some((network.host(STORE), ENGINE_PORT).into()),
        record: true,
        ..EngineConfig::new("m")
    };
    network.engine_with(host, config).await
}

/// Starts engines for these Pods, those that prefill first, and a router in front of them.
async fn fleet((kind, more, connector): Spoken, pods: &[Pod]) -> (Harness, Vec<Engine>) {
    let network = Network::new();
    let mut engines = vec![];
    for (_, host, role, _) in pods {
        let role = if *role == "prefill" { KvRole::Prefill } else { KvRole::Decode };
        engines.push(engine(&network, connector, *host, role).await);
    }
    engines.push(engine(&network, connector, STORE, KvRole::Both).await);
    (start(network, kind, more, ALWAYS, pods).await, engines)
}

/// Waits until no engine has anything left of any request, and the router holds no reservation.
async fn all_free(case: &str, harness: &Harness, engines: &[Engine]) {
    let free = |engine: &Engine| {
        let TransferCounts { held, sending, guests, .. } = engine.transfers();
        engine.running() + engine.waiting() + held + sending + guests == 0
    };
    harness.until(&format!("{case}: all is free"), async || engines.iter().all(free)).await;
    harness.until(&format!("{case}: nothing is reserved"), async || reserved(harness).await == 0).await;
}

fn bodies() -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": "Say something."}]);
    [
        ("/v1/completions", json!({"prompt": "Say something.", "max_tokens": 9, "min_tokens": 2})),
        ("/v1/chat/completions", json!({"messages": messages, "max_completion_tokens": 9})),
        ("/v1/responses", json!({"input": "Say something.", "max_output_tokens": 9})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 9})),
    ]
}

#[actix_web::test]
async fn every_connector_serves_every_api() {
    for spoken in CONNECTORS {
        let (harness, engines) = fleet(spoken, &PAIR).await;
        let mut served = 0;
        for (path, body) in bodies() {
            for stream in [false, true] {
                let case = format!("{spoken:?} {path} stream {stream}");
                let mut body = body.clone();
                body["model"] = json!("public");
                body["stream"] = json!(stream);
                let answer = read(harness.post_to(PORT, path).send_body(body.to_string()).await.unwrap()).await;
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                assert!(!answer.text().contains("kv_transfer_params\":{"), "{case}: {}", answer.text());
                served += 1;
                let (prefill, decode) = (engines[0].transfers(), engines[1].transfers());
                assert_eq!((prefill.prefills, decode.decodes), (served, served), "{case}: {prefill:?} {decode:?}");
                assert_eq!((prefill.refused, decode.refused, decode.alone), (0, 0, 0), "{case}");
            }
        }
        all_free(&format!("{spoken:?}"), &harness, &engines).await;
    }
}

#[actix_web::test]
async fn short_prompts_are_answered_by_those_that_prefill_as_well() {
    for spoken in &CONNECTORS[..5] {
        let (kind, more, connector) = *spoken;
        let network = Network::new();
        let prefill = engine(&network, connector, PAIR[0].1, KvRole::Prefill).await;
        let decode = engine(&network, connector, PAIR[1].1, KvRole::Decode).await;
        let _store = engine(&network, connector, STORE, KvRole::Both).await;
        let harness = start(network, kind, more, DEFAULT, &PAIR).await;
        let both_answer = async || {
            assert_eq!(complete(&harness, json!({})).await.status, 200, "{spoken:?}");
            prefill.transfers().alone > 0 && decode.requests() > 0
        };
        harness.until(&format!("{spoken:?}: both answer"), both_answer).await;
        assert_eq!((prefill.transfers().refused, decode.transfers().refused), (0, 0), "{spoken:?}");
    }
}

#[actix_web::test]
async fn engines_are_met_where_their_pods_say() {
    for (annotation, (kind, more, connector)) in
        [("sglang.ai/bootstrap-port", CONNECTORS[5]), ("vllm.ai/bootstrap-port", CONNECTORS[3])]
    {
        let network = Network::new();
        let prefill = engine_at(&network, (connector, 9123), PAIR[0].1, KvRole::Prefill).await;
        let decode = engine(&network, connector, PAIR[1].1, KvRole::Decode).await;
        let server = server_yaml(&network, kind, more, &PAIR)
            .replace("metadata: {name: p,", &format!("metadata: {{name: p, annotations: {{{annotation}: '9123'}},"));
        let harness = start_with(network, &server, ALWAYS, &[]).await;
        let answer = complete(&harness, json!({})).await;
        assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()), "{annotation}");
        let counts = (prefill.transfers().prefills, decode.transfers().decodes, decode.transfers().refused);
        assert_eq!(counts, (1, 1, 0), "{annotation}");
    }
}

#[actix_web::test]
async fn the_bodies_of_both_legs_are_counted_and_given_back() {
    let prompt = "word ".repeat(200_000);
    // The client's body is counted once, and that of each leg which exists at the same time.
    for ((kind, more, connector), room, expected) in [
        (CONNECTORS[0], 1_500_000, 503),
        (CONNECTORS[0], 2_500_000, 200),
        (CONNECTORS[5], 2_500_000, 503),
        (CONNECTORS[5], 3_500_000, 200),
    ] {
        let case = format!("{connector:?} in {room} bytes");
        let network = Network::new();
        let engines = [
            engine(&network, connector, PAIR[0].1, KvRole::Prefill).await,
            engine(&network, connector, PAIR[1].1, KvRole::Decode).await,
            engine(&network, connector, STORE, KvRole::Both).await,
        ];
        let server = server_yaml(&network, kind, more, &PAIR);
        let harness = start_with(network, &server, ALWAYS, &[&format!("--max-buffered-bytes={room}")]).await;
        for round in 0..3 {
            let answer = complete(&harness, json!({"prompt": prompt})).await;
            assert_eq!(answer.status, expected, "{case}, round {round}: {}", answer.text());
        }
        all_free(&case, &harness, &engines).await;
        let answer = complete(&harness, json!({})).await;
        assert_eq!(answer.status, 200, "{case}: a small one has room: {}", answer.text());
    }
}

#[actix_web::test]
async fn an_answer_of_a_prefill_that_is_of_no_use_leaves_the_request_to_the_decode() {
    let nixl = CONNECTORS[2];
    for (fault, attempts) in [
        (HandoverFault::Missing, &["prefill_handover", "answered"][..]),
        (HandoverFault::Malformed, &["prefill_handover", "prefill_handover", "answered"]),
        (HandoverFault::Huge, &["prefill_handover", "prefill_handover", "answered"]),
    ] {
        let pods = [PAIR[0], ("q", 11, "prefill", "g0"), PAIR[1]];
        let (harness, engines) = fleet(nixl, &pods).await;
        engines[0].faults().set_handover(fault);
        engines[1].faults().set_handover(fault);
        let answer = complete(&harness, json!({})).await;
        assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()), "{fault:?}");
        assert_eq!(outcomes(&harness).await, attempts, "{fault:?}");
        assert_eq!(engines[2].transfers().alone, 1, "{fault:?}");
        let handover = harness.metric("kthena_router_upstream_attempts_total", &["outcome=\"prefill_handover\""]).await;
        assert!(handover >= 1.0, "{fault:?}");
    }
}

#[actix_web::test]
async fn no_memory_for_the_answer_of_a_prefill_is_not_its_fault() {
    let (kind, more, connector) = CONNECTORS[2];
    let network = Network::new();
    let pods = [PAIR[0], ("q", 11, "prefill", "g0"), PAIR[1]];
    let mut engines = Vec::new();
    for (_, host, role, _) in pods {
        let role = if role == "prefill" { KvRole::Prefill } else { KvRole::Decode };
        engines.push(engine(&network, connector, host, role).await);
    }
    for prefill in &engines[..2] {
        prefill.faults().set_handover(HandoverFault::Huge);
    }
    let server = server_yaml(&network, kind, more, &pods);
    let harness = start_with(network, &server, ALWAYS, &["--max-buffered-bytes=1000000"]).await;
    for round in 0..8 {
        let answer = complete(&harness, json!({})).await;
        assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()), "round {round}");
        let expected = ["prefill_handover", "answered"];
        assert_eq!(outcomes(&harness).await, expected, "round {round}: there is no memory for another's answer either");
    }
    let pools = harness.dump("pools").await.text();
    assert!(!pools.contains("jected"), "{pools}");
}

#[actix_web::test]
async fn an_engine_is_asked_for_its_id_once_in_the_life_of_its_pod() {
    let (kind, more, connector) = CONNECTORS[3];
    let network = Network::new();
    let prefill = engine(&network, connector, PAIR[0].1, KvRole::Prefill).await;
    let decode = engine(&network, connector, PAIR[1].1, KvRole::Decode).await;
    let server = server_yaml(&network, kind, more, &PAIR);
    let of_life = |life: &str| server.replace("metadata: {name: p,", &format!("metadata: {{name: p, uid: {life},"));
    let harness = start_with(network, &of_life("first"), ALWAYS, &[]).await;
    for _ in 0..3 {
        assert_eq!(complete(&harness, json!({})).await.status, 200);
    }
    assert_eq!((prefill.transfers().asked, decode.transfers().decodes), (1, 3));

    harness.write("server.yaml", &of_life("second"));
    let is_asked_anew = async || {
        assert_eq!(complete(&harness, json!({})).await.status, 200);
        prefill.transfers().asked == 2
    };
    harness.until("the engine of the new Pod is asked", is_asked_anew).await;

    decode.faults().set_error_status(500).unwrap();
    decode.faults().set_error_rate(1.0).unwrap();
    assert_eq!(complete(&harness, json!({})).await.status, 500);
    decode.faults().set_error_rate(0.0).unwrap();
    assert_eq!(complete(&harness, json!({})).await.status, 200);
    assert_eq!(prefill.transfers().asked, 3, "after a failure it is asked again");
}

#[actix_web::test]
async fn a_prefill_that_hangs_costs_the_time_of_an_attempt() {
    let (kind, _, connector) = CONNECTORS[2];
    let more = "  kvConnector: {type: nixl}\n  trafficPolicy: {timeout: 100ms}";
    let (harness, engines) = fleet((kind, more, connector), &PAIR).await;
    engines[0].faults().set_hang(true);
    let answer = complete(&harness, json!({})).await;
    assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()));
    assert_eq!(outcomes(&harness).await, ["prefill_timeout", "answered"]);
    all_free("hang", &harness, &engines).await;
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_followed_by_no_other() {
    for spoken in CONNECTORS {
        let pods = [PAIR[0], PAIR[1], ("e", 21, "decode", "g0")];
        let (harness, engines) = fleet(spoken, &pods).await;
        for engine in &engines[1..3] {
            engine.faults().set_reset_after(Some(3));
        }
        let body = json!({"model": "public", "prompt": "Say something.", "stream": true, "max_tokens": 100});
        let mut client = Wire::open(&harness).await;
        client.send(post("/v1/completions", "", &body.to_string())).await;
        assert_eq!(client.head().await.unwrap().status, 200, "{spoken:?}");
        let mut text = String::new();
        while let Ok(chunk) = client.chunk().await {
            text += &String::from_utf8(chunk).unwrap();
        }
        assert_eq!(text.matches("This").count(), 1, "{spoken:?}: {text}");
        assert!(text.contains("\"error\""), "{spoken:?}: the stream says so: {text}");
        assert_eq!(engines[1].requests() + engines[2].requests(), 1, "{spoken:?}: nobody else is asked");
        all_free(&format!("{spoken:?}"), &harness, &engines).await;
    }
}

#[actix_web::test]
async fn a_client_that_leaves_frees_both_engines() {
    for spoken in CONNECTORS {
        for leg in [0, 1] {
            let case = format!("{spoken:?}, hangs in leg {leg}");
            let (harness, engines) = fleet(spoken, &PAIR).await;
            engines[leg].faults().set_hang(true);
            let body = json!({"model": "public", "prompt": "Say something.", "stream": true});
            let mut client = Wire::open(&harness).await;
            client.send(post("/v1/completions", "", &body.to_string())).await;
            harness.until(&format!("{case}: it hangs"), async || engines[leg].running() == 1).await;
            drop(client);
            // What a prefill holds for a decode that never comes, only the engine's own time limit frees.
            let is_free = |engine: &Engine| engine.running() + engine.transfers().guests == 0;
            harness.until(&format!("{case}: both are free"), async || engines[..2].iter().all(is_free)).await;
            assert_eq!(engines[leg].requests(), 1, "{case}: nobody else is asked for a client that is gone");
            let log = harness.logged("prefill_pod=p").await;
            assert!(log.contains("selected_pod=d prefill_pod=p"), "{case}: {log}");
        }
    }
}

#[actix_web::test]
async fn each_attempt_has_a_transfer_of_its_own() {
    for spoken in CONNECTORS {
        let pods = [PAIR[0], ("bad", 20, "decode", "g0"), ("good", 21, "decode", "g0")];
        let (harness, engines) = fleet(spoken, &pods).await;
        engines[1].faults().set_error_status(503).unwrap();
        engines[1].faults().set_error_rate(1.0).unwrap();
        let meets_it = async || {
            let answer = complete(&harness, json!({})).await;
            assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()), "{spoken:?}");
            decision(&harness).await["attempts"].as_array().unwrap().len() == 2
        };
        harness.until(&format!("{spoken:?}: a request meets the bad one"), meets_it).await;
        assert_eq!(outcomes(&harness).await, ["unavailable", "answered"], "{spoken:?}");
        assert_eq!(engines[2].transfers().refused, 0, "{spoken:?}");
    }
}
