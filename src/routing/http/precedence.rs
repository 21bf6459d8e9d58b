//! Which of two matches goes first.
//!
//! Source: Gateway API, `HTTPRouteRule.matches`, "must prioritize matches based on the following criteria", whose order
//! the fields of [`Rank`] have. Where regular expressions stand is left open there; here they stand between exact paths
//! and prefixes, because they say more about a path than a prefix does.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::entry::HttpEntry;
use super::predicate::{PathMatcher, Predicate};
use crate::object::ObjectKey;

/// One match of a rule, as the place where a request may end up.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) entry: Arc<HttpEntry>,
    /// The place of the rule in its route.
    pub(super) rule: usize,
    /// The place of the match in its rule.
    pub(super) place: usize,
    /// The match.
    pub(super) predicate: Arc<Predicate>,
}

/// The rank of a match; the least goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'c> {
    /// "Exact" path match, then the others.
    pub(super) path: PathClass,
    /// "Prefix" path match with largest number of characters.
    pub(super) prefix: Reverse<usize>,
    /// Method match.
    pub(super) method: Reverse<bool>,
    /// Largest number of header matches.
    pub(super) headers: Reverse<usize>,
    /// Largest number of query param matches.
    pub(super) query: Reverse<usize>,
    /// The oldest Route based on creation timestamp.
    pub(super) created: i64,
    /// The Route appearing first in alphabetical order by "{namespace}/{name}".
    pub(super) route: RouteName<'c>,
    /// The first matching rule, in list order.
    pub(super) rule: usize,
    /// The API leaves open which match of a rule counts; it only tells what prefix a rewrite replaces.
    pub(super) place: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathClass {
    Exact,
    Regex,
    Prefix,
}

/// A route's name, in the order of the text `{namespace}/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteName<'c>(&'c ObjectKey);

impl Candidate {
    /// Returns all matches of all rules of a route.
    pub(super) fn all_of(entry: &Arc<HttpEntry>) -> impl Iterator<Item = Self> {
        entry.route().rules.iter().enumerate().flat_map(move |(rule, compiled)| {
            compiled.matches.iter().enumerate().map(move |(place, predicate)| Self {
                entry: Arc::clone(entry),
                rule,
                place,
                predicate: Arc::clone(predicate),
            })
        })
    }

    /// Returns the match's rank.
    pub(super) fn rank(&self) -> Rank<'_> {
        let Predicate { path, method, headers, query } = &*self.predicate;
        let (path, prefix) = match path {
            PathMatcher::Exact(_) => (PathClass::Exact, 0),
            PathMatcher::Regex(_) => (PathClass::Regex, 0),
            PathMatcher::Prefix(prefix) => (PathClass::Prefix, prefix.chars().count()),
        };
        let route = self.entry.route();
        Rank {
            path,
            prefix: Reverse(prefix),
            method: Reverse(method.is_some()),
            headers: Reverse(headers.len()),
            query: Reverse(query.len()),
            created: route.record.created,
            route: RouteName(&route.key),
            rule: self.rule,
            place: self.place,
        }
    }
}

impl RouteName<'_> {
    fn text(&self) -> impl Iterator<Item = u8> {
        self.0.namespace.bytes().chain([b'/']).chain(self.0.name.bytes())
    }
}

impl Ord for RouteName<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text())
    }
}

impl PartialOrd for RouteName<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
