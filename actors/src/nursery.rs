//! The actors that a parent keeps running: one that died is replaced by a fresh one, which is logged and counted.

use std::fmt::Display;

use actix::{Actor, Addr, Context, Handler, Message};
use tracing::warn;

use crate::ops::metrics::Metrics;
use crate::ops::vitals::note_restart;

/// An actor that its parent keeps running. Dropping a child does not end it; [`Child::end`] does.
pub struct Child<A: Actor> {
    name: &'static str,
    address: Addr<A>,
    start: Box<dyn Fn() -> Addr<A>>,
}

/// A child of some type.
pub trait Tended {
    /// Returns whether it runs.
    fn is_alive(&self) -> bool;

    /// Starts a fresh one in place of a dead one, and returns whether it did. `of` says in the log whose child it is.
    fn look(&mut self, of: &dyn Display, metrics: &Metrics) -> bool;
}

/// End: stop, once nothing is left to do. Answered when the actor acts no more; whoever asks may start another one.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct End;

impl<A: Actor<Context = Context<A>>> Child<A> {
    /// Starts an actor of this name.
    pub fn start(name: &'static str, start: impl Fn() -> Addr<A> + 'static) -> Self {
        Self { name, address: start(), start: Box::new(start) }
    }

    /// Returns the address of the one that runs now.
    pub fn address(&self) -> &Addr<A> {
        &self.address
    }

    /// Ends the actor, and waits until it acts no more. A dead one has ended already.
    pub async fn end(self)
    where
        A: Handler<End>,
    {
        let _ = self.address.send(End).await;
    }
}

impl<A: Actor<Context = Context<A>>> Tended for Child<A> {
    fn is_alive(&self) -> bool {
        self.address.connected()
    }

    fn look(&mut self, of: &dyn Display, metrics: &Metrics) -> bool {
        if self.is_alive() {
            return false;
        }
        warn!(actor = self.name, %of, "actor died, starting a fresh one");
        note_restart(metrics, self.name, "died");
        self.address = (self.start)();
        true
    }
}
