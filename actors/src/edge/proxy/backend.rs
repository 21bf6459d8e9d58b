//! A backend, ready to be asked, and the way to it.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use foldhash::quality::FixedState;
use kthena_router::inference::api::Call as Asks;
use kthena_router::object::Kind;
use kthena_router::routing::connections::ConnectionLimits;
use kthena_router::routing::decision::{Decision, Destination, Target};
use kthena_router::routing::pool::{BackendProtocol, PickerPolicy, PoolPolicy};
use kthena_router::routing::retry::{Attempts, Repeatable};
use kthena_router::routing::time_limits::{Limit, TimeLimits};
use kthena_router::scheduling::picker::Picker;
use kthena_router_upstream::{Keeping, Together, Transport};

use super::call::Call;
use super::pace::Pace;
use super::worker::Worker;
use crate::pools::published::{Pool, Snapshot};

/// The pool that a request goes to, and how it is spoken to.
pub(super) struct Backend {
    /// The pool.
    pub pool: Arc<Pool>,
    /// How its endpoints are picked.
    pub picker: Arc<Picker>,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// How its endpoints are spoken to.
    pub transport: Transport,
}

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

impl Way<'_> {
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

    /// Returns the time that an answer has.
    pub(super) fn pace(&self, call: &Call<'_>) -> Pace {
        Pace::new(&self.limits(call.worker), call.exchange.started)
    }

    /// Returns how long the other parts of the request may take.
    pub(super) fn limits(&self, worker: &Worker) -> TimeLimits {
        self.backend.policy.limits.or(worker.door.serving.config.engines.limits())
    }
}

impl Backend {
    /// Finds a destination; `None` if its TLS settings cannot be used, so that nothing may be sent.
    pub(super) fn find(worker: &Worker, snapshot: &Snapshot, destination: Destination) -> Option<Self> {
        let pool = Arc::clone(snapshot.pools.get(destination.pool.0)?);
        let picker = Arc::clone(snapshot.pickers.get(destination.pool.0)?);
        let policy = Arc::clone(&snapshot.table.pools.get(destination.pool.0)?.policy);
        let transport = match (destination.tls, policy.protocol) {
            (Some(tls), _) => Transport::Tls(snapshot.backend_tls.get(tls.0)?.clone()?),
            (None, BackendProtocol::H2c) => Transport::H2c,
            (None, BackendProtocol::Http1) => worker.door.serving.upstream.engines(policy.https),
        };
        Some(Self { pool, picker, policy, transport })
    }

    /// Returns how many connections a worker thread has to one of its endpoints, where that is limited.
    pub(super) fn keeping(&self, worker: &Worker) -> Option<Keeping> {
        let ConnectionLimits { idle_timeout, idle, idle_per_host, per_host } = self.policy.connections?;
        let share = |most: u32| ConnectionLimits::share(most, worker.door.serving.workers);
        let key = || FixedState::default().hash_one(&self.pool.key);
        let together = idle.map(|most| Together { key: key(), most: share(most) });
        let (most_idle, most_active) = (idle_per_host.map(share), per_host.map(share));
        Some(Keeping { idle_timeout, most_idle, most_active, together })
    }

    /// Returns whether the endpoints are inference engines.
    pub(super) fn is_inference(&self) -> bool {
        self.pool.key.kind != Kind::Service
    }

    /// Returns whether the router itself chooses the endpoint.
    pub(super) fn is_picked_here(&self) -> bool {
        self.policy.picker == PickerPolicy::BuiltIn
    }
}
