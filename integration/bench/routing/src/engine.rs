//! A model of an inference engine with continuous batching, chunked prefill and a prefix cache.
//!
//! The engine works in steps. A step has a budget of tokens: one for each answer that is being written, the rest for
//! prompts, in the order of their arrival and in pieces. It takes `base + prefill x tokens of prompts + decode x answers`, and
//! `load` for each LoRA adapter that has to be loaded.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use kthena_router::inference::prompt::BlockHash;

use crate::cache::Cache;
use crate::slots::Slots;

/// Tokens of a block of the KV cache.
pub const BLOCK: u32 = 64;

/// The figures of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Tokens that the KV cache has room for.
    pub cache_tokens: u32,
    /// Requests that are worked on at once.
    pub sequences: usize,
    /// Tokens of a step.
    pub budget: u32,
    /// Seconds that a step takes at least.
    pub base: f64,
    /// Seconds for each token of a prompt.
    pub prefill: f64,
    /// Seconds for each answer that is being written.
    pub decode: f64,
    /// LoRA adapters that fit at once.
    pub slots: usize,
    /// Seconds to load one.
    pub load: f64,
}

/// A model of 7 billion parameters on one accelerator: 12,500 prompt tokens a second, 28 ms a step at 100 answers.
pub const SMALL: Spec = Spec {
    cache_tokens: 400_000,
    sequences: 256,
    budget: 8192,
    base: 0.008,
    prefill: 0.000_08,
    decode: 0.000_2,
    slots: 4,
    load: 0.3,
};

/// Qwen3-32B on two H100: 15,928 prompt tokens a second and 307,328 tokens of KV cache, as llm-d publishes them.
pub const LARGE: Spec = Spec {
    cache_tokens: 307_328,
    sequences: 256,
    budget: 8192,
    base: 0.012,
    prefill: 1.0 / 15_928.0,
    decode: 0.000_25,
    ..SMALL
};

/// A request as an engine sees it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The complete blocks of the prompt.
    pub blocks: Rc<[u64]>,
    /// Tokens of the prompt, at least one.
    pub tokens: u32,
    /// Tokens of the answer, at least one.
    pub output: u32,
    /// The LoRA adapter.
    pub adapter: Option<u16>,
    /// The complete blocks of prompt and answer together that come after those of the prompt.
    pub answer: Rc<[u64]>,
    /// Tokens of the prompt whose KV cache another engine has sent.
    pub given: u32,
}

/// What a step brought about.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The first token of an answer, and how many tokens of its prompt were in the cache.
    First(usize, u32),
    /// The last one.
    Last(usize),
}

/// A request that is being worked on.
struct Sequence {
    id: usize,
    prompt: Prompt,
    cached: u32,
    computed: u32,
    /// Leading blocks that others can use as well.
    shared: usize,
    private: usize,
}

/// An engine.
pub struct Engine {
    spec: Spec,
    cache: Cache,
    slots: Slots,
    /// Adapters to be loaded in the next step.
    loads: u32,
    waiting: VecDeque<(usize, Prompt)>,
    prefilling: VecDeque<Sequence>,
    /// Answers by the step in which they end.
    decoding: BinaryHeap<Reverse<(u64, usize)>>,
    sequences: Vec<Option<Sequence>>,
    step: u64,
    /// Whether a step is under way.
    is_busy: bool,
}

/// Returns the blocks of an answer that the next turn of a dialogue begins with. They follow from the prompt, so that an
/// engine and a client that never met agree on them.
pub fn answer(last: Option<u64>, tokens: u32) -> Vec<u64> {
    let first = BlockHash(last.unwrap_or_default()).followed_by(b"answer");
    let blocks = std::iter::successors(Some(first), |block| Some(block.followed_by(b"answer")));
    blocks.take((tokens / BLOCK) as usize).map(|block| block.0).collect()
}

impl Engine {
    /// Makes an idle engine with an empty cache.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            cache: Cache::new((spec.cache_tokens / BLOCK) as usize),
            slots: Slots::new(spec.slots),
            loads: 0,
            waiting: VecDeque::new(),
            prefilling: VecDeque::new(),
            decoding: BinaryHeap::new(),
            sequences: Vec::new(),
            step: 0,
            is_busy: false,
        }
    }

    /// Takes a request; returns how long the step takes that begins now, if none is under way.
    pub fn accept(&mut self, id: usize, prompt: Prompt) -> Option<f64> {
        self.waiting.push_back((id, prompt));
        if self.is_busy { None } else { self.begin() }
    }

    /// Ends a step; returns what it brought about, and how long the next one takes, if there is work.
    pub fn end(&mut self, events: &mut Vec<Event>) -> Option<f64> {
        self.step += 1;
        while let Some(Reverse((step, place))) = self.decoding.peek().copied() {
            if step > self.step {
                break;
            }
            self.decoding.pop();
            self.finish(place, events);
        }
        while self.prefilling.front().is_some_and(|sequence| sequence.computed >= sequence.prompt.tokens) {
            let Some(sequence) = self.prefilling.pop_front() else { break };
            events.push(Event::First(sequence.id, sequence.cached));
            let last = self.step + u64::from(sequence.prompt.output - 1);
            let place = self.sequences.iter().position(Option::is_none).unwrap_or(self.sequences.len());
            if place == self.sequences.len() {
                self.sequences.push(None);
            }
            self.sequences[place] = Some(sequence);
            if last == self.step {
                self.finish(place, events);
            } else {
                self.decoding.push(Reverse((last, place)));
            }
        }
        self.is_busy = false;
        self.begin()
    }

    /// Returns the requests that wait and those that are worked on.
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.prefilling.len() + self.decoding.len())
    }

    /// Returns the adapters of the requests that wait or are worked on.
    pub fn adapters(&self) -> BTreeSet<u16> {
        self.waiting.iter().filter_map(|(_, prompt)| prompt.adapter).chain(self.slots.running()).collect()
    }

    /// Returns the part of the KV cache that is in use.
    pub fn usage(&self) -> f64 {
        self.cache.usage()
    }

    fn begin(&mut self) -> Option<f64> {
        let answers = self.decoding.len();
        let mut budget = self.spec.budget.saturating_sub(u32::try_from(answers).unwrap_or(u32::MAX));
        let before = budget;
        for sequence in &mut self.prefilling {
            sequence.compute(&mut budget, &mut self.cache);
        }
        while budget > 0 && answers + self.prefilling.len() < self.spec.sequences {
            let Some(mut sequence) = self.admit() else { break };
            sequence.compute(&mut budget, &mut self.cache);
            self.prefilling.push_back(sequence);
        }
        let prompts = before - budget;
        self.is_busy = prompts > 0 || answers > 0;
        let loads = f64::from(std::mem::take(&mut self.loads));
        let Spec { base, prefill, decode, load, .. } = self.spec;
        self.is_busy.then(|| base + prefill * f64::from(prompts) + decode * answers as f64 + load * loads)
    }

    /// Takes the next waiting request into work, if there is room in the cache for its prompt and its answer.
    fn admit(&mut self) -> Option<Sequence> {
        // Requests whose adapter finds no slot let others pass.
        let can_run = |(_, prompt): &(usize, Prompt)| prompt.adapter.is_none_or(|adapter| self.slots.admits(adapter));
        let place = self.waiting.iter().position(can_run)?;
        let (_, prompt) = &self.waiting[place];
        let held = self.cache.held(&prompt.blocks);
        let all = (prompt.tokens + prompt.output).div_ceil(BLOCK) as usize;
        let is_alone = self.prefilling.is_empty() && self.decoding.is_empty();
        // The held blocks may be among those that could be evicted.
        if self.cache.available() < all && !is_alone {
            return None;
        }
        let (id, prompt) = self.waiting.remove(place)?;
        if let Some(adapter) = prompt.adapter {
            self.loads += u32::from(self.slots.enter(adapter));
        }
        for block in &prompt.blocks[..held] {
            self.cache.share(*block);
        }
        self.cache.take_private(all - held);
        // The last token is always computed.
        let cached = (held as u32 * BLOCK).min(prompt.tokens - 1);
        let computed = cached.max(prompt.given.min(prompt.tokens - 1));
        Some(Sequence { id, cached, computed, shared: held, private: all - held, prompt })
    }

    fn finish(&mut self, place: usize, events: &mut Vec<Event>) {
        let Some(sequence) = self.sequences[place].take() else { return };
        if let Some(adapter) = sequence.prompt.adapter {
            self.slots.leave(adapter);
        }
        for block in sequence.prompt.answer.iter() {
            self.cache.publish(*block);
            self.cache.give_back(*block);
        }
        self.cache.drop_private(sequence.private.saturating_sub(sequence.prompt.answer.len()));
        for block in sequence.prompt.blocks[..sequence.shared].iter().rev() {
            self.cache.give_back(*block);
        }
        events.push(Event::Last(sequence.id));
    }
}

impl Sequence {
    /// Computes as much of the prompt as the budget allows.
    fn compute(&mut self, budget: &mut u32, cache: &mut Cache) {
        let tokens = (self.prompt.tokens - self.computed).min(*budget);
        *budget -= tokens;
        self.computed += tokens;
        let complete = ((self.computed / BLOCK) as usize).min(self.prompt.blocks.len());
        for block in &self.prompt.blocks[self.shared.min(complete)..complete] {
            cache.publish(*block);
            self.private = self.private.saturating_sub(1);
        }
        self.shared = self.shared.max(complete);
    }
}
