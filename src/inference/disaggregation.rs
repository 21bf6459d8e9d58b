//! Prefill and decode on two engines: what each of them is asked for, and what the first hands over to the second.
//!
//! A prompt is computed by a *prefill* engine, which generates one token that nobody reads; its KV cache then goes to a
//! *decode* engine, by a *connector* of theirs, and that one answers the client. The router carries no KV cache. It
//! makes two bodies of the client's, and tells the engines how to find each other:
//!
//! | connector | order | prefill gets | decode gets | decode alone |
//! |---|---|---|---|---|
//! | `http`, `lmcache` | one after the other | nothing more | nothing more: engines share a store | yes |
//! | `nixl` | one after the other | `kv_transfer_params` | the `kv_transfer_params` of the prefill's answer | yes |
//! | `mooncake` | one after the other | the same, with a `transfer_id` | the same, or the prefill's bootstrap address | yes |
//! | `sglang` | both at once | `bootstrap_host`, `bootstrap_port`, `bootstrap_room` | the same | no |
//!
//! Use, for each request: [`SplitRequest::read`] once; if it has to stay [`whole`](SplitRequest::whole),
//! [`alone`](SplitRequest::alone) is what the decode engine gets. Else, for each attempt, a new [`Transfer`], whose
//! [`prefill`](SplitRequest::prefill) body goes first, and whose [`decode`](SplitRequest::decode) body is made with the
//! [`Handover`] that was [read](Handover::read) from the prefill's answer, or at the same time with [`Handover::default`].
//! What the client reads of cached tokens is the prefill's to say: [`PromptCounts`].
//!
//! Sources: vLLM, "Disaggregated Prefilling", "NixlConnector Usage Guide", "MooncakeConnector Usage Guide"; vLLM
//! Ascend, "Prefill-Decode Disaggregation"; LMCache, "Disaggregated Prefill"; SGLang, "PD Disaggregation".

pub use connector::{BOOTSTRAP_PORT, Connector, Order, Protocol, Transfer};
pub use handover::{Handover, HandoverError, MAX_ANSWER};
pub use mooncake::engine_ids;
pub use prompt_counts::PromptCounts;
pub use split::{SplitRequest, Whole};

mod connector;
mod handover;
mod mooncake;
mod nixl;
mod prompt_counts;
mod sglang;
mod shared;
mod split;

#[cfg(test)]
mod tests;
