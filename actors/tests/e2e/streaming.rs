//! Answers pass as the engine writes them, when it writes them, and only for as long as somebody reads them.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use simulated_engine::EngineConfig;

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, route_yaml};
use crate::wire::{Reply, Wire, behind, behind_script, post};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
/// Longer than any test: whatever waits for it is never answered.
const NEVER: Duration = Duration::from_secs(3600);
/// The tokens of every answer here, where it matters.
const TOKENS: u64 = 40;
/// The tokens of the prompts here, as the engine counts them.
const PROMPT_TOKENS: u64 = 4;

#[actix_web::test]
async fn an_answer_is_the_engines_byte_for_byte() {
    let network = Network::new();
    let config = || EngineConfig { output_tokens: Some(TOKENS), ..EngineConfig::new("m") };
    let _engines = (network.engine_with(10, config()).await, network.engine_with(11, config()).await);
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    let usage = r#","stream_options":{"include_usage":true}"#;
    for (path, stream, options, shows_usage) in [
        (CHAT, true, "", false),
        (CHAT, true, usage, true),
        (CHAT, true, r#","stream_options":{"include_usage":false}"#, false),
        (CHAT, false, "", true),
        (COMPLETIONS, true, "", false),
        (COMPLETIONS, true, usage, true),
        (COMPLETIONS, true, r#","stream_options":null"#, false),
        (COMPLETIONS, false, "", true),
    ] {
        let case = format!("{path}, stream {stream}, options {options:?}");
        let counted = |kind| tokens(&harness, path, kind);
        let before = (counted("input").await, counted("output").await);
        let (requests, routed, direct) = ask_both(&harness, path, stream, options).await;
        assert_eq!(routed.text(), direct.text(), "{case}");
        assert_eq!(routed.text().contains("total_tokens"), shows_usage, "{case}");
        for header in ["content-type", "cache-control", "content-length", "transfer-encoding"] {
            assert_eq!(routed.header(header), direct.header(header), "{case}, {header}");
        }
        let after = (before.0 + requests * PROMPT_TOKENS, before.1 + requests * TOKENS);
        let all_counted = async || (counted("input").await, counted("output").await) == after;
        harness.until(&format!("the tokens are counted: {case}"), all_counted).await;
    }
}

#[actix_web::test]
async fn the_engine_gets_the_clients_bytes_but_for_the_model_and_the_usage_option() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let odd = "\r\n{ \"z\" : 1e400,\t\"t\":0.10000000000000000001, \"n\":-0.0E+1,\"big\":123456789012345678901234567890,\
               \"prompt\":\"\\u00e4 ä \\ud83d\\ude00 😀 \\/ \\\"model\\\"\",\"x\":{\"model\":\"public\"}, \"model\" :\n  MODEL \
               ,\"stream\" : STREAM  }  \n";
    let body = |model: &str, stream: &str| odd.replace("MODEL", model).replace("STREAM", stream);
    let added = |body: String| {
        let end = body.rfind('}').unwrap();
        format!("{},\"stream_options\":{{\"include_usage\":true}}{}", &body[..end], &body[end..])
    };
    let asked = r#"{"stream_options": {"include_usage" :true, "x":[ ]},"model":"MODEL","stream":true}"#;
    for (case, path, sent, expected) in [
        ("only the model", COMPLETIONS, body("\"public\"", "false"), body("\"m\"", "false")),
        ("a model with escapes", COMPLETIONS, body(r#""p\u0075blic""#, "false"), body("\"m\"", "false")),
        ("usage is asked for", CHAT, body("\"public\"", "true"), added(body("\"m\"", "true"))),
        ("not of this API", "/v1/responses", body("\"public\"", "true"), body("\"m\"", "true")),
        ("the client asked", CHAT, asked.replace("MODEL", "public"), asked.replace("MODEL", "m")),
    ] {
        let answer = Wire::open(&harness).await.ask(post(path, "", &sent)).await;
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let received = engine.last_request().unwrap();
        assert_eq!(received.path, path, "{case}");
        assert_eq!(String::from_utf8_lossy(&received.body), expected, "{case}");
    }
}

#[actix_web::test]
async fn chunks_arrive_before_the_engine_has_finished() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    engine.faults().set_hang_after(Some(3));
    for path in [CHAT, COMPLETIONS] {
        let mut client = Wire::open(&harness).await;
        client.send(post(path, "", &request(true, ""))).await;
        assert_eq!(client.head().await.unwrap().status, 200, "{path}");
        let mut text = String::new();
        while text.matches("\n\n").count() < 3 {
            text += &String::from_utf8(client.chunk().await.unwrap()).unwrap();
        }
        assert_eq!(engine.running(), 1, "{path}: the engine still runs after {text}");
        drop(client);
        harness.until("the engine is idle again", async || engine.running() == 0).await;
    }
}

#[actix_web::test]
async fn an_engine_stands_still_while_its_reader_does() {
    let tokens = 200_000;
    let model = "long-name".repeat(25);
    let network = Network::new();
    let config = EngineConfig { output_tokens: Some(tokens), ..EngineConfig::new(&model) };
    let engine = network.engine_with(10, config).await;
    network.model_server("m", &model, &[10]);
    network.write("route.yaml", &route_yaml("route", &model, "m"));
    let harness = network.start(&[]).await;
    let mut client = Wire::open_narrow(&harness).await;
    client.send(post(CHAT, "", &request(true, "").replace("public", &model))).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 200);
    let first = client.chunk().await.unwrap();

    let (produced, looks) = (Cell::new(0), Cell::new(0));
    harness
        .until("the engine stands still", async || {
            let now = tokens_produced(&harness).await;
            looks.set(if produced.replace(now) == now { looks.get() + 1 } else { 0 });
            now > 0 && looks.get() == 40
        })
        .await;
    // What is under way then lies in the system's socket buffers, which hold some megabytes each.
    let event = first.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
    let (in_flight, whole) = (produced.get() * event, usize::try_from(tokens).unwrap() * event);
    assert!(whole > 80 << 20, "the answer is longer than all buffers: {whole}");
    assert!(in_flight < whole / 2, "{in_flight} of {whole} bytes left the engine, and nobody read them");
    assert_eq!((engine.running(), engine.aborted()), (1, 0));

    let (mut events, mut last, mut chunk) = (0, Vec::new(), first);
    while !chunk.is_empty() {
        events += chunk.windows(2).filter(|pair| pair == b"\n\n").count();
        last = std::mem::replace(&mut chunk, client.chunk().await.unwrap());
    }
    assert_eq!(events, usize::try_from(tokens).unwrap() + 3, "the role, the tokens, the reason, and the end");
    assert!(last.ends_with(b"data: [DONE]\n\n"));
}

#[actix_web::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let slow = |duration| EngineConfig {
        time_to_first_token: duration,
        time_per_output_token: duration,
        output_tokens: Some(1_000_000),
        ..EngineConfig::new("m")
    };
    let (waiting, waiting_engine) = behind(slow(NEVER), &[]).await;
    let (flowing, flowing_engine) = behind(slow(Duration::from_millis(1)), &[]).await;
    for (case, harness, engine, stream, hang, chunks, reset) in [
        ("in prefill", &waiting, &waiting_engine, false, false, 0, false),
        ("in prefill, by a reset", &waiting, &waiting_engine, false, false, 0, true),
        ("in prefill of a stream", &waiting, &waiting_engine, true, false, 0, false),
        ("before a silent engine answers", &waiting, &waiting_engine, true, true, 0, false),
        ("in the middle of a stream", &flowing, &flowing_engine, true, false, 2, false),
        ("in the middle of a stream, by a reset", &flowing, &flowing_engine, true, false, 2, true),
    ] {
        let aborted = engine.aborted();
        engine.faults().set_hang(hang);
        let mut client = Wire::open(harness).await;
        let id = case.replace([' ', ','], "-");
        client.send(post(CHAT, &format!("x-request-id: {id}\r\n"), &request(stream, ""))).await;
        harness.until(&format!("the request runs: {case}"), async || engine.running() == 1).await;
        if chunks > 0 {
            client.head().await.unwrap();
        }
        for _ in 0..chunks {
            client.chunk().await.unwrap();
        }
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        harness.until(&format!("the engine notices: {case}"), async || engine.aborted() == aborted + 1).await;
        assert_eq!(engine.running(), 0, "{case}");
        let log = harness.logged(&format!(" request_id={id} ")).await;
        assert!(line_of(&log, &id).contains("\" 499 "), "{case}: {log}");
        let none = async || harness.metric("kthena_router_active_requests", &[]).await == 0.0;
        harness.until(&format!("nothing is in flight: {case}"), none).await;
    }
}

#[actix_web::test]
async fn a_stream_that_the_engine_resets_ends_broken() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    engine.faults().set_reset_after(Some(3));
    for (case, stream) in [("a stream", true), ("an answer of known length", false)] {
        let (requests, id) = (engine.requests(), case.replace(' ', "-"));
        let mut client = Wire::open(&harness).await;
        client.send(post(CHAT, &format!("x-request-id: {id}\r\n"), &request(stream, ""))).await;
        let error = client.answer().await.expect_err(case);
        assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{case}: {error}");
        let log = harness.logged(&format!(" request_id={id} ")).await;
        assert!(line_of(&log, &id).contains("\" 200 error=upstream_reset"), "{case}: {log}");
        let reset = ["error_type=\"upstream_reset\""];
        assert!(harness.metric("kthena_router_requests_total", &reset).await > 0.0, "{case}");
        assert_eq!(engine.requests(), requests + 1, "{case}: nothing is retried after the first byte");
    }
}

#[actix_web::test]
async fn an_answer_is_complete_exactly_when_the_engines_is() {
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = format!("{chunked}9\r\ndata: 1\n\n\r\n0\r\n\r\n").leak();
    let (without_end, half_a_chunk) = (&whole[..whole.len() - 5], &whole[..whole.len() - 10]);
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let event_stream = "content-type: text/event-stream";
    let stripped =
        format!("HTTP/1.1 200 OK\r\n{event_stream}\r\ncontent-length: {}\r\n\r\n{usage}", usage.len()).leak();
    for (case, reply, expected) in [
        ("a body that is too short", Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"), None),
        ("chunks without an end", Reply::Close(without_end), None),
        ("half a chunk", Reply::Close(half_a_chunk), None),
        ("chunks with an end", Reply::Close(whole), Some((200, "data: 1\n\n"))),
        ("a body up to the end of the connection", Reply::Close("HTTP/1.0 200 OK\r\n\r\n{}"), Some((200, "{}"))),
        ("a shorter body than announced", Reply::Keep(stripped), Some((200, "data: [DONE]\n\n"))),
        ("an empty body", Reply::Keep("HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n"), Some((422, ""))),
        ("no body", Reply::Keep("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, ""))),
    ] {
        let (harness, engine) = behind_script(&[reply]).await;
        let mut client = Wire::open(&harness).await;
        client.send(post(CHAT, "x-request-id: one\r\n", &request(true, ""))).await;
        let answer = client.answer().await.map(|answer| (answer.status, answer.text()));
        let expected = expected.map(|(status, text)| (status, text.to_owned()));
        assert_eq!(answer.ok(), expected, "{case}");
        let log = harness.logged(" request_id=one ").await;
        let logged =
            expected.map_or_else(|| "\" 200 error=upstream_reset ".to_owned(), |(status, _)| format!("\" {status} "));
        assert!(log.contains(&logged), "{case}: {log}");
        assert_eq!(engine.received().len(), 1, "{case}: nothing is retried after the first byte");
    }
}

#[actix_web::test]
async fn request_ids_and_trace_headers_pass_and_headers_of_one_connection_do_not() {
    let reply = Reply::Keep(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nkeep-alive: timeout=5\r\n\
         connection: x-of-engine, keep-alive\r\nx-of-engine: 1\r\nproxy-authenticate: Basic\r\nx-request-id: other\r\n\
         set-cookie: a=1\r\nset-cookie: b=2\r\ntracestate: t=1\r\n\r\n{}",
    );
    let (harness, engine) = behind_script(&[reply]).await;
    let headers = "connection: x-of-client, keep-alive\r\nx-of-client: 1\r\nkeep-alive: timeout=9\r\nte: trailers\r\n\
                   proxy-authorization: Basic eDp5\r\nauthorization: Bearer key\r\nupgrade: h2c\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\n\
                   x-request-id: the-clients-own\r\n";
    let answer = Wire::open(&harness).await.ask(post(COMPLETIONS, headers, &request(false, ""))).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    let received = engine.received().remove(0);
    for (name, expected) in [
        ("connection", &[][..]),
        ("x-of-client", &[]),
        ("keep-alive", &[]),
        ("te", &[]),
        ("upgrade", &[]),
        ("proxy-authorization", &[]),
        ("authorization", &["Bearer key"]),
        ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
        ("tracestate", &["a=1"]),
        ("x-request-id", &["the-clients-own"]),
    ] {
        assert_eq!(received.header(name), expected, "to the engine: {name}");
    }
    let values = |name: &str| answer.headers.iter().filter(|(known, _)| known == name).count();
    for (name, expected) in
        [("x-of-engine", 0), ("keep-alive", 0), ("proxy-authenticate", 0), ("set-cookie", 2), ("tracestate", 1)]
    {
        assert_eq!(values(name), expected, "to the client: {name}");
    }
    assert_eq!((values("x-request-id"), answer.header("x-request-id")), (1, Some("the-clients-own")));
    harness.logged("request_id=the-clients-own").await;

    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    for given in ["", "x-request-id: \r\n", "x-request-id: two words\r\n", trace] {
        let answer = Wire::open(&harness).await.ask(post(COMPLETIONS, given, &request(false, ""))).await;
        let made = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(made.len(), 36, "{given:?}: {made}");
        assert!(!made.replace('-', "").contains("0af7651916cd43dd"), "{given:?}: it is not made of the trace: {made}");
        assert_eq!(engine.received().last().unwrap().header("x-request-id"), [&made], "{given:?}");
        harness.logged(&format!("request_id={made}")).await;
    }
}

/// Returns the body of a request, for the name that the router's clients know.
fn request(stream: bool, options: &str) -> String {
    let prompt = r#""prompt":"Say something.""#;
    format!(r#"{{"model":"public",{prompt},"stream":{stream}{options}}}"#)
}

/// Sends a request through the router and one to an engine of its own that is equally old, until both are answered in
/// the same second, which their answers name; returns how often that was.
async fn ask_both(harness: &Harness, path: &str, stream: bool, options: &str) -> (u64, Answer, Answer) {
    let request = post(path, "", &request(stream, options).replace("public", "m"));
    let created = |answer: &Answer| {
        let text = answer.text();
        text.split("\"created\":").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned)
    };
    let mut requests = 0;
    loop {
        requests += 1;
        let routed = Wire::open(harness).await.ask(&request).await;
        let engine = SocketAddr::new(harness.host(11), ENGINE_PORT);
        let direct = Wire::open_at(engine).await.ask(&request).await;
        assert_eq!((routed.status, direct.status), (200, 200), "{path}");
        if created(&routed) == created(&direct) || requests == 10 {
            return (requests, routed, direct);
        }
    }
}

async fn tokens(harness: &Harness, path: &str, kind: &str) -> u64 {
    let labels = [format!("path=\"{path}\""), format!("token_type=\"{kind}\"")];
    harness.metric("kthena_router_tokens_total", &[&labels[0], &labels[1]]).await as u64
}

/// Returns how many tokens after the first the engine on host 10 has produced.
async fn tokens_produced(harness: &Harness) -> usize {
    let engine = SocketAddr::new(harness.host(10), ENGINE_PORT);
    let page = Wire::open_at(engine).await.ask("GET /metrics HTTP/1.1\r\nhost: engine\r\n\r\n").await.text();
    let line = page.lines().find(|line| line.starts_with("vllm:inter_token_latency_seconds_count"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no count in {page}"))
}

fn line_of<'l>(log: &'l str, request_id: &str) -> &'l str {
    log.lines().find(|line| line.contains(&format!(" request_id={request_id} "))).unwrap()
}
