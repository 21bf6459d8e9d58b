//! Durations as Kubernetes objects write them.
//!
//! The API's durations have the syntax of Go's `time.ParseDuration`: decimal numbers with a unit, one after the other,
//! as in `1m30s`; a bare `0` needs no unit. Signs are refused, since no field here means anything with one.

use std::time::Duration;

/// The units, the longer spelling first where one starts with another.
const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];

/// The units of the Gateway API in milliseconds; `ms` comes before `m`, with which it begins.
const GATEWAY_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The most numbers in a duration of the Gateway API.
const MAX_GATEWAY_PARTS: usize = 4;

/// The most digits in a number of such a duration.
const MAX_GATEWAY_DIGITS: usize = 5;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not made of numbers with units.
    #[error("`{0}` is not a duration: expected numbers with units such as `500ms`, `30s` or `1m30s`")]
    Syntax(String),
    /// The number is too large, or finer than a nanosecond.
    #[error("the duration `{0}` cannot be represented: it is too large or finer than a nanosecond")]
    Range(String),
}

/// Reads a duration such as `500ms`, `1.5s` or `1m30s`.
///
/// # Errors
/// Returns [`DurationError::Syntax`] for a text of another form, and [`DurationError::Range`] for a duration that is
/// too large or has fractions of a nanosecond.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if !has_shape(text) {
        return Err(DurationError::Syntax(text.to_owned()));
    }
    humantime::parse_duration(text).map_err(|_| DurationError::Range(text.to_owned()))
}

/// Reads a duration of the Gateway API such as `10s`, `500ms` or `1h30m`; `None` for any other text.
///
/// Source: GEP-2257: up to four whole numbers of up to five digits, each with one of the units `h`, `m`, `s` and `ms`.
pub fn parse_gateway_duration(text: &str) -> Option<Duration> {
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    let mut total = Duration::ZERO;
    for _ in 0..MAX_GATEWAY_PARTS {
        let after = after_digits(rest)?;
        let digits = &rest[..rest.len() - after.len()];
        let (unit, milliseconds) = GATEWAY_UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        let number: u64 = digits.parse().ok().filter(|_| digits.len() <= MAX_GATEWAY_DIGITS)?;
        total += Duration::from_millis(number * milliseconds);
        rest = &after[unit.len()..];
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

/// Returns whether the text is `0` or numbers with units; humantime alone would also take `2 days`.
fn has_shape(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    let mut rest = Some(text);
    while let Some(text) = rest.filter(|text| !text.is_empty()) {
        rest = after_component(text);
    }
    rest.is_some() && !text.is_empty()
}

/// Returns what follows the number and unit at the start of the text.
fn after_component(text: &str) -> Option<&str> {
    let mut rest = after_digits(text)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = after_digits(fraction)?;
    }
    // `m` is also the start of `ms`, so that the shorter unit is tried last.
    UNITS.iter().find_map(|unit| rest.strip_prefix(unit))
}

/// Returns what follows the digits at the start of the text; there must be at least one digit.
fn after_digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|character: char| character.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_the_syntax_of_go() {
        let valid = [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("100ms", Duration::from_millis(100)),
            ("1.5s", Duration::from_millis(1500)),
            ("1m30s", Duration::from_secs(90)),
            ("1h1m1s1ms1us1ns", Duration::new(3661, 1_001_001)),
            ("2µs", Duration::from_micros(2)),
        ];
        for (text, expected) in valid {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "1", "30", "-1s", "+1s", "1 s", "2days", "1.s", ".5s", "1s ", "1M", "１s", "1ss"] {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax(text.to_owned())), "{text}");
        }
        for text in ["0.1ns", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(parse_duration(text), Err(DurationError::Range(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn durations_of_the_gateway_api_have_four_units_and_no_fractions() {
        let valid = [
            ("0s", Duration::ZERO),
            ("10s", Duration::from_secs(10)),
            ("500ms", Duration::from_millis(500)),
            ("1h30m", Duration::from_secs(5400)),
            ("1h2m3s4ms", Duration::new(3723, 4_000_000)),
            ("1m1ms", Duration::new(60, 1_000_000)),
            ("99999h", Duration::from_secs(359_996_400)),
        ];
        for (text, expected) in valid {
            assert_eq!(parse_gateway_duration(text), Some(expected), "{text}");
        }
        for text in ["", "0", "1", "s", "1.5s", "-1s", "1 s", "1us", "1d", "100000s", "1h1h1h1h1h", "１s", "1sx"] {
            assert_eq!(parse_gateway_duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+ 0-9.nuµmsh]{0,40}|\\PC*") {
            let _ = (parse_duration(&text), parse_gateway_duration(&text));
        }
    }
}
