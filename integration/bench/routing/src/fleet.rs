//! A fleet of engines, the router in front of it, and its clients, in virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use kthena_router::flow::queue::Served;
use kthena_router::inference::exposition::HistogramTotals;
use kthena_router::inference::prompt::BlockHash;
use kthena_router::object::ObjectKey;
use kthena_router::scheduling::commons::Commons;
use kthena_router::scheduling::endpoint::{Candidate, Endpoint, Observation, PoolFacts};
use kthena_router::scheduling::homes::Homes;
use kthena_router::scheduling::ledger::{Entry, Ledger};
use kthena_router::scheduling::picker::Legs;
use kthena_router::scheduling::request::{RequestFacts, Split};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::engine::{Engine, Event, Prompt, Spec};
use crate::policies::Policy;
use crate::workloads::{Arrival, Workload};
use gate::{Arrived, Gate};
use legs::Prefill;
use scrapes::SCRAPE;

pub use legs::TRANSFER;

mod gate;
mod legs;
pub mod outage;
mod scrapes;

/// What came of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The session that it is of.
    pub session: usize,
    /// When it arrived.
    pub arrived: f64,
    /// When its first token came.
    pub first: f64,
    /// When its last token came.
    pub last: f64,
    /// The engine.
    pub engine: usize,
    /// Tokens of its prompt.
    pub tokens: u32,
    /// Those that were in the cache.
    pub cached: u32,
    /// Those that the router thought so.
    pub predicted: u32,
    /// Tokens of its answer.
    pub output: u32,
}

/// What one replica of the router knows of one engine.
struct Known {
    ledger: Ledger,
    in_flight: u32,
    observation: Observation,
}

/// A request on its way.
struct Flight {
    session: usize,
    turn: usize,
    replica: usize,
    facts: RequestFacts,
    /// What the endpoint that answers has to compute of the prompt; `None` if another one does.
    entry: Option<Entry>,
    /// Its turn, if it went through the router's queue.
    served: Option<Served>,
    /// The engine that computes the prompt for another one, until it has.
    prefill: Option<Prefill>,
    outcome: Outcome,
    /// When it was sent to the engine; later than it arrived if an engine went before.
    sent: f64,
    /// Whether its engine went before the answer had ended: it was sent again.
    is_lost: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    /// A turn of a session begins.
    Turn(usize, usize),
    /// A step of an engine ends, in this one of its lives.
    Step(usize, u32),
    /// A computed prompt has come to the engine that answers.
    Transferred(usize),
    /// An engine goes.
    Down(usize),
    /// It comes back.
    Up(usize),
    /// A replica scrapes all engines.
    Scrape(usize),
}

#[derive(PartialEq)]
struct When(f64, u64, What);

/// A running simulation.
struct Run<'w> {
    workload: &'w Workload,
    engines: Vec<Engine>,
    endpoints: Vec<Endpoint>,
    /// By replica, then by engine.
    known: Vec<Vec<Known>>,
    /// By replica.
    homes: Vec<(Commons, Homes)>,
    policies: Vec<Box<dyn Policy>>,
    /// By replica, if requests wait in the router.
    gates: Vec<Gate>,
    flights: Vec<Flight>,
    events: BinaryHeap<Reverse<When>>,
    order: u64,
    queued: VecDeque<usize>,
    open: usize,
    rng: SmallRng,
    epoch: Instant,
    /// Sums of times to the first token and between tokens, by engine.
    latencies: Vec<(HistogramTotals, HistogramTotals)>,
    /// Engines that are not there.
    down: Vec<bool>,
    /// How often each engine was started.
    lives: Vec<u32>,
}

/// Runs a workload through replicas of a router, one for each of the policies; returns what came of each request.
pub fn run(
    workload: &Workload,
    specs: &[Spec],
    policies: Vec<Box<dyn Policy>>,
    seed: u64,
    epoch: Instant,
) -> Vec<Outcome> {
    let endpoint = |place: usize| {
        let number = u16::try_from(place).unwrap_or(u16::MAX);
        let name = ObjectKey::new("fleet", format!("engine-{place}"));
        let role = workload.roles.get(place).copied().unwrap_or_default();
        Endpoint { role, ..Endpoint::new(name, IpAddr::V4(Ipv4Addr::LOCALHOST), number) }
    };
    let replicas = u32::try_from(policies.len()).unwrap_or(u32::MAX);
    let known = || Known { ledger: Ledger::default(), in_flight: 0, observation: Observation::default() };
    let mut run = Run {
        workload,
        engines: specs.iter().map(|spec| Engine::new(*spec)).collect(),
        endpoints: (0..specs.len()).map(endpoint).collect(),
        known: policies.iter().map(|_| specs.iter().map(|_| known()).collect()).collect(),
        homes: policies.iter().map(|_| (Commons::default(), Homes::among(replicas))).collect(),
        gates: policies.iter().filter_map(|_| workload.queue.map(Gate::new)).collect(),
        policies,
        flights: Vec::new(),
        events: BinaryHeap::new(),
        order: 0,
        queued: VecDeque::new(),
        open: workload.sessions.len(),
        rng: SmallRng::seed_from_u64(seed),
        epoch,
        latencies: vec![Default::default(); specs.len()],
        down: vec![false; specs.len()],
        lives: vec![0; specs.len()],
    };
    run.start();
    while let Some(Reverse(When(now, _, what))) = run.events.pop() {
        match what {
            What::Turn(session, turn) => run.arrive(now, Arrived { session, turn, at: now }),
            What::Step(engine, life) if life == run.lives[engine] => run.step(now, engine),
            What::Step(..) => {}
            What::Transferred(id) => run.decode(now, id),
            What::Down(engine) => run.take_down(now, engine),
            What::Up(engine) => run.down[engine] = false,
            What::Scrape(replica) => run.scrape(now, replica),
        }
    }
    run.flights.into_iter().filter(|flight| !flight.is_lost).map(|flight| flight.outcome).collect()
}

/// Returns what a router knows of a request.
fn facts_of(prompt: &Prompt) -> RequestFacts {
    RequestFacts {
        prefix: prompt.blocks.iter().map(|block| BlockHash(*block)).collect(),
        tokens: prompt.tokens,
        adapter: prompt.adapter.map(|adapter| adapter.to_string().into()),
        split: Split::Allowed { alone: true, anywhere: true },
        streams: true,
        ..RequestFacts::default()
    }
}

impl Run<'_> {
    fn start(&mut self) {
        match &self.workload.arrival {
            Arrival::Open(times) => {
                for (session, time) in times.iter().enumerate() {
                    self.at(*time, What::Turn(session, 0));
                }
            }
            Arrival::Closed(clients) => {
                self.queued = (0..self.workload.sessions.len()).collect();
                for _ in 0..*clients {
                    self.next_session(0.0);
                }
            }
        }
        self.plan_outages();
        // Replicas scrape one after the other, as those do that started at different times.
        let replicas = self.policies.len();
        for replica in 0..replicas {
            self.at(SCRAPE * replica as f64 / replicas as f64, What::Scrape(replica));
        }
    }

    fn at(&mut self, time: f64, what: What) {
        self.order += 1;
        self.events.push(Reverse(When(time, self.order, what)));
    }

    fn next_session(&mut self, now: f64) {
        if let Some(session) = self.queued.pop_front() {
            self.at(now, What::Turn(session, 0));
        }
    }

    /// Sends a turn of a session that has waited since it arrived.
    fn send(&mut self, now: f64, replica: usize, Arrived { session, turn, at }: Arrived, served: Option<Served>) {
        let turn_of = &self.workload.sessions[session][turn];
        let facts = facts_of(&turn_of.prompt);
        let request = facts.attempt(&[]);
        let capacity = |engine: usize| Some(u64::from(self.workload.fleet[engine].cache_tokens));
        let (commons, homes) = &self.homes[replica];
        let mut candidates: Vec<_> = (self.endpoints.iter().zip(&self.known[replica]).enumerate())
            .filter(|(position, _)| !self.down[*position])
            .map(|(position, (endpoint, known))| {
                (position, endpoint, known, known.ledger.cached(request.prefix, capacity(position)))
            })
            .map(|(position, endpoint, known, cached)| Candidate {
                endpoint,
                position,
                in_flight: known.in_flight,
                elsewhere: homes.elsewhere(&known.observation, known.in_flight),
                observation: &known.observation,
                penalty: 0,
                ledger: &known.ledger,
                cached,
                counted: cached,
            })
            .collect();
        homes.presume(commons, &request, &mut candidates);
        let foreseen: Vec<_> = candidates.iter().map(|candidate| (candidate.position, candidate.cached)).collect();
        let moment = self.epoch + Duration::from_secs_f64(now);
        let pool = PoolFacts { now: moment, is_shared: homes.is_shared(), has_roles: !self.workload.roles.is_empty() };
        let legs = self.policies[replica].pick(&request, &pool, candidates, &mut self.rng);
        let predicted_at =
            |engine: usize| foreseen.iter().find(|(position, _)| *position == engine).map_or(0, |(_, cached)| *cached);
        let known = &mut self.known[replica];
        let computing = match legs {
            Legs::One(engine) | Legs::Two { prefill: engine, .. } => engine,
        };
        let predicted = predicted_at(computing);
        let entry = known[computing].ledger.open(&request, predicted, capacity(computing));
        known[computing].in_flight += 1;
        let engine = *legs.answering();
        let (entry, prefill) = if let Legs::Two { prefill, decode } = legs {
            known[decode].ledger.receive(&request, capacity(decode));
            known[decode].in_flight += 1;
            (None, Some(Prefill { engine: prefill, entry }))
        } else {
            (Some(entry), None)
        };
        let id = self.flights.len();
        let mut prompt = turn_of.prompt.clone();
        let (tokens, output) = (facts.tokens, prompt.output);
        let outcome = Outcome { session, arrived: at, engine, tokens, predicted, output, ..Outcome::default() };
        if prefill.is_some() {
            (prompt.output, prompt.answer) = (1, [].into());
        }
        let (sent, is_lost) = (now, false);
        self.flights.push(Flight { session, turn, replica, facts, entry, served, prefill, outcome, sent, is_lost });
        self.accept(now, computing, id, prompt);
    }

    /// Has an engine take a prompt.
    fn accept(&mut self, now: f64, engine: usize, id: usize, prompt: Prompt) {
        if let Some(step) = self.engines[engine].accept(id, prompt) {
            self.at(now + step, What::Step(engine, self.lives[engine]));
        }
    }

    /// Draws the replica that a request comes to.
    fn replica(&self) -> usize {
        let drawn = BlockHash(0).followed_by(&self.flights.len().to_le_bytes()).0;
        usize::try_from(drawn % self.policies.len() as u64).unwrap_or_default()
    }

    fn step(&mut self, now: f64, engine: usize) {
        let mut events = Vec::new();
        if let Some(next) = self.engines[engine].end(&mut events) {
            self.at(now + next, What::Step(engine, self.lives[engine]));
        }
        for event in events {
            match event {
                Event::First(id, cached) if self.computes_for_another(engine, id) => self.prefilled(now, id, cached),
                Event::Last(id) if self.computes_for_another(engine, id) => self.hand_over(now, id),
                Event::First(id, cached) => self.first(now, id, cached),
                Event::Last(id) => self.last(now, id),
            }
        }
        self.let_pass(now);
    }

    fn first(&mut self, now: f64, id: usize, cached: u32) {
        let flight = &mut self.flights[id];
        flight.outcome.first = now;
        let waited = now - flight.sent;
        let engine = flight.outcome.engine;
        if let Some(entry) = &flight.entry {
            flight.outcome.cached = cached;
            self.known[flight.replica][engine].ledger.begin(entry, Duration::from_secs_f64(waited), true);
        }
        observe(&mut self.latencies[engine].0, waited, 1);
    }

    fn last(&mut self, now: f64, id: usize) {
        let flight = &mut self.flights[id];
        flight.outcome.last = now;
        let (session, turn, engine) = (flight.session, flight.turn, flight.outcome.engine);
        let known = &mut self.known[flight.replica][engine];
        known.ledger.pass(self.workload.sessions[session][turn].prompt.output);
        known.in_flight -= 1;
        self.policies[flight.replica].done(engine, &flight.facts);
        let turns = &self.workload.sessions[session];
        let output = turns[turn].prompt.output;
        if let (Some(served), Some(gate)) = (flight.served.take(), self.gates.get_mut(flight.replica)) {
            gate.settle(served, flight.facts.tokens, output);
        }
        observe(&mut self.latencies[engine].1, now - flight.outcome.first, u64::from(output - 1));
        if let Some(next) = turns.get(turn + 1) {
            self.at(now + next.pause, What::Turn(session, turn + 1));
        } else {
            self.open -= 1;
            self.next_session(now);
        }
    }
}

fn observe(totals: &mut HistogramTotals, seconds: f64, count: u64) {
    totals.sum += seconds;
    totals.count += count;
}

impl Eq for When {}

impl PartialOrd for When {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for When {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// Makes the prompt of a request out of its blocks.
pub fn prompt(blocks: Vec<u64>, rest: u32, output: u32, answer: Vec<u64>) -> Prompt {
    let tokens = u32::try_from(blocks.len()).unwrap_or(u32::MAX) * crate::engine::BLOCK + rest;
    Prompt {
        blocks: blocks.into(),
        tokens: tokens.max(1),
        output: output.max(1),
        adapter: None,
        answer: answer.into(),
        given: 0,
    }
}
