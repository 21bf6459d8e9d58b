//! Whether the prompt of a request is computed by another endpoint than the one that answers.
//!
//! ```text
//! here      = (backlog + uncached x harm) / rate           at the endpoint that would do all of the request
//! elsewhere = (backlog + uncached) / rate                  at the quickest endpoint that prefills
//!           + second leg + tokens to transfer / transfer rate
//! harm      = 1 + 0.2 x requests, 16 at most: answers stand still while an engine computes a prompt
//! ```
//!
//! The cheaper one is chosen, `here` where they are equal; a prompt of which fewer than `minUncachedTokens` are to be
//! computed always stays, because an engine computes that many beside its answers. Rates are measured as for
//! [`expected_wait`](super::expected_wait). What is cached where the answer is made need not be transferred either.
//!
//! | argument | default | |
//! |---|---|---|
//! | `minUncachedTokens` | 256 | prompts with fewer tokens to compute stay |
//! | `legMilliseconds` | 20 | what a second request costs, with all that engines do to arrange a transfer |
//! | `transferTokensPerSecond` | 100 000 | 13 GB/s for a model with 128 KiB for each token |
//! | `shortAnywhere` | 1 | prompts of fewer than `minUncachedTokens` tokens may be answered by endpoints that prefill; 0: never |
//! | `always` | 0 | 1: every prompt that may be computed elsewhere is |
//!
//! `shortAnywhere` keeps a fleet with roles as quick with short prompts as one without: their answers hardly disturb those
//! that compute long prompts, and go where the least waits. It holds where the connector's prefill engines can answer.
//!
//! It is no score, and is configured like one: `pluginConfig: [{name: remote-prefill, args: {…}}]`.

use super::arguments::{Arguments, BadArgument};
use super::expected_wait::{mean_pace, rate_of};
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::request::{PickRequest, Split};
use crate::scheduling::witness::Course;

/// What each request at an endpoint adds to the weight of a token that it has to compute, and the largest such weight: more
/// than in a pool without roles, where every engine computes prompts. Whoever divides one wants answers that do not stop.
const HARM: (f32, f32) = (0.2, 16.0);

/// When a prompt is computed by another endpoint than the one that answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RemotePrefill {
    /// Prompts with fewer tokens to compute stay where the answer is made.
    min_uncached: u32,
    /// Seconds that a second leg costs.
    leg: f32,
    /// Tokens whose part of a KV cache is transferred in a second.
    transfer: f32,
    /// Whether short prompts may be answered by endpoints that prefill.
    short_anywhere: bool,
    /// Whether all prompts are computed elsewhere that may be.
    always: bool,
}

impl Default for RemotePrefill {
    fn default() -> Self {
        Self { min_uncached: 256, leg: 0.02, transfer: 100_000.0, short_anywhere: true, always: false }
    }
}

impl RemotePrefill {
    /// The name in configuration files.
    pub const NAME: &'static str = "remote-prefill";
    /// The prompt is short, or so much of it is cached that the rest is.
    const SHORT: &'static str = "short";
    /// Most of the prompt is cached where the answer is made.
    const CACHED: &'static str = "cached";

    /// Reads arguments.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number out of bounds.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        let default = Self::default();
        let leg = arguments.count_or_none("legMilliseconds", 20)?;
        let transfer = arguments.count("transferTokensPerSecond", 100_000)?;
        #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
        let (leg, transfer) = (leg as f32 / 1000.0, transfer as f32);
        let min_uncached = arguments.count_or_none("minUncachedTokens", default.min_uncached)?;
        let short_anywhere = arguments.part("shortAnywhere", 1.0)? > 0.5;
        Ok(Self { min_uncached, leg, transfer, short_anywhere, always: arguments.part("always", 0.0)? > 0.5 })
    }

    /// Returns whether a request may as well be answered by an endpoint that prefills: its prompt is so short that no other
    /// endpoint would be asked to compute it.
    pub fn leaves_anywhere(&self, request: &PickRequest<'_>) -> bool {
        let may = matches!(request.split, Split::Allowed { anywhere: true, .. });
        may && self.short_anywhere && !self.always && request.tokens < self.min_uncached
    }

    /// Decides for a request that `here` would do alone, and whose prompt one of `others` could compute. An answer other
    /// than [`Course::REMOTE`] leaves it there.
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
    pub fn decide(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        here: &Candidate<'_>,
        others: &[Candidate<'_>],
    ) -> Course {
        let mean = mean_pace(others);
        let rate = |candidate: &Candidate<'_>| rate_of(candidate, mean, pool.is_shared);
        let uncached = here.uncached(request);
        let harm = |load: u32| (1.0 + HARM.0 * load as f32).min(HARM.1);
        let cost = |tokens: u32| (here.ledger.backlog() as f32 + tokens as f32 * harm(here.load())) / rate(here);
        let elsewhere = others.iter().map(|candidate| {
            (candidate.ledger.backlog() as f32 + candidate.uncached(request) as f32) / rate(candidate)
        });
        let elsewhere = elsewhere.fold(f32::INFINITY, f32::min) + self.leg;
        let remote = |transferred: u32| elsewhere + transferred as f32 / self.transfer;
        let stays = |tokens: u32| tokens < self.min_uncached || cost(tokens) <= remote(tokens);
        let why = if self.always || !stays(uncached) {
            Course::REMOTE
        } else if uncached < request.tokens && !stays(request.tokens) {
            Self::CACHED
        } else {
            Self::SHORT
        };
        Course { why, local: cost(uncached), remote: remote(uncached) }
    }
}
