//! Prefill and decode on two engines: who serves whom, and who is refused.

use std::time::Duration;

use crate::support::{NEVER, Received, ask, begin, engine, metric, until};
use serde_json::{Value, json};
use simulated_engine::{Engine, HandoverFault, KvConnector, KvRole, TransferCounts};

const CHAT: &str = "/v1/chat/completions";
const APIS: [&str; 4] = [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"];

/// Starts an engine of a role, which decode engines meet on a port of its own.
async fn one(connector: KvConnector, role: KvRole) -> Engine {
    engine(|config| {
        (config.kv_connector, config.kv_role) = (Some(connector), role);
        config.kv_bootstrap_port = Some(0);
        config.workers = 2;
    })
    .await
}

/// Starts a prefill and a decode engine.
async fn pair(connector: KvConnector) -> (Engine, Engine) {
    (one(connector, KvRole::Prefill).await, one(connector, KvRole::Decode).await)
}

/// A body with more fields.
fn body(own: Value, more: Value) -> String {
    let (Value::Object(mut own), Value::Object(more)) = (own, more) else { panic!("both are objects") };
    own.extend(more);
    Value::Object(own).to_string()
}

fn prefill_body(more: Value) -> String {
    body(json!({"model": "m", "prompt": "of some words", "max_tokens": 1, "max_output_tokens": 1}), more)
}

fn decode_body(more: Value) -> String {
    body(json!({"model": "m", "prompt": "of some words"}), more)
}

/// Prefills, and returns what a decode has to say.
async fn prefill(engine: &Engine, api: &str) -> Value {
    let body = prefill_body(json!({"kv_transfer_params": {"do_remote_decode": true, "do_remote_prefill": false}}));
    let answer = ask(engine, api, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    json!({"kv_transfer_params": answer.json()["kv_transfer_params"]})
}

fn message(answer: &Received) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// The rooms of a prefill engine, as both legs are told.
fn room(engine: &Engine, room: u64) -> Value {
    let port = engine.addresses()[1].port();
    json!({"bootstrap_host": "127.0.0.1", "bootstrap_port": port, "bootstrap_room": room})
}

#[actix_web::test]
async fn blocks_are_held_until_one_decode_has_fetched_them() {
    for connector in [KvConnector::Nixl, KvConnector::MooncakeAscend] {
        let (first, second) = pair(connector).await;
        for api in APIS {
            let ticket = prefill(&first, api).await;
            assert_eq!(first.transfers().held, 1);
            let body = decode_body(ticket);
            assert_eq!(ask(&second, api, &body).await.status, 200, "{api}");
            assert_eq!(first.transfers().held, 0);
            let again = ask(&second, api, &body).await;
            assert_eq!(again.status, 500, "{api}");
            assert!(
                message(&again).starts_with("KV transfer failed: no blocks are held for request"),
                "{}",
                again.body
            );
        }
        let expected = TransferCounts { prefills: 4, fetched: 4, ..TransferCounts::default() };
        assert_eq!(first.transfers(), expected);
        let expected = TransferCounts { decodes: 4, refused: 4, ..TransferCounts::default() };
        assert_eq!(second.transfers(), expected);
        assert_eq!(metric(&second, "simulated:kv_refused_total").await, Some(4.0));
    }
}

#[actix_web::test]
async fn a_decode_of_another_engines_transfer_is_refused() {
    let (first, second) = pair(KvConnector::Nixl).await;
    let other = one(KvConnector::Nixl, KvRole::Prefill).await;
    let ticket = prefill(&first, CHAT).await;
    let there = other.addresses()[0].port();
    for (field, value) in [
        ("remote_engine_id", json!("another")),
        ("remote_request_id", json!("another")),
        ("remote_port", json!(there)),
        ("remote_port", json!(1)),
    ] {
        let mut ticket = ticket.clone();
        ticket["kv_transfer_params"][field] = value;
        let answer = ask(&second, CHAT, &decode_body(ticket)).await;
        assert_eq!(answer.status, 500, "{field}: {}", answer.body);
    }
    assert_eq!(ask(&second, CHAT, &decode_body(ticket)).await.status, 200, "which nobody else has taken");
}

#[actix_web::test]
async fn a_mooncake_is_met_at_its_bootstrap_server() {
    let (first, second) = pair(KvConnector::Mooncake).await;
    let params = json!({"do_remote_decode": true, "transfer_id": "xfer-1"});
    let answer = ask(&first, CHAT, &prefill_body(json!({"kv_transfer_params": params}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["kv_transfer_params"]), (200, &Value::Null));
    let place = format!("http://{}", first.addresses()[1]);
    let engines = crate::support::read(&first, "/query").await.json();
    let with = |engine: &Value| {
        decode_body(json!({"kv_transfer_params": {
            "do_remote_prefill": true, "transfer_id": "xfer-1",
            "remote_bootstrap_addr": place, "remote_engine_id": engine,
        }}))
    };
    assert_eq!(ask(&second, CHAT, &with(&json!("another"))).await.status, 500);
    assert_eq!(ask(&second, CHAT, &with(&engines["0"]["engine_id"])).await.status, 200);
    assert_eq!((first.transfers().fetched, second.transfers().decodes), (1, 1));
}

#[actix_web::test]
async fn legs_meet_in_their_room_whoever_comes_first() {
    let (first, second) = pair(KvConnector::Sglang).await;
    for (number, is_prefill_first) in [(7, true), (8, false)] {
        let place = room(&first, number);
        let (prefill, decode) = (prefill_body(place.clone()), decode_body(place));
        let (early, late) = if is_prefill_first {
            let early = begin(&first, CHAT, &prefill);
            until("the prefill waits", || first.transfers().held == 1).await;
            (early, ask(&second, CHAT, &decode).await)
        } else {
            let early = begin(&second, CHAT, &decode);
            until("the decode waits", || first.transfers().guests == 1).await;
            (early, ask(&first, CHAT, &prefill).await)
        };
        assert_eq!((early.await.unwrap().status.as_u16(), late.status.as_u16()), (200, 200));
    }
    let mut place = room(&first, 100);
    (place["n"], place["prompt"]) = (json!(2), json!(["a", "b"]));
    let prefill = begin(&first, "/v1/completions", &prefill_body(place.clone()));
    assert_eq!(ask(&second, "/v1/completions", &decode_body(place)).await.status, 200);
    assert_eq!(prefill.await.unwrap().status, 200);
    assert_eq!((first.transfers().fetched, second.transfers().decodes), (2 + 4, 3));
    assert_eq!((first.running(), first.transfers().held), (0, 0));
}

#[actix_web::test]
async fn a_leg_whose_partner_leaves_fails_at_once() {
    let second = one(KvConnector::Sglang, KvRole::Decode).await;
    for time_to_first_token in [Duration::ZERO, NEVER] {
        let first = engine(|config| {
            (config.kv_connector, config.kv_role) = (Some(KvConnector::Sglang), KvRole::Prefill);
            (config.kv_bootstrap_port, config.time_to_first_token) = (Some(0), time_to_first_token);
        })
        .await;
        first.faults().set_stall_transfers(true);
        let place = room(&first, 7);
        let prefill = begin(&first, CHAT, &prefill_body(place.clone()));
        until("the prefill runs", || first.running() == 1).await;
        let decode = begin(&second, CHAT, &decode_body(place.clone()));
        until("both are there", || first.transfers().guests == 2).await;
        prefill.abort();
        let answer = decode.await.unwrap();
        assert_eq!((answer.status.as_u16(), first.transfers().held), (500, 0), "{}", answer.body);
        first.faults().clear();
    }
    let first = one(KvConnector::Sglang, KvRole::Prefill).await;
    let place = room(&first, 7);
    first.faults().set_stall_transfers(true);
    let prefill = begin(&first, CHAT, &prefill_body(place.clone()));
    until("the prefill waits", || first.transfers().held == 1).await;
    let decode = begin(&second, CHAT, &decode_body(place));
    until("the decode fetches", || first.transfers().sending == 1).await;
    decode.abort();
    assert_eq!(prefill.await.unwrap().status, 500);
    assert_eq!((first.running(), first.transfers().held), (0, 0));
}

#[actix_web::test]
async fn a_leg_whose_partner_never_comes_gives_up() {
    for role in [KvRole::Prefill, KvRole::Decode] {
        let start = |role| {
            engine(move |config| {
                (config.kv_connector, config.kv_role) = (Some(KvConnector::Sglang), role);
                (config.kv_bootstrap_port, config.kv_hold_timeout) = (Some(0), Duration::from_millis(30));
            })
        };
        let (first, second) = (start(KvRole::Prefill).await, start(KvRole::Decode).await);
        let place = room(&first, 7);
        let answer = match role {
            KvRole::Prefill => ask(&first, CHAT, &prefill_body(place)).await,
            _ => ask(&second, CHAT, &decode_body(place)).await,
        };
        assert_eq!(answer.status, 500, "{role:?}");
        assert!(message(&answer).ends_with("nobody came into the bootstrap room in time"), "{}", answer.body);
        assert_eq!((first.transfers().expired, first.transfers().held), (1, 0));
    }
}

#[actix_web::test]
async fn blocks_that_nobody_fetches_are_given_up() {
    let first = engine(|config| {
        (config.kv_connector, config.kv_role) = (Some(KvConnector::Nixl), KvRole::Prefill);
        config.kv_hold_timeout = Duration::from_millis(30);
    })
    .await;
    let ticket = prefill(&first, CHAT).await;
    until("they are given up", || first.transfers().expired == 1).await;
    let second = one(KvConnector::Nixl, KvRole::Decode).await;
    assert_eq!(ask(&second, CHAT, &decode_body(ticket)).await.status, 500);
    assert_eq!(first.transfers().held, 0);
}

#[actix_web::test]
async fn a_client_that_leaves_during_a_transfer_frees_its_blocks() {
    let first = engine(|config| {
        (config.kv_connector, config.kv_role) = (Some(KvConnector::Nixl), KvRole::Prefill);
        (config.kv_bytes_per_token, config.kv_bytes_per_second) = (NEVER.as_secs(), 1);
    })
    .await;
    let second = one(KvConnector::Nixl, KvRole::Decode).await;
    let ticket = prefill(&first, CHAT).await;
    let decode = begin(&second, CHAT, &decode_body(ticket));
    until("the blocks are on their way", || first.transfers().sending == 1).await;
    decode.abort();
    until("they are free", || (first.transfers().held, first.transfers().aborted) == (0, 1)).await;
    until("nobody waits", || second.waiting() == 0).await;
    assert_eq!((second.aborted(), second.transfers().decodes), (1, 0));
}

#[actix_web::test]
async fn a_shared_store_has_what_was_prefilled() {
    for connector in [KvConnector::Http, KvConnector::Lmcache] {
        let store = engine(|_| {}).await;
        let start = |role| {
            let place = store.addresses()[0];
            engine(move |config| {
                (config.kv_connector, config.kv_role, config.kv_store) = (Some(connector), role, Some(place));
            })
        };
        let (first, second) = (start(KvRole::Prefill).await, start(KvRole::Decode).await);
        let body = decode_body(json!({}));
        assert_eq!(ask(&second, CHAT, &body).await.status, 200);
        assert_eq!((second.transfers().alone, second.transfers().decodes), (1, 0));
        assert_eq!(ask(&first, CHAT, &prefill_body(json!({}))).await.status, 200);
        assert_eq!(ask(&second, CHAT, &body).await.status, 200);
        assert_eq!((second.transfers().alone, second.transfers().decodes), (1, 1));
        assert_eq!(ask(&first, CHAT, &body).await.status, 200, "all of a request is no prefill, and is served");
        assert_eq!(first.transfers().prefills, 1);
    }
}

#[actix_web::test]
async fn a_prefill_answers_nonsense_on_demand() {
    let first = one(KvConnector::Nixl, KvRole::Prefill).await;
    let body = prefill_body(json!({"kv_transfer_params": {"do_remote_decode": true}}));
    for (fault, expected) in [
        (HandoverFault::Missing, "\"kv_transfer_params\":null}"),
        (HandoverFault::Malformed, "</html>"),
        (HandoverFault::Huge, "xxx\"}"),
    ] {
        first.faults().set_handover(fault);
        let answer = ask(&first, CHAT, &body).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.ends_with(expected), "{fault:?}");
        assert_eq!(answer.body.len() > 10 << 20, fault == HandoverFault::Huge);
    }
}
