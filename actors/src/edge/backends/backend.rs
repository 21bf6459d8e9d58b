//! A backend, ready to be asked.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use kthena_router::object::Kind;
use kthena_router::pool::connections::ConnectionLimits;
use kthena_router::pool::policy::{BackendProtocol, PickerPolicy, PoolPolicy};
use kthena_router::routing::decision::Destination;
use kthena_router::scheduling::picker::Picker;
use kthena_router_upstream::{Client, Keeping, Together, Transport, Upstream};

use crate::pools::published::{Pool, Snapshot};

/// The pool that a request goes to, and how it is spoken to.
pub(in crate::edge) struct Backend {
    /// The pool.
    pub pool: Arc<Pool>,
    /// How its endpoints are picked.
    pub picker: Arc<Picker>,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// How its endpoints are spoken to.
    pub transport: Transport,
}

/// Whom a request is sent to, and what its thread sends it with.
#[derive(Clone, Copy)]
pub(in crate::edge) struct To<'t> {
    /// The thread's connections.
    pub client: &'t Client,
    /// The backend.
    pub backend: &'t Backend,
    /// How many threads have connections to it.
    pub threads: usize,
}

impl Backend {
    /// Finds a destination; `None` if its TLS settings cannot be used, so that nothing may be sent.
    pub(in crate::edge) fn find(upstream: &Upstream, snapshot: &Snapshot, destination: Destination) -> Option<Self> {
        let pool = Arc::clone(snapshot.pools.get(destination.pool.0)?);
        let picker = Arc::clone(snapshot.pickers.get(destination.pool.0)?);
        let policy = Arc::clone(&snapshot.table.pools.get(destination.pool.0)?.policy);
        let transport = match (destination.tls, policy.protocol) {
            (Some(tls), _) => Transport::Tls(snapshot.backend_tls.get(tls.0)?.clone()?),
            (None, BackendProtocol::H2c) => Transport::H2c,
            (None, BackendProtocol::Http1) => upstream.engines(policy.https),
        };
        Some(Self { pool, picker, policy, transport })
    }

    /// Returns how many connections each of so many threads has to one of its endpoints, where that is limited.
    pub(super) fn keeping(&self, threads: usize) -> Option<Keeping> {
        let ConnectionLimits { idle_timeout, idle, idle_per_host, per_host } = self.policy.connections?;
        let share = |most: u32| ConnectionLimits::share(most, threads);
        let key = || FixedState::default().hash_one(&self.pool.key);
        let together = idle.map(|most| Together { key: key(), most: share(most) });
        let (most_idle, most_active) = (idle_per_host.map(share), per_host.map(share));
        Some(Keeping { idle_timeout, most_idle, most_active, together })
    }

    /// Returns whether the endpoints are inference engines.
    pub(in crate::edge) fn is_inference(&self) -> bool {
        self.pool.key.kind != Kind::Service
    }

    /// Returns whether the router itself chooses the endpoint.
    pub(in crate::edge) fn is_picked_here(&self) -> bool {
        self.policy.picker == PickerPolicy::BuiltIn
    }
}
