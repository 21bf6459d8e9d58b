//! Prefers the endpoint that holds most of the prompt, as the Go router's runtime sidecars tell in Redis.
//!
//! Score: `leading blocks that its Pod holds / blocks of the prompt`. The blocks are looked up before the pick, within a
//! deadline; a request of which nothing was found in time is neutral everywhere.

use super::arguments::{Arguments, BadArgument};
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// Stands for an argument that is not given; it is larger than any port.
const NO_PORT: u32 = 1 << 16;

/// The kvcache-aware score, and how blocks are looked up for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvcacheAware {
    /// Tokens of a block.
    pub block_size: usize,
    /// Blocks of a prompt that are looked up.
    pub most_blocks: usize,
    /// The port at which vLLM is asked for tokens; `None` for the one that it serves requests at.
    pub vllm_port: Option<u16>,
    /// The port at which SGLang is.
    pub sglang_port: Option<u16>,
}

impl KvcacheAware {
    /// The plugin's name.
    pub const NAME: &str = "kvcache-aware";

    /// Makes it.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number that is not above 0, or is no port.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        let mut port = |name| {
            let port = arguments.count(name, NO_PORT)?;
            if port == NO_PORT {
                return Ok(None);
            }
            let bad = |_| BadArgument::OutOfBounds { name, value: port.into(), bounds: "a port" };
            u16::try_from(port).map(Some).map_err(bad)
        };
        let (vllm_port, sglang_port) = (port("vllmTokenizerPort")?, port("sglangTokenizerPort")?);
        let mut count =
            |name, default| arguments.count(name, default).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let (block_size, most_blocks) = (count("blockSizeToHash", 16)?, count("maxBlocksToMatch", 128)?);
        Ok(Self { block_size, most_blocks, vllm_port, sglang_port })
    }
}

impl Score for KvcacheAware {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than seven digits")]
    fn rate(&self, request: &PickRequest<'_>, _: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        let Some(owners) = request.owners.filter(|owners| !owners.held.is_empty()) else { return };
        for (candidate, rate) in candidates.iter().zip(rates) {
            let held = owners.held.get(&candidate.endpoint.pod).copied().unwrap_or_default();
            *rate = held as f32 / owners.blocks.max(1) as f32;
        }
    }
}
