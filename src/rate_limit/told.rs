//! What clients are told of a limit, in the headers of answers.
//!
//! Source: OpenAI, "Rate limits in headers"; Anthropic's API tells of prompts and answers apart, as this does.

use std::time::Duration;

use super::rate::{Direction, Rate};

/// The names of the headers of one direction: the limit, what is left of it, and the time until it is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Tokens in a unit of time.
    pub limit: &'static str,
    /// Tokens that are left.
    pub remaining: &'static str,
    /// Time until all tokens are there again, as `1h2m3.5s`.
    pub reset: &'static str,
}

impl Direction {
    /// Returns the names of the headers that tell of it.
    pub const fn headers(self) -> Names {
        match self {
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
    /// Which tokens are limited.
    pub direction: Direction,
    /// The limit.
    pub rate: Rate,
    /// Tokens that are left.
    pub left: u32,
    /// Time until all tokens are there again.
    pub reset: Duration,
}

impl Standing {
    /// Returns the headers that tell of it.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let Names { limit, remaining, reset } = self.direction.headers();
        [(limit, self.rate.tokens.to_string()), (remaining, self.left.to_string()), (reset, span(self.reset))]
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
pub fn limit(direction: Direction, rate: Rate) -> String {
    let unit = match rate.unit.as_secs() {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        86_400 => "day",
        _ => "month",
    };
    let tokens = if rate.tokens == 1 { "token" } else { "tokens" };
    format!("{} {} {tokens} per {unit}", rate.tokens, direction.label())
}
