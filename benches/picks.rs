//! What a pick costs with the default's plugins, from what is known of 64 endpoints to the choice, and what the index of
//! prompts costs in time and memory. Figures are in docs/benchmarks.md.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use kthena_router::inference::exposition::EndpointMetrics;
use kthena_router::inference::prompt::BlockHash;
use kthena_router::object::ObjectKey;
use kthena_router::scheduling::commons::Commons;
use kthena_router::scheduling::config::SchedulerConfig;
use kthena_router::scheduling::endpoint::{Candidate, Endpoint, Observation, PoolFacts};
use kthena_router::scheduling::homes::Homes;
use kthena_router::scheduling::ledger::Ledger;
use kthena_router::scheduling::picker::Picker;
use kthena_router::scheduling::request::RequestFacts;
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a benchmark is who gives it")]
fn moment() -> Instant {
    Instant::now()
}

fn picking(criterion: &mut Criterion) {
    for (name, blocks, holders) in [
        ("no prompt", 0, 0),
        ("prompts of 4k tokens, unknown", 64, 0),
        ("prompts of 4k tokens, at all of them", 64, 64),
        ("prompts of 100k tokens, unknown", 1_563, 0),
        ("prompts of 100k tokens, at all of them", 1_563, 64),
    ] {
        let mut pool = Fleet::new(blocks, holders);
        let (picker, mut rng) = (SchedulerConfig::default().picker(), SmallRng::seed_from_u64(1));
        criterion.bench_function(&format!("pick, 64 endpoints, {name}"), |bencher| {
            bencher.iter(|| pool.pick(&picker, &mut rng));
        });
    }
    // What an index of 100 endpoints with caches of 2 million tokens takes.
    let ledgers: Vec<_> = (0..100).map(|_| Ledger::default()).collect();
    let prompts: Vec<Vec<_>> = (0..20).map(|prompt| chain(prompt, 1_563)).collect();
    for (ledger, prompt) in ledgers.iter().flat_map(|ledger| prompts.iter().map(move |prompt| (ledger, prompt))) {
        let facts = RequestFacts { prefix: prompt.clone(), tokens: 100_000, ..RequestFacts::default() };
        ledger.abandon(&ledger.open(&facts.attempt(&[]), 0, None));
    }
    let (bytes, blocks) = (ledgers.iter().map(Ledger::bytes).sum::<usize>(), 100 * 31_250);
    criterion.bench_function(
        &format!("note, 100k tokens; {blocks} blocks take {} bytes each", bytes / blocks),
        |bencher| {
            let facts = RequestFacts { prefix: chain(99, 1_563), tokens: 100_000, ..RequestFacts::default() };
            bencher.iter(|| ledgers[0].abandon(&ledgers[0].open(&facts.attempt(&[]), 0, None)));
        },
    );
}

/// Returns the blocks of a prompt.
fn chain(prompt: u64, blocks: u64) -> Vec<BlockHash> {
    let next = |last: &BlockHash| Some(last.followed_by(b"a block"));
    let count = usize::try_from(blocks).expect("a prompt has few blocks");
    std::iter::successors(Some(BlockHash(prompt).followed_by(b"a prompt")), next).take(count).collect()
}

/// 64 endpoints, and requests to them.
struct Fleet {
    endpoints: Vec<Endpoint>,
    observations: Vec<Observation>,
    ledgers: Vec<Ledger>,
    commons: Commons,
    homes: Homes,
    /// The prompts, which take turns so that none is common to all requests.
    prompts: Vec<RequestFacts>,
    turn: usize,
}

impl Fleet {
    /// Makes a fleet of which the first few have the prompts that are to be sent, and all have other ones.
    fn new(blocks: u64, holders: usize) -> Self {
        let endpoint = |index| {
            let pod = ObjectKey::new("default", format!("pod-{index}"));
            Endpoint::new(pod, IpAddr::V4(Ipv4Addr::new(10, 0, 0, index)), 8000)
        };
        let observation = |index: u32| Observation {
            metrics: Some(EndpointMetrics { running: index % 7, waiting: index % 3, ..EndpointMetrics::default() }),
            in_flight_at_scrape: index % 5,
            ..Observation::default()
        };
        let tokens = u32::try_from(blocks).expect("a prompt has few blocks") * 64;
        // As many as endpoints remember.
        let count = 20_000 / blocks.max(200);
        let prompt = |prompt| RequestFacts { prefix: chain(prompt, blocks), tokens, ..RequestFacts::default() };
        let prompts: Vec<_> = (0..count).map(prompt).collect();
        let ledgers: Vec<_> = (0..64).map(|_| Ledger::default()).collect();
        for (index, ledger) in (0..).zip(&ledgers) {
            let other = RequestFacts { prefix: chain(count + index, 1_000), tokens: 64_000, ..RequestFacts::default() };
            ledger.abandon(&ledger.open(&other.attempt(&[]), 0, None));
        }
        for (ledger, facts) in
            ledgers[..holders].iter().flat_map(|ledger| prompts.iter().map(move |facts| (ledger, facts)))
        {
            ledger.abandon(&ledger.open(&facts.attempt(&[]), 0, None));
        }
        Self {
            endpoints: (0..64).map(endpoint).collect(),
            observations: (0..64).map(observation).collect(),
            ledgers,
            commons: Commons::default(),
            homes: Homes::among(2),
            prompts,
            turn: 0,
        }
    }

    /// Does all that is done to pick an endpoint, from what is known of them to the choice.
    fn pick(&mut self, picker: &Picker, rng: &mut SmallRng) -> Option<usize> {
        self.turn = (self.turn + 1) % self.prompts.len();
        let request = self.prompts[self.turn].attempt(&[]);
        let pool = PoolFacts { now: moment(), is_shared: self.homes.is_shared(), has_roles: false };
        let known = self.endpoints.iter().zip(&self.observations).zip(&self.ledgers).enumerate();
        let mut candidates: Vec<_> = known
            .map(|(position, ((endpoint, observation), ledger))| {
                let cached = ledger.cached(request.prefix, None);
                let elsewhere = self.homes.elsewhere(observation, 3);
                let (in_flight, penalty, counted) = (3, 0, cached);
                Candidate { endpoint, position, in_flight, elsewhere, observation, penalty, ledger, cached, counted }
            })
            .collect();
        self.homes.presume(&self.commons, &request, &mut candidates);
        let picked = picker.pick(&request, &pool, black_box(&mut candidates), rng, &mut ());
        picked.ok().map(|legs| legs.answering().position)
    }
}

criterion_group!(benches, picking);
criterion_main!(benches);
