//! What engines show, once a second.

use std::sync::Arc;

use kthena_router::inference::adapters::Adapters;
use kthena_router::inference::exposition::EndpointMetrics;
use kthena_router::scheduling::homes::Surveyed;

use super::{Known, Run, What};
use crate::engine::Engine;

/// How often engines are scraped.
const SCRAPE: f64 = 1.0;

impl Run<'_> {
    /// Reads what all engines show.
    pub(super) fn scrape(&mut self, now: f64) {
        let is_held = self.gates.iter().any(|gate| gate.waiting() > 0);
        for known in &mut self.known {
            for (place, known) in known.iter_mut().enumerate().filter(|(place, _)| !self.down[*place]) {
                let (waiting, running) = self.engines[place].load();
                let metrics = EndpointMetrics {
                    kv_cache_usage: Some(self.engines[place].usage()),
                    waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
                    running: u32::try_from(running).unwrap_or(u32::MAX),
                    time_to_first_token: self.latencies[place].0,
                    inter_token_latency: self.latencies[place].1,
                    cache_tokens: Some(self.workload.fleet[place].cache_tokens.into()),
                    is_asleep: false,
                };
                known.observation.slots = known.observation.slots.after(&metrics, is_held);
                known.observation.metrics = Some(metrics);
                known.observation.in_flight_at_scrape = known.in_flight;
                known.observation.adapters = adapters(&self.engines[place], self.workload.fleet[place].slots);
            }
        }
        for (known, (commons, homes)) in self.known.iter().zip(&mut self.homes) {
            let surveyed = self
                .endpoints
                .iter()
                .zip(known)
                .map(|(endpoint, Known { observation, ledger, .. })| Surveyed { endpoint, observation, ledger });
            *homes = homes.survey(commons, &surveyed.collect::<Vec<_>>());
        }
        self.let_pass(now);
        if self.open > 0 {
            self.at(now + SCRAPE, What::Scrape);
        }
    }
}

/// Returns what an engine shows of its adapters.
fn adapters(engine: &Engine, slots: usize) -> Option<Arc<Adapters>> {
    let used = engine.adapters().into_iter().map(|adapter| adapter.to_string().into()).collect();
    Some(Arc::new(Adapters { listed: None, used, slots: Some(slots) }))
}
