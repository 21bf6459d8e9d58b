//! The filters and scores that a configuration can name: one table, one file for each of them.
//!
//! The names are those of the Go kthena-router. A new plugin is one file and one line in a table.

use super::picker::{Filter, Score};
use arguments::{Arguments, BadArgument};

pub mod arguments;
pub mod expected_wait;
pub mod gpu_usage;
pub mod kv_cache_source;
pub mod kvcache_aware;
pub mod least_latency;
pub mod least_request;
pub mod lora_affinity;
pub mod predicted_latency;
pub mod prefix_cache;
pub mod random;
pub mod remote_prefill;
pub mod serving;
pub mod session;

/// Makes a score of its arguments.
pub type MakeScore = fn(&mut Arguments) -> Result<Box<dyn Score>, BadArgument>;

/// Makes a filter of its arguments.
pub type MakeFilter = fn(&mut Arguments) -> Result<Box<dyn Filter>, BadArgument>;

/// Every score by its name.
pub const SCORES: &[(&str, MakeScore)] = &[
    ("expected-wait", |_| Ok(Box::new(expected_wait::ExpectedWait))),
    ("gpu-usage", |_| Ok(Box::new(gpu_usage::GpuUsage))),
    (kvcache_aware::KvcacheAware::NAME, |arguments| Ok(Box::new(kvcache_aware::KvcacheAware::of(arguments)?))),
    ("least-latency", |arguments| Ok(Box::new(least_latency::LeastLatency::of(arguments)?))),
    ("least-request", |arguments| Ok(Box::new(least_request::LeastRequest::of(arguments)?))),
    ("predicted-latency", |arguments| Ok(Box::new(predicted_latency::PredictedLatency::of(arguments)?))),
    ("prefix-cache", |arguments| Ok(Box::new(prefix_cache::PrefixCache::of(arguments)?))),
    ("random", |_| Ok(Box::new(random::Random))),
];

/// Every filter by its name.
pub const FILTERS: &[(&str, MakeFilter)] = &[
    ("least-request", |arguments| Ok(Box::new(least_request::FewWaiting::of(arguments)?))),
    ("lora-affinity", |_| Ok(Box::new(lora_affinity::LoraAffinity))),
];

/// Sees whether what is neither filter nor score can be made of its arguments.
pub type Check = fn(&mut Arguments) -> Result<(), BadArgument>;

/// Everything else that takes arguments, by its name.
pub const OTHERS: &[(&str, Check)] = &[
    (kv_cache_source::KvCacheSource::NAME, |arguments| kv_cache_source::KvCacheSource::of(arguments).map(drop)),
    (remote_prefill::RemotePrefill::NAME, |arguments| remote_prefill::RemotePrefill::of(arguments).map(drop)),
];

#[cfg(test)]
mod tests;
