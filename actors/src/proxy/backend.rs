//! A backend, ready to be asked.

use std::sync::Arc;

use kthena_router::object::Kind;
use kthena_router::routing::http::entry::Destination;
use kthena_router::routing::pool::{BackendProtocol, PickerPolicy, PoolPolicy};
use kthena_router_upstream::Transport;

use super::worker::Worker;
use crate::published::{Pool, Snapshot};

/// The pool that a request goes to, and how it is spoken to.
pub(super) struct Backend {
    /// The pool.
    pub pool: Arc<Pool>,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// How its endpoints are spoken to.
    pub transport: Transport,
}

impl Backend {
    /// Finds a destination; `None` if its TLS settings cannot be used, so that nothing may be sent.
    pub(super) fn find(worker: &Worker, snapshot: &Snapshot, destination: Destination) -> Option<Self> {
        let pool = Arc::clone(snapshot.pools.get(destination.pool.0)?);
        let policy = Arc::clone(&snapshot.table.pools.get(destination.pool.0)?.policy);
        let transport = match (destination.tls, policy.protocol) {
            (Some(tls), _) => Transport::Tls(snapshot.backend_tls.get(tls.0)?.clone()?),
            (None, BackendProtocol::H2c) => Transport::H2c,
            (None, BackendProtocol::Http1) => worker.door.serving.upstream.engines(policy.https),
        };
        Some(Self { pool, policy, transport })
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
