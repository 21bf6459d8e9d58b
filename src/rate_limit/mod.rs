//! How many requests for a model there may be in a unit of time and at the same time, and how many tokens they may use.
//!
//! A request *takes* what it may need before it is sent: itself, the tokens of its prompt by an [`Estimate`], and those that its answer may have.
//! When it has ended, it is *settled* what it has used ([`Work::charge`]), and the rest is given back. So requests at the
//! same time cannot take more than there is, whatever they use later.
//!
//! | the request | requests | prompt | answer |
//! |---|---|---|---|
//! | was not sent | nothing | nothing | nothing |
//! | was refused by the engine (4xx, 5xx) | one | nothing | nothing |
//! | was answered whole | one | the estimate, or the engine's count if that is more | the engine's count |
//! | broke off, or its client left, while it was answered | one | the estimate | the events that were passed on |
//! | its client left before the answer began | one | the estimate | nothing |
//!
//! However often a request is sent, it is charged once.
//!
//! Source: the ModelRoute API, `spec.rateLimit`; the Go router counts prompts by the same estimate and knows no other
//! count of them, which is why an engine that counts less does not lower it. `requestsPerUnit`, `concurrentRequests` and
//! `perClient` are this router's own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::inference::usage::Usage;
use crate::kinds::model_route::{RateLimit, RateLimitUnit};
use crate::object::ObjectKey;

pub use self::clients::{ClientId, LimitMeters};
pub use self::estimate::Estimate;
pub use self::meter::{Meter, Place, Taken};
pub use self::rate::{Amounts, Exceeded, Quantity, Rate};

mod clients;
mod estimate;
mod meter;
mod rate;
pub mod shared;
pub mod told;

#[cfg(test)]
mod tests;

/// The limits of a ModelRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Whose requests are counted.
    pub key: LimitKey,
    /// How many there may be in a unit of time, in the order of [`Quantity::ALL`]; `None` for what is not limited.
    pub rates: [Option<Rate>; 3],
    /// How many requests there may be at the same time, of each replica of the router.
    pub concurrent: Option<u32>,
    /// The `host:port` of the Redis in which all replicas of the router count together; each counts its own without.
    pub redis: Option<Arc<str>>,
}

/// What shares one count: all ModelRoutes of a namespace that serve the same model name, with their adapters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey {
    /// The namespace of the routes.
    pub namespace: Arc<str>,
    /// The model's name; for a route of adapters only, the route's own.
    pub model: Arc<str>,
}

/// What is known at the end of a request that took tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether the request was sent to an engine.
    pub sent: bool,
    /// The status of the engine's answer, if it has begun.
    pub answered: Option<u16>,
    /// Whether the answer was passed on to its end.
    pub whole: bool,
    /// What the engine says it used, if it got as far as that.
    pub usage: Option<Usage>,
    /// The events of a stream that were passed on.
    pub events: u32,
}

/// What a request has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// 1 if it counts as a request.
    pub requests: u64,
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

impl RateLimits {
    /// Reads the limits of a valid ModelRoute that serves `model`, or adapters only; `None` if nothing is limited.
    pub fn of(route: &ObjectKey, model: Option<&Arc<str>>, limit: &RateLimit) -> Option<Self> {
        let unit = unit(limit.unit);
        let rate = |amount: Option<u32>| amount.filter(|amount| *amount > 0).map(|amount| Rate { amount, unit });
        let rates = [limit.requests_per_unit, limit.input_tokens_per_unit, limit.output_tokens_per_unit].map(rate);
        let concurrent = limit.concurrent_requests.filter(|most| *most > 0);
        let has_rates = rates.iter().any(Option::is_some);
        if !has_rates && concurrent.is_none() {
            return None;
        }
        let model = model.unwrap_or(&route.name);
        let key = LimitKey { namespace: Arc::clone(&route.namespace), model: Arc::clone(model) };
        let redis = limit.global.as_ref().and_then(|global| global.redis.as_ref()).filter(|_| has_rates);
        Some(Self { key, rates, concurrent, redis: redis.map(|redis| Arc::from(&*redis.address)) })
    }

    /// Returns the rate of a quantity, if it is limited.
    pub fn rate(&self, quantity: Quantity) -> Option<Rate> {
        self.rates[quantity as usize]
    }
}

impl Charge {
    /// Returns how many of each quantity, in the order of [`Quantity::ALL`].
    pub fn amounts(self) -> [u64; 3] {
        [self.requests, self.input, self.output]
    }
}

impl Work {
    /// Returns what a request is charged whose prompt was estimated at so many tokens.
    pub fn charge(&self, input: u32) -> Charge {
        let (input, usage) = (u64::from(input), self.usage.unwrap_or_default());
        match self.answered {
            // An engine had to look at it, and clients that go on asking for what is refused are to be slowed down.
            Some(400..) => Charge { requests: 1, ..Charge::default() },
            Some(_) => {
                // What was not counted has a token for each event, as a rule.
                let counted = self.whole && self.usage.is_some();
                let seen = if counted { 0 } else { u64::from(self.events) };
                let (input, output) = (input.max(usage.prompt_tokens), seen.max(usage.completion_tokens));
                Charge { requests: 1, input, output }
            }
            None if self.sent => Charge { requests: 1, input, output: 0 },
            None => Charge::default(),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.model)
    }
}

/// Returns the length of a unit; a month has 30 days.
fn unit(unit: RateLimitUnit) -> Duration {
    const HOUR: u64 = 60 * 60;
    Duration::from_secs(match unit {
        RateLimitUnit::Second => 1,
        RateLimitUnit::Minute => 60,
        RateLimitUnit::Hour => HOUR,
        RateLimitUnit::Day => 24 * HOUR,
        RateLimitUnit::Month => 30 * 24 * HOUR,
    })
}
