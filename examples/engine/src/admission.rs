//! The life of one request in the engine: it arrives, waits for a place, runs, and ends, or its client leaves before.
//!
//! Each stage is a guard. The server drops the work of a client that left, and with it the guards, so the figures are
//! true at every moment, whatever the request was doing.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use crate::{models::Model, state::EngineState};

/// A request from its arrival to the end of its answer.
#[derive(Debug)]
pub(crate) struct Visit {
    engine: Arc<EngineState>,
    /// Position among the requests of this engine, from zero.
    pub number: u64,
    arrived: Instant,
    finished: bool,
}

impl Visit {
    /// Counts a request that has just arrived.
    pub(crate) fn begin(engine: Arc<EngineState>) -> Self {
        Self { number: engine.gauges.requests.add(1), engine, arrived: Instant::now(), finished: false }
    }

    /// Ends the request on the engine's side: nobody left early.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// Waits for a place and takes it.
    pub(crate) async fn admit(&self, model: Arc<Model>, prompt_tokens: u64) -> Slot {
        let engine = Arc::clone(&self.engine);
        let Some(places) = &self.engine.places else {
            return Slot::new(engine, model, prompt_tokens, self.arrived, None);
        };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Slot::new(engine, model, prompt_tokens, self.arrived, Some(place));
        }
        let waiting = Waiting::new(&self.engine, &model);
        // The semaphore is never closed, so a place always comes.
        let place = Arc::clone(places).acquire_owned().await.ok();
        drop(waiting);
        Slot::new(engine, model, prompt_tokens, Instant::now(), place)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.finished {
            self.engine.gauges.aborted.add(1);
        }
    }
}

/// A request in the queue, or whose prompt is on its way from another engine.
pub(crate) struct Waiting<'engine> {
    engine: &'engine EngineState,
    model: &'engine Model,
}

impl<'engine> Waiting<'engine> {
    pub(crate) fn new(engine: &'engine EngineState, model: &'engine Model) -> Self {
        engine.gauges.waiting.add(1);
        model.waiting.add(1);
        Self { engine, model }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.engine.gauges.waiting.subtract(1);
        self.model.waiting.subtract(1);
    }
}

/// A running request, with its share of the KV cache.
#[derive(Debug)]
pub(crate) struct Slot {
    engine: Arc<EngineState>,
    model: Arc<Model>,
    held_tokens: u64,
    produced: u32,
    admitted: Instant,
    /// From admission to the first token.
    prompt_time: Duration,
    last_token: Instant,
    /// Declared last: the next request may only run when this one is uncounted.
    _place: Option<OwnedSemaphorePermit>,
}

impl Slot {
    fn new(
        engine: Arc<EngineState>,
        model: Arc<Model>,
        prompt_tokens: u64,
        admitted: Instant,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        engine.gauges.running.add(1);
        engine.gauges.cached_tokens.add(prompt_tokens);
        model.running.add(1);
        Self {
            prompt_time: engine.config.time_to_first_token,
            engine,
            model,
            held_tokens: prompt_tokens,
            produced: 0,
            admitted,
            last_token: admitted,
            _place: place,
        }
    }

    /// Waits until the prompt is processed and the first token is there; a prompt that is there takes one step more.
    pub(crate) async fn first_token(&mut self, visit: &Visit, is_prefilled: bool) {
        if is_prefilled {
            self.prompt_time = self.engine.config.time_per_output_token;
        }
        self.wait_for(self.prompt_time).await;
        self.last_token = Instant::now();
        let latency = self.last_token - visit.arrived;
        self.engine.gauges.time_to_first_token.observe(latency, 1);
        self.hold(1);
    }

    /// Waits for the next token.
    pub(crate) async fn next_token(&mut self) {
        let config = &self.engine.config;
        self.produced = self.produced.saturating_add(1);
        let decoding = config.time_per_output_token.saturating_mul(self.produced);
        self.wait_for(self.prompt_time.saturating_add(decoding)).await;
        let now = Instant::now();
        let latency = now - self.last_token;
        self.last_token = now;
        self.engine.gauges.inter_token_latency.observe(latency, 1);
        self.hold(1);
    }

    /// Waits for `count` further tokens of an answer that nobody reads before its end.
    pub(crate) async fn further_tokens(&mut self, count: u64) {
        if self.engine.config.time_per_output_token.is_zero() {
            let gauges = &self.engine.gauges;
            gauges.inter_token_latency.observe(Duration::ZERO, count);
            self.hold(count);
            return;
        }
        for _ in 0..count {
            self.next_token().await;
        }
    }

    /// Waits until a time after admission: measured from there, so that the lateness of timers does not add up over
    /// tokens.
    async fn wait_for(&self, since_admission: Duration) {
        if !since_admission.is_zero()
            && let Some(moment) = self.admitted.checked_add(since_admission)
        {
            sleep_until(moment).await;
        }
    }

    fn hold(&mut self, tokens: u64) {
        self.held_tokens += tokens;
        self.engine.gauges.cached_tokens.add(tokens);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let gauges = &self.engine.gauges;
        gauges.running.subtract(1);
        gauges.cached_tokens.subtract(self.held_tokens);
        self.model.running.subtract(1);
    }
}
