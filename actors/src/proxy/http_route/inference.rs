//! What is made of requests to InferencePools, beyond what is made of all requests.
//!
//! Source: InferenceObjective and InferenceModelRewrite. Where the router picks, it knows how full the pool is, refuses
//! requests that can be refused, and gives requests the models that the pool's rules say. What an engine consumed is read
//! from its answer as with ModelServers. A pool with an endpoint picker leaves all of this but the reading to the picker.

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use kthena_router::inference::api::{Api, Call};
use kthena_router::inference::model_names::ModelNames;
use kthena_router::inference::request::{Edit, parse};
use kthena_router::object::Kind;
use kthena_router::routing::pool::{PickerPolicy, RequestPolicy};
use kthena_router::scheduling::objective::{OBJECTIVE_HEADERS, is_refused, saturation};

use super::super::answer::Reading;
use super::super::error::ProxyError;
use super::super::exchange::Exchange;
use super::super::worker::Worker;
use super::Target;
use super::outbound::Outbound;
use super::own::Context;
use crate::upstream::Body;

/// An inference by an InferencePool.
#[derive(Clone, Copy)]
pub(super) struct Inference<'t> {
    api: Api,
    /// Whether the router reads the request.
    reads: bool,
    policy: Option<&'t RequestPolicy>,
}

/// How the answer to an inference is read.
pub(super) struct Understood {
    pub reading: Reading,
    /// Gives the answer the model's name back that the client knows.
    pub names: Option<ModelNames>,
}

impl<'t> Inference<'t> {
    /// Finds out whether a request, which leaves with these headers, is an inference by an InferencePool, and refuses it
    /// where that is called for.
    pub(super) fn of(
        target: &'t Target,
        context: &Context<'_>,
        headers: &HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<Option<Self>, ProxyError> {
        let request = context.inquiry.request;
        let Call::Inference(api) = Call::of(request.method().as_str(), request.path()) else { return Ok(None) };
        if target.pool.key.kind != Kind::InferencePool {
            return Ok(None);
        }
        exchange.api = Some(api);
        let policy = target.policy.requests.as_deref();
        if let Some(policy) = policy.filter(|policy| !policy.objectives.is_empty()) {
            refuse(policy, target, headers)?;
        }
        let reads = target.policy.picker == PickerPolicy::BuiltIn && is_json(headers);
        Ok(Some(Self { api, reads, policy }))
    }

    /// Returns whether the request must be there as a whole.
    pub(super) fn reads_body(self) -> bool {
        self.reads
    }

    /// Changes the request as the pool wants it.
    ///
    /// # Errors
    ///
    /// Returns an error if the pool has rules for models and the request names none.
    pub(super) fn shape(
        self,
        outbound: &mut Outbound<'_>,
        worker: &Worker,
        exchange: &mut Exchange,
    ) -> Result<Understood, ProxyError> {
        let unread = Understood { reading: Reading::Stream, names: None };
        let (true, Body::Whole(body)) = (self.reads, &outbound.body) else { return Ok(unread) };
        let rewrites = self.policy.map(|policy| &policy.rewrites).filter(|rewrites| !rewrites.is_empty());
        let parsed = match parse(body) {
            Ok(parsed) => parsed,
            Err(error) if rewrites.is_some() => return Err(error.into()),
            // What the router does not understand may still be for the engine.
            Err(_) => return Ok(unread),
        };
        exchange.model = parsed.model.clone().into_owned();
        let model = rewrites.and_then(|rewrites| rewrites.rewrite(&parsed.model, |bound| worker.draw(bound)));
        let include_usage = parsed.stream && self.api.has_stream_options() && parsed.lacks_usage();
        let reading = match (parsed.stream, include_usage) {
            (true, true) => Reading::StreamWithAddedUsage,
            (true, false) => Reading::Stream,
            (false, _) => Reading::Whole,
        };
        let renamed = model.filter(|model| *model != parsed.model);
        let names = renamed.map(|model| ModelNames::new(model, &parsed.model));
        if let Some(edited) = parsed.apply(body, &Edit { model: renamed, include_usage }) {
            outbound.body = Body::Whole(Bytes::from(edited));
        }
        Ok(Understood { reading, names })
    }
}

/// Refuses a request that can be while the pool has too much to do.
fn refuse(policy: &RequestPolicy, target: &Target, headers: &HeaderMap) -> Result<(), ProxyError> {
    let named = OBJECTIVE_HEADERS.iter().find_map(|name| headers.get(*name)).and_then(|value| value.to_str().ok());
    let priority = named.map_or(0, |name| policy.objectives.priority(name));
    let full = || {
        let view = target.pool.view();
        saturation(view.members.iter().map(|member| member.observation.metrics.as_ref()))
    };
    if priority < 0 && is_refused(priority, full()) {
        return Err(ProxyError::Saturated { pool: target.pool.key.clone() });
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return true };
    content_type.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("json"))
}
