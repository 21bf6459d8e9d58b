//! Engines that speak a connector strictly, a router in front of them, and what a client reads of their answers.

use std::time::Duration;

use awc::{Client, ClientRequest};
use futures::StreamExt;
use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig, KvConnector, KvRole};

use super::{ALWAYS, Pod, start};
use crate::harness::{Harness, Network, PORT};

/// Tokens of every answer.
pub(super) const TOKENS: usize = 12;
/// The whole text of an answer: its sentence is repeated.
pub(super) const TEXT: &str = "This is simulated message from m! This is simulated message from m!";
/// How long blocks are held that nobody fetches, longer than any attempt here: real engines wait for minutes.
const HOLD: Duration = Duration::from_secs(1);

/// A connector: its name, the `inferenceEngine` and the rest of a ModelServer's spec, and what its engines speak.
pub(super) type Dialect = (&'static str, &'static str, &'static str, KvConnector);

pub(super) const HTTP: Dialect = ("http", "vLLM", "  kvConnector: {type: http}\n", KvConnector::Http);
pub(super) const LMCACHE: Dialect = ("lmcache", "vLLM", "  kvConnector: {type: lmcache}\n", KvConnector::Lmcache);
pub(super) const NIXL: Dialect = ("nixl", "vLLM", "  kvConnector: {type: nixl}\n", KvConnector::Nixl);
pub(super) const MOONCAKE: Dialect =
    ("mooncake", "vLLM", "  kvConnector: {type: mooncake}\n", KvConnector::MooncakeAscend);
pub(super) const SGLANG: Dialect = ("sglang", "SGLang", "", KvConnector::Sglang);
pub(super) const DIALECTS: [Dialect; 5] = [HTTP, LMCACHE, NIXL, MOONCAKE, SGLANG];

/// Pods in pairs.
const PODS: [[Pod; 2]; 2] = [
    [("p0", 10, "prefill", "g0"), ("d0", 20, "decode", "g0")],
    [("p1", 11, "prefill", "g0"), ("d1", 21, "decode", "g0")],
];

/// The engines of a test, and the router.
pub(super) struct Fleet {
    pub prefills: Vec<Engine>,
    pub decodes: Vec<Engine>,
    pub harness: Harness,
    /// The shared store of connectors that have one.
    _store: Engine,
}

/// What a client has read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A whole answer, and nothing else.
    Whole,
    /// The beginning of an answer, with so many tokens, and an event that says that it broke off.
    Told(usize),
    /// The beginning of an answer, and the end of the connection.
    Cut,
    /// An error.
    Status(u16),
}

impl Fleet {
    /// Starts engines of both roles, as many as `pairs`, all in one group; `more` belongs to the spec of the ModelServer.
    pub(super) async fn start((_, engine, spec, connector): Dialect, pairs: u8, more: &str) -> Self {
        let network = Network::new();
        let store = network.engine(30, "store").await;
        let config = |role| EngineConfig {
            output_tokens: Some(TOKENS as u64),
            kv_connector: Some(connector),
            kv_role: role,
            kv_bootstrap_port: (role == KvRole::Prefill && connector == KvConnector::Sglang).then_some(8998),
            kv_store: Some(store.addresses()[0]),
            kv_hold_timeout: HOLD,
            ..EngineConfig::new("m")
        };
        let pods = PODS[..usize::from(pairs)].concat();
        let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
        for (_, host, role, _) in &pods {
            if *role == "prefill" {
                prefills.push(network.engine_with(*host, config(KvRole::Prefill)).await);
            } else {
                decodes.push(network.engine_with(*host, config(KvRole::Decode)).await);
            }
        }
        let harness = start(network, engine, &format!("{spec}{more}"), ALWAYS, &pods).await;
        Self { prefills, decodes, harness, _store: store }
    }

    pub(super) fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.prefills.iter().chain(&self.decodes)
    }

    /// Returns a request for a chat, on a connection of its own.
    pub(super) fn request(&self) -> ClientRequest {
        let url = format!("http://{}:{PORT}/v1/chat/completions", self.harness.host(1));
        Client::builder().disable_timeout().finish().post(url).force_close()
    }

    /// Asks for a chat, and reads the answer to its end, whatever that is.
    pub(super) async fn ask(&self, stream: bool) -> Read {
        read(self.request(), chat(stream)).await
    }

    /// Waits until no engine works, holds blocks or waits for another one, and the router counts no request anywhere.
    pub(super) async fn is_idle(&self, case: &str) {
        let is_idle = async || {
            let is_free = |engine: &Engine| {
                let transfers = engine.transfers();
                (engine.running(), engine.waiting(), transfers.held, transfers.sending, transfers.guests)
                    == (0, 0, 0, 0, 0)
            };
            self.engines().all(is_free)
                && self.harness.metric("kthena_router_active_upstream_requests", &[]).await == 0.0
                && self.harness.metric("kthena_router_listener_inflight_requests", &[]).await == 0.0
        };
        self.harness.until(&format!("everybody is free: {case}"), is_idle).await;
    }
}

/// Returns the body of a request for a chat.
pub(super) fn chat(stream: bool) -> Value {
    json!({"model": "public", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 100, "stream": stream})
}

/// Sends a chat, reads all that comes, and checks each byte of it.
pub(super) async fn read(request: ClientRequest, body: Value) -> Read {
    let mut answer = request.send_body(body.to_string()).await.unwrap();
    let status = answer.status().as_u16();
    let is_stream =
        answer.headers().get("content-type").is_some_and(|value| value == "text/event-stream; charset=utf-8");
    let mut text = Vec::new();
    while let Some(Ok(piece)) = answer.next().await {
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8(text).unwrap();
    if status != 200 {
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(error["error"]["message"].is_string(), "{text}");
        return Read::Status(status);
    }
    if is_stream { events(&text) } else { whole(&text) }
}

/// Checks a whole answer: one object of one engine, or its beginning; this client does not tell a broken connection from
/// a closed one.
fn whole(text: &str) -> Read {
    let answer: Value = match serde_json::from_str(text) {
        Ok(answer) => answer,
        Err(error) => {
            assert!(error.is_eof() && text.starts_with("{\"choices\":[{"), "{error}: {text}");
            return Read::Cut;
        }
    };
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(1), "{text}");
    assert_eq!(answer["choices"][0]["message"]["content"], TEXT, "{text}");
    assert_eq!(answer["usage"]["completion_tokens"], TOKENS, "{text}");
    assert!(answer.get("kv_transfer_params").is_none(), "{text}");
    Read::Whole
}

/// Checks a stream of events: all of one answer, in their order, to the end or to an event that says why there is none.
fn events(text: &str) -> Read {
    let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
    assert!(text.ends_with("\n\n"), "an event is cut: {text}");
    let last = events.pop().unwrap();
    let (mut said, mut tokens, mut ids) = (String::new(), 0, Vec::new());
    for event in events {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        assert!(event.get("error").is_none(), "{text}");
        ids.push(event["id"].clone());
        let content = event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        tokens += usize::from(!content.is_empty());
        said.push_str(content);
    }
    ids.dedup();
    assert!(ids.len() <= 1, "events of several answers: {text}");
    if last == "data: [DONE]" {
        assert_eq!((&*said, tokens), (TEXT, TOKENS), "{text}");
        return Read::Whole;
    }
    assert!(last.contains("\"error\""), "{text}");
    assert!(TEXT.starts_with(&said) && tokens < TOKENS, "{text}");
    Read::Told(tokens)
}
