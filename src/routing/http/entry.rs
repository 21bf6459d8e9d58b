//! An HTTPRoute whose backends are resolved, as the listeners of one Gateway serve it.
//!
//! The connection to a backend may depend on the Gateway, which can have a certificate to show, so that each Gateway
//! has an entry of its own for a route.

use std::sync::Arc;

use super::filters::Mirror;
use super::route::{Backend, BackendReference, HttpRoute, Rule};
use crate::object::ObjectKey;
use crate::routing::pool::{PoolIndex, TlsIndex};

/// An HTTPRoute whose backends are resolved.
#[derive(Debug)]
pub struct HttpEntry {
    route: Arc<HttpRoute>,
    targets: Vec<Targets>,
    /// Why some of the backends cannot be reached, in the order of the spec.
    pub faults: Vec<RefFault>,
}

/// Where the requests to a backend go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The pool.
    pub pool: PoolIndex,
    /// The TLS settings of connections; `None` for plain ones.
    pub tls: Option<TlsIndex>,
}

/// Why a reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefFault {
    /// The reason of the condition `ResolvedRefs`.
    pub reason: &'static str,
    /// What is wrong, as a sentence.
    pub message: String,
}

/// Where the requests of one rule go.
#[derive(Debug)]
struct Targets {
    backends: Vec<Target>,
    mirrors: Vec<Option<Destination>>,
}

#[derive(Debug)]
struct Target {
    destination: Option<Destination>,
    mirrors: Vec<Option<Destination>>,
}

/// Where a request goes that matches a rule.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'t> {
    /// It goes to a backend.
    Forward(Chosen<'t>),
    /// The rule cannot be used: it is answered with 500.
    InvalidRule,
    /// The chosen backend cannot be used: it is answered with 500.
    InvalidBackend(&'t Backend),
    /// The rule has no backend with a weight: it is answered with 500.
    NoBackends,
}

/// The backend that a request goes to.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'t> {
    /// The place of the backend in its rule.
    pub index: usize,
    /// The backend.
    pub backend: &'t Backend,
    /// Where it is.
    pub destination: Destination,
    pub(in crate::routing) mirrors: &'t [Option<Destination>],
}

impl HttpEntry {
    /// Makes an entry of a route; `resolve` finds a backend, or says why it cannot be reached.
    pub fn new(route: &Arc<HttpRoute>, resolve: &dyn Fn(&BackendReference) -> Result<Destination, RefFault>) -> Self {
        let mut faults = Vec::new();
        let mut find = |reference: &BackendReference| {
            let found = resolve(reference);
            found
                .map_err(|fault| {
                    if !faults.contains(&fault) {
                        faults.push(fault);
                    }
                })
                .ok()
        };
        let mut targets = Vec::with_capacity(route.rules.len());
        for rule in &route.rules {
            let mirrors = rule.filters.mirrors.iter().map(|mirror| find(&mirror.reference)).collect();
            let backends = rule.backends.iter().map(|backend| Target {
                destination: find(&backend.reference),
                mirrors: backend.filters.mirrors.iter().map(|mirror| find(&mirror.reference)).collect(),
            });
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

    /// Chooses a backend of a rule at random by weight; `draw(n)` must return a uniformly random number below `n`.
    ///
    /// Source: Gateway API, `HTTPRouteRule.backendRefs`: a backend that cannot be used keeps its share of the requests,
    /// which are answered with 500, and so does one without endpoints, whose requests the caller answers with 503.
    pub(super) fn choose(&self, place: usize, draw: impl FnOnce(u64) -> u64) -> Choice<'_> {
        let (Some(rule), Some(targets)) = (self.route.rules.get(place), self.targets.get(place)) else {
            return Choice::NoBackends;
        };
        if !rule.is_valid {
            return Choice::InvalidRule;
        }
        let Some(index) = drawn(&rule.backends, draw) else { return Choice::NoBackends };
        let (backend, target) = (&rule.backends[index], &targets.backends[index]);
        match target.destination {
            None => Choice::InvalidBackend(backend),
            Some(destination) => Choice::Forward(Chosen { index, backend, destination, mirrors: &target.mirrors }),
        }
    }

    /// Returns the mirrors of a rule, without the ones that cannot be reached.
    pub(super) fn mirrors(&self, place: usize) -> impl Iterator<Item = (&Mirror, Destination)> {
        let rule = self.route.rules.get(place);
        let destinations = self.targets.get(place).map_or(&[] as &[_], |targets| &targets.mirrors);
        reachable(rule.map_or(&[], |rule: &Rule| &rule.filters.mirrors), destinations)
    }
}

/// Returns mirrors with where they are; those that cannot be reached are left out.
pub(in crate::routing) fn reachable<'t>(
    mirrors: &'t [Mirror],
    destinations: &'t [Option<Destination>],
) -> impl Iterator<Item = (&'t Mirror, Destination)> + use<'t> {
    mirrors.iter().zip(destinations).filter_map(|(mirror, destination)| Some((mirror, (*destination)?)))
}

/// Returns the place of the backend that is drawn; `None` if none has a weight.
fn drawn(backends: &[Backend], draw: impl FnOnce(u64) -> u64) -> Option<usize> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut rest = match backends {
        _ if total == 0 => return None,
        // Nothing is left to chance, and no random number is spent.
        [_] => 0,
        _ => draw(total),
    };
    backends.iter().position(|backend| {
        let is_drawn = rest < u64::from(backend.weight);
        rest = rest.saturating_sub(u64::from(backend.weight));
        is_drawn
    })
}
