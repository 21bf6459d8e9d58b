//! The steps of one request, in order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{HttpMessage, Request};
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::ConnectionType;
use actix_web::http::header;
use actix_web::http::uri::Authority;
use actix_web::web::Bytes;
use kthena_router::gateway::hostname::request_host;
use kthena_router::inference::api::{Api, Call};
use kthena_router::inference::request::{Edit, InferenceRequest, parse};
use kthena_router::routing::pool::PoolPolicy;
use kthena_router::routing::request::RequestHead;
use kthena_router::routing::table::{Forward, ListenerTable, PoolIndex, Refusal};

use super::answer::{Answer, Reading};
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::{Outbound, forward};
use super::headers::{REQUEST_ID, Received};
use super::series::Subject;
use super::worker::Worker;
use super::{body, models, wellformed};
use crate::published::Snapshot;

/// Handles one request.
///
/// When the client leaves, this future or the answer that it returned is dropped, and with it everything that is under
/// way for the request: the connection to the engine, the lease, the admission.
pub async fn handle(worker: Rc<Worker>, mut request: Request) -> HttpResponse {
    let mut payload = request.take_payload();
    let request = Rc::new(request);
    let mut exchange = Exchange::begin(&worker, Rc::clone(&request));
    let mut response = match reply(&worker, &request, &mut payload, &mut exchange).await {
        Ok(Reply::Engine(answer)) => answer.into_response(exchange),
        Ok(Reply::Own(response)) => {
            exchange.completes(response.status().as_u16());
            own(response, &exchange, payload)
        }
        Err(error) => {
            exchange.fails(&error);
            own(error.response(), &exchange, payload)
        }
    };
    // A client that is told so connects elsewhere, and loses nothing when the ports are closed.
    if worker.door.serving.stopping.is_announced() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// Completes an answer of the router's own.
fn own(mut response: HttpResponse, exchange: &Exchange, unread: Payload) -> HttpResponse {
    response.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
    response.map_body(|_, answer| body::WithUnread::new(answer, unread)).map_into_boxed_body()
}

#[expect(
    clippy::large_enum_variant,
    reason = "answers of engines are the rule, and an allocation for each would be felt"
)]
enum Reply {
    Engine(Answer),
    Own(HttpResponse),
}

/// A request that is decided: where it goes, and as what.
struct Decided {
    pool: PoolIndex,
    policy: Arc<PoolPolicy>,
    /// The edited body, where it differs from the client's.
    body: Option<Vec<u8>>,
    reading: Reading,
}

async fn reply(
    worker: &Rc<Worker>,
    request: &Request,
    payload: &mut Payload,
    exchange: &mut Exchange,
) -> Result<Reply, ProxyError> {
    wellformed::check(request)?;
    let serving = &worker.door.serving;
    let api = match Call::of(request.method().as_str(), request.path()) {
        Call::Inference(api) => api,
        Call::ListModels => return list_models(worker, request).map(Reply::Own),
        Call::Unserved => {
            let (method, path) = (request.method().to_string(), request.path().to_owned());
            return Err(ProxyError::NotServed { method, path });
        }
    };
    exchange.api = Some(api);
    exchange.admit()?;
    let limits = &serving.config.limits;
    let body = body::read(request.headers(), payload, limits.max_body_bytes, limits.client_timeout).await?;
    exchange.marks.body_read = Some(Instant::now());
    let snapshot = serving.reader.load();
    let decided = decide(worker, request, &body, api, &snapshot, exchange)?;
    let outbound = Outbound {
        request,
        host: authority(request),
        body: decided.body.map_or(body, Bytes::from),
        pool: &snapshot.pools[decided.pool.0],
        policy: &decided.policy,
    };
    let engine = forward(worker, &outbound, exchange).await?;
    Ok(Reply::Engine(Answer::new(engine, decided.reading)))
}

fn list_models(worker: &Worker, request: &Request) -> Result<HttpResponse, ProxyError> {
    let snapshot = worker.door.serving.reader.load();
    let host = request_host(authority(request));
    match snapshot.table.listeners(worker.door.bind, &host) {
        [] => Err(ProxyError::NoListener { host: host.into_owned() }),
        listeners => Ok(models::list(listeners)),
    }
}

fn decide(
    worker: &Worker,
    request: &Request,
    body: &[u8],
    api: Api,
    snapshot: &Snapshot,
    exchange: &mut Exchange,
) -> Result<Decided, ProxyError> {
    let parsed = parse(body)?;
    exchange.model = parsed.model.clone().into_owned();
    let host = request_host(authority(request));
    let head = RequestHead {
        method: request.method().as_str(),
        host: &host,
        path: request.path(),
        query: request.uri().query().unwrap_or_default(),
        headers: &Received(request.headers()),
    };
    let decision = snapshot.table.decide(
        worker.door.bind,
        &head,
        &parsed.model,
        |pool| snapshot.availability(pool),
        |bound| worker.draw(bound),
    );
    match decision {
        Ok(forward) => {
            note_listener(exchange, forward.listener);
            exchange.concerns(snapshot, subject(&forward, &parsed.model));
            Ok(shape(&forward, &parsed, body, api, snapshot))
        }
        Err(Refusal::NoListener) => Err(ProxyError::NoListener { host: host.clone().into_owned() }),
        Err(Refusal::NoRoute { listener }) => {
            note_listener(exchange, listener);
            Err(ProxyError::RouteNotFound { model: parsed.model.into_owned() })
        }
        Err(Refusal::NoEndpoints { listener, route }) => {
            note_listener(exchange, listener);
            exchange
                .concerns(snapshot, Subject { model: route.name_of(&parsed.model), route: Some(route), pool: None });
            Err(ProxyError::NoReadyEndpoint { route: route.key().clone(), unresolved: route.unresolved.clone() })
        }
    }
}

fn subject<'t>(forward: &Forward<'t>, model: &str) -> Subject<'t> {
    Subject { model: forward.route.name_of(model), route: Some(forward.route), pool: Some(forward.pool) }
}

fn note_listener(exchange: &mut Exchange, listener: &ListenerTable) {
    exchange.gateway.clone_from(&listener.identity.gateway);
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

/// Returns the host and port that the request names: of an absolute target, else of the `Host` header.
///
/// Headers like `X-Forwarded-Host` are not asked: with them any client could choose another tenant's listener.
fn authority(request: &Request) -> &str {
    let named = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(Authority::as_str).or_else(named).unwrap_or_default()
}
