//! KvEventListener: hears what the engines of one pool tell of their KV caches.
//!
//! # State
//! A subscription for each endpoint, with what its messages have told. A fresh listener begins with the messages that
//! engines send again; what it cannot have again is unknown, and so the prefix table counts until the engine begins anew.
//!
//! # Messages
//! In: [`HearEndpoints`] and [`End`] from the PoolKeeper. Out: none; what is heard is written into the endpoints' shared
//! indexes, because a pick must see it at once.
//!
//! # Supervision
//! Started by the pool's PoolKeeper, which starts a fresh one in place of a dead one. It ends when its keeper says so.
//! With it end its subscriptions, and their indexes are not believed any more.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use kthena_router::inference::kv_events::index::HeldBlocks;
use kthena_router::pool::kv_events::KvEvents;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::ledger::Ledger;

use super::subscription::Subscription;
use super::{Engines, Questions};
use crate::nursery::End;
use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;

/// Hears the engines of one pool.
pub struct KvEventListener {
    listening: Listening,
    questions: Questions,
    subscriptions: HashMap<Arc<Endpoint>, SpawnHandle>,
    vitals: Vitals,
}

/// Whom to listen to and how.
#[derive(Clone)]
pub struct Listening {
    /// The engines.
    pub engines: Engines,
    /// Where they tell of their caches.
    pub events: KvEvents,
}

/// The endpoints to listen to: all of them, not a difference. From the PoolKeeper.
#[derive(Message)]
#[rtype(result = "()")]
pub struct HearEndpoints(pub Vec<Heard>);

/// An endpoint to listen to.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What its events tell.
    pub held: Arc<HeldBlocks>,
    /// What it was sent, which is forgotten when its cache is.
    pub ledger: Arc<Ledger>,
}

impl KvEventListener {
    /// The actor's name.
    pub const NAME: &str = "KvEventListener";

    /// Makes a listener; it must be made on the thread that it runs on.
    pub fn new(listening: Listening, metrics: &Arc<Metrics>) -> Self {
        Self {
            questions: Questions::new(&listening.engines.upstream, listening.engines.https),
            listening,
            subscriptions: HashMap::new(),
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }
}

impl Actor for KvEventListener {
    type Context = Context<Self>;
}

impl Handler<HearEndpoints> for KvEventListener {
    type Result = ();

    fn handle(&mut self, HearEndpoints(heard): HearEndpoints, context: &mut Self::Context) {
        let _handling = self.vitals.handling("HearEndpoints");
        let mut known = std::mem::take(&mut self.subscriptions);
        for heard in heard {
            let endpoint = Arc::clone(&heard.endpoint);
            let handle = known.remove(&endpoint).unwrap_or_else(|| {
                let metrics = Arc::clone(self.vitals.metrics());
                let subscription = Subscription::new(heard, self.listening.clone(), self.questions.clone(), metrics);
                context.spawn(subscription.run().into_actor(self))
            });
            self.subscriptions.insert(endpoint, handle);
        }
        for handle in known.into_values() {
            context.cancel_future(handle);
        }
    }
}

impl Handler<End> for KvEventListener {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Self::Context) {
        let _handling = self.vitals.handling("End");
        context.stop();
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(KvEventListener, vitals);
