//! The same engines behind HTTP, at the pace of a clock that may run faster than ours.
//!
//! Each engine has a thread and an address. A step ends when its time is over; whoever wakes up late goes on as if it had
//! been in time, so that a busy machine delays answers and does not make the engine slower. How late it was is shown.
//!
//! An answer is two events, its first token and the rest: what is between them costs routers time and decides nothing.
//!
//! Engines with roles hand computed prompts over to each other ([`Transfers`]), as vLLM's `NixlConnector` or SGLang does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::rt;
use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context, Result};
use kthena_router::scheduling::endpoint::Role;
use tokio::sync::{Notify, mpsc};

use crate::engine::{BLOCK, Engine, Event, Prompt, Spec};
use transfers::Transfers;

mod chat;
mod transfers;

pub use transfers::Protocol;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 16 << 20;
/// The name of the model.
pub const MODEL: &str = "fleet";

/// The engines of a fleet that can hand prompts over to each other, and how they do.
#[derive(Clone)]
pub struct Fleet {
    /// How much faster than ours their clock runs.
    speed: f64,
    protocol: Protocol,
    transfers: Arc<Transfers>,
}

/// An engine with its clock.
struct Served {
    spec: Spec,
    role: Role,
    fleet: Fleet,
    /// What others know it by.
    name: String,
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
    /// What another engine asks for the computed prompt by.
    transfer: Option<String>,
    /// Whether the prompt came from another engine, which has counted its tokens.
    is_given: bool,
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

/// Starts an engine of a fleet at an address.
///
/// # Errors
/// An address that cannot be bound.
pub fn serve((spec, role): (Spec, Role), fleet: &Fleet, address: SocketAddr) -> Result<Server> {
    let fleet = fleet.clone();
    let app = move || {
        let served = Rc::new(Served::new((spec, role), fleet.clone(), address.to_string()));
        rt::spawn(Rc::clone(&served).run());
        let foreign = fleet.protocol.foreign_path();
        App::new()
            .app_data(Data::new(served))
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/v1/chat/completions", web::post().to(chat::complete))
            .route("/metrics", web::get().to(metrics))
            .route("/v1/models", web::get().to(models))
            .route(foreign, web::to(HttpResponse::NotFound))
            .default_service(web::to(|| async { HttpResponse::Ok().json(serde_json::json!({})) }))
    };
    let server = HttpServer::new(app).workers(1).tcp_nodelay(true).backlog(4096);
    Ok(server.bind(address).with_context(|| format!("cannot serve at {address}"))?.run())
}

impl Fleet {
    /// Makes a fleet whose clock runs so much faster than ours.
    pub fn new(speed: f64, protocol: Protocol) -> Self {
        Self { speed, protocol, transfers: Arc::default() }
    }
}

impl Served {
    fn new((spec, role): (Spec, Role), fleet: Fleet, name: String) -> Self {
        let state = State {
            engine: Engine::new(spec),
            due: None,
            asked: HashMap::new(),
            requests: 0,
            figures: Figures::default(),
        };
        Self { spec, role, fleet, name, state: RefCell::new(state), begun: Notify::new() }
    }

    fn after(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.fleet.speed)
    }

    /// Takes a request, and tells what comes of it. Another engine is given the computed prompt by the name of a transfer.
    fn accept(&self, prompt: Prompt, transfer: Option<String>, told: mpsc::UnboundedSender<Event>) {
        let mut state = self.state.borrow_mut();
        let (id, now) = (state.requests, Instant::now());
        state.requests += 1;
        let (prompt_tokens, is_given, output) = (prompt.tokens, prompt.given > 0, prompt.output);
        let asked = Asked { told, transfer, is_given, at: now, prompt_tokens, first: None, output };
        state.asked.insert(id, asked);
        if let Some(step) = state.engine.accept(id, prompt) {
            state.due = Some(now + self.after(step));
            self.begun.notify_one();
        }
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
                state.tell(event, due, &self.fleet.transfers);
            }
        }
    }
}

impl State {
    fn tell(&mut self, event: Event, now: Instant, transfers: &Transfers) {
        let (Event::First(id, _) | Event::Last(id)) = event;
        let Some(asked) = self.asked.get_mut(&id) else { return };
        let figures = &mut self.figures;
        if let Event::First(_, cached) = event {
            asked.first = Some(now);
            figures.first_token.0 += now.saturating_duration_since(asked.at).as_secs_f64();
            figures.first_token.1 += 1;
            if !asked.is_given {
                figures.asked_tokens += u64::from(asked.prompt_tokens);
                figures.cached_tokens += u64::from(cached);
            }
        }
        let is_last = matches!(event, Event::Last(_));
        if is_last && let Some(transfer) = asked.transfer.take() {
            transfers.offer(transfer);
        }
        // A client that has left is told nothing.
        drop(asked.told.send(event));
        if is_last && let Some(asked) = self.asked.remove(&id) {
            let begun = asked.first.unwrap_or(now);
            figures.inter_token.0 += now.saturating_duration_since(begun).as_secs_f64();
            figures.inter_token.1 += u64::from(asked.output - 1);
        }
    }
}

async fn models(served: Data<Rc<Served>>) -> HttpResponse {
    let model = serde_json::json!({"id": MODEL, "object": "model", "owned_by": served.fleet.protocol.engine()});
    HttpResponse::Ok().json(serde_json::json!({"object": "list", "data": [model]}))
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
