//! A model that is named in a header ahead of its body, so that a large body passes unread where nothing else of it is needed.
//!
//! The header is a hint and no more. The body has to name the same model, or the request is refused: by the time its last
//! byte would be passed on at the latest, so that no engine sees it whole (`kthena_router::inference::model_watch`). And the
//! body is read all the same where anything depends on it: an HTTPRoute that might stand in for another ModelRoute, limits on
//! tokens, another name that the engines know the model by, two engines that share the work, a written retry.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use kthena_router::inference::api::{Api, Body as Takes, Call as Asks};
use kthena_router::inference::understood::{Shape, Understood, shape};
use kthena_router::pool::policy::PickerPolicy;
use kthena_router::pool::retry::Repeatable;
use kthena_router::pool::told::model_for;
use kthena_router::rate_limit::Quantity;
use kthena_router::routing::decision::{Decision, Matched};

use super::call::Call;
use super::understand::{MODEL, understand_own};
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;
use crate::edge::heads::text;

/// Understands a request whose model decides where it goes; while its body is read it takes a place of the port.
pub(super) async fn understand_to_decide(call: &mut Call<'_>, body: &mut Inbound) -> Result<(), ProxyError> {
    if !call.is_decided_by_model() {
        return Ok(());
    }
    call.admit()?;
    if take(call, body)? { Ok(()) } else { understand_own(call, body).await }
}

/// Takes the header's word for the model of a call, where its body is large and could pass unread; returns whether it did.
fn take(call: &mut Call<'_>, body: &Inbound) -> Result<bool, ProxyError> {
    let headers = &call.head.headers;
    let Some(model) = text(headers, MODEL) else { return Ok(false) };
    let Asks::Inference(api) = call.asks else { return Ok(false) };
    // What goes on from a stored response names it in its body.
    let is_plain = api.traits().body == Takes::Json && api != Api::Responses && !headers.contains_key(CONTENT_ENCODING);
    if !is_plain || !body.is_large() || !matches!(shape(api, text(headers, CONTENT_TYPE)), Ok(Shape::Json)) {
        return Ok(false);
    }
    let understood = Understood::of_header(api, model)?;
    call.exchange.api = Some(api);
    call.exchange.model = Some(understood.model.clone());
    call.understood = Some(Ok(understood));
    Ok(true)
}

/// Has a body that was not read checked while it passes; one of which more is needed than the model is read.
pub(super) async fn settle(call: &mut Call<'_>, decision: &Decision<'_>, body: &mut Inbound) -> Result<(), ProxyError> {
    let Some(Ok(understood)) = &call.understood else { return Ok(()) };
    if !understood.is_unread() {
        return Ok(());
    }
    if may_stay_unread(call, decision, &understood.model) {
        body.watch(understood.model.clone());
        return Ok(());
    }
    // Few bodies are read as late as this, and the others do not carry the room for it.
    call.understood = None;
    Box::pin(understand_own(call, body)).await?;
    call.understood = call.understood.take().transpose()?.map(Ok);
    Ok(())
}

/// Returns whether nothing of a body is needed but the model that it names.
fn may_stay_unread(call: &Call<'_>, decision: &Decision<'_>, model: &str) -> bool {
    let Matched::Model(route) = decision.route else { return false };
    let counts_tokens = [Quantity::Input, Quantity::Output]
        .iter()
        .any(|quantity| route.limits().is_some_and(|limits| limits.rate(*quantity).is_some()));
    let pool = decision.target.ok().and_then(|target| call.snapshot.table.pools.get(target.destination.pool.0));
    let Some(policy) = pool.map(|pool| &pool.policy) else { return false };
    let has_rewrites = policy.requests.as_ref().is_some_and(|requests| !requests.rewrites.is_empty());
    !counts_tokens
        && !has_rewrites
        && model_for(policy, decision.steps.adapter, model, |_| 0).is_none()
        && policy.picker == PickerPolicy::BuiltIn
        && policy.disaggregation.is_none()
        && !policy.retry.begin(Repeatable::No, false).keep_body()
}
