//! Chat completions, whole or as one of two legs.

use std::convert::Infallible;
use std::rc::Rc;

use actix_web::http::StatusCode;
use actix_web::rt;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures::stream;
use kthena_router::scheduling::endpoint::Role;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{MODEL, Protocol, Served};
use crate::engine::{BLOCK, Event, Prompt, answer};
use crate::fleet::{TRANSFER, prompt};
use crate::jobs::{TOKEN_BYTES, blocks, text};

/// What is read of a request.
#[derive(Deserialize)]
struct Call {
    model: String,
    messages: Vec<Message>,
    /// By both of its names, of which some routers make the newer one; some send both.
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    stream: bool,
    /// An answer that can be had again: the next turn begins with it, and the engine keeps it.
    seed: Option<u64>,
    kv_transfer_params: Option<KvTransferParams>,
    bootstrap_room: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

/// What vLLM's `NixlConnector` is told.
#[derive(Deserialize)]
struct KvTransferParams {
    #[serde(default)]
    do_remote_decode: bool,
    #[serde(default)]
    do_remote_prefill: bool,
    remote_engine_id: Option<String>,
    remote_request_id: Option<String>,
}

/// What of a request an engine does.
#[derive(Debug, PartialEq, Eq)]
enum Leg {
    /// All of it.
    Whole,
    /// It computes the prompt for this transfer.
    Prefill(String),
    /// It answers with the prompt of this transfer.
    Decode(String),
}

/// Answers a chat completion.
pub(super) async fn complete(served: Data<Rc<Served>>, body: Bytes) -> HttpResponse {
    match accept(&served, &body) {
        Ok(answer) => answer.send().await,
        Err(refusal) => HttpResponseBuilder::new(refusal.status).json(json!({"error": {"message": refusal.message}})),
    }
}

/// Why a request is not taken.
struct Refusal {
    status: StatusCode,
    message: String,
}

impl<M: Into<String>> From<M> for Refusal {
    fn from(message: M) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }
}

/// An answer that is on its way.
struct Answer {
    telling: mpsc::UnboundedReceiver<Event>,
    is_streamed: bool,
    words: String,
    usage: Value,
    kv_transfer_params: Option<Value>,
}

/// Takes a request.
///
/// # Errors
/// What is wrong with it.
fn accept(served: &Rc<Served>, body: &[u8]) -> Result<Answer, Refusal> {
    let fleet = &served.plan.fleet;
    let call: Call = serde_json::from_slice(body).map_err(|error| format!("the body cannot be read: {error}"))?;
    let unknown = |message| Refusal { status: StatusCode::NOT_FOUND, message };
    let adapter = fleet.adapter(&call.model).map_err(unknown)?;
    let output = call.max_tokens.or(call.max_completion_tokens).ok_or("no max_tokens")?;
    let leg = call.leg(served)?;
    let words: String = call.messages.into_iter().map(|message| message.content).collect();
    let blocks = blocks(&words).ok_or("the prompt is not made of blocks")?;
    let tokens = u32::try_from(words.len() / TOKEN_BYTES).unwrap_or(u32::MAX);
    let rest = tokens - u32::try_from(blocks.len()).unwrap_or(u32::MAX) * BLOCK;
    let (output, kept) = match (&leg, call.seed) {
        (Leg::Prefill(_), _) => (1, Vec::new()),
        (_, None) => (output, Vec::new()),
        (_, Some(_)) => (output, answer(blocks.last().copied(), output)),
    };
    let words = text(&kept);
    let prompt = Prompt { adapter, ..prompt(blocks, rest, output, kept) };
    let kv_transfer_params = match &leg {
        Leg::Prefill(transfer) if fleet.protocol == Protocol::Nixl => Some(handed_over(&served.name, transfer, tokens)),
        _ => None,
    };
    fleet.begin();
    let (told, telling) = mpsc::unbounded_channel();
    match leg {
        Leg::Whole => served.accept(prompt, None, told),
        Leg::Prefill(transfer) => served.accept(prompt, Some(transfer), told),
        Leg::Decode(transfer) => drop(rt::spawn(receive(Rc::clone(served), transfer, prompt, told))),
    }
    let usage = json!({"prompt_tokens": tokens, "completion_tokens": output, "total_tokens": tokens + output});
    Ok(Answer { telling, is_streamed: call.stream, words, usage, kv_transfer_params })
}

/// Takes a request whose prompt another engine computes, when it has come.
async fn receive(served: Rc<Served>, transfer: String, prompt: Prompt, told: mpsc::UnboundedSender<Event>) {
    let fleet = &served.plan.fleet;
    fleet.transfers.take(&transfer).await;
    rt::time::sleep(fleet.after(f64::from(prompt.tokens) / TRANSFER)).await;
    let given = prompt.tokens;
    served.accept(Prompt { given, ..prompt }, None, told);
}

/// Returns what vLLM's prefill engine answers.
fn handed_over(engine: &str, transfer: &str, tokens: u32) -> Value {
    let (host, _) = engine.rsplit_once(':').unwrap_or((engine, ""));
    json!({
        "do_remote_prefill": true, "do_remote_decode": false, "remote_engine_id": engine, "remote_request_id": transfer,
        "remote_block_ids": (0..tokens.div_ceil(BLOCK)).collect::<Vec<_>>(), "remote_host": host, "remote_port": 5600,
        "tp_size": 1,
    })
}

impl Call {
    /// Returns what of the request an engine does.
    fn leg(&self, served: &Served) -> Result<Leg, String> {
        let fleet = &served.plan.fleet;
        match (fleet.protocol, &self.kv_transfer_params) {
            (Protocol::Nixl, Some(KvTransferParams { do_remote_decode: true, .. })) => {
                Ok(Leg::Prefill(format!("{}/{}", served.name, served.state.borrow().requests)))
            }
            (Protocol::Nixl, Some(params @ KvTransferParams { do_remote_prefill: true, .. })) => {
                let named = params.remote_request_id.as_ref().filter(|_| params.remote_engine_id.is_some());
                let transfer = named.filter(|transfer| fleet.transfers.has(transfer));
                transfer
                    .cloned()
                    .map(Leg::Decode)
                    .ok_or_else(|| "kv_transfer_params name nothing that was computed".to_owned())
            }
            (Protocol::Nixl, _) => Ok(Leg::Whole),
            (Protocol::Sglang, _) => match (served.plan.role, self.bootstrap_room) {
                (Role::Whole, _) => Ok(Leg::Whole),
                (_, None) => Err("an engine with a role needs a bootstrap_room".to_owned()),
                (Role::Prefill, Some(room)) => Ok(Leg::Prefill(room.to_string())),
                (Role::Decode, Some(room)) => Ok(Leg::Decode(room.to_string())),
            },
        }
    }
}

impl Answer {
    async fn send(self) -> HttpResponse {
        let Self { mut telling, is_streamed, words, usage, kv_transfer_params } = self;
        if !is_streamed {
            while let Some(Event::First(..)) = telling.recv().await {}
            let choice =
                json!({"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "length"});
            return HttpResponse::Ok().json(json!({
                "id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice],
                "usage": usage, "kv_transfer_params": kv_transfer_params,
            }));
        }
        let events = stream::unfold((telling, words, usage), async |(mut telling, words, usage)| {
            let chunk = match telling.recv().await? {
                Event::First(..) => chunk("", None),
                Event::Last(_) => chunk(&words, Some(&usage)) + "data: [DONE]\n\n",
            };
            Some((Ok::<_, Infallible>(Bytes::from(chunk)), (telling, words, usage)))
        });
        HttpResponse::Ok().content_type("text/event-stream").streaming(events)
    }
}

fn chunk(content: &str, usage: Option<&Value>) -> String {
    let finish = usage.map(|_| "stop");
    let delta = json!({"role": "assistant", "content": content});
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let body = json!({
        "id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice], "usage": usage,
    });
    format!("data: {body}\n\n")
}
