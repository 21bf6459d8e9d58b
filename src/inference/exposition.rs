//! What an engine tells about its load on `/metrics`.
//!
//! vLLM and SGLang write the Prometheus text format, each with names of its own;
//! vLLM has renamed two families, and both names are in use. Only the lines of
//! wanted families are read: of a page of 60 KB a dozen. One page may hold
//! several series of a family, for an engine with data parallel ranks writes one
//! per rank: requests and histograms are added up, and the KV cache usage is the
//! mean. The engine spreads requests over its ranks, so that the mean says how
//! much room a further request finds, and one rank with a long request does not
//! make the endpoint look full.

use std::str;

use thiserror::Error;

#[cfg(test)]
mod tests;

/// The load of one endpoint, as its engine sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EndpointMetrics {
    /// The part of the KV cache that is in use, 0 to 1; `None` if the engine
    /// does not say, which is not the same as an empty cache.
    pub kv_cache_usage: Option<f64>,
    /// Requests that wait to be scheduled.
    pub waiting: u32,
    /// Requests that are being answered.
    pub running: u32,
    /// Seconds from a request's arrival to its first token.
    pub time_to_first_token: HistogramTotals,
    /// Seconds between two tokens of a request.
    pub inter_token_latency: HistogramTotals,
    /// Tokens that the KV cache has room for; `None` if the engine does not say.
    pub cache_tokens: Option<u64>,
    /// Whether the engine sleeps: it has given its memory back and answers nothing until it is woken.
    pub is_asleep: bool,
}

/// The two ever growing totals of a histogram; zero if it is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HistogramTotals {
    /// Sum of all observations.
    pub sum: f64,
    /// Number of observations.
    pub count: u64,
}

/// Whose metric names a page is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `vllm:…`
    Vllm,
    /// `sglang:…`
    Sglang,
}

/// Why a page tells nothing about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpositionError {
    /// Another engine's metrics, or no metrics at all.
    #[error("metrics have neither `{running}` nor `{waiting}`")]
    NotThisEngine {
        /// Name of the family of running requests.
        running: &'static str,
        /// Name of the family of waiting requests.
        waiting: &'static str,
    },
    /// The metrics are of no engine that is known.
    #[error("metrics are neither vLLM's nor SGLang's")]
    NoEngine,
    /// A sample that is wanted cannot be read; the others would be a part of
    /// the truth only.
    #[error("line {line} of the metrics has no readable value for `{name}`")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Name of the sample.
        name: &'static str,
    },
}

/// What a sample means. The older of two names counts if the newer is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sample {
    Running,
    Waiting,
    KvUsage,
    OlderKvUsage,
    FirstTokenSum,
    FirstTokenCount,
    InterTokenSum,
    InterTokenCount,
    OlderInterTokenSum,
    OlderInterTokenCount,
    CacheTokens,
    /// A family whose value is 1 and whose labels tell the blocks of the cache.
    CacheBlocks,
    Awake,
}

/// The names of one engine.
struct Names {
    prefix: &'static [u8],
    running: &'static str,
    waiting: &'static str,
    samples: &'static [(&'static str, Sample)],
    /// Labels that split a gauge into series which are not to be added up, and
    /// the value that names the series to take.
    splits: &'static [(&'static [u8], &'static [u8])],
}

/// All series of one sample.
#[derive(Clone, Copy, Default)]
struct Total {
    sum: f64,
    series: u32,
}

struct Totals([Total; Sample::NUMBER]);

const VLLM: Names = Names {
    prefix: b"vllm:",
    running: "vllm:num_requests_running",
    waiting: "vllm:num_requests_waiting",
    samples: &[
        ("vllm:num_requests_running", Sample::Running),
        ("vllm:num_requests_waiting", Sample::Waiting),
        ("vllm:kv_cache_usage_perc", Sample::KvUsage),
        ("vllm:gpu_cache_usage_perc", Sample::OlderKvUsage),
        ("vllm:time_to_first_token_seconds_sum", Sample::FirstTokenSum),
        ("vllm:time_to_first_token_seconds_count", Sample::FirstTokenCount),
        ("vllm:inter_token_latency_seconds_sum", Sample::InterTokenSum),
        ("vllm:inter_token_latency_seconds_count", Sample::InterTokenCount),
        ("vllm:time_per_output_token_seconds_sum", Sample::OlderInterTokenSum),
        ("vllm:time_per_output_token_seconds_count", Sample::OlderInterTokenCount),
        ("vllm:cache_config_info", Sample::CacheBlocks),
        ("vllm:engine_sleep_state", Sample::Awake),
    ],
    // Of the states of sleep, each of which has a series, one tells the others.
    splits: &[(b"sleep_state", b"awake")],
};

const SGLANG: Names = Names {
    prefix: b"sglang:",
    running: "sglang:num_running_reqs",
    waiting: "sglang:num_queue_reqs",
    samples: &[
        ("sglang:num_running_reqs", Sample::Running),
        ("sglang:num_queue_reqs", Sample::Waiting),
        ("sglang:token_usage", Sample::KvUsage),
        ("sglang:time_to_first_token_seconds_sum", Sample::FirstTokenSum),
        ("sglang:time_to_first_token_seconds_count", Sample::FirstTokenCount),
        ("sglang:inter_token_latency_seconds_sum", Sample::InterTokenSum),
        ("sglang:inter_token_latency_seconds_count", Sample::InterTokenCount),
        ("sglang:time_per_output_token_seconds_sum", Sample::OlderInterTokenSum),
        ("sglang:time_per_output_token_seconds_count", Sample::OlderInterTokenCount),
        ("sglang:max_total_num_tokens", Sample::CacheTokens),
    ],
    // With priority scheduling each priority is counted besides their sum, and
    // every stage of a pipeline counts the same requests.
    splits: &[(b"priority", b""), (b"pp_rank", b"0")],
};

impl HistogramTotals {
    /// The observations made since `previous` was read. If a total went down the engine was restarted and all
    /// observations are new.
    #[must_use]
    pub fn since(&self, previous: &Self) -> Self {
        let restarted = self.count < previous.count || self.sum < previous.sum;
        let since = if restarted { Self::default() } else { *previous };
        Self { sum: self.sum - since.sum, count: self.count - since.count }
    }

    /// The mean of these observations, or `None` if there was none.
    pub fn mean_since(&self, previous: &Self) -> Option<f64> {
        let Self { sum, count } = self.since(previous);
        (count > 0).then(|| sum / count as f64)
    }
}

impl Dialect {
    /// Returns the engine's name as it writes it.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Vllm => Self::Sglang,
            Self::Sglang => Self::Vllm,
        }
    }

    const fn names(self) -> &'static Names {
        match self {
            Self::Vllm => &VLLM,
            Self::Sglang => &SGLANG,
        }
    }
}

impl Sample {
    const NUMBER: usize = Self::Awake as usize + 1;

    const fn is_gauge(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Waiting | Self::KvUsage | Self::OlderKvUsage | Self::CacheTokens | Self::Awake
        )
    }
}

impl Totals {
    fn add(&mut self, sample: Sample, value: f64) {
        let total = &mut self.0[sample as usize];
        total.sum += value;
        total.series += 1;
    }

    fn of(&self, sample: Sample) -> Option<Total> {
        let total = self.0[sample as usize];
        (total.series > 0).then_some(total)
    }

    /// A number of requests; a float to integer cast saturates.
    fn requests(&self, sample: Sample) -> u32 {
        self.of(sample).map_or(0, |total| total.sum.round() as u32)
    }

    fn mean(&self, sample: Sample) -> Option<f64> {
        self.of(sample).map(|total| (total.sum / f64::from(total.series)).min(1.0))
    }

    /// A histogram of which every series has both a sum and a count.
    fn histogram(&self, sum: Sample, count: Sample) -> Option<HistogramTotals> {
        let (sum, count) = (self.of(sum)?, self.of(count)?);
        (sum.series == count.series).then_some(HistogramTotals { sum: sum.sum, count: count.sum as u64 })
    }
}

/// Reads a page of metrics in the dialect that it is written in; `expected` is tried first.
///
/// # Errors
///
/// Returns what is wrong with a page of a known dialect, or that the page is of none.
pub fn parse_any(page: &[u8], expected: Dialect) -> Result<(EndpointMetrics, Dialect), ExpositionError> {
    match parse(page, expected) {
        Ok(metrics) => Ok((metrics, expected)),
        Err(ExpositionError::NotThisEngine { .. }) => match parse(page, expected.other()) {
            Ok(metrics) => Ok((metrics, expected.other())),
            Err(ExpositionError::NotThisEngine { .. }) => Err(ExpositionError::NoEngine),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Reads a page of metrics in one dialect.
///
/// A sample that is not a finite number of at least zero (an engine writes `NaN`
/// for what it does not know) counts as missing. A missing family of running or
/// of waiting requests is none of them, a missing histogram has no observations.
///
/// # Errors
///
/// Fails if neither running nor waiting requests are told, or if the value of a
/// wanted sample cannot be read.
pub fn parse(page: &[u8], dialect: Dialect) -> Result<EndpointMetrics, ExpositionError> {
    let names = dialect.names();
    let totals = read_samples(page, names)?;
    if totals.of(Sample::Running).is_none() && totals.of(Sample::Waiting).is_none() {
        return Err(ExpositionError::NotThisEngine { running: names.running, waiting: names.waiting });
    }
    let first_token = totals.histogram(Sample::FirstTokenSum, Sample::FirstTokenCount);
    let inter_token = totals
        .histogram(Sample::InterTokenSum, Sample::InterTokenCount)
        .or_else(|| totals.histogram(Sample::OlderInterTokenSum, Sample::OlderInterTokenCount));
    Ok(EndpointMetrics {
        kv_cache_usage: totals.mean(Sample::KvUsage).or_else(|| totals.mean(Sample::OlderKvUsage)),
        waiting: totals.requests(Sample::Waiting),
        running: totals.requests(Sample::Running),
        time_to_first_token: first_token.unwrap_or_default(),
        inter_token_latency: inter_token.unwrap_or_default(),
        cache_tokens: totals.of(Sample::CacheTokens).map(|total| total.sum as u64).filter(|tokens| *tokens > 0),
        is_asleep: totals.of(Sample::Awake).is_some_and(|awake| awake.sum == 0.0),
    })
}

fn read_samples(page: &[u8], names: &Names) -> Result<Totals, ExpositionError> {
    let mut totals = Totals([Total::default(); Sample::NUMBER]);
    let mut start = 0;
    while start < page.len() {
        let end = memchr::memchr(b'\n', &page[start..]).map_or(page.len(), |length| start + length);
        if let Some((name, sample, rest)) = wanted(&page[start..end], names) {
            let malformed = || ExpositionError::Malformed { line: line_number(page, start), name };
            let (labels, rest) = split_labels(rest).ok_or_else(malformed)?;
            let value = first_number(rest).ok_or_else(malformed)?;
            if sample == Sample::CacheBlocks {
                if let Some(tokens) = cache_tokens(labels) {
                    totals.add(Sample::CacheTokens, tokens);
                }
            } else if value.is_finite() && value >= 0.0 && (!sample.is_gauge() || counts(labels, names)) {
                totals.add(sample, value);
            }
        }
        start = end + 1;
    }
    Ok(totals)
}

/// The sample that a line tells, and what follows its name.
fn wanted<'a>(line: &'a [u8], names: &Names) -> Option<(&'static str, Sample, &'a [u8])> {
    if !line.starts_with(names.prefix) {
        return None;
    }
    let end = memchr::memchr3(b'{', b' ', b'\t', line).unwrap_or(line.len());
    let (name, sample) = names.samples.iter().find(|(name, _)| name.as_bytes() == &line[..end])?;
    Some((name, *sample, &line[end..]))
}

/// Cuts `{…}` off, if there is one; `None` if it does not end. A label's value
/// is a quoted string and may hold braces and escaped quotes.
fn split_labels(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = rest.trim_ascii_start();
    let Some(inside) = rest.strip_prefix(b"{") else { return Some((&[], rest)) };
    let mut at = 0;
    let mut quoted = false;
    loop {
        at += memchr::memchr3(b'"', b'\\', b'}', inside.get(at..)?)?;
        match inside[at] {
            b'"' => quoted = !quoted,
            b'\\' => at += 1,
            _ if !quoted => return Some((&inside[..at], &inside[at + 1..])),
            _ => {}
        }
        at += 1;
    }
}

/// The value of a sample; a timestamp or an exemplar may follow it.
fn first_number(rest: &[u8]) -> Option<f64> {
    let token = rest.split(u8::is_ascii_whitespace).find(|token| !token.is_empty())?;
    str::from_utf8(token).ok()?.parse().ok()
}

/// The tokens of a cache whose blocks the labels tell; vLLM writes `None` for a number that it does not know yet.
fn cache_tokens(labels: &[u8]) -> Option<f64> {
    let number = |label: &[u8]| str::from_utf8(label_value(labels, label)?).ok()?.parse::<f64>().ok();
    Some(number(b"block_size")? * number(b"num_gpu_blocks")?).filter(|tokens| tokens.is_finite() && *tokens > 0.0)
}

/// Whether a gauge with these labels is to be added up.
fn counts(labels: &[u8], names: &Names) -> bool {
    names.splits.iter().all(|(label, taken)| label_value(labels, label).is_none_or(|value| value == *taken))
}

/// The value of a label, if it is written as engines write it: without spaces.
fn label_value<'a>(labels: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find_iter(labels, label).find(|at| {
        let begins = *at == 0 || labels[*at - 1] == b',';
        begins && labels[at + label.len()..].starts_with(b"=\"")
    })?;
    let value = &labels[at + label.len() + 2..];
    Some(&value[..memchr::memchr(b'"', value)?])
}

fn line_number(page: &[u8], offset: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &page[..offset]).count()
}
