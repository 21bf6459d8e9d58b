//! What is made of inference calls whose backend is known.
//!
//! Source: InferenceObjective, InferenceModelRewrite, and the ModelServer API. Where the router picks, it knows how
//! full the pool is, refuses requests that can be refused, and gives requests the model that the engines know. What an
//! engine consumed is read from its answer. A pool with an endpoint picker leaves all but the reading to the picker.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use kthena_router::inference::api::{self, Api, Call as Asks};
use kthena_router::inference::management::is_management;
use kthena_router::inference::model_names::ModelNames;
use kthena_router::inference::tap::Reading;
use kthena_router::inference::understood::{NotUnderstood, Understood};
use kthena_router::pool::policy::PoolPolicy;
use kthena_router::pool::told::{Told, model_for, priority};
use kthena_router::scheduling::objective::{is_refused, saturation};
use kthena_router::scheduling::request::Split;
use kthena_router_upstream::{Body, BodyStream};

use super::call::Call;
use super::holder;
use super::turn::{BYTES_OF_TOKEN, retry_after};
use super::understand::understand;
use super::way::Way;
use crate::edge::answers::{Naming, Passing};
use crate::edge::backends::Outbound;
use crate::edge::bodies::{Inbound, replace};
use crate::edge::errors::ProxyError;
use crate::edge::heads::{Received, text};
use crate::edge::lookups::tokens;

/// Finds out what a request to an inference pool asks for, and refuses what is not a client's to ask, and what the pool
/// has no room for.
pub(super) async fn admit(
    call: &mut Call<'_>,
    way: &Way<'_>,
    outbound: &mut Outbound,
    body: &mut Inbound,
) -> Result<(), ProxyError> {
    let Way { decision, backend, .. } = way;
    if !backend.is_inference() {
        call.exchange.api = None;
        return Ok(());
    }
    let is_inference = matches!(call.asks, Asks::Inference(_)) && outbound.path() == call.head.uri.path();
    if !is_inference && is_management(outbound.path()) && !decision.names_path(call.head.uri.path()) {
        return Err(call.not_served(true));
    }
    let Asks::Inference(api) = call.asks else { return Ok(()) };
    call.exchange.api = Some(api);
    shed(way, &outbound.headers)?;
    // A picker reads bodies as well, and decodes none.
    let is_read = backend.is_picked_here() || outbound.headers.contains_key(CONTENT_ENCODING);
    if call.understood.is_none() && is_read && (api.traits().body != api::Body::Json || is_json(&outbound.headers)) {
        understand(call, &mut outbound.headers, body).await?;
    }
    holder::find_in(call, way, &outbound.headers, body).await
}

/// Changes a request as the engines of its pool want it, and returns how their answer is passed on.
///
/// # Errors
///
/// Returns an error if the pool has rules for models and the request names none.
pub(super) fn shape(call: &mut Call<'_>, way: &Way<'_>, outbound: &mut Outbound) -> Result<Passing, ProxyError> {
    let Way { decision, backend, .. } = way;
    if !(backend.is_inference() && matches!(call.asks, Asks::Inference(_))) {
        return Ok(Passing::default());
    }
    let policy = &backend.policy;
    let rewrites = policy.requests.as_ref().map(|requests| &requests.rewrites).filter(|rewrites| !rewrites.is_empty());
    let unread = Passing { reading: Reading::Stream, ..Passing::default() };
    if !backend.is_picked_here() {
        return Ok(unread);
    }
    let understood = match call.understood.take() {
        Some(Ok(understood)) => understood,
        Some(Err(fault)) if rewrites.is_some() && outbound.whole().is_some() => return Err(fault.into()),
        // What the router does not understand may still be for the engine.
        Some(Err(_)) | None => return Ok(unread),
    };
    let adapter = decision.steps.adapter;
    let api = understood.api;
    let model = model_for(policy, adapter, &understood.model, |bound| call.worker.draw(bound));
    let reading = understood.reading();
    // What looks like a name in the bytes of a medium is none.
    let names = model.filter(|_| understood.api.traits().answer == api::Answer::Json);
    let names = names.map(|model| ModelNames::new(model, &understood.model));
    if names.is_some() || reading == Reading::StreamWithAddedUsage {
        // What is changed in an answer must be readable.
        outbound.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let has_choice = backend.pool.view().members.len() > 1;
    let priority = priority(policy, decision.route.priority(), |name| text(&outbound.headers, name));
    let told = Told { asked: &understood.model, model, adapter, priority };
    let prompt = outbound.whole().map(|body| understood.prompt(body)).unwrap_or_default();
    let mut facts = told.facts(&prompt, has_choice);
    facts.session = policy.sessions.find(&Received(&outbound.headers), call.head.uri.query().unwrap_or_default());
    facts.streams = call.exchange.stream;
    facts.likeness = tokens::likeness(&backend.pool, &facts.prefix);
    if let Body::Whole(body) = &mut outbound.body {
        *body = understood.shape(std::mem::take(body), model);
    }
    if let (true, Body::Stream(BodyStream { length: Some(length), .. })) = (understood.is_unread(), &outbound.body) {
        facts.tokens = u32::try_from(length / BYTES_OF_TOKEN).unwrap_or(u32::MAX);
    }
    facts.split = split(policy, understood.api, outbound)?;
    let facts = Arc::new(facts);
    if let Some(body) = outbound.whole() {
        tokens::learn(&backend.pool, understood.api, body, &facts);
    } else if let Some(model) = model {
        rename(outbound, &understood, model);
    }
    call.request_facts = Some(facts);
    call.understood = Some(Ok(understood));
    let naming = (api == Api::Responses).then(|| Box::new(Naming::new(&call.worker.door.serving.holders)));
    Ok(Passing { reading, names, prompt: None, naming })
}

/// Gives the model the engine's name in a call whose body is not there whole.
fn rename(outbound: &mut Outbound, understood: &Understood, model: &str) {
    if let Some(place) = understood.place() {
        outbound.body = replace(std::mem::replace(&mut outbound.body, Body::Gone), place, model);
    } else if let Some((path, query)) = outbound.target().split_once('?')
        && let Some(query) = understood.query(query, model)
    {
        let target = format!("{path}?{query}");
        outbound.set_target(target);
    }
}

/// Finds out whether two endpoints may work on a request.
fn split(policy: &PoolPolicy, api: Api, outbound: &mut Outbound) -> Result<Split, ProxyError> {
    let (Some(disaggregation), Some(body)) = (policy.disaggregation, outbound.whole()) else {
        return Ok(Split::default());
    };
    let (split, request) = disaggregation.split(api, body.clone()).map_err(NotUnderstood::from)?;
    if let Some(request) = request {
        outbound.divide(request)?;
    }
    Ok(split)
}

/// Refuses a request that can be refused while the pool has too much to do.
fn shed(Way { decision, backend, .. }: &Way<'_>, headers: &HeaderMap) -> Result<(), ProxyError> {
    let priority = priority(&backend.policy, decision.route.priority(), |name| text(headers, name));
    if priority >= 0 {
        return Ok(());
    }
    let view = backend.pool.view();
    if !is_refused(priority, saturation(view.members.iter().map(|member| member.observation.metrics.as_ref()))) {
        return Ok(());
    }
    Err(ProxyError::Saturated { pool: backend.pool.key.clone(), retry_after: retry_after(&backend.pool) })
}

fn is_json(headers: &HeaderMap) -> bool {
    let names_json = |media: &HeaderValue| media.as_bytes().windows(4).any(|name| name.eq_ignore_ascii_case(b"json"));
    headers.get(CONTENT_TYPE).is_none_or(names_json)
}
