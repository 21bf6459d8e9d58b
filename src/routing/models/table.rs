//! The ModelRoutes of one listener, by the names that they serve.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::entry::{RouteEntry, Target};
use crate::pool::policy::PoolIndex;
use crate::request_head::RequestHead;

/// The ModelRoutes of one listener.
#[derive(Debug, Default)]
pub struct ModelTable {
    models: HashMap<Arc<str>, Vec<Arc<RouteEntry>>>,
    adapters: HashMap<Arc<str>, Vec<Arc<RouteEntry>>>,
}

/// A name that requests may give as their model.
#[derive(Clone, Copy, Debug)]
pub struct Served<'t> {
    /// The name.
    pub name: &'t Arc<str>,
    /// When the route was created that serves it, in seconds since the epoch; 0 when unknown.
    pub created: i64,
    /// The model that it is an adapter of, if it is one and its route names the model.
    pub parent: Option<&'t Arc<str>>,
    /// The first pool that serves it, if there is one.
    pub pool: Option<PoolIndex>,
}

/// A rule that matched.
#[derive(Clone, Copy)]
pub struct Found<'t> {
    /// The route.
    pub route: &'t RouteEntry,
    /// The targets of the rule.
    pub targets: &'t [Target],
    /// Whether the name is a LoRA adapter's.
    pub adapter: bool,
    /// The place of the rule in its route.
    pub rule: usize,
}

impl<'t> Served<'t> {
    fn of(name: &'t Arc<str>, routes: &'t [Arc<RouteEntry>], adapter: bool) -> Option<Self> {
        let entry = routes.first()?;
        let parent = entry.route.model.as_ref().filter(|_| adapter);
        Some(Self { name, created: entry.route.record.created, parent, pool: entry.pools().next() })
    }
}

impl ModelTable {
    /// Makes a table of routes, which must be in the order in which they are to be asked.
    pub fn new<'r>(routes: impl IntoIterator<Item = &'r Arc<RouteEntry>>) -> Self {
        let routes = routes.into_iter();
        let models = HashMap::with_capacity(routes.size_hint().0);
        let mut table = Self { models, adapters: HashMap::new() };
        for route in routes {
            if let Some(model) = &route.route.model {
                table.models.entry(Arc::clone(model)).or_default().push(Arc::clone(route));
            }
            for adapter in &route.route.adapters {
                table.adapters.entry(Arc::clone(adapter)).or_default().push(Arc::clone(route));
            }
        }
        table
    }

    /// Returns every name that a request may give as its model.
    pub fn served(&self) -> impl Iterator<Item = Served<'_>> {
        let models = self.models.iter().filter_map(|(name, routes)| Served::of(name, routes, false));
        models.chain(self.adapters.iter().filter_map(|(name, routes)| Served::of(name, routes, true)))
    }

    /// Returns whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.adapters.is_empty()
    }

    /// Finds the first route for `model` that has a rule for the request.
    pub fn find(&self, head: &RequestHead<'_>, model: &str) -> Option<Found<'_>> {
        let (routes, adapter) = self.routes_of(model)?;
        routes.iter().find_map(|route| {
            let (rule, targets) = route.find(head, model)?;
            Some(Found { route, targets, adapter, rule })
        })
    }

    /// Finds a rule that leads to a pool, for a request of which no model is known.
    pub fn leading_to(&self, head: &RequestHead<'_>, pool: PoolIndex) -> Option<Found<'_>> {
        self.models.values().chain(self.adapters.values()).flatten().find_map(|route| {
            let (rule, targets) = route.leading_to(head, pool)?;
            Some(Found { route, targets, adapter: false, rule })
        })
    }

    /// Returns the pools that its routes lead to, each as often as there are ways to it.
    pub fn pools(&self) -> impl Iterator<Item = PoolIndex> {
        self.models.values().chain(self.adapters.values()).flatten().flat_map(|route| route.pools())
    }

    /// Returns the routes for `model` in the order in which they are asked, and whether it is an adapter.
    pub(super) fn routes_of(&self, model: &str) -> Option<(&[Arc<RouteEntry>], bool)> {
        match self.models.get(model) {
            Some(routes) => Some((routes, false)),
            None => self.adapters.get(model).map(|routes| (routes.as_slice(), true)),
        }
    }
}
