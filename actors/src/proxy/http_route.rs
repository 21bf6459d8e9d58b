//! Requests that HTTPRoutes serve.
//!
//! Order of steps, as the Gateway API wants them: the rule; a preflight and a redirect that its filters answer; the
//! backend by weight, and what its filters answer; changes of headers, host and path, those of the rule first; copies;
//! attempts; changes of the answer's headers, those of the backend first.

mod attempts;
mod copies;
mod inference;
mod outbound;
mod own;
mod picking;
mod returned;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::HttpMessage;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use kthena_router::routing::http::entry::{Choice, Chosen, Destination};
use kthena_router::routing::http::table::HttpMatch;
use kthena_router::routing::path;
use kthena_router::routing::pool::{BackendProtocol, PickerPolicy, PoolPolicy};
use kthena_router::routing::table::{HttpDecision, Refusal};

use super::answer::{Answer, Reading};
use super::body::Inbound;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::handle::{Inquiry, Reply};
use super::headers::Received;
use super::series::{Matched, Subject};
use super::worker::Worker;
use crate::published::{Pool, Snapshot};
use crate::upstream::{Body, Transport};
use attempts::Attempts;
use inference::Inference;
use outbound::Outbound;
use picking::Picking;

pub(super) use copies::Copies;

/// A backend, ready to be asked.
struct Target {
    pool: Arc<Pool>,
    policy: Arc<PoolPolicy>,
    transport: Transport,
}

/// Serves a request by the HTTPRoutes of its listeners.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    inquiry: &Inquiry<'_>,
    inbound: Inbound<'_>,
    exchange: &mut Exchange,
) -> Result<Reply, ProxyError> {
    path::check(inquiry.request.path())?;
    exchange.admit()?;
    exchange.api = None;
    let snapshot = worker.door.serving.reader.load();
    let headers = Received(inquiry.request.headers());
    let head = inquiry.head(&headers);
    let HttpDecision { listener, matched } =
        snapshot.table.decide_http(worker.door.bind, &head).map_err(|refusal| refused(refusal, inquiry, exchange))?;
    exchange.taken_by(listener);
    let route = Some(Matched::Http(matched.entry));
    let context = own::Context { inquiry, identity: &listener.identity, matched: &matched };
    let unforwarded = Subject { route, ..Subject::default() };
    if let Some(response) = own::answer(&matched.rule.filters, &context) {
        exchange.concerns(&snapshot, unforwarded);
        return Ok(Reply::Own(response));
    }
    let chosen = choose(worker, &matched).inspect_err(|_| exchange.concerns(&snapshot, unforwarded))?;
    exchange.concerns(&snapshot, Subject { pool: Some(chosen.destination.pool), ..unforwarded });
    if let Some(response) = own::answer(&chosen.backend.filters, &context) {
        return Ok(Reply::Own(response));
    }
    forward(worker, &snapshot, &context, &chosen, inbound, exchange).await
}

/// Returns the error for a request that no rule is for.
fn refused(refusal: Refusal<'_>, inquiry: &Inquiry<'_>, exchange: &mut Exchange) -> ProxyError {
    match refusal {
        Refusal::NoListener => inquiry.unknown_host(),
        Refusal::NoRoute { listener } | Refusal::NoEndpoints { listener, .. } => {
            exchange.taken_by(listener);
            let (method, path) = (inquiry.request.method().to_string(), inquiry.request.path().to_owned());
            ProxyError::NoRule { method, path }
        }
    }
}

fn choose<'t>(worker: &Worker, matched: &HttpMatch<'t>) -> Result<Chosen<'t>, ProxyError> {
    let reason = match matched.choose(|bound| worker.draw(bound)) {
        Choice::Forward(chosen) => return Ok(chosen),
        Choice::InvalidRule => "the rule is invalid",
        Choice::InvalidBackend(_) => "the backend of the rule cannot be used",
        Choice::NoBackends => "the rule has no backend",
    };
    Err(invalid(matched, reason))
}

fn invalid(matched: &HttpMatch<'_>, reason: &'static str) -> ProxyError {
    ProxyError::InvalidRule { route: matched.entry.key().clone(), reason }
}

/// Has a request answered by the chosen backend.
async fn forward(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    context: &own::Context<'_>,
    chosen: &Chosen<'_>,
    inbound: Inbound<'_>,
    exchange: &mut Exchange,
) -> Result<Reply, ProxyError> {
    let (request, matched) = (context.inquiry.request, context.matched);
    let target = Target::find(worker, snapshot, chosen.destination)
        .ok_or_else(|| invalid(matched, "the TLS settings of its backend cannot be used"))?;
    let mut outbound = Outbound::new(context, chosen, exchange);
    let inference = Inference::of(&target, context, &outbound.headers, exchange)?;
    let upgrade = request.headers().get(header::UPGRADE).filter(|_| is_websocket(request.headers()));
    let mirrors = matched.mirrors().chain(chosen.mirrors());
    let drawn = mirrors.filter(|(mirror, _)| upgrade.is_none() && mirror.is_drawn(|bound| worker.draw(bound)));
    let copies: Vec<_> = drawn.filter_map(|(_, to)| Target::find(worker, snapshot, to)).collect();
    let mut tunnel = None;
    outbound.body = match (upgrade, inbound) {
        // What follows such a head is no body.
        (Some(_), Inbound::Unread(payload)) => {
            tunnel = Some(std::mem::replace(payload, Payload::None));
            Body::Empty
        }
        (_, inbound) => {
            // A picker decides on the whole request, and what it has decided on may go to more than one endpoint.
            let repeatable = matched.rule.retry.is_some()
                || !copies.is_empty()
                || target.is_picked_elsewhere()
                || inference.is_some_and(Inference::reads_body);
            inbound.outbound(request.headers(), repeatable, worker.limits()).await?
        }
    };
    exchange.marks.body_read.get_or_insert_with(Instant::now);
    for copy in copies {
        worker.copies.send(worker, copy, &outbound);
    }
    let understood = inference.map(|inference| inference.shape(&mut outbound, worker, exchange)).transpose()?;
    let deadline = matched.rule.timeouts.request.map(|limit| exchange.started + limit);
    let picked = match picking::pick(worker, &target, &mut outbound, context, deadline).await? {
        Picking::Picked(picked) => picked,
        Picking::Answered(response) => return Ok(Reply::Own(response)),
    };
    let attempts = Attempts::new(worker, &target, matched.rule, deadline).at(picked.endpoints());
    let (mut engine, deadline) = attempts.make(&mut outbound, upgrade, exchange).await?;
    picked.report(worker, &target, &mut engine).await;
    returned::edit(&mut engine.answer.head, context, chosen);
    let answer = match understood {
        Some(understood) => Answer::new(engine, understood.reading).renamed(understood.names),
        None => Answer::new(engine, Reading::Unread),
    };
    Ok(Reply::Backend(match tunnel {
        Some(client) => answer.until(deadline).or_tunnel(client),
        None => answer.until(deadline),
    }))
}

impl Target {
    fn find(worker: &Worker, snapshot: &Snapshot, destination: Destination) -> Option<Self> {
        let pool = Arc::clone(snapshot.pools.get(destination.pool.0)?);
        let policy = Arc::clone(&snapshot.table.pools.get(destination.pool.0)?.policy);
        let transport = match (destination.tls, policy.protocol) {
            (Some(tls), _) => Transport::Tls(snapshot.backend_tls.get(tls.0)?.clone()?),
            (None, BackendProtocol::H2c) => Transport::H2c,
            (None, BackendProtocol::Http1) => worker.door.serving.upstream.engines(policy.https),
        };
        Some(Self { pool, policy, transport })
    }

    /// Returns whether somebody else than the router chooses the endpoint.
    fn is_picked_elsewhere(&self) -> bool {
        matches!(self.policy.picker, PickerPolicy::External(_))
    }
}

/// Returns whether a request asks to change to WebSocket; that it may is checked before.
fn is_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(header::UPGRADE);
    protocols.any(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
