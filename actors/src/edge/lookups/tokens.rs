//! What is known of a prompt's tokens, where engines tell of their KV caches. A request never waits for more.

use std::sync::Arc;

use actix::WeakRecipient;
use bytes::Bytes;
use kthena_router::inference::api::Api;
use kthena_router::inference::kv_events::known::Likeness;
use kthena_router::inference::prompt::BlockHash;
use kthena_router::scheduling::request::RequestFacts;

use crate::messages::LearnPrompt;
use crate::pools::published::Pool;

/// Blocks of text that may be unknown at the end of a prompt before an engine is asked: 1 KiB.
const FEW: usize = 4;

/// Returns what a prompt has in common with a known one.
pub(in crate::edge) fn likeness(pool: &Pool, texts: &[BlockHash]) -> Option<Likeness> {
    pool.view().learner.as_ref().and_then(|_| pool.prompts.find(texts))
}

/// Has a prompt's tokens learnt if too little is known of them; the next request like it will profit.
pub(in crate::edge) fn learn(pool: &Pool, api: Api, body: &Bytes, facts: &Arc<RequestFacts>) {
    let known = facts.likeness.as_ref().map_or(0, |likeness| likeness.texts);
    if facts.prefix.len() <= known + FEW {
        return;
    }
    if let Some(learner) = pool.view().learner.as_ref().and_then(WeakRecipient::upgrade) {
        let (body, facts) = (body.clone(), Arc::clone(facts));
        // Whoever has no time for it now learns it another time.
        drop(learner.try_send(LearnPrompt { api, body, facts }));
    }
}
