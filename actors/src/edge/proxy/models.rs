//! What the router answers itself of the models of some listeners.

use bytes::Bytes;
use http::{Response, StatusCode};
use kthena_router::inference::api::{Call as Asks, model_in};
use kthena_router::pool::availability::Availability;
use kthena_router::routing::model_list::ModelList;
use kthena_router::routing::table::ListenerTable;

use super::call::Call;
use crate::edge::answers::Early;
use crate::edge::errors::ProxyError;
use crate::edge::heads::made;

/// Answers the list of models, one of them, or whether there is anybody to ask.
pub(super) fn answer(call: &Call<'_>, listeners: &[ListenerTable]) -> Early {
    if call.asks == Asks::Health {
        return health(call, listeners).into();
    }
    let list = ModelList::of(listeners, &call.snapshot.table.pools, call.worker.started);
    if call.asks != Asks::GetModel {
        return json(list.body()).into();
    }
    let name = model_in(call.head.uri.path()).unwrap_or_default();
    let unknown = || ProxyError::NoModel { model: (&*name).into(), itself: true }.into();
    list.model(&name).map_or_else(unknown, |model| json(model).into())
}

/// Answers as an engine does that is well, if a model of the listeners has an endpoint that serves.
fn health(call: &Call<'_>, listeners: &[ListenerTable]) -> Response<Bytes> {
    let mut pools = listeners.iter().flat_map(|listener| listener.models.served()).filter_map(|served| served.pool);
    let serves = pools.any(|pool| call.snapshot.availability(pool) >= Availability::Full);
    made(if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "", Bytes::new())
}

fn json(body: String) -> Response<Bytes> {
    made(StatusCode::OK, "application/json", body.into())
}
