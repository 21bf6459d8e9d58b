//! The same engines behind HTTP, at the pace of a clock that may run faster than ours.
//!
//! Each engine has a thread and an address. A step ends when its time is over; whoever wakes up late goes on as if it had
//! been in time, so that a busy machine delays answers and does not make the engine slower. How late it was is shown.
//!
//! An answer is two events, its first token and the rest: what is between them costs routers time and decides nothing.
//!
//! Engines with roles hand computed prompts over to each other (`transfers`), as vLLM's `NixlConnector` or SGLang does.
//!
//! An engine that is not there refuses connections, and whatever it worked on breaks off; it comes back with an empty cache.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix_web::dev::Server;
use actix_web::rt;
use actix_web::rt::time::sleep_until;
use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::{Context, Result};
use tokio::sync::{Notify, mpsc};

use crate::engine::{BLOCK, Engine, Event, Prompt};

mod chat;
mod plan;
mod transfers;

pub use plan::{Plan, plans};
pub use transfers::Protocol;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 16 << 20;
/// The name of the model.
pub const MODEL: &str = "fleet";

/// An engine with its clock.
struct Served {
    plan: Plan,
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
    /// Seconds that steps ended late, by our clock, and how many they were.
    late: (f64, u64),
}

/// Serves as an engine, whenever it is there.
///
/// # Errors
/// An address that cannot be bound, or a server that ends.
pub async fn serve(plan: Plan) -> Result<()> {
    let fleet = &plan.fleet;
    for outage in &plan.outages {
        let server = start(&plan)?;
        let handle = server.handle();
        let running = rt::spawn(server);
        let mut beginning = fleet.began.subscribe();
        let began = (*beginning.wait_for(Option::is_some).await?).context("no request came")?;
        sleep_until((began + fleet.after(outage.from)).into()).await;
        handle.stop(false).await;
        running.await??;
        sleep_until((began + fleet.after(outage.until)).into()).await;
    }
    Ok(start(&plan)?.await?)
}

fn start(plan: &Plan) -> Result<Server> {
    let address = plan.address;
    let plan = plan.clone();
    let app = move || {
        let served = Rc::new(Served::new(plan.clone()));
        rt::spawn(Rc::clone(&served).run());
        let foreign = plan.fleet.protocol.foreign_path();
        App::new()
            .app_data(Data::new(served))
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/v1/chat/completions", web::post().to(chat::complete))
            .route("/metrics", web::get().to(metrics))
            .route("/v1/models", web::get().to(models))
            .route(foreign, web::to(HttpResponse::NotFound))
            .default_service(web::to(|| async { HttpResponse::Ok().json(serde_json::json!({})) }))
    };
    let server = HttpServer::new(app).workers(1).tcp_nodelay(true).backlog(4096).disable_signals();
    Ok(server.bind(address).with_context(|| format!("cannot serve at {address}"))?.run())
}

impl Served {
    fn new(plan: Plan) -> Self {
        let state = State {
            engine: Engine::new(plan.spec),
            due: None,
            asked: HashMap::new(),
            requests: 0,
            figures: Figures::default(),
        };
        let name = plan.address.to_string();
        Self { plan, name, state: RefCell::new(state), begun: Notify::new() }
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
            state.due = Some(now + self.plan.fleet.after(step));
            self.begun.notify_one();
        }
    }

    /// Ends steps when their time is over.
    async fn run(self: Rc<Self>) {
        loop {
            let due = self.state.borrow().due;
            match due {
                Some(due) => sleep_until(due.into()).await,
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
            state.due = state.engine.end(&mut events).map(|step| due + self.plan.fleet.after(step));
            for event in events {
                state.tell(event, due, &self.plan);
            }
        }
    }
}

impl State {
    fn tell(&mut self, event: Event, now: Instant, plan: &Plan) {
        let (Event::First(id, _) | Event::Last(id)) = event;
        let Some(asked) = self.asked.get_mut(&id) else { return };
        let figures = &mut self.figures;
        if let Event::First(_, cached) = event {
            asked.first = Some(now);
            figures.first_token.0 += now.saturating_duration_since(asked.at).as_secs_f64();
            figures.first_token.1 += 1;
            if !asked.is_given {
                plan.tokens.asked.fetch_add(asked.prompt_tokens.into(), Ordering::Relaxed);
                plan.tokens.cached.fetch_add(cached.into(), Ordering::Relaxed);
            }
        }
        let is_last = matches!(event, Event::Last(_));
        if is_last && let Some(transfer) = asked.transfer.take() {
            plan.fleet.transfers.offer(transfer);
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
    let fleet = &served.plan.fleet;
    let owner = fleet.protocol.engine();
    let model = |id: String| serde_json::json!({"id": id, "object": "model", "owned_by": owner});
    let data: Vec<_> = fleet.models().map(model).collect();
    HttpResponse::Ok().json(serde_json::json!({"object": "list", "data": data}))
}

/// Shows an engine's figures by the names of vLLM, and how late its steps were. Tokens of prompts are counted over all of its
/// lives, so that a run's can be read at its end.
async fn metrics(served: Data<Rc<Served>>) -> HttpResponse {
    let state = served.state.borrow();
    let (waiting, running) = state.engine.load();
    let (usage, figures) = (state.engine.usage(), &state.figures);
    let (plan, tokens) = (&served.plan, &served.plan.tokens);
    let room = plan.spec.cache_tokens / BLOCK;
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
         late_seconds_count {steps}\n{}",
        tokens.asked.load(Ordering::Relaxed),
        tokens.cached.load(Ordering::Relaxed),
        plan.adapters_line(&state.engine.adapters()),
    );
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(page)
}
