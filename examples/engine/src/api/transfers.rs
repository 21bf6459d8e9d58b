//! What engines ask each other, when prefill and decode are split.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::ApiError;
use crate::{state::EngineState, transfer::rooms::Guest};

type Engine = web::Data<EngineState>;

#[derive(Deserialize)]
pub(crate) struct WantedBlocks {
    engine: String,
    id: String,
}

#[derive(Deserialize)]
pub(crate) struct WantedRoom {
    room: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreQuestion {
    Has(String),
    Put(String),
}

/// Returns the id of the engine, as a Mooncake bootstrap server does.
pub(crate) async fn engines(engine: Engine) -> HttpResponse {
    engine.transfers.counts.asked.add(1);
    HttpResponse::Ok().json(json!({"0": {"engine_id": engine.transfers.engine_id, "worker_addr": {}}}))
}

/// Sends the blocks that are held under an id, once.
pub(crate) async fn blocks(engine: Engine, wanted: web::Json<WantedBlocks>) -> Result<HttpResponse, ApiError> {
    let WantedBlocks { engine: id_of_engine, id } = wanted.into_inner();
    let transfers = &engine.transfers;
    let held = if id_of_engine == transfers.engine_id { transfers.holds.take(&id) } else { None };
    let tokens = held.ok_or(ApiError::NotHeld(id))?.send().await;
    Ok(HttpResponse::Ok().json(json!({"tokens": tokens})))
}

/// Has a decode engine wait for a prefill in a room, and sends the blocks.
pub(crate) async fn room(engine: Engine, wanted: web::Json<WantedRoom>) -> Result<HttpResponse, ApiError> {
    let tokens = Guest::enter(&engine.into_inner(), wanted.room).fetch().await?;
    Ok(HttpResponse::Ok().json(json!({"tokens": tokens})))
}

/// Looks a prompt up, or puts one.
pub(crate) async fn store(engine: Engine, question: web::Json<StoreQuestion>) -> HttpResponse {
    let store = &engine.transfers.store;
    let has = match question.into_inner() {
        StoreQuestion::Has(prompt) => store.has(&prompt),
        StoreQuestion::Put(prompt) => {
            store.put(&prompt);
            true
        }
    };
    HttpResponse::Ok().json(json!({"has": has}))
}
