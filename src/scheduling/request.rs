//! What a request tells of itself before an endpoint is picked.

use std::net::SocketAddr;
use std::sync::Arc;

use super::owners::Owners;
use crate::inference::kv_events::known::Likeness;
use crate::inference::prompt::BlockHash;

/// The facts of a request that are the same for all of its attempts; the default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The model, by the name that the engines know; empty for a request that names none.
    pub model: Arc<str>,
    /// The LoRA adapter, by the name that the engines know.
    pub adapter: Option<Arc<str>>,
    /// The prompt, block by block.
    pub prefix: Vec<BlockHash>,
    /// The tokens of the prompt, as far as its bytes tell.
    pub tokens: u32,
    /// Whether the answer is to stream.
    pub streams: bool,
    /// How important the request is; those below 0 are refused while a pool is saturated.
    pub priority: i32,
    /// What all requests of one session have in common, which is to stay at one endpoint.
    pub session: Option<Arc<str>>,
    /// What the client says that its requests with one prompt have in common.
    pub mark: Option<BlockHash>,
    /// What its prompt has in common with one whose tokens are known; `None` where no endpoint tells of its cache.
    pub likeness: Option<Likeness>,
    /// Which Pods hold its prompt, as Redis has it; `None` where nobody has looked, or nothing was told in time.
    pub owners: Option<Owners>,
    /// Whether two endpoints may work on it, in a pool that has roles.
    pub split: Split,
}

/// Whether the prompt of a request may be computed by another endpoint than the one that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// It may not, for this reason in one word.
    Never(&'static str),
    /// It may.
    Allowed {
        /// Whether an endpoint that decodes may also do all of it.
        alone: bool,
        /// Whether one that prefills may, too.
        anywhere: bool,
    },
}

impl Split {
    /// Two endpoints could, and those that compute prompts have failed the request.
    pub const PREFILL_FAILED: Self = Self::Never("prefill_failed");
}

impl Default for Split {
    /// Of a request that tells nothing of itself it is not known that it has a prompt.
    fn default() -> Self {
        Self::Never("no_prompt")
    }
}

/// One attempt of a request, which wants an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'r> {
    /// The model, by the name that the engines know; empty for a request that names none.
    pub model: &'r str,
    /// The LoRA adapter, by the name that the engines know.
    pub adapter: Option<&'r str>,
    /// The prompt, block by block.
    pub prefix: &'r [BlockHash],
    /// The tokens of the prompt, as far as its bytes tell.
    pub tokens: u32,
    /// Whether the answer is to stream.
    pub streams: bool,
    /// How important the request is.
    pub priority: i32,
    /// What all requests of one session have in common, which is to stay at one endpoint.
    pub session: Option<&'r str>,
    /// What the client says that its requests with one prompt have in common.
    pub mark: Option<BlockHash>,
    /// What its prompt has in common with one whose tokens are known.
    pub likeness: Option<&'r Likeness>,
    /// Which Pods hold its prompt, as Redis has it.
    pub owners: Option<&'r Owners>,
    /// Whether two endpoints may work on it, in a pool that has roles.
    pub split: Split,
    /// Where earlier attempts of the request failed.
    pub tried: &'r [SocketAddr],
}

impl RequestFacts {
    /// Returns the attempt that follows those that failed at `tried`.
    pub fn attempt<'r>(&'r self, tried: &'r [SocketAddr]) -> PickRequest<'r> {
        PickRequest {
            model: &self.model,
            adapter: self.adapter.as_deref(),
            prefix: &self.prefix,
            tokens: self.tokens,
            streams: self.streams,
            priority: self.priority,
            session: self.session.as_deref(),
            mark: self.mark,
            likeness: self.likeness.as_ref(),
            owners: self.owners.as_ref(),
            split: self.split,
            tried,
        }
    }
}
