//! Responses that the engine keeps, so that clients can ask for them by their id and go on from them.
//!
//! As in vLLM they are in memory, and gone with the engine. What has no id here is answered with 404 in vLLM's words.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::header::CONTENT_TYPE,
    web::{self, Bytes},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, ApiError, answer::Answer, events::Transcript};
use crate::state::EngineState;

/// The most responses that are kept.
const MOST: usize = 10_000;

/// The responses of one engine, the newest last.
#[derive(Debug, Default)]
pub(crate) struct StoredResponses(Mutex<VecDeque<Stored>>);

/// What a request says of the response that it wants.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wish {
    store: Option<bool>,
    background: Option<bool>,
    previous_response_id: Option<String>,
    #[serde(default)]
    input: Value,
}

#[derive(Clone, Debug)]
struct Stored {
    answer: Answer,
    input: Value,
    /// When one in the background is complete.
    complete: Option<Instant>,
    cancelled: bool,
}

/// What a client asks of a response.
#[derive(Debug, Deserialize)]
pub(crate) struct Question {
    stream: Option<bool>,
    starting_after: Option<u64>,
}

impl Wish {
    /// Reads a request.
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Returns whether the client does not wait for the response.
    pub(crate) fn is_in_background(&self) -> bool {
        self.background == Some(true)
    }
}

impl StoredResponses {
    /// Checks that the response which a request goes on from is here.
    pub(crate) fn check(&self, wish: &Wish) -> Result<(), ApiError> {
        wish.previous_response_id.as_deref().map_or(Ok(()), |id| self.with(id, |_| ()))
    }

    /// Keeps a response, unless the client does not want that; one in the background takes some time.
    pub(crate) fn keep(&self, wish: &Wish, answer: &Answer, takes: Duration) {
        if wish.store == Some(false) {
            return;
        }
        let complete = wish.is_in_background().then(|| Instant::now() + takes);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST {
            all.pop_front();
        }
        all.push_back(Stored { answer: answer.clone(), input: wish.input.clone(), complete, cancelled: false });
    }

    /// Returns a response as it is now.
    pub(crate) fn render(&self, id: &str) -> Result<String, ApiError> {
        self.with(id, |stored| stored.render())
    }

    fn with<T>(&self, id: &str, read: impl FnOnce(&mut Stored) -> T) -> Result<T, ApiError> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = all.iter_mut().rev().find(|stored| stored.answer.response_id() == id);
        stored.map(read).ok_or_else(|| ApiError::UnknownResponse(id.to_owned()))
    }

    fn remove(&self, id: &str) -> Result<(), ApiError> {
        self.with(id, |_| ())?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|stored| stored.answer.response_id() != id);
        Ok(())
    }
}

impl Stored {
    fn status(&self) -> &'static str {
        match self.complete {
            _ if self.cancelled => "cancelled",
            Some(complete) if Instant::now() < complete => "queued",
            _ => "completed",
        }
    }

    fn render(&self) -> String {
        let whole = self.answer.render(Api::Responses);
        match self.status() {
            "completed" => whole,
            status => whole.replacen("\"status\":\"completed\"", &format!("\"status\":\"{status}\""), 1),
        }
    }
}

/// Answers with a response, whole or as the events that make it up.
pub(crate) async fn get(
    id: web::Path<String>,
    question: web::Query<Question>,
    engine: web::Data<EngineState>,
) -> Result<HttpResponse, ApiError> {
    if question.stream != Some(true) {
        return Ok(as_json(engine.responses.render(&id)?));
    }
    let answer = engine.responses.with(&id, |stored| stored.answer.clone())?;
    let transcript = Transcript::new(Api::Responses, answer, false);
    let parts = std::iter::successors(Some(transcript.first()), |part| transcript.following(*part));
    let seen = question.starting_after.map_or(0, |last| usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1));
    let events: Vec<_> = parts.skip(seen).map(|part| Ok::<Bytes, ApiError>(transcript.render(part))).collect();
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/event-stream")).streaming(stream::iter(events)))
}

/// Forgets a response.
pub(crate) async fn delete(id: web::Path<String>, engine: web::Data<EngineState>) -> Result<HttpResponse, ApiError> {
    engine.responses.remove(&id)?;
    Ok(as_json(json!({"id": *id, "object": "response.deleted", "deleted": true}).to_string()))
}

/// Ends a response in the background.
pub(crate) async fn cancel(id: web::Path<String>, engine: web::Data<EngineState>) -> Result<HttpResponse, ApiError> {
    let cancelled = engine.responses.with(&id, |stored| {
        stored.complete?;
        stored.cancelled |= stored.status() == "queued";
        Some(stored.render())
    })?;
    cancelled.map(as_json).ok_or(ApiError::Synchronous)
}

/// Answers with what a response is about.
pub(crate) async fn input_items(
    id: web::Path<String>,
    engine: web::Data<EngineState>,
) -> Result<HttpResponse, ApiError> {
    let input = engine.responses.with(&id, |stored| stored.input.clone())?;
    let data = if input.is_array() { input } else { json!([{"type": "message", "role": "user", "content": input}]) };
    Ok(as_json(json!({"object": "list", "data": data, "has_more": false}).to_string()))
}

fn as_json(body: String) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body)
}
