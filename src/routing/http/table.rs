//! The HTTPRoutes of one listener, and the rule that a request falls under.
//!
//! Order of decision, as the Gateway API has it in `HTTPRouteSpec.hostnames` and `HTTPRouteRule.matches`: the rules of the
//! routes with the most specific hostname, and where none of them matches, those with the next; among them the order of
//! `precedence`. It is the route's own hostname that counts, however few of its hosts the listener has: of two routes on a
//! listener for `a.example.com`, the one for that host goes before the one for `*.example.com`.

use std::sync::Arc;

use super::entry::{Destination, HttpEntry, Target, Targets, Unreachable};
use super::filters::Share;
use super::path_index::PathIndex;
use super::precedence::Candidate;
use super::predicate::PathMatcher;
use super::route::Rule;
use crate::hostname::Hostname;
use crate::pool::policy::PoolIndex;
use crate::request_head::RequestHead;
use crate::routing::backend::drawn;
use crate::routing::host_index::HostIndex;

/// The HTTPRoutes of one listener.
#[derive(Debug, Default)]
pub struct HttpTable {
    hosts: HostIndex<PathIndex>,
    /// The hostname of the listener, and its routes in any order.
    pub(super) hostname: Hostname,
    pub(super) entries: Vec<Arc<HttpEntry>>,
}

/// The rule that a request falls under.
#[derive(Clone, Copy, Debug)]
pub struct HttpMatch<'t> {
    /// The route.
    pub entry: &'t HttpEntry,
    /// The rule.
    pub rule: &'t Rule,
    /// The place of the rule in its route.
    pub place: usize,
    targets: &'t Targets,
    path: &'t PathMatcher,
}

impl HttpTable {
    /// Makes the table of a listener with this hostname; the entries may come in any order. It must be asked for hosts of
    /// the listener only.
    pub fn new<'e>(listener: &Hostname, entries: impl IntoIterator<Item = &'e Arc<HttpEntry>>) -> Self {
        let mut hosts: HostIndex<Vec<Candidate>> = HostIndex::default();
        let entries: Vec<_> = entries.into_iter().cloned().collect();
        for entry in &entries {
            for hostname in entry.route().hostnames_on(listener) {
                hosts.entry(&hostname).extend(Candidate::all_of(entry));
            }
        }
        Self { hosts: hosts.map(PathIndex::new), hostname: listener.clone(), entries }
    }

    /// Returns whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the rule that a request falls under.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<HttpMatch<'_>> {
        let candidate = self.hosts.matching(head.host).find_map(|paths| paths.find(head))?;
        HttpMatch::new(candidate)
    }
}

impl<'t> HttpMatch<'t> {
    fn new(candidate: &'t Candidate) -> Option<Self> {
        let (entry, place) = (&*candidate.entry, candidate.rule);
        let (rule, targets) = (entry.route().rules.get(place)?, entry.targets.get(place)?);
        Some(Self { entry, rule, place, targets, path: &candidate.predicate.path })
    }

    /// Returns the prefix of the path that matched, without a slash at its end; `None` if the path matched otherwise.
    pub fn prefix(&self) -> Option<&'t str> {
        match self.path {
            PathMatcher::Prefix(prefix) => Some(prefix),
            PathMatcher::Exact(_) | PathMatcher::Regex(_) => None,
        }
    }

    /// Returns whether the match names this path as a whole, a slash at its end aside.
    pub fn names_path(&self, path: &str) -> bool {
        match self.path {
            PathMatcher::Exact(_) => true,
            PathMatcher::Prefix(prefix) => *prefix == path.strip_suffix('/').unwrap_or(path),
            PathMatcher::Regex(_) => false,
        }
    }

    /// Chooses a backend at random by weight; `draw(n)` must return a uniformly random number below `n`.
    ///
    /// A redirect and a preflight of the rule's filters are to be answered before. Source: Gateway API,
    /// `HTTPRouteRule.backendRefs`: a backend that cannot be used keeps its share of the requests, which are answered
    /// with 500, and so does one without endpoints, whose requests the caller answers with 503.
    ///
    /// # Errors
    ///
    /// Returns why the request goes nowhere.
    pub fn choose(&self, draw: impl FnOnce(u64) -> u64) -> Result<Target<'t>, Unreachable> {
        if !self.rule.is_valid {
            return Err(Unreachable::Invalid("the rule is invalid"));
        }
        let place = drawn(&self.rule.backends, |backend| backend.weight.into(), draw);
        let place = place.ok_or(Unreachable::Invalid("the rule has no backend"))?;
        let (destination, mirrors) = &self.targets.backends[place];
        let destination = destination.ok_or(Unreachable::Invalid("the backend of the rule cannot be used"))?;
        Ok(Target { destination, filters: &self.rule.backends[place].filters, mirrors })
    }

    /// Returns the backends of the rule that can be used.
    pub fn destinations(&self) -> impl Iterator<Item = Destination> + use<'t> {
        self.targets.backends.iter().filter_map(|(destination, _)| *destination)
    }

    /// Returns the backend of the rule that is this pool.
    pub fn leading_to(&self, pool: PoolIndex) -> Option<Target<'t>> {
        let mut backends = self.rule.backends.iter().zip(&self.targets.backends).filter(|_| self.rule.is_valid);
        backends.find_map(|(backend, (destination, mirrors))| {
            let destination = destination.filter(|destination| destination.pool == pool)?;
            Some(Target { destination, filters: &backend.filters, mirrors })
        })
    }

    /// Returns the backends that get copies of the requests of the rule.
    pub fn mirrors(&self) -> &'t [(Share, Destination)] {
        &self.targets.mirrors
    }
}
