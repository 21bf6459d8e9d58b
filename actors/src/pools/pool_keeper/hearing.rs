//! The children of a keeper whose engines tell of their KV caches.

use std::sync::Arc;

use actix::{Actor, WeakRecipient};
use kthena_router::object::PoolKey;

use super::Means;
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
