//! The stages of one request, in order; each is a file or a line of one. This is the only place that knows the order.

use std::rc::Rc;

use http::{Request, Response};
use kthena_router::routing::decision::Verdict;
use kthena_router_downstream::{Connection, Incoming};

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
pub(super) async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let snapshot = worker.door.serving.reader.load();
    let (mut call, incoming) = Call::begin(&worker, &snapshot, connection, request);
    let reply = answer(&mut call, incoming).await;
    Reply::complete(reply, call)
}

/// Takes a request from stage to stage, until it is answered.
async fn answer(call: &mut Call<'_>, incoming: Incoming) -> Result<Reply, Early> {
    call.enter()?;
    let mut body = call.receive(incoming)?;
    inference::understand_to_decide(call, &mut body).await?;
    holders::find(call, &body).await?;
    let decision = match call.decide().map_err(|error| early_answer::unrouted(call, error))? {
        Verdict::Models(listeners) => return Err(models::answer(call, listeners)),
        Verdict::Serve(decision) => decision,
    };
    call.admit()?;
    early_answer::of_rule(call, &decision)?;
    hint::settle(call, &decision, &mut body).await?;
    rate_limit::take(call, &decision, &body).await?;
    let way = call.find(decision)?;
    early_answer::of_backend(call, &way)?;
    let mut outbound = Outbound::new(call, &way);
    inference::admit(call, &way, &mut outbound, &mut body).await?;
    let mirrors = mirrors::draw(call, &way);
    body.settle(!mirrors.is_empty() || way.keeps_body(call)).await?;
    let upgrade = outbound.take(call, body)?;
    mirrors::send(call, mirrors, &outbound);
    let passing = inference::shape(call, &way, &mut outbound)?;
    turn::wait(call, &way, &outbound).await?;
    shared_cache::look_up(call, &way.backend, &outbound.body).await;
    let picked = pick(call, &way, &mut outbound).await?;
    // Half of all that a request takes: who waits for its turn does not carry it.
    let mut answer = Box::pin(deliver(call, &way, &mut outbound, &picked)).await?;
    picked.report(call, &way, &mut answer).await;
    response_filters::apply(&mut answer, &way, outbound.origin.as_ref());
    let pace = way.pace(call);
    Ok(Reply { answer, passing, pace, upgrade })
}
