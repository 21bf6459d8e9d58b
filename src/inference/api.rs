//! Which paths of an engine's HTTP API are reachable through the router.
//!
//! Inference calls are `POST`s below `/v1/` whose JSON body names a model; `GET /v1/models` is answered by the router.
//! Everything else an engine serves (health, metrics, adapter and cache management, sleep) is for its operator, and
//! reaching it through a public port would let any client change what others are served.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The list of models.
    ListModels,
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
    /// Any other path below `/v1/`.
    Other,
}

/// First segments below `/v1/` that manage the engine instead of using it: vLLM's and SGLang's names.
const MANAGEMENT: [&str; 12] = [
    "abort_request",
    "close_session",
    "collective_rpc",
    "flush_cache",
    "load_lora_adapter",
    "open_session",
    "reset_mm_cache",
    "reset_prefix_cache",
    "sleep",
    "unload_lora_adapter",
    "update_weights_from_disk",
    "wake_up",
];

impl Call {
    /// Reads a request's method and its path without the query.
    pub fn of(method: &str, path: &str) -> Self {
        match (method, path) {
            ("GET" | "HEAD", "/v1/models") => Self::ListModels,
            ("POST", _) => Api::of(path).map_or(Self::Unserved, Self::Inference),
            _ => Self::Unserved,
        }
    }
}

impl Api {
    fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        Some(match rest {
            "chat/completions" => Self::ChatCompletions,
            "completions" => Self::Completions,
            "responses" => Self::Responses,
            "messages" => Self::Messages,
            "embeddings" => Self::Embeddings,
            "rerank" => Self::Rerank,
            "score" => Self::Score,
            _ if is_plain(rest) && !rest.split('/').any(|segment| MANAGEMENT.contains(&segment)) => Self::Other,
            _ => return None,
        })
    }

    /// Returns the path for logs' and metrics' labels; all unknown paths share one, so that labels stay bounded.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
            Self::Rerank => "/v1/rerank",
            Self::Score => "/v1/score",
            Self::Other => "other",
        }
    }

    /// Returns whether a streamed answer has its usage only on request, by `stream_options.include_usage`.
    pub const fn has_stream_options(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }
}

/// Returns whether a path has one reading only: no empty or dot segments, nothing encoded.
///
/// An engine might normalise `/v1/x/../sleep` or `/v1/%73leep` to a path that the router would not have forwarded.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|segment| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    })
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
        ] {
            assert_eq!(Call::of(method, path), expected, "{method} {path}");
        }
    }
}
