//! Copies of requests to further backends, whose answers nobody gets.
//!
//! Source: Gateway API, `HTTPRequestMirrorFilter`: whatever becomes of a copy, the request is not concerned. A copy for
//! which there is no room is not sent.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kthena_router_upstream::{Ask, Body, Peer};
use tokio::time::timeout;
use tracing::debug;

use super::backend::Backend;
use super::mirror_budget::{MirrorBudget, Place};
use super::outbound::Outbound;
use super::worker::Worker;
use crate::scheduler::PickEndpoint;

/// How long a copy and its answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A copy that is about to be sent.
pub(super) struct Copy {
    backend: Backend,
    outbound: Outbound,
    _place: Place,
}

impl Copy {
    /// Makes a copy of a request whose body is there, if there is room for it.
    pub(super) fn of(outbound: &Outbound, budget: &MirrorBudget, backend: Backend) -> Option<Self> {
        let (body, length) = match &outbound.body {
            Body::Whole(bytes) => (Body::Whole(bytes.clone()), bytes.len()),
            Body::Empty => (Body::Empty, 0),
            Body::Stream(_) | Body::Gone => return None,
        };
        let Some(place) = budget.take(length) else {
            debug!(pool = %backend.pool.key, "request not mirrored: too many copies are under way");
            return None;
        };
        Some(Self { backend, outbound: outbound.copy(body), _place: place })
    }

    /// Sends the copy and reads its answer, so that the connection serves again.
    pub(super) async fn send(self, worker: Rc<Worker>) {
        let Self { backend, mut outbound, _place } = self;
        let pool = &backend.pool;
        let ask = || PickEndpoint { pool: Arc::clone(pool), facts: None, tried: Vec::new() };
        let Ok(Ok(lease)) = worker.pick(ask).await else { return };
        let peer = Peer { address: lease.endpoint().socket(), transport: backend.transport.clone() };
        let body = std::mem::replace(&mut outbound.body, Body::Gone);
        let mut ask = Ask {
            method: &outbound.method,
            target: outbound.target(),
            host: if outbound.host().is_empty() { lease.authority().as_str() } else { outbound.host() },
            headers: &outbound.headers,
            replaced: &[],
            upgrade: None,
            body,
            timeout: None,
        };
        let exchange = async {
            match worker.client.send(&peer, &mut ask).await {
                Ok(mut answer) => while let Some(Ok(_)) = answer.body.next().await {},
                Err(error) => debug!(pool = %pool.key, %error, "copy of a request failed"),
            }
        };
        if timeout(LIMIT, exchange).await.is_err() {
            debug!(pool = %pool.key, "copy of a request given up");
        }
    }
}
