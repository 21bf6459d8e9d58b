//! The model that a query names, as calls without a body do.
//!
//! Source: OpenAI API reference, "Realtime": `/v1/realtime?model=…`; WHATWG URL, `application/x-www-form-urlencoded`.

use std::fmt::Write as _;

use thiserror::Error;

use super::api::decoded;

/// Why a query names no model; the text is what the API user reads.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QueryFault {
    /// There is no `model`, or it is blank.
    #[error("the query has no parameter `model`")]
    Missing,
    /// There are several.
    #[error("parameter `model` occurs more than once in the query")]
    Duplicate,
    /// It is not UTF-8 when it is decoded.
    #[error("parameter `model` of the query cannot be decoded")]
    Undecodable,
}

/// Returns the model that a query names.
pub(super) fn model(query: &str) -> Result<String, QueryFault> {
    let mut models = query.split('&').filter_map(value);
    let first = models.next().ok_or(QueryFault::Missing)?;
    if models.next().is_some() {
        return Err(QueryFault::Duplicate);
    }
    let bytes = decoded(&first.replace('+', " ")).ok_or(QueryFault::Undecodable)?;
    let model = String::from_utf8(bytes).map_err(|_| QueryFault::Undecodable)?;
    if model.trim().is_empty() { Err(QueryFault::Missing) } else { Ok(model) }
}

/// Returns a query in which the model has another name; all other parameters stay as they are.
pub(super) fn with_model(query: &str, model: &str) -> String {
    let mut changed = String::with_capacity(query.len() + model.len());
    for (index, parameter) in query.split('&').enumerate() {
        if index > 0 {
            changed.push('&');
        }
        if value(parameter).is_none() {
            changed.push_str(parameter);
            continue;
        }
        changed.push_str("model=");
        for byte in model.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                changed.push(char::from(byte));
            } else {
                write!(changed, "%{byte:02X}").expect("a text can be written to memory");
            }
        }
    }
    changed
}

/// Returns the value of a parameter that is the model, in whatever spelling.
fn value(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let is_model = name == "model" || name.contains('%') && decoded(name).is_some_and(|name| name == b"model");
    is_model.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_is_named() {
        for (query, expected) in [
            ("model=voice", Ok("voice")),
            ("a=1&model=org%2Fvoice+1&b=2", Ok("org/voice 1")),
            ("%6dodel=voice", Ok("voice")),
            ("", Err(QueryFault::Missing)),
            ("model", Err(QueryFault::Missing)),
            ("model=+", Err(QueryFault::Missing)),
            ("MODEL=voice", Err(QueryFault::Missing)),
            ("model=a&model=a", Err(QueryFault::Duplicate)),
            ("model=a&mode%6C=b", Err(QueryFault::Duplicate)),
            ("model=%ff", Err(QueryFault::Undecodable)),
            ("model=%2", Err(QueryFault::Undecodable)),
        ] {
            assert_eq!(model(query), expected.map(str::to_owned), "{query}");
        }
    }

    #[test]
    fn only_the_model_is_changed() {
        let query = "a=1&a=%2F+&model=voice&&b";
        let changed = with_model(query, "org/größe");
        assert_eq!(changed, "a=1&a=%2F+&model=org%2Fgr%C3%B6%C3%9Fe&&b");
        assert_eq!(model(&changed).as_deref(), Ok("org/größe"));
    }
}
