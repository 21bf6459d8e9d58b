//! ModelServers and InferencePools.

use std::collections::BTreeSet;

use super::{Named, Review};
use crate::object::{Kind, ObjectKey};
use crate::routing::http::route::Rule;
use crate::routing::models::route::BackendName;

pub(super) fn review(review: &mut Review<'_>) {
    let world = review.world;
    let rules = world.model_routes.iter().filter_map(|(_, route)| route.rules.as_ref().ok()).flatten();
    let targets = rules.flat_map(|rule| &rule.targets).filter_map(|target| match &target.backend {
        BackendName::ModelServer(key) => Some(key),
        BackendName::ExternalModelProvider(_) => None,
    });
    let used_servers: BTreeSet<&ObjectKey> = targets.collect();
    let references = world.http_routes.iter().flat_map(|(_, route)| route.rules.iter().flat_map(Rule::references));
    let used_pools: BTreeSet<&ObjectKey> = references
        .filter(|reference| reference.is_of(Kind::InferencePool))
        .map(|reference| &reference.object)
        .collect();
    for key in world.model_servers.objects.keys().filter(|key| !used_servers.contains(key)) {
        review.warn(Named { kind: Kind::ModelServer, key }, "", "no ModelRoute leads to it");
    }
    for key in world.inference_pools.objects.keys().filter(|key| !used_pools.contains(key)) {
        review.warn(Named { kind: Kind::InferencePool, key }, "", "no HTTPRoute leads to it");
    }
}
