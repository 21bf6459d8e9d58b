//! Requests that wait in the router: its own queue and its own notion of room, with virtual time around them.

use std::time::Duration;

use kthena_router::flow::identity::FlowId;
use kthena_router::flow::queue::{Asked, FlowQueue, Rank, Served};
use kthena_router::flow::room::{Asker, Room, Seen};
use kthena_router::flow::settings::Settings;
use kthena_router::scheduling::work;

use super::{Known, Run, facts_of};
use crate::workloads::Owner;

/// Tokens that an answer is taken for.
const ANSWER_TOKENS: u64 = 128;

/// A request that has arrived.
#[derive(Clone, Copy)]
pub(super) struct Arrived {
    pub(super) session: usize,
    pub(super) turn: usize,
    pub(super) at: f64,
}

/// Where the requests of one replica wait.
pub(super) struct Gate {
    settings: Settings,
    queue: FlowQueue<Arrived>,
}

impl Gate {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, queue: FlowQueue::default() }
    }

    /// Settles what a request has used.
    pub(super) fn settle(&mut self, served: Served, prompt: u32, output: u32) {
        self.queue.settle(served, self.settings.weights.service(prompt.into(), output.into()));
    }

    /// Returns how many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Returns how many requests may pass now.
    fn turns(&self, known: &[Known], down: &[bool]) -> Room {
        let there = known.iter().zip(down).filter(|(_, is_down)| !**is_down).map(|(known, _)| known);
        let seen = |known: &Known| {
            let limit = self.settings.per_endpoint.or_else(|| known.observation.slots.limit())?;
            Some(Seen { limit, load: known.in_flight, busy: known.ledger.busy() })
        };
        let seen = there.map(seen).collect::<Option<Vec<_>>>();
        seen.map_or(Room::UNBOUNDED, |seen| Room::of(seen, self.settings.kept_percent))
    }
}

impl Run<'_> {
    /// Has a request that arrives go, or wait where there is no room for it.
    pub(super) fn arrive(&mut self, now: f64, arrived: Arrived) {
        let replica = self.replica();
        let Some(gate) = self.gates.get_mut(replica) else { return self.send(now, replica, arrived, None) };
        if gate.queue.waiting() == 0 && gate.turns(&self.known[replica], &self.down).left(Asker::Long) > 0 {
            return self.send(now, replica, arrived, None);
        }
        let Owner { flow, priority } = self.workload.owners.get(arrived.session).copied().unwrap_or_default();
        let facts = facts_of(&self.workload.sessions[arrived.session][arrived.turn].prompt);
        let seen = self.known[replica].iter().zip(&self.workload.fleet).map(|(Known { ledger, .. }, spec)| {
            (ledger.cached(&facts.prefix, Some(spec.cache_tokens.into())), ledger.pace())
        });
        let (work, arrived_at) = (work::of_prompt(facts.tokens, seen), Duration::from_secs_f64(now));
        let cost = gate.settings.weights.service(facts.tokens.into(), ANSWER_TOKENS);
        let rank = Rank { priority, boosted: false };
        let asked = Asked { rank, flow: FlowId(flow), cost, bytes: 0, arrived: arrived_at, work };
        let pushed = gate.queue.push(asked, &gate.settings, arrived);
        assert!(pushed.place.is_some() && pushed.driven_out.is_empty(), "the queue has room for a whole workload");
        self.let_pass(now);
    }

    /// Lets those go for whom there is room.
    pub(super) fn let_pass(&mut self, now: f64) {
        for replica in 0..self.gates.len() {
            while self.gates[replica].queue.waiting() > 0 {
                let gate = &mut self.gates[replica];
                let turns = gate.turns(&self.known[replica], &self.down);
                let Some((served, arrived)) = gate.queue.pop_within(turns, &gate.settings) else { break };
                self.send(now, replica, arrived, Some(served));
            }
        }
    }
}
