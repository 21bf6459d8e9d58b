//! What the router answers itself of the models of some listeners.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use kthena_router::inference::api::{Call as Asks, model_in};
use kthena_router::routing::backend::Availability;
use kthena_router::routing::model_list::ModelList;
use kthena_router::routing::table::ListenerTable;

use super::call::Call;
use super::error::ProxyError;

/// Answers the list of models, one of them, or whether there is anybody to ask.
pub(super) fn answer(call: &Call<'_>, listeners: &[ListenerTable]) -> Result<Response<Bytes>, ProxyError> {
    if call.asks == Asks::Health {
        return Ok(health(call, listeners));
    }
    let list = ModelList::of(listeners, &call.snapshot.table.pools, call.worker.started);
    if call.asks != Asks::GetModel {
        return Ok(json(list.body()));
    }
    let name = model_in(call.head.uri.path()).unwrap_or_default();
    list.model(&name).map(json).ok_or_else(|| ProxyError::NoModel { model: (&*name).into() })
}

/// Answers as an engine does that is well, if a model of the listeners has an endpoint that serves.
fn health(call: &Call<'_>, listeners: &[ListenerTable]) -> Response<Bytes> {
    let mut pools = listeners.iter().flat_map(|listener| listener.models.served()).filter_map(|served| served.pool);
    let serves = pools.any(|pool| call.snapshot.availability(pool) == Availability::Ready);
    let mut response = Response::new(Bytes::new());
    if !serves {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn json(body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
