//! Matches that share hostname and path, in the order of precedence.
//!
//! Where they are many they are not asked one by one: each is filed under the value of a header or parameter that it
//! asks for, and only those are asked whose value the request has. Which value it is filed under makes no difference to
//! the outcome, because of all that match the first in the order is taken.

use foldhash::{HashMap, HashMapExt};

use super::precedence::Candidate;
use super::predicate::Predicate;
use crate::request_head::RequestHead;
use crate::request_head::query;
use crate::routing::text_matcher::{TextMatcher, ValueMatcher};

/// Up to so many matches are asked one by one.
const FEW: usize = 8;

/// Matches in the order of precedence.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    /// The places of the candidates that are asked in any case.
    unfiled: Vec<usize>,
    files: Vec<File>,
}

/// Matches that ask for some value of one header or parameter.
#[derive(Debug)]
struct File {
    part: Part,
    name: String,
    /// By value, their places in their order.
    places: HashMap<String, Vec<usize>>,
}

/// A part of a request that has values by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Header,
    Query,
}

/// A value that a match asks for: where, under which name, and the value itself.
type Asked<'c> = (Part, &'c str, &'c str);

impl Candidates {
    /// Makes a list of matches that share their path.
    pub(super) fn new(mut list: Vec<Candidate>) -> Self {
        // Ranks of one path differ in little, and comparing them costs little.
        list.sort_by(|first, second| first.rank().cmp(&second.rank()));
        Self { unfiled: (0..list.len()).collect(), list, files: Vec::new() }
    }

    /// Makes a list of matches that have one literal path, so that no request gets past one that asks for nothing else.
    pub(super) fn of_one_path(list: Vec<Candidate>) -> Self {
        let mut candidates = Self::new(list);
        if let Some(last) = candidates.list.iter().position(|candidate| candidate.predicate.is_only_path()) {
            candidates.list.truncate(last + 1);
            candidates.unfiled.truncate(last + 1);
        }
        if candidates.list.len() > FEW {
            candidates.file();
        }
        candidates
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the first match that a request satisfies.
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<&Candidate> {
        let mut best = self.list.len();
        let mut ask = |places: &[usize]| {
            let better = places.iter().take_while(|place| **place < best);
            if let Some(place) = better.copied().find(|place| self.list[*place].predicate.matches(head)) {
                best = place;
            }
        };
        for file in &self.files {
            file.visit(head, &mut ask);
        }
        ask(&self.unfiled);
        self.list.get(best)
    }

    /// Files each match under the rarest of the values that it asks for.
    fn file(&mut self) {
        let mut counts: HashMap<Asked<'_>, usize> = HashMap::new();
        for asked in self.list.iter().flat_map(|candidate| asked(&candidate.predicate)) {
            *counts.entry(asked).or_default() += 1;
        }
        let mut unfiled = Vec::new();
        let mut files: Vec<File> = Vec::new();
        let mut known: HashMap<(Part, &str), usize> = HashMap::new();
        for (place, candidate) in self.list.iter().enumerate() {
            let rarest = asked(&candidate.predicate).min_by_key(|asked| (counts[asked], *asked));
            let Some((part, name, value)) = rarest else {
                unfiled.push(place);
                continue;
            };
            let file = *known.entry((part, name)).or_insert_with(|| {
                files.push(File { part, name: name.to_owned(), places: HashMap::new() });
                files.len() - 1
            });
            files[file].places.entry(value.to_owned()).or_default().push(place);
        }
        (self.unfiled, self.files) = (unfiled, files);
    }
}

impl File {
    /// Visits the matches under every value that counts of the request.
    fn visit(&self, head: &RequestHead<'_>, visit: &mut dyn FnMut(&[usize])) {
        let mut look_up = |value: &str| {
            if let Some(places) = self.places.get(value) {
                visit(places);
            }
        };
        match self.part {
            Part::Header => {
                head.headers.any(&self.name, &mut |value| {
                    look_up(value);
                    false
                });
            }
            Part::Query => {
                if let Some(value) = query::first(head.query, &self.name) {
                    look_up(&value);
                }
            }
        }
    }
}

/// Returns the values that a match asks for literally.
fn asked(predicate: &Predicate) -> impl Iterator<Item = Asked<'_>> {
    let headers = predicate.headers.iter().map(|matcher| (Part::Header, matcher));
    let parameters = predicate.query.iter().map(|matcher| (Part::Query, matcher));
    headers.chain(parameters).filter_map(|(part, ValueMatcher { name, value })| match value {
        TextMatcher::Exact(value) => Some((part, name.as_str(), value.as_str())),
        TextMatcher::Prefix(_) | TextMatcher::Regex(_) => None,
    })
}
