//! What users of such routers have reported as bugs, with the values of their reports, as far as no other test has them: the
//! table in docs/clients.md says which test has which case.

mod connections;
mod forms;
mod realtime;
mod streams;
mod usage;

use crate::harness::{Answer, Harness, Network, route_with};
use crate::http_routes::scene::{route_yaml as http_route, rule, scene};
use crate::wire::{Received, Reply, ScriptedEngine, Wire, behind_script, behind_script_with, post};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
const MIB: usize = 1 << 20;

async fn ask(harness: &Harness, request: impl AsRef<[u8]>) -> Answer {
    Wire::open(harness).await.ask(request).await
}

/// Returns a text as a chunk.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Case 3: legal event streams that parsers miss.
#[actix_web::test]
async fn every_legal_spelling_of_a_stream_passes_at_once_and_is_counted() {
    const EVENT: &str = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    let each = |change: &dyn Fn(&str) -> String| [change(EVENT), change(USAGE), change(DONE)];
    let two_lines = |event: &str| event.replace(",\"", ",\ndata: \"");
    for (case, [event, usage, done]) in [
        ("no blank behind the colon", each(&|event| event.replace("data: ", "data:"))),
        ("CRLF", each(&|event| event.replace('\n', "\r\n"))),
        ("CR", each(&|event| event.replace('\n', "\r"))),
        ("mixed", [EVENT.replace('\n', "\r\n"), USAGE.replace('\n', "\r"), DONE.to_owned()]),
        ("a byte order mark", [format!("\u{feff}{EVENT}"), USAGE.to_owned(), DONE.to_owned()]),
        ("comments", each(&|event| format!(": keep-alive\n\n{event}: keep-alive\n\n"))),
        ("other fields", each(&|event| format!("event: x\nid: 1\nretry: 10\n{event}"))),
        ("one event over several lines", each(&|event| two_lines(event))),
        ("no blank line at the end", [EVENT.to_owned(), USAGE.to_owned(), DONE.trim_end().to_owned()]),
        ("no end mark", [EVENT.to_owned(), USAGE.to_owned(), String::new()]),
    ] {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let rest = format!("{usage}{done}");
        let first = format!("{head}{}", chunk(&event)).leak();
        let second = format!("{}0\r\n\r\n", chunk(&rest)).leak();
        let (harness, engine) = behind_script(&[Reply::Pause(first, second)]).await;
        let options = r#"{"model":"public","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        let mut client = Wire::open(&harness).await;
        let mut answer = client.head_of(post(CHAT, "", options)).await;
        let expected = format!("{event}{rest}").replace("\"m\"", "\"public\"");
        let begun = event.replace("\"m\"", "\"public\"");
        // What may still turn out to be a part of the next line end may be held back, and no more.
        while answer.body.len() < begun.trim_end().len() {
            answer.body.extend(client.chunk().await.unwrap());
        }
        engine.go_on();
        loop {
            let piece = client.chunk().await.unwrap();
            if piece.is_empty() {
                break;
            }
            answer.body.extend(piece);
        }
        assert_eq!(answer.text(), expected, "{case}");
        let counted = async |kind: &str| harness.metric("kthena_router_tokens_total", &[kind]).await;
        let all = async || [counted("\"input\"").await, counted("\"output\"").await] == [7.0, 3.0];
        harness.until(&format!("the tokens are counted: {case}"), all).await;
    }
}

/// Case 9: what re-serialising changes.
#[actix_web::test]
async fn the_engine_gets_every_byte_but_the_models_name() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let schema = r#""response_format":{"json_schema":{"zebra":1,"apple":2,"mango":3,"apple":4}}"#;
    let nested = format!("\"n\":{}{}", "[".repeat(2000), "]".repeat(2000));
    for (case, fields) in [
        ("numbers", r#""seed":9007199254740993,"a":1e400,"b":-0,"c":1.0"#.to_owned()),
        ("forty digits", format!("\"a\":{}", "1234567890".repeat(4))),
        ("order and repeated keys within", schema.to_owned()),
        ("escapes", r#""a":"\u0000\/\ud83d\ude00","b":"\/""#.to_owned()),
        ("many arrays", nested),
        ("a large text", format!("\"image\":\"{}\"", "iVBORw0K".repeat(5 * MIB / 8))),
    ] {
        for (place, name) in [("first", "\"model\""), ("last", "\"model\""), ("last, escaped", r#""mod\u0065l""#)] {
            let body = |model: &str| match place {
                "first" => format!("{{{name}:\"{model}\",{fields}}}  \n"),
                _ => format!("{{{fields} , {name} : \"{model}\"}}  \n"),
            };
            let answer = ask(&harness, post(CHAT, "", &body("public"))).await;
            assert_eq!(answer.status, 200, "{case}, {place}: {}", answer.text());
            assert!(engine.received().pop().unwrap().body == body("m").as_bytes(), "{case}, {place}");
        }
    }
    let body = |model: &str| format!("{{{schema},\"model\":\"{model}\"}}");
    let before = engine.received().len();
    for _ in 0..50 {
        assert_eq!(ask(&harness, post(CHAT, "", &body("public"))).await.status, 200);
    }
    let same = engine.received().into_iter().skip(before).filter(|seen| seen.body == body("m").as_bytes()).count();
    assert_eq!(same, 50, "identical requests stay identical, which is what caches of prompts go by");
}

/// Case 10: two models in one body, of which one gets past a gate and the other is run.
#[actix_web::test]
async fn a_body_that_may_mean_two_models_reaches_no_engine() {
    let network = Network::new();
    let engines = [("allowed", 10), ("blocked", 11)];
    let [allowed, blocked] = [
        ScriptedEngine::on(&network, engines[0].1, &[ANSWER]).await,
        ScriptedEngine::on(&network, engines[1].1, &[ANSWER]).await,
    ];
    for (name, host) in engines {
        network.model_server(name, name, &[host]);
        let rule = format!("- targetModels: [{{modelServerName: {name}}}]");
        network
            .write(&format!("route-{name}.yaml"), &route_with(name, &format!("modelName: {name}"), "default", &rule));
    }
    let harness = network.start(&[]).await;
    for body in [
        r#"{"model":"allowed","model":"blocked"}"#,
        r#"{"model":"allowed","stream":true,"model":"blocked"}"#,
        r#"{"model":"allowed","mod\u0065l":"blocked"}"#,
        r#"{"model":null,"model":"allowed"}"#,
        r#"{"model":["allowed"]}"#,
    ] {
        let answer = ask(&harness, post(CHAT, "", body)).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    let answer = ask(&harness, post(CHAT, "", r#"{"model":" allowed"}"#)).await;
    assert_eq!(answer.status, 404, "a blank is a part of the name: {}", answer.text());
    assert_eq!((allowed.received().len(), blocked.received().len()), (0, 0));
    // A mark in front of the text is not sent on, since engines' parsers may refuse it.
    let answer = ask(&harness, post(CHAT, "", "\u{feff}{\"model\":\"allowed\"}")).await;
    assert_eq!((answer.status, blocked.received().len()), (200, 0), "{}", answer.text());
    assert_eq!(allowed.received()[0].body, br#"{"model":"allowed"}"#);
    let answer = ask(&harness, post(CHAT, "", "\u{feff}\u{feff}{\"model\":\"allowed\"}")).await;
    assert_eq!((answer.status, allowed.received().len()), (400, 1), "two of them: {}", answer.text());
}

/// Case 13: names of models in paths, and paths in other spellings.
#[actix_web::test]
async fn models_are_found_by_their_path_and_other_spellings_of_calls_are_none() {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, &[ANSWER]).await;
    network.model_server("m", "org/m-7b", &[10]);
    let serves = "modelName: org/m-7b\n  loraAdapters: [team/a]";
    network.write("m.yaml", &route_with("m", serves, "default", "- targetModels: [{modelServerName: m}]"));
    let harness = network.start(&[]).await;
    for (path, found) in [
        ("/v1/models/org/m-7b", Some("org/m-7b")),
        ("/v1/models/org%2Fm-7b", Some("org/m-7b")),
        ("/v1/models/team%2fa", Some("team/a")),
        ("/v1/models/org%252Fm-7b", None),
    ] {
        let answer = harness.get(path).await;
        let expected = if found.is_some() { 200 } else { 404 };
        assert_eq!((answer.status, answer.json()["id"].as_str()), (expected, found), "{path}: {}", answer.text());
        let code = answer.json()["error"]["code"].clone();
        assert_eq!(code.as_str(), found.is_none().then_some("model_not_found"), "{path}");
        let head = format!("HEAD {path} HTTP/1.1\r\nhost: router\r\n\r\n");
        assert_eq!(Wire::open(&harness).await.head_of(head).await.status, expected, "HEAD {path}");
    }
    assert_eq!(harness.get("/v1//models").await.status, 404);
    for path in ["/v1/models", "/v1/models/", "/v1/models?limit=1"] {
        let answer = harness.get(path).await;
        assert_eq!((answer.status, answer.json()["data"].as_array().map(Vec::len)), (200, Some(2)), "{path}");
    }
    let body = r#"{"model":"org/m-7b"}"#;
    for path in [
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/./chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat/completions;x=y",
        "/v1//models",
        "/v1/%6Coad_lora_adapter",
    ] {
        let answer = ask(&harness, post(path, "", body)).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.text());
    }
    assert!(engine.received().is_empty());
    for query in ["?api-version=x", "?a=1&a=2&b=%2F+"] {
        let answer = ask(&harness, post(&format!("{CHAT}{query}"), "", body)).await;
        assert_eq!(answer.status, 200, "{query}");
        let head = engine.received().pop().unwrap().head;
        assert!(head.starts_with(&format!("POST {CHAT}{query} HTTP/1.1\r\n")), "case 34: {head}");
    }
}

/// Case 15: what Messages lose on their way.
#[actix_web::test]
async fn messages_keep_their_headers_and_are_given_no_options() {
    const COUNT: &str = r#"{"model":"public","messages":[{"role":"user","content":[{"type":"image","source":{}}]}]}"#;
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let headers = "anthropic-version: 2023-06-01\r\nanthropic-beta: a-1\r\nx-api-key: k\r\nanthropic-beta: b-2\r\n";
    let stream = r#"{"model":"public","system":[{"type":"text","text":"s"}],"thinking":{"x":1},"stream":true}"#;
    for (path, body) in [("/v1/messages", stream), ("/v1/messages/count_tokens", COUNT)] {
        assert_eq!(ask(&harness, post(path, headers, body)).await.status, 200, "{path}");
        let seen: Received = engine.received().pop().unwrap();
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), body.replace("public", "m"), "{path}");
        assert_eq!(seen.header("anthropic-beta"), ["a-1", "b-2"], "{path}");
        assert_eq!((seen.header("anthropic-version"), seen.header("x-api-key")), (vec!["2023-06-01"], vec!["k"]));
    }
}

/// Case 15: a stream of Messages, and the router's own errors.
#[actix_web::test]
async fn a_stream_of_messages_passes_with_its_pings_and_errors_have_its_shape() {
    const EVENTS: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":",
        "{\"input_tokens\":25,\"cache_read_input_tokens\":null,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":",
        "{\"cache_read_input_tokens\":5,\"output_tokens\":15}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = Reply::Keep(format!("{head}{}0\r\n\r\n", chunk(EVENTS)).leak());
    let (harness, engine) = behind_script_with(&[reply], &["--max-body-bytes=1000"]).await;
    let body = r#"{"model":"public","system":"s","unknown":{"a":1},"messages":[],"stream":true}"#;
    let answer = ask(&harness, post("/v1/messages", "", body)).await;
    assert_eq!(answer.text(), EVENTS.replace("\"m\"", "\"public\""));
    assert_eq!(engine.received()[0].body, body.replace("public", "m").as_bytes());
    let counted = async |kind: &str| harness.metric("kthena_router_tokens_total", &[kind]).await;
    let all = async || [counted("\"input\"").await, counted("\"output\"").await] == [30.0, 15.0];
    harness.until("the tokens are counted, those from the cache as well", all).await;
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        for (body, status) in [(r#"{"model":"other"}"#.to_owned(), 404), (body.replace("s\"", &"s".repeat(1000)), 413)]
        {
            let answer = ask(&harness, post(path, "", &body)).await;
            let error = answer.json();
            assert_eq!((answer.status, &error["type"]), (status, &"error".into()), "{path}: {error}");
            assert!(error["error"]["type"].is_string() && error["error"]["message"].is_string(), "{path}: {error}");
        }
    }
    assert_eq!(engine.received().len(), 1);
}

/// Case 18: a header that is sent several times, and an engine's own.
#[actix_web::test]
async fn any_value_of_a_repeated_header_matches_and_a_list_is_one_value() {
    const OWN: Reply = Reply::Keep(
        "HTTP/1.1 200 OK\r\nserver: engine\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nset-cookie: a=1\r\n\
         set-cookie: b=2\r\nconnection: x-foo\r\nx-foo: 1\r\ncontent-length: 2\r\n\r\n{}",
    );
    let network = Network::new();
    let (basic, premium) =
        (ScriptedEngine::on(&network, 10, &[OWN]).await, ScriptedEngine::on(&network, 11, &[OWN]).await);
    network.model_server("basic", "basic", &[10]);
    network.model_server("premium", "premium", &[11]);
    let rules = "- modelMatch: {headers: {x-tier: {exact: premium}}}\n  targetModels: [{modelServerName: premium}]\n\
                 - targetModels: [{modelServerName: basic}]";
    network.write("m.yaml", &route_with("m", "modelName: m", "default", rules));
    let harness = network.start(&[]).await;
    for (headers, is_premium) in [
        ("x-tier: free\r\nx-tier: premium\r\n", true),
        ("x-tier: premium\r\nx-tier: free\r\n", true),
        ("x-tier: free, premium\r\n", false),
        ("", false),
    ] {
        let before = premium.received().len();
        let answer = ask(&harness, post(CHAT, headers, r#"{"model":"m"}"#)).await;
        assert_eq!(premium.received().len() > before, is_premium, "{headers:?}");
        for (name, expected) in [("server", 1), ("date", 1), ("set-cookie", 2), ("x-foo", 0)] {
            let found = answer.headers.iter().filter(|(known, _)| known == name).count();
            assert_eq!(found, expected, "{name}");
        }
    }
    assert_eq!(basic.received().len(), 2);

    let premium = rule(&["headers: [{name: x-tier, value: premium}]"], "v2");
    let scene = scene(&http_route("r", &(premium + &rule(&[], "v1")))).await;
    for (headers, backend) in [
        ("x-tier: free\r\nx-tier: premium\r\n", "v2"),
        ("x-tier: premium\r\nx-tier: free\r\n", "v2"),
        ("x-tier: free, premium\r\n", "v1"),
        ("", "v1"),
    ] {
        let answer = ask(&scene.harness, post("/x", headers, "{}")).await;
        assert_eq!(answer.json()["backend"], backend, "an HTTPRoute, {headers:?}: {}", answer.text());
    }
}

/// Case 33: answers that an engine compresses.
#[actix_web::test]
async fn a_coded_answer_passes_as_it_is_and_none_is_asked_for_where_something_must_be_changed() {
    const CODED: &str = "content-encoding: gzip\r\ncontent-type: application/json\r\n";
    for (case, status, length, body) in [
        ("an answer", "200 OK", 5, "\x1f\x08abc"),
        ("an error", "422 No", 5, "\x1f\x08abc"),
        ("nothing", "200 OK", 0, ""),
    ] {
        let reply = format!("HTTP/1.1 {status}\r\n{CODED}content-length: {length}\r\n\r\n{body}").leak();
        let (harness, engine) = behind_script(&[Reply::Keep(reply)]).await;
        let accepts = "accept-encoding: gzip\r\n";
        let answer = ask(&harness, post(CHAT, accepts, r#"{"model":"public"}"#)).await;
        assert_eq!(answer.status.to_string(), status[..3], "{case}");
        assert_eq!((answer.header("content-encoding"), answer.text().as_str()), (Some("gzip"), body), "{case}");
        let asked = engine.received().pop().unwrap();
        assert_eq!(asked.header("accept-encoding"), ["identity"], "{case}: the model gets its name back");
    }
    // An engine that codes all the same, with a flush for each event.
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let pieces = ["\x1f\x08abc", "def\n\n", "data: {\"model\":\"m\"}"];
    let chunks: String = pieces.map(chunk).concat();
    let reply = format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").leak();
    let (harness, _engine) = behind_script(&[Reply::Keep(reply)]).await;
    let mut client = Wire::open(&harness).await;
    let answer = client.head_of(post(CHAT, "", r#"{"model":"public","stream":true}"#)).await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    for piece in pieces {
        assert_eq!(client.chunk().await.unwrap(), piece.as_bytes(), "what looks like text is none");
    }
}
