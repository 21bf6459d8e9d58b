//! The steps of one request, in order.

use std::rc::Rc;

use actix_http::{HttpMessage, Request};
use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::uri::Authority;
use kthena_router::hostname::request_host;
use kthena_router::inference::api::Call;
use kthena_router::routing::request::RequestHead;
use kthena_router_downstream::Refusal;

use super::answer::Answer;
use super::body::Inbound;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::headers::{REQUEST_ID, Received};
use super::worker::Worker;
use super::{body, http_route, native, wellformed};
use crate::metrics::RefusedLabels;
use crate::picker::RESERVED;
use crate::tls::PORT_IDENTITY;

/// Handles one request.
///
/// When the client leaves, this future or the answer that it returned is dropped, and with it everything that is under
/// way for the request: the connection to the engine, the lease, the admission.
pub async fn handle(worker: Rc<Worker>, mut request: Request) -> HttpResponse {
    let mut payload = request.take_payload();
    strip_reserved(request.headers_mut());
    let request = Rc::new(request);
    let mut exchange = Exchange::begin(&worker, Rc::clone(&request));
    let mut response = match reply(&worker, &request, &mut payload, &mut exchange).await {
        Ok(Reply::Backend(answer)) => answer.into_response(exchange),
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

/// Notes a request that the server has refused, and makes the answer.
pub fn refuse(worker: &Rc<Worker>, request: Request, why: Refusal) -> HttpResponse {
    let error = ProxyError::Refused(why);
    worker.door.serving.metrics.edge.refused.get_or_create(&RefusedLabels { reason: why.reason() }).inc();
    let mut exchange = Exchange::begin(worker, Rc::new(request));
    exchange.fails(&error);
    own(error.response(), &exchange, Payload::None)
}

/// Takes out the headers of the endpoint picker protocol: a client that could set them would choose its own endpoint.
fn strip_reserved(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with(RESERVED)).cloned() {
        headers.remove(name);
    }
}

/// Completes an answer of the router's own.
fn own(mut response: HttpResponse, exchange: &Exchange, unread: Payload) -> HttpResponse {
    response.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
    if exchange.request.method() == Method::HEAD {
        // There are clients that parse what they are told is JSON, although an answer to HEAD has no body.
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response.map_body(|_, answer| body::WithUnread::new(answer, unread)).map_into_boxed_body()
}

/// What a request is answered with.
#[expect(
    clippy::large_enum_variant,
    reason = "answers of backends are the rule, and an allocation for each would be felt"
)]
pub(super) enum Reply {
    /// What a backend answers.
    Backend(Answer),
    /// What the router answers itself.
    Own(HttpResponse),
}

/// A request, and the host that it names.
#[derive(Clone, Copy)]
pub(super) struct Inquiry<'r> {
    /// The request.
    pub request: &'r Request,
    /// The host and port as the request names them; empty if it does not.
    pub authority: &'r str,
    /// The host as listeners know it.
    pub host: &'r str,
}

/// What the listeners of a request's host serve.
#[derive(Clone, Copy, Default)]
struct Offer {
    models: bool,
    rules: bool,
}

/// Finds who answers a request. Model paths are for the ModelRoutes of a listener that has any, and for its HTTPRoutes
/// where no ModelRoute serves the model; all other paths are for the HTTPRoutes, whose listeners read no bodies.
async fn reply(
    worker: &Rc<Worker>,
    request: &Request,
    payload: &mut Payload,
    exchange: &mut Exchange,
) -> Result<Reply, ProxyError> {
    wellformed::check(request)?;
    let authority = authority(request);
    let inquiry = Inquiry { request, authority, host: &request_host(authority) };
    let offer = inquiry.offer(worker, exchange)?;
    match Call::of(request.method().as_str(), request.path()) {
        Call::Inference(api) if offer.models || !offer.rules => {
            exchange.api = Some(api);
            exchange.admit()?;
            let body = native::read_body(worker, request, payload, exchange).await?;
            let spare = offer.rules.then(|| body.clone());
            match (native::serve(worker, &inquiry, api, body, exchange).await, spare) {
                (Err(error @ (ProxyError::RouteNotFound { .. } | ProxyError::Parse(_))), Some(body)) => {
                    let served = http_route::serve(worker, &inquiry, Inbound::Read(body), exchange).await;
                    served.map_err(|other| if matches!(other, ProxyError::NoRule { .. }) { error } else { other })
                }
                (served, _) => served,
            }
        }
        Call::ListModels if offer.models || !offer.rules => native::list_models(worker, &inquiry),
        call if offer.rules => match http_route::serve(worker, &inquiry, Inbound::Unread(payload), exchange).await {
            Err(ProxyError::NoRule { .. }) if call == Call::ListModels => native::list_models(worker, &inquiry),
            served => served,
        },
        _ => {
            let (method, path) = (request.method().to_string(), request.path().to_owned());
            Err(ProxyError::NotServed { method, path })
        }
    }
}

impl<'r> Inquiry<'r> {
    /// Returns the head of the request, as routing reads it.
    pub(super) fn head(&self, headers: &'r Received<'r>) -> RequestHead<'r> {
        RequestHead {
            method: self.request.method().as_str(),
            host: self.host,
            path: self.request.path(),
            query: self.request.uri().query().unwrap_or_default(),
            headers,
        }
    }

    /// Returns the error that says that no listener serves the host.
    pub(super) fn unknown_host(&self) -> ProxyError {
        ProxyError::NoListener { host: self.host.to_owned() }
    }

    /// Finds out what the listeners of the host serve, unless the connection is one for another listener.
    fn offer(&self, worker: &Worker, exchange: &Exchange) -> Result<Offer, ProxyError> {
        let snapshot = worker.door.serving.reader.glance();
        let (table, bind) = (&snapshot.table, worker.door.bind);
        // A connection may be used for another host than it was opened for, and then the client's certificate, or its
        // lack of one, was accepted by another listener (RFC 9110, section 15.5.20). A handshake without a server name
        // was one with the listener without a hostname.
        if let Some(tls) = exchange.connection().and_then(|connection| connection.tls.as_ref()) {
            let server_name = tls.server_name.as_deref();
            let agrees = || {
                let named = table.listener_hostname(bind, server_name.unwrap_or_default());
                named == table.listener_hostname(bind, self.host)
            };
            let is_the_ports = tls.identity == PORT_IDENTITY && server_name.is_none();
            if !worker.door.serving.tls.is_of(bind, self.host, tls.identity) || !(is_the_ports || agrees()) {
                let (host, server_name) = (self.host.to_owned(), server_name.unwrap_or_default().to_owned());
                return Err(ProxyError::Misdirected { host, server_name });
            }
        }
        let mut offer = Offer::default();
        for listener in table.listeners(bind, self.host) {
            offer.models |= listener.models.names().next().is_some();
            offer.rules |= !listener.http.is_empty();
        }
        Ok(offer)
    }
}

/// Returns the host and port that the request names: of an absolute target, else of the `Host` header.
///
/// Headers like `X-Forwarded-Host` are not asked: with them any client could choose another tenant's listener.
fn authority(request: &Request) -> &str {
    let named = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri().authority().map(Authority::as_str).or_else(named).unwrap_or_default()
}
