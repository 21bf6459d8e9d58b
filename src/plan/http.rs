//! The HTTPRoutes of a plan: where they attach, where they send to, and what is reported of them.
//!
//! Source: Gateway API, `HTTPRouteStatus` and `RouteConditionType`. A route's status tells of each of its parentRefs that
//! names one of our objects. A route none of whose rules can be used is not accepted, but keeps its requests, which are
//! answered with 500; one that cannot be read as a whole takes none.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::backends::Backends;
use super::models::attach_once;
use crate::conditions::{Condition, Problem, Verdict, kind, reason};
use crate::gateway::gateways::OwnGateway;
use crate::gateway::parents::{Attachment, Candidate, Parents};
use crate::object::{Kind, ObjectKey};
use crate::routing::http::entry::HttpEntry;
use crate::routing::http::route::{HttpRoute, Validity};
use crate::world::World;

/// What is reported of an HTTPRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRouteReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// The entries of `spec.parentRefs` that name one of our objects.
    pub parents: Vec<HttpParentReport>,
}

/// What is reported of an HTTPRoute at one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpParentReport {
    /// The place of the entry in `spec.parentRefs`.
    pub place: usize,
    /// What the route came to there; where it applies, with `PartiallyInvalid`.
    pub verdict: Verdict,
}

/// The HTTPRoutes of a plan.
pub(super) struct HttpRoutes {
    /// For each Gateway and each of its listeners the routes attached there.
    pub(super) attached: Vec<Vec<Vec<Arc<HttpEntry>>>>,
    /// For each Gateway and each of its listeners how many of them are accepted.
    pub(super) accepted: Vec<Vec<usize>>,
    /// What is to be reported of each route.
    pub(super) reports: HashMap<ObjectKey, HttpRouteReport>,
}

/// Attaches all HTTPRoutes.
pub(super) fn attach(
    world: &World,
    gateways: &[OwnGateway<'_>],
    parents: &Parents<'_>,
    backends: &Backends<'_>,
) -> HttpRoutes {
    let mut routes = HttpRoutes {
        attached: parents.listeners_by_gateway(),
        accepted: gateways.iter().map(|gateway| vec![0; gateway.listeners.len()]).collect(),
        reports: HashMap::with_capacity(world.http_routes.objects.len()),
    };
    for route in world.http_routes.objects.values() {
        let report = routes.add(route, gateways, parents, backends);
        routes.reports.insert(route.key.clone(), report);
    }
    routes
}

impl HttpRoutes {
    fn add(
        &mut self,
        route: &Arc<HttpRoute>,
        gateways: &[OwnGateway<'_>],
        parents: &Parents<'_>,
        backends: &Backends<'_>,
    ) -> HttpRouteReport {
        let candidate =
            Candidate { kind: Kind::HttpRoute, namespace: &route.key.namespace, hostnames: &route.hostnames };
        let validity = route.validity();
        let mut entries: Vec<(usize, Arc<HttpEntry>)> = Vec::new();
        let mut counted: Vec<(usize, usize)> = Vec::new();
        let mut reports = Vec::with_capacity(route.parents.len());
        for (index, (parent, key)) in route.spec.parent_refs.iter().zip(&route.parents).enumerate() {
            let Attachment { gateway, listeners, accepted } = parents.attach(candidate, parent, key);
            let Some(gateway) = gateway else { continue };
            let known = entries.iter().find(|(known, _)| *known == gateway).map(|(_, entry)| Arc::clone(entry));
            let entry = known.unwrap_or_else(|| {
                let resolve = |reference: &_| backends.resolve(route, reference, &gateways[gateway]);
                let entry = Arc::new(HttpEntry::new(route, &resolve));
                entries.push((gateway, Arc::clone(&entry)));
                entry
            });
            if validity != Validity::Unusable {
                attach_once(&mut self.attached, &listeners, &entry);
            }
            let verdict = verdict(route, &entry, validity, accepted);
            if verdict.accepted.status {
                counted.extend(listeners.iter().filter(|place| !counted.contains(place)).copied().collect::<Vec<_>>());
            }
            reports.push(HttpParentReport { place: index, verdict });
        }
        for (gateway, _) in entries {
            if counted.iter().any(|(used, _)| *used == gateway) {
                backends.note_use(route, gateway);
            }
        }
        for (gateway, listener) in counted {
            self.accepted[gateway][listener] += 1;
        }
        HttpRouteReport { generation: route.record.generation, parents: reports }
    }
}

/// Judges a route at a parent that has `accepted` it as far as that is up to the parent.
fn verdict(route: &HttpRoute, entry: &HttpEntry, validity: Validity, accepted: Condition) -> Verdict {
    let faults: Vec<Problem> = route
        .faults
        .iter()
        .map(|fault| Problem::new(fault.reason, format!("`{}`: {}", fault.fault.path, fault.fault.message)))
        .collect();
    let (accepted, occasional) = match validity {
        _ if !accepted.status => (accepted, None),
        Validity::Valid => (accepted, None),
        Validity::Partial => {
            let judged = Condition::judge(kind::PARTIALLY_INVALID, reason::ACCEPTED, &faults);
            (accepted, Some(Condition { status: true, ..judged }))
        }
        Validity::Invalid | Validity::Unusable => (Condition::judge(kind::ACCEPTED, reason::ACCEPTED, &faults), None),
    };
    let resolved_refs = Condition::judge(kind::RESOLVED_REFS, reason::RESOLVED_REFS, &entry.faults);
    Verdict { accepted, resolved_refs, occasional: Vec::from_iter(occasional) }
}
