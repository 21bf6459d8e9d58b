//! Replaces the bytes of a body that an engine must see differently.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::InferenceRequest;

/// Bodies of more than so many bytes are changed where they are: a second copy of them would be felt in memory.
const LARGE: usize = 64 << 10;

/// The changes of a body before an engine gets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The model name that the engine knows, if not the client's.
    pub model: Option<&'a str>,
    /// Whether the engine has to report usage at the end of the stream.
    pub include_usage: bool,
}

/// A place in a body, and what is to stand there.
type Replacement<'r> = (Range<usize>, Cow<'r, str>);

impl InferenceRequest<'_> {
    /// Returns the body with the edit made; `body` is the one that was parsed.
    ///
    /// A large body that nobody else holds is changed where it is.
    pub fn apply(&self, body: Bytes, edit: &Edit<'_>) -> Bytes {
        self.apply_from(LARGE, body, edit)
    }

    /// The same, where bodies of more than `large` bytes are large.
    pub(super) fn apply_from(&self, large: usize, body: Bytes, edit: &Edit<'_>) -> Bytes {
        let Some(replacements) = self.replacements(edit) else { return body };
        if body.len() <= large {
            return copy(&body, &replacements);
        }
        match body.try_into_mut() {
            Ok(mut body) => {
                // From the end, so that the places before keep theirs.
                replacements.iter().rev().flatten().for_each(|change| replace(&mut body, change));
                body.freeze()
            }
            Err(body) => copy(&body, &replacements),
        }
    }

    /// Returns what is to be replaced, in the order of the places; `None` when no byte changes.
    fn replacements(&self, edit: &Edit<'_>) -> Option<[Option<Replacement<'_>>; 3]> {
        let model = edit.model.filter(|name| *name != self.model);
        let usage = self.usage_splice.as_ref().filter(|_| edit.include_usage);
        if model.is_none() && usage.is_none() {
            return None;
        }
        let [first, second] = usage.map_or([None, None], |usage| {
            usage
                .0
                .each_ref()
                .map(|splice| splice.as_ref().map(|splice| (splice.at.clone(), Cow::Borrowed(splice.text))))
        });
        let model = model.map(|model| (self.model_value.clone(), Cow::Owned(quoted(model))));
        let mut all = [first, second, model];
        all.sort_unstable_by_key(|change| change.as_ref().map(|(at, _)| at.start));
        Some(all)
    }
}

/// Returns a copy of a body with the replacements made.
fn copy(body: &[u8], replacements: &[Option<Replacement<'_>>]) -> Bytes {
    let changes = || replacements.iter().flatten();
    let grown: usize = changes().map(|(_, text)| text.len()).sum();
    let removed: usize = changes().map(|(at, _)| at.len()).sum();
    let mut edited = Vec::with_capacity(body.len() + grown - removed);
    let mut copied = 0;
    for (at, text) in changes() {
        edited.extend_from_slice(&body[copied..at.start]);
        edited.extend_from_slice(text.as_bytes());
        copied = at.end;
    }
    edited.extend_from_slice(&body[copied..]);
    edited.into()
}

/// Makes one replacement in the body itself.
fn replace(body: &mut BytesMut, (at, text): &Replacement<'_>) {
    let (length, end) = (body.len(), at.start + text.len());
    body.resize(length.max(length - at.len() + text.len()), 0);
    body.copy_within(at.end..length, end);
    body.truncate(length - at.len() + text.len());
    body[at.start..end].copy_from_slice(text.as_bytes());
}

/// Returns a text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("writing to memory does not fail")
}
