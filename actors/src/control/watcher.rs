//! Watcher: passes on the facts about the objects of one kind.
//!
//! # State
//! The source of its facts, and nothing else.
//!
//! # Messages
//! In: the source's stream. Out: [`Observed`] to the RouteRegistry.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one; its source begins with a complete list,
//! which repairs the world.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Recipient, StreamHandler};
use futures::stream::LocalBoxStream;
use kthena_router::for_each_kind;
use kthena_router::object::Kind;
use kthena_router::world::{Fact, WorldKind};
use tracing::warn;

use crate::control::registry::Observed;
use crate::ops::metrics::{KindLabel, Metrics};
use crate::ops::vitals::Vitals;

/// How long a watcher waits before it attaches to its source again.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Where facts about objects of kind `K` come from.
pub trait Source<K: WorldKind>: Send {
    /// Returns the facts from now on, beginning with a complete list.
    fn facts(&self) -> LocalBoxStream<'static, Fact<K::Stored>>;
}

/// Passes on facts about objects of kind `K`.
pub struct Watcher<K: WorldKind> {
    source: Box<dyn Source<K>>,
    registry: Recipient<Observed<K>>,
    vitals: Vitals,
}

macro_rules! names {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        const fn name_of(kind: Kind) -> &'static str {
            match kind {
                $(Kind::$kind => concat!("Watcher<", $name, ">"),)*
            }
        }
    };
}

for_each_kind!(names);

impl<K: WorldKind> Watcher<K> {
    /// Makes a watcher of `source`.
    pub fn new(source: Box<dyn Source<K>>, registry: Recipient<Observed<K>>, metrics: &Arc<Metrics>) -> Self {
        Self { source, registry, vitals: Vitals::new(Self::name(), metrics) }
    }

    /// Returns the actor's name, which has its kind.
    pub const fn name() -> &'static str {
        name_of(K::KIND)
    }

    fn attach(&mut self, context: &mut Context<Self>) {
        context.add_stream(self.source.facts());
    }
}

impl<K: WorldKind> Actor for Watcher<K> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.attach(context);
    }
}

impl<K: WorldKind> StreamHandler<Fact<K::Stored>> for Watcher<K> {
    fn handle(&mut self, fact: Fact<K::Stored>, _: &mut Self::Context) {
        let _handling = self.vitals.handling("Fact");
        let label = KindLabel { kind: K::KIND.label() };
        self.vitals.metrics().cluster.last_fact_ages.get_or_create(&label).note();
        self.registry.do_send(Observed(fact));
    }

    fn finished(&mut self, context: &mut Self::Context) {
        warn!(kind = %K::KIND, "source of facts ended, attaching again");
        context.run_later(BACK_OFF, Self::attach);
    }
}
