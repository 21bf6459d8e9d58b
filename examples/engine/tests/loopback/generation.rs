//! What the engine answers.

use crate::support::{NEVER, ask, engine, post, send};
use futures::StreamExt;
use simulated_engine::EngineConfig;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// Replaces the seconds of every `created` in a body.
fn without_time(body: &str) -> String {
    let mut parts = body.split("\"created\":");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "\"created\":0" + part.trim_start_matches(|letter: char| letter.is_ascii_digit())
    })
}

#[actix_web::test]
async fn a_completion_begins_as_in_the_quickstart() {
    let config = EngineConfig::new("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B");
    let engine = simulated_engine::start(config).await.unwrap();
    let body = r#"{"model":"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B","prompt":"San Francisco is a","max_tokens":100,"temperature":0}"#;
    let answer = ask(&engine, COMPLETIONS, body).await;
    assert_eq!(answer.status, 200);
    let expected = concat!(
        r#"{"choices":[{"finish_reason":"length","index":0,"logprobs":null,"#,
        r#""text":"This is simulated message from deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B!"}],"#,
        r#""created":0,"id":"cmpl-00000000000000000000000000000000","#,
        r#""model":"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B","object":"text_completion","#,
        r#""usage":{"completion_tokens":6,"prompt_tokens":5,"total_tokens":11}}"#,
    );
    assert_eq!(without_time(&answer.body), expected);
}

#[actix_web::test]
async fn each_model_answers_in_its_own_name() {
    let engine = engine(|config| config.loras = vec!["lora-A".to_owned()]).await;
    for model in ["m", "lora-A"] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let answer = ask(&engine, CHAT, &body).await.json();
        let text = format!("This is simulated message from {model}!");
        assert_eq!(answer["choices"][0]["message"]["content"], text, "{model}");
        assert_eq!(answer["model"], model);
    }
}

#[actix_web::test]
async fn the_length_of_an_answer_follows_the_limits() {
    let engine = engine(|config| config.output_tokens = Some(8)).await;
    let cases = [
        ("", "This is simulated message from m! This is", "stop", 8),
        (r#","max_tokens":2"#, "This is", "length", 2),
        (r#","max_completion_tokens":1"#, "This", "length", 1),
    ];
    for (limit, text, reason, tokens) in cases {
        let body = format!(r#"{{"model":"m","prompt":""{limit}}}"#);
        let answer = ask(&engine, COMPLETIONS, &body).await.json();
        assert_eq!(answer["choices"][0]["text"], text, "{limit}");
        assert_eq!(answer["choices"][0]["finish_reason"], reason, "{limit}");
        assert_eq!(answer["usage"]["completion_tokens"], tokens, "{limit}");
    }
}

#[actix_web::test]
async fn a_completion_streams_byte_for_byte() {
    let engine = engine(|config| config.output_tokens = Some(2)).await;
    let body = r#"{"model":"m","prompt":"12345678","stream":true}"#;
    let answer = ask(&engine, COMPLETIONS, body).await;
    let head = r#"data: {"id":"cmpl-00000000000000000000000000000000","object":"text_completion","created":0,"model":"m","choices":["#;
    let choice = |text, reason| {
        format!(
            "{head}{{\"index\":0,\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":{reason},\
             \"stop_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let expected =
        [choice("This", "null"), choice(" is", "null"), choice("", "\"stop\""), "data: [DONE]\n\n".to_owned()];
    assert_eq!(without_time(&answer.body), expected.concat());
}

#[actix_web::test]
async fn a_chat_with_usage_streams_byte_for_byte() {
    let engine = engine(|config| config.output_tokens = Some(1)).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"12345"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = ask(&engine, CHAT, body).await;
    let head = r#"data: {"id":"chatcmpl-00000000000000000000000000000000","object":"chat.completion.chunk","created":0,"model":"m","choices":["#;
    let events = [
        r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{"content":"This"},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}"#,
        r#"],"usage":{"prompt_tokens":2,"total_tokens":3,"completion_tokens":1}}"#,
    ];
    let events = events.map(|event| format!("{head}{event}\n\n"));
    let expected = events.concat() + "data: [DONE]\n\n";
    assert_eq!(without_time(&answer.body), expected);
}

#[actix_web::test]
async fn the_usage_event_comes_only_when_asked_for() {
    let engine = engine(|_| {}).await;
    let cases = [
        ("", false),
        (r#","stream_options":{"include_usage":false}"#, false),
        (r#","stream_options":null"#, false),
        (r#","stream_options":{"include_usage":true}"#, true),
    ];
    for path in [COMPLETIONS, CHAT] {
        for (options, expected) in cases {
            let body = format!(r#"{{"model":"m","stream":true{options}}}"#);
            let answer = ask(&engine, path, &body).await;
            let has_usage = answer.body.contains("\"choices\":[],\"usage\":{");
            assert_eq!(has_usage, expected, "{path} {options}");
            assert!(answer.body.ends_with("data: [DONE]\n\n"), "{path} {options}");
        }
    }
}

#[actix_web::test]
async fn tokens_leave_one_by_one() {
    let engine = engine(|config| config.time_per_output_token = NEVER).await;
    let sent = post(&engine, CHAT).send_body(r#"{"model":"m","stream":true}"#);
    let mut response = sent.await.unwrap();
    let mut received = Vec::new();
    while received.iter().filter(|byte| **byte == b'\n').count() < 4 {
        received.extend_from_slice(&response.next().await.unwrap().unwrap());
    }
    let text = String::from_utf8(received).unwrap();
    assert!(text.contains(r#""content":"This"}"#), "{text}");
    assert!(!text.contains(r#""content":" is""#), "{text}");
    assert_eq!(engine.running(), 1, "the second token is to come");
}

#[actix_web::test]
async fn usage_stands_where_each_api_has_it() {
    let engine = engine(|_| {}).await;
    let cases = [
        (
            "/v1/responses",
            r#"{"model":"m","input":"12345678"}"#,
            r#"{"input_tokens":2,"output_tokens":6,"total_tokens":8}"#,
        ),
        (
            "/v1/messages",
            r#"{"model":"m","messages":[{"role":"user","content":"12345678"}],"max_tokens":9}"#,
            r#"{"input_tokens":2,"output_tokens":6}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"m","input":["1234","1234"]}"#,
            r#"{"completion_tokens":0,"prompt_tokens":2,"total_tokens":2}"#,
        ),
        (
            "/v1/rerank",
            r#"{"model":"m","query":"1234","documents":["1234","1234"]}"#,
            r#"{"prompt_tokens":3,"total_tokens":3}"#,
        ),
        (
            "/v1/score",
            r#"{"model":"m","text_1":"1234","text_2":["1234","1234"]}"#,
            r#"{"completion_tokens":0,"prompt_tokens":3,"total_tokens":3}"#,
        ),
    ];
    for (path, body, usage) in cases {
        let answer = ask(&engine, path, body).await;
        assert_eq!(answer.status, 200, "{path}");
        let answer = answer.json();
        assert_eq!(answer["usage"].to_string(), usage, "{path}");
        assert_eq!(answer["model"], "m", "{path}");
        let results = answer["data"].as_array().or_else(|| answer["results"].as_array());
        let count = results.map_or(2, Vec::len);
        assert_eq!(count, 2, "{path} has one result per input");
    }
}

#[actix_web::test]
async fn named_events_of_responses_and_messages_are_in_order() {
    let engine = engine(|config| config.output_tokens = Some(2)).await;
    let cases = [
        (
            "/v1/responses",
            "response.created response.output_text.delta response.output_text.delta \
             response.completed",
        ),
        (
            "/v1/messages",
            "message_start content_block_start content_block_delta content_block_delta \
             content_block_stop message_delta message_stop",
        ),
    ];
    for (path, expected) in cases {
        let answer = ask(&engine, path, r#"{"model":"m","stream":true}"#).await;
        let mut names = Vec::new();
        for event in answer.body.split_terminator("\n\n") {
            let (name, payload) = event.split_once("\ndata: ").unwrap();
            let name = name.strip_prefix("event: ").unwrap();
            let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
            assert_eq!(payload["type"], name, "{path}");
            names.push(name);
        }
        assert_eq!(names.join(" "), expected, "{path}");
    }
}

#[actix_web::test]
async fn what_is_not_served_is_refused_in_the_shape_of_vllm() {
    let engine = engine(|_| {}).await;
    let cases = [
        (
            r#"{"model":"other","prompt":"x"}"#,
            404,
            r#"{"error":{"code":404,"message":"The model `other` does not exist.","param":"model","type":"NotFoundError"}}"#,
        ),
        (
            r#"{"prompt":"x"}"#,
            400,
            r#"{"error":{"code":400,"message":"body is not a valid request: missing field `model` at line 1 column 14","param":null,"type":"BadRequestError"}}"#,
        ),
    ];
    for (body, status, expected) in cases {
        let answer = ask(&engine, COMPLETIONS, body).await;
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(answer.json().to_string(), expected, "{body}");
    }
    assert_eq!(engine.requests(), 2);
    assert_eq!(engine.aborted(), 0);
}

#[actix_web::test]
async fn the_request_id_comes_back_with_every_answer() {
    let engine = engine(|_| {}).await;
    for body in [r#"{"model":"m"}"#, r#"{"model":"m","stream":true}"#, r#"{"model":"other"}"#] {
        let request = post(&engine, CHAT).insert_header(("x-request-id", "id-1"));
        let response = request.send_body(body).await.unwrap();
        let identifier = response.headers().get("x-request-id");
        assert_eq!(identifier.unwrap(), "id-1", "{body}");
    }
}

#[actix_web::test]
async fn a_large_body_is_taken_whole() {
    let engine = engine(|config| config.record = true).await;
    let prompt = "x".repeat(16 << 20);
    let body = format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
    let answer = send(post(&engine, COMPLETIONS), &body).await.json();
    assert_eq!(answer["usage"]["prompt_tokens"], 4 << 20);
    assert_eq!(engine.last_request().unwrap().body, body);
}
