//! The stages of one request, in order; each is a file or a line of one. This is the only place that knows the order.

use std::rc::Rc;

use http::Response;
use http::request::Parts;
use kthena_router::routing::decision::Verdict;
use kthena_router_downstream::Connection;

use super::backend::Way;
use super::body::Inbound;
use super::call::Call;
use super::deliver::deliver;
use super::outbound::Outbound;
use super::pick::pick;
use super::reply::{Early, Reply, ReplyBody};
use super::worker::Worker;
use super::{
    early_answer, hint, holders, inference, mirrors, models, rate_limit, response_filters, shared_cache, turn,
};

/// Handles one request.
///
/// When the client leaves, this future or the answer that it returned is dropped, and with it everything that is under
/// way for the request: the connection to the engine, the lease, the admission.
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
        Reply::complete(reply, call)
    }
}

/// Takes a request from stage to stage, until it is answered.
async fn answer(call: &mut Call<'_>, body: &mut Inbound) -> Result<Reply, Early> {
    let way = find_way(call, body).await?;
    let mut outbound = Outbound::new(call, &way);
    inference::admit(call, &way, &mut outbound, body).await?;
    let mirrors = mirrors::draw(call, &way);
    body.settle(!mirrors.is_empty() || way.keeps_body(call)).await?;
    let upgrade = outbound.take(call, body)?;
    mirrors::send(call, mirrors, &outbound);
    let passing = inference::shape(call, &way, &mut outbound)?;
    turn::wait(call, &way, &mut outbound).await?;
    shared_cache::look_up(call, &way.backend, &outbound.body).await;
    let picked = pick(call, &way, &mut outbound).await?;
    // Half of all that a request takes: who waits for its turn does not carry it, and it is made where it stays.
    let delivered = Box::into_pin(Box::write(Box::new_uninit(), deliver(call, &way, &mut outbound, &picked)));
    let mut answer = delivered.await?;
    picked.report(call, &way, &mut answer).await;
    response_filters::apply(&mut answer, &way, outbound.origin.as_ref());
    let pace = way.pace(call);
    Ok(Reply { answer, passing, pace, upgrade })
}

/// Takes a request to where it is known which way it goes. What these stages need is not carried through the others.
async fn find_way<'w>(call: &mut Call<'w>, body: &mut Inbound) -> Result<Way<'w>, Early> {
    call.enter()?;
    call.receive(body)?;
    inference::understand_to_decide(call, body).await?;
    holders::find(call, body).await?;
    let decision = match call.decide().map_err(|error| early_answer::unrouted(call, error))? {
        Verdict::Models(listeners) => return Err(models::answer(call, listeners)),
        Verdict::Serve(decision) => decision,
    };
    call.admit()?;
    early_answer::of_rule(call, &decision)?;
    hint::settle(call, &decision, body).await?;
    rate_limit::take(call, &decision, body).await?;
    let way = call.find(decision)?;
    early_answer::of_backend(call, &way)?;
    Ok(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_that_waits_is_small() {
        let size = size(handle);
        // Ten thousand of them, with their connections and bodies of a kilobyte, have 100 MB.
        assert!(size <= 3072, "{size} bytes");
    }
}
