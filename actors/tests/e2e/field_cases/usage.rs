//! Usage in streams however they are cut, and characters of several bytes.

use super::{CHAT, chunk};
use crate::harness::{Harness, Network, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, post};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const LAST: &str = "0\r\n\r\n";

/// Starts a router in front of an engine of this model, which clients call by this name.
async fn start(name: &str, model: &str, reply: Reply) -> (Harness, ScriptedEngine) {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, &[reply]).await;
    network.model_server("m", model, &[10]);
    network.write("route.yaml", &route_yaml("route", name, "m"));
    (network.start(&[]).await, engine)
}

async fn counts(harness: &Harness) -> [f64; 2] {
    let counted = async |kind: &str| harness.metric("kthena_router_tokens_total", &[kind]).await;
    [counted("\"input\"").await, counted("\"output\"").await]
}

/// Case 1: the events around the usage lose what they begin with, as it is taken out of pieces instead of events.
#[actix_web::test]
async fn usage_is_taken_out_whole_and_counted_however_a_stream_is_cut() {
    let continuous = CONTENT.replace("]}\n", "],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n");
    let usage = r#","stream_options":{"include_usage":true}"#;
    let all = r#","stream_options":{"include_usage":true,"continuous_usage_stats":true}"#;
    for (options, content, shows_usage) in [(usage, CONTENT, true), ("", CONTENT, false), (all, &continuous, true)] {
        let events = [content, FINISH, USAGE, DONE].concat();
        let usage = content.len() + FINISH.len();
        let whole = format!("{HEAD}{}{LAST}", chunk(&events));
        let cut_at = |place: usize| format!("{HEAD}{}{}{LAST}", chunk(&events[..place]), chunk(&events[place..]));
        for (case, reply) in [
            ("(a) in one segment", Reply::Keep(whole.clone().leak())),
            ("(b) byte by byte", Reply::Bytewise(whole.leak())),
            ("(c) cut within `data`", Reply::Keep(cut_at(usage + 2).leak())),
            ("(c) cut within the JSON", Reply::Keep(cut_at(usage + 20).leak())),
            ("(c) cut between the newlines", Reply::Keep(cut_at(usage + USAGE.len() - 1).leak())),
        ] {
            let (harness, _engine) = start("m", "m", reply).await;
            let body = format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#);
            let answer = Wire::open(&harness).await.ask(post(CHAT, "", &body)).await;
            let expected = if shows_usage { events.clone() } else { events.replace(USAGE, "") };
            assert_eq!(answer.text(), expected, "{case}, `{options}`");
            harness.until(case, async || counts(&harness).await == [7.0, 3.0]).await;
        }
    }
}

/// Case 2: usage that nobody counts where nothing else of the request is changed.
#[actix_web::test]
async fn usage_is_asked_for_where_no_name_is_replaced_and_not_shown_to_who_has_not_asked() {
    for options in
        ["", r#","stream_options":null"#, r#","stream_options":{"include_usage":false}"#, r#","stream_options":{}"#]
    {
        let events = [CONTENT, FINISH, USAGE, DONE].concat();
        let reply = Reply::Keep(format!("{HEAD}{}{LAST}", chunk(&events)).leak());
        let (harness, engine) = start("m", "m", reply).await;
        let body = |options: &str| format!(r#"{{"model":"m", "messages":[ ],"stream":true{options}}}"#);
        let answer = Wire::open(&harness).await.ask(post(CHAT, "", &body(options))).await;
        assert_eq!(answer.text(), events.replace(USAGE, ""), "`{options}`");
        let seen = engine.received().pop().unwrap();
        let expected = body(r#","stream_options":{"include_usage":true}"#);
        assert_eq!(String::from_utf8(seen.body).unwrap(), expected, "`{options}`");
        harness.until(options, async || counts(&harness).await == [7.0, 3.0]).await;
    }
}

/// Case 4: characters that are cut in two.
#[actix_web::test]
async fn characters_that_arrive_byte_by_byte_stay_whole_and_so_does_a_name_of_them() {
    let json = "{\"model\":\"org/模型\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"模 😀\"}}]}";
    let event = format!("data: {json}\n\n");
    let stream = format!("{HEAD}{}{}{LAST}", chunk(&event), chunk(&event));
    let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{json}", json.len());
    let cut: String = event.char_indices().map(|(_, letter)| chunk(&letter.to_string())).collect();
    for (case, reply, streams, expected) in [
        ("a stream", Reply::Bytewise(stream.leak()), true, event.repeat(2)),
        ("a stream of chunks of one character", Reply::Bytewise(format!("{HEAD}{cut}{LAST}").leak()), true, event),
        ("a whole answer", Reply::Bytewise(whole.leak()), false, json.to_owned()),
    ] {
        let (harness, engine) = start("公開", "org/模型", reply).await;
        let body = format!(r#"{{"model":"公開","messages":[],"stream":{streams}}}"#);
        let answer = Wire::open(&harness).await.ask(post(CHAT, "", &body)).await;
        assert_eq!(answer.text(), expected.replace("org/模型", "公開"), "{case}");
        let seen = String::from_utf8(engine.received().pop().unwrap().body).unwrap();
        assert!(seen.starts_with(r#"{"model":"org/模型","#), "{case}: {seen}");
    }
}
