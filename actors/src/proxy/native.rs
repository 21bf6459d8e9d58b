//! Requests of inference APIs that ModelRoutes serve.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{HttpMessage, Request};
use actix_web::dev::Payload;
use actix_web::web::Bytes;
use kthena_router::inference::api::Api;
use kthena_router::inference::request::{Edit, InferenceRequest, parse};
use kthena_router::routing::pool::{PoolIndex, PoolPolicy};
use kthena_router::routing::table::{Forward, Refusal};

use super::answer::{Answer, Reading};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::{Outbound, forward};
use super::handle::{Inquiry, Reply};
use super::headers::Received;
use super::series::{Matched, Subject};
use super::worker::Worker;
use super::{body, models};
use crate::published::Snapshot;

/// A request that is decided: where it goes, and as what.
struct Decided {
    pool: PoolIndex,
    policy: Arc<PoolPolicy>,
    /// The edited body, where it differs from the client's.
    body: Option<Vec<u8>>,
    reading: Reading,
}

/// Serves an inference by a ModelRoute.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    inquiry: &Inquiry<'_>,
    api: Api,
    body: Bytes,
    exchange: &mut Exchange,
) -> Result<Reply, ProxyError> {
    let snapshot = worker.door.serving.reader.load();
    exchange.api = Some(api);
    let decided = decide(worker, inquiry, &body, api, &snapshot, exchange)?;
    let outbound = Outbound {
        request: inquiry.request,
        host: inquiry.authority,
        body: decided.body.map_or(body, Bytes::from),
        pool: &snapshot.pools[decided.pool.0],
        policy: &decided.policy,
    };
    let engine = forward(worker, &outbound, exchange).await?;
    Ok(Reply::Backend(Answer::new(engine, decided.reading)))
}

/// Reads the body of an inference.
pub(super) async fn read_body(
    worker: &Worker,
    request: &Request,
    payload: &mut Payload,
    exchange: &mut Exchange,
) -> Result<Bytes, ProxyError> {
    let limits = worker.limits();
    let body = body::read(request.headers(), payload, limits.max_body_bytes, limits.client_timeout).await?;
    exchange.marks.body_read = Some(Instant::now());
    Ok(body)
}

/// Lists the models that the listeners of a host serve.
pub(super) fn list_models(worker: &Worker, inquiry: &Inquiry<'_>) -> Result<Reply, ProxyError> {
    let snapshot = worker.door.serving.reader.load();
    match snapshot.table.listeners(worker.door.bind, inquiry.host) {
        [] => Err(inquiry.unknown_host()),
        listeners => Ok(Reply::Own(models::list(listeners))),
    }
}

fn decide(
    worker: &Worker,
    inquiry: &Inquiry<'_>,
    body: &[u8],
    api: Api,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<Decided, ProxyError> {
    let parsed = parse(body)?;
    exchange.model = parsed.model.clone().into_owned();
    let headers = Received(inquiry.request.headers());
    let decision = snapshot.table.decide(
        worker.door.bind,
        &inquiry.head(&headers),
        &parsed.model,
        |pool| snapshot.availability(pool),
        |bound| worker.draw(bound),
    );
    match decision {
        Ok(forward) => {
            exchange.taken_by(forward.listener);
            exchange.concerns(snapshot, subject(&forward, &parsed.model));
            Ok(shape(&forward, &parsed, body, api, snapshot))
        }
        Err(Refusal::NoListener) => Err(inquiry.unknown_host()),
        Err(Refusal::NoRoute { listener }) => {
            exchange.taken_by(listener);
            Err(ProxyError::RouteNotFound { model: parsed.model.into_owned() })
        }
        Err(Refusal::NoEndpoints { listener, route }) => {
            exchange.taken_by(listener);
            let model = route.name_of(&parsed.model);
            exchange.concerns(snapshot, Subject { model, route: Some(Matched::Model(route)), pool: None });
            Err(ProxyError::NoReadyEndpoint { route: route.key().clone(), unresolved: route.unresolved.clone() })
        }
    }
}

fn subject<'t>(forward: &Forward<'t>, model: &str) -> Subject<'t> {
    let route = Some(Matched::Model(forward.route));
    Subject { model: forward.route.name_of(model), route, pool: Some(forward.pool) }
}

/// Decides what of the body has to change, and how the answer is read.
fn shape(forward: &Forward<'_>, parsed: &InferenceRequest<'_>, body: &[u8], api: Api, snapshot: &Snapshot) -> Decided {
    let policy = &snapshot.table.pools[forward.pool.0].policy;
    // An engine knows an adapter by the name that the client uses, and a model by the name it was started with.
    let model = if forward.adapter { None } else { policy.served_model.as_deref() };
    let include_usage = parsed.stream && api.has_stream_options() && parsed.lacks_usage();
    let reading = match (parsed.stream, include_usage) {
        (true, true) => Reading::StreamWithAddedUsage,
        (true, false) => Reading::Stream,
        (false, _) => Reading::Whole,
    };
    let body = parsed.apply(body, &Edit { model, include_usage });
    Decided { pool: forward.pool, policy: Arc::clone(policy), body, reading }
}
