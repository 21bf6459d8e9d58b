//! Worlds and requests for tests, written as a user writes them.

use std::net::{IpAddr, Ipv4Addr};

use crate::controller::Controller;
use crate::hostname::request_host;
use crate::manifest::read;
use crate::object::Bind;
use crate::plan::{Plan, plan};
use crate::routing::backend::Availability;
use crate::routing::http::entry::Choice;
use crate::routing::pool::PoolIndex;
use crate::routing::request::RequestHead;
use crate::routing::table::Refusal;
use crate::world::World;

/// Returns a world of the objects in a manifest.
pub(crate) fn world(manifest: &str) -> World {
    let mut world = World::default();
    let manifest = read(manifest);
    assert_eq!(manifest.unreadable, 0, "{:?}", manifest.faults);
    for located in manifest.objects {
        world.apply(located.object);
    }
    world
}

/// Returns a controller with the Gateway API on, in the namespace `default`, with the port 8080.
pub(crate) fn controller() -> Controller {
    Controller::default()
}

/// Returns the bind of a port of [`controller`].
pub(crate) fn bind(port: u16) -> Bind {
    Bind { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port }
}

/// Plans for a manifest with [`controller`].
pub(crate) fn plan_of(manifest: &str) -> Plan {
    plan(&world(manifest), &controller())
}

/// Returns the route and the pool that a request leads to, as `route -> pool`, or the reason why it leads nowhere.
///
/// The request is `model` at `host`, which may have a port, on `port`; of several targets the first one is drawn.
pub(crate) fn decision(plan: &Plan, port: u16, host: &str, model: &str, headers: &[(&str, &str)]) -> String {
    let host = request_host(host);
    let head =
        RequestHead { method: "POST", host: &host, path: "/v1/completions", query: "", headers: &Pairs(headers) };
    let availability = |pool: PoolIndex| match plan.pools[pool.0].endpoints.len() {
        0 => Availability::Empty,
        _ => Availability::Ready,
    };
    match plan.table.decide(bind(port), &head, model, availability, |_| 0) {
        Ok(forward) => format!("{} -> {}", forward.route.key().name, plan.pools[forward.pool.0].key.object.name),
        Err(Refusal::NoListener) => "no listener".to_owned(),
        Err(Refusal::NoRoute { .. }) => "no route".to_owned(),
        Err(Refusal::NoEndpoints { route, .. }) => format!("{} -> no endpoints", route.key().name),
    }
}

/// The headers of a request, their names in lower case.
pub(crate) struct Pairs<'a>(pub(crate) &'a [(&'a str, &'a str)]);

impl crate::routing::request::Headers for Pairs<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.iter().any(|(candidate, value)| *candidate == name && test(value))
    }
}

/// What becomes of a request by HTTPRoutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No rule matches.
    NoRoute,
    /// It goes to this pool.
    Pool(String),
    /// It is answered with 500.
    Invalid,
}

/// Returns what becomes of a `GET` on `port`; of several backends the first one is drawn.
pub(crate) fn http_decision(plan: &Plan, port: u16, host: &str, path: &str) -> Outcome {
    let head = RequestHead { method: "GET", host, path, query: "", headers: &Pairs(&[]) };
    let Ok(decision) = plan.table.decide_http(bind(port), &head) else { return Outcome::NoRoute };
    match decision.matched.choose(|_| 0) {
        Choice::Forward(chosen) => {
            let key = &plan.pools[chosen.destination.pool.0].key;
            Outcome::Pool(format!("{} {}", key.kind, key.object))
        }
        Choice::InvalidRule | Choice::InvalidBackend(_) | Choice::NoBackends => Outcome::Invalid,
    }
}
