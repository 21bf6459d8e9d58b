//! What becomes of what is heard when one of those who hear panics.

use std::sync::Arc;

use kthena_router::inference::kv_events::index::Standing;
use simulated_engine::EngineConfig;

use super::{KvEventListener, Tokenizer};
use crate::ops::metrics::Metrics;
use crate::pools::pool_keeper::PoolKeeper;
use crate::supervision_tests::{Panic, apply, casualties, empty_registry, running, until};

#[actix_web::test]
async fn those_who_hear_a_pool_are_replaced_by_its_keeper_and_have_all_told_again() {
    let metrics = Metrics::new();
    let (kv_events_port, kv_events_replay_port) = (Some(0), Some(0));
    let config = EngineConfig { kv_events_port, kv_events_replay_port, ..EngineConfig::new("m") };
    let engine = simulated_engine::start(config).await.unwrap();
    let address = engine.addresses()[0];
    let body = format!("{{\"model\": \"m\", \"prompt\": \"{}\"}}", "word ".repeat(64));
    awc::Client::new().post(format!("http://{address}/v1/completions")).send_body(body).await.unwrap();

    let (registry, reader) = empty_registry(&metrics);
    apply(
        &registry,
        &format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata:\n  name: s\n  \
             annotations: {{networking.serving.volcano.sh/kv-events: discover}}\nspec:\n  \
             inferenceEngine: vLLM\n  workloadSelector: {{matchLabels: {{app: s}}}}\n  \
             workloadPort: {{port: {port}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: s}}}}\nstatus: {{podIP: {ip}}}\n",
            port = address.port(),
            ip = address.ip(),
        ),
    );
    let pool = || reader.load().pools.first().map(Arc::clone);
    let is_heard = || {
        let held = pool().and_then(|pool| pool.view().members.first().map(|member| Arc::clone(&member.held)));
        held.is_some_and(|held| held.standing() == Standing::Whole && held.blocks() == 4)
    };
    until("what the engine holds is known", is_heard).await;

    for actor in [KvEventListener::NAME, Tokenizer::NAME] {
        registry.do_send(Panic(actor));
        until("a fresh one has taken its place", || casualties(&metrics, actor) == (1, 1)).await;
        until("there is one of them", || running(&metrics, actor) == 1).await;
        until("what the engine holds is known again", is_heard).await;
    }
    let has_learner =
        || pool().is_some_and(|pool| pool.view().learner.as_ref().is_some_and(|learner| learner.upgrade().is_some()));
    until("the fresh one can be reached", has_learner).await;
    assert_eq!(casualties(&metrics, PoolKeeper::NAME), (0, 0));
}
