//! Worlds and requests for tests, written as a user writes them.

use std::net::{IpAddr, Ipv4Addr};

use crate::controller::Controller;
use crate::hostname::request_host;
use crate::manifest::read;
use crate::object::Bind;
use crate::plan::{Plan, plan};
use crate::pool::availability::Availability;
use crate::pool::policy::PoolIndex;
use crate::request_head::RequestHead;
use crate::routing::decision::{Asked, Decision, Matched, Moment, Refusal, Verdict};
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
    match plan.table.decide(bind(port), &head, Asked::Model(model), &FirstDraw(plan)) {
        Ok(Verdict::Serve(Decision { route: Matched::Model(route), target, .. })) => match target {
            Ok(target) => {
                format!("{} -> {}", route.key().name, plan.pools[target.destination.pool.0].key.object.name)
            }
            Err(_) => format!("{} -> no endpoints", route.key().name),
        },
        Ok(_) | Err(Refusal::NoRoute { .. }) => "no route".to_owned(),
        Err(Refusal::NoListener) => "no listener".to_owned(),
    }
}

/// A moment at which pools serve if they have endpoints, and the first is drawn.
pub(crate) struct FirstDraw<'p>(pub(crate) &'p Plan);

impl Moment for FirstDraw<'_> {
    fn availability(&self, pool: PoolIndex) -> Availability {
        if self.0.pools[pool.0].endpoints.is_empty() { Availability::Empty } else { Availability::Ready }
    }

    fn draw(&self, _: u64) -> u64 {
        0
    }
}

/// The headers of a request, their names in lower case.
pub(crate) struct Pairs<'a>(pub(crate) &'a [(&'a str, &'a str)]);

impl crate::request_head::Headers for Pairs<'_> {
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
    let Ok(Verdict::Serve(decision)) = plan.table.decide(bind(port), &head, Asked::Other, &FirstDraw(plan)) else {
        return Outcome::NoRoute;
    };
    match decision.target {
        Ok(target) => {
            let key = &plan.pools[target.destination.pool.0].key;
            Outcome::Pool(format!("{} {}", key.kind, key.object))
        }
        Err(_) => Outcome::Invalid,
    }
}
