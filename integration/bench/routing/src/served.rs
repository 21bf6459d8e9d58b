//! The same engines behind HTTP, at the pace of a clock that may run faster than ours.
//!
//! Each engine has a thread and an address. A step ends when its time is over; whoever wakes up late goes on as if it had
//! been in time, so that a busy machine delays answers and does not make the engine slower. How late it was is shown.
//!
//! An answer is two events, its first token and the rest: what is between them costs routers time and decides nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::rt;
use actix_web::web::{self, Bytes, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context, Result};
use futures::stream;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};

use crate::engine::{BLOCK, Engine, Event, Prompt, Spec, answer};
use crate::fleet::prompt;
use crate::jobs::{TOKEN_BYTES, blocks, text};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 16 << 20;
/// The name of the model.
pub const MODEL: &str = "fleet";

/// An engine with its clock.
struct Served {
    spec: Spec,
    /// How much faster than ours its clock runs.
    speed: f64,
    state: RefCell<State>,
    /// A step has begun.
    begun: Notify,
}

struct State {
    engine: Engine,
    /// When the step that is under way ends.
    due: Option<Instant>,
    /// Who is told of which request.
    asked: HashMap<usize, Asked>,
    requests: usize,
    figures: Figures,
}

struct Asked {
    told: mpsc::UnboundedSender<Event>,
    at: Instant,
    prompt_tokens: u32,
    first: Option<Instant>,
    output: u32,
}

#[derive(Default)]
struct Figures {
    first_token: (f64, u64),
    inter_token: (f64, u64),
    asked_tokens: u64,
    cached_tokens: u64,
    /// Seconds that steps ended late, by our clock, and how many they were.
    late: (f64, u64),
}

/// What is read of a request.
#[derive(Deserialize)]
struct Call {
    messages: Vec<Message>,
    /// By both of its names, of which some routers make the newer one.
    #[serde(alias = "max_completion_tokens")]
    max_tokens: u32,
    #[serde(default)]
    stream: bool,
    /// An answer that can be had again: the next turn begins with it, and the engine keeps it.
    seed: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

/// Starts an engine at an address.
///
/// # Errors
/// An address that cannot be bound.
pub fn serve(spec: Spec, speed: f64, address: SocketAddr) -> Result<Server> {
    let app = move || {
        let served = Rc::new(Served::new(spec, speed));
        rt::spawn(Rc::clone(&served).run());
        App::new()
            .app_data(Data::new(served))
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/v1/chat/completions", web::post().to(complete))
            .route("/metrics", web::get().to(metrics))
            .route("/v1/models", web::get().to(models))
            .default_service(web::to(|| async { HttpResponse::Ok().json(serde_json::json!({})) }))
    };
    let server = HttpServer::new(app).workers(1).tcp_nodelay(true).backlog(4096);
    Ok(server.bind(address).with_context(|| format!("cannot serve at {address}"))?.run())
}

impl Served {
    fn new(spec: Spec, speed: f64) -> Self {
        let state = State {
            engine: Engine::new(spec),
            due: None,
            asked: HashMap::new(),
            requests: 0,
            figures: Figures::default(),
        };
        Self { spec, speed, state: RefCell::new(state), begun: Notify::new() }
    }

    fn after(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.speed)
    }

    /// Takes a request, and returns who tells of it.
    fn accept(&self, prompt: Prompt) -> mpsc::UnboundedReceiver<Event> {
        let (told, telling) = mpsc::unbounded_channel();
        let mut state = self.state.borrow_mut();
        let (id, now) = (state.requests, Instant::now());
        state.requests += 1;
        let asked = Asked { told, at: now, prompt_tokens: prompt.tokens, first: None, output: prompt.output };
        state.asked.insert(id, asked);
        if let Some(step) = state.engine.accept(id, prompt) {
            state.due = Some(now + self.after(step));
            self.begun.notify_one();
        }
        telling
    }

    /// Ends steps when their time is over.
    async fn run(self: Rc<Self>) {
        loop {
            let due = self.state.borrow().due;
            match due {
                Some(due) => rt::time::sleep_until(due.into()).await,
                None => self.begun.notified().await,
            }
            self.advance(Instant::now());
        }
    }

    fn advance(&self, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        while let Some(due) = state.due.filter(|due| *due <= now) {
            state.figures.late.0 += (now - due).as_secs_f64();
            state.figures.late.1 += 1;
            let mut events = Vec::new();
            state.due = state.engine.end(&mut events).map(|step| due + self.after(step));
            for event in events {
                state.tell(event, due);
            }
        }
    }
}

impl State {
    fn tell(&mut self, event: Event, now: Instant) {
        let (Event::First(id, _) | Event::Last(id)) = event;
        let Some(asked) = self.asked.get_mut(&id) else { return };
        let figures = &mut self.figures;
        if let Event::First(_, cached) = event {
            asked.first = Some(now);
            figures.first_token.0 += now.saturating_duration_since(asked.at).as_secs_f64();
            figures.first_token.1 += 1;
            figures.asked_tokens += u64::from(asked.prompt_tokens);
            figures.cached_tokens += u64::from(cached);
        }
        let is_last = matches!(event, Event::Last(_));
        // A client that has left is told nothing.
        drop(asked.told.send(event));
        if is_last && let Some(asked) = self.asked.remove(&id) {
            let begun = asked.first.unwrap_or(now);
            figures.inter_token.0 += now.saturating_duration_since(begun).as_secs_f64();
            figures.inter_token.1 += u64::from(asked.output - 1);
        }
    }
}

/// Answers a streamed chat completion.
async fn complete(served: Data<Rc<Served>>, body: Bytes) -> HttpResponse {
    let refuse = |message: String| HttpResponse::BadRequest().json(serde_json::json!({"error": {"message": message}}));
    let call: Call = match serde_json::from_slice(&body) {
        Ok(call) => call,
        Err(error) => return refuse(format!("the body cannot be read: {error}")),
    };
    if !call.stream {
        return refuse("only streamed answers are simulated".to_owned());
    }
    let words: String = call.messages.into_iter().map(|message| message.content).collect();
    let Some(blocks) = blocks(&words) else { return refuse("the prompt is not made of blocks".to_owned()) };
    let tokens = u32::try_from(words.len() / TOKEN_BYTES).unwrap_or(u32::MAX);
    let rest = tokens - u32::try_from(blocks.len()).unwrap_or(u32::MAX) * BLOCK;
    let answer = call.seed.map_or_else(Vec::new, |_| answer(blocks.last().copied(), call.max_tokens));
    let words = text(&answer);
    let telling = served.accept(prompt(blocks, rest, call.max_tokens, answer));
    let events = stream::unfold((telling, words), move |(mut telling, words)| async move {
        let event = telling.recv().await?;
        let chunk = match event {
            Event::First(_, _) => chunk("", None),
            Event::Last(_) => {
                let usage = serde_json::json!({"prompt_tokens": tokens, "completion_tokens": call.max_tokens, "total_tokens": tokens + call.max_tokens});
                chunk(&words, Some(&usage)) + "data: [DONE]\n\n"
            }
        };
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), (telling, words)))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(events)
}

fn chunk(content: &str, usage: Option<&serde_json::Value>) -> String {
    let finish = usage.map(|_| "stop");
    let delta = serde_json::json!({"role": "assistant", "content": content});
    let choice = serde_json::json!({"index": 0, "delta": delta, "finish_reason": finish});
    let body = serde_json::json!({
        "id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice], "usage": usage,
    });
    format!("data: {body}\n\n")
}

async fn models() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
}

/// Shows an engine's figures by the names of vLLM, and how late its steps were.
async fn metrics(served: Data<Rc<Served>>) -> HttpResponse {
    let state = served.state.borrow();
    let (waiting, running) = state.engine.load();
    let (usage, figures) = (state.engine.usage(), &state.figures);
    let room = served.spec.cache_tokens / BLOCK;
    let ((first, firsts), (inter, inters), (late, steps)) = (figures.first_token, figures.inter_token, figures.late);
    let page = format!(
        "vllm:num_requests_running {running}\n\
         vllm:num_requests_waiting {waiting}\n\
         vllm:kv_cache_usage_perc {usage}\n\
         vllm:cache_config_info{{block_size=\"{BLOCK}\",num_gpu_blocks=\"{room}\"}} 1\n\
         vllm:time_to_first_token_seconds_sum {first}\n\
         vllm:time_to_first_token_seconds_count {firsts}\n\
         vllm:inter_token_latency_seconds_sum {inter}\n\
         vllm:inter_token_latency_seconds_count {inters}\n\
         vllm:prefix_cache_queries_total {}\n\
         vllm:prefix_cache_hits_total {}\n\
         late_seconds_sum {late}\n\
         late_seconds_count {steps}\n",
        figures.asked_tokens, figures.cached_tokens,
    );
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(page)
}
