//! The rules of HTTPRoutes in the order in which they are asked, for whoever wants to know why one of them won.

use std::cmp::Reverse;

use super::precedence::{Candidate, Rank};
use super::predicate::{PathMatcher, Predicate};
use super::table::HttpTable;
use crate::hostname::Hostname;
use crate::request_head::RequestHead;
use crate::routing::contender::{Contender, Matching, Standing};

/// How specific a hostname is; the least goes first.
type Specificity = (bool, u8, Reverse<usize>);

impl HttpTable {
    /// Returns every match of every rule, in the order in which they are asked.
    pub(in crate::routing) fn standings(&self, head: &RequestHead<'_>, remembered: bool) -> Vec<Standing> {
        let mut candidates: Vec<(Specificity, Candidate)> = Vec::new();
        for entry in &self.entries {
            let hostnames = entry.route().hostnames_on(&self.hostname);
            let best = hostnames.iter().filter(|hostname| hostname.matches(head.host)).map(specificity).min();
            let specificity = best.unwrap_or((true, 0, Reverse(0)));
            candidates.extend(Candidate::all_of(entry).map(|candidate| (specificity, candidate)));
        }
        candidates.sort_by(|(first_host, first), (second_host, second)| {
            (first_host, first.rank()).cmp(&(second_host, second.rank()))
        });
        candidates.iter().map(|(host, candidate)| standing(*host, candidate, head, remembered)).collect()
    }
}

fn specificity(hostname: &Hostname) -> Specificity {
    match hostname {
        Hostname::Exact(_) => (false, 0, Reverse(0)),
        Hostname::Wildcard(suffix) => (false, 1, Reverse(suffix.len())),
        Hostname::Any => (false, 2, Reverse(0)),
    }
}

fn standing(host: Specificity, candidate: &Candidate, head: &RequestHead<'_>, remembered: bool) -> Standing {
    let predicate = &*candidate.predicate;
    let matching = if host.0 { Matching::No("the host".to_owned()) } else { predicate.matching(head, remembered) };
    let mut criteria = vec![("the more specific hostname", format!("{host:?}"))];
    criteria.extend(candidate.rank().criteria());
    let contender = Contender {
        kind: "HTTPRoute".to_owned(),
        route: candidate.entry.key().to_string(),
        rule: candidate.rule,
        asks: predicate.words(),
        won: false,
        why: String::new(),
    };
    Standing { contender, matching, criteria }
}

impl Predicate {
    /// Returns what of a request is not like that, or is not known to be.
    fn matching(&self, head: &RequestHead<'_>, remembered: bool) -> Matching {
        if !self.path.matches(head.path) {
            return Matching::No("the path".to_owned());
        }
        if self.method.as_deref().is_some_and(|method| method != head.method) {
            return Matching::No("the method".to_owned());
        }
        Matching::of_values(&self.headers, &self.query, head, remembered)
    }

    /// Says what it asks for.
    fn words(&self) -> String {
        let path = match &self.path {
            PathMatcher::Exact(path) => format!("path = {path}"),
            PathMatcher::Regex(regex) => format!("path ~ {regex}"),
            PathMatcher::Prefix(prefix) if prefix.is_empty() => "any path".to_owned(),
            PathMatcher::Prefix(prefix) => format!("path below {prefix}"),
        };
        let method = self.method.iter().map(|method| format!("method {method}"));
        let headers = self.headers.iter().map(|header| format!("header {}", header.name));
        let parameters = self.query.iter().map(|parameter| format!("parameter {}", parameter.name));
        std::iter::once(path).chain(method).chain(headers).chain(parameters).collect::<Vec<_>>().join(", ")
    }
}

impl Rank<'_> {
    /// Returns what decides between two matches, in its order.
    fn criteria(&self) -> Vec<(&'static str, String)> {
        let Self { path, prefix, method, headers, query, created, route, rule, place } = self;
        vec![
            ("the kind of its path", format!("{path:?}")),
            ("the longer prefix", format!("{prefix:?}")),
            ("a method", format!("{method:?}")),
            ("the number of headers", format!("{headers:?}")),
            ("the number of parameters", format!("{query:?}")),
            ("the age of its route", created.to_string()),
            ("the name of its route", format!("{route:?}")),
            ("the order of rules", rule.to_string()),
            ("the order of matches", place.to_string()),
        ]
    }
}
