//! New paths in place of old ones, for redirects and rewrites.
//!
//! Source: Gateway API, `HTTPPathModifier`. A replaced prefix consists of whole elements of the path, and a slash at
//! the end of the prefix or of its replacement makes no difference where something follows; a path never becomes empty.

use std::borrow::Cow;

use super::faults::Faults;
use super::predicate::{after_prefix, is_path_text, without_slash};
use crate::kinds::http_route::HttpPathModifier;

/// The longest new path, in characters.
const MAX_PATH: usize = 1024;

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// This one takes its place.
    Full(String),
    /// This one, which has no slash at its end, takes the place of the prefix that the rule matched.
    Prefix(String),
}

impl PathModifier {
    pub(super) fn compile(path: &str, spec: &HttpPathModifier, faults: &mut Faults) -> Option<Self> {
        let (field, value) = match spec.kind.as_str() {
            "ReplaceFullPath" => ("replaceFullPath", &spec.replace_full_path),
            "ReplacePrefixMatch" => ("replacePrefixMatch", &spec.replace_prefix_match),
            other => {
                let message = format!("`{other}` is neither `ReplaceFullPath` nor `ReplacePrefixMatch`");
                faults.unsupported(format!("{path}.type"), message);
                return None;
            }
        };
        let path = format!("{path}.{field}");
        let Some(value) = value else {
            faults.unsupported(path, format!("is required by the type `{}`", spec.kind));
            return None;
        };
        if value.len() > MAX_PATH || !is_path_text(value) {
            faults
                .unsupported(path, format!("must have at most {MAX_PATH} characters, only such as paths are made of"));
            return None;
        }
        let slash = if value.starts_with('/') || value.is_empty() { "" } else { "/" };
        Some(match field {
            "replaceFullPath" if value.is_empty() => Self::Full("/".to_owned()),
            "replaceFullPath" => Self::Full(format!("{slash}{value}")),
            _ => Self::Prefix(format!("{slash}{}", without_slash(value))),
        })
    }

    /// Returns the new path; `matched` is the prefix that the rule matched, without a slash at its end.
    ///
    /// A path stays as it is if there is no such prefix, which a valid rule rules out.
    pub fn apply<'p>(&'p self, path: &'p str, matched: Option<&str>) -> Cow<'p, str> {
        let replacement = match self {
            Self::Full(path) => return Cow::Borrowed(path),
            Self::Prefix(replacement) => replacement,
        };
        let Some(rest) = matched.and_then(|prefix| after_prefix(path, prefix)) else { return Cow::Borrowed(path) };
        match (replacement.as_str(), rest) {
            ("", "") => Cow::Borrowed("/"),
            ("", rest) => Cow::Borrowed(rest),
            (replacement, "") => Cow::Borrowed(replacement),
            (replacement, rest) => Cow::Owned(format!("{replacement}{rest}")),
        }
    }
}
