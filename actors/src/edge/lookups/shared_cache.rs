//! Looks up which Pods hold a prompt, for the plugin kvcache-aware, before an endpoint is picked.
//!
//! Source: the Go kthena-router. An engine of the pool tells the prompt's tokens, and Redis which Pods hold its blocks. All
//! of it takes 150 ms at most, and then the request goes on without.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kthena_router::config::RedisConfig;
use kthena_router::inference::api::Api;
use kthena_router::inference::kv_events::tokenize::{Asked, Question, TOKENIZE, tokens};
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::owners::{Entries, Owners, keys};
use kthena_router::scheduling::plugins::kvcache_aware::KvcacheAware;
use kthena_router::scheduling::request::RequestFacts;
use kthena_router_upstream::Upstream;
use redis::RedisResult;
use tokio::time::timeout;

use crate::edge::backends::Backend;
use crate::ops::metrics::{KvEventLabels, Metrics};
use crate::pools::kv_events::Questions;
use crate::pools::redis_link::RedisLink;

/// How long a request waits for its tokens, and then for Redis.
const TOKENS_LIMIT: Duration = Duration::from_millis(100);
const REDIS_LIMIT: Duration = Duration::from_millis(50);
/// The longest answer of an engine that is read, in bytes: a million tokens.
const MOST_ANSWER: usize = 16 << 20;

/// The lookups of one worker thread.
pub(in crate::edge) struct SharedCache {
    redis: RedisLink,
    /// For engines that speak http, and for those that speak https.
    questions: [Questions; 2],
    metrics: Arc<Metrics>,
}

impl SharedCache {
    /// Makes the lookups of the current thread; nothing is connected yet.
    pub(in crate::edge) fn new(redis: &RedisConfig, upstream: &Upstream, metrics: Arc<Metrics>) -> RedisResult<Self> {
        let link = RedisLink::to_own(redis, "kvcache-aware is neutral until it does")?;
        let questions = [false, true].map(|https| Questions::new(upstream, https));
        Ok(Self { redis: link, questions, metrics })
    }

    /// Finds out which Pods hold a prompt, where the plugin is in use, and adds it to the facts of its request.
    pub(in crate::edge) async fn look_up(
        &self,
        backend: &Backend,
        (api, body): (Api, &Bytes),
        facts: &mut Arc<RequestFacts>,
        draw: impl FnOnce(u64) -> u64,
    ) {
        let Some(plugin) = backend.picker.lookups() else { return };
        let view = backend.pool.view().clone();
        if view.members.len() < 2 {
            return;
        }
        let place = usize::try_from(draw(view.members.len() as u64)).unwrap_or_default();
        let port = match backend.policy.engine {
            Some(InferenceEngine::Sglang) => plugin.sglang_port,
            Some(InferenceEngine::Vllm) | None => plugin.vllm_port,
        };
        let engine = &view.members[place].endpoint;
        let engine = SocketAddr::new(engine.address, port.unwrap_or(engine.port));
        let engine = (engine, backend.policy.https);
        // Few requests are looked up, and the others need not carry the room that it takes.
        let outcome = match Box::pin(self.ask(plugin, (api, body, &facts.model), engine)).await {
            Ok(entries) => {
                let endpoints = view.members.iter().map(|member| -> &Endpoint { &member.endpoint });
                let owners = Owners::of(&entries, endpoints);
                let outcome = if owners.held.is_empty() { "not_found" } else { "found" };
                Arc::make_mut(facts).owners = Some(owners);
                outcome
            }
            Err(outcome) => outcome,
        };
        let labels = KvEventLabels { pool: backend.pool.key.to_string(), what: outcome };
        self.metrics.kv_events.lookups.get_or_create(&labels).inc();
    }

    /// Asks an engine for the tokens of a prompt, and Redis what it has for their blocks; says what came of it.
    async fn ask(
        &self,
        plugin: &KvcacheAware,
        (api, body, model): (Api, &Bytes, &str),
        (engine, https): (SocketAddr, bool),
    ) -> Result<Vec<Entries>, &'static str> {
        if self.redis.is_away() {
            return Err("no_redis");
        }
        let asked = Asked::about(api, body, model).ok_or("not_told")?;
        let tokens = match asked.question {
            Question::Known(tokens) => tokens,
            Question::Ask(question) => {
                let questions = &self.questions[usize::from(https)];
                let answer = questions.ask(engine, TOKENIZE, Some(question), MOST_ANSWER);
                let answer = timeout(TOKENS_LIMIT, answer).await.map_err(|_| "late")?;
                answer.and_then(|answer| tokens(&answer)).ok_or("no_tokens")?
            }
        };
        let keys = keys(model, &tokens, plugin.block_size, plugin.most_blocks);
        let asked = self.redis.ask(REDIS_LIMIT, async |connection| connection.hashes(&keys).await);
        asked.await.map_err(|_| "no_redis")
    }
}
