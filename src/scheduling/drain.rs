//! When a pool that has no room will have some: what waits, by the rate at which its engines begin to answer.

use std::time::Duration;

use super::endpoint::Observation;
use super::objective::saturation;

/// How long what was seen of an engine's rate is remembered.
const MEMORY: Duration = Duration::from_secs(5);
/// The longest time that a client is told to wait, in seconds.
const LONGEST: f64 = 60.0;

/// Returns a rate in requests a second, of which `before` was known and so many more have begun since: older figures
/// fade, so that scrapes that follow each other closely do not make it jump.
#[expect(clippy::cast_precision_loss, reason = "so many requests do not begin between two scrapes")]
pub(super) fn blend(before: Option<f64>, begun: u64, elapsed: Duration) -> Option<f64> {
    if elapsed.is_zero() {
        return before;
    }
    let now = begun as f64 / elapsed.as_secs_f64();
    let left = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
    Some(before.map_or(now, |before| before * left + now * (1.0 - left)))
}

/// Returns after how many seconds a pool of these endpoints has begun to answer all that waits there and the `queued`
/// requests that wait for room, from 1 to 60. Where the engines do not show how fast they are, or begin nothing at all, the
/// longer queues are, the later.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is between 1 and 60")]
pub fn retry_after<'e>(endpoints: impl Iterator<Item = &'e Observation> + Clone, queued: usize) -> u32 {
    let queued = u32::try_from(queued).unwrap_or(u32::MAX);
    let metrics = endpoints.clone().filter_map(|endpoint| endpoint.metrics);
    let waiting = metrics.map(|metrics| f64::from(metrics.waiting)).sum::<f64>() + f64::from(queued);
    let rate: f64 = endpoints.clone().filter_map(|endpoint| endpoint.drain).sum();
    let seconds = if rate > 0.0 {
        (waiting + 1.0) / rate
    } else {
        saturation(endpoints.map(|endpoint| endpoint.metrics.as_ref()))
    };
    seconds.ceil().clamp(1.0, LONGEST) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::exposition::EndpointMetrics;

    #[test]
    fn clients_come_back_when_what_waits_has_begun() {
        let engine = |waiting, drain| Observation {
            metrics: Some(EndpointMetrics { waiting, ..EndpointMetrics::default() }),
            drain,
            ..Observation::default()
        };
        for (case, endpoints, queued, expected) in [
            ("9 wait where 2 begin in a second", vec![engine(9, Some(2.0))], 0, 5),
            ("so do those that the router holds", vec![engine(9, Some(2.0))], 10, 10),
            ("two engines", vec![engine(9, Some(2.0)), engine(0, Some(3.0))], 0, 2),
            ("nothing waits", vec![engine(0, Some(50.0))], 0, 1),
            ("hours of work", vec![engine(1_000, Some(0.1))], 0, 60),
            ("nothing is known of the rate", vec![engine(10, None)], 0, 2),
            ("nothing begins", vec![engine(10, Some(0.0))], 0, 2),
            ("no endpoint", vec![], 7, 1),
        ] {
            assert_eq!(retry_after(endpoints.iter(), queued), expected, "{case}");
        }
    }

    #[test]
    fn a_rate_follows_what_scrapes_show() {
        let second = Duration::from_secs(1);
        assert_eq!(blend(None, 30, 2 * second), Some(15.0));
        assert_eq!(blend(Some(15.0), 0, Duration::ZERO), Some(15.0));
        let mut rate = Some(0.0);
        for _ in 0..30 {
            rate = blend(rate, 8, second);
        }
        assert!(rate.is_some_and(|rate| (7.9..8.0).contains(&rate)), "{rate:?}");
        let short = blend(Some(8.0), 1, second / 20);
        assert!(short.is_some_and(|rate| (8.0..8.2).contains(&rate)), "one of 20 in a second: {short:?}");
    }
}
