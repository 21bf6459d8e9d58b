//! Has a request's endpoint chosen by the endpoint picker of its pool.
//!
//! Source: Inference Extension, endpoint picker protocol 1.0, and `InferencePool.spec.endpointPickerRef.failureMode`. A
//! picker that cannot be reached, does not decide in time, breaks off, makes no sense or names no endpoint of the pool has
//! failed: the router chooses in its place where the pool is to fail open, and answers 503 where it is not. A picker that
//! answers the request itself has not failed. Once an endpoint has answered, the client gets that answer, whatever the
//! picker does.

use std::net::SocketAddr;
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::body::BodySize;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::web::Bytes;
use kthena_router::routing::pool::{ExternalPicker, PickerPolicy};
use tokio::time::timeout_at;
use tracing::debug;

use super::super::error::ProxyError;
use super::super::forward::Engine;
use super::super::worker::Worker;
use super::Target;
use super::outbound::Outbound;
use super::own::Context;
use crate::metrics::{PickerLabels, PoolLabel};
use crate::picker::{self, Consultation, Decision, Fault, HeaderValue, ImmediateResponse, Question, Served, Verdict};
use crate::upstream::Body;

/// What comes of asking for an endpoint.
pub(super) enum Picking {
    /// The request goes on.
    Picked(Picked),
    /// The picker has answered it.
    Answered(HttpResponse),
}

/// Where a request goes on.
#[derive(Default)]
pub(super) struct Picked {
    by_picker: Option<(Vec<SocketAddr>, Consultation)>,
}

/// What a picker has made of a request.
enum Outcome {
    Picked(Vec<SocketAddr>, Consultation),
    Answered(HttpResponse),
}

/// Asks the picker of the target's pool where the request goes, and changes the request as the picker says.
pub(super) async fn pick(
    worker: &Worker,
    target: &Target,
    outbound: &mut Outbound<'_>,
    context: &Context<'_>,
    deadline: Option<Instant>,
) -> Result<Picking, ProxyError> {
    let picker = match &target.policy.picker {
        PickerPolicy::BuiltIn => return Ok(Picking::Picked(Picked::default())),
        PickerPolicy::Unavailable(reason) => {
            return Err(ProxyError::NoPicker { pool: target.pool.key.clone(), reason: reason.clone() });
        }
        PickerPolicy::External(picker) => picker,
    };
    let asked = Instant::now();
    let consulting = consult(worker, target, picker, outbound, context);
    let outcome = match deadline {
        None => consulting.await,
        Some(deadline) => timeout_at(deadline.into(), consulting).await.map_err(|_| ProxyError::RequestTimeout)?,
    };
    let label = match &outcome {
        Ok(Outcome::Picked(..)) => "picked",
        Ok(Outcome::Answered(_)) => "answered",
        Err(fault) => fault.label(),
    };
    note(worker, target, label, asked);
    match outcome {
        Ok(Outcome::Picked(endpoints, consultation)) => {
            Ok(Picking::Picked(Picked { by_picker: Some((endpoints, consultation)) }))
        }
        Ok(Outcome::Answered(response)) => Ok(Picking::Answered(response)),
        Err(fault) if picker.fail_open => {
            debug!(pool = %target.pool.key, %fault, "endpoint picker failed, the router picks");
            Ok(Picking::Picked(Picked::default()))
        }
        Err(fault) => {
            debug!(pool = %target.pool.key, %fault, "endpoint picker failed");
            Err(ProxyError::Picker { pool: target.pool.key.clone(), fault })
        }
    }
}

impl Picked {
    /// Returns the endpoints that may be asked, if a picker has named them.
    pub(super) fn endpoints(&self) -> Option<&[SocketAddr]> {
        self.by_picker.as_ref().map(|(endpoints, _)| &**endpoints)
    }

    /// Tells the picker which endpoint has answered, and changes the answer's headers as the picker says.
    pub(super) async fn report(self, worker: &Worker, target: &Target, engine: &mut Engine) {
        let Some((_, mut consultation)) = self.by_picker else { return };
        let head = &mut engine.answer.head;
        let mut headers = vec![HeaderValue::new(":status", head.status().as_str().as_bytes())];
        headers.extend(written(head.headers()));
        let ends = matches!(engine.answer.size, BodySize::None | BodySize::Sized(0));
        let served = Served { endpoint: engine.lease.endpoint().socket(), headers, ends };
        let outcome = match consultation.report(served).await {
            Ok(edits) => {
                if let Some(edits) = edits {
                    picker::apply(&edits, head.headers_mut());
                }
                "noted"
            }
            Err(fault) => {
                debug!(pool = %target.pool.key, %fault, "endpoint picker took no note of an answer");
                fault.label()
            }
        };
        let labels = PickerLabels { pool: target.pool.key.to_string(), outcome };
        worker.door.serving.metrics.pickers.reports.get_or_create(&labels).inc();
        engine.consultation = Some(consultation);
    }
}

async fn consult(
    worker: &Worker,
    target: &Target,
    picker: &ExternalPicker,
    outbound: &mut Outbound<'_>,
    context: &Context<'_>,
) -> Result<Outcome, Fault> {
    let headers = described(outbound, context);
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
        Verdict::Forward(decision) => {
            let endpoints = endpoints(target, &decision)?;
            follow(decision, outbound);
            Ok(Outcome::Picked(endpoints, consultation))
        }
    }
}

/// Returns the endpoints of the pool that the picker names, in its order.
fn endpoints(target: &Target, decision: &Decision) -> Result<Vec<SocketAddr>, Fault> {
    let named: Vec<SocketAddr> =
        decision.destination.split(',').filter_map(|endpoint| endpoint.trim().parse().ok()).collect();
    if named.is_empty() {
        return Err(Fault::Nonsense("what it names is no list of endpoints"));
    }
    let view = target.pool.view();
    let is_member = |named: &SocketAddr| view.members.iter().any(|member| member.endpoint.socket() == *named);
    let known: Vec<_> = named.into_iter().filter(is_member).collect();
    if known.is_empty() { Err(Fault::Outside(decision.destination.clone())) } else { Ok(known) }
}

/// Changes a request as a picker has decided.
fn follow(decision: Decision, outbound: &mut Outbound<'_>) {
    for edits in &decision.edits {
        let changed: Vec<HeaderName> = picker::names(edits).collect();
        let headers = outbound.headers.to_mut();
        // A header that takes the place of others would take that of the changed one as well.
        outbound.replaced.retain(|(name, value)| {
            let stays = !changed.contains(name);
            if !stays {
                headers.insert(name.clone(), value.clone());
            }
            stays
        });
        picker::apply(edits, headers);
    }
    if let Some(body) = decision.body {
        outbound.body = if body.is_empty() { Body::Empty } else { Body::Whole(body) };
    }
}

/// Returns the headers of a request as it would leave, and those that stand for its first line.
fn described(outbound: &Outbound<'_>, context: &Context<'_>) -> Vec<HeaderValue> {
    let host = if outbound.host.is_empty() { context.inquiry.authority } else { &outbound.host };
    let mut headers = vec![
        HeaderValue::new(":method", outbound.method.as_str().as_bytes()),
        HeaderValue::new(":scheme", context.identity.scheme.as_str().as_bytes()),
        HeaderValue::new(":authority", host.as_bytes()),
        HeaderValue::new(":path", outbound.target.as_bytes()),
    ];
    let is_replaced = |name: &str| outbound.replaced.iter().any(|(replaced, _)| replaced.as_str() == name);
    headers.extend(written(&outbound.headers).filter(|header| header.key != "host" && !is_replaced(&header.key)));
    headers.extend(outbound.replaced.iter().map(|(name, value)| HeaderValue::new(name.as_str(), value.as_bytes())));
    headers
}

fn written(headers: &HeaderMap) -> impl Iterator<Item = HeaderValue> {
    headers.iter().map(|(name, value)| HeaderValue::new(name.as_str(), value.as_bytes()))
}

/// Makes the picker's own answer.
fn response(answer: ImmediateResponse) -> Result<HttpResponse, Fault> {
    let code =
        answer.status.and_then(|status| u16::try_from(status.code).ok()).filter(|code| (200..600).contains(code));
    let status = code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::Nonsense("it answers with what is no status"))?;
    let mut response = HttpResponse::build(status);
    if !answer.body.is_empty() {
        response.insert_header((header::CONTENT_TYPE, "text/plain"));
    }
    let mut response = response.body(answer.body);
    if let Some(edits) = &answer.headers {
        picker::apply(edits, response.headers_mut());
    }
    Ok(response)
}

fn note(worker: &Worker, target: &Target, outcome: &'static str, asked: Instant) {
    let metrics = &worker.door.serving.metrics.pickers;
    let pool = target.pool.key.to_string();
    metrics.seconds.get_or_create(&PoolLabel { pool: pool.clone() }).observe(asked.elapsed().as_secs_f64());
    metrics.requests.get_or_create(&PickerLabels { pool, outcome }).inc();
}
