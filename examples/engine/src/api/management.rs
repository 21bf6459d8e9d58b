//! Everything but inference: readiness, metrics, models, adapters and faults.

#![expect(clippy::needless_pass_by_value, reason = "the server hands its extracts over by value")]

use std::future::{Ready, ready};

use actix_web::{HttpResponse, ResponseError, http::StatusCode, web};
use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::{
    exposition,
    faults::FaultUpdate,
    models::Model,
    state::{EngineState, seconds_since_epoch},
};

type Engine = web::Data<EngineState>;

/// Says whether the engine takes requests, as a readiness probe asks.
pub(crate) fn health(engine: Engine) -> Ready<HttpResponse> {
    let status = if engine.faults.settings().unready { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    ready(HttpResponse::new(status))
}

/// Returns the live figures.
pub(crate) fn metrics(engine: Engine) -> Ready<HttpResponse> {
    let page = exposition::render(&engine);
    ready(HttpResponse::Ok().content_type(exposition::CONTENT_TYPE).body(page))
}

#[derive(Serialize)]
struct ModelList<'engine> {
    object: &'static str,
    data: Vec<ModelCard<'engine>>,
}

#[derive(Serialize)]
struct ModelCard<'engine> {
    id: &'engine str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: &'engine str,
    parent: Option<&'engine str>,
}

impl<'engine> From<&'engine Model> for ModelCard<'engine> {
    fn from(model: &'engine Model) -> Self {
        Self {
            id: &model.name,
            object: "model",
            created: model.created,
            owned_by: "vllm",
            root: &model.root,
            parent: model.parent.as_deref(),
        }
    }
}

/// Lists the served model and its adapters.
pub(crate) fn models(engine: Engine) -> Ready<HttpResponse> {
    let adapters = engine.models.adapters();
    let models = [&engine.models.base].into_iter().chain(adapters.iter());
    ready(
        HttpResponse::Ok()
            .json(ModelList { object: "list", data: models.map(|model| ModelCard::from(&**model)).collect() }),
    )
}

#[derive(Deserialize)]
struct AdapterToLoad<'body> {
    lora_name: &'body str,
    lora_path: &'body str,
}

#[derive(Deserialize)]
struct AdapterToUnload<'body> {
    lora_name: &'body str,
}

/// Loads an adapter.
pub(crate) fn load_adapter(engine: Engine, body: web::Bytes) -> Ready<HttpResponse> {
    ready(respond(load(&engine, &body)))
}

fn load(engine: &EngineState, body: &[u8]) -> Result<HttpResponse, ApiError> {
    let wanted: AdapterToLoad<'_> = serde_json::from_slice(body)?;
    let (name, path) = (wanted.lora_name, wanted.lora_path);
    if !engine.models.load(name, path, seconds_since_epoch()) {
        return Err(ApiError::AdapterLoaded(name.to_owned()));
    }
    let message = format!("Success: LoRA adapter '{name}' added successfully.");
    Ok(HttpResponse::Ok().body(message))
}

/// Unloads an adapter.
pub(crate) fn unload_adapter(engine: Engine, body: web::Bytes) -> Ready<HttpResponse> {
    ready(respond(unload(&engine, &body)))
}

fn unload(engine: &EngineState, body: &[u8]) -> Result<HttpResponse, ApiError> {
    let wanted: AdapterToUnload<'_> = serde_json::from_slice(body)?;
    let name = wanted.lora_name;
    if !engine.models.unload(name) {
        return Err(ApiError::AdapterUnknown(name.to_owned()));
    }
    let message = format!("Success: LoRA adapter '{name}' removed successfully.");
    Ok(HttpResponse::Ok().body(message))
}

/// Returns the faults as they are set.
pub(crate) fn faults(engine: Engine) -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().json(engine.faults.settings()))
}

/// Sets the faults that the body names, and returns all.
pub(crate) fn update_faults(engine: Engine, body: web::Bytes) -> Ready<HttpResponse> {
    ready(respond(update(&engine, &body)))
}

fn update(engine: &EngineState, body: &[u8]) -> Result<HttpResponse, ApiError> {
    let update: FaultUpdate = serde_json::from_slice(body)?;
    engine.faults.update(&update)?;
    Ok(HttpResponse::Ok().json(engine.faults.settings()))
}

fn respond(outcome: Result<HttpResponse, ApiError>) -> HttpResponse {
    outcome.unwrap_or_else(|error| error.error_response())
}
