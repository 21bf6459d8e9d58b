//! A ModelRoute whose targets are resolved.

use std::sync::Arc;

use super::route::{CompiledRule, Route, RuleTarget};
use crate::object::ObjectKey;
use crate::pool::policy::PoolIndex;
use crate::pool::session::SessionKeys;
use crate::rate_limit::RateLimits;
use crate::request_head::RequestHead;

/// A ModelRoute whose targets are resolved.
#[derive(Debug)]
pub struct RouteEntry {
    pub(super) route: Arc<Route>,
    /// The targets of each of its rules.
    targets: Vec<Vec<Target>>,
    /// Why some of the targets have no pool, each as a sentence.
    pub unresolved: Vec<String>,
}

/// One resolved target of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pool, or `None` when the backend does not exist or cannot be used.
    pub pool: Option<PoolIndex>,
    /// The target's weight.
    pub weight: u32,
}

impl RouteEntry {
    /// Makes an entry of a valid route; `resolve` finds the pool of a target, or says why it has none.
    pub fn new(route: &Arc<Route>, resolve: impl Fn(&RuleTarget) -> Result<PoolIndex, String>) -> Self {
        let mut unresolved = Vec::new();
        let mut resolve = |target: &RuleTarget| {
            let pool = resolve(target).map_err(|reason| unresolved.push(reason)).ok();
            Target { pool, weight: target.weight }
        };
        let targets = rules(route).iter().map(|rule| rule.targets.iter().map(&mut resolve).collect()).collect();
        Self { route: Arc::clone(route), targets, unresolved }
    }

    /// Returns the route's namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.route.key
    }

    /// Returns the route's own copy of a name that it serves.
    pub fn name_of(&self, model: &str) -> Option<&Arc<str>> {
        self.route.model.iter().chain(&self.route.adapters).find(|name| ***name == *model)
    }

    /// Returns how many requests there may be, and how many tokens they may use, if that is limited.
    pub fn limits(&self) -> Option<&Arc<RateLimits>> {
        self.route.limits.as_ref()
    }

    /// Returns where the key of a request's client is looked for, if each client has limits of its own.
    pub fn clients(&self) -> Option<&SessionKeys> {
        self.route.clients.as_ref()
    }

    /// Returns how important its requests are, unless they say it themselves.
    pub fn priority(&self) -> i32 {
        self.route.priority.as_ref().copied().unwrap_or_default()
    }

    /// Returns the pools that its rules lead to, in the order of the spec.
    pub(super) fn pools(&self) -> impl Iterator<Item = PoolIndex> {
        self.targets.iter().flatten().filter_map(|target| target.pool)
    }

    /// Returns the place and the targets of the first rule that leads to a pool and whose headers are those of the request.
    pub(super) fn leading_to(&self, head: &RequestHead<'_>, pool: PoolIndex) -> Option<(usize, &[Target])> {
        let leads = |targets: &[Target]| targets.iter().any(|target| target.pool == Some(pool));
        let mut rules = rules(&self.route).iter().zip(&self.targets);
        let place = rules.position(|(rule, targets)| rule.has_headers(head) && leads(targets))?;
        Some((place, self.targets.get(place)?.as_slice()))
    }

    /// Returns the place and the targets of the first rule that matches.
    pub(super) fn find(&self, head: &RequestHead<'_>, model: &str) -> Option<(usize, &[Target])> {
        let place = rules(&self.route).iter().position(|rule| rule.matches(head, model))?;
        Some((place, self.targets.get(place)?.as_slice()))
    }
}

fn rules(route: &Route) -> &[CompiledRule] {
    route.rules.as_deref().unwrap_or_default()
}
