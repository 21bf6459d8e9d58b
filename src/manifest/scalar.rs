//! Decides what a scalar without quotes is.
//!
//! The rules are those by which `kubectl` turns YAML into JSON (YAML 1.1 as the Go library reads it): `yes`, `off` and
//! `y` are booleans, `0755` and `0b11` are numbers, dates are strings. A file must mean the same in a directory as in a
//! cluster, so the newer and simpler rules of YAML 1.2 would not do.

use serde_json::Number;

use super::tree::Content;

/// The largest number below which every whole number is a floating-point number.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Returns the value of a plain scalar.
pub(super) fn resolve(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Content::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Content::Bool(false),
        _ => number(text).map_or_else(|| Content::Text(text.to_owned()), Content::Number),
    }
}

/// Reads a number; `None` for a number that JSON cannot hold, such as `.inf`.
fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// Reads a whole number in Go's notation: a sign, `0x`, `0o`, `0b` or a leading zero for octal, digits.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match (lower.get(..2), lower.strip_prefix('0')) {
        (Some("0x"), _) => (16, &lower[2..]),
        (Some("0o"), _) => (8, &lower[2..]),
        (Some("0b"), _) => (2, &lower[2..]),
        (Some(_), Some(octal)) => (8, octal),
        _ => (10, &lower[..]),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if is_negative { 0_i64.checked_sub_unsigned(magnitude).map(Number::from) } else { Some(magnitude.into()) }
}

/// Reads a decimal number with a point or an exponent; a whole one becomes a whole number, as in JSON.
fn float(text: &str) -> Option<Number> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let value: f64 = if is_decimal { text.parse().ok()? } else { return None };
    if value.fract() == 0.0 && value.abs() < MAX_WHOLE {
        return format!("{value:.0}").parse::<i64>().ok().map(Number::from);
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn plain_scalars_are_what_they_are_to_kubectl() {
        let cases = [
            ("yes", json!(true)),
            ("N", json!(false)),
            ("~", json!(null)),
            ("", json!(null)),
            ("nul", json!("nul")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("+7", json!(7)),
            ("0755", json!(493)),
            ("-010", json!(-8)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-0b11", json!(-3)),
            ("1_000", json!(1000)),
            ("08", json!(8)),
            ("8.0", json!(8)),
            ("1e3", json!(1000)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("-1.5e-3", json!(-0.0015)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("1e999", json!("1e999")),
            (".inf", json!(".inf")),
            (".nan", json!(".nan")),
            ("2026-01-01", json!("2026-01-01")),
            ("12:30:45", json!("12:30:45")),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("1Gi", json!("1Gi")),
            ("0x", json!("0x")),
            ("0x+1", json!("0x+1")),
            ("--1", json!("--1")),
            ("+", json!("+")),
            (".", json!(".")),
            ("e5", json!("e5")),
            ("1e", json!("1e")),
            ("infinity", json!("infinity")),
            ("0X1f", json!(31)),
            ("+0b1", json!(1)),
            ("0_7", json!(7)),
            ("09.5", json!(9.5)),
            ("_1", json!("_1")),
        ];
        for (text, expected) in cases {
            let found = match resolve(text) {
                Content::Null => Value::Null,
                Content::Bool(value) => value.into(),
                Content::Number(value) => value.into(),
                Content::Text(value) => value.into(),
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
