//! A pick that is remembered, put into words.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{PickRecord, Row, Scrape, Winner};
use crate::inference::health::Standing;
use crate::scheduling::endpoint::Role;

/// A pick in words.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PickWords {
    /// The tokens of the prompt, as far as its bytes tell.
    pub prompt_tokens: u32,
    /// The blocks of it that can be found in caches.
    pub prompt_blocks: u32,
    /// The endpoint that was picked, if one was.
    pub picked: Option<String>,
    /// How many endpoints were equally good, the picked one included; more than one are drawn from at random.
    pub equally_good: u32,
    /// In a pool with roles, whether two endpoints work on the request, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disaggregation: Option<CourseWords>,
    /// The endpoint from which the beginning of the prompt can be pulled, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache_source: Option<String>,
    /// All endpoints that the pool had.
    pub endpoints: Vec<EndpointWords>,
}

/// Whether two endpoints work on a request, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CourseWords {
    /// Why, in one word: `remote` if two endpoints do.
    pub decision: String,
    /// The endpoint that was picked to compute the prompt.
    pub prefill: Option<String>,
    /// Seconds that the prompt was expected to cost where the answer is made, if that was calculated.
    pub local_seconds: Option<f32>,
    /// Seconds that it was expected to cost elsewhere, the second leg and the transfer included, likewise.
    pub remote_seconds: Option<f32>,
}

/// What a picker made of one endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointWords {
    /// Its Pod, where that is known; else its address.
    pub endpoint: String,
    /// Its address.
    pub address: SocketAddr,
    /// Which part of requests it works on, if not on all of it: `prefill` or `decode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What the filters said of it, in their order.
    pub filters: Vec<FilterWords>,
    /// What the scores said of it, in their order; nothing of one that a filter passed over.
    pub scores: Vec<ScoreWords>,
    /// The sum of the weighted scores.
    pub total: Option<f32>,
    /// What was known of it.
    pub inputs: Inputs,
}

/// What a filter said of an endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterWords {
    /// The filter.
    pub filter: String,
    /// What it said.
    pub verdict: Verdict,
}

/// What a filter may say of an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It may serve the request.
    Kept,
    /// It may not.
    PassedOver,
    /// The filter would have kept nobody, and so had no say.
    GaveWay,
}

/// What a score said of an endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScoreWords {
    /// The score.
    pub score: String,
    /// From 0, the worst, to 1.
    pub raw: f32,
    /// What it counts for.
    pub weight: f32,
    /// The product of the two.
    pub weighted: f32,
}

/// What was known of an endpoint. What comes from this router is of the very moment of the pick; what comes from a
/// scrape is as old as that.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Requests of this router in flight there.
    pub in_flight: u32,
    /// Requests from elsewhere, by the last scrape.
    pub elsewhere: u32,
    /// What failures of late count for, as a number of requests.
    pub penalty: u32,
    /// Prompt tokens to be computed there for requests of this router whose answers have not begun.
    pub backlog_tokens: u64,
    /// Tokens of this prompt that its cache holds, as far as this router knows.
    pub cached_tokens: u32,
    /// Measured prompt tokens a second.
    pub tokens_per_second: Option<f32>,
    /// Whether it gets requests: `serving`, `ejected` or `on trial`.
    pub standing: String,
    /// Seconds since its last good scrape; absent where no figures of the engine are known.
    pub scrape_age_seconds: Option<f64>,
    /// Requests that waited in the engine at the scrape.
    pub waiting: Option<u32>,
    /// Requests that ran there at the scrape.
    pub running: Option<u32>,
    /// The part of its KV cache that was in use at the scrape.
    pub kv_cache_usage: Option<f64>,
}

impl PickRecord {
    /// Puts the pick into words; `name` says which Pod has an address.
    pub fn words(&self, name: &dyn Fn(SocketAddr) -> Option<String>) -> PickWords {
        let name = |row: &Row| name(row.address).unwrap_or_else(|| row.address.to_string());
        let named = |winner: Option<Winner>| winner.and_then(|winner| self.rows.get(winner.row)).map(name);
        let seconds = |seconds: f32| Some(seconds).filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        let disaggregation = self.course.map(|course| CourseWords {
            decision: course.why.to_owned(),
            prefill: named(self.prefill),
            local_seconds: seconds(course.local),
            remote_seconds: seconds(course.remote),
        });
        let endpoints = self.rows.iter().enumerate().map(|(place, row)| self.endpoint(place, row, name(row)));
        PickWords {
            prompt_tokens: self.tokens,
            prompt_blocks: self.blocks,
            picked: named(self.picked),
            equally_good: self.picked.map_or(0, |winner| winner.ties),
            disaggregation,
            kv_cache_source: self.source.and_then(|row| self.rows.get(row)).map(name),
            endpoints: endpoints.collect(),
        }
    }

    fn endpoint(&self, place: usize, row: &Row, endpoint: String) -> EndpointWords {
        let scores = self.scores.iter().enumerate().filter_map(|(score, (name, weight))| {
            let raw = *self.rates.get(score * self.rows.len() + place)?;
            let words = ScoreWords { score: (*name).to_owned(), raw, weight: *weight, weighted: raw * weight };
            (!raw.is_nan()).then_some(words)
        });
        let scores: Vec<_> = scores.collect();
        let total = self.picked.filter(|_| row.passed_over.is_none());
        let total = total.map(|winner| match winner.row == place {
            true => winner.total,
            false => scores.iter().map(|score| score.weighted).sum(),
        });
        EndpointWords {
            endpoint,
            address: row.address,
            role: match row.role {
                Role::Whole => None,
                Role::Prefill => Some("prefill".to_owned()),
                Role::Decode => Some("decode".to_owned()),
            },
            filters: self.verdicts(row),
            scores,
            total,
            inputs: row.inputs(),
        }
    }

    /// Returns what the filters said of an endpoint, up to the one that passed it over.
    fn verdicts(&self, row: &Row) -> Vec<FilterWords> {
        let words = |filter: &str, verdict| FilterWords { filter: filter.to_owned(), verdict };
        let mut verdicts = Vec::new();
        for (filter, gave_way) in &self.filters {
            if row.passed_over == Some(*filter) {
                break;
            }
            verdicts.push(words(filter, if *gave_way { Verdict::GaveWay } else { Verdict::Kept }));
        }
        match row.passed_over {
            // What was tried before is left out before any filter is asked.
            Some("tried") => vec![words("tried", Verdict::PassedOver)],
            Some(filter) => {
                verdicts.push(words(filter, Verdict::PassedOver));
                verdicts
            }
            None => verdicts,
        }
    }
}

impl Row {
    fn inputs(&self) -> Inputs {
        let of_scrape = |figure: fn(&Scrape) -> u32| self.scrape.as_ref().map(figure);
        Inputs {
            in_flight: self.in_flight,
            elsewhere: self.elsewhere,
            penalty: self.penalty,
            backlog_tokens: self.backlog,
            cached_tokens: self.cached,
            tokens_per_second: Some(self.rate).filter(|rate| rate.is_finite()),
            standing: match self.standing {
                Standing::Serving => "serving",
                Standing::Ejected(_) => "ejected",
                Standing::Trial { .. } => "on trial",
            }
            .to_owned(),
            scrape_age_seconds: self.scrape.as_ref().map(|scrape| scrape.age.as_secs_f64()),
            waiting: of_scrape(|scrape| scrape.waiting),
            running: of_scrape(|scrape| scrape.running),
            kv_cache_usage: self.scrape.as_ref().and_then(|scrape| scrape.kv_cache_usage),
        }
    }
}
