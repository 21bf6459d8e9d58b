//! What engines show, once a second.

use std::time::Duration;

use kthena_router::inference::adapters::Adapters;
use kthena_router::inference::exposition::EndpointMetrics;
use kthena_router::scheduling::homes::Surveyed;

use super::{Known, Run, What};
use crate::engine::Engine;

/// How often engines are scraped.
pub(super) const SCRAPE: f64 = 1.0;

impl Run<'_> {
    /// Has a replica read what all engines show.
    pub(super) fn scrape(&mut self, now: f64, replica: usize) {
        let is_held = self.gates.iter().any(|gate| gate.waiting() > 0);
        let moment = self.epoch + Duration::from_secs_f64(now);
        for (place, known) in self.known[replica].iter_mut().enumerate().filter(|(place, _)| !self.down[*place]) {
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
            let adapters = adapters(&self.engines[place], self.workload.fleet[place].slots);
            known.observation.absorb(metrics, Some(adapters), (known.in_flight, is_held), moment);
        }
        let (commons, homes) = &mut self.homes[replica];
        let surveyed = self.endpoints.iter().zip(&self.known[replica]);
        let surveyed =
            surveyed.map(|(endpoint, Known { observation, ledger, .. })| Surveyed { endpoint, observation, ledger });
        *homes = homes.survey(commons, &surveyed.collect::<Vec<_>>());
        self.let_pass(now);
        if self.open > 0 {
            self.at(now + SCRAPE, What::Scrape(replica));
        }
    }
}

/// Returns what an engine shows of its adapters.
fn adapters(engine: &Engine, slots: usize) -> Adapters {
    let used = engine.adapters().into_iter().map(|adapter| adapter.to_string().into()).collect();
    Adapters { listed: None, used, slots: Some(slots) }
}
