//! An HTTPRoute whose backends are resolved, as the listeners of one Gateway serve it.
//!
//! The connection to a backend may depend on the Gateway, which can have a certificate to show, so that each Gateway
//! has an entry of its own for a route.

use std::sync::Arc;

use super::filters::{Filters, Share};
use super::route::{BackendReference, HttpRoute, Rule};
use crate::conditions::Problem;
use crate::object::ObjectKey;
use crate::pool::policy::{PoolIndex, TlsIndex};
use crate::routing::backend::drawn;

/// An HTTPRoute whose backends are resolved.
#[derive(Debug)]
pub struct HttpEntry {
    route: Arc<HttpRoute>,
    pub(super) targets: Vec<Targets>,
    /// Why some of the backends cannot be reached, in the order of the spec.
    pub faults: Vec<Problem>,
}

/// Where the requests to a backend go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The pool.
    pub pool: PoolIndex,
    /// The TLS settings of connections; `None` for plain ones.
    pub tls: Option<TlsIndex>,
}

/// Backends that get copies of requests, each with the share of them; those that cannot be reached are left out.
pub type Mirrors = Vec<(Share, Destination)>;

/// Where the requests of one rule go.
#[derive(Debug)]
pub(super) struct Targets {
    /// Where each backend is, unless it cannot be used, and where copies of its requests go.
    backends: Vec<(Option<Destination>, Mirrors)>,
    pub(super) mirrors: Mirrors,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    /// The pool, and how its endpoints are connected to.
    pub destination: Destination,
    /// The filters of the backend, which come after those of the rule.
    pub filters: &'t Filters,
    /// The backends that get copies of its requests, beside those of the rule.
    pub mirrors: &'t [(Share, Destination)],
}

/// Why a request that a route matched goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No target of the ModelRoute has an endpoint.
    NoEndpoints,
    /// The rule, or the backend that was drawn, cannot be used.
    Invalid(&'static str),
}

impl HttpEntry {
    /// Makes an entry of a route; `resolve` finds a backend, or says why it cannot be reached.
    pub fn new(route: &Arc<HttpRoute>, resolve: &dyn Fn(&BackendReference) -> Result<Destination, Problem>) -> Self {
        let mut faults = Vec::new();
        let mut find = |reference: &BackendReference| match resolve(reference) {
            Ok(destination) => Some(destination),
            Err(fault) => {
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
                None
            }
        };
        let mut targets = Vec::with_capacity(route.rules.len());
        for Rule { filters, backends, .. } in &route.rules {
            let mirrors = mirrors(filters, &mut find);
            let backends =
                backends.iter().map(|backend| (find(&backend.reference), self::mirrors(&backend.filters, &mut find)));
            targets.push(Targets { backends: backends.collect(), mirrors });
        }
        Self { route: Arc::clone(route), targets, faults }
    }

    /// Returns the route.
    pub fn route(&self) -> &Arc<HttpRoute> {
        &self.route
    }

    /// Returns the route's namespace and name.
    pub fn key(&self) -> &ObjectKey {
        &self.route.key
    }
}

impl Targets {
    /// Returns where the backends are that can be used.
    pub(super) fn destinations(&self) -> impl Iterator<Item = Destination> {
        self.backends.iter().filter_map(|(destination, _)| *destination)
    }

    /// Returns the backend that is this pool.
    pub(super) fn leading_to<'t>(&'t self, rule: &'t Rule, pool: PoolIndex) -> Option<Target<'t>> {
        let mut backends = rule.backends.iter().zip(&self.backends).filter(|_| rule.is_valid);
        backends.find_map(|(backend, (destination, mirrors))| {
            let destination = destination.filter(|destination| destination.pool == pool)?;
            Some(Target { destination, filters: &backend.filters, mirrors })
        })
    }

    /// Chooses a backend of the rule at random by weight; `draw(n)` must return a uniformly random number below `n`.
    ///
    /// Source: Gateway API, `HTTPRouteRule.backendRefs`: a backend that cannot be used keeps its share of the requests,
    /// which are answered with 500, and so does one without endpoints, whose requests the caller answers with 503.
    pub(super) fn choose<'t>(
        &'t self,
        rule: &'t Rule,
        draw: impl FnOnce(u64) -> u64,
    ) -> Result<Target<'t>, Unreachable> {
        if !rule.is_valid {
            return Err(Unreachable::Invalid("the rule is invalid"));
        }
        let place = drawn(&rule.backends, |backend| backend.weight.into(), draw);
        let place = place.ok_or(Unreachable::Invalid("the rule has no backend"))?;
        let (destination, mirrors) = &self.backends[place];
        let destination = destination.ok_or(Unreachable::Invalid("the backend of the rule cannot be used"))?;
        Ok(Target { destination, filters: &rule.backends[place].filters, mirrors })
    }
}

fn mirrors(filters: &Filters, mut find: impl FnMut(&BackendReference) -> Option<Destination>) -> Mirrors {
    filters.mirrors.iter().filter_map(|mirror| Some((mirror.share, find(&mirror.reference)?))).collect()
}
