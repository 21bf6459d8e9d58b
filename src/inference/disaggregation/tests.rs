use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::inference::api::Api;
use crate::inference::request::ParseError;

const NIXL_ANSWER: &str = r#"{"id":"x","kv_transfer_params": {"do_remote_prefill":true, "remote_engine_id":"e-1","remote_block_ids":[[1,2]],"remote_host":"10.0.0.1","remote_port":5600},"usage":{}}"#;

const NULLS: &str = r#""kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#;

const ID: &str = "xfer-0000000000000000000000000000002a";

fn transfer() -> Transfer<'static> {
    Transfer::new(42, "10.0.0.1")
}

fn split(connector: Connector, api: Api, body: &str) -> SplitRequest {
    SplitRequest::read(connector, api, Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn text(body: Bytes) -> String {
    String::from_utf8(body.into()).unwrap()
}

fn prefill(connector: Connector, api: Api, body: &str) -> String {
    text(split(connector, api, body).prefill(&transfer()))
}

/// The body of the decode, after the answer of a prefill.
fn decode(connector: Connector, body: &str, answer: &str) -> Result<String, HandoverError> {
    let handover = Handover::read(connector, &Bytes::copy_from_slice(answer.as_bytes()))?;
    split(connector, Api::ChatCompletions, body).decode(&transfer(), &handover).map(text)
}

#[test]
fn a_prefill_generates_one_token_whatever_the_client_wants() {
    use Api::{ChatCompletions as Chat, Completions, Messages, Responses};
    for (case, api, body, expected) in [
        ("no limit", Chat, r#"{"model":"m"}"#, r#"{"model":"m","max_tokens":1}"#),
        ("a limit", Chat, r#"{"max_tokens": 100 , "model":"m"}"#, r#"{"max_tokens": 1 , "model":"m"}"#),
        ("no value", Chat, r#"{"max_tokens":null}"#, r#"{"max_tokens":1}"#),
        (
            "the newer limit",
            Chat,
            r#"{"max_completion_tokens":9,"model":"m"}"#,
            r#"{"max_completion_tokens":1,"model":"m","max_tokens":1}"#,
        ),
        (
            "a lower bound above it",
            Chat,
            r#"{"min_tokens":5,"max_tokens":10, "min_completion_tokens" : 2}"#,
            r#"{"max_tokens":1}"#,
        ),
        (
            "a stream",
            Chat,
            r#"{"stream":true,"stream_options":{"include_usage":true},"max_tokens":3}"#,
            r#"{"stream":false,"max_tokens":1}"#,
        ),
        ("samples", Chat, r#"{"n":4,"max_tokens":3}"#, r#"{"n":1,"max_tokens":1}"#),
        (
            "candidates",
            Completions,
            r#"{"best_of": 4,"echo":true,"prompt":"a","max_tokens":3}"#,
            r#"{"best_of": 1,"echo":false,"prompt":"a","max_tokens":1}"#,
        ),
        (
            "what goes with a format and probabilities",
            Chat,
            r#"{"logprobs":true,"top_logprobs":3,"response_format":{"type":"json_object"},"max_tokens":3}"#,
            r#"{"logprobs":true,"top_logprobs":3,"response_format":{"type":"json_object"},"max_tokens":1}"#,
        ),
        ("a message", Messages, r#"{"max_tokens":64,"stream":true}"#, r#"{"max_tokens":1,"stream":false}"#),
        ("a response", Responses, r#"{"input":"a"}"#, r#"{"input":"a","max_output_tokens":1,"store":false}"#),
        (
            "a response with all of it",
            Responses,
            r#"{"max_output_tokens":500,"store":true,"stream":true,"max_tool_calls":1}"#,
            r#"{"max_output_tokens":1,"store":false,"stream":false,"max_tool_calls":1}"#,
        ),
        ("an escape in a name", Chat, r#"{"max\u005ftokens":7,"\u006e":3}"#, r#"{"max\u005ftokens":1,"\u006e":1}"#),
        ("nothing", Chat, "{ }\n", "{\"max_tokens\":1}\n"),
        ("a name within", Chat, r#"{"a":{"max_tokens":5,"n":2}}"#, r#"{"a":{"max_tokens":5,"n":2},"max_tokens":1}"#),
    ] {
        assert_eq!(prefill(Connector::Http, api, body), expected, "{case}");
        assert_eq!(prefill(Connector::Lmcache, api, body), expected, "{case}, lmcache");
    }
}

#[test]
fn each_connector_tells_both_engines_what_they_read() {
    use Connector::{Http, Lmcache, Mooncake, Nixl, Sglang};
    let client = r#"{"model":"m","max_tokens":5,"stream":true}"#;
    let shared = r#"{"model":"m","max_tokens":1,"stream":false}"#;
    let with = |body: &str, more: &str| format!("{},{more}}}", &body[..body.len() - 1]);
    let mooncake =
        format!(r#""kv_transfer_params":{{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"{ID}"}}"#);
    let room = r#""bootstrap_host":"10.0.0.1","bootstrap_port":8998,"bootstrap_room":42"#;
    let handed = r#""kv_transfer_params":{"do_remote_prefill":true, "remote_engine_id":"e-1","remote_block_ids":[[1,2]],"remote_host":"10.0.0.1","remote_port":5600}"#;
    for (connector, expected_prefill, expected_decode) in [
        (Http, shared.to_owned(), client.to_owned()),
        (Lmcache, shared.to_owned(), client.to_owned()),
        (Nixl, with(shared, NULLS), with(client, handed)),
        (Mooncake, with(shared, &mooncake), with(client, handed)),
        (Sglang, with(shared, room), with(client, room)),
    ] {
        let name = connector.protocol().name;
        assert_eq!(prefill(connector, Api::ChatCompletions, client), expected_prefill, "{name}");
        assert_eq!(decode(connector, client, NIXL_ANSWER), Ok(expected_decode), "{name}");
        assert_eq!(text(split(connector, Api::ChatCompletions, client).alone()), client, "{name}");
    }
}

#[test]
fn a_mooncake_that_tells_nothing_is_met_at_its_bootstrap_server() {
    let body = r#"{"model":"m"}"#;
    let request = split(Connector::Mooncake, Api::ChatCompletions, body);
    let answer = Bytes::from_static(br#"{"kv_transfer_params":null}"#);
    let handover = Handover::read(Connector::Mooncake, &answer).unwrap();
    assert_eq!(request.decode(&transfer(), &handover), Err(HandoverError::NoParams), "whose engine is unknown");
    for (host, url) in [("10.0.0.1", "http://10.0.0.1:8998"), ("fd00::1", "http://[fd00::1]:8998")] {
        let transfer = Transfer { prefill_engine: Some("e \"1\"".into()), ..Transfer::new(42, host) };
        let decoded: Value = serde_json::from_slice(&request.decode(&transfer, &handover).unwrap()).unwrap();
        let expected = json!({
            "do_remote_decode": false, "do_remote_prefill": true, "remote_bootstrap_addr": url,
            "remote_engine_id": "e \"1\"", "transfer_id": ID,
        });
        assert_eq!(decoded, json!({"model": "m", "kv_transfer_params": expected}));
    }
}

#[test]
fn a_bootstrap_server_tells_the_engines_of_its_ranks() {
    for (answer, expected) in [
        (r#"{"0":{"engine_id":"a","worker_addr":{}},"1":{"engine_id":"b"}}"#, Some(vec![(0, "a"), (1, "b")])),
        (r#"{"status":"ok","0":{"engine_id":"a"}}"#, Some(vec![(0, "a")])),
        ("{}", None),
        (r#"{"0":{"engine_id":7}}"#, None),
        (r#"{"0":{}}"#, None),
        ("[]", None),
        ("no", None),
    ] {
        let expected =
            expected.map(|ranks| ranks.into_iter().map(|(rank, id)| (rank, id.to_owned())).collect::<Vec<_>>());
        assert_eq!(engine_ids(answer.as_bytes()).ok(), expected, "{answer}");
    }
}

#[test]
fn samples_meet_in_pairs_where_the_engines_count_rooms() {
    let body = r#"{"n":3,"best_of":3,"prompt":["a","b"],"max_tokens":5}"#;
    let expected = r#"{"n":3,"best_of":3,"prompt":["a","b"],"max_tokens":1,"bootstrap_host":"10.0.0.1","bootstrap_port":8998,"bootstrap_room":42}"#;
    assert_eq!(prefill(Connector::Sglang, Api::Completions, body), expected);
    let transfer = Transfer::new(u128::MAX, "[::1]".trim_matches(['[', ']']));
    let body = text(split(Connector::Sglang, Api::Completions, "{}").prefill(&transfer));
    let rooms = r#""bootstrap_host":"[::1]","bootstrap_port":8998,"bootstrap_room":4611686018427387903"#;
    assert!(body.contains(rooms), "room is left for the samples: {body}");
}

#[test]
fn an_answer_that_a_decode_cannot_go_on_from_is_named() {
    use Connector::{Http, Mooncake, Nixl, Sglang};
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_ANSWER));
    for (connector, answer, expected) in [
        (Nixl, "<html>", "the prefill's answer is not what an engine answers: expected value at line 1 column 1"),
        (Nixl, "", "the prefill's answer is not what an engine answers: EOF while parsing a value at line 1 column 0"),
        (Nixl, "{}", "the prefill's answer has no `kv_transfer_params`"),
        (Nixl, r#"{"kv_transfer_params":null}"#, "the prefill's answer has no `kv_transfer_params`"),
        (Mooncake, "{}", "the prefill's answer has no `kv_transfer_params`"),
        (Nixl, r#"{"kv_transfer_params":[1]}"#, "`kv_transfer_params` in the prefill's answer is not an object"),
        (Mooncake, r#"{"kv_transfer_params":"x"}"#, "`kv_transfer_params` in the prefill's answer is not an object"),
        (Nixl, &long, "the prefill's answer is longer than 4194304 bytes"),
        (Http, &long, "the prefill's answer is longer than 4194304 bytes"),
        (Http, "<html>", ""),
        (Sglang, "<html>", ""),
    ] {
        let found = decode(connector, "{}", answer).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(found, expected, "{connector:?}");
    }
    let twice = r#"{"kv_transfer_params":{},"kv_transfer_params":{"a":1}}"#;
    assert!(matches!(decode(Nixl, "{}", twice), Err(HandoverError::Malformed(_))));
}

#[test]
fn what_one_engine_has_to_do_alone_is_not_split() {
    use Connector::{Http, Nixl, Sglang};
    let reason = |connector, api, body| split(connector, api, body).whole().map(Whole::label);
    for (api, body, shared, paired, alone) in [
        (Api::ChatCompletions, r#"{"n":1,"best_of":null}"#, None, None, None),
        (Api::ChatCompletions, r#"{"n":2}"#, None, Some("samples"), None),
        (Api::Completions, r#"{"best_of":2}"#, None, Some("samples"), None),
        (Api::Completions, r#"{"prompt":["a", "b"]}"#, None, Some("prompts"), None),
        (Api::Completions, r#"{"prompt":[ [1,2],[3]]}"#, None, Some("prompts"), None),
        (Api::Completions, r#"{"prompt":[1,2]}"#, None, None, None),
        (Api::Completions, r#"{"prompt":"[a"}"#, None, None, None),
        (Api::Completions, r#"{"echo":true,"logprobs":0}"#, Some("prompt_logprobs"), Some("prompt_logprobs"), None),
        (Api::Completions, r#"{"echo":true,"logprobs":null}"#, None, None, None),
        (Api::ChatCompletions, r#"{"prompt_logprobs":1}"#, Some("prompt_logprobs"), Some("prompt_logprobs"), None),
        (Api::ChatCompletions, r#"{"use_beam_search":true}"#, Some("beam_search"), Some("beam_search"), None),
        (Api::Responses, r#"{"previous_response_id":"r"}"#, Some("stored"), Some("stored"), None),
        (Api::Responses, r#"{"background":true}"#, Some("stored"), Some("stored"), None),
        (Api::Embeddings, "{}", Some("api"), Some("api"), Some("api")),
        (Api::Speech, "{}", Some("api"), Some("api"), Some("api")),
    ] {
        let found = [Http, Nixl, Sglang].map(|connector| reason(connector, api, body));
        assert_eq!(found, [shared, paired, alone], "{body}");
    }
}

#[test]
fn what_clients_say_in_the_engines_language_reaches_no_engine() {
    let body = r#"{"bootstrap_host":"evil","model":"m","kv_transfer_params":{"remote_host":"evil"},"bootstrap_room":1, "bootstrap_port" :2,"ec_transfer_params":{},"disagg_prefill_dp_rank":9}"#;
    for connector in Connector::ALL {
        let request = split(connector, Api::ChatCompletions, body);
        assert_eq!(text(request.alone()), r#"{"model":"m"}"#);
        let decoded = decode(connector, body, NIXL_ANSWER).unwrap();
        for body in [decoded, text(request.prefill(&transfer()))] {
            assert!(!body.contains("evil") && serde_json::from_str::<Value>(&body).is_ok(), "{connector:?}: {body}");
        }
    }
}

#[test]
fn a_body_that_engines_would_read_differently_is_refused() {
    for (body, expected) in [
        (r#"{"n":1,"n":2}"#, "field `n` occurs more than once in the request body"),
        (r#"{"max_tokens":1,"max\u005ftokens":2}"#, "field `max_tokens` occurs more than once in the request body"),
        ("[]", "request body must be a JSON object"),
        ("{", "request body is not valid JSON: EOF while parsing an object at line 1, column 1"),
    ] {
        let read = SplitRequest::read(Connector::Nixl, Api::Completions, Bytes::copy_from_slice(body.as_bytes()));
        assert_eq!(read.err().as_ref().map(ParseError::to_string).as_deref(), Some(expected), "{body}");
    }
}

/// Fields that a prefill's body has otherwise.
const CHANGED: &[&str] = &[
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "min_tokens",
    "n",
    "best_of",
    "stream",
    "stream_options",
    "store",
    "kv_transfer_params",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
];

/// Values of fields that are changed, and of others.
fn any_fields() -> impl Strategy<Value = Vec<(String, Value)>> {
    let named = select(CHANGED);
    let name = prop_oneof![named.prop_map(|name: &str| name.to_owned()), "[a-z\"\\\\{},: ]{1,6}"];
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!(true)),
        Just(json!({"n": 5, "max_tokens": [1, "}, "]})),
        "[a-z\"\\\\{},: ]{0,9}".prop_map(Value::from),
    ];
    vec((name, value), 0..9).prop_map(|fields| {
        let mut seen = std::collections::HashSet::new();
        fields.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect()
    })
}

/// Writes an object with blanks where they may be.
fn written(fields: &[(String, Value)], blanks: &[&str]) -> String {
    let mut blank = blanks.iter().cycle().copied();
    let mut next = || blank.next().unwrap_or_default();
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}{}{}:{}{value}{}", next(), Value::from(name.as_str()), next(), next(), next()))
        .collect();
    let inside = if fields.is_empty() { next().to_owned() } else { fields.join(",") };
    format!("{}{{{inside}}}{}", next(), next())
}

proptest! {
    #[test]
    fn nothing_else_changes_and_a_second_time_changes_nothing(
        fields in any_fields(),
        blanks in vec(select(vec!["", " ", "\n\t"]), 1..5),
        connector in select(Connector::ALL.to_vec()),
        api in select(vec![Api::ChatCompletions, Api::Completions, Api::Responses, Api::Messages]),
    ) {
        let body = written(&fields, &blanks);
        let request = split(connector, api, &body);
        let handover = Handover::read(connector, &Bytes::from_static(NIXL_ANSWER.as_bytes())).unwrap();
        let prefilled = text(request.prefill(&transfer()));
        let decoded = text(request.decode(&transfer(), &handover).unwrap());
        let alone = text(request.alone());
        let again = split(connector, api, &prefilled);
        prop_assert_eq!(text(again.prefill(&transfer())), prefilled.clone());
        let again = split(connector, api, &decoded);
        prop_assert_eq!(text(again.decode(&transfer(), &handover).unwrap()), decoded.clone());
        prop_assert_eq!(text(split(connector, api, &alone).alone()), alone.clone());
        let others = |body: &str| {
            let mut body: Map<String, Value> = serde_json::from_str(body).unwrap();
            body.retain(|name, _| !CHANGED.contains(&name.as_str()));
            body
        };
        prop_assert_eq!(others(&prefilled), others(&body));
        prop_assert_eq!(others(&decoded), others(&body));
        let limit = if api == Api::Responses { "max_output_tokens" } else { "max_tokens" };
        let prefilled: Value = serde_json::from_str(&prefilled).unwrap();
        prop_assert_eq!(&prefilled[limit], &json!(1));
        let without = |body: &str| {
            let mut body: Map<String, Value> = serde_json::from_str(body).unwrap();
            body.retain(|name, _| !name.starts_with("kv_transfer") && !name.starts_with("bootstrap"));
            body
        };
        prop_assert_eq!(without(&decoded), without(&body), "a decode wants all that the client wants");
        if fields.iter().all(|(name, _)| !name.starts_with("kv_transfer") && !name.starts_with("bootstrap")) {
            prop_assert_eq!(alone, body);
        }
    }
}
