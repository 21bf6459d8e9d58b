//! What a decode engine asks others.

use std::sync::Arc;

use awc::Client;
use futures::future::try_join_all;
use serde_json::{Value, json};
use thiserror::Error;

use super::leg::Source;
use crate::state::EngineState;

/// Where blocks are asked for.
pub(crate) const BLOCKS: &str = "/simulate/kv/blocks";

/// Where rooms are entered.
pub(crate) const ROOM: &str = "/simulate/kv/room";

/// Where prompts are looked up, and put by a prefill.
pub(crate) const STORE: &str = "/simulate/kv/store";

/// Why blocks were not fetched.
#[derive(Debug, Error)]
#[error("KV transfer failed: {0}")]
pub(crate) struct NotFetched(String);

/// Fetches the blocks of a prompt; returns whether they are there: a store may have nothing.
pub(crate) async fn fetch(engine: &Arc<EngineState>, source: &Source) -> Result<bool, NotFetched> {
    match source {
        Source::Engine { host, port, engine, id } => {
            ask(&format!("{host}:{port}{BLOCKS}"), json!({"engine": engine, "id": id})).await.map(|_| true)
        }
        Source::Rooms { host, port, rooms } => {
            let place = format!("{host}:{port}{ROOM}");
            try_join_all(rooms.iter().map(|room| ask(&place, json!({"room": room})))).await.map(|_| true)
        }
        Source::Store(prompt) => store(engine, json!({"has": prompt})).await,
    }
}

/// Puts a prompt into the store of the configuration.
pub(crate) async fn put(engine: &Arc<EngineState>, prompt: &str) -> Result<(), NotFetched> {
    store(engine, json!({"put": prompt})).await.map(drop)
}

/// Asks the store; there is nothing in one that is not configured.
async fn store(engine: &Arc<EngineState>, question: Value) -> Result<bool, NotFetched> {
    let Some(place) = engine.config.kv_store else { return Ok(false) };
    Ok(ask(&format!("{place}{STORE}"), question).await?["has"] == true)
}

/// Asks another engine, for as long as it takes; a question that is not waited for any more breaks the transfer.
async fn ask(place: &str, question: Value) -> Result<Value, NotFetched> {
    let client = Client::builder().disable_timeout().finish();
    let sent = client.post(format!("http://{place}")).force_close().send_json(&question).await;
    let mut answer = sent.map_err(|error| NotFetched(error.to_string()))?;
    let body: Value = answer.json().await.map_err(|error| NotFetched(error.to_string()))?;
    if answer.status().is_success() {
        return Ok(body);
    }
    Err(NotFetched(body["error"]["message"].as_str().unwrap_or("no reason").to_owned()))
}
