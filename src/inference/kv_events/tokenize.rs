//! How an engine is asked for the tokens of a prompt, and for the places of its events.
//!
//! Sources: `TokenizeCompletionRequest` and `TokenizeChatRequest` of vLLM (`entrypoints/serve/tokenize/protocol.py`) and
//! of SGLang (`entrypoints/openai/protocol.py`), `GET /kv_event_sources` of vLLM 0.33.
//!
//! A chat becomes tokens by a template that only the engine has. So the engine is asked, with the fields of the request
//! that its template sees. Responses and messages are not asked about: engines have no such question.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::inference::api::Api;

/// The path of the question for tokens.
pub const TOKENIZE: &str = "/tokenize";
/// The path of the question for the places of events.
pub const SOURCES: &str = "/kv_event_sources";

/// The fields of a chat that decide on its tokens.
const CHAT: [&str; 9] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "mm_processor_kwargs",
];
/// The fields of a completion that do.
const COMPLETION: [&str; 2] = ["prompt", "add_special_tokens"];

/// What is to be done to know a prompt's tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing: the request names them.
    Known(Vec<u32>),
    /// To send this body to [`TOKENIZE`].
    Ask(String),
}

/// A request's prompt, as a question for its tokens needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// The request's `cache_salt`.
    pub salt: Option<String>,
}

/// Where an engine sends its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The data-parallel rank that it tells of.
    pub rank: u32,
    /// The port to subscribe to.
    pub port: u16,
    /// The port to ask for messages again, where there is one.
    pub replay: Option<u16>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    data_parallel_rank: Option<u32>,
    endpoint: Option<String>,
    #[serde(default)]
    replay_endpoint: Option<String>,
}

impl Asked {
    /// Makes the question for the tokens of a request's prompt; `None` if an engine cannot tell them: of several prompts,
    /// of another API, or of a body that is no JSON object.
    pub fn about(api: Api, body: &[u8], model: &str) -> Option<Self> {
        let names: &[&str] = match api {
            Api::ChatCompletions => &CHAT,
            Api::Completions => &COMPLETION,
            _ => return None,
        };
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
        let first = fields.get(names[0])?.get();
        let salt = fields.get("cache_salt").and_then(|salt| serde_json::from_str(salt.get()).ok());
        if api == Api::Completions && !first.starts_with('"') {
            let tokens = serde_json::from_str(first).ok()?;
            return Some(Self { question: Question::Known(tokens), salt });
        }
        let mut question = format!("{{\"model\":{},\"return_token_strs\":false", serde_json::to_string(model).ok()?);
        for (name, value) in names.iter().filter_map(|name| Some((name, fields.get(*name)?))) {
            question.extend([",\"", name, "\":", value.get()]);
        }
        question.push('}');
        Some(Self { question: Question::Ask(question), salt })
    }
}

/// Reads the answer to a question for tokens.
pub fn tokens(answer: &[u8]) -> Option<Vec<u32>> {
    serde_json::from_slice::<Tokens>(answer).ok().map(|answer| answer.tokens)
}

/// Reads the answer to a question for the places of events: a list of one for each rank. Only their ports count, because
/// the engine is known by the address of its Pod.
pub fn sources(answer: &[u8]) -> Option<Vec<Source>> {
    let listed: Vec<Listed> = serde_json::from_slice(answer).ok()?;
    let source = |listed: Listed| {
        let port = port(&listed.endpoint?)?;
        let replay = listed.replay_endpoint.as_deref().and_then(self::port);
        Some(Source { rank: listed.data_parallel_rank.unwrap_or_default(), port, replay })
    };
    Some(listed.into_iter().filter_map(source).collect())
}

fn port(endpoint: &str) -> Option<u16> {
    let place = endpoint.strip_prefix("tcp://")?;
    let port = place.parse::<SocketAddr>().map(|address| address.port());
    port.ok().or_else(|| place.rsplit_once(':')?.1.parse().ok()).filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(api: Api, body: &str) -> Option<String> {
        match Asked::about(api, body.as_bytes(), "m")?.question {
            Question::Ask(question) => Some(question),
            Question::Known(tokens) => Some(format!("{tokens:?}")),
        }
    }

    #[test]
    fn a_question_has_what_the_engines_template_sees() {
        for (case, api, body, question) in [
            (
                "a chat",
                Api::ChatCompletions,
                r#"{"model":"x","stream":true,"messages":[{"role":"user","content":"Hi"}],"temperature":1,"tools":[{}]}"#,
                Some(
                    r#"{"model":"m","return_token_strs":false,"messages":[{"role":"user","content":"Hi"}],"tools":[{}]}"#,
                ),
            ),
            (
                "a completion",
                Api::Completions,
                r#"{"prompt":"a \"b\"","max_tokens":1}"#,
                Some(r#"{"model":"m","return_token_strs":false,"prompt":"a \"b\""}"#),
            ),
            ("tokens", Api::Completions, r#"{"prompt":[1, 2]}"#, Some("[1, 2]")),
            ("several prompts", Api::Completions, r#"{"prompt":["a","b"]}"#, None),
            ("no prompt", Api::Completions, "{}", None),
            ("a response", Api::Responses, r#"{"input":"a"}"#, None),
            ("no JSON", Api::ChatCompletions, "{", None),
        ] {
            assert_eq!(ask(api, body).as_deref(), question, "{case}");
        }
    }

    #[test]
    fn a_salt_is_the_requests_own() {
        let salt = |body: &str| Asked::about(Api::Completions, body.as_bytes(), "m").and_then(|asked| asked.salt);
        assert_eq!(salt(r#"{"prompt":"a","cache_salt":"s\u0061lt"}"#).as_deref(), Some("salt"));
        assert_eq!(salt(r#"{"prompt":"a","cache_salt":null}"#), None);
    }

    #[test]
    fn answers_of_both_engines_are_read() {
        let vllm = br#"{"count":2,"max_model_len":4096,"tokens":[7,8],"token_strs":null}"#;
        assert_eq!(tokens(vllm), Some(vec![7, 8]));
        assert_eq!(tokens(br#"{"tokens":[7,8],"count":2,"max_model_len":4096}"#), Some(vec![7, 8]));
        assert_eq!(tokens(br#"{"error":"no"}"#), None);
    }

    #[test]
    fn the_places_of_events_are_ports_of_the_pod() {
        let listed = br#"[
            {"data_parallel_rank":0,"endpoint":"tcp://10.0.0.1:5557","replay_endpoint":null,"topic":""},
            {"data_parallel_rank":1,"endpoint":"tcp://*:5558","replay_endpoint":"tcp://[::1]:5658","topic":"kv"},
            {"data_parallel_rank":2,"endpoint":"ipc:///tmp/kv"}]"#;
        let source = |rank, port, replay| Source { rank, port, replay };
        assert_eq!(sources(listed), Some(vec![source(0, 5557, None), source(1, 5558, Some(5658))]));
        assert_eq!(sources(b"[]"), Some(vec![]));
        assert_eq!(sources(b"{}"), None);
    }
}
