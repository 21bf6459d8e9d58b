//! The list of models, in OpenAI's shape: what a client of this listener may ask for.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use kthena_router::routing::table::ListenerTable;
use serde::Serialize;

/// The body of `GET /v1/models`.
#[derive(Serialize)]
struct ModelList<'m> {
    object: &'static str,
    data: Vec<Model<'m>>,
}

#[derive(Serialize)]
struct Model<'m> {
    id: &'m str,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

/// Lists what `listeners` serve, each name once and in order.
pub(super) fn list(listeners: &[ListenerTable]) -> HttpResponse {
    let mut models = BTreeMap::new();
    for (name, created) in listeners.iter().flat_map(|listener| listener.models.names()) {
        models.entry(&**name).or_insert(created);
    }
    let data = models.into_iter().map(|(id, created)| Model { id, object: "model", created, owned_by: "kthena" });
    HttpResponse::Ok().json(ModelList { object: "list", data: data.collect() })
}
