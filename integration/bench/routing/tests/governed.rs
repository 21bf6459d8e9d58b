//! What tenants who share a fleet can rely on, in virtual time with the router's own queue and picker.

use kthena_router_proving_ground::engine::SMALL;
use kthena_router_proving_ground::fleet::Outcome;
use kthena_router_proving_ground::governed::*;
use kthena_router_proving_ground::workloads::Workload;

const SEED: u64 = 1;

fn p99(workload: &Workload, outcomes: &[Outcome]) -> f64 {
    ttft(&of(workload, outcomes, 0), 0.99)
}

#[test]
fn a_quiet_tenant_stays_quick_beside_a_flood() {
    let (alone, beside) = (vec![QUIET], vec![QUIET, FLOOD]);
    let [alone, beside] = [alone, beside].map(|asked| tenants(SEED, 300.0, vec![SMALL; 8], &asked));
    let alone = p99(&alone, &play(&alone, Waits::InEngines, SEED));
    let in_engines = play(&beside, Waits::InEngines, SEED);
    assert!(p99(&beside, &in_engines) > 29.0 * alone, "it waits behind all others");
    let in_turn = play(&beside, Waits::InTurn(25), SEED);
    let quiet = p99(&beside, &in_turn);
    assert!(quiet <= 1.3 * alone, "{quiet} s beside the flood, {alone} s alone");
    let (kept, all) = (throughput(&beside, &in_turn), throughput(&beside, &in_engines));
    assert!(kept > 0.85 * all, "{kept} of {all} requests a second");
    let nothing_kept = p99(&beside, &play(&beside, Waits::InTurn(0), SEED));
    assert!(quiet < nothing_kept && nothing_kept < p99(&beside, &play(&beside, Waits::InOrder, SEED)));
}

#[test]
fn tenants_who_ask_for_more_than_there_is_get_the_same() {
    let greedy = [8.0, 16.0, 32.0, 64.0].map(|rate| Tenant { rate, prompt: 2048, ..FLOOD });
    let crowd = tenants(SEED, 100.0, vec![SMALL; 4], &greedy);
    let index = |waits| jain(&service(&crowd, &play(&crowd, waits, SEED), 100.0));
    let (in_engines, in_turn) = (index(Waits::InEngines), index(Waits::InTurn(25)));
    assert!(in_turn > 0.97 && in_engines < 0.75, "{in_turn} in turn, {in_engines} in engines");
}

#[test]
fn bands_share_by_weight_and_the_lowest_is_served_as_well() {
    let greedy = [10, 0, -5].map(|priority| Tenant { priority, prompt: 2048, ..FLOOD });
    let crowd = tenants(SEED, 100.0, vec![SMALL; 4], &greedy);
    let got = service(&crowd, &play(&crowd, Waits::InTurn(25), SEED), 100.0);
    let (high, low) = (got[0] / got[1], got[1] / got[2]);
    // A weight of 8 for each step, less what engines had been sent of all three before they showed a bound.
    assert!((4.0..8.5).contains(&high) && (2.0..8.5).contains(&low), "{got:?}");
}

#[test]
fn a_queue_in_the_router_costs_a_single_flow_little() {
    let flood = tenants(SEED, 200.0, vec![SMALL; 8], &[FLOOD]);
    let rate = |waits| throughput(&flood, &play(&flood, waits, SEED));
    let (in_router, in_engines) = (rate(Waits::InTurn(25)), rate(Waits::InEngines));
    assert!(in_router > 0.97 * in_engines, "{in_router} and {in_engines} requests a second");
}

#[test]
fn beyond_the_knee_a_queue_in_the_router_beats_those_in_engines() {
    for factor in [0.9, 1.1, 1.25] {
        let of = |waits| {
            let runs = [1, 2, 3].map(|seed| knee_at(seed, 0.5, factor, waits));
            let mean = |of: fn(&Knee) -> f64| runs.iter().map(of).sum::<f64>() / 3.0;
            [mean(|of| of.hits_p90), mean(|of| of.meanwhile), mean(|of| of.misses_p99)]
        };
        let ([hits, answered, misses], [hits_there, answered_there, misses_there]) =
            (of(Waits::InTurn(25)), of(Waits::InEngines));
        assert!(hits < 0.9 * hits_there, "{factor}: {hits} s, {hits_there} s in engines");
        assert!(
            answered > 0.99 * answered_there,
            "{factor}: {answered} requests a second, {answered_there} in engines"
        );
        assert!(misses < misses_there + 4.0, "{factor}: a miss pays no more than its slack");
    }
}
