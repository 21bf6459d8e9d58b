//! What becomes of a request that two engines work on when one of them fails.

use serde_json::json;

use super::{ALWAYS, PAIR, complete, count, decision, last_body, start};
use crate::harness::{Harness, Network};
use crate::wire::{Reply, ScriptedEngine};

/// Returns how the attempts of the latest request ended.
pub(super) async fn outcomes(harness: &Harness) -> Vec<String> {
    let decision = decision(harness).await;
    let attempts = decision["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

#[actix_web::test]
async fn where_nobody_computes_a_prompt_the_engine_that_answers_does() {
    let network = Network::new();
    let decode = network.engine(20, "m").await;
    let pods = [("p0", 10, "prefill", "g0"), ("p1", 11, "prefill", "g0"), PAIR[1]];
    let harness = start(network, "vLLM", "", ALWAYS, &pods).await;
    let answer = complete(&harness, json!({})).await;
    assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()));
    assert_eq!(outcomes(&harness).await, ["prefill_refused", "prefill_refused", "answered"]);
    assert_eq!(decode.requests(), 1);
    assert_eq!(count(&harness, "prefill_failed").await, 1.0);
}

#[actix_web::test]
async fn an_engine_that_cannot_compute_a_prompt_is_followed_by_another() {
    let network = Network::new();
    let (bad, good) = (network.engine(10, "m").await, network.engine(11, "m").await);
    let decode = network.engine(20, "m").await;
    bad.faults().set_error_status(500).unwrap();
    bad.faults().set_error_rate(1.0).unwrap();
    let pods = [("p0", 10, "prefill", "g0"), ("p1", 11, "prefill", "g0"), PAIR[1]];
    let harness = start(network, "vLLM", "", ALWAYS, &pods).await;
    let meets_it = async || {
        let answer = complete(&harness, json!({})).await;
        assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()));
        outcomes(&harness).await == ["prefill_unavailable", "answered"]
    };
    harness.until("a request meets the bad one", meets_it).await;
    assert!(good.requests() > 0);
    let labels = ["status_code=\"500\""];
    assert!(harness.metric("kthena_router_request_prefill_duration_seconds_count", &labels).await >= 1.0);
    assert_eq!(last_body(&decode)["max_tokens"], 100);
}

#[actix_web::test]
async fn an_engine_that_cannot_answer_is_followed_by_another_pair() {
    let network = Network::new();
    let prefill = network.engine(10, "m").await;
    let (bad, good) = (network.engine(20, "m").await, network.engine(21, "m").await);
    bad.faults().set_error_status(503).unwrap();
    bad.faults().set_error_rate(1.0).unwrap();
    let pods = [PAIR[0], ("d0", 20, "decode", "g0"), ("d1", 21, "decode", "g0")];
    let harness = start(network, "SGLang", "", ALWAYS, &pods).await;
    let meets_it = async || {
        assert_eq!(complete(&harness, json!({})).await.status, 200);
        outcomes(&harness).await == ["unavailable", "answered"]
    };
    harness.until("a request meets the bad one", meets_it).await;
    let rooms = [&bad, &good].map(|engine| last_body(engine)["bootstrap_room"].clone());
    assert_ne!(rooms[0], rooms[1], "each attempt has a room of its own");
    assert_eq!(last_body(&prefill)["bootstrap_room"], rooms[1], "the legs of one attempt meet");
}

#[actix_web::test]
async fn a_client_that_is_wrong_is_told_so_once() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    prefill.faults().set_error_status(400).unwrap();
    prefill.faults().set_error_rate(1.0).unwrap();
    let harness = start(network, "vLLM", "", ALWAYS, &PAIR).await;
    assert_eq!(complete(&harness, json!({})).await.status, 400);
    assert_eq!((prefill.requests(), decode.requests()), (1, 0));
}

#[actix_web::test]
async fn nothing_to_hand_over_leaves_the_request_to_the_engine_that_answers() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    let harness = start(network, "vLLM", "  kvConnector: {type: nixl}", ALWAYS, &PAIR).await;
    let answer = complete(&harness, json!({})).await;
    assert_eq!((answer.status, answer.answered_by()), (200, "m".to_owned()));
    assert_eq!(outcomes(&harness).await, ["prefill_handover", "answered"]);
    assert_eq!((prefill.requests(), decode.requests()), (1, 1));
}

#[actix_web::test]
async fn where_nobody_answers_alone_a_request_without_a_pair_is_refused() {
    let network = Network::new();
    let decode = network.engine(20, "m").await;
    let harness = start(network, "SGLang", "", ALWAYS, &PAIR[1..]).await;
    let answer = complete(&harness, json!({})).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(decode.requests(), 0, "an engine that cannot do it is not asked");
}

#[actix_web::test]
async fn a_prefill_that_fails_takes_the_decode_with_it() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    prefill.faults().set_error_status(503).unwrap();
    prefill.faults().set_error_rate(1.0).unwrap();
    decode.faults().set_hang(true);
    let harness = start(network, "SGLang", "", ALWAYS, &PAIR).await;
    let answer = complete(&harness, json!({})).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    harness.until("the decode is free", async || decode.running() == 0).await;
}

#[actix_web::test]
async fn a_decode_that_fails_takes_the_prefill_with_it() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    decode.faults().set_error_status(500).unwrap();
    decode.faults().set_error_rate(1.0).unwrap();
    prefill.faults().set_hang(true);
    let harness = start(network, "SGLang", "", ALWAYS, &PAIR).await;
    assert_eq!(complete(&harness, json!({})).await.status, 500);
    harness.until("the prefill is free", async || prefill.running() == 0).await;
}

#[actix_web::test]
async fn a_kept_connection_that_ends_costs_a_pair_no_request() {
    const ANSWER: &str = concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 45\r\n\r\n",
        r#"{"kv_transfer_params":{"remote_engine_id":1}}"#
    );
    let (kept, ended) = (Reply::Keep(ANSWER), Reply::First(ANSWER));
    for (case, replies) in [("prefill", [ended, kept]), ("decode", [kept, ended]), ("both", [ended, ended])] {
        let network = Network::new();
        let mut engines = Vec::new();
        for (host, reply) in [(10, replies[0]), (11, replies[0]), (20, replies[1]), (21, replies[1])] {
            engines.push(ScriptedEngine::on(&network, host, &[reply]).await);
        }
        let pods = [PAIR[0], ("p1", 11, "prefill", "g0"), PAIR[1], ("d1", 21, "decode", "g0")];
        let harness = start(network, "vLLM", "", ALWAYS, &pods).await;
        let mut is_repeated = false;
        for number in 0..20 {
            let prompt = format!("number {number}.");
            let answer = complete(&harness, json!({"prompt": prompt})).await;
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let is_it = |body: &[u8]| String::from_utf8_lossy(body).contains(&prompt);
            let seen = engines.iter().map(|engine| engine.received().iter().filter(|it| is_it(&it.body)).count());
            let seen: Vec<_> = seen.collect();
            for side in [&seen[..2], &seen[2..]] {
                assert!(side.contains(&0) && side.iter().sum::<usize>() <= 2, "{case}: the same engines, {seen:?}");
            }
            is_repeated |= seen.iter().sum::<usize>() > 2;
        }
        assert!(is_repeated, "{case}: some request meets the end of a connection");
        assert_eq!(harness.metric("kthena_router_endpoints", &["state=\"ejected\""]).await, 0.0, "{case}");
    }
}
