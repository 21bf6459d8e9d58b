//! Which calls of an engine's HTTP API are reachable through the router, and what is known of each.
//!
//! Inference calls are those `POST`s below `/v1/` that are named here, and whose JSON body names a model; the list of
//! models and the health of the whole are answered by the router. Everything else an engine serves (its own health, metrics, adapter and cache
//! management, sleep) is for its operator, and reaching it through a public port would let any client change what
//! others are served.
//!
//! Sources: OpenAI API reference; Anthropic API reference; vLLM 0.11, "OpenAI-Compatible Server"; SGLang 0.5, "OpenAI
//! APIs".

use std::borrow::Cow;

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
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/rerank`
    Rerank,
    /// `/v1/score`
    Score,
    /// One of the other calls that are let through.
    Other,
}

/// The facts about the calls of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The path for logs' and metrics' labels; all unknown paths share one, so that labels stay bounded.
    pub label: &'static str,
    /// Whether it generates text, so that a request takes as long as its answer; otherwise a prompt is only read.
    pub generates: bool,
    /// Whether a streamed answer has its usage only on request, by `stream_options.include_usage`.
    pub has_stream_options: bool,
    /// Whether a call only computes an answer, so that a second run on another endpoint does no harm. A response that
    /// the engine stores is one more response, which nobody knows the name of.
    pub repeatable: bool,
}

/// The APIs by their path below `/v1/`. All take a JSON object that names a model, and answer one or, where they
/// generate, a stream of events.
const APIS: [(&str, Api, Traits); 7] = [
    ("chat/completions", Api::ChatCompletions, Traits::generating("/v1/chat/completions", true)),
    ("completions", Api::Completions, Traits::generating("/v1/completions", true)),
    ("responses", Api::Responses, Traits::generating("/v1/responses", false)),
    ("messages", Api::Messages, Traits::generating("/v1/messages", false)),
    ("embeddings", Api::Embeddings, Traits::reading("/v1/embeddings")),
    ("rerank", Api::Rerank, Traits::reading("/v1/rerank")),
    ("score", Api::Score, Traits::reading("/v1/score")),
];

/// The facts about every other call.
const OTHER: Traits = Traits { label: "other", generates: true, has_stream_options: false, repeatable: false };

/// The other calls that are let through, by their path below `/v1/`; engines have more, and not all of them are for
/// clients. What is new has to be named here first.
const OTHERS: [&str; 9] = [
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "detokenize",
    "images/edits",
    "images/generations",
    "messages/count_tokens",
    "moderations",
    "tokenize",
];

impl Call {
    /// Reads a request's method and its path without the query.
    pub fn of(method: &str, path: &str) -> Self {
        match (method, path) {
            ("GET" | "HEAD", "/v1/models" | "/v1/models/") => Self::ListModels,
            ("GET" | "HEAD", "/health" | "/ping") => Self::Health,
            ("GET" | "HEAD", _) if path.starts_with(MODELS) => Self::GetModel,
            ("POST", _) => Api::of(path).map_or(Self::Unserved, Self::Inference),
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
fn decoded(text: &str) -> Option<Vec<u8>> {
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

impl Traits {
    const fn generating(label: &'static str, has_stream_options: bool) -> Self {
        Self { label, generates: true, has_stream_options, repeatable: true }
    }

    const fn reading(label: &'static str) -> Self {
        Self { label, generates: false, has_stream_options: false, repeatable: true }
    }
}

impl Api {
    fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        if let Some((_, api, _)) = APIS.iter().find(|(path, ..)| *path == rest) {
            return Some(*api);
        }
        OTHERS.contains(&rest).then_some(Self::Other)
    }

    /// Returns what is known of the calls of the API.
    pub fn traits(self) -> Traits {
        APIS.iter().find(|(_, api, _)| *api == self).map_or(OTHER, |(.., traits)| *traits)
    }

    /// Returns the path for logs' and metrics' labels.
    pub fn label(self) -> &'static str {
        self.traits().label
    }

    /// Returns whether a streamed answer has its usage only on request, by `stream_options.include_usage`.
    pub fn has_stream_options(self) -> bool {
        self.traits().has_stream_options
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
            ("POST", "/v1/audio/speech", Call::Inference(Api::Other)),
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
            ("POST", "/v1/responses/resp_1/cancel", Call::Unserved),
            ("GET", "/v1/models/", Call::ListModels),
            ("HEAD", "/v1/models/m", Call::GetModel),
            ("POST", "/v1/models/m", Call::Unserved),
            ("POST", "/v1/unknown", Call::Unserved),
            ("POST", "/v1/pause", Call::Unserved),
            ("POST", "/v1/update_weights_from_tensor", Call::Unserved),
            ("POST", "/v1/messages/count_tokens", Call::Inference(Api::Other)),
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
    fn every_api_stands_in_the_table_once() {
        for (path, api, traits) in APIS {
            assert_eq!(Call::of("POST", traits.label), Call::Inference(api), "{path}");
            assert_eq!((api.traits(), traits.label), (traits, &*format!("/v1/{path}")));
        }
        assert_eq!(Api::Other.traits(), OTHER);
    }
}
