//! Has a request's endpoint chosen by the endpoint picker of its pool.
//!
//! Source: Inference Extension, endpoint picker protocol 1.0, and `InferencePool.spec.endpointPickerRef.failureMode`. A
//! picker that cannot be reached, does not decide in time, breaks off, makes no sense or names no endpoint of the pool
//! has failed: the router chooses in its place where the pool is to fail open, and answers 503 where it is not. A
//! picker that answers the request itself has not failed. Once an endpoint has answered, the client gets that answer,
//! whatever the picker does.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use kthena_router::pool::policy::{ExternalPicker, PickerPolicy};
use kthena_router_upstream::{Body, BodySize};
use tokio::time::timeout_at;
use tracing::debug;

use super::call::Call;
use super::way::Way;
use crate::edge::answers::{Answer, Early};
use crate::edge::backends::{Backend, Outbound};
use crate::edge::errors::{NoEndpoint, ProxyError};
use crate::edge::ext_proc::{self, Consultation, Fault, Question, Served, Verdict};
use crate::ops::metrics::{PickerLabels, PoolLabel};

/// Who picks the endpoints of a request.
pub(super) enum Picked {
    /// The router, one for each attempt.
    Here,
    /// Nobody: this endpoint has the response that the request is about.
    Holder(SocketAddr),
    /// An endpoint picker, which has named these, the best one first.
    Named(Vec<SocketAddr>, Box<Consultation>),
}

/// What a picker makes of a request: either where it goes, or the picker's own answer.
type Opinion = Result<Picked, Response<Bytes>>;

/// Asks the picker of the pool where the request goes, and changes the request as the picker says.
pub(super) async fn pick(call: &Call<'_>, way: &Way<'_>, outbound: &mut Outbound) -> Result<Picked, Early> {
    if let Some(holder) = call.holder.filter(|holder| holder.pool == way.target.destination.pool) {
        return Ok(Picked::Holder(holder.endpoint));
    }
    let pool = &way.backend.pool.key;
    let picker = match &way.backend.policy.picker {
        PickerPolicy::BuiltIn => return Ok(Picked::Here),
        PickerPolicy::Unavailable(reason) => {
            let error = NoEndpoint::NoPicker { pool: pool.clone(), reason: reason.clone() };
            return Err(ProxyError::from(error).into());
        }
        PickerPolicy::External(picker) => picker,
    };
    let asked = Instant::now();
    // Few requests are for a picker, and the others need not carry the room that it takes.
    let consulting = Box::pin(consult(call, way, picker, outbound));
    let opinion = match way.deadline(call) {
        None => consulting.await,
        Some(deadline) => timeout_at(deadline.at.into(), consulting)
            .await
            .map_err(|_| ProxyError::Failed { attempts: 0, failure: deadline.limit.into() })?,
    };
    let outcome = match &opinion {
        Ok(Ok(_)) => "picked",
        Ok(Err(_)) => "answered",
        Err(fault) => fault.label(),
    };
    let metrics = &call.worker.door.serving.metrics.pickers;
    metrics.seconds.get_or_create(&PoolLabel { pool: pool.to_string() }).observe(asked.elapsed().as_secs_f64());
    metrics.requests.get_or_create(&PickerLabels { pool: pool.to_string(), outcome }).inc();
    match opinion {
        Ok(opinion) => opinion.map_err(Early::from),
        Err(fault) => {
            debug!(%pool, ?fault, fail_open = picker.fail_open, "endpoint picker failed");
            let error = NoEndpoint::Picker { pool: pool.clone(), fault };
            if picker.fail_open { Ok(Picked::Here) } else { Err(ProxyError::from(error).into()) }
        }
    }
}

impl Picked {
    /// Returns the endpoints that may be asked, if a picker has named them.
    pub(super) fn endpoints(&self) -> Option<&[SocketAddr]> {
        match self {
            Self::Here => None,
            Self::Holder(endpoint) => Some(std::slice::from_ref(endpoint)),
            Self::Named(endpoints, _) => Some(endpoints),
        }
    }

    /// Tells the picker which endpoint has answered, and changes the answer's headers as the picker says. The exchange
    /// with the picker ends with the answer.
    pub(super) async fn report(self, call: &mut Call<'_>, way: &Way<'_>, answer: &mut Answer) {
        let Self::Named(_, mut consultation) = self else { return };
        let pool = &way.backend.pool.key;
        let head = &mut answer.upstream.head;
        let status = [(":status", head.status.as_str())];
        let ends = matches!(answer.upstream.size, BodySize::None | BodySize::Sized(0));
        let endpoint = answer.lease.endpoint().socket();
        let served = Served { endpoint, headers: ext_proc::headers(&status, &head.headers), ends };
        let outcome = match Box::pin(consultation.report(served)).await {
            Ok(edits) => {
                if let Some(edits) = edits {
                    ext_proc::apply(&edits, &mut head.headers);
                }
                "noted"
            }
            Err(fault) => {
                debug!(%pool, ?fault, "endpoint picker took no note of an answer");
                fault.label()
            }
        };
        let labels = PickerLabels { pool: pool.to_string(), outcome };
        call.worker.door.serving.metrics.pickers.reports.get_or_create(&labels).inc();
        call.held.consultation = Some(consultation);
    }
}

async fn consult(
    call: &Call<'_>,
    way: &Way<'_>,
    picker: &ExternalPicker,
    outbound: &mut Outbound,
) -> Result<Opinion, Fault> {
    let worker = call.worker;
    let first_line = [
        (":method", outbound.method.as_str()),
        (":scheme", way.decision.listener.identity.scheme.as_str()),
        (":authority", outbound.host()),
        (":path", outbound.target()),
    ];
    let headers = ext_proc::headers(&first_line, &outbound.headers);
    let body = outbound.whole().cloned().unwrap_or_default();
    let question = Question { headers: &headers, body: &body, limit: worker.limits().max_body_bytes };
    let first = worker.draw(picker.endpoints.len().max(1) as u64);
    let first = usize::try_from(first).unwrap_or_default();
    let (verdict, consultation) = worker.pickers.consult(picker, first, &question).await?;
    let decided = match verdict {
        Verdict::Answer(answer) => return ext_proc::response(answer).map(Err),
        Verdict::Forward(decided) => decided,
    };
    let endpoints = endpoints(&way.backend, &decided.destination)?;
    for edits in &decided.edits {
        ext_proc::apply(edits, &mut outbound.headers);
    }
    if let Some(body) = decided.body {
        outbound.body = if body.is_empty() { Body::Empty } else { Body::Whole(body) };
    }
    Ok(Ok(Picked::Named(endpoints, Box::new(consultation))))
}

/// Returns the endpoints of the pool that the picker names, in its order.
fn endpoints(backend: &Backend, destination: &str) -> Result<Vec<SocketAddr>, Fault> {
    let named: Vec<SocketAddr> = destination.split(',').filter_map(|endpoint| endpoint.trim().parse().ok()).collect();
    if named.is_empty() {
        return Err(Fault::Nonsense("what it names is no list of endpoints"));
    }
    let view = backend.pool.view();
    let is_member = |named: &SocketAddr| view.members.iter().any(|member| member.endpoint.socket() == *named);
    let known: Vec<_> = named.into_iter().filter(is_member).collect();
    if known.is_empty() { Err(Fault::Outside(destination.to_owned())) } else { Ok(known) }
}
