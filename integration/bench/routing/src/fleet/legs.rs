//! Requests whose prompt one engine computes and another one answers.

use std::time::Duration;

use kthena_router::scheduling::ledger::Entry;

use super::{Run, What, observe};
use crate::engine::Prompt;

/// Seconds from the end of a prefill to the decode request at its engine: two passes of a network and of a router.
const SECOND_LEG: f64 = 0.002;

/// Tokens whose KV cache is transferred in a second: 13 GB/s for a model with 128 KiB for each.
pub const TRANSFER: f64 = 100_000.0;

/// The engine that computes a prompt for another one.
pub(super) struct Prefill {
    pub(super) engine: usize,
    pub(super) entry: Entry,
}

impl Run<'_> {
    /// Returns whether an engine works on a request for another one.
    pub(super) fn computes_for_another(&self, engine: usize, id: usize) -> bool {
        self.flights[id].prefill.as_ref().is_some_and(|prefill| prefill.engine == engine)
    }

    /// Notes the one token of a prefill.
    pub(super) fn prefilled(&mut self, now: f64, id: usize, cached: u32) {
        let flight = &mut self.flights[id];
        flight.outcome.cached = cached;
        let Some(Prefill { engine, entry }) = &flight.prefill else { return };
        let waited = now - flight.sent;
        self.known[flight.replica][*engine].ledger.begin(entry, Duration::from_secs_f64(waited), true);
        observe(&mut self.latencies[*engine].0, waited, 1);
    }

    /// Sends a computed prompt to the engine that answers.
    pub(super) fn hand_over(&mut self, now: f64, id: usize) {
        let flight = &mut self.flights[id];
        let Some(Prefill { engine, .. }) = flight.prefill.take() else { return };
        self.known[flight.replica][engine].in_flight -= 1;
        let transfer = f64::from(flight.outcome.tokens) / TRANSFER;
        self.at(now + SECOND_LEG + transfer, What::Transferred(id));
    }

    /// Has the engine answer whose prompt has come.
    pub(super) fn decode(&mut self, now: f64, id: usize) {
        let flight = &mut self.flights[id];
        flight.sent = now;
        let engine = flight.outcome.engine;
        let prompt = &self.workload.sessions[flight.session][flight.turn].prompt;
        let prompt = Prompt { given: prompt.tokens, ..prompt.clone() };
        self.accept(now, engine, id, prompt);
    }
}
