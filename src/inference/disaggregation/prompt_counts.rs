//! What a client reads of its prompt's tokens, where two engines had them.
//!
//! The tokens of the prompt and of the text are those that one engine would count: the decode engine reads the whole
//! prompt, and generates all of the text, since the one token of the prefill is not passed on. Those found in a cache
//! are not: the decode engine takes for cached what came from the prefill engine, which is nearly all of the prompt. Only
//! the prefill engine knows what it did not have to compute, and its answer says so.
//!
//! | API | corrected |
//! |---|---|
//! | chat, completions | `prompt_tokens_details.cached_tokens` |
//! | Responses | `input_tokens_details.cached_tokens` |
//! | messages | `cache_read_input_tokens`, `cache_creation_input_tokens`, and `input_tokens`, which leaves both out |
//!
//! A count that one of the two engines does not tell stays as it is.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;

use crate::inference::api::Api;
use crate::inference::field_values::{Change, FieldValues};

static CACHED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"cached_tokens\""));
static INPUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"input_tokens\""));
static READ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"cache_read_input_tokens\""));
static WRITTEN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"cache_creation_input_tokens\""));

/// Gives a decode's answer the counts of the prefill's, in an answer that arrives in pieces.
#[derive(Debug)]
pub struct PromptCounts(Vec<FieldValues>);

/// A prefill's answer, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    usage: Usage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens_details: Option<Details>,
    input_tokens_details: Option<Details>,
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

impl PromptCounts {
    /// Reads what a prefill's answer says of the prompt; `None` if it says nothing that could be wrong in the decode's.
    pub fn read(api: Api, answer: &[u8]) -> Option<Self> {
        let Answer { usage } = serde_json::from_slice(answer).ok()?;
        let cached =
            usage.prompt_tokens_details.or(usage.input_tokens_details).and_then(|details| details.cached_tokens);
        let counts: &[(&'static LazyLock<Finder<'static>>, Option<u64>)] = match api {
            Api::Messages => &[
                (&INPUT, usage.input_tokens),
                (&READ, usage.cache_read_input_tokens),
                (&WRITTEN, usage.cache_creation_input_tokens),
            ],
            _ => &[(&CACHED, cached)],
        };
        let known = counts.iter().filter_map(|(field, count)| {
            let to = (*count)?.to_string().into_bytes();
            Some(FieldValues::new(field, Change::Count { to }))
        });
        Some(Self(known.collect())).filter(|counts| !counts.0.is_empty())
    }

    /// Takes in a piece, and returns what is to be passed on by now; a piece in which nothing changes is not copied.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        self.0.iter_mut().fold(piece, |piece, field| field.feed(piece))
    }

    /// Returns what was held back, at the end of the answer.
    pub fn finish(&mut self) -> Bytes {
        self.0.iter_mut().fold(Bytes::new(), |held, field| [field.feed(held), field.finish()].concat().into())
    }
}
