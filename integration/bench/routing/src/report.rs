//! Figures of a run, and tables of them.

use crate::fleet::Outcome;

/// The figures of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Seconds to the first token, of half of the requests.
    pub ttft_p50: f64,
    /// Of nine tenths of them.
    pub ttft_p90: f64,
    /// Seconds to the first token, on average.
    pub ttft_mean: f64,
    /// Seconds to the last token, on average.
    pub latency: f64,
    /// Milliseconds from one token to the next of an answer, exceeded by a hundredth of the answers.
    pub pace_p99: f64,
    /// Requests a second, from the first arrival to the last token.
    pub throughput: f64,
    /// The part of all prompt tokens that was in caches.
    pub hits: f64,
    /// The same part as the router foresaw it.
    pub foreseen: f64,
    /// Requests at the engine that got the most, by those of the mean.
    pub imbalance: f64,
}

impl Figures {
    /// Makes the figures of what came of the requests of a fleet of `engines`.
    pub fn of(outcomes: &[Outcome], engines: usize) -> Self {
        let mut waits: Vec<f64> = outcomes.iter().map(|outcome| outcome.first - outcome.arrived).collect();
        waits.sort_by(f64::total_cmp);
        let quantile = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or(0.0);
        let mut paces: Vec<f64> = outcomes.iter().filter_map(pace).collect();
        paces.sort_by(f64::total_cmp);
        let count = outcomes.len() as f64;
        let sum = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>();
        let begun = outcomes.iter().map(|outcome| outcome.arrived).fold(f64::INFINITY, f64::min);
        let ended = outcomes.iter().map(|outcome| outcome.last).fold(0.0, f64::max);
        let mut requests = vec![0.0_f64; engines];
        for outcome in outcomes {
            requests[outcome.engine] += 1.0;
        }
        let tokens = sum(|outcome| outcome.tokens.into());
        Self {
            ttft_p50: quantile(0.5),
            ttft_p90: quantile(0.9),
            ttft_mean: waits.iter().sum::<f64>() / count,
            latency: sum(|outcome| outcome.last - outcome.arrived) / count,
            pace_p99: paces.get((paces.len() as f64 * 0.99) as usize).copied().unwrap_or(0.0) * 1000.0,
            throughput: count / (ended - begun),
            hits: sum(|outcome| outcome.cached.into()) / tokens,
            foreseen: sum(|outcome| outcome.predicted.min(outcome.tokens).into()) / tokens,
            imbalance: requests.iter().copied().fold(0.0, f64::max) * engines as f64 / count,
        }
    }

    /// Writes a line of a table.
    pub fn line(&self, workload: &str, policy: &str, replicas: usize) -> String {
        format!(
            "| {workload:<14} | {policy:<17} | {replicas:>2} | {:>8.3} | {:>8.3} | {:>8.3} | {:>8.2} | {:>6.1} | {:>7.2} | {:>5.1} | {:>5.1} | {:>5.2} |",
            self.ttft_p50,
            self.ttft_p90,
            self.ttft_mean,
            self.latency,
            self.pace_p99,
            self.throughput,
            self.hits * 100.0,
            self.foreseen * 100.0,
            self.imbalance
        )
    }
}

/// Returns the mean time from one token of an answer to the next, in seconds.
fn pace(outcome: &Outcome) -> Option<f64> {
    let further = outcome.output.checked_sub(1).filter(|tokens| *tokens > 0)?;
    Some((outcome.last - outcome.first) / f64::from(further))
}

/// The head of a table.
pub const HEAD: &str = "\
| workload       | policy            |  x | TTFT p50 | TTFT p90 |     mean |  latency | ms/tok |   req/s | hit % | fores | imbal |
|---|---|---|---|---|---|---|---|---|---|---|---|";
