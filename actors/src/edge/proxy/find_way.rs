//! The stages of a request until it is known which way it goes, in order.

use kthena_router::routing::decision::Verdict;

use super::call::Call;
use super::way::Way;
use super::{early_answer, hint, holder, models};
use crate::edge::answers::Early;
use crate::edge::bodies::Inbound;

/// Takes a request to where it is known which way it goes. What these stages need is not carried through the others.
pub(super) async fn find_way<'w>(call: &mut Call<'w>, body: &mut Inbound) -> Result<Way<'w>, Early> {
    call.enter()?;
    call.receive(body)?;
    hint::understand_to_decide(call, body).await?;
    holder::find(call, body).await?;
    let decision = match call.decide().map_err(|error| early_answer::unrouted(call, error))? {
        Verdict::Models(listeners) => return Err(models::answer(call, listeners)),
        Verdict::Serve(decision) => decision,
    };
    call.admit()?;
    early_answer::of_rule(call, &decision)?;
    hint::settle(call, &decision, body).await?;
    call.take_part(&decision, body).await?;
    let way = Way::find(call, decision)?;
    early_answer::of_backend(call, &way)?;
    Ok(way)
}
