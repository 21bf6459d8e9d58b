//! Which calls of an engine's HTTP API are reachable through the router, and what is known of each.
//!
//! Inference calls are those that are named here; the list of models and the health of the whole are answered by the
//! router. Everything else an engine serves (its own health, metrics, adapter and cache management, sleep) is for its
//! operator, and reaching it through a public port would let any client change what others are served.
//!
//! Sources: OpenAI API reference; Anthropic API reference; Jina and Cohere, "Rerank"; vLLM 0.11, "OpenAI-Compatible
//! Server"; SGLang 0.5, "OpenAI APIs".

use std::borrow::Cow;

use super::response_id::asked_for;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The list of models.
    ListModels,
    /// One of the models; [`model_in`] says which.
    GetModel,
    /// Whether there is anybody to ask.
    Health,
    /// An inference, to be forwarded.
    Inference(Api),
    /// A response that an engine keeps, by its id: [`asked_for`] says which one.
    StoredResponse,
    /// Something that the router does not serve.
    Unserved,
}

/// An inference API, known by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/rerank`, `/v2/rerank`, `/rerank`
    Rerank,
    /// `/v1/score`, `/score`
    Score,
    /// `/v1/classify`, `/classify`
    Classify,
    /// `/v1/pooling`, `/pooling`
    Pooling,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/tokenize`, `/tokenize`
    Tokenize,
    /// `/v1/detokenize`, `/detokenize`
    Detokenize,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/audio/transcriptions`
    Transcriptions,
    /// `/v1/audio/translations`
    Translations,
    /// `/v1/images/generations`
    ImageGenerations,
    /// `/v1/images/edits`
    ImageEdits,
    /// `/v1/images/variations`
    ImageVariations,
    /// `/v1/realtime`
    Realtime,
}

/// Where a call says which model it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A field `model` of a JSON object.
    Json,
    /// The same, or a field `model` of a form (`multipart/form-data`).
    Form,
    /// The parameter `model` of the query: there is no body, and the connection changes to WebSocket.
    Query,
}

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A JSON object, or a stream of events where one is asked for and the API [streams](Traits::streams).
    Json,
    /// Bytes of some medium: nothing in them is for the router.
    Binary,
    /// Messages of WebSocket.
    Messages,
}

/// The facts about the calls of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The path for logs' and metrics' labels; all paths of an API share one, so that labels stay bounded.
    pub label: &'static str,
    /// Where a call names its model.
    pub body: Body,
    /// What it is answered with.
    pub answer: Answer,
    /// Whether an answer may be a stream of events.
    pub streams: bool,
    /// Whether it generates, so that a request takes as long as its answer; otherwise a prompt is only read.
    pub generates: bool,
    /// Whether a streamed answer has its usage only on request, by `stream_options.include_usage`.
    pub has_stream_options: bool,
    /// Whether a call only computes an answer, so that a second run on another endpoint does no harm, and its body is worth
    /// keeping for that. A response that the engine stores is one more response, which nobody knows the name of; a file
    /// is too large.
    pub repeatable: bool,
}

/// What most calls are.
const READING: Traits = Traits {
    label: "",
    body: Body::Json,
    answer: Answer::Json,
    streams: false,
    generates: false,
    has_stream_options: false,
    repeatable: true,
};
const GENERATING: Traits = Traits { streams: true, generates: true, ..READING };
const OF_FILES: Traits = Traits { body: Body::Form, repeatable: false, ..GENERATING };

/// The APIs: the name, the facts, and the paths, the label first; the busiest come first, as they are tried in order.
const APIS: [(Api, Traits, &[&str]); 20] = [
    (Api::ChatCompletions, Traits { has_stream_options: true, ..GENERATING }, &["/v1/chat/completions"]),
    (Api::Completions, Traits { has_stream_options: true, ..GENERATING }, &["/v1/completions"]),
    (Api::Responses, GENERATING, &["/v1/responses"]),
    (Api::Messages, GENERATING, &["/v1/messages"]),
    (Api::Embeddings, READING, &["/v1/embeddings"]),
    (Api::CountTokens, READING, &["/v1/messages/count_tokens"]),
    (Api::Rerank, READING, &["/v1/rerank", "/v2/rerank", "/rerank"]),
    (Api::Score, READING, &["/v1/score", "/score"]),
    (Api::Classify, READING, &["/v1/classify", "/classify"]),
    (Api::Pooling, READING, &["/v1/pooling", "/pooling"]),
    (Api::Moderations, READING, &["/v1/moderations"]),
    (Api::Tokenize, READING, &["/v1/tokenize", "/tokenize"]),
    (Api::Detokenize, READING, &["/v1/detokenize", "/detokenize"]),
    (Api::Speech, Traits { answer: Answer::Binary, ..GENERATING }, &["/v1/audio/speech"]),
    (Api::Transcriptions, OF_FILES, &["/v1/audio/transcriptions"]),
    (Api::Translations, OF_FILES, &["/v1/audio/translations"]),
    (Api::ImageGenerations, Traits { repeatable: false, ..GENERATING }, &["/v1/images/generations"]),
    (Api::ImageEdits, OF_FILES, &["/v1/images/edits"]),
    (Api::ImageVariations, OF_FILES, &["/v1/images/variations"]),
    (
        Api::Realtime,
        Traits { body: Body::Query, answer: Answer::Messages, repeatable: false, ..GENERATING },
        &["/v1/realtime"],
    ),
];

impl Call {
    /// Reads a request's method and its path without the query.
    pub fn of(method: &str, path: &str) -> Self {
        match (method, path) {
            _ if asked_for(method, path).is_some() => Self::StoredResponse,
            ("POST", _) => Api::of(path).map_or(Self::Unserved, Self::Inference),
            ("GET" | "HEAD", "/v1/models" | "/v1/models/") => Self::ListModels,
            ("GET" | "HEAD", "/health" | "/ping") => Self::Health,
            ("GET" | "HEAD", _) if path.starts_with(MODELS) => Self::GetModel,
            ("GET", "/v1/realtime") => Self::Inference(Api::Realtime),
            _ => Self::Unserved,
        }
    }
}

/// The path that the name of a model follows.
const MODELS: &str = "/v1/models/";

/// Returns the name of the model that the path of [`Call::GetModel`] ends in: it may have slashes, and what is encoded
/// is decoded; `None` for a name that is not UTF-8, or empty.
pub fn model_in(path: &str) -> Option<Cow<'_, str>> {
    let name = path.strip_prefix(MODELS)?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let name =
        if name.contains('%') { Cow::Owned(String::from_utf8(decoded(name)?).ok()?) } else { Cow::Borrowed(name) };
    Some(name).filter(|name| !name.is_empty())
}

/// Decodes a text with `%` and two digits for bytes; `None` if it is not one.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = str::from_utf8(after.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(bytes)
}

impl Api {
    /// Returns the API that a `POST` to a path calls.
    fn of(path: &str) -> Option<Self> {
        let (api, traits, _) = APIS.iter().find(|(.., paths)| paths.contains(&path))?;
        Some(*api).filter(|_| traits.body != Body::Query)
    }

    /// Returns what is known of the calls of the API.
    pub fn traits(self) -> Traits {
        let (_, traits, paths) = APIS.iter().find(|(api, ..)| *api == self).unwrap_or(&APIS[0]);
        Traits { label: paths[0], ..*traits }
    }

    /// Returns all of those labels.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        APIS.iter().map(|(.., paths)| paths[0])
    }

    /// Returns the path for logs' and metrics' labels.
    pub fn label(self) -> &'static str {
        self.traits().label
    }

    /// Returns whether a streamed answer has its usage only on request, by `stream_options.include_usage`.
    pub fn has_stream_options(self) -> bool {
        self.traits().has_stream_options
    }

    /// Returns whether errors have the shape of Anthropic's API, and not OpenAI's.
    pub fn is_of_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inference_is_forwarded_and_management_is_not() {
        for (method, path, expected) in [
            ("POST", "/v1/chat/completions", Call::Inference(Api::ChatCompletions)),
            ("POST", "/v1/completions", Call::Inference(Api::Completions)),
            ("POST", "/v1/audio/speech", Call::Inference(Api::Speech)),
            ("POST", "/v2/rerank", Call::Inference(Api::Rerank)),
            ("POST", "/tokenize", Call::Inference(Api::Tokenize)),
            ("GET", "/v1/realtime", Call::Inference(Api::Realtime)),
            ("POST", "/v1/realtime", Call::Unserved),
            ("GET", "/v1/realtime/", Call::Unserved),
            ("GET", "/tokenize", Call::Unserved),
            ("GET", "/v1/models", Call::ListModels),
            ("GET", "/v1/chat/completions", Call::Unserved),
            ("POST", "/v1/load_lora_adapter", Call::Unserved),
            ("POST", "/v1/unload_lora_adapter", Call::Unserved),
            ("POST", "/v1/x/../load_lora_adapter", Call::Unserved),
            ("POST", "/v1//load_lora_adapter", Call::Unserved),
            ("POST", "/v1/%6coad_lora_adapter", Call::Unserved),
            ("POST", "/v1/./sleep", Call::Unserved),
            ("POST", "/v1/completions/", Call::Unserved),
            ("POST", "/v1/", Call::Unserved),
            ("POST", "/sleep", Call::Unserved),
            ("POST", "/reset_prefix_cache", Call::Unserved),
            ("GET", "/metrics", Call::Unserved),
            ("POST", "/V1/completions", Call::Unserved),
            ("POST", "/v1/responses/resp_1/cancel", Call::StoredResponse),
            ("GET", "/v1/responses/resp_1", Call::StoredResponse),
            ("GET", "/v1/responses", Call::Unserved),
            ("GET", "/v1/models/", Call::ListModels),
            ("HEAD", "/v1/models/m", Call::GetModel),
            ("POST", "/v1/models/m", Call::Unserved),
            ("POST", "/v1/unknown", Call::Unserved),
            ("POST", "/v1/pause", Call::Unserved),
            ("POST", "/v1/update_weights_from_tensor", Call::Unserved),
            ("POST", "/v1/messages/count_tokens", Call::Inference(Api::CountTokens)),
            ("GET", "/health", Call::Health),
            ("GET", "/ping", Call::Health),
            ("POST", "/health", Call::Unserved),
        ] {
            assert_eq!(Call::of(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_model_is_named_by_the_rest_of_the_path() {
        for (path, expected) in [
            ("/v1/models/m", Some("m")),
            ("/v1/models/m/", Some("m")),
            ("/v1/models/Qwen/Qwen3-8B", Some("Qwen/Qwen3-8B")),
            ("/v1/models/Qwen%2FQwen3-8B", Some("Qwen/Qwen3-8B")),
            ("/v1/models/gr%C3%B6%c3%9fer", Some("größer")),
            ("/v1/models/%ff", None),
            ("/v1/models/%2", None),
            ("/v1/models/%+1", None),
            ("/v1/models//", None),
            ("/v1/models", None),
        ] {
            assert_eq!(model_in(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn every_api_and_every_path_stands_in_the_table_once() {
        let paths: Vec<_> = APIS.iter().flat_map(|(.., paths)| *paths).collect();
        for (api, traits, paths) in APIS {
            let method = if traits.body == Body::Query { "GET" } else { "POST" };
            for path in paths {
                assert_eq!(Call::of(method, path), Call::Inference(api), "{path}");
            }
            assert_eq!(api.traits(), Traits { label: paths[0], ..traits });
        }
        let mut once = paths.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), paths.len());
    }

    #[test]
    fn what_is_known_of_calls_fits_together() {
        for (api, traits, _) in APIS {
            assert!(!traits.has_stream_options || traits.streams, "{api:?}");
            assert!(!traits.streams || traits.generates, "{api:?}: only what is generated comes bit by bit");
            assert!(traits.body == Body::Json || !traits.repeatable, "{api:?}: a file is not kept");
        }
    }
}
