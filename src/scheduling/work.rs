//! How long a pool computes for the prompt of a request, before an endpoint is picked.

use std::time::Duration;

use super::ledger::Pace;

/// Returns for how long an endpoint computes the prompt of so many tokens, if it is the one that has the most of it
/// cached; of each endpoint it is told how many tokens it has, and its pace.
pub fn of_prompt(tokens: u32, endpoints: impl IntoIterator<Item = (u32, Pace)>) -> Duration {
    let (mut most, mut all) = (0, Pace::default());
    for (cached, pace) in endpoints {
        most = cached.max(most);
        all = Pace { tokens: all.tokens + pace.tokens, seconds: all.seconds + pace.seconds };
    }
    let seconds = all.seconds_for(tokens.saturating_sub(most).into());
    // No more than can be said of a time; it is never less than none.
    Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_best_endpoint_has_is_not_computed() {
        let pace = |tokens| Pace { tokens, seconds: 1.0 };
        let work = |cached: &[u32]| of_prompt(8000, cached.iter().map(|cached| (*cached, pace(9200.0)))).as_millis();
        assert_eq!(work(&[0, 0]), 8000 * 2100 / 19_200);
        assert_eq!(work(&[0, 4000]), 4000 * 2100 / 19_200);
        assert_eq!(work(&[9000, 0]), 0);
        assert_eq!(of_prompt(8000, []), Duration::from_secs(1), "8 000 tokens a second are assumed");
    }
}
