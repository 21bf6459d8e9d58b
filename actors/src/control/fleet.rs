//! ListenerFleet: opens and drains sockets until those are open that the plan wants.
//!
//! # State
//! The listener of each bind. It is rebuilt from the next [`EnsureBinds`].
//!
//! # Messages
//! In: [`EnsureBinds`] from the RouteRegistry, [`Drain`] from the Overseer. Out: [`Drain`] to listeners.
//!
//! # Supervision
//! Part of the spine: its death ends the process. It looks after its listeners each second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WeakRecipient, WrapFuture};
use futures::future::join_all;
use kthena_router::object::Bind;
use kthena_router::plan::BindPlan;
use tracing::info;

use crate::edge::listener::{Drain, InferenceWorkers, Listener};
use crate::edge::proxy::Serving;
use crate::messages::{BindReported, EnsureBinds};
use crate::nursery::{Child, Tended};
use crate::ops::metrics::BindLabel;
use crate::ops::vitals::Vitals;

/// Keeps the listeners that a plan wants.
pub struct ListenerFleet {
    listeners: BTreeMap<Bind, OpenListener>,
    serving: Arc<Serving>,
    workers: InferenceWorkers,
    registry: WeakRecipient<BindReported>,
    draining: bool,
    vitals: Vitals,
}

struct OpenListener {
    plan: BindPlan,
    listener: Child<Listener>,
}

impl ListenerFleet {
    /// The actor's name.
    pub const NAME: &str = "ListenerFleet";

    /// Makes a fleet without listeners.
    pub fn new(serving: Arc<Serving>, workers: InferenceWorkers, registry: WeakRecipient<BindReported>) -> Self {
        let vitals = Vitals::new(Self::NAME, &serving.metrics);
        Self { listeners: BTreeMap::new(), serving, workers, registry, draining: false, vitals }
    }

    fn open(&self, plan: BindPlan) -> OpenListener {
        let (serving, workers, registry) = (Arc::clone(&self.serving), self.workers.clone(), self.registry.clone());
        let start = move || Listener::new(plan, Arc::clone(&serving), workers.clone(), registry.clone()).start();
        OpenListener { plan, listener: Child::start(Listener::NAME, start) }
    }

    /// Drains a listener; its port is free at once, its requests end by themselves.
    fn close(&self, open: OpenListener, context: &mut Context<Self>) {
        let bind = open.plan.bind;
        info!(%bind, "draining listener");
        let drained = async move { open.listener.address().send(Drain).await }.into_actor(self);
        context.spawn(drained.map(move |_, fleet, _| {
            if !fleet.listeners.contains_key(&bind) {
                fleet.serving.metrics.listener_in_flight.remove(&BindLabel { bind: bind.to_string() });
            }
        }));
    }

    fn look_after_listeners(&mut self) {
        let _handling = self.vitals.handling("Look");
        for (bind, open) in &mut self.listeners {
            open.listener.look(bind, self.vitals.metrics());
        }
    }
}

impl Actor for ListenerFleet {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_secs(1), |fleet, _| fleet.look_after_listeners());
    }
}

impl Handler<EnsureBinds> for ListenerFleet {
    type Result = ();

    fn handle(&mut self, EnsureBinds(plans): EnsureBinds, context: &mut Self::Context) {
        let _handling = self.vitals.handling("EnsureBinds");
        if self.draining {
            return;
        }
        let mut open = std::mem::take(&mut self.listeners);
        let (kept, new): (Vec<_>, Vec<_>) =
            plans.into_iter().partition(|plan| open.get(&plan.bind).is_some_and(|open| open.plan == *plan));
        for plan in kept {
            self.listeners.extend(open.remove_entry(&plan.bind));
        }
        // Old sockets are closed first: a new one may want the same port.
        for gone in open.into_values() {
            self.close(gone, context);
        }
        for plan in new {
            self.listeners.insert(plan.bind, self.open(plan));
        }
    }
}

impl Handler<Drain> for ListenerFleet {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Drain");
        self.draining = true;
        let drains = std::mem::take(&mut self.listeners)
            .into_values()
            .map(|open| async move { open.listener.address().send(Drain).await });
        let drained = join_all(drains);
        Box::pin(async move {
            drained.await;
        })
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(ListenerFleet, vitals, |fleet| fleet
    .listeners
    .values()
    .map(|open| open.listener.address()));
