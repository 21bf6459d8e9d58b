//! Finds the engine that has the response which a request is about: one that is asked for by its id, or gone on from.
//!
//! Responses are kept by the engine that has made them. Which one that is was noted when its answer passed here; of an id that
//! passed elsewhere, through another replica or before a restart, the engines are asked that the request may go to, several at
//! once, and what they say is noted. A response whose engine is gone is gone as well: the client is told so, in the engine's
//! words, because an answer without what went before would look as good as any.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Method, StatusCode};
use kthena_router::inference::api::{Api, Call as Asks};
use kthena_router::inference::response_id;
use kthena_router::routing::decision::Destination;
use kthena_router::routing::pool::PoolIndex;
use kthena_router::routing::response_holders::Mark;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_upstream::{Ask, Body, Peer};
use tokio::sync::Semaphore;

use super::call::Call;
use super::way::Way;
use super::worker::Worker;
use crate::edge::backends::Backend;
use crate::edge::bodies::Inbound;
use crate::edge::errors::{Missing, ProxyError};

/// How many engines are asked at once.
const AT_ONCE: usize = 16;
/// How many requests of a thread look for a response at once, and how many more wait until they may. Anybody can ask for ids
/// that nobody has, and each of them is a question to all engines.
const LOOKUPS: usize = 4;
const LOOKUPS_WAITING: usize = 64;
/// How long an engine may take to say whether it has a response.
const PATIENCE: Duration = Duration::from_secs(5);

/// The endpoint that has a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    /// Its pool.
    pub pool: PoolIndex,
    /// Where it is.
    pub endpoint: SocketAddr,
}

/// The turns of one thread's requests that look for a response.
pub(super) struct Lookups {
    active: Semaphore,
    all: Semaphore,
}

/// What an engine says of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Has,
    HasNot,
    Nothing,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { active: Semaphore::new(LOOKUPS), all: Semaphore::new(LOOKUPS + LOOKUPS_WAITING) }
    }
}

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
    match id {
        None => Ok(()),
        // Few requests are about a response, and the others do not carry the room for it.
        Some(id) => {
            let destinations = call.destinations();
            Box::pin(find_among(call, &id, destinations, None)).await
        }
    }
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
    match body.whole().and_then(|body| response_id::previous(body)) {
        None => Ok(()),
        Some(id) => Box::pin(find_among(call, &id, vec![way.target.destination], Some(headers))).await,
    }
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
    let found =
        |destination| Some((destination, Backend::find(&worker.door.serving.upstream, call.snapshot, destination)?));
    let (engines, others): (Vec<_>, Vec<_>) = destinations
        .into_iter()
        .filter_map(found)
        .partition(|(_, backend)| backend.is_inference() && backend.is_picked_here());
    let holder = match worker.door.serving.holders.find(id) {
        Some(mark) => noted(&engines, mark).ok_or(Missing::Gone),
        None if engines.is_empty() => Err(Missing::Unknown),
        None => seek_in_turn(worker, headers.unwrap_or(&call.head.headers), id, &engines).await,
    };
    match holder {
        Ok(holder) => call.holder = Some(holder),
        // Whoever else the request may go to may know of it.
        Err(_) if !others.is_empty() || engines.is_empty() => {}
        Err(why) => return Err(ProxyError::NoResponse { id: id.to_owned(), why }),
    }
    Ok(())
}

/// Returns the endpoint with this mark, if it is there.
fn noted(engines: &[(Destination, Backend)], mark: Mark) -> Option<Holder> {
    engines.iter().find_map(|(destination, backend)| {
        let view = backend.pool.view();
        let member = view.members.iter().find(|member| Mark::of(&member.endpoint) == mark)?;
        Some(Holder { pool: destination.pool, endpoint: member.endpoint.socket() })
    })
}

/// Waits for a turn, and asks the engines which of them has a response, if nobody has found it meanwhile.
///
/// # Errors
///
/// Returns why none is known to have it.
async fn seek_in_turn(
    worker: &Worker,
    headers: &HeaderMap,
    id: &str,
    engines: &[(Destination, Backend)],
) -> Result<Holder, Missing> {
    let lookups = &worker.lookups;
    let Ok(_place) = lookups.all.try_acquire() else { return Err(Missing::Crowded) };
    let Ok(_turn) = lookups.active.acquire().await else { return Err(Missing::Crowded) };
    match worker.door.serving.holders.find(id) {
        Some(mark) => noted(engines, mark).ok_or(Missing::Gone),
        None => seek(worker, headers, id, engines).await,
    }
}

/// Asks the engines which of them has a response.
///
/// # Errors
///
/// Returns why none is known to have it.
async fn seek(
    worker: &Worker,
    headers: &HeaderMap,
    id: &str,
    engines: &[(Destination, Backend)],
) -> Result<Holder, Missing> {
    let asked = engines.iter().flat_map(|(destination, backend)| {
        let view = backend.pool.view();
        let members = view.members.iter().map(|member| Arc::clone(&member.endpoint)).collect::<Vec<_>>();
        members.into_iter().map(move |endpoint| (destination.pool, backend, endpoint))
    });
    let answers = asked.map(async |(pool, backend, endpoint)| {
        let word = ask(worker, headers, id, backend, &endpoint).await;
        (word, pool, endpoint)
    });
    let mut answers = stream::iter(answers).buffer_unordered(AT_ONCE);
    let mut silent = 0;
    while let Some((word, pool, endpoint)) = answers.next().await {
        match word {
            Word::Has => {
                worker.door.serving.holders.note(id, Mark::of(&endpoint));
                return Ok(Holder { pool, endpoint: endpoint.socket() });
            }
            Word::HasNot => {}
            Word::Nothing => silent += 1,
        }
    }
    Err(if silent == 0 { Missing::Unknown } else { Missing::Unsaid(silent) })
}

/// Asks one engine whether it has a response. What it answers with is not read.
async fn ask(worker: &Worker, headers: &HeaderMap, id: &str, backend: &Backend, endpoint: &Endpoint) -> Word {
    let socket = endpoint.socket();
    let peer = Peer { address: socket, transport: backend.transport.clone() };
    let shown: HeaderMap = headers.get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone())).into_iter().collect();
    let mut ask = Ask {
        method: &Method::GET,
        target: &format!("/v1/responses/{id}"),
        host: &socket.to_string(),
        headers: &shown,
        replaced: &[],
        upgrade: None,
        body: Body::Empty,
        keeping: None,
        connect_timeout: backend.policy.limits.connect,
        timeout: Some(PATIENCE),
        fresh: false,
        repeated: false,
    };
    match worker.client.send_again(&peer, &mut ask).await.map(|answer| answer.head.status) {
        Ok(status) if status.is_success() => Word::Has,
        // An engine without such a call has no responses.
        Ok(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) => Word::HasNot,
        Ok(_) | Err(_) => Word::Nothing,
    }
}
