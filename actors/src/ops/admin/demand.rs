//! What is asked of each pool, for autoscalers that do not read metrics: one JSON document.

use actix_web::{HttpResponse, web};
use kthena_router::scheduling::objective::saturation;
use serde_json::{Value, json};

use super::Admin;
use crate::pools::published::Pool;

/// Says what is asked of all pools.
pub(super) async fn all(admin: web::Data<Admin>) -> HttpResponse {
    let snapshot = admin.reader.load();
    let pools: Vec<_> = snapshot.pools.iter().map(|pool| demand(pool)).collect();
    HttpResponse::Ok().json(json!({ "pools": pools }))
}

/// Says what is asked of one pool, so that a scaler can point to a number of it by its path.
pub(super) async fn one(admin: web::Data<Admin>, path: web::Path<(String, String, String)>) -> HttpResponse {
    let (namespace, kind, name) = path.into_inner();
    let snapshot = admin.reader.load();
    let is_asked = |pool: &Pool| {
        let key = &pool.key;
        *key.object.namespace == *namespace
            && *key.object.name == *name
            && key.kind.as_str().eq_ignore_ascii_case(&kind)
    };
    match snapshot.pools.iter().find(|pool| is_asked(pool)) {
        Some(pool) => HttpResponse::Ok().json(demand(pool)),
        None => super::not_found(&format!("there is no {kind} `{namespace}/{name}`")),
    }
}

fn demand(pool: &Pool) -> Value {
    let (view, key) = (pool.view(), &pool.key);
    let in_flight: u32 = view.members.iter().map(|member| member.cell.in_flight()).sum();
    let queued = pool.turnstile.waiting();
    // A pool without endpoints is not full of work: nothing is known of what it could do.
    let is_known = !view.members.is_empty();
    let full = || saturation(view.members.iter().map(|member| member.observation.metrics.as_ref()));
    json!({
        "namespace": &*key.object.namespace,
        "name": &*key.object.name,
        "kind": key.kind.as_str(),
        "port": key.port,
        "endpoints": view.members.len(),
        "queued": queued,
        "inFlight": in_flight,
        "demand": queued + in_flight as usize,
        "saturation": is_known.then(full),
        "tokensPerSecond": pool.throughput.rate(),
    })
}
