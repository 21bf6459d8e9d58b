//! Reads an OpenAI-style JSON body, and edits it.
//!
//! The chat, completion, embedding, response, message, rerank and score endpoints of vLLM and SGLang all take one JSON
//! object whose `model` names what has to answer; `stream` asks for server-sent events, and
//! `stream_options.include_usage` for one more event with the token counts. The body is checked as a whole, so that an
//! engine never sees what the router understood differently, but nothing of it is copied: an edit replaces the bytes
//! that must change and leaves whitespace, key order, number literals and escapes of all others as the client wrote
//! them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

pub use edit::Edit;

use super::prompt::PromptFields;

mod edit;
mod scan;
#[cfg(test)]
mod tests;

/// A client's body, read as far as routing needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferenceRequest<'a> {
    /// The model or adapter that the client names; never blank. Borrowed unless the client wrote it with escapes.
    pub model: Cow<'a, str>,
    /// Whether the client asks for a stream: `stream` is the literal `true`.
    pub stream: bool,
    model_value: Range<usize>,
    wants_usage: bool,
    usage_splice: Option<UsageEdit>,
    prompt: PromptFields<Range<u32>>,
}

/// Why a body cannot be routed; the text is what the API user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The body is not JSON, or more than one JSON value.
    #[error("request body is not valid JSON: {message} at line {line}, column {column}")]
    Json {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in bytes, from 1; 0 is the end of the line before.
        column: usize,
        /// What the parser met.
        message: String,
    },
    /// The body is JSON, but an array, string, number, boolean or null.
    #[error("request body must be a JSON object")]
    NotAnObject,
    /// The object has no `model`.
    #[error("request body has no field `model`")]
    MissingModel,
    /// The `model` is of another JSON type.
    #[error("field `model` must be a string")]
    ModelNotAString,
    /// The `model` is empty or white space.
    #[error("field `model` must not be blank")]
    BlankModel,
    /// A field that the router reads occurs twice, and the engine might take the other one.
    #[error("field `{field}` occurs more than once in the request body")]
    DuplicateField {
        /// Path of the field.
        field: &'static str,
    },
}

/// One replacement of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Splice {
    at: Range<usize>,
    text: &'static str,
}

/// What asks an engine for one report of usage at a stream's end, and no more: replacements in the order of their
/// places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct UsageEdit([Option<Splice>; 2]);

/// The values of the top-level fields that the router reads.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields<'a> {
    model: Option<&'a str>,
    stream: Option<&'a str>,
    stream_options: Option<&'a str>,
    prompt: PromptFields<&'a [u8]>,
    duplicate: Option<&'static str>,
}

/// The content of a `stream_options` object.
#[derive(Default)]
struct StreamOptions<'a> {
    include_usage: Option<&'a RawValue>,
    continuous: Option<&'a RawValue>,
    empty: bool,
    duplicate: Option<&'static str>,
}

/// A top-level key.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A key of `stream_options`.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum StreamOption {
    IncludeUsage,
    ContinuousUsageStats,
    #[serde(other)]
    Other,
}

/// Notes the fields of an object.
struct FieldsVisitor<F>(F);

struct StreamOptionsVisitor;

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl InferenceRequest<'_> {
    /// Returns the same without any reference to the body.
    pub fn into_owned(self) -> InferenceRequest<'static> {
        let Self { model, stream, model_value, wants_usage, usage_splice, prompt } = self;
        let model = Cow::Owned(model.into_owned());
        InferenceRequest { model, stream, model_value, wants_usage, usage_splice, prompt }
    }

    /// Whether the client itself asked for the usage event of a stream: `stream_options.include_usage` is `true`.
    pub fn wants_usage(&self) -> bool {
        self.wants_usage
    }

    /// Whether [`Edit::include_usage`] changes this body. Exactly then the usage event is the router's and has to be
    /// taken out of the answer; a client that asked, or whose `stream_options` the engine is going to refuse, gets what
    /// the engine sends.
    pub fn lacks_usage(&self) -> bool {
        self.usage_splice.is_some()
    }

    /// Returns what the body, from which this was read, says of its prompt.
    pub(super) fn prompt<'b>(&self, body: &'b [u8]) -> PromptFields<&'b [u8]> {
        self.prompt.values(body)
    }
}

impl UsageEdit {
    fn one(at: Range<usize>, text: &'static str) -> Self {
        Self([Some(Splice { at, text }), None])
    }
}

impl<'a> Fields<'a> {
    /// Takes in a field, if it is one that the router reads.
    fn note(&mut self, key: &str, value: &'a str) {
        let (slot, name) = match key {
            "model" => (&mut self.model, "model"),
            "stream" => (&mut self.stream, "stream"),
            "stream_options" => (&mut self.stream_options, "stream_options"),
            _ => return self.prompt.note(key, value),
        };
        if slot.replace(value).is_some() {
            self.duplicate = Some(name);
        }
    }
}

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for FieldsVisitor<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            self.0(&key, value.get());
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for StreamOptionsVisitor {
    type Value = StreamOptions<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StreamOptions<'de>, A::Error> {
        let mut options = StreamOptions { empty: true, ..StreamOptions::default() };
        while let Some(option) = map.next_key::<StreamOption>()? {
            options.empty = false;
            match option {
                StreamOption::IncludeUsage if options.include_usage.replace(map.next_value()?).is_some() => {
                    options.duplicate = Some("stream_options.include_usage");
                }
                StreamOption::ContinuousUsageStats if options.continuous.replace(map.next_value()?).is_some() => {
                    options.duplicate = Some("stream_options.continuous_usage_stats");
                }
                StreamOption::IncludeUsage | StreamOption::ContinuousUsageStats => {}
                StreamOption::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(options)
    }
}

/// Reads a request body.
///
/// # Errors
///
/// Everything but exactly one JSON object with a non-blank string `model` is refused, and so is a body that names a
/// field twice which the router reads. Nesting may be of any depth.
pub fn parse(body: &[u8]) -> Result<InferenceRequest<'_>, ParseError> {
    let fields = read_fields(body, Fields::note)?;
    if let Some(field) = fields.duplicate {
        return Err(ParseError::DuplicateField { field });
    }
    let (model_value, model) = read_model(body, fields.model)?;
    let closing_brace = body.trim_ascii_end().len() - 1;
    let (wants_usage, usage_splice) = match fields.stream_options {
        None => {
            let text = r#","stream_options":{"include_usage":true}"#;
            (false, Some(UsageEdit::one(closing_brace..closing_brace, text)))
        }
        Some(options) => read_stream_options(body, options)?,
    };
    let stream = fields.stream.is_some_and(|value| value == "true");
    let prompt = fields.prompt.places(body);
    Ok(InferenceRequest { model, stream, model_value, wants_usage, usage_splice, prompt })
}

/// Collects the fields of a body that is one JSON object: `note` is given each with its value, as it is written.
///
/// # Errors
///
/// Returns what is wrong with any other body.
pub(super) fn read_fields<'a, T: Default>(
    body: &'a [u8],
    note: impl Fn(&mut T, &str, &'a str),
) -> Result<T, ParseError> {
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|error| fault_at(body, error.valid_up_to(), "invalid UTF-8".to_owned()))?;
    let mut fields = T::default();
    if scan::top_level(text, |key, value| note(&mut fields, key, value)).is_some() {
        return Ok(fields);
    }
    parse_fields(text, note)
}

/// The same by the general parser, which says what is wrong.
fn parse_fields<'a, T: Default>(text: &'a str, note: impl Fn(&mut T, &str, &'a str)) -> Result<T, ParseError> {
    let mut fields = T::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let visitor = FieldsVisitor(|key: &str, value| note(&mut fields, key, value));
    let parsed = (&mut deserializer).deserialize_map(visitor).and_then(|()| deserializer.end());
    parsed.map_err(|error| body_error(&error))?;
    Ok(fields)
}

fn read_model<'a>(body: &[u8], value: Option<&'a str>) -> Result<(Range<usize>, Cow<'a, str>), ParseError> {
    let raw = value.ok_or(ParseError::MissingModel)?;
    let at = range_in(body, raw);
    if !raw.starts_with('"') {
        return Err(ParseError::ModelNotAString);
    }
    // Skipping over a string does not look at surrogates: decoding does.
    let Text(model) = serde_json::from_str(raw)
        .map_err(|error| fault_at(body, at.start + error.column().saturating_sub(1), message_of(&error)))?;
    if model.trim().is_empty() {
        return Err(ParseError::BlankModel);
    }
    Ok((at, model))
}

/// Says whether the client asked for usage and, if not, what to write where.
///
/// `continuous_usage_stats` does nothing without `include_usage`, and with it has counts written into every event: a
/// client that asked for it alone must not see them.
fn read_stream_options(body: &[u8], raw: &str) -> Result<(bool, Option<UsageEdit>), ParseError> {
    let at = range_in(body, raw);
    if raw == "null" {
        return Ok((false, Some(UsageEdit::one(at, r#"{"include_usage":true}"#))));
    }
    if !raw.starts_with('{') {
        return Ok((false, None));
    }
    let options = serde_json::Deserializer::from_str(raw)
        .deserialize_map(StreamOptionsVisitor)
        .map_err(|error| body_error(&error))?;
    if let Some(field) = options.duplicate {
        return Err(ParseError::DuplicateField { field });
    }
    let end = at.end - 1;
    let asked = match options.include_usage.map(RawValue::get) {
        None if options.empty => Splice { at: end..end, text: r#""include_usage":true"# },
        None => Splice { at: end..end, text: r#","include_usage":true"# },
        Some(flag @ ("false" | "null")) => Splice { at: range_in(body, flag), text: "true" },
        Some(flag) => return Ok((flag == "true", None)),
    };
    let silenced = match options.continuous.map(RawValue::get) {
        None | Some("false" | "null") => None,
        Some(flag @ "true") => Some(Splice { at: range_in(body, flag), text: "false" }),
        Some(_) => return Ok((false, None)),
    };
    let mut splices = [Some(asked), silenced];
    splices.sort_unstable_by_key(|splice| splice.as_ref().map(|splice| splice.at.start));
    Ok((false, Some(UsageEdit(splices))))
}

/// The place of `part`, which is borrowed from `body`.
pub(super) fn range_in(body: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - body.as_ptr().addr();
    start..start + part.len()
}

fn body_error(error: &serde_json::Error) -> ParseError {
    if error.is_data() {
        // The only thing asked of the value as a whole is to be an object.
        return ParseError::NotAnObject;
    }
    ParseError::Json { line: error.line(), column: error.column(), message: message_of(error) }
}

/// The parser's message without the position that it appends.
fn message_of(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}

fn fault_at(body: &[u8], offset: usize, message: String) -> ParseError {
    let before = &body[..offset];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    ParseError::Json { line, column: offset - line_start + 1, message }
}
