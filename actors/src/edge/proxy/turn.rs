//! Waits until the pool of a request has room for it; the endpoint is picked after that, by what is known then.
//!
//! Calls of the inference API wait for pools whose endpoints the router itself picks: an endpoint picker has a queue
//! of its own, and what is no inference costs engines little. A request waits once: its further attempts go out at
//! once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kthena_router::flow::identity::FlowId;
use kthena_router::flow::queue::{Asked, Rank};
use kthena_router::inference::api::Call as Asks;
use kthena_router::pool::time_limits::Limit;
use kthena_router::scheduling::drain;
use kthena_router::scheduling::request::RequestFacts;

use super::call::Call;
use super::way::Way;
use crate::edge::backends::Outbound;
use crate::edge::errors::{AttemptFailure, ProxyError};
use crate::ops::metrics::{GoQueue, GoQueued, QueueBand};
use crate::pools::published::Pool;
use crate::pools::turnstile::{Dropped, Entrance, Request};

/// Bytes of a body that are taken for a token where its prompt was not read.
pub(super) const BYTES_OF_TOKEN: u64 = 4;

/// Waits for the request's turn, if it has to.
///
/// # Errors
///
/// Returns an error if it must not wait, or has waited for too long.
pub(super) async fn wait(call: &mut Call<'_>, way: &Way<'_>, outbound: &mut Outbound) -> Result<(), ProxyError> {
    let backend = &way.backend;
    if !(matches!(call.asks, Asks::Inference(_)) && backend.is_inference() && backend.is_picked_here()) {
        return Ok(());
    }
    if backend.pool.turnstile.settings().most_sessions > 0 {
        call.exchange.session = session(call, way, outbound);
    }
    match backend.pool.enter() {
        Entrance::Open => Ok(()),
        Entrance::Turn(turn) => {
            call.exchange.turn = Some(Box::new((turn, None)));
            Ok(())
        }
        // Most requests find room, and do not carry what waiting takes.
        Entrance::Full => Box::pin(line_up(call, way, outbound)).await,
    }
}

/// Returns the session whose next request goes first if this one has an answer.
fn session(call: &Call<'_>, way: &Way<'_>, outbound: &Outbound) -> Option<(Arc<Pool>, FlowId)> {
    let header = &call.worker.door.serving.config.flow.go.session_boost_header;
    let name = outbound.headers.get(header.as_str()).filter(|name| !name.is_empty())?;
    Some((Arc::clone(&way.backend.pool), FlowId::of_session(name.as_bytes())))
}

async fn line_up(call: &mut Call<'_>, way: &Way<'_>, outbound: &mut Outbound) -> Result<(), ProxyError> {
    let pool = &way.backend.pool;
    let (priority, waiting) = {
        let request = request(call, way, outbound);
        (request.asked.rank.priority, pool.wait_for_turn(request))
    };
    call.detach(outbound);
    call.exchange.begin_waiting();
    let metrics = &call.worker.door.serving.metrics.queue;
    let go = &call.worker.door.serving.config.flow.go;
    let go = match (go.enable_fairness_scheduling, go.enable_session_boost) {
        (true, _) => Some(GoQueue::Fairness),
        (_, true) => Some(GoQueue::SessionBoost),
        _ => None,
    };
    let go = go.map(|queue| metrics.enter_go(queue, call.exchange.model_label()));
    let mut shown = metrics.enter(&pool.key, QueueBand::of(priority));
    let turn = waiting.await;
    call.exchange.end_waiting();
    let waited = call.exchange.waited.map(|waited| (waited, priority));
    if let Some(decision) = call.exchange.decision() {
        decision.waited = waited;
    }
    match turn {
        Ok(turn) => {
            shown.ends("dispatched");
            call.exchange.turn = Some(Box::new((turn, go.map(GoQueued::pass))));
            Ok(())
        }
        Err(dropped) => {
            shown.ends(dropped.reason());
            let limit = way.deadline(call).map_or(Limit::Request, |deadline| deadline.limit);
            Err(refused(dropped, way, limit))
        }
    }
}

/// Returns what the queue is told of a request.
fn request(call: &Call<'_>, way: &Way<'_>, outbound: &Outbound) -> Request {
    let bytes = outbound.whole().map_or(0, Bytes::len);
    let facts = call.request_facts.as_deref();
    let (read, priority) = facts.map_or((0, 0), |facts| (facts.tokens, facts.priority));
    let prompt_tokens = if read > 0 { read.into() } else { bytes as u64 / BYTES_OF_TOKEN };
    let unread = RequestFacts { tokens: u32::try_from(prompt_tokens).unwrap_or(u32::MAX), ..RequestFacts::default() };
    let prompt = facts.filter(|facts| facts.tokens > 0).unwrap_or(&unread);
    let work = way.backend.pool.view().work_of(&prompt.attempt(&[]));
    let flow = FlowId::of(|name| outbound.headers.get(name).map(http::HeaderValue::as_bytes));
    let boosted = call.exchange.session.as_ref().is_some_and(|(pool, session)| pool.turnstile.knows(*session));
    let rank = Rank { priority, boosted };
    Request {
        asked: Asked { rank, flow, cost: 0, bytes, arrived: Duration::ZERO, work },
        prompt_tokens,
        deadline: way.deadline(call).map(|deadline| deadline.at),
    }
}

/// Returns the error for a request that got no turn.
fn refused(dropped: Dropped, way: &Way<'_>, limit: Limit) -> ProxyError {
    if dropped == Dropped::PastDeadline {
        return ProxyError::Failed { attempts: 0, failure: AttemptFailure::Late(limit) };
    }
    let pool = &way.backend.pool;
    ProxyError::Dropped { pool: pool.key.clone(), dropped, retry_after: retry_after(pool) }
}

/// Returns after how many seconds a pool may have room.
pub(super) fn retry_after(pool: &Pool) -> u32 {
    let view = pool.view();
    drain::retry_after(view.members.iter().map(|member| &member.observation), pool.turnstile.waiting())
}
