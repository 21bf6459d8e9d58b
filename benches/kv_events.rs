//! What KV events cost: to foresee the hits of a prompt at each of 64 endpoints, and to note what an engine has stored.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kthena_router::inference::kv_events::chain::TokenChain;
use kthena_router::inference::kv_events::index::{HeldBlocks, Standing, Writer};
use kthena_router::inference::kv_events::known::{KnownPrompt, KnownPrompts, Learner};
use kthena_router::inference::kv_events::wire::{EngineHash, Event, Stored, StoredBlock};
use kthena_router::inference::prompt::BlockHash;
use kthena_router::scheduling::hits;
use kthena_router::scheduling::ledger::Ledger;
use kthena_router::scheduling::request::RequestFacts;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCK: u32 = 16;

/// Makes the event of the first tokens of a prompt.
fn stored(tokens: &[u32]) -> Event {
    let block = |(place, tokens): (usize, &[u32])| StoredBlock {
        hash: EngineHash(place as u64),
        tokens: tokens.to_vec(),
        extras: Vec::new(),
    };
    let blocks = tokens.chunks_exact(BLOCK as usize).enumerate().map(block).collect();
    Event::Stored(Stored { blocks, block_size: BLOCK, ..Stored::default() })
}

fn foreseeing(criterion: &mut Criterion) {
    for length in [4_000, 100_000] {
        let tokens: Vec<u32> = (0..length).collect();
        // Each endpoint holds another part of the prompt.
        let mut writers = Vec::new();
        let held: Vec<Arc<HeldBlocks>> = (1..=64)
            .map(|part| {
                let shared: Arc<HeldBlocks> = Arc::default();
                let mut writer = Writer::new(Arc::clone(&shared));
                writer.note(&stored(&tokens[..tokens.len() * part / 64]));
                writer.trust(Standing::Whole);
                writers.push(writer);
                shared
            })
            .collect();
        let prefix: Vec<_> =
            (0..u64::from(length / 64)).map(|block| BlockHash(0).followed_by(&block.to_be_bytes())).collect();
        let known: Arc<KnownPrompts> = Arc::default();
        let chain = TokenChain::of(&tokens, BLOCK, None, None);
        Learner::new(Arc::clone(&known)).learn(KnownPrompt { texts: prefix.clone(), estimate: length, chain });
        let ledgers: Vec<_> = (0..64).map(|_| Ledger::default()).collect();
        criterion.bench_function(&format!("hits of {length} tokens, 64 endpoints"), |bencher| {
            bencher.iter(|| {
                let likeness = known.find(black_box(&prefix));
                let facts = RequestFacts { tokens: length, likeness, ..RequestFacts::default() };
                let request = facts.attempt(&[]);
                held.iter().zip(&ledgers).map(|(held, ledger)| hits::cached(&request, ledger, held, None)).max()
            });
        });
    }
}

fn noting(criterion: &mut Criterion) {
    let tokens: Vec<u32> = (0..4_096).collect();
    let event = stored(&tokens);
    criterion.bench_function("note 256 stored blocks", |bencher| {
        let mut writer = Writer::new(Arc::default());
        bencher.iter(|| writer.note(black_box(&event)));
    });
}

criterion_group!(benches, foreseeing, noting);
criterion_main!(benches);
