//! The compiled routes of every bind, and the decision that they make for a request.
//!
//! Order of decision: the bind that the request came in on; its listeners with the most specific matching hostname
//! (exact, then the longest wildcard, then none), of which several Gateways may each have one, the oldest Gateway
//! first; the exact model name before LoRA names; the oldest ModelRoute first, then by namespace and name; its rules
//! in order; the target by weight. A route none of whose rules match passes the request on to the next route.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::backend::{Availability, choose};
use super::request::RequestHead;
use crate::gateway::hostname::Hostname;
use crate::native::route::{CompiledRule, PoolPolicy, Route, RuleTarget};
use crate::object::{Bind, ObjectKey, PoolKey};

/// Finds a pool in [`RouteTable::pools`], and in whatever list is kept beside it in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// All routes of the router at one moment.
#[derive(Debug, Default)]
pub struct RouteTable {
    binds: HashMap<Bind, BindTable>,
    /// The pools that targets refer to.
    pub pools: Vec<PoolEntry>,
}

/// A pool, and how requests are sent to it.
#[derive(Clone, Debug)]
pub struct PoolEntry {
    /// The pool.
    pub key: PoolKey,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
}

/// The listeners that share one bind.
#[derive(Debug, Default)]
pub struct BindTable {
    exact: HashMap<String, Vec<ListenerTable>>,
    /// By suffix, the longest first.
    wildcard: Vec<(String, Vec<ListenerTable>)>,
    any: Vec<ListenerTable>,
}

/// The routes of one listener of one Gateway.
#[derive(Debug)]
pub struct ListenerTable {
    /// The Gateway's namespace and name; `None` for the plain port that is open when the Gateway API is off.
    pub gateway: Option<Arc<str>>,
    models: HashMap<Arc<str>, Vec<Arc<RouteEntry>>>,
    adapters: HashMap<Arc<str>, Vec<Arc<RouteEntry>>>,
}

/// A ModelRoute whose targets are resolved.
#[derive(Debug)]
pub struct RouteEntry {
    route: Arc<Route>,
    /// The targets of its rules, those of the first rule first.
    targets: Vec<Target>,
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

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'t> {
    /// The listener that took the request.
    pub listener: &'t ListenerTable,
    /// The route that matched.
    pub route: &'t RouteEntry,
    /// The chosen pool.
    pub pool: PoolIndex,
    /// Whether the request names a LoRA adapter, whose name must reach the engine unchanged.
    pub adapter: bool,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'t> {
    /// No listener of the bind serves the host.
    NoListener,
    /// No route of the listener serves the model.
    NoRoute {
        /// The listener that took the request.
        listener: &'t ListenerTable,
    },
    /// A route matched, but none of its targets has an endpoint that is ready.
    NoEndpoints {
        /// The listener that took the request.
        listener: &'t ListenerTable,
        /// The route that matched.
        route: &'t RouteEntry,
    },
}

impl RouteTable {
    /// Makes a table with these pools and no routes.
    pub fn new(pools: Vec<PoolEntry>) -> Self {
        Self { binds: HashMap::new(), pools }
    }

    /// Adds a listener; those of one bind and hostname are asked in the order in which they are added.
    pub fn add_listener(&mut self, bind: Bind, hostname: &Hostname, listener: ListenerTable) {
        let bind = self.binds.entry(bind).or_default();
        match hostname {
            Hostname::Exact(name) => bind.exact.entry(name.clone()).or_default().push(listener),
            Hostname::Any => bind.any.push(listener),
            Hostname::Wildcard(suffix) => {
                if let Some((_, listeners)) = bind.wildcard.iter_mut().find(|(known, _)| known == suffix) {
                    listeners.push(listener);
                } else {
                    let place = bind.wildcard.partition_point(|(known, _)| known.len() >= suffix.len());
                    bind.wildcard.insert(place, (suffix.clone(), vec![listener]));
                }
            }
        }
    }

    /// Returns the listeners that serve `host` on `bind`, the one to ask first leading.
    pub fn listeners(&self, bind: Bind, host: &str) -> &[ListenerTable] {
        let Some(bind) = self.binds.get(&bind) else { return &[] };
        if let Some(listeners) = bind.exact.get(host) {
            return listeners;
        }
        let wildcard = bind.wildcard.iter().find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix));
        wildcard.map_or(bind.any.as_slice(), |(_, listeners)| listeners.as_slice())
    }

    /// Decides where a request for `model` that came in on `bind` goes.
    ///
    /// `availability` tells what a pool can serve now; `draw(n)` must return a uniformly random number below `n`.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] when no listener, route or endpoint is there for it.
    pub fn decide(
        &self,
        bind: Bind,
        head: &RequestHead<'_>,
        model: &str,
        availability: impl Fn(PoolIndex) -> Availability,
        draw: impl FnOnce(u64) -> u64,
    ) -> Result<Forward<'_>, Refusal<'_>> {
        let listeners = self.listeners(bind, head.host);
        let Some(first) = listeners.first() else { return Err(Refusal::NoListener) };
        let matched = listeners.iter().find_map(|listener| listener.find(head, model).map(|found| (listener, found)));
        let Some((listener, Found { route, targets, adapter })) = matched else {
            return Err(Refusal::NoRoute { listener: first });
        };
        let available = |target: &Target| target.pool.map_or(Availability::Empty, &availability);
        choose(targets, |target| target.weight, available, draw)
            .and_then(|target| target.pool)
            .map(|pool| Forward { listener, route, pool, adapter })
            .ok_or(Refusal::NoEndpoints { listener, route })
    }
}

/// A rule that matched.
struct Found<'t> {
    route: &'t RouteEntry,
    targets: &'t [Target],
    adapter: bool,
}

impl ListenerTable {
    /// Makes a listener of `routes`, which must be in the order in which they are to be asked.
    pub fn new<'r>(gateway: Option<Arc<str>>, routes: impl IntoIterator<Item = &'r Arc<RouteEntry>>) -> Self {
        let routes = routes.into_iter();
        let models = HashMap::with_capacity(routes.size_hint().0);
        let mut listener = Self { gateway, models, adapters: HashMap::new() };
        for route in routes {
            if let Some(model) = &route.route.model {
                listener.models.entry(Arc::clone(model)).or_default().push(Arc::clone(route));
            }
            for adapter in &route.route.adapters {
                listener.adapters.entry(Arc::clone(adapter)).or_default().push(Arc::clone(route));
            }
        }
        listener
    }

    /// Returns every name that a request may give as its model, with the creation time of the route that serves it.
    pub fn models(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        let created = |routes: &Vec<Arc<RouteEntry>>| routes.first().map_or(0, |entry| entry.route.record.created);
        self.models.iter().chain(&self.adapters).map(move |(name, routes)| (name, created(routes)))
    }

    fn find(&self, head: &RequestHead<'_>, model: &str) -> Option<Found<'_>> {
        let (routes, adapter) = match self.models.get(model) {
            Some(routes) => (routes, false),
            None => (self.adapters.get(model)?, true),
        };
        routes.iter().find_map(|route| {
            let targets = route.find(head, model)?;
            Some(Found { route, targets, adapter })
        })
    }
}

impl RouteEntry {
    /// Makes an entry of a valid route; `resolve` finds the pool of a target, or says why it has none.
    pub fn new(route: &Arc<Route>, resolve: impl Fn(&RuleTarget) -> Result<PoolIndex, String>) -> Self {
        let mut unresolved = Vec::new();
        let targets = rules(route).iter().flat_map(|rule| &rule.targets).map(|target| {
            let pool = resolve(target).map_err(|reason| unresolved.push(reason)).ok();
            Target { pool, weight: target.weight }
        });
        let targets = targets.collect();
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

    /// Returns the targets of the first rule that matches.
    fn find(&self, head: &RequestHead<'_>, model: &str) -> Option<&[Target]> {
        let mut first = 0;
        for rule in rules(&self.route) {
            if rule.matches(head, model) {
                return self.targets.get(first..first + rule.targets.len());
            }
            first += rule.targets.len();
        }
        None
    }
}

fn rules(route: &Route) -> &[CompiledRule] {
    route.rules.as_deref().unwrap_or_default()
}
