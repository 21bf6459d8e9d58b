//! The HTTP surface: which path is answered by what.
//!
//! Paths, shapes and messages follow vLLM's OpenAI-compatible server.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::transfer::peer;

mod answer;
mod cache;
mod completions;
mod error;
mod events;
mod inference;
mod legs;
mod management;
mod messages;
mod pooling;
mod request;
mod responses;
pub(crate) mod stored;
mod stream;
mod transfers;

pub(crate) use error::ApiError;

/// An inference endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// `/v1/completions` of OpenAI.
    Completions,
    /// `/v1/chat/completions` of OpenAI.
    Chat,
    /// `/v1/responses` of OpenAI.
    Responses,
    /// `/v1/messages` of Anthropic.
    Messages,
    /// `/v1/embeddings` of OpenAI.
    Embeddings,
    /// `/v1/rerank` as Jina and Cohere have it.
    Rerank,
    /// `/v1/score` of vLLM.
    Score,
}

impl Api {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Chat, "/v1/chat/completions"),
        (Self::Completions, "/v1/completions"),
        (Self::Responses, "/v1/responses"),
        (Self::Messages, "/v1/messages"),
        (Self::Embeddings, "/v1/embeddings"),
        (Self::Rerank, "/v1/rerank"),
        (Self::Score, "/v1/score"),
    ];

    /// Says whether the endpoint answers with text, token by token.
    pub(crate) fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Rerank | Self::Score)
    }
}

/// Adds all paths; the busiest come first, as they are tried in order.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    for (api, path) in Api::ALL {
        let serve =
            move |request: HttpRequest, payload: web::Payload, engine| inference::serve(api, request, payload, engine);
        config.service(web::resource(path).route(web::post().to(serve)));
    }
    config
        .service(
            web::resource("/v1/responses/{id}")
                .route(web::get().to(stored::get))
                .route(web::delete().to(stored::delete)),
        )
        .route("/v1/responses/{id}/cancel", web::post().to(stored::cancel))
        .route("/v1/responses/{id}/input_items", web::get().to(stored::input_items))
        .route("/health", web::get().to(management::health))
        .route("/metrics", web::get().to(management::metrics))
        .route("/v1/models", web::get().to(management::models))
        .route("/v1/load_lora_adapter", web::post().to(management::load_adapter))
        .route("/v1/unload_lora_adapter", web::post().to(management::unload_adapter))
        .route("/tokenize", web::post().to(cache::tokenize))
        .route("/reset_prefix_cache", web::post().to(cache::reset))
        .route("/kv_event_sources", web::get().to(cache::sources))
        .route("/query", web::get().to(transfers::engines))
        .route(peer::BLOCKS, web::post().to(transfers::blocks))
        .route(peer::ROOM, web::post().to(transfers::room))
        .route(peer::STORE, web::post().to(transfers::store))
        .service(
            web::resource("/simulate/faults")
                .route(web::get().to(management::faults))
                .route(web::post().to(management::update_faults)),
        )
        .default_service(web::to(HttpResponse::NotFound));
}
