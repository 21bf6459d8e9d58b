//! Watches a JSON body go by for the model that it names, without keeping it.
//!
//! A client may say in a header which model its body names, so that the body need not be read before it is known where it goes.
//! What engines go by is the body: it has to say the same, once, before its last brace is passed on. Everything at the top of
//! the object is followed strictly, since a reader that guesses another encoding, as Python's does, must not find another
//! model. What is within values is only skipped: strings and brackets are enough for that, and what is no JSON there is
//! refused by every engine.

use std::sync::Arc;

use super::request::ParseError;
use super::understood::{MAX_MODEL_NAME, NotUnderstood};

/// The field that names the model.
const MODEL: &str = "model";
/// The longest spelling of a key that may be [`MODEL`], in bytes: each letter as an escape of six.
const MAX_KEY: usize = MODEL.len() * 6;
/// The longest spelling of a model's name, with its quotes.
const MAX_VALUE: usize = MAX_MODEL_NAME * 6 + 2;
/// What is wrong with bytes that are out of place.
const ODD: &str = "a byte of it is of no JSON object";
/// What a text may begin with (see `without_mark`).
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What is known of a body, as far as it went by.
#[derive(Clone, Debug)]
pub struct ModelWatch {
    model: Arc<str>,
    state: State,
    /// What was read of a key, or of the model.
    read: Vec<u8>,
    /// Whether the model was found.
    is_named: bool,
}

/// Where in the body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the byte order mark are read.
    Start(usize),
    /// Behind the first brace, or behind a comma: a key follows.
    Key { may_end: bool },
    /// Within a key.
    InKey { escaped: bool },
    /// Behind a key, which may be that of the model.
    Colon { is_model: bool },
    /// Behind a colon.
    Value { is_model: bool },
    /// Within the name of the model.
    InModel { escaped: bool },
    /// Within a number or a word.
    Word,
    /// Within a value of so many brackets, or in a string of it.
    Nested { depth: u32, string: Option<bool> },
    /// Behind a value.
    Comma,
    /// Behind the last brace.
    Ended,
}

impl ModelWatch {
    /// Begins with a body that has to name this model.
    pub fn new(model: Arc<str>) -> Self {
        Self { model, state: State::Start(0), read: Vec::new(), is_named: false }
    }

    /// Takes in the next piece of the body.
    ///
    /// # Errors
    ///
    /// Returns an error for a body that does not name the model, or names one more than once, and for what is no JSON object; a
    /// piece with an error must not be passed on.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), NotUnderstood> {
        let mut rest = piece;
        while let Some((byte, after)) = rest.split_first() {
            let skipped = self.skip(rest);
            if skipped > 0 {
                rest = &rest[skipped..];
                continue;
            }
            self.state = self.step(*byte)?;
            rest = after;
        }
        Ok(())
    }

    /// Takes in the end of the body.
    ///
    /// # Errors
    ///
    /// Returns an error for a body that is cut off.
    pub fn end(&self) -> Result<(), NotUnderstood> {
        if self.state == State::Ended { Ok(()) } else { Err(NotUnderstood::Malformed("it is cut off")) }
    }

    /// Returns how many bytes say nothing: those of a string within a value that are neither its end nor an escape.
    fn skip(&self, rest: &[u8]) -> usize {
        match self.state {
            State::Nested { string: Some(false), .. } => memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len()),
            _ => 0,
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, NotUnderstood> {
        let state = self.state;
        let is_blank = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        Ok(match (state, byte) {
            (State::Start(read), _) if MARK.get(read) == Some(&byte) => State::Start(read + 1),
            (State::Start(0 | 3), b'{') => State::Key { may_end: true },
            (State::Start(0 | 3) | State::Key { .. } | State::Colon { .. } | State::Value { .. }, _) if is_blank => {
                state
            }
            (State::Comma | State::Ended, _) if is_blank => state,
            (State::Start(_), _) => return Err(ParseError::NotAnObject.into()),
            (State::Key { .. }, b'"') => {
                self.read.clear();
                State::InKey { escaped: false }
            }
            (State::Key { may_end: true } | State::Comma | State::Word, b'}') => self.close()?,
            (State::InKey { escaped: false }, b'"') => self.colon(),
            (State::InKey { escaped }, _) => {
                self.keep(byte, MAX_KEY);
                State::InKey { escaped: byte == b'\\' && !escaped }
            }
            (State::Colon { is_model }, b':') => State::Value { is_model },
            (State::Value { is_model: true }, b'"') => {
                self.read.clear();
                self.read.push(byte);
                State::InModel { escaped: false }
            }
            (State::Value { is_model: true }, _) => return Err(ParseError::ModelNotAString.into()),
            (State::Value { .. }, b'"') => State::Nested { depth: 0, string: Some(false) },
            (State::Value { .. }, b'{' | b'[') => State::Nested { depth: 1, string: None },
            (State::Value { .. }, b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => State::Word,
            (State::InModel { escaped }, _) => self.model(byte, escaped)?,
            (State::Word | State::Comma, b',') => State::Key { may_end: false },
            (State::Word, _) if is_blank => State::Comma,
            (State::Word, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') => State::Word,
            (State::Nested { depth, string }, _) => nested(depth, string, byte),
            (State::Key { .. } | State::Colon { .. } | State::Value { .. } | State::Word, _)
            | (State::Comma | State::Ended, _) => {
                return Err(NotUnderstood::Malformed(ODD));
            }
        })
    }

    fn keep(&mut self, byte: u8, most: usize) {
        // One more than the longest is enough to be another one.
        if self.read.len() <= most {
            self.read.push(byte);
        }
    }

    /// Takes in the end of a key.
    fn colon(&mut self) -> State {
        let spelled = [b"\"", &*self.read, b"\""].concat();
        let is_model = serde_json::from_slice::<String>(&spelled).is_ok_and(|key| key == MODEL);
        State::Colon { is_model }
    }

    /// Takes in a byte of the model's name.
    fn model(&mut self, byte: u8, escaped: bool) -> Result<State, NotUnderstood> {
        self.keep(byte, MAX_VALUE);
        if byte != b'"' || escaped {
            return Ok(State::InModel { escaped: byte == b'\\' && !escaped });
        }
        if self.is_named {
            return Err(ParseError::DuplicateField { field: MODEL }.into());
        }
        self.is_named = true;
        match serde_json::from_slice::<String>(&self.read) {
            Ok(named) if named == *self.model => Ok(State::Comma),
            _ => Err(NotUnderstood::OtherModel { header: Arc::clone(&self.model) }),
        }
    }

    /// Takes in the last brace.
    fn close(&self) -> Result<State, NotUnderstood> {
        if self.is_named { Ok(State::Ended) } else { Err(ParseError::MissingModel.into()) }
    }
}

/// Goes on within a value.
fn nested(depth: u32, string: Option<bool>, byte: u8) -> State {
    let (depth, string) = match (string, byte) {
        (Some(false), b'"') => (depth, None),
        (Some(false), b'\\') => (depth, Some(true)),
        (Some(_), _) => (depth, Some(false)),
        (None, b'"') => (depth, Some(false)),
        (None, b'{' | b'[') => (depth.saturating_add(1), None),
        (None, b'}' | b']') => (depth - 1, None),
        (None, _) => (depth, None),
    };
    if depth == 0 && string.is_none() { State::Comma } else { State::Nested { depth, string } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::inference::request::parse;

    fn watch(body: &[u8], cut: usize) -> Result<(), NotUnderstood> {
        let mut watch = ModelWatch::new("org/m".into());
        for piece in body.chunks(cut.max(1)) {
            watch.feed(piece)?;
        }
        watch.end()
    }

    #[test]
    fn a_body_has_to_name_the_model_of_the_header_and_no_other() {
        let other = || NotUnderstood::OtherModel { header: "org/m".into() };
        let parse_error = |error: ParseError| Err(error.into());
        for (body, expected) in [
            (r#"{"model":"org/m"}"#, Ok(())),
            (
                " {\n\"a\" : [1, {\"model\":\"x\"}, \"}\"] , \"model\"\t:\"org/m\" , \"b\":-1.5e+3,\"c\":null } \n",
                Ok(()),
            ),
            ("\u{feff}{\"model\":\"org/m\"}", Ok(())),
            (r#"{"mod\u0065l":"org\/\u006d"}"#, Ok(())),
            (r#"{"a":"\\\"}","model":"org/m"}"#, Ok(())),
            (r#"{"model":"org/n"}"#, Err(other())),
            (r#"{"model":"org/m "}"#, Err(other())),
            (r#"{"model":"\ud800"}"#, Err(other())),
            (r#"{"model":"org/m","model":"org/m"}"#, parse_error(ParseError::DuplicateField { field: MODEL })),
            (r#"{"model":"org/m","mode\u006c":"x"}"#, parse_error(ParseError::DuplicateField { field: MODEL })),
            (r#"{"model":["org/m"]}"#, parse_error(ParseError::ModelNotAString)),
            (r#"{"model":null}"#, parse_error(ParseError::ModelNotAString)),
            (r#"{"Model":"org/m"}"#, parse_error(ParseError::MissingModel)),
            ("{}", parse_error(ParseError::MissingModel)),
            (r#"["model"]"#, parse_error(ParseError::NotAnObject)),
            ("\u{feff}\u{feff}{}", parse_error(ParseError::NotAnObject)),
            ("", Err(NotUnderstood::Malformed("it is cut off"))),
            (r#"{"model":"org/m""#, Err(NotUnderstood::Malformed("it is cut off"))),
            (r#"{"model":"org/m"}{}"#, Err(NotUnderstood::Malformed(ODD))),
            (r#"{"model":"org/m",}"#, Err(NotUnderstood::Malformed(ODD))),
            ("{\"\0m\0", Err(NotUnderstood::Malformed("it is cut off"))),
            ("{\0\"\0m\0", Err(NotUnderstood::Malformed(ODD))),
        ] {
            for cut in [1, 2, 7, 1000] {
                assert_eq!(watch(body.as_bytes(), cut), expected, "{body} in pieces of {cut}");
            }
        }
        let long = format!(r#"{{"{}":1,"model":"{}"}}"#, "k".repeat(99), "m".repeat(MAX_VALUE * 2));
        assert_eq!(watch(long.as_bytes(), 50), Err(other()), "nothing grows with the body");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],: é模]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("model".to_owned()), "[a-z\"\\\\]{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_the_parser_finds(body in value(), pretty: bool, cut in 1_usize..40, named in prop::option::of("org/[mn]")) {
            let mut body = body;
            if let (Some(fields), Some(named)) = (body.as_object_mut(), named) {
                fields.insert(MODEL.to_owned(), named.into());
            }
            let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            let agrees = parse(text.as_bytes()).is_ok_and(|request| request.model == "org/m");
            prop_assert_eq!(watch(text.as_bytes(), cut).is_ok(), agrees, "{}", text);
        }

        #[test]
        fn whatever_arrives_is_taken_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..40) {
            let in_pieces = watch(&body, cut).is_ok();
            prop_assert_eq!(in_pieces, watch(&body, body.len()).is_ok());
            prop_assert!(!in_pieces);
        }
    }
}
