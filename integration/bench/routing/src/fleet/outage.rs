//! Engines that go and come back with empty caches.

use kthena_router::scheduling::ledger::Ledger;

use super::gate::Arrived;
use super::{Run, What};
use crate::engine::Engine;

/// A time in which an engine is not there.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// The engine.
    pub engine: usize,
    /// When it goes, with all that it works on.
    pub from: f64,
    /// When it comes back.
    pub until: f64,
}

impl Run<'_> {
    pub(super) fn plan_outages(&mut self) {
        for Outage { engine, from, until } in self.workload.outages.clone() {
            self.at(from, What::Down(engine));
            self.at(until, What::Up(engine));
        }
    }

    /// Takes an engine away. Routers see that at once, because connections break, and send again what it worked on.
    pub(super) fn take_down(&mut self, now: f64, engine: usize) {
        self.down[engine] = true;
        self.lives[engine] += 1;
        self.engines[engine] = Engine::new(self.workload.fleet[engine]);
        let is_lost = |id: &usize| {
            let flight = &self.flights[*id];
            flight.outcome.engine == engine && flight.outcome.last == 0.0 && !flight.is_lost
        };
        let lost: Vec<_> = (0..self.flights.len()).filter(is_lost).collect();
        for id in &lost {
            let flight = &mut self.flights[*id];
            flight.is_lost = true;
            self.known[flight.replica][engine].in_flight -= 1;
        }
        // What starts anew in its place is another endpoint.
        for known in &mut self.known {
            known[engine].ledger = Ledger::default();
            known[engine].observation.forget();
        }
        for id in lost {
            let flight = &self.flights[id];
            let again = Arrived { session: flight.session, turn: flight.turn, at: flight.outcome.arrived };
            self.send(now, self.replica(), again, None);
        }
    }
}
