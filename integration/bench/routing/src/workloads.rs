//! What clients ask for: sessions of turns, and when they begin.

use kthena_router::flow::settings::Settings;
use kthena_router::inference::prompt::BlockHash;
use kthena_router::scheduling::endpoint::Role;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::engine::{BLOCK, LARGE, Prompt, SMALL, Spec, answer};
use crate::fleet::outage::Outage;
use crate::fleet::prompt;

/// A workload and the fleet that it is for.
#[derive(Clone)]
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// The engines.
    pub fleet: Vec<Spec>,
    /// What is asked: turns of sessions.
    pub sessions: Vec<Vec<Turn>>,
    /// When sessions begin.
    pub arrival: Arrival,
    /// When engines are not there.
    pub outages: Vec<Outage>,
    /// What engines work on, where some compute prompts for others.
    pub roles: Vec<Role>,
    /// Whose the sessions are; without them, all are one flow's.
    pub owners: Vec<Owner>,
    /// How requests wait in the router for room; `None` has them wait in engines.
    pub queue: Option<Settings>,
}

/// Whose a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The flow.
    pub flow: u64,
    /// The priority.
    pub priority: i32,
}

/// When sessions begin.
#[derive(Clone)]
pub enum Arrival {
    /// At these times, whatever the engines do.
    Open(Vec<f64>),
    /// So many clients take one after the other.
    Closed(usize),
}

/// One request of a session.
#[derive(Clone)]
pub struct Turn {
    /// The request.
    pub prompt: Prompt,
    /// Seconds between the end of the turn before and this one.
    pub pause: f64,
}

/// A text as the blocks of its tokens; two texts that begin alike have the same first blocks.
#[derive(Clone, Default)]
pub(crate) struct Text(Vec<u64>);

/// Makes workloads from a seed; a larger scale makes longer ones.
pub struct Maker {
    seed: u64,
    rng: SmallRng,
    scale: f64,
    texts: u64,
}

impl Workload {
    /// Makes a workload of engines that are always there and do all of a request, and of one flow that waits in them.
    pub fn new(name: &'static str, fleet: Vec<Spec>, sessions: Vec<Vec<Turn>>, arrival: Arrival) -> Self {
        let (outages, roles, owners) = Default::default();
        Self { name, fleet, sessions, arrival, outages, roles, owners, queue: None }
    }
}

impl Text {
    /// An empty text after which nothing is like what comes after another name.
    pub(crate) fn named(name: u64) -> Self {
        Self(vec![name])
    }

    /// Adds so many tokens, to be told apart by `content`.
    fn add(&mut self, content: u64, tokens: u32) {
        for place in 0..u64::from(tokens / BLOCK) {
            let before = BlockHash(self.0.last().copied().unwrap_or(0));
            let content = [content.to_le_bytes(), place.to_le_bytes()].concat();
            self.0.push(before.followed_by(&content).0);
        }
    }
}

impl Maker {
    /// Makes a maker.
    pub fn new(seed: u64, scale: f64) -> Self {
        Self { seed, rng: SmallRng::seed_from_u64(seed), scale, texts: 0 }
    }

    /// Makes all workloads.
    pub fn all(&mut self) -> Vec<Workload> {
        vec![
            self.shared_prompts("A long", 4096, 256),
            self.shared_prompts("A short", 256, 4096),
            self.tenants(),
            self.burst(),
            self.unique("E unique", 0.75),
            self.unique("E beyond", 1.1),
            self.adapters(),
            self.slow_engine(),
            self.zipf(),
            self.chats(),
            self.agents(),
            self.crash(),
            self.restarts(),
            self.apart("K long", (4096, 12_288), 8.75, &[]),
            self.apart("K long P6 D2", (4096, 12_288), 8.75, &[6, 2]),
            self.apart("K short", (64, 192), 12.0, &[]),
            self.apart("K short 2", (64, 192), 12.0, &[0, 2]),
            self.apart("K short P6 D2", (64, 192), 12.0, &[6, 2]),
        ]
    }

    pub(crate) fn count(&self, count: usize) -> usize {
        (count as f64 * self.scale).ceil() as usize
    }

    fn content(&mut self) -> u64 {
        self.texts += 1;
        self.texts
    }

    pub(crate) fn text(&mut self, tokens: u32) -> Text {
        let mut text = Text::default();
        text.add(self.content(), tokens);
        text
    }

    /// A prompt that begins with `start` and goes on with something that nobody else asks.
    pub(crate) fn ask(&mut self, start: &Text, tokens: u32, output: u32) -> Turn {
        let mut text = start.clone();
        text.add(self.content(), tokens);
        Turn { prompt: prompt(text.0, 0, output, Vec::new()), pause: 0.0 }
    }

    pub(crate) fn poisson(&mut self, count: usize, rate: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut now = 0.0;
        let next = |_| {
            now += -(1.0 - self.rng.random::<f64>()).ln() / rate(now);
            now
        };
        (0..count).map(next).collect()
    }

    /// The Go router's benchmark: 256 groups of 32 prompts, 300 clients, 3 engines.
    fn shared_prompts(&mut self, name: &'static str, system: u32, question: u32) -> Workload {
        let each = self.count(32);
        let mut sessions = Vec::new();
        for _ in 0..256 {
            let start = self.text(system);
            sessions.extend((0..each).map(|_| vec![self.ask(&start, question, 128)]));
        }
        sessions.shuffle(&mut self.rng);
        Workload::new(name, vec![SMALL; 3], sessions, Arrival::Closed(300))
    }

    /// llm-d's benchmark: 150 tenants with 5 users each, from 3 to 60 requests a second, 8 engines.
    fn tenants(&mut self) -> Workload {
        let mut prompts = Vec::new();
        for _ in 0..150 {
            let start = self.text(6016);
            prompts.extend((0..5).map(|_| self.ask(&start, 1216, 100).prompt));
        }
        let seconds = 400.0 * self.scale;
        let arrival = self.poisson((31.5 * seconds) as usize, |now| 3.0 + 57.0 * (now / seconds).min(1.0));
        let turn = |_| vec![Turn { prompt: prompts[self.rng.random_range(0..prompts.len())].clone(), pause: 0.0 }];
        let sessions = arrival.iter().map(turn).collect();
        Workload::new("B tenants", vec![LARGE; 8], sessions, Arrival::Open(arrival))
    }

    /// Bursts of requests that all begin alike, with nothing in the caches.
    fn burst(&mut self) -> Workload {
        let (mut sessions, mut times) = (Vec::new(), Vec::new());
        for burst in 0..self.count(20) {
            let start = self.text(4096);
            for place in 0..300 {
                sessions.push(vec![self.ask(&start, 128, 64)]);
                times.push(burst as f64 * 20.0 + f64::from(place) / 300.0);
            }
        }
        Workload::new("D bursts", vec![SMALL; 6], sessions, Arrival::Open(times))
    }

    fn unique(&mut self, name: &'static str, load: f64) -> Workload {
        let count = self.count(12_000);
        let nothing = Text::default();
        let turn = |_| {
            let (tokens, output) = (BLOCK * self.rng.random_range(1..48), self.rng.random_range(16..400));
            vec![self.ask(&nothing, tokens, output)]
        };
        let sessions: Vec<_> = (0..count).map(turn).collect();
        // A request is 1,536 tokens of prompt and 208 of answer on average: about 0.165 s of an engine that is full.
        let arrival = self.poisson(count, |_| load * 8.0 / 0.165);
        Workload::new(name, vec![SMALL; 8], sessions, Arrival::Open(arrival))
    }

    /// 15 LoRA adapters, of which a few get most of the requests, on 4 engines with 4 slots each.
    fn adapters(&mut self) -> Workload {
        let mut systems: Vec<Text> = Vec::new();
        systems.extend((0..15).map(|_| self.text(512)));
        let count = self.count(5000);
        let sessions = (0..count)
            .map(|_| {
                // Each adapter gets three quarters of what the one before it gets.
                let rank =
                    (self.rng.random::<f64>() * (1.0 - 0.75_f64.powi(15))).mul_add(-1.0, 1.0).ln() / 0.75_f64.ln();
                let adapter = (rank as usize).min(14);
                let mut turn = self.ask(&systems[adapter].clone(), 512, 100);
                turn.prompt.adapter = u16::try_from(adapter).ok();
                vec![turn]
            })
            .collect();
        let arrival = self.poisson(count, |_| 28.0);
        Workload::new("F adapters", vec![SMALL; 4], sessions, Arrival::Open(arrival))
    }

    /// 40 prefixes, 30 requests a second, and four engines.
    fn prefixes(&mut self, name: &'static str, fleet: Vec<Spec>, outages: Vec<Outage>) -> Workload {
        let mut prefixes: Vec<Text> = Vec::new();
        prefixes.extend((0..40).map(|_| self.text(2048)));
        let count = self.count(6000);
        let sessions = (0..count)
            .map(|_| {
                let start = prefixes[self.rng.random_range(0..prefixes.len())].clone();
                vec![self.ask(&start, 512, 150)]
            })
            .collect();
        let arrival = self.poisson(count, |_| 30.0);
        Workload { outages, ..Workload::new(name, fleet, sessions, Arrival::Open(arrival)) }
    }

    /// One of four engines takes four times as long.
    fn slow_engine(&mut self) -> Workload {
        let slow = Spec { base: SMALL.base * 4.0, prefill: SMALL.prefill * 4.0, decode: SMALL.decode * 4.0, ..SMALL };
        self.prefixes("G slow", vec![SMALL, SMALL, SMALL, slow], Vec::new())
    }

    /// One of four engines crashes, and is back a while later.
    fn crash(&mut self) -> Workload {
        let seconds = 200.0 * self.scale;
        let outage = Outage { engine: 1, from: 0.3 * seconds, until: 0.5 * seconds };
        self.prefixes("G crash", vec![SMALL; 4], vec![outage])
    }

    /// All engines are restarted one after the other.
    fn restarts(&mut self) -> Workload {
        let seconds = 200.0 * self.scale;
        let outage = |engine: usize| {
            let from = (0.2 + 0.15 * engine as f64) * seconds;
            Outage { engine, from, until: from + 0.08 * seconds }
        };
        self.prefixes("G restarts", vec![SMALL; 4], (0..4).map(outage).collect())
    }

    /// Tenants of whom a few ask the most.
    fn zipf(&mut self) -> Workload {
        let mut prefixes: Vec<Text> = Vec::new();
        prefixes.extend((0..500).map(|_| self.text(6144)));
        let weights: Vec<f64> = (1..=prefixes.len()).map(|rank| 1.0 / rank as f64).collect();
        let total: f64 = weights.iter().sum();
        let count = self.count(12_000);
        let mut draw = || {
            let mut left = self.rng.random::<f64>() * total;
            weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            })
        };
        let ranks: Vec<_> = (0..count).map(|_| draw().unwrap_or(0)).collect();
        let sessions = ranks.into_iter().map(|rank| vec![self.ask(&prefixes[rank].clone(), 256, 150)]).collect();
        let arrival = self.poisson(count, |_| 60.0);
        Workload::new("H zipf", vec![SMALL; 8], sessions, Arrival::Open(arrival))
    }

    fn dialogue(
        &mut self,
        start: &Text,
        turns: usize,
        question: (u32, u32),
        output: (u32, u32),
        pause: f64,
    ) -> Vec<Turn> {
        let mut text = start.clone();
        (0..turns)
            .map(|_| {
                text.add(self.content(), self.rng.random_range(question.0..question.1));
                let before = text.0.clone();
                let output = self.rng.random_range(output.0..output.1) / BLOCK * BLOCK + BLOCK;
                let answer = answer(before.last().copied(), output);
                text.0.extend(&answer);
                let pause = -(1.0 - self.rng.random::<f64>()).ln() * pause;
                Turn { prompt: prompt(before, 0, output, answer), pause }
            })
            .collect()
    }

    /// Prompts of so many tokens that nobody repeats, at 8 engines that do all of a request, or at so many that compute
    /// prompts and so many that answer. Whatever the engines, the requests of a seed are the same.
    fn apart(&mut self, name: &'static str, tokens: (u32, u32), rate: f64, roles: &[usize]) -> Workload {
        let mut maker = Self::new((u64::from(tokens.0) - 1).wrapping_add(self.seed), self.scale);
        let nothing = Text::default();
        let count = maker.count(3000);
        let turn = |_| {
            let (tokens, output) = (maker.rng.random_range(tokens.0..tokens.1), maker.rng.random_range(64..448));
            vec![maker.ask(&nothing, tokens, output)]
        };
        let sessions: Vec<_> = (0..count).map(turn).collect();
        let arrival = maker.poisson(count, |_| rate);
        let roles = match roles {
            [prefill, decode] => [vec![Role::Prefill; *prefill], vec![Role::Decode; *decode]].concat(),
            _ => Vec::new(),
        };
        let fleet = vec![LARGE; if roles.is_empty() { 8 } else { roles.len() }];
        Workload { roles, ..Workload::new(name, fleet, sessions, Arrival::Open(arrival)) }
    }

    /// Chats of several turns, with pauses in which others fill the caches.
    fn chats(&mut self) -> Workload {
        let start = self.text(512);
        let count = self.count(1800);
        let sessions = (0..count)
            .map(|_| {
                let turns = self.rng.random_range(4..16);
                self.dialogue(&start, turns, (64, 1024), (64, 384), 10.0)
            })
            .collect();
        let arrival = self.poisson(count, |_| 3.5);
        Workload::new("I chats", vec![SMALL; 4], sessions, Arrival::Open(arrival))
    }

    /// Coding agents: system prompts of 55,000 tokens, then a loop of tools.
    fn agents(&mut self) -> Workload {
        let mut systems: Vec<Text> = Vec::new();
        systems.extend((0..12).map(|_| self.text(55_040)));
        let sessions = (0..self.count(250))
            .map(|_| {
                let start = systems[self.rng.random_range(0..systems.len())].clone();
                self.dialogue(&start, 15, (256, 3072), (64, 512), 3.0)
            })
            .collect();
        Workload::new("J agents", vec![LARGE; 8], sessions, Arrival::Closed(60))
    }
}
