//! The steps of one request, in order.
//!
//! ```text
//!  begin ─> enter ─> understand ─> decide ─> early answer ─> backend ─> shape ─> mirror ─> pick ─> deliver ─> answer
//!                   (where a model                          (headers, host, path,
//!                    decides)                                 model, usage)
//! ```

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode, Version};
use kthena_router::routing::decision::{Decision, Target, Verdict};
use kthena_router_downstream::{Connection, Incoming, Upgrade};
use tokio::task::spawn_local;

use super::answer::{Answer, AnswerBody, Passing};
use super::backend::Backend;
use super::body::Inbound;
use super::call::Call;
use super::deliver::Delivery;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::headers::REQUEST_ID;
use super::mirrors::Copy;
use super::outbound::Outbound;
use super::pick::{Picking, pick};
use super::reply::ReplyBody;
use super::worker::Worker;
use super::{early_answer, inference, models, response_filters, tunnel};

/// What a request is answered with.
enum Reply {
    /// What a backend answers, and how that is passed on.
    Backend(Box<Answer>, Passing),
    /// What a backend answers that changes the protocol.
    Upgrade(Box<Answer>, Upgrade),
    /// What the router answers itself.
    Own(Response<Bytes>),
}

/// Handles one request.
///
/// When the client leaves, this future or the answer that it returned is dropped, and with it everything that is under
/// way for the request: the connection to the engine, the lease, the admission.
pub(super) async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let snapshot = worker.door.serving.reader.load();
    let version = request.version();
    let (mut call, body) = Call::begin(&worker, &snapshot, connection, request);
    let reply = answer(&mut call, body).await;
    let Call { mut exchange, mut held, .. } = call;
    let mut response = match reply {
        Ok(Reply::Backend(answer, passing)) => {
            held.lease = Some(answer.lease);
            let idle = worker.door.serving.config.engines.idle_timeout;
            AnswerBody::response(answer.upstream, passing, exchange, (held, idle)).map(ReplyBody::Backend)
        }
        Ok(Reply::Upgrade(answer, client)) => {
            held.lease = Some(answer.lease);
            tunnel::response(answer.upstream, client, exchange, held).map(ReplyBody::Own)
        }
        Ok(Reply::Own(response)) => {
            exchange.completes(response.status().as_u16());
            own(response, &mut exchange)
        }
        Err(error) => {
            exchange.fails(&error);
            own(error.response(exchange.api), &mut exchange)
        }
    };
    // A client that is told so connects elsewhere, and loses nothing when the ports are closed.
    let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if worker.is_stopping() && version < Version::HTTP_2 && !is_upgrade {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Completes an answer of the router's own.
pub(super) fn own(mut response: Response<Bytes>, exchange: &mut Exchange) -> Response<ReplyBody> {
    response.headers_mut().insert(REQUEST_ID, exchange.request_id.clone());
    if exchange.method != Method::HEAD {
        exchange.bytes = response.body().len() as u64;
        return response.map(ReplyBody::Own);
    }
    // There are clients that parse what they are told is JSON, although an answer to HEAD has no body.
    response.headers_mut().remove(CONTENT_TYPE);
    let length = response.body().len();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response.map(|_| ReplyBody::Own(Bytes::new()))
}

/// Finds out who answers a request, and has it answered.
async fn answer(call: &mut Call<'_>, incoming: Incoming) -> Result<Reply, ProxyError> {
    call.enter()?;
    let mut body = Inbound::new(incoming, &call.connection, call.worker.limits().max_body_bytes)?;
    if call.is_decided_by_model() {
        call.admit()?;
        inference::understand(call, &mut body).await?;
    }
    let decision = match call.decide()? {
        Verdict::Models(listeners) => return models::answer(call, listeners).map(Reply::Own),
        Verdict::Serve(decision) => decision,
    };
    call.admit()?;
    if let Some(answer) = early_answer::of(decision.steps.filters, call, &decision) {
        call.attribute_to(&decision, None);
        return Ok(Reply::Own(answer));
    }
    let (backend, target) = call.backend(&decision)?;
    if let Some(answer) = early_answer::of(target.filters, call, &decision) {
        return Ok(Reply::Own(answer));
    }
    forward(call, &decision, &target, &backend, body).await
}

/// Has a request answered by its backend.
async fn forward(
    call: &mut Call<'_>,
    decision: &Decision<'_>,
    target: &Target<'_>,
    backend: &Backend,
    mut body: Inbound,
) -> Result<Reply, ProxyError> {
    let origin = call.head.headers.get(ORIGIN).cloned();
    let mut outbound = Outbound::new(call, decision, target);
    inference::admit(call, decision, backend, &outbound, &mut body).await?;
    let copies = mirrors(call, decision, target);
    let policy = decision.steps.retry.unwrap_or(&backend.policy.retry);
    let repeatable = inference::repeatable(call, backend);
    let keeps = policy.begin(repeatable, decision.steps.adapter).keep_body() || !copies.is_empty() || !backend.is_picked_here();
    let client = outbound.take_upgrade(&mut body);
    let (sent, charge) = body.outbound(keeps).await?;
    outbound.body = sent;
    call.exchange.marks.body_read.get_or_insert_with(Instant::now);
    mirror(call, copies, &outbound);
    let passing = inference::shape(call, decision, backend, &mut outbound)?;
    let picked = match pick(call, decision, backend, &mut outbound).await? {
        Picking::Picked(picked) => picked,
        Picking::Answered(response) => return Ok(Reply::Own(response)),
    };
    let delivery = Delivery {
        worker: call.worker,
        backend,
        attempts: policy.begin(repeatable, decision.steps.adapter),
        timeouts: decision.steps.timeouts,
        facts: call.request_facts.take(),
        picked: picked.endpoints(),
    };
    let mut answer = delivery.make(&mut outbound, &mut call.exchange).await?;
    drop(charge);
    call.held.consultation = picked.report(call, backend, &mut answer).await;
    response_filters::apply(&mut answer.upstream.head.headers, decision, target, origin.as_ref());
    Ok(match client {
        Some(client) if answer.upstream.head.status == StatusCode::SWITCHING_PROTOCOLS => {
            Reply::Upgrade(Box::new(answer), client)
        }
        _ => Reply::Backend(Box::new(answer), passing),
    })
}

/// Finds the backends that get copies of a request; one that changes the protocol is not copied.
fn mirrors(call: &Call<'_>, decision: &Decision<'_>, target: &Target<'_>) -> Vec<Backend> {
    let worker = call.worker;
    let drawn = decision.mirrors(target).filter(|(share, _)| share.is_drawn(|bound| worker.draw(bound)));
    drawn.filter_map(|(_, destination)| Backend::find(worker, call.snapshot, *destination)).collect()
}

/// Sends copies of a request; nothing is waited for.
fn mirror(call: &Call<'_>, backends: Vec<Backend>, outbound: &Outbound) {
    for copy in backends.into_iter().filter_map(|backend| Copy::of(outbound, &call.worker.mirrors, backend)) {
        spawn_local(copy.send(Rc::clone(call.worker)));
    }
}
