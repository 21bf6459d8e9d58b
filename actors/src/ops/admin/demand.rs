//! What is asked of each pool, for autoscalers that do not read metrics: one JSON document.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use kthena_router::scheduling::objective::saturation;
use serde_json::{Value, json};

use super::Admin;
use crate::pools::published::{Pool, Snapshot};

/// What is asked of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    endpoints: usize,
    queued: usize,
    in_flight: usize,
    /// How full its endpoints are on average, where 1 and more is too full; `None` where there is none.
    saturation: Option<f64>,
    tokens_per_second: f64,
}

/// Says what is asked of all pools.
pub(super) async fn all(admin: web::Data<Admin>) -> HttpResponse {
    let snapshot = admin.reader.load();
    let pools: Vec<_> = snapshot.pools.iter().map(|pool| words(pool)).collect();
    HttpResponse::Ok().json(json!({ "pools": pools }))
}

/// Says what is asked of one pool, so that a scaler can point to a number of it by its path.
pub(super) async fn one(admin: web::Data<Admin>, path: web::Path<(String, String, String)>) -> HttpResponse {
    let (namespace, kind, name) = path.into_inner();
    match find(&admin.reader.load(), &namespace, &kind, &name) {
        Some(pool) => HttpResponse::Ok().json(words(&pool)),
        None => super::not_found(&format!("there is no {kind} `{namespace}/{name}`")),
    }
}

/// Finds a pool; the case of its kind does not matter.
pub(super) fn find(snapshot: &Snapshot, namespace: &str, kind: &str, name: &str) -> Option<Arc<Pool>> {
    let is_asked = |pool: &&Arc<Pool>| {
        let key = &pool.key;
        *key.object.namespace == *namespace && *key.object.name == *name && key.kind.as_str().eq_ignore_ascii_case(kind)
    };
    snapshot.pools.iter().find(is_asked).map(Arc::clone)
}

impl Demand {
    /// Finds out what is asked of a pool.
    pub(super) fn of(pool: &Pool) -> Self {
        let view = pool.view();
        let in_flight: u32 = view.members.iter().map(|member| member.cell.in_flight()).sum();
        let full = || saturation(view.members.iter().map(|member| member.observation.metrics.as_ref()));
        Self {
            endpoints: view.members.len(),
            queued: pool.turnstile.waiting(),
            in_flight: in_flight as usize,
            saturation: (!view.members.is_empty()).then(full),
            tokens_per_second: pool.throughput.rate(),
        }
    }

    /// Returns how many requests wait and are in flight.
    pub(super) fn total(&self) -> usize {
        self.queued + self.in_flight
    }
}

fn words(pool: &Pool) -> Value {
    let (demand, key) = (Demand::of(pool), &pool.key);
    json!({
        "namespace": &*key.object.namespace,
        "name": &*key.object.name,
        "kind": key.kind.as_str(),
        "port": key.port,
        "endpoints": demand.endpoints,
        "queued": demand.queued,
        "inFlight": demand.in_flight,
        "demand": demand.total(),
        "saturation": demand.saturation,
        "tokensPerSecond": demand.tokens_per_second,
    })
}
