//! Conditions on texts of a request, as both kinds of routes have them.

use regex::Regex;

use crate::request_head::{RequestHead, query};

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

/// A condition on the value of a header or parameter.
#[derive(Clone, Debug)]
pub(super) struct ValueMatcher {
    /// The header's name in lower case, or the parameter's name.
    pub name: String,
    /// The condition on its value.
    pub value: TextMatcher,
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

impl ValueMatcher {
    /// Returns whether any value of the header is like that.
    pub(super) fn is_in_headers(&self, head: &RequestHead<'_>) -> bool {
        head.headers.any(&self.name, &mut |value| self.value.matches(value))
    }

    /// Returns whether the first value of the parameter is like that.
    pub(super) fn is_in_query(&self, head: &RequestHead<'_>) -> bool {
        query::first(head.query, &self.name).is_some_and(|value| self.value.matches(&value))
    }
}
