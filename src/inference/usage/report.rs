//! Finds and reads the `usage` object in the JSON of an answer.
//!
//! | API | fields of `usage` |
//! |---|---|
//! | OpenAI chat, completions, embeddings | `prompt_tokens`, `completion_tokens` |
//! | OpenAI Responses | `input_tokens`, `output_tokens` |
//! | Anthropic messages | the same, and `cache_creation_input_tokens` and `cache_read_input_tokens`, which `input_tokens` leaves out |
//! | rerank | `total_tokens` |
//!
//! The object is searched from the end, where engines write it, and the answer before it is not parsed. Generated text
//! cannot be taken for it: within a JSON string the quotes of `"usage"` are escaped.

use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Usage;

/// The key of the object.
pub(super) const KEY: &[u8] = br#""usage""#;

/// More tokens than any answer has. A count beyond it is a lie or a fault, and a few of them would carry a sum of 64 bits
/// over its end.
const MOST_TOKENS: u64 = 1 << 32;

static FORWARD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

/// The fields of all `usage` objects that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "count")]
    total_tokens: Option<u64>,
}

/// An event that only reports usage; any other does not parse as one. Engines leave `choices` empty, null or out.
#[derive(Deserialize)]
struct UsageOnly<'a> {
    #[serde(rename = "choices", default)]
    _choices: Option<[IgnoredAny; 0]>,
    #[serde(borrow)]
    usage: &'a RawValue,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

/// Reads a count, which is `None` for anything but a number that can be one: what an engine adds to a report must not
/// make the rest of it unreadable.
struct CountVisitor;

impl Counts {
    /// Takes over what a later report says, field by field: Anthropic's streams tell the input at the start and the
    /// output at the end. A zero does not undo a count.
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
        if !self.has_any() {
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

    fn has_any(&self) -> bool {
        self.fields().iter().any(Option::is_some)
    }

    /// Returns the field of this name.
    fn field(&mut self, name: &[u8]) -> Option<&mut Option<u64>> {
        match name {
            b"prompt_tokens" => Some(&mut self.prompt_tokens),
            b"completion_tokens" => Some(&mut self.completion_tokens),
            b"input_tokens" => Some(&mut self.input_tokens),
            b"output_tokens" => Some(&mut self.output_tokens),
            b"cache_creation_input_tokens" => Some(&mut self.cache_creation_input_tokens),
            b"cache_read_input_tokens" => Some(&mut self.cache_read_input_tokens),
            b"total_tokens" => Some(&mut self.total_tokens),
            _ => None,
        }
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

/// Where the bytes may hold a `usage` key with an object for value, for the first time. A place is also told if the line
/// or the bytes end in between; that there is none is certain.
pub(super) fn first_suspect(bytes: &[u8]) -> Option<usize> {
    FORWARD.find_iter(bytes).find(|at| object_may_follow(&bytes[at + KEY.len()..]))
}

/// Reads the last `usage` object which is a field of an object that lies within at most `max_depth` objects or arrays,
/// itself included. `json` may lack its beginning.
pub(super) fn last_counts(json: &[u8], max_depth: i64) -> Option<Counts> {
    let (mut depth, mut measured) = (0, json.len());
    // The rarest letter of the key, in the fields of the object as well.
    let ends = memchr::memrchr_iter(b'g', json).filter_map(|at| at.checked_sub(KEY.len() - 3));
    for at in ends.filter(|at| json[*at..].starts_with(KEY)) {
        if json[..at].ends_with(b"\\") {
            // The end of a string that has an escaped quote in it.
            continue;
        }
        let value = value_after(&json[at + KEY.len()..]);
        let plain = value.and_then(plain_counts);
        // What is closed between here and the end is open here; a whole object closes what it opens.
        let whole = plain.map(|(_, rest)| json.len() - rest.len()).filter(|end| *end <= measured);
        depth += net_closes(&json[whole.unwrap_or(at)..measured]);
        measured = at;
        if (1..=max_depth).contains(&depth)
            && let Some(counts) = plain.map(|(counts, _)| counts).or_else(|| counts_of(value?)).filter(Counts::has_any)
        {
            return Some(counts);
        }
    }
    None
}

/// Returns whether the JSON is an object without choices and with a `usage` object.
pub(super) fn is_usage_only(json: &[u8]) -> bool {
    let event = serde_json::from_slice::<UsageOnly<'_>>(json);
    event.is_ok_and(|event| event.usage.get().starts_with('{') && event.error.is_none())
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

/// Returns what follows a colon, if that is an object.
fn value_after(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    value.starts_with(b"{").then_some(value)
}

/// Reads the object that the JSON begins with, if it holds any count.
pub(super) fn counts_of(json: &[u8]) -> Option<Counts> {
    let general = || Counts::deserialize(&mut serde_json::Deserializer::from_slice(json)).ok();
    plain_counts(json).map(|(counts, _)| counts).or_else(general).filter(Counts::has_any)
}

/// Reads an object that holds nothing but counts and `null`, as nearly all do, at a quarter of the cost, and returns
/// what follows it; `None` leaves any other to the general parser.
fn plain_counts(json: &[u8]) -> Option<(Counts, &[u8])> {
    /// More digits than these may be of a count that is too large.
    const MOST_DIGITS: usize = 9;
    let mut counts = Counts::default();
    let mut rest = json.strip_prefix(b"{")?;
    loop {
        let name = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let (name, value) = name.split_at(memchr::memchr(b'"', name)?);
        let value = value[1..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = match (counts.field(name), digits) {
            (None, 0) if !name.contains(&b'\\') => value.strip_prefix(b"null")?,
            (Some(field @ None), 1..=MOST_DIGITS) if value[0] != b'0' || digits == 1 => {
                *field = Some(value[..digits].iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0')));
                &value[digits..]
            }
            _ => return None,
        };
        match rest.trim_ascii_start().split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => return Some((counts, after)),
            _ => return None,
        }
    }
}

/// Returns where the first key ends that is not the end of a text with an escaped quote in it; `preceding` is the byte
/// before the bytes.
pub(super) fn find_key(bytes: &[u8], preceding: Option<u8>) -> Option<usize> {
    let before = |at: usize| at.checked_sub(1).map_or(preceding, |last| Some(bytes[last]));
    FORWARD.find_iter(bytes).find(|at| before(*at) != Some(b'\\')).map(|at| at + KEY.len())
}

/// By how many the brackets that close outnumber those that open, outside of strings. The bytes begin outside of a
/// string.
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

/// Returns what follows a string; `json` begins inside of it.
fn after_string(mut json: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', json) {
        if json[at] == b'"' {
            return &json[at + 1..];
        }
        json = json.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    deserializer.deserialize_any(CountVisitor)
}

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Option<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a count")
    }

    fn visit_u64<E>(self, count: u64) -> Result<Self::Value, E> {
        Ok((count <= MOST_TOKENS).then_some(count))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the range is checked before"
    )]
    fn visit_f64<E>(self, count: f64) -> Result<Self::Value, E> {
        // Some engines count in floating point.
        Ok((0.0..=MOST_TOKENS as f64).contains(&count).then_some(count as u64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_quick_way_reads_what_the_general_parser_reads(
            fields in prop::collection::vec(
                (
                    prop::sample::select(vec!["prompt_tokens", "completion_tokens", "total_tokens", "details", "a\\u0020b"]),
                    prop::sample::select(vec!["0", "7", "007", "12345678", "4294967297", "1e2", "-1", "7.5", "null", "{}", "\"7\"", ""]),
                ),
                0..5,
            ),
            blank in prop::sample::select(vec!["", " ", "\n\t"]),
            end in prop::sample::select(vec!["}", ",}", "", "}}"]),
        ) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\"{blank}:{blank}{value}")).collect();
            let json = format!("{{{blank}{}{blank}{end}", fields.join(&format!("{blank},{blank}")));
            let quick = plain_counts(json.as_bytes()).map(|(counts, _)| counts);
            let general = Counts::deserialize(&mut serde_json::Deserializer::from_str(&json)).ok();
            prop_assert!(quick.is_none() || quick == general, "{json}: {quick:?}, not {general:?}");
        }
    }

    #[test]
    fn the_quick_way_is_taken_for_what_engines_write() {
        for json in [
            r#"{"prompt_tokens":12,"total_tokens":18,"completion_tokens":6,"prompt_tokens_details":null}"#,
            r#"{"input_tokens": 3, "output_tokens": 0}"#,
        ] {
            assert!(plain_counts(json.as_bytes()).is_some(), "{json}");
        }
    }
}
