//! Copies of requests to further backends, whose answers nobody gets.
//!
//! Source: Gateway API, `HTTPRequestMirrorFilter`: whatever becomes of a copy, the request is not concerned. A copy for
//! which there is no room is not sent: a backend that does not answer would otherwise fill the memory with them.

use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use kthena_router_upstream::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::debug;

use super::call::Call;
use super::way::Way;
use super::worker::Worker;
use crate::edge::backends::{Backend, Outbound};
use crate::pools::scheduler::Among;

/// How long a copy and its answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Draws the backends that get copies of a request.
pub(super) fn draw(call: &Call<'_>, way: &Way<'_>) -> Vec<Backend> {
    let worker = call.worker;
    let drawn = way.decision.mirrors(&way.target).filter(|(share, _)| share.is_drawn(|bound| worker.draw(bound)));
    drawn.filter_map(|(_, destination)| call.backend(*destination)).collect()
}

/// Sends copies of a request whose body is there; nothing is waited for.
pub(super) fn send(call: &Call<'_>, backends: Vec<Backend>, outbound: &Outbound) {
    for backend in backends {
        let (body, length) = match &outbound.body {
            Body::Whole(bytes) => (Body::Whole(bytes.clone()), bytes.len()),
            Body::Empty => (Body::Empty, 0),
            Body::Stream(_) | Body::Gone => return,
        };
        match call.worker.mirrors.take(length) {
            Some(room) => {
                spawn_local(pass(Rc::clone(call.worker), backend, outbound.copy(body), room));
            }
            None => debug!(pool = %backend.pool.key, "request not mirrored: too many copies are under way"),
        }
    }
}

/// Sends one copy and reads its answer, so that the connection serves again.
async fn pass(worker: Rc<Worker>, backend: Backend, mut copy: Outbound, _room: OwnedSemaphorePermit) {
    let pool = &backend.pool;
    let Ok(Ok(legs)) = worker.pick((pool, &backend.picker), None, (Among::Untried(Vec::new()), false), &mut None).await
    else {
        return;
    };
    let (lease, mut body) = (legs.into_answering(), std::mem::replace(&mut copy.body, Body::Gone));
    let exchange = async {
        match copy.send(worker.to(&backend), &lease, None, (&mut body, &[])).await {
            Ok(mut answer) => while let Some(Ok(_)) = answer.body.next().await {},
            Err(error) => debug!(pool = %pool.key, %error, "copy of a request failed"),
        }
    };
    if timeout(LIMIT, exchange).await.is_err() {
        debug!(pool = %pool.key, "copy of a request given up");
    }
}
