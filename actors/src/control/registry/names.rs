//! The names that ModelServers list instead of addresses.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler};
use kthena_router::record::Effect;

use super::RouteRegistry;
use crate::control::name_resolver::{EnsureNames, NameResolver};
use crate::messages::NamesResolved;
use crate::nursery::{Child, Tended};

impl RouteRegistry {
    /// Has names looked up from now on, these and no others. Where there were never any, nobody does so.
    pub(super) fn look_up(&mut self, names: BTreeSet<Arc<str>>, context: &Context<Self>) {
        self.world.names.retain(|name, _| names.contains(name));
        if names.is_empty() && self.resolver.is_none() {
            return;
        }
        let resolver = self.resolver.get_or_insert_with(|| {
            let (registry, metrics) = (context.address().downgrade().recipient(), Arc::clone(self.vitals.metrics()));
            Child::start(NameResolver::NAME, move || NameResolver::new(registry.clone(), &metrics).start())
        });
        resolver.address().do_send(EnsureNames(names));
    }

    /// Has a fresh resolver do the work of a dead one.
    pub(super) fn look_after_resolver(&mut self) {
        let metrics = self.vitals.metrics();
        if self.resolver.as_mut().is_some_and(|resolver| resolver.look(&Self::NAME, metrics)) {
            // The next plan tells it which names there are.
            self.outdated = true;
        }
    }
}

impl Handler<NamesResolved> for RouteRegistry {
    type Result = ();

    fn handle(&mut self, NamesResolved(names): NamesResolved, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("NamesResolved");
        let is_news = self.world.names != names;
        self.world.names = names;
        self.schedule(if is_news { Effect::Plan } else { Effect::Nothing }, context);
    }
}
