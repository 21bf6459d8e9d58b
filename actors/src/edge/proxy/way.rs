//! The way that a request goes: by which route, to which backend, and in what time.

use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use kthena_router::inference::api::Call as Asks;
use kthena_router::pool::retry::{Attempts, Repeatable};
use kthena_router::pool::time_limits::{Limit, TimeLimits};
use kthena_router::routing::decision::{Decision, Matched, Target, Unreachable};

use super::call::Call;
use super::worker::Worker;
use crate::edge::answers::Pace;
use crate::edge::backends::{Backend, Outbound};
use crate::edge::errors::{NoEndpoint, ProxyError};
use crate::edge::heads::response_filters;

/// Where a request goes, and by which route.
pub(super) struct Way<'w> {
    /// The route, and what it does with the request.
    pub decision: Decision<'w>,
    /// What it does for this backend.
    pub target: Target<'w>,
    /// The backend.
    pub backend: Backend,
}

/// When something must have happened, and the limit that says so.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    /// When.
    pub at: Instant,
    /// The limit that is reached then.
    pub limit: Limit,
}

impl<'w> Way<'w> {
    /// Notes which route a request falls under, and finds the backend that it goes to, if any of its filters has not
    /// answered it.
    pub(super) fn find(call: &mut Call<'w>, decision: Decision<'w>) -> Result<Self, ProxyError> {
        call.attribute_to(&decision, decision.target.ok().map(|target| target.destination.pool));
        let target = decision.target.map_err(|unreachable| nowhere(&decision.route, unreachable))?;
        let unusable = Unreachable::Invalid("the TLS settings of its backend cannot be used");
        let backend = call.backend(target.destination).ok_or_else(|| nowhere(&decision.route, unusable))?;
        Ok(Self { decision, target, backend })
    }

    /// Begins the attempts to have a request answered. A call of an inference API that only computes an answer may be
    /// run twice without anybody having written so.
    pub(super) fn attempts(&self, call: &Call<'_>) -> Attempts<'_> {
        let policy = self.decision.steps.retry.unwrap_or(&self.backend.policy.retry);
        let is_unread = matches!(&call.understood, Some(Ok(understood)) if understood.is_unread());
        let repeatable = match call.asks {
            // What passes unread is not kept, and cannot be sent again.
            _ if is_unread => Repeatable::No,
            Asks::Inference(api) if self.backend.is_inference() && api.traits().repeatable => Repeatable::Inference,
            _ => Repeatable::of_method(call.head.method.as_str()),
        };
        policy.begin(repeatable, self.decision.steps.adapter)
    }

    /// Returns whether the whole body is wanted before the request is sent, by others than its endpoint.
    pub(super) fn keeps_body(&self, call: &Call<'_>) -> bool {
        self.attempts(call).keep_body() || !self.backend.is_picked_here()
    }

    /// Returns when an answer of the request must have begun.
    pub(super) fn deadline(&self, call: &Call<'_>) -> Option<Deadline> {
        let deadline = |(time, limit)| Some(Deadline { at: call.exchange.started.checked_add(time)?, limit });
        let (request, total) = (self.decision.steps.timeouts.request, self.limits(call.worker).total);
        let limits = [request.map(|time| (time, Limit::Request)), total.map(|time| (time, Limit::Total))];
        limits.into_iter().flatten().min_by_key(|(time, _)| *time).and_then(deadline)
    }

    /// Returns the request as it leaves by this way, without its body.
    pub(super) fn outbound(&self, call: &mut Call<'_>) -> Outbound {
        let (client, request_id) = (call.connection.client(), call.exchange.request_id.clone());
        Outbound::new(call.head, (&self.decision, &self.target), client, request_id)
    }

    /// Changes the headers of an answer as the filters of the route say; `origin` is the client's.
    pub(super) fn filter(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        response_filters::apply(headers, (self.decision.steps.filters, self.target.filters), origin);
    }

    /// Returns the time that an answer has.
    pub(super) fn pace(&self, call: &Call<'_>) -> Pace {
        Pace::new(&self.limits(call.worker), call.exchange.started)
    }

    /// Returns how long the other parts of the request may take.
    pub(super) fn limits(&self, worker: &Worker) -> TimeLimits {
        self.backend.policy.limits.or(worker.door.serving.config.engines.limits())
    }
}

/// Returns the error for a request whose route leads nowhere.
fn nowhere(route: &Matched<'_>, unreachable: Unreachable) -> ProxyError {
    let unresolved = match route {
        Matched::Model(entry) => entry.unresolved.clone(),
        Matched::Http(_) => Vec::new(),
    };
    let route = route.key().clone();
    match unreachable {
        Unreachable::Invalid(reason) => ProxyError::Invalid { route, reason },
        Unreachable::NoEndpoints => NoEndpoint::Route { route, unresolved }.into(),
    }
}
