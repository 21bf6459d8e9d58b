//! NameResolver: looks up the addresses of the instances that ModelServers list by name.
//!
//! # State
//! The names that are wanted, and their addresses at the last look. All of it comes back from the registry's next plan.
//!
//! # Messages
//! In: [`EnsureNames`] from the RouteRegistry. Out: [`NamesResolved`] to the RouteRegistry, when something is new.
//!
//! # Supervision
//! Started by the RouteRegistry with the first name, which starts a fresh one in place of a dead one.
//!
//! Names are looked up when they are new, and all of them each ten seconds. A name that is not found keeps its last address: a
//! name server that is away is no reason to stop serving. Of several addresses the one that is in use stays so as long as it is
//! among them, else the lowest is taken, so that all replicas of the router mean the same instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WeakRecipient, WrapFuture};
use futures::future::join_all;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::warn;

use crate::messages::NamesResolved;
use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;

/// How often names are looked up again.
const EVERY: Duration = Duration::from_secs(10);
/// How long the answer to one look-up is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks up names.
pub struct NameResolver {
    wanted: BTreeSet<Arc<str>>,
    known: BTreeMap<Arc<str>, IpAddr>,
    /// The names that were not found at the last look, each of which was told of.
    missing: BTreeSet<Arc<str>>,
    registry: WeakRecipient<NamesResolved>,
    vitals: Vitals,
}

/// The names to look up: all of them, not a difference.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct EnsureNames(pub BTreeSet<Arc<str>>);

/// The addresses of some names; none where the look-up failed.
type Found = Vec<(Arc<str>, Vec<IpAddr>)>;

impl NameResolver {
    /// The actor's name.
    pub const NAME: &str = "NameResolver";

    /// Makes a resolver that knows no name.
    pub fn new(registry: WeakRecipient<NamesResolved>, metrics: &Arc<Metrics>) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self { wanted: BTreeSet::new(), known: BTreeMap::new(), missing: BTreeSet::new(), registry, vitals }
    }

    /// Looks names up; what comes of it is taken in when all of them have been looked up.
    fn look_up(&self, names: impl Iterator<Item = Arc<str>>, context: &mut Context<Self>) {
        let looks = names.map(async |name| {
            let found = timeout(PATIENCE, lookup_host((&*name, 0))).await;
            let addresses = found.ok().and_then(Result::ok).into_iter().flatten().map(|socket| socket.ip()).collect();
            (name, addresses)
        });
        let looked = join_all(looks.collect::<Vec<_>>()).into_actor(self);
        context.spawn(looked.map(|found, resolver, _| resolver.take(found)));
    }

    /// Takes in what was found, and tells the registry if something is new.
    fn take(&mut self, found: Found) {
        let _handling = self.vitals.handling("Found");
        let before = self.known.clone();
        for (name, mut addresses) in found {
            if !self.wanted.contains(&name) {
                continue;
            }
            addresses.sort_unstable();
            let stays = self.known.get(&name).is_some_and(|known| addresses.contains(known));
            match addresses.first() {
                None if self.missing.insert(Arc::clone(&name)) => warn!(%name, "name of an endpoint is not found"),
                None => {}
                Some(first) => {
                    self.missing.remove(&name);
                    if !stays {
                        self.known.insert(name, *first);
                    }
                }
            }
        }
        if self.known != before
            && let Some(registry) = self.registry.upgrade()
        {
            registry.do_send(NamesResolved(self.known.clone()));
        }
    }
}

impl Actor for NameResolver {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(EVERY, |resolver, context| {
            let _handling = resolver.vitals.handling("Look");
            resolver.look_up(resolver.wanted.clone().into_iter(), context);
        });
    }
}

impl Handler<EnsureNames> for NameResolver {
    type Result = ();

    fn handle(&mut self, EnsureNames(names): EnsureNames, context: &mut Self::Context) {
        let _handling = self.vitals.handling("EnsureNames");
        let fresh: Vec<_> = names.difference(&self.wanted).cloned().collect();
        self.wanted = names;
        self.known.retain(|name, _| self.wanted.contains(name));
        self.missing.retain(|name| self.wanted.contains(name));
        if !fresh.is_empty() {
            self.look_up(fresh.into_iter(), context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn an_address_stays_as_long_as_its_name_has_it() {
        let metrics = Metrics::new();
        let mut resolver = NameResolver::new(Nobody.start().downgrade().recipient(), &metrics);
        let name: Arc<str> = "engine.example".into();
        resolver.wanted.insert(Arc::clone(&name));
        let at = |hosts: &[u8]| hosts.iter().map(|host| IpAddr::from([10, 0, 0, *host])).collect::<Vec<_>>();
        for (found, expected) in [(&[3, 2][..], 2), (&[1, 2], 2), (&[], 2), (&[5, 4], 4), (&[], 4)] {
            resolver.take(vec![(Arc::clone(&name), at(found))]);
            assert_eq!(resolver.known.get(&name), at(&[expected]).first(), "{found:?}");
        }
        resolver.take(vec![("other.example".into(), at(&[1]))]);
        assert_eq!(resolver.known.len(), 1, "what nobody wants any more is not taken in");
    }

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<NamesResolved> for Nobody {
        type Result = ();

        fn handle(&mut self, _: NamesResolved, _: &mut Self::Context) {}
    }
}
