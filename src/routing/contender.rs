//! A rule that could have served a request, and why it did or did not.

use serde::{Deserialize, Serialize};

use super::text_matcher::ValueMatcher;
use crate::request_head::RequestHead;

/// A rule of a route that stood for a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contender {
    /// The kind of the route.
    pub kind: String,
    /// The route's namespace and name.
    pub route: String,
    /// The place of the rule in its route, from 0.
    pub rule: usize,
    /// What the rule asks for.
    pub asks: String,
    /// Whether it serves the request.
    pub won: bool,
    /// Why it does not; empty for the one that does.
    pub why: String,
}

/// Whether a request is as a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// It is.
    Yes,
    /// It is not, in this.
    No(String),
    /// It is as far as is known; the values of these headers and parameters are not.
    Unknown(String),
}

/// A rule in the order in which rules are asked.
pub(super) struct Standing {
    /// The rule.
    pub contender: Contender,
    /// Whether the request is as it asks.
    pub matching: Matching,
    /// Why one goes first that is alike in all but this, by the criteria of the order; the first that differs decides.
    pub criteria: Vec<(&'static str, String)>,
}

impl Matching {
    /// Returns what of the headers and parameters of a request is not as it should be; no value of a `remembered` one
    /// is known.
    pub(super) fn of_values(
        headers: &[ValueMatcher],
        parameters: &[ValueMatcher],
        head: &RequestHead<'_>,
        remembered: bool,
    ) -> Self {
        let header = |asked: &ValueMatcher| (asked.is_in_headers(head), format!("the header `{}`", asked.name));
        let parameter = |asked: &ValueMatcher| (asked.is_in_query(head), format!("the parameter `{}`", asked.name));
        let mut asked = headers.iter().map(header).chain(parameters.iter().map(parameter));
        if remembered {
            let names: Vec<_> = asked.map(|(_, name)| name).collect();
            return if names.is_empty() { Self::Yes } else { Self::Unknown(names.join(" or ")) };
        }
        asked.find(|(holds, _)| !holds).map_or(Self::Yes, |(_, name)| Self::No(name))
    }
}

impl Standing {
    /// Returns why another rule, which was asked before, goes first.
    pub(super) fn yields_to(&self, winner: &Self) -> String {
        let differ =
            |(mine, theirs): (&(&'static str, String), &(&'static str, String))| (mine != theirs).then_some(mine.0);
        let of_a_kind = self.contender.kind == winner.contender.kind;
        let criterion = self.criteria.iter().zip(&winner.criteria).find_map(differ).filter(|_| of_a_kind);
        match criterion {
            Some(criterion) => format!("it matches, and another goes first by {criterion}"),
            None if of_a_kind => "it matches, and another goes first".to_owned(),
            None => format!("{}s are asked first", winner.contender.kind),
        }
    }
}
