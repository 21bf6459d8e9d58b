//! The table of connectors, and what is new for every attempt.

use std::borrow::Cow;

use super::handover::{Handover, HandoverError};
use super::{mooncake, nixl, sglang, shared};

/// The port where prefill engines of Mooncake and SGLang meet decode engines, unless they are configured otherwise:
/// `VLLM_MOONCAKE_BOOTSTRAP_PORT` and `--disaggregation-bootstrap-port`.
pub const BOOTSTRAP_PORT: u16 = 8998;

/// How KV cache goes from a prefill engine to a decode engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Connector {
    /// A store that both engines look up by content.
    #[default]
    Http,
    /// LMCache, as a store that both engines share.
    Lmcache,
    /// vLLM's `NixlConnector`.
    Nixl,
    /// vLLM's `MooncakeConnector`, and that of vLLM Ascend.
    Mooncake,
    /// SGLang's own, whichever backend it uses.
    Sglang,
}

/// When the decode engine gets its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// After the prefill engine has answered.
    PrefillFirst,
    /// At the same time: the engines wait for each other.
    Together,
}

/// What is known of a connector.
#[derive(Debug)]
pub struct Protocol {
    /// The name, as in a ModelServer, for labels and texts.
    pub name: &'static str,
    /// When the decode engine gets its request.
    pub order: Order,
    /// Whether a decode engine computes a prompt itself that nobody has prefilled.
    pub decodes_alone: bool,
    /// Whether a prefill engine does whole requests as well, which nobody has told it to compute for another one.
    pub prefills_alone: bool,
    /// Whether a prefill must have named what it holds, or else the decode engine would silently compute it again.
    pub(super) hands_over: bool,
    /// Whether a transfer serves one sequence only: several samples or prompts would read blocks that the first one
    /// has freed.
    pub(super) one_sequence: bool,
    /// Whether the prefill has one sequence for each sample, too, because each pair of them meets.
    pub(super) pairs_samples: bool,
    /// Writes the fields that the prefill's body gets.
    pub(super) prefill: fn(&Transfer<'_>) -> String,
    /// Writes the fields that the decode's body gets.
    pub(super) decode: fn(&Transfer<'_>, &Handover) -> Result<String, HandoverError>,
}

/// What the two legs of one attempt know of each other; it is made anew for every attempt, because an engine may still
/// hold what an earlier one began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer<'t> {
    /// A number that no other attempt has; uniformly random.
    pub id: u128,
    /// The prefill engine's host: its address or name, an IPv6 address without brackets.
    pub prefill_host: Cow<'t, str>,
    /// Where the prefill engine meets decode engines.
    pub bootstrap_port: u16,
    /// The prefill engine's id, as its bootstrap server tells it ([`engine_ids`](super::engine_ids)); only Mooncake asks for it, and
    /// only where the prefill's answer does not tell.
    pub prefill_engine: Option<Cow<'t, str>>,
}

impl Connector {
    /// All connectors.
    pub const ALL: [Self; 5] = [Self::Http, Self::Lmcache, Self::Nixl, Self::Mooncake, Self::Sglang];

    /// Returns what is known of the connector.
    pub fn protocol(self) -> &'static Protocol {
        match self {
            Self::Http => &shared::HTTP,
            Self::Lmcache => &shared::LMCACHE,
            Self::Nixl => &nixl::NIXL,
            Self::Mooncake => &mooncake::MOONCAKE,
            Self::Sglang => &sglang::SGLANG,
        }
    }
}

impl<'t> Transfer<'t> {
    /// Makes a transfer from the prefill engine on a host, which meets decode engines at [`BOOTSTRAP_PORT`].
    ///
    /// `id` must be uniformly random, and drawn for this attempt alone.
    pub fn new(id: u128, prefill_host: impl Into<Cow<'t, str>>) -> Self {
        let prefill_host = prefill_host.into();
        Self { id, prefill_host, bootstrap_port: BOOTSTRAP_PORT, prefill_engine: None }
    }

    /// Returns the host as a URL has it: an IPv6 address is in brackets.
    pub(super) fn url_host(&self) -> Cow<'_, str> {
        let host = &*self.prefill_host;
        if host.contains(':') { Cow::Owned(format!("[{host}]")) } else { Cow::Borrowed(host) }
    }
}

/// Returns a text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
