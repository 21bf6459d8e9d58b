//! The stages of one request, in order; each is a file or a line of one. Nothing but this and `find_way` knows the order.

use std::rc::Rc;
use std::time::Instant;

use http::Response;
use http::request::Parts;
use kthena_router_downstream::Connection;

use super::call::Call;
use super::deliver::deliver;
use super::find_way::find_way;
use super::pick::pick;
use super::worker::Worker;
use super::{inference, mirrors, turn};
use crate::edge::answers::{Early, Reply, ReplyBody};
use crate::edge::bodies::Inbound;

/// Handles one request. When the client leaves, this future or the answer that it returned is dropped, and with it
/// everything that is under way for the request: the connection to the engine, the lease, the admission.
#[expect(clippy::manual_async_fn, reason = "an `async fn` has room for the request twice")]
pub(super) fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    mut head: Parts,
    mut body: Inbound,
) -> impl Future<Output = Response<ReplyBody>> {
    async move {
        let snapshot = worker.door.serving.reader.load();
        let mut call = Call::begin(&worker, &snapshot, connection, &mut head);
        let reply = answer(&mut call, &mut body).await;
        call.complete(reply)
    }
}

/// Takes a request from stage to stage, until it is answered.
async fn answer(call: &mut Call<'_>, body: &mut Inbound) -> Result<Reply, Early> {
    let way = find_way(call, body).await?;
    let mut outbound = way.outbound(call);
    inference::admit(call, &way, &mut outbound, body).await?;
    let mirrors = mirrors::draw(call, &way);
    body.settle(!mirrors.is_empty() || way.keeps_body(call)).await?;
    let upgrade = outbound.take(body)?;
    call.exchange.marks.body_read.get_or_insert_with(Instant::now);
    mirrors::send(call, mirrors, &outbound);
    let passing = inference::shape(call, &way, &mut outbound)?;
    turn::wait(call, &way, &mut outbound).await?;
    call.look_up(&way.backend, &outbound).await;
    let picked = pick(call, &way, &mut outbound).await?;
    // Half of all that a request takes: who waits for its turn does not carry it, and it is made where it stays.
    let mut answer = Box::into_pin(Box::write(Box::new_uninit(), deliver(call, &way, &mut outbound, &picked))).await?;
    picked.report(call, &way, &mut answer).await;
    way.filter(&mut answer.upstream.head.headers, outbound.origin.as_ref());
    Ok(Reply { answer, passing, pace: way.pace(call), upgrade })
}

#[cfg(test)]
mod tests;
