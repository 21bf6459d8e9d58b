//! What clients are told of a limit, in the headers of answers.
//!
//! Source: OpenAI, "Rate limits in headers"; Anthropic's API tells of prompts and answers apart, as this does.

use std::time::Duration;

use super::rate::{Quantity, Rate};

/// The names of the headers of one quantity: the limit, what is left of it, and the time until it is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// How many in a unit of time.
    pub limit: &'static str,
    /// How many are left.
    pub remaining: &'static str,
    /// Time until all are there again, as `1h2m3.5s`.
    pub reset: &'static str,
}

impl Quantity {
    /// Returns the names of the headers that tell of it.
    pub const fn headers(self) -> Names {
        match self {
            Self::Requests => Names {
                limit: "x-ratelimit-limit-requests",
                remaining: "x-ratelimit-remaining-requests",
                reset: "x-ratelimit-reset-requests",
            },
            Self::Input => Names {
                limit: "x-ratelimit-limit-input-tokens",
                remaining: "x-ratelimit-remaining-input-tokens",
                reset: "x-ratelimit-reset-input-tokens",
            },
            Self::Output => Names {
                limit: "x-ratelimit-limit-output-tokens",
                remaining: "x-ratelimit-remaining-output-tokens",
                reset: "x-ratelimit-reset-output-tokens",
            },
        }
    }
}

/// How a limit stands after a request has taken its part, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is limited.
    pub quantity: Quantity,
    /// The limit.
    pub rate: Rate,
    /// How many are left.
    pub left: u32,
    /// Time until all are there again.
    pub reset: Duration,
}

impl Standing {
    /// Returns the headers that tell of it.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let Names { limit, remaining, reset } = self.quantity.headers();
        [(limit, self.rate.amount.to_string()), (remaining, self.left.to_string()), (reset, span(self.reset))]
    }
}

/// Returns a time as OpenAI's headers have it: `250ms`, `7.5s`, `6m0s`.
pub fn span(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Returns a limit in words: `30 input tokens per minute`.
pub fn limit(quantity: Quantity, rate: Rate) -> String {
    let unit = match rate.unit.as_secs() {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        86_400 => "day",
        _ => "month",
    };
    let what = match quantity {
        Quantity::Requests => "request",
        Quantity::Input => "input token",
        Quantity::Output => "output token",
    };
    format!("{} {what}{} per {unit}", rate.amount, plural(rate.amount))
}

/// Returns a limit on requests at the same time in words: `4 requests at a time`.
pub fn concurrent_limit(most: u32) -> String {
    format!("{most} request{} at a time", plural(most))
}

fn plural(amount: u32) -> &'static str {
    if amount == 1 { "" } else { "s" }
}
