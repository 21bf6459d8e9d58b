//! What an engine with a KV cache answers about it.

#![expect(clippy::needless_pass_by_value, reason = "the server hands its extracts over by value")]

use std::future::{Ready, ready};

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::{cache, state::EngineState};

type Engine = web::Data<EngineState>;

/// Returns the tokens of a prompt.
pub(crate) fn tokenize(engine: Engine, body: web::Bytes) -> Ready<HttpResponse> {
    engine.gauges.tokenizations.add(1);
    let tokens = serde_json::from_slice(&body).ok().and_then(|body: Value| cache::tokenize(&body));
    ready(match tokens {
        Some(tokens) => {
            let count = tokens.len();
            HttpResponse::Ok().json(json!({"count": count, "max_model_len": 131_072, "tokens": tokens}))
        }
        None => HttpResponse::BadRequest().finish(),
    })
}

/// Empties the cache.
pub(crate) fn reset(engine: Engine) -> Ready<HttpResponse> {
    if let Some(cache) = &engine.cache {
        cache.cache.clear();
    }
    ready(HttpResponse::Ok().finish())
}

/// Returns where the engine tells of its cache.
pub(crate) fn sources(engine: Engine) -> Ready<HttpResponse> {
    let sources = engine.cache.as_ref().map(|cache| {
        let place = |port: u16| format!("tcp://*:{port}");
        json!({
            "data_parallel_rank": 0,
            "endpoint": place(cache.port),
            "replay_endpoint": cache.replay_port.map(place),
            "topic": "",
        })
    });
    ready(HttpResponse::Ok().json(sources.into_iter().collect::<Vec<_>>()))
}
