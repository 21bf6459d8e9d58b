//! Makes the bodies of both legs of a client's.
//!
//! A body is changed where it must be; whitespace, the order of keys, number literals and escapes of all other fields
//! stay as the client wrote them. What clients send of the engines' own language is taken out, because it could have an
//! engine connect to anything.

use std::ops::Range;

use bytes::Bytes;

use super::connector::{Connector, Protocol, Transfer};
use super::handover::{Handover, HandoverError};
use crate::inference::api::Api;
use crate::inference::request::{ParseError, range_in, read_fields};

/// The most bytes that a body gets in addition to the client's, without what a prefill hands over.
const MAX_PARAMS: usize = 512;

/// A request that may have its prompt computed by one engine and its text by another.
#[derive(Clone, Debug)]
pub struct SplitRequest {
    protocol: &'static Protocol,
    api: Api,
    body: Bytes,
    /// The fields that are looked at or changed, in their order.
    fields: Vec<Field>,
    whole: Option<Whole>,
}

/// Why one engine has to do a request from the beginning to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// The call generates no text, or none that is known here.
    Api,
    /// It wants several samples (`n`, `best_of`), and a transfer serves one.
    Samples,
    /// It has several prompts, and a transfer serves one.
    Prompts,
    /// It searches by beams, for which engines begin requests of their own.
    BeamSearch,
    /// It wants the probabilities of the prompt's tokens, which are known to the engine that computes the prompt.
    PromptLogprobs,
    /// It goes on from an answer that one engine has stored, or is to be done in its background.
    Stored,
}

/// A field of the client's body.
#[derive(Clone, Debug)]
struct Field {
    kind: &'static Kind,
    /// From the end of the comma or brace before it to the comma or brace after it.
    all: Range<usize>,
    value: Range<usize>,
}

/// What is known of a field.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    /// What becomes of it in a prefill's body.
    prefill: Change,
    /// What becomes of it in a decode's body.
    decode: Change,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It stays.
    Keep,
    /// It has this value.
    Be(&'static str),
    /// It has this value, unless the prefill has the samples of the decode.
    BeUnlessPaired(&'static str),
    /// It is taken out.
    Remove,
}

/// The fields that are looked at or changed; no other one is.
///
/// `min_tokens` is taken out because engines refuse one above `max_tokens`, and 0 is what they take without it.
static KINDS: [Kind; 24] = {
    use Change::{Be, BeUnlessPaired, Keep, Remove};
    const fn kind(name: &'static str, prefill: Change, decode: Change) -> Kind {
        Kind { name, prefill, decode }
    }
    [
        kind("max_tokens", Be("1"), Keep),
        kind("max_completion_tokens", Be("1"), Keep),
        kind("max_output_tokens", Be("1"), Keep),
        kind("min_tokens", Remove, Keep),
        kind("min_completion_tokens", Remove, Keep),
        kind("n", BeUnlessPaired("1"), Keep),
        kind("best_of", BeUnlessPaired("1"), Keep),
        kind("stream", Be("false"), Keep),
        kind("stream_options", Remove, Keep),
        kind("echo", Be("false"), Keep),
        kind("background", Be("false"), Keep),
        kind("store", Be("false"), Keep),
        kind("prompt", Keep, Keep),
        kind("logprobs", Keep, Keep),
        kind("prompt_logprobs", Keep, Keep),
        kind("use_beam_search", Keep, Keep),
        kind("previous_response_id", Keep, Keep),
        kind("kv_transfer_params", Remove, Remove),
        kind("ec_transfer_params", Remove, Remove),
        kind("bootstrap_host", Remove, Remove),
        kind("bootstrap_port", Remove, Remove),
        kind("bootstrap_room", Remove, Remove),
        kind("bootstrap_pair_key", Remove, Remove),
        kind("disagg_prefill_dp_rank", Remove, Remove),
    ]
};

/// The fields of a body while they are read.
#[derive(Default)]
struct Found<'a> {
    fields: Vec<(&'static Kind, &'a str)>,
    duplicate: Option<&'static str>,
}

impl SplitRequest {
    /// Reads a body as an engine would get it that does the whole request: with the engine's name of the model and the
    /// router's usage options.
    ///
    /// # Errors
    ///
    /// Everything but one JSON object is refused, and so is a body that has a field twice which is changed here, since
    /// engines do not agree on which one counts.
    pub fn read(connector: Connector, api: Api, body: Bytes) -> Result<Self, ParseError> {
        let Found { fields, duplicate } = read_fields(&body, Found::note)?;
        if let Some(field) = duplicate {
            return Err(ParseError::DuplicateField { field });
        }
        let protocol = connector.protocol();
        let whole = whole(protocol, api, &fields);
        let fields = fields.into_iter().map(|(kind, value)| Field::new(kind, value, &body)).collect();
        Ok(Self { protocol, api, body, fields, whole })
    }

    /// Returns why one engine has to do all of it, if so: what [`alone`](Self::alone) makes has to go to one that can.
    pub fn whole(&self) -> Option<Whole> {
        self.whole
    }

    /// Returns the body for one engine that does all of it: the client's, without the engines' own language.
    pub fn alone(&self) -> Bytes {
        self.write(|kind| kind.decode, "")
    }

    /// Returns how many bytes a body for one of two engines may have; one with a handover has those in addition.
    pub fn leg_length(&self) -> usize {
        self.body.len() + MAX_PARAMS
    }

    /// Returns the body for the prefill engine, which computes the prompt and one token, and answers in one piece.
    pub fn prefill(&self, transfer: &Transfer<'_>) -> Bytes {
        let is_there = |name: &str| self.fields.iter().any(|field| field.kind.name == name);
        let limits: &[(&str, &str)] = match self.api {
            // An engine stores responses unless it is told not to, and nobody would ask for this one.
            Api::Responses => &[("max_output_tokens", r#""max_output_tokens":1"#), ("store", r#""store":false"#)],
            _ => &[("max_tokens", r#""max_tokens":1"#)],
        };
        let missing = limits.iter().filter(|(name, _)| !is_there(name)).map(|(_, field)| *field);
        let params = (self.protocol.prefill)(transfer);
        let more = missing.chain([&*params]).filter(|field| !field.is_empty()).collect::<Vec<_>>().join(",");
        let pairs_samples = self.protocol.pairs_samples;
        self.write(
            |kind| match kind.prefill {
                Change::BeUnlessPaired(_) if pairs_samples => Change::Keep,
                change => change,
            },
            &more,
        )
    }

    /// Returns the body for the decode engine, which goes on from a prefill.
    ///
    /// # Errors
    ///
    /// Returns [`HandoverError::NoParams`] if the prefill has not told what the connector needs.
    pub fn decode(&self, transfer: &Transfer<'_>, handover: &Handover) -> Result<Bytes, HandoverError> {
        let more = (self.protocol.decode)(transfer, handover)?;
        Ok(self.write(|kind| kind.decode, &more))
    }

    /// Writes the body with its fields changed, and `more` fields at its end.
    fn write(&self, change: impl Fn(&'static Kind) -> Change, more: &str) -> Bytes {
        let changes = || self.fields.iter().map(|field| (field, change(field.kind)));
        if more.is_empty() && changes().all(|(_, change)| change == Change::Keep) {
            return self.body.clone();
        }
        let body = &self.body[..];
        let mut out = Vec::with_capacity(body.len() + more.len() + 16);
        let mut copied = 0;
        for (field, change) in changes() {
            match change {
                Change::Keep => {}
                Change::Be(value) | Change::BeUnlessPaired(value) => {
                    out.extend_from_slice(&body[copied..field.value.start]);
                    out.extend_from_slice(value.as_bytes());
                    copied = field.value.end;
                }
                Change::Remove => {
                    out.extend_from_slice(&body[copied..field.all.start]);
                    copied = field.all.end;
                    // One of the commas around it goes with it.
                    if out.last() == Some(&b',') {
                        out.pop();
                    } else if body[copied] == b',' {
                        copied += 1;
                    }
                }
            }
        }
        let closing_brace = body.trim_ascii_end().len() - 1;
        out.extend_from_slice(&body[copied..closing_brace]);
        if !more.is_empty() {
            let kept = out.trim_ascii_end().len();
            if out[..kept].ends_with(b"{") {
                out.truncate(kept);
            } else {
                out.push(b',');
            }
            out.extend_from_slice(more.as_bytes());
        }
        out.extend_from_slice(&body[closing_brace..]);
        out.into()
    }
}

impl Whole {
    /// Returns the name for labels and texts.
    pub fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Samples => "samples",
            Self::Prompts => "prompts",
            Self::BeamSearch => "beam_search",
            Self::PromptLogprobs => "prompt_logprobs",
            Self::Stored => "stored",
        }
    }
}

impl Field {
    fn new(kind: &'static Kind, value: &str, body: &[u8]) -> Self {
        let value = range_in(body, value);
        let is_end = |byte: &u8| matches!(byte, b',' | b'}');
        let end = body[value.end..].iter().position(is_end).map_or(body.len(), |blanks| value.end + blanks);
        Self { kind, all: begin_of_field(&body[..value.start])..end, value }
    }
}

/// Returns where the field begins whose name and colon end a text. No name that is changed here has a quote, so that
/// the last two are those around it, even if the client wrote it with escapes.
fn begin_of_field(text: &[u8]) -> usize {
    let last_quote = |text: &[u8]| text.iter().rposition(|byte| *byte == b'"').unwrap_or_default();
    let before = &text[..last_quote(&text[..last_quote(text)])];
    before.trim_ascii_end().len()
}

impl<'a> Found<'a> {
    fn note(&mut self, key: &str, value: &'a str) {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == key) else { return };
        if self.fields.iter().any(|(other, _)| other.name == kind.name) {
            self.duplicate = Some(kind.name);
        }
        self.fields.push((kind, value));
    }
}

/// Returns why one engine has to do a whole request that has these fields.
fn whole(protocol: &Protocol, api: Api, fields: &[(&'static Kind, &str)]) -> Option<Whole> {
    let is_set = |name: &str, unset: &[&str]| {
        fields.iter().any(|(kind, value)| kind.name == name && *value != "null" && !unset.contains(value))
    };
    if !matches!(api, Api::ChatCompletions | Api::Completions | Api::Responses | Api::Messages) {
        return Some(Whole::Api);
    }
    if !protocol.decodes_alone {
        return None;
    }
    if is_set("use_beam_search", &["false"]) {
        return Some(Whole::BeamSearch);
    }
    if is_set("prompt_logprobs", &[]) || (is_set("echo", &["false"]) && is_set("logprobs", &["false"])) {
        return Some(Whole::PromptLogprobs);
    }
    if is_set("previous_response_id", &[]) || is_set("background", &["false"]) {
        return Some(Whole::Stored);
    }
    if !protocol.one_sequence {
        return None;
    }
    if is_set("n", &["1"]) || is_set("best_of", &["1"]) {
        return Some(Whole::Samples);
    }
    let prompt = fields.iter().find(|(kind, _)| kind.name == "prompt").map(|(_, value)| *value);
    prompt.filter(|prompt| api == Api::Completions && is_batch(prompt)).map(|_| Whole::Prompts)
}

/// Returns whether a prompt is a list of prompts: texts, or lists of tokens. A list of tokens is one prompt.
fn is_batch(prompt: &str) -> bool {
    let Some(list) = prompt.strip_prefix('[') else { return false };
    let first = list.trim_start_matches([' ', '\n', '\r', '\t']).as_bytes().first();
    matches!(first, Some(b'"' | b'['))
}
