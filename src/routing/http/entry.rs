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
    pub(super) backends: Vec<(Option<Destination>, Mirrors)>,
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

fn mirrors(filters: &Filters, mut find: impl FnMut(&BackendReference) -> Option<Destination>) -> Mirrors {
    filters.mirrors.iter().filter_map(|mirror| Some((mirror.share, find(&mirror.reference)?))).collect()
}
