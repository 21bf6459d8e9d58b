//! A condition on a text of a request, as both kinds of routes have it.

use regex::Regex;

/// A condition on a text.
#[derive(Clone, Debug)]
pub(super) enum TextMatcher {
    /// It is this one.
    Exact(String),
    /// It begins with this one.
    Prefix(String),
    /// It matches this expression, which says itself where it is anchored.
    Regex(Regex),
}

impl TextMatcher {
    /// Returns whether a text is like that.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}
