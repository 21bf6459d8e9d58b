//! What the default must win, on short runs of the workloads.

use std::time::Instant;

use kthena_router_proving_ground::fleet::run;
use kthena_router_proving_ground::policies::Rival;
use kthena_router_proving_ground::report::Figures;
use kthena_router_proving_ground::workloads::{Maker, Workload};

const SEED: u64 = 3;

fn workload(name: &str) -> Workload {
    workload_of(name, 0.2)
}

fn workload_of(name: &str, scale: f64) -> Workload {
    workload_by(SEED, name, scale)
}

fn workload_by(seed: u64, name: &str, scale: f64) -> Workload {
    Maker::new(seed, scale).all().into_iter().find(|workload| workload.name == name).expect("the workload exists")
}

fn figures(workload: &Workload, rival: Rival, replicas: usize) -> Figures {
    let policies = (0..replicas).map(|_| rival.policy()).collect();
    Figures::of(&run(workload, &workload.fleet, policies, SEED, Instant::now()), workload.fleet.len())
}

#[test]
fn shared_prefixes_are_answered_from_caches() {
    let workload = workload("A long");
    let (ours, random) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::Random, 1));
    assert!(ours.throughput > 2.0 * random.throughput, "{ours:?} {random:?}");
    for rival in [Rival::LeastRequest, Rival::PrefixCache, Rival::BoundedHash] {
        let rival = figures(&workload, rival, 1);
        assert!(ours.throughput > rival.throughput && ours.ttft_mean < rival.ttft_mean, "{ours:?} {rival:?}");
    }
}

#[test]
fn a_few_large_tenants_overload_no_engine() {
    let workload = workload("H zipf");
    let ours = figures(&workload, Rival::Default, 1);
    for rival in [Rival::LeastRequest, Rival::PrefixCache, Rival::BoundedHash] {
        let rival = figures(&workload, rival, 1);
        assert!(ours.latency < rival.latency && ours.ttft_p90 < rival.ttft_p90, "{ours:?} {rival:?}");
    }
}

#[test]
fn prompts_that_nobody_repeats_cost_no_more_than_by_least_request() {
    for name in ["E unique", "E beyond"] {
        let workload = workload(name);
        let (ours, rival) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::LeastRequest, 1));
        assert!(ours.ttft_mean <= 1.02 * rival.ttft_mean && ours.latency <= 1.02 * rival.latency, "{ours:?} {rival:?}");
    }
}

#[test]
fn a_burst_with_one_prefix_is_spread() {
    let workload = workload("D bursts");
    let (ours, rival) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::LeastRequest, 1));
    assert!(ours.ttft_p90 <= 1.02 * rival.ttft_p90 && ours.imbalance < 1.1, "{ours:?} {rival:?}");
}

#[test]
fn a_slow_engine_gets_less() {
    let workload = workload("G slow");
    let (ours, rival) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::LeastRequest, 1));
    assert!(ours.ttft_p90 < rival.ttft_p90 && ours.latency < rival.latency, "{ours:?} {rival:?}");
}

#[test]
fn an_outage_costs_no_request_and_no_more_than_by_least_request() {
    for name in ["G crash", "G restarts"] {
        let workload = workload(name);
        let policies = vec![Rival::Default.policy()];
        let outcomes = run(&workload, &workload.fleet, policies, SEED, Instant::now());
        assert!(outcomes.iter().all(|outcome| outcome.last > 0.0), "{name}");
        assert_eq!(outcomes.len(), workload.sessions.len(), "{name}");
        let (ours, rival) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::LeastRequest, 1));
        assert!(ours.ttft_p90 < rival.ttft_p90 && ours.latency < rival.latency, "{ours:?} {rival:?}");
    }
}

#[test]
fn replicas_that_know_nothing_of_each_other_agree() {
    // A replica has to see the prompts of A long before it can agree on them, so that it is played for as long as in the
    // table of docs/scheduling.md.
    for (name, scale, two, four) in [
        ("A long", 0.6, 0.95, 0.95),
        ("A short", 0.2, 0.95, 0.95),
        ("B tenants", 0.2, 0.95, 0.95),
        ("E unique", 0.2, 0.95, 0.95),
    ] {
        let workload = workload_of(name, scale);
        let (alone, random) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::Random, 1));
        for (replicas, least) in [(2, two), (4, four)] {
            let shared = figures(&workload, Rival::Default, replicas);
            assert!(shared.throughput > least * alone.throughput, "{name} x {replicas}: {shared:?} {alone:?}");
            assert!(shared.ttft_p50 <= random.ttft_p50, "{name} x {replicas}: {shared:?} {random:?}");
        }
    }
}

#[test]
fn replicas_take_no_engine_for_a_slow_one_because_others_keep_it_busy() {
    // With these seeds a few tenants have one home, and answers from there wait for those of other replicas.
    for seed in [4, 5] {
        let workload = workload_by(seed, "H zipf", 0.6);
        let (alone, shared) = (figures(&workload, Rival::Default, 1), figures(&workload, Rival::Default, 4));
        assert!(shared.throughput > 0.95 * alone.throughput, "seed {seed}: {shared:?} {alone:?}");
    }
}

#[test]
fn adapters_stay_where_they_are_loaded() {
    let workload = workload("F adapters");
    let ours = figures(&workload, Rival::Default, 1);
    for rival in [Rival::LeastRequest, Rival::PrefixCache, Rival::BoundedHash] {
        let rival = figures(&workload, rival, 1);
        assert!(1.3 * ours.ttft_mean < rival.ttft_mean && ours.latency < rival.latency, "{ours:?} {rival:?}");
    }
}

#[test]
fn long_prompts_disturb_no_answers_where_other_engines_compute_them() {
    let (whole, apart) = (workload("K long"), workload("K long P6 D2"));
    let (whole, ours) = (figures(&whole, Rival::Default, 1), figures(&apart, Rival::Default, 1));
    assert!(2.5 * ours.pace_p99 < whole.pace_p99 && 1.5 * ours.latency < whole.latency, "{ours:?} {whole:?}");
    let random = figures(&apart, Rival::Random, 1);
    assert!(2.0 * ours.ttft_p90 < random.ttft_p90 && ours.latency < random.latency, "{ours:?} {random:?}");
}

#[test]
fn short_prompts_cost_what_they_cost_without_roles() {
    let (alone, apart) = (workload("K short 2"), workload("K short P6 D2"));
    let (alone, apart) = (figures(&alone, Rival::Default, 1), figures(&apart, Rival::Default, 1));
    assert!(apart.ttft_p90 <= 1.03 * alone.ttft_p90 && apart.latency <= 1.03 * alone.latency, "{apart:?} {alone:?}");
}

#[test]
fn the_router_foresees_hits() {
    for name in ["A long", "B tenants", "H zipf", "J agents"] {
        let ours = figures(&workload(name), Rival::Default, 1);
        assert!((ours.foreseen - ours.hits).abs() < 0.03, "{name}: {ours:?}");
    }
}

#[test]
fn a_seed_has_one_outcome() {
    let workload = workload("A long");
    assert_eq!(figures(&workload, Rival::Default, 1), figures(&workload, Rival::Default, 1));
}
