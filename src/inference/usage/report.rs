//! Finds and reads the `usage` object in the JSON of an answer.
//!
//! | API | fields of `usage` |
//! |---|---|
//! | OpenAI chat, completions, embeddings | `prompt_tokens`, `completion_tokens` |
//! | OpenAI Responses | `input_tokens`, `output_tokens` |
//! | Anthropic messages | the same, and `cache_creation_input_tokens` and `cache_read_input_tokens`, which `input_tokens` leaves out |
//! | rerank | `total_tokens` |
//!
//! The object is searched from the end, where engines write it, and the answer
//! before it is not parsed. Generated text cannot be taken for it: within a JSON
//! string the quotes of `"usage"` are escaped.

use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Usage;

const KEY: &[u8] = br#""usage""#;

static FORWARD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

static BACKWARD: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(KEY));

/// The fields of all `usage` objects that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

/// An event that only reports usage; any other does not parse as one.
#[derive(Deserialize)]
struct UsageOnly<'a> {
    #[serde(rename = "choices")]
    _choices: [IgnoredAny; 0],
    #[serde(borrow)]
    usage: &'a RawValue,
}

impl Counts {
    /// Takes over what a later report says, field by field: Anthropic's streams
    /// tell the input at the start and the output at the end. A zero does not
    /// undo a count.
    pub(super) fn absorb(&mut self, later: Option<Self>) {
        let Some(later) = later else { return };
        for (known, new) in self.fields_mut().into_iter().zip(later.fields()) {
            if known.is_none() || new.is_some_and(|count| count > 0) {
                *known = new;
            }
        }
    }

    /// The counts in the one form that the router knows; `None` without any.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.fields().iter().all(Option::is_none) {
            return None;
        }
        let first_known = |counts: [Option<u64>; 2]| counts.into_iter().flatten().find(|count| *count > 0).unwrap_or(0);
        let input = [self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens];
        let input = input.into_iter().flatten().fold(0, u64::saturating_add);
        let completion_tokens = first_known([self.completion_tokens, self.output_tokens]);
        let total = self.total_tokens.map(|total| total.saturating_sub(completion_tokens));
        let prompt_tokens = match first_known([self.prompt_tokens, Some(input)]) {
            0 => total.unwrap_or(0),
            known => known,
        };
        Some(Usage { prompt_tokens, completion_tokens })
    }

    fn fields(&self) -> [Option<u64>; 7] {
        let mut counts = *self;
        counts.fields_mut().map(|count| *count)
    }

    fn fields_mut(&mut self) -> [&mut Option<u64>; 7] {
        [
            &mut self.prompt_tokens,
            &mut self.completion_tokens,
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.cache_creation_input_tokens,
            &mut self.cache_read_input_tokens,
            &mut self.total_tokens,
        ]
    }
}

/// Whether the bytes may hold a `usage` key with an object for value. True is
/// also said if the line or the bytes end in between; false is certain.
pub(super) fn may_hold_counts(bytes: &[u8]) -> bool {
    FORWARD.find_iter(bytes).any(|at| object_may_follow(&bytes[at + KEY.len()..]))
}

/// Reads the last `usage` object which is a field of an object that lies within
/// at most `max_depth` objects or arrays, itself included. `json` may lack its
/// beginning.
pub(super) fn last_counts(json: &[u8], max_depth: i64) -> Option<Counts> {
    let mut depth = 0;
    let mut measured = json.len();
    for at in BACKWARD.rfind_iter(json) {
        if json[..at].ends_with(b"\\") {
            // The end of a string that has an escaped quote in it.
            continue;
        }
        // What is closed between here and the end is open here.
        depth += net_closes(&json[at..measured]);
        measured = at;
        if (1..=max_depth).contains(&depth)
            && let Some(counts) = counts_after(&json[at + KEY.len()..])
        {
            return Some(counts);
        }
    }
    None
}

/// Whether the JSON is an object with empty `choices` and a `usage` object.
pub(super) fn is_usage_only(json: &[u8]) -> bool {
    serde_json::from_slice::<UsageOnly<'_>>(json).is_ok_and(|event| event.usage.get().starts_with('{'))
}

fn object_may_follow(rest: &[u8]) -> bool {
    let mut colon = false;
    for byte in rest {
        match byte {
            b' ' | b'\t' => {}
            b':' if !colon => colon = true,
            b'{' => return colon,
            byte => return matches!(byte, b'\r' | b'\n'),
        }
    }
    true
}

/// Reads `: {…}`, if that is what follows the key and holds any count.
fn counts_after(rest: &[u8]) -> Option<Counts> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    if !value.starts_with(b"{") {
        return None;
    }
    let counts = Counts::deserialize(&mut serde_json::Deserializer::from_slice(value)).ok()?;
    counts.usage().map(|_| counts)
}

/// By how many the brackets that close outnumber those that open, outside of
/// strings. The bytes begin outside of a string.
fn net_closes(mut json: &[u8]) -> i64 {
    let mut net = 0;
    while let Some((byte, rest)) = json.split_first() {
        json = match byte {
            b'"' => after_string(rest),
            b'{' | b'[' => {
                net -= 1;
                rest
            }
            b'}' | b']' => {
                net += 1;
                rest
            }
            _ => rest,
        };
    }
    net
}

/// What follows a string of which `json` is the inside.
fn after_string(mut json: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', json) {
        if json[at] == b'"' {
            return &json[at + 1..];
        }
        json = json.get(at + 2..).unwrap_or_default();
    }
    &[]
}
