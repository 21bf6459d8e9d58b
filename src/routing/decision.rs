//! The decision that the routes of a listener make for a request, over both APIs.
//!
//! | the request | asked first | asked where the first has nothing |
//! |---|---|---|
//! | an inference call for a model | ModelRoutes | HTTPRoutes |
//! | an inference call whose model could not be read | HTTPRoutes | |
//! | the list of models, one of them, their health | ModelRoutes, if the listeners have any | HTTPRoutes, then nothing |
//! | a response by its id | the ModelRoute that leads to the pool which has it | HTTPRoutes |
//! | anything else | HTTPRoutes | |
//!
//! A request that is about a response goes to the target that has it, whatever the weights.
//!
//! A ModelRoute's targets that cannot serve take no share while another one can. An HTTPRoute's backends keep theirs,
//! InferencePools as well: Gateway API, `HTTPRouteRule.backendRefs`, "requests that would have been routed to it
//! receive a 500", and 503 where it has no endpoints.

use super::backend::choose;
pub use super::http::entry::{Destination, Target, Unreachable};
use super::http::filters::{Filters, Share};
use super::http::route::Timeouts;
use super::http::table::HttpMatch;
use super::models::entry::{RouteEntry, Target as ModelTarget};
use super::models::table::Found;
use super::table::{ListenerTable, RouteTable};
use crate::object::{Bind, ObjectKey};
use crate::pool::availability::Availability;
use crate::pool::policy::PoolIndex;
use crate::pool::retry::RetryPolicy;
use crate::request_head::RequestHead;

/// What a request asks for, as far as that chooses between the APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'r> {
    /// An inference by this model.
    Model(&'r str),
    /// An inference by a model that could not be read.
    Unread,
    /// The list of models, one of them, or their health.
    Models,
    /// A response that an engine keeps.
    Stored,
    /// Anything else.
    Other,
}

/// What a decision depends on beside the request.
pub trait Moment {
    /// Returns what a pool can serve now.
    fn availability(&self, pool: PoolIndex) -> Availability;
    /// Returns a uniformly random number below `bound`, which is at least 1.
    fn draw(&self, bound: u64) -> u64;
    /// Returns the pool that has the response which the request is about, if there is one.
    fn holder(&self) -> Option<PoolIndex> {
        None
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'t> {
    /// It is served by a route.
    Serve(Decision<'t>),
    /// The router answers it itself, with what it knows of the models of these listeners.
    Models(&'t [ListenerTable]),
}

/// How a request is served.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// The listener that took the request.
    pub listener: &'t ListenerTable,
    /// The route that matched.
    pub route: Matched<'t>,
    /// The place of the rule in the route.
    pub rule: usize,
    /// What is done with the request on its way.
    pub steps: Steps<'t>,
    /// Where it goes, unless a filter of the rule answers it.
    pub target: Result<Target<'t>, Unreachable>,
}

/// The route that matched a request.
#[derive(Clone, Copy, Debug)]
pub enum Matched<'t> {
    /// A ModelRoute.
    Model(&'t RouteEntry),
    /// A rule of an HTTPRoute.
    Http(HttpMatch<'t>),
}

/// What the rule of a route does with requests and answers.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'t> {
    /// The filters of the rule.
    pub filters: &'t Filters,
    /// How long the request may take.
    pub timeouts: Timeouts,
    /// Which attempts are repeated; `None` leaves that to the pool.
    pub retry: Option<&'t RetryPolicy>,
    /// The prefix of the path that matched, without a slash at its end; `None` if the path matched otherwise.
    pub prefix: Option<&'t str>,
    /// Whether the request names a LoRA adapter, whose name must reach the engine unchanged.
    pub adapter: bool,
}

/// Why no route is there for a request.
#[derive(Clone, Copy, Debug)]
pub enum Refusal<'t> {
    /// No listener of the bind serves the host.
    NoListener,
    /// No route of the listeners serves the request.
    NoRoute {
        /// The listener that was asked first.
        listener: &'t ListenerTable,
    },
}

static NO_FILTERS: Filters = Filters::NONE;

/// Returns whether a decision on an inference call at these listeners depends on its model, so that its body has to be
/// read.
pub fn needs_model(listeners: &[ListenerTable]) -> bool {
    let has_rules = listeners.iter().any(|listener| !listener.http.is_empty());
    !has_rules || listeners.iter().any(|listener| !listener.models.is_empty())
}

impl RouteTable {
    /// Decides what becomes of a request that came in on `bind`.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] when no listener or route is there for it.
    pub fn decide(
        &self,
        bind: Bind,
        head: &RequestHead<'_>,
        asked: Asked<'_>,
        moment: &impl Moment,
    ) -> Result<Verdict<'_>, Refusal<'_>> {
        let listeners = self.listeners(bind, head.host);
        let Some(first) = listeners.first() else { return Err(Refusal::NoListener) };
        let by_model = match asked {
            Asked::Model(model) => {
                listeners.iter().find_map(|listener| Some((listener, listener.models.find(head, model)?)))
            }
            Asked::Models if listeners.iter().any(|listener| !listener.models.is_empty()) => {
                return Ok(Verdict::Models(listeners));
            }
            Asked::Stored => moment.holder().and_then(|pool| {
                listeners.iter().find_map(|listener| Some((listener, listener.models.leading_to(head, pool)?)))
            }),
            Asked::Unread | Asked::Models | Asked::Other => None,
        };
        if let Some((listener, found)) = by_model {
            return Ok(Verdict::Serve(Decision::by_model(listener, found, moment)));
        }
        match (Self::find_rule(listeners, head), asked) {
            (Some((listener, matched)), _) => Ok(Verdict::Serve(Decision::by_rule(listener, matched, moment))),
            (None, Asked::Models) => Ok(Verdict::Models(listeners)),
            (None, _) => Err(Refusal::NoRoute { listener: first }),
        }
    }
}

impl<'t> Decision<'t> {
    fn by_model(listener: &'t ListenerTable, found: Found<'t>, moment: &impl Moment) -> Self {
        let Found { route, targets, adapter, rule } = found;
        let available =
            |target: &ModelTarget| target.pool.map_or(Availability::Empty, |pool| moment.availability(pool));
        let holder = moment.holder().and_then(|pool| targets.iter().find(|target| target.pool == Some(pool)));
        let choice = || choose(targets, |target| target.weight, available, |bound| moment.draw(bound));
        let chosen = holder.or_else(choice);
        let target = chosen.and_then(|target| target.pool).map(|pool| Target {
            destination: Destination { pool, tls: None },
            filters: &NO_FILTERS,
            mirrors: &[],
        });
        let filters = &listener.filters;
        let steps = Steps { filters, timeouts: Timeouts::default(), retry: None, prefix: None, adapter };
        Self { listener, route: Matched::Model(route), rule, steps, target: target.ok_or(Unreachable::NoEndpoints) }
    }

    fn by_rule(listener: &'t ListenerTable, matched: HttpMatch<'t>, moment: &impl Moment) -> Self {
        let (rule, place) = (matched.rule, matched.place);
        let holder = moment.holder().and_then(|pool| matched.leading_to(pool));
        let target = holder.map_or_else(|| matched.choose(|bound| moment.draw(bound)), Ok);
        let steps = Steps {
            filters: &rule.filters,
            timeouts: rule.timeouts,
            retry: rule.retry.as_ref(),
            prefix: matched.prefix(),
            adapter: false,
        };
        Self { listener, route: Matched::Http(matched), rule: place, steps, target }
    }

    /// Returns the backends that get copies of the request.
    pub fn mirrors(&self, target: &Target<'t>) -> impl Iterator<Item = &'t (Share, Destination)> + use<'t> {
        let of_rule = match self.route {
            Matched::Model(_) => &[],
            Matched::Http(matched) => matched.mirrors(),
        };
        of_rule.iter().chain(target.mirrors)
    }

    /// Returns whether the rule names the very path that a backend gets for this path, so that an operator meant it.
    pub fn names_path(&self, path: &str) -> bool {
        match self.route {
            Matched::Model(_) => false,
            Matched::Http(matched) => matched.names_path(path) || self.steps.filters.replaces_path(),
        }
    }
}

impl Matched<'_> {
    /// Returns the route's namespace and name.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Model(entry) => entry.key(),
            Self::Http(matched) => matched.entry.key(),
        }
    }

    /// Returns how important its requests are, unless they say it themselves.
    pub fn priority(&self) -> i32 {
        match self {
            Self::Model(entry) => entry.priority(),
            Self::Http(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{FirstDraw, Pairs, bind, plan_of};
    use crate::plan::Plan;

    const BOTH: &str = include_str!("decision/both.yaml");

    /// Returns what becomes of a request for `/v1/completions` at a host.
    fn verdict(plan: &Plan, host: &str, asked: Asked<'_>) -> String {
        let head = RequestHead { method: "POST", host, path: "/v1/completions", query: "", headers: &Pairs(&[]) };
        match plan.table.decide(bind(80), &head, asked, &FirstDraw(plan)) {
            Ok(Verdict::Serve(Decision { route, .. })) => route.key().name.to_string(),
            Ok(Verdict::Models(listeners)) => format!("models of {}", listeners.len()),
            Err(Refusal::NoRoute { .. }) => "no route".to_owned(),
            Err(Refusal::NoListener) => "no listener".to_owned(),
        }
    }

    #[test]
    fn the_order_of_the_two_apis_is_a_rule() {
        let plan = plan_of(BOTH);
        for (host, asked, expected) in [
            ("both.example.com", Asked::Model("m"), "by-model"),
            ("both.example.com", Asked::Model("unknown"), "by-path"),
            ("both.example.com", Asked::Unread, "by-path"),
            ("both.example.com", Asked::Models, "models of 1"),
            ("both.example.com", Asked::Other, "by-path"),
            ("paths.example.com", Asked::Model("m"), "by-path-alone"),
            ("paths.example.com", Asked::Models, "by-path-alone"),
            ("other.org", Asked::Other, "no listener"),
        ] {
            assert_eq!(verdict(&plan, host, asked), expected, "{host} {asked:?}");
        }
    }

    #[test]
    fn a_body_is_read_only_where_its_model_decides() {
        let plan = plan_of(BOTH);
        assert!(needs_model(plan.table.listeners(bind(80), "both.example.com")));
        assert!(!needs_model(plan.table.listeners(bind(80), "paths.example.com")));
    }
}
