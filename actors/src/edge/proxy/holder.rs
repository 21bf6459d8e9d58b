//! Finds the engine that has the response which a request is about, and has the request go there.

use http::header::HeaderMap;
use kthena_router::inference::api::{Api, Call as Asks};
use kthena_router::inference::response_id;
use kthena_router::routing::decision::Destination;

use super::call::Call;
use super::way::Way;
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;

/// Finds the holder of the response that a request is about, before it is decided where the request goes.
pub(super) async fn find(call: &mut Call<'_>, body: &Inbound) -> Result<(), ProxyError> {
    let id = match call.asks {
        Asks::StoredResponse => {
            call.exchange.api = Some(Api::Responses);
            response_id::asked_for(call.head.method.as_str(), call.head.uri.path()).map(str::to_owned)
        }
        Asks::Inference(Api::Responses) if matches!(call.understood, Some(Ok(_))) => {
            body.whole().and_then(|body| response_id::previous(body))
        }
        Asks::Inference(_) | Asks::ListModels | Asks::GetModel | Asks::Health | Asks::Unserved => None,
    };
    let Some(id) = id else { return Ok(()) };
    let destinations = call.destinations();
    // Few requests are about a response, and the others do not carry the room for it.
    Box::pin(find_among(call, &id, destinations, None)).await
}

/// Finds it where the body was read only when it was decided where the request goes: in the pool that it goes to.
pub(super) async fn find_in(
    call: &mut Call<'_>,
    way: &Way<'_>,
    headers: &HeaderMap,
    body: &Inbound,
) -> Result<(), ProxyError> {
    if call.holder.is_some() || call.asks != Asks::Inference(Api::Responses) {
        return Ok(());
    }
    let Some(id) = body.whole().and_then(|body| response_id::previous(body)) else { return Ok(()) };
    Box::pin(find_among(call, &id, vec![way.target.destination], Some(headers))).await
}

/// Finds it at these destinations; the headers are those of the call, unless they were taken out of it.
async fn find_among(
    call: &mut Call<'_>,
    id: &str,
    destinations: Vec<Destination>,
    headers: Option<&HeaderMap>,
) -> Result<(), ProxyError> {
    call.admit()?;
    let worker = call.worker;
    let found = |destination| Some((destination, call.backend(destination)?));
    let (engines, others): (Vec<_>, Vec<_>) = destinations
        .into_iter()
        .filter_map(found)
        .partition(|(_, backend)| backend.is_inference() && backend.is_picked_here());
    let asking = (&worker.client, headers.unwrap_or(&call.head.headers));
    match worker.lookups.find(id, &engines, asking).await {
        Ok(holder) => call.holder = Some(holder),
        // Whoever else the request may go to may know of it.
        Err(_) if !others.is_empty() || engines.is_empty() => {}
        Err(why) => return Err(ProxyError::NoResponse { id: id.to_owned(), why }),
    }
    Ok(())
}
