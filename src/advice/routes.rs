//! ModelRoutes and HTTPRoutes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Named, Review};
use crate::kinds::http_route::{HttpRouteMatch, HttpRouteRule};
use crate::kinds::model_route::{ModelMatch, RouteRule};
use crate::kinds::parent_reference::ParentReference;
use crate::object::{Kind, ObjectKey};
use crate::routing::http::route::HttpRoute;
use crate::routing::models::route::Route;

/// A ModelRoute, and whether it takes every request of its models.
type Claim<'w> = (&'w ObjectKey, bool);

pub(super) fn review(review: &mut Review<'_>) {
    let world = review.world;
    for (key, route) in world.http_routes.iter() {
        let object = Named { kind: Kind::HttpRoute, key };
        if review.controller.gateway_api {
            parents(review, object, &route.spec.parent_refs, &route.parents);
        }
        http_rules(review, object, route);
    }
    for (key, route) in world.model_routes.iter() {
        let object = Named { kind: Kind::ModelRoute, key };
        if review.controller.gateway_api {
            parents(review, object, &route.spec.parent_refs, &route.parents);
        }
        let catch_all = route.spec.rules.iter().position(matches_everything);
        for place in catch_all.map_or(0..0, |first| first + 1..route.spec.rules.len()) {
            let text = format!("no request gets here: rule {} matches every one", catch_all.unwrap_or_default());
            review.warn(object, format!("spec.rules[{place}]"), text);
        }
    }
    shared_models(review);
}

/// Looks for parentRefs that name no Gateway and no ListenerSet of this router.
fn parents(review: &mut Review<'_>, object: Named<'_>, references: &[ParentReference], parents: &[ObjectKey]) {
    for (place, (reference, parent)) in references.iter().zip(parents).enumerate() {
        let (is_own, is_known) = match reference.kind.as_str() {
            "Gateway" => {
                (review.plan.reports.gateways.contains_key(parent), review.world.gateways.find(parent).is_some())
            }
            "ListenerSet" => {
                let sets = &review.plan.reports.listener_sets;
                (sets.contains_key(parent), review.world.listener_sets.find(parent).is_some())
            }
            // Routes attach to Services for meshes, which are not this router's business.
            _ => continue,
        };
        if is_own {
            continue;
        }
        let path = format!("spec.parentRefs[{place}]");
        let kind_of_parent = &reference.kind;
        if is_known {
            review.warn(object, path, format!("the {kind_of_parent} `{parent}` is not served by this router"));
        } else {
            let text = format!("there is no {kind_of_parent} `{parent}`; {}", review.own_gateways());
            review.fault(object, path, text);
        }
    }
}

/// Looks for rules that answer every request with 500, and for rules that no request reaches.
fn http_rules(review: &mut Review<'_>, object: Named<'_>, route: &HttpRoute) {
    for (place, (spec, rule)) in route.spec.rules.iter().zip(&route.rules).enumerate() {
        let answers = !rule.is_valid || rule.filters.redirect.is_some();
        if spec.backend_refs.is_empty() && !answers {
            let text = "it has no backendRefs and no redirect: every request is answered with 500";
            review.warn(object, format!("spec.rules[{place}]"), text);
        }
        let earlier = route.spec.rules[..place].iter().position(|earlier| covers(earlier, spec));
        if let Some(earlier) = earlier {
            let text = format!("no request gets here: rule {earlier} has the same matches");
            review.warn(object, format!("spec.rules[{place}]"), text);
        }
    }
}

/// Returns whether an earlier rule has every match of a later one.
fn covers(earlier: &HttpRouteRule, later: &HttpRouteRule) -> bool {
    let everything = [HttpRouteMatch::default()];
    let matches =
        |rule: &HttpRouteRule| if rule.matches.is_empty() { everything.to_vec() } else { rule.matches.clone() };
    let earlier = matches(earlier);
    matches(later).iter().all(|matched| earlier.contains(matched))
}

fn matches_everything(rule: &RouteRule) -> bool {
    let Some(ModelMatch { headers, uri, body }) = &rule.model_match else { return true };
    headers.is_empty() && uri.is_none() && body.as_ref().is_none_or(|body| body.model.is_none())
}

/// Looks for models that several ModelRoutes serve on one Gateway: the first of them comes first.
fn shared_models(review: &mut Review<'_>) {
    let world = review.world;
    let mut routes: Vec<(&ObjectKey, &Arc<Route>)> = world.model_routes.iter().collect();
    // They are in the order of their keys, and a stable sort keeps it among those of one age.
    routes.sort_by_key(|(_, route)| route.record.created);
    let mut claims: BTreeMap<(Option<&ObjectKey>, &str), Claim<'_>> = BTreeMap::new();
    for (key, route) in routes {
        let takes_all = route.spec.rules.iter().any(matches_everything);
        let parents: Vec<_> =
            if route.parents.is_empty() { vec![None] } else { route.parents.iter().map(Some).collect() };
        let names: Vec<&str> = route.model.iter().chain(&route.adapters).map(AsRef::as_ref).collect();
        for parent in parents {
            for name in &names {
                let Some((first, first_takes_all)) = claims.get(&(parent, *name)) else {
                    claims.insert((parent, *name), (key, takes_all));
                    continue;
                };
                if *first == key {
                    continue;
                }
                let rest = if *first_takes_all { "no request" } else { "only what that one's rules do not match" };
                let place = parent.map_or_else(String::new, |gateway| format!(" on `{gateway}`"));
                let text =
                    format!("the ModelRoute `{first}` serves the model `{name}`{place} first; this one gets {rest}");
                review.warn(Named { kind: Kind::ModelRoute, key }, "", text);
            }
        }
    }
}
