//! Durations as Kubernetes objects write them.
//!
//! The API's durations have the syntax of Go's `time.ParseDuration`: decimal numbers with a unit, one after the other,
//! as in `1m30s`; a bare `0` needs no unit. Signs are refused, since no field here means anything with one.

use std::time::Duration;

/// The units, the longer spelling first where one starts with another.
const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];

/// Why a text is no duration.
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
/// Returns [`DurationError::Syntax`] for a text of another form, and [`DurationError::Range`] for a duration that is too
/// large or has fractions of a nanosecond.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if !has_shape(text) {
        return Err(DurationError::Syntax(text.to_owned()));
    }
    humantime::parse_duration(text).map_err(|_| DurationError::Range(text.to_owned()))
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

/// Returns what follows the digits at the start of the text, of which there must be one.
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

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+ 0-9.nuµmsh]{0,40}|\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
