//! What is remembered of a pick: numbers, written down while it is made, and put into words when somebody asks.
//!
//! A [`PickRecord`] is a [`Witness`]. It is used again and again, so that to remember picks allocates nothing once its
//! lists have grown. Of a prompt it holds nothing but the length.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::endpoint::{Candidate, PoolFacts, Role};
use super::request::PickRequest;
use super::witness::{Course, Witness};
use crate::inference::health::Standing;

pub use words::{CourseWords, EndpointWords, FilterWords, Inputs, PickWords, ScoreWords, Verdict};

mod words;

/// What is remembered of one pick.
#[derive(Clone, Debug, Default)]
pub struct PickRecord {
    tokens: u32,
    blocks: u32,
    rows: Vec<Row>,
    /// The filters in their order, and whether they gave way.
    filters: Vec<(&'static str, bool)>,
    /// The scores in their order, with their weights.
    scores: Vec<(&'static str, f32)>,
    /// For each score the rate of each row; not a number where a row was not rated.
    rates: Vec<f32>,
    picked: Option<Winner>,
    /// The endpoint that was picked to compute the prompt, if another one does.
    prefill: Option<Winner>,
    /// The row of the endpoint from which the beginning of the prompt can be pulled.
    source: Option<usize>,
    /// In a pool with roles, whether two endpoints work on the request.
    course: Option<Course>,
}

/// The endpoint that was picked.
#[derive(Clone, Copy, Debug)]
struct Winner {
    row: usize,
    total: f32,
    ties: u32,
}

/// What a picker knew of one endpoint.
#[derive(Clone, Copy, Debug)]
struct Row {
    position: usize,
    address: SocketAddr,
    passed_over: Option<&'static str>,
    role: Role,
    standing: Standing,
    in_flight: u32,
    elsewhere: u32,
    penalty: u32,
    cached: u32,
    backlog: u64,
    /// Measured prompt tokens a second; not a number where nothing was measured.
    rate: f32,
    scrape: Option<Scrape>,
}

/// What the last scrape had told.
#[derive(Clone, Copy, Debug)]
struct Scrape {
    age: Duration,
    waiting: u32,
    running: u32,
    kv_cache_usage: Option<f64>,
}

impl PickRecord {
    /// Begins to remember a pick among these candidates.
    pub fn begin(&mut self, request: &PickRequest<'_>, pool: &PoolFacts, candidates: &[Candidate<'_>]) {
        self.clear();
        self.tokens = request.tokens;
        self.blocks = u32::try_from(request.prefix.len()).unwrap_or(u32::MAX);
        self.rows.extend(candidates.iter().map(|candidate| Row::of(candidate, pool.now)));
    }

    /// Forgets what was remembered, and keeps the room for it.
    pub fn clear(&mut self) {
        (self.tokens, self.blocks, self.picked) = (0, 0, None);
        (self.prefill, self.source, self.course) = (None, None, None);
        self.rows.clear();
        self.filters.clear();
        self.scores.clear();
        self.rates.clear();
    }

    /// Returns the bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.rows.capacity() * size_of::<Row>()
            + (self.filters.capacity() + self.scores.capacity()) * size_of::<(&str, f32)>()
            + self.rates.capacity() * size_of::<f32>()
    }

    /// Returns where a candidate is written down: at its place in the pool, as a rule.
    fn row(&self, candidate: &Candidate<'_>) -> Option<usize> {
        let position = candidate.position;
        match self.rows.get(position) {
            Some(row) if row.position == position => Some(position),
            _ => self.rows.iter().position(|row| row.position == position),
        }
    }
}

impl Witness for PickRecord {
    fn ended(&mut self, plugin: &'static str, part: &'static str) {
        if part == "filter" && !self.filters.iter().any(|(name, _)| *name == plugin) {
            self.filters.push((plugin, false));
        }
    }

    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        if let Some(row) = self.row(candidate) {
            self.rows[row].passed_over = Some(filter);
        }
    }

    fn gave_way(&mut self, filter: &'static str) {
        self.filters.push((filter, true));
    }

    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        // In a pool with roles, the endpoints are rated in turns, and some of them anew: the last rate counts.
        let place = self.scores.iter().rposition(|(name, _)| *name == score).unwrap_or_else(|| {
            self.scores.push((score, weight));
            self.rates.resize(self.scores.len() * self.rows.len(), f32::NAN);
            self.scores.len() - 1
        });
        if let Some(row) = self.row(candidate) {
            self.rates[place * self.rows.len() + row] = rate;
        }
    }

    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        self.picked = self.row(candidate).map(|row| Winner { row, total, ties });
    }

    fn prefills(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        self.prefill = self.row(candidate).map(|row| Winner { row, total, ties });
    }

    fn pulls_from(&mut self, candidate: &Candidate<'_>) {
        self.source = self.row(candidate);
    }

    fn split(&mut self, course: &Course) {
        self.course = Some(*course);
    }
}

impl Row {
    fn of(candidate: &Candidate<'_>, now: Instant) -> Self {
        let observation = candidate.observation;
        let scrape = observation.metrics.as_ref().map(|metrics| Scrape {
            age: observation.scraped.map(|scraped| now.saturating_duration_since(scraped)).unwrap_or_default(),
            waiting: metrics.waiting,
            running: metrics.running,
            kv_cache_usage: metrics.kv_cache_usage,
        });
        let pace = candidate.ledger.pace();
        Self {
            position: candidate.position,
            address: candidate.endpoint.socket(),
            passed_over: None,
            role: candidate.endpoint.role,
            standing: observation.standing,
            in_flight: candidate.in_flight,
            elsewhere: candidate.elsewhere,
            penalty: candidate.penalty,
            cached: candidate.cached,
            backlog: candidate.ledger.backlog(),
            rate: pace.tokens / pace.seconds,
            scrape,
        }
    }
}

#[cfg(test)]
mod tests;
