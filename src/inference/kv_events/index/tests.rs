//! The index against a model of an engine, and the semantics of groups and tiers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::sequence::{MOST_WAITING, Sequence, Step};
use super::super::wire::{Batch, StoredBlock};
use super::*;

const BLOCK: u32 = 2;

/// Returns the tokens of a prompt; the ones of two prompts of a family begin alike.
fn prompt(family: u32, tail: u32, blocks: usize) -> Vec<u32> {
    let shared = blocks / 2 * 2;
    (0..blocks * 2)
        .map(|place| u32::try_from(place).unwrap() + if place < shared { family * 1000 } else { tail * 7000 })
        .collect()
}

fn chain(tokens: &[u32]) -> TokenChain {
    TokenChain::of(tokens, BLOCK, None, None)
}

/// Makes the event of these blocks of a prompt; an engine names blocks in its own way.
fn stored(tokens: &[u32], from: usize, to: usize, place: Place) -> Stored {
    let name = |place: usize| EngineHash(BlockHash(77).followed_by(&tokens_bytes(&tokens[..place * 2])).0);
    let block = |place: usize| StoredBlock {
        hash: name(place + 1),
        tokens: tokens[place * 2..place * 2 + 2].to_vec(),
        extras: Vec::new(),
    };
    Stored {
        blocks: (from..to).map(block).collect(),
        parent: (from > 0).then(|| name(from)),
        block_size: BLOCK,
        place,
        ..Stored::default()
    }
}

fn tokens_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_be_bytes()).collect()
}

/// A naive engine: a set of blocks, each a prompt's beginning, and the messages that it sends.
#[derive(Default)]
struct Engine {
    held: BTreeSet<Vec<u32>>,
    number: u64,
    time: f64,
    sent: BTreeMap<u64, Batch>,
}

impl Engine {
    fn send(&mut self, events: Vec<Event>) -> (u64, Batch) {
        self.time += 1.0;
        let batch = Batch { time: self.time, events, ..Batch::default() };
        self.sent.insert(self.number, batch.clone());
        self.number += 1;
        (self.number - 1, batch)
    }

    fn serve(&mut self, tokens: &[u32]) -> (u64, Batch) {
        let blocks = tokens.len() / 2;
        let cached = self.cached(tokens);
        for place in cached..blocks {
            self.held.insert(tokens[..place * 2 + 2].to_vec());
        }
        let new = stored(tokens, cached, blocks, Place::default());
        self.send(if cached < blocks { vec![Event::Stored(new)] } else { Vec::new() })
    }

    /// Removes the longest beginnings first, as engines do.
    fn evict(&mut self, count: usize) -> (u64, Batch) {
        let mut hashes = Vec::new();
        for _ in 0..count {
            let Some(longest) = self.held.iter().max_by_key(|tokens| tokens.len()).cloned() else { break };
            let run = stored(&longest, longest.len() / 2 - 1, longest.len() / 2, Place::default());
            hashes.push(run.blocks[0].hash);
            self.held.remove(&longest);
        }
        self.send(vec![Event::Removed { hashes, place: Place::default() }])
    }

    fn clear(&mut self) -> (u64, Batch) {
        self.held.clear();
        self.send(vec![Event::Cleared])
    }

    fn restart(&mut self) {
        self.held.clear();
        self.sent.clear();
        (self.number, self.time) = (0, self.time + 100.0);
    }

    fn cached(&self, tokens: &[u32]) -> usize {
        (1..=tokens.len() / 2).take_while(|blocks| self.held.contains(&tokens[..blocks * 2])).count()
    }
}

/// A router that hears what the network lets through.
struct Router {
    sequence: Sequence,
    writer: Writer,
    standing: Standing,
}

impl Router {
    fn hear(&mut self, number: u64, batch: Batch) {
        let steps = self.sequence.take(number, batch);
        self.follow(steps);
    }

    fn follow(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Began => {
                    self.writer.forget();
                    self.standing = Standing::Whole;
                }
                Step::Lost => {
                    self.writer.forget();
                    self.standing = Standing::Partial;
                }
                Step::Apply(batch) => {
                    for event in &batch.events {
                        if *event == Event::Cleared {
                            self.standing = Standing::Whole;
                        }
                        self.writer.note(event);
                    }
                }
            }
        }
    }

    /// Asks for what is missing; the engine still has messages from `oldest` on.
    fn replay(&mut self, engine: &Engine, oldest: u64) {
        while let Some(from) = self.sequence.wanted() {
            for (number, batch) in engine.sent.range(from.max(oldest)..) {
                self.hear(*number, batch.clone());
            }
            // A replay may show that the engine is another one, of which everything is wanted.
            if self.sequence.wanted().is_some_and(|wanted| wanted >= from) {
                let steps = self.sequence.give_up();
                self.follow(steps);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Serve(u32, u32, usize),
    Evict(usize),
    /// `reset_prefix_cache`, or an engine that sleeps.
    Clear,
    Restart,
}

/// What becomes of a message on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Late,
    Lost,
    Twice,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_u32..3, 0_u32..3, 1_usize..9).prop_map(|(family, tail, blocks)| Act::Serve(family, tail, blocks)),
        4 => (1_usize..6).prop_map(Act::Evict),
        1 => Just(Act::Clear),
        1 => Just(Act::Restart),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::Late), 1 => Just(Fate::Lost), 1 => Just(Fate::Twice)]
}

proptest! {
    /// With a replay of everything the index is the engine's cache, unless it comes so late that messages were given up;
    /// with one of less it never holds what is gone.
    #[test]
    fn the_index_tells_the_truth(
        acts in vec((act(), fate()), 1..120),
        replayed in prop_oneof![Just(u64::MAX), 0_u64..4],
    ) {
        let mut engine = Engine::default();
        let writer = Writer::new(Arc::default());
        let shared = Arc::clone(&writer.shared);
        let mut router = Router { sequence: Sequence::default(), writer, standing: Standing::Whole };
        let (mut late, in_time) = (Vec::new(), acts.len() < MOST_WAITING);
        for (act, fate) in acts {
            let (number, batch) = match act {
                Act::Serve(family, tail, blocks) => engine.serve(&prompt(family, tail, blocks)),
                Act::Evict(count) => engine.evict(count),
                Act::Clear => engine.clear(),
                Act::Restart => {
                    engine.restart();
                    // An engine's connections end with it, and what they had not brought yet is lost.
                    late.clear();
                    router.sequence.reconnect();
                    continue;
                }
            };
            match fate {
                Fate::Arrives => router.hear(number, batch),
                Fate::Twice => {
                    router.hear(number, batch.clone());
                    router.hear(number, batch);
                }
                Fate::Late => late.push((number, batch)),
                Fate::Lost => {}
            }
            if matches!(fate, Fate::Arrives) {
                for (number, batch) in late.drain(..) {
                    router.hear(number, batch);
                }
            }
        }
        // A message that arrives shows what is missing.
        let (number, batch) = engine.serve(&prompt(9, 9, 3));
        router.hear(number, batch);
        router.replay(&engine, engine.number.saturating_sub(replayed));
        prop_assert!(router.sequence.wanted().is_none());
        for family in 0..3 {
            for tail in 0..3 {
                let tokens = prompt(family, tail, 8);
                let (told, truth) = (shared.held(&chain(&tokens)).device, engine.cached(&tokens));
                prop_assert!(told <= truth, "{} blocks are held, not {}", truth, told);
                if router.standing == Standing::Whole {
                    prop_assert_eq!(told, truth);
                }
            }
        }
        prop_assert!(router.writer.blocks() <= engine.held.len());
        if replayed == u64::MAX && in_time {
            prop_assert_eq!(router.standing, Standing::Whole);
        }
    }
}

fn in_group(group: u32, tier: Tier) -> Place {
    Place { group, tier }
}

#[test]
fn a_prefix_counts_where_every_group_holds_it() {
    let mut writer = Writer::new(Arc::default());
    let shared = Arc::clone(&writer.shared);
    let tokens = prompt(1, 1, 6);
    let held = || shared.held(&chain(&tokens)).device;
    let note = |writer: &mut Writer, from, to, group, attention| {
        let event = Stored { attention, ..stored(&tokens, from, to, in_group(group, Tier::Device)) };
        writer.note(&Event::Stored(event));
    };
    note(&mut writer, 0, 6, 0, Attention::Full);
    assert_eq!(held(), 6);
    note(&mut writer, 0, 2, 1, Attention::Full);
    assert_eq!(held(), 2, "the second group holds two blocks");
    note(&mut writer, 2, 6, 1, Attention::Full);
    note(&mut writer, 4, 6, 2, Attention::Window(4));
    assert_eq!(held(), 6, "a window of two blocks");
    let last = stored(&tokens, 5, 6, Place::default()).blocks[0].hash;
    let removal = Event::Removed { hashes: vec![last], place: in_group(2, Tier::Device) };
    writer.note(&removal);
    assert_eq!(held(), 0, "no beginning has its window in group 2 now");
    writer.note(&Event::Removed { hashes: vec![last], place: in_group(0, Tier::Device) });
    assert_eq!(writer.note(&removal), Noted { blocks: 1, skipped: 0 }, "group 1 still holds it");
}

#[test]
fn blocks_elsewhere_are_told_from_those_of_the_device() {
    let mut writer = Writer::new(Arc::default());
    let shared = Arc::clone(&writer.shared);
    let tokens = prompt(1, 1, 4);
    writer.note(&Event::Stored(stored(&tokens, 0, 4, in_group(0, Tier::Elsewhere))));
    writer.note(&Event::Stored(stored(&tokens, 0, 1, in_group(0, Tier::Device))));
    assert_eq!(shared.held(&chain(&tokens)), Held { device: 1, anywhere: 4 });
    let first = stored(&tokens, 0, 1, Place::default()).blocks[0].hash;
    writer.note(&Event::Removed { hashes: vec![first], place: in_group(0, Tier::Device) });
    assert_eq!(shared.held(&chain(&tokens)), Held { device: 0, anywhere: 4 });
}

#[test]
fn adapters_and_salts_share_nothing() {
    let mut writer = Writer::new(Arc::default());
    let shared = Arc::clone(&writer.shared);
    let tokens = prompt(1, 1, 4);
    let mut event = stored(&tokens, 0, 4, Place::default());
    event.adapter = Some("ada".into());
    event.blocks[0].extras = vec!["salt".into()];
    writer.note(&Event::Stored(event));
    let held = |adapter, salt| shared.held(&TokenChain::of(&tokens, BLOCK, adapter, salt)).device;
    assert_eq!(
        (held(Some("ada"), Some("salt")), held(Some("ada"), None), held(None, Some("salt")), held(None, None)),
        (4, 0, 0, 0)
    );
}

#[test]
fn what_cannot_be_placed_is_skipped() {
    let mut writer = Writer::new(Arc::default());
    let tokens = prompt(1, 1, 4);
    let skipped = Noted { blocks: 0, skipped: 2 };
    let orphan = stored(&tokens, 2, 4, Place::default());
    assert_eq!(writer.note(&Event::Stored(orphan)), skipped, "its parent was stored before the router came");
    assert_eq!(writer.note(&Event::Stored(stored(&tokens, 0, 2, in_group(8, Tier::Device)))), skipped);
    writer.note(&Event::Stored(stored(&tokens, 0, 2, Place::default())));
    let other_size = Stored { block_size: 4, ..stored(&tokens, 0, 2, in_group(1, Tier::Device)) };
    assert_eq!(writer.note(&Event::Stored(other_size)), skipped);
    assert_eq!(writer.blocks(), 2);
    assert_eq!(writer.note(&Event::Cleared), Noted { blocks: 2, skipped: 0 });
}

#[test]
fn an_index_is_bounded_in_bytes() {
    let mut writer = Writer::new(Arc::default());
    let mut skipped = 0;
    for family in 0..9 {
        let tokens: Vec<u32> = (0..64 * 1024).flat_map(|place| [family, place]).collect();
        let blocks = tokens.chunks(2).enumerate().map(|(place, tokens)| StoredBlock {
            hash: EngineHash(u64::from(family) << 32 | u64::try_from(place).unwrap()),
            tokens: tokens.to_vec(),
            extras: Vec::new(),
        });
        let event = Stored { blocks: blocks.collect(), block_size: BLOCK, ..Stored::default() };
        skipped += writer.note(&Event::Stored(event)).skipped;
    }
    assert_eq!((writer.blocks(), skipped), (MOST_BLOCKS, 5 * 64 * 1024));
    assert!(writer.bytes() <= 16 << 20, "{} bytes", writer.bytes());
}
