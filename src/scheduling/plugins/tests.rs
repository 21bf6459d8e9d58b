//! Each plugin alone: of one endpoint that it should prefer and three others, the right one gets the requests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::inference::adapters::Adapters;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::prompt::BlockHash;
use crate::object::ObjectKey;
use crate::scheduling::config::SchedulerConfig;
use crate::scheduling::endpoint::{Candidate, Endpoint, Observation, PoolFacts};
use crate::scheduling::ledger::Ledger;
use crate::scheduling::request::RequestFacts;

mod go;

const PROBES: usize = 200;

/// What a test knows of an endpoint.
#[derive(Default)]
struct Scene {
    metrics: EndpointMetrics,
    first_token: Option<f64>,
    inter_token: Option<f64>,
    age: Duration,
    in_flight: u32,
    ledger: Ledger,
    adapters: Option<Arc<Adapters>>,
}

#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a test is who gives it")]
fn moment() -> Instant {
    Instant::now()
}

/// Returns how many of the probes each endpoint gets.
fn picks(config: &str, scenes: &[Scene], facts: &RequestFacts) -> Vec<usize> {
    let picker = SchedulerConfig::parse(config).unwrap().picker();
    let endpoint = |port| Endpoint::new(ObjectKey::new("n", "p"), IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let endpoints: Vec<_> = (0..8).map(endpoint).collect();
    let observation = |scene: &Scene| Observation {
        metrics: Some(scene.metrics),
        first_token: scene.first_token,
        inter_token: scene.inter_token.or(scene.first_token),
        adapters: scene.adapters.clone(),
        scraped: moment().checked_sub(scene.age),
        ..Observation::default()
    };
    let observations: Vec<_> = scenes.iter().map(observation).collect();
    let (mut rng, mut counts) = (SmallRng::seed_from_u64(1), vec![0; scenes.len()]);
    for _ in 0..PROBES {
        let mut candidates = (scenes.iter().enumerate())
            .map(|(position, Scene { in_flight, ledger, metrics, .. })| Candidate {
                endpoint: &endpoints[position],
                position,
                in_flight: *in_flight,
                elsewhere: (metrics.running + metrics.waiting).saturating_sub(*in_flight),
                observation: &observations[position],
                penalty: 0,
                ledger,
                cached: ledger.cached(&facts.prefix, None),
                counted: ledger.cached(&facts.prefix, None),
            })
            .collect();
        let pool = PoolFacts { now: moment(), is_shared: false, has_roles: false };
        let legs = picker.pick(&facts.attempt(&[]), &pool, &mut candidates, &mut rng, &mut ());
        let picked = legs.unwrap().into_answering();
        counts[picked.position] += 1;
    }
    counts
}

fn score(name: &str) -> String {
    format!("scheduler: {{plugins: {{Score: {{enabled: [{{name: {name}, weight: 1}}]}}}}}}")
}

fn prompt(blocks: u64) -> RequestFacts {
    let prefix: Vec<_> = (1..=blocks).map(BlockHash).collect();
    RequestFacts { tokens: u32::try_from(blocks).unwrap() * 64, prefix, ..RequestFacts::default() }
}

fn engine(waiting: u32, usage: f64) -> EndpointMetrics {
    EndpointMetrics { waiting, kv_cache_usage: Some(usage), ..EndpointMetrics::default() }
}

#[test]
fn the_fewest_requests_win() {
    let scenes = [3, 1, 2, 3].map(|in_flight| Scene { in_flight, ..Scene::default() });
    assert_eq!(picks(&score("least-request"), &scenes, &RequestFacts::default())[1], PROBES);
}

#[test]
fn long_queues_are_passed_over_while_others_are_short() {
    let config = "scheduler: {pluginConfig: [{name: least-request, args: {maxWaitingRequests: 1}}], \
                  plugins: {Filter: {enabled: [least-request]}, Score: {enabled: [{name: random, weight: 1}]}}}";
    let scenes = [1, 0, 2, 9].map(|waiting| Scene { metrics: engine(waiting, 0.0), ..Scene::default() });
    assert_eq!(picks(config, &scenes, &RequestFacts::default())[1], PROBES);
    let full = [1, 2].map(|waiting| Scene { metrics: engine(waiting, 0.0), ..Scene::default() });
    assert_eq!(picks(config, &full, &RequestFacts::default()).iter().sum::<usize>(), PROBES, "the filter gives way");
}

#[test]
fn the_emptiest_cache_wins() {
    let scenes = [0.1, 0.04, 0.5, 0.9].map(|usage| Scene { metrics: engine(0, usage), ..Scene::default() });
    assert_eq!(picks(&score("gpu-usage"), &scenes, &RequestFacts::default())[1], PROBES);
}

#[test]
fn a_slow_endpoint_is_avoided_and_one_without_news_gets_its_chance() {
    let scenes =
        [Some(0.5), Some(0.02), Some(0.5), Some(0.5)].map(|first_token| Scene { first_token, ..Scene::default() });
    assert_eq!(picks(&score("least-latency"), &scenes, &RequestFacts::default())[1], PROBES);
    let scenes = [Some(0.5), None, Some(0.1)].map(|first_token| Scene { first_token, ..Scene::default() });
    let counts = picks(&score("least-latency"), &scenes, &RequestFacts::default());
    assert_eq!(counts, [0, 0, PROBES]);
    let all_slow = [Some(0.5), None].map(|first_token| Scene { first_token, ..Scene::default() });
    assert_eq!(picks(&score("least-latency"), &all_slow[1..], &RequestFacts::default()), [PROBES]);
}

#[test]
fn answers_go_where_they_are_predicted_to_end_first() {
    let scene =
        |inter: Option<f64>, age| Scene { inter_token: inter, age: Duration::from_secs(age), ..Scene::default() };
    let config = score("predicted-latency");
    let probe = |scenes: &[Scene], blocks| picks(&config, scenes, &prompt(blocks));
    let scenes = [(0.05, 0), (0.02, 0), (0.05, 0)].map(|(inter, age)| scene(Some(inter), age));
    assert_eq!(probe(&scenes, 20), [0, PROBES, 0], "the fastest writer");
    let scenes = [scene(Some(0.05), 0), scene(None, 0), scene(Some(0.02), 0)];
    let counts = probe(&scenes, 20);
    assert!(counts[0] == 0 && counts[1] > 0 && counts[2] > 0, "one without news is taken for the best: {counts:?}");
    let scenes = [scene(Some(0.06), 0), scene(Some(0.06), 1000), scene(Some(0.02), 0)];
    // The fastest has 8,000 tokens of other prompts to compute first, a second of work.
    scenes[2].ledger.open(&RequestFacts { tokens: 8_000, ..RequestFacts::default() }.attempt(&[]), 0, None);
    assert_eq!(probe(&scenes, 20), [0, PROBES, 0], "what was seen long ago fades");
}

#[test]
fn a_prompt_sticks_to_the_endpoint_that_has_it() {
    for config in [score("prefix-cache"), "scheduler: {}".to_owned()] {
        let scenes: Vec<_> = (0..4).map(|_| Scene::default()).collect();
        let facts = prompt(20);
        let entry = scenes[2].ledger.open(&facts.attempt(&[]), 0, None);
        scenes[2].ledger.begin(&entry, Duration::from_millis(100), true);
        assert_eq!(picks(&config, &scenes, &facts)[2], PROBES, "{config}");
    }
}

#[test]
fn who_has_a_prompt_is_left_when_an_idle_endpoint_would_answer_sooner() {
    let scenes: Vec<_> = (0..2).map(|_| Scene::default()).collect();
    let facts = prompt(20);
    // Three prompts wait where this one is cached; computing it anew takes as long as one of them.
    for start in 1..4 {
        let mut other = prompt(20);
        other.prefix.iter_mut().for_each(|block| block.0 += start * 1000);
        scenes[0].ledger.open(&other.attempt(&[]), 0, None);
    }
    let entry = scenes[0].ledger.open(&facts.attempt(&[]), 0, None);
    assert_eq!(picks("scheduler: {}", &scenes, &facts), [0, PROBES]);
    scenes[0].ledger.abandon(&entry);
    assert_eq!(scenes[0].ledger.backlog(), 3 * 20 * 64);
}

#[test]
fn nobody_is_preferred_at_random() {
    let scenes: Vec<_> = (0..4).map(|_| Scene::default()).collect();
    let counts = picks(&score("random"), &scenes, &RequestFacts::default());
    assert!(counts.iter().all(|count| (30..=70).contains(count)), "{counts:?}");
}
