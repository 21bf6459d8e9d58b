//! The children of a keeper whose engines tell of their KV caches.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WeakRecipient, WrapFuture};
use kthena_router::object::PoolKey;
use kthena_router::pool::policy::PoolPolicy;

use super::{Means, PoolKeeper};
use crate::messages::LearnPrompt;
use crate::nursery::{Child, Tended};
use crate::ops::metrics::Metrics;
use crate::pools::kv_events::{Engines, HearEndpoints, Heard, KvEventListener, Listening, Tokenizer};
use crate::pools::published::{Member, Pool};

/// Who hears a pool's engines and learns its prompts.
pub(super) struct Hearing {
    pub(super) listener: Child<KvEventListener>,
    pub(super) tokenizer: Child<Tokenizer>,
}

impl Hearing {
    /// Starts both; the listener has to be told of the endpoints.
    pub(super) fn start(listening: &Listening, pool: &Arc<Pool>, means: &Means, metrics: &Arc<Metrics>) -> Self {
        let of_listener = (listening.clone(), means.scraping.clone(), Arc::clone(metrics));
        let of_tokenizer = (listening.engines.clone(), Arc::clone(pool), means.scraping.clone(), Arc::clone(metrics));
        Self {
            listener: Child::start(KvEventListener::NAME, move || {
                let (listening, arbiter, metrics) = of_listener.clone();
                KvEventListener::start_in_arbiter(&arbiter, move |_| KvEventListener::new(listening, &metrics))
            }),
            tokenizer: Child::start(Tokenizer::NAME, move || {
                let (engines, pool, arbiter, metrics): (Engines, _, _, Arc<Metrics>) = of_tokenizer.clone();
                Tokenizer::start_in_arbiter(&arbiter, move |_| Tokenizer::new(engines, pool, &metrics))
            }),
        }
    }

    /// Tells the listener which endpoints there are.
    pub(super) fn tell(&self, members: &[Member]) {
        self.listener.address().do_send(HearEndpoints(members.iter().map(heard).collect()));
    }

    /// Replaces the dead, and returns whether there were any.
    pub(super) fn look(&mut self, of: &PoolKey, members: &[Member], metrics: &Metrics) -> bool {
        let is_listener_new = self.listener.look(of, metrics);
        if is_listener_new {
            self.tell(members);
        }
        self.tokenizer.look(of, metrics) || is_listener_new
    }

    /// Returns who learns prompts.
    pub(super) fn learner(&self) -> WeakRecipient<LearnPrompt> {
        self.tokenizer.address().downgrade().recipient()
    }

    /// Ends both.
    pub(super) async fn end(self) {
        self.listener.end().await;
        self.tokenizer.end().await;
    }
}

impl PoolKeeper {
    /// Returns how the engines are listened to; `None` where they do not tell of their KV caches.
    fn listening(&self) -> Option<Listening> {
        let events = self.policy.kv_events?;
        let (upstream, https) = (self.means.upstream.clone(), self.policy.https);
        Some(Listening { engines: Engines { upstream, https, pool: self.pool.key.to_string().into() }, events })
    }

    pub(super) fn start_hearing(&mut self) {
        let Some(listening) = self.listening().filter(|_| self.hearing.is_none()) else { return };
        let hearing = Hearing::start(&listening, &self.pool, &self.means, self.vitals.metrics());
        hearing.tell(&self.members);
        self.hearing = Some(hearing);
    }

    /// Listens to the engines as the present policy says.
    pub(super) fn hear_anew(&mut self, before: &PoolPolicy, context: &mut Context<Self>) {
        if (before.kv_events, before.https) == (self.policy.kv_events, self.policy.https) {
            if let Some(hearing) = &self.hearing {
                hearing.tell(&self.members);
            }
            return;
        }
        match self.hearing.take() {
            Some(hearing) => {
                let ended = hearing.end().into_actor(self);
                context.spawn(ended.map(|(), keeper, context| {
                    keeper.start_hearing();
                    keeper.publish(context);
                }));
            }
            None => self.start_hearing(),
        }
    }
}

#[cfg(test)]
impl Hearing {
    /// Returns both, to let them panic.
    pub(super) fn children(&self) -> [actix::Recipient<crate::supervision_tests::Panic>; 2] {
        [self.listener.address().clone().recipient(), self.tokenizer.address().clone().recipient()]
    }
}

fn heard(member: &Member) -> Heard {
    Heard { endpoint: Arc::clone(&member.endpoint), held: Arc::clone(&member.held), ledger: Arc::clone(&member.ledger) }
}
