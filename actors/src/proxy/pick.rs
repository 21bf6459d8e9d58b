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
use http::header::{CONTENT_TYPE, HeaderValue as FieldValue};
use http::{HeaderMap, Response, StatusCode};
use kthena_router::routing::decision::Decision;
use kthena_router::routing::pool::{ExternalPicker, PickerPolicy};
use kthena_router_upstream::{Body, BodySize};
use tokio::time::timeout_at;
use tracing::debug;

use super::answer::Answer;
use super::backend::Backend;
use super::call::Call;
use super::error::{AttemptFailure, NoEndpoint, ProxyError};
use super::outbound::Outbound;
use crate::metrics::{PickerLabels, PoolLabel};
use crate::picker::{self, Consultation, Fault, HeaderValue, ImmediateResponse, Question, Served, Verdict};

/// What comes of asking for an endpoint.
pub(super) enum Picking {
    /// The request goes on.
    Picked(Picked),
    /// The picker has answered it.
    Answered(Response<Bytes>),
}

/// Where a request goes on.
#[derive(Default)]
pub(super) struct Picked {
    by_picker: Option<(Vec<SocketAddr>, Consultation)>,
}

/// What a picker has made of a request.
enum Outcome {
    Picked(Vec<SocketAddr>, Consultation),
    Answered(Response<Bytes>),
}

/// Asks the picker of the pool where the request goes, and changes the request as the picker says.
pub(super) async fn pick(
    call: &Call<'_>,
    decision: &Decision<'_>,
    backend: &Backend,
    outbound: &mut Outbound,
) -> Result<Picking, ProxyError> {
    let picker = match &backend.policy.picker {
        PickerPolicy::BuiltIn => return Ok(Picking::Picked(Picked::default())),
        PickerPolicy::Unavailable(reason) => {
            let (pool, reason) = (backend.pool.key.clone(), reason.clone());
            return Err(NoEndpoint::NoPicker { pool, reason }.into());
        }
        PickerPolicy::External(picker) => picker,
    };
    let asked = Instant::now();
    let deadline = decision.steps.timeouts.request.map(|limit| call.exchange.started + limit);
    let consulting = consult(call, decision, (backend, picker), outbound);
    let outcome = match deadline {
        None => consulting.await,
        Some(deadline) => timeout_at(deadline.into(), consulting)
            .await
            .map_err(|_| ProxyError::Failed { attempts: 0, failure: AttemptFailure::PastDeadline })?,
    };
    let label = match &outcome {
        Ok(Outcome::Picked(..)) => "picked",
        Ok(Outcome::Answered(_)) => "answered",
        Err(fault) => fault.label(),
    };
    note(call, backend, label, asked);
    match outcome {
        Ok(Outcome::Picked(endpoints, consultation)) => {
            Ok(Picking::Picked(Picked { by_picker: Some((endpoints, consultation)) }))
        }
        Ok(Outcome::Answered(response)) => Ok(Picking::Answered(response)),
        Err(fault) if picker.fail_open => {
            debug!(pool = %backend.pool.key, ?fault, "endpoint picker failed, the router picks");
            Ok(Picking::Picked(Picked::default()))
        }
        Err(fault) => {
            debug!(pool = %backend.pool.key, ?fault, "endpoint picker failed");
            Err(NoEndpoint::Picker { pool: backend.pool.key.clone(), fault }.into())
        }
    }
}

impl Picked {
    /// Returns the endpoints that may be asked, if a picker has named them.
    pub(super) fn endpoints(&self) -> Option<&[SocketAddr]> {
        self.by_picker.as_ref().map(|(endpoints, _)| &**endpoints)
    }

    /// Tells the picker which endpoint has answered, and changes the answer's headers as the picker says. The exchange
    /// with the picker is returned, because it ends with the answer.
    pub(super) async fn report(self, call: &Call<'_>, backend: &Backend, answer: &mut Answer) -> Option<Consultation> {
        let (_, mut consultation) = self.by_picker?;
        let head = &mut answer.upstream.head;
        let mut headers = vec![HeaderValue::new(":status", head.status.as_str().as_bytes())];
        headers.extend(written(&head.headers));
        let ends = matches!(answer.upstream.size, BodySize::None | BodySize::Sized(0));
        let served = Served { endpoint: answer.lease.endpoint().socket(), headers, ends };
        let outcome = match consultation.report(served).await {
            Ok(edits) => {
                if let Some(edits) = edits {
                    picker::apply(&edits, &mut head.headers);
                }
                "noted"
            }
            Err(fault) => {
                debug!(pool = %backend.pool.key, ?fault, "endpoint picker took no note of an answer");
                fault.label()
            }
        };
        let labels = PickerLabels { pool: backend.pool.key.to_string(), outcome };
        call.worker.door.serving.metrics.pickers.reports.get_or_create(&labels).inc();
        Some(consultation)
    }
}

async fn consult(
    call: &Call<'_>,
    decision: &Decision<'_>,
    (backend, picker): (&Backend, &ExternalPicker),
    outbound: &mut Outbound,
) -> Result<Outcome, Fault> {
    let worker = call.worker;
    let headers = described(outbound, decision);
    let body = match &outbound.body {
        Body::Whole(bytes) => bytes.clone(),
        Body::Empty | Body::Stream(_) | Body::Gone => Bytes::new(),
    };
    let question = Question { headers: &headers, body: &body, limit: worker.limits().max_body_bytes };
    let first = worker.draw(picker.endpoints.len().max(1) as u64);
    let first = usize::try_from(first).unwrap_or_default();
    let (verdict, consultation) = worker.pickers.consult(picker, first, &question).await?;
    match verdict {
        Verdict::Answer(answer) => response(answer).map(Outcome::Answered),
        Verdict::Forward(decided) => {
            let endpoints = endpoints(backend, &decided.destination)?;
            for edits in &decided.edits {
                picker::apply(edits, &mut outbound.headers);
            }
            if let Some(body) = decided.body {
                outbound.body = if body.is_empty() { Body::Empty } else { Body::Whole(body) };
            }
            Ok(Outcome::Picked(endpoints, consultation))
        }
    }
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

/// Returns the headers of a request as it would leave, and those that stand for its first line.
fn described(outbound: &Outbound, decision: &Decision<'_>) -> Vec<HeaderValue> {
    let mut headers = vec![
        HeaderValue::new(":method", outbound.method.as_str().as_bytes()),
        HeaderValue::new(":scheme", decision.listener.identity.scheme.as_str().as_bytes()),
        HeaderValue::new(":authority", outbound.host().as_bytes()),
        HeaderValue::new(":path", outbound.target().as_bytes()),
    ];
    headers.extend(written(&outbound.headers));
    headers
}

fn written(headers: &HeaderMap) -> impl Iterator<Item = HeaderValue> {
    headers.iter().map(|(name, value)| HeaderValue::new(name.as_str(), value.as_bytes()))
}

/// Makes the picker's own answer.
fn response(answer: ImmediateResponse) -> Result<Response<Bytes>, Fault> {
    let code =
        answer.status.and_then(|status| u16::try_from(status.code).ok()).filter(|code| (200..600).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = Response::new(answer.body);
    *response.status_mut() = status.ok_or(Fault::Nonsense("it answers with what is no status"))?;
    if !response.body().is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, FieldValue::from_static("text/plain"));
    }
    if let Some(edits) = &answer.headers {
        picker::apply(edits, response.headers_mut());
    }
    Ok(response)
}

fn note(call: &Call<'_>, backend: &Backend, outcome: &'static str, asked: Instant) {
    let metrics = &call.worker.door.serving.metrics.pickers;
    let pool = backend.pool.key.to_string();
    metrics.seconds.get_or_create(&PoolLabel { pool: pool.clone() }).observe(asked.elapsed().as_secs_f64());
    metrics.requests.get_or_create(&PickerLabels { pool, outcome }).inc();
}
