//! Who gets how much: tenants that share a fleet which is asked for more than it can do.

use std::time::Instant;

use kthena_router::flow::settings::Settings;

use crate::engine::{SMALL, Spec};
use crate::fleet::{Outcome, run};
use crate::policies::Rival;
use crate::report::Figures;
use crate::workloads::{Arrival, Maker, Owner, Text, Workload};

/// What a tenant asks.
#[derive(Clone, Copy, Debug)]
pub struct Tenant {
    /// Requests a second.
    pub rate: f64,
    /// Tokens of a prompt, which nobody repeats.
    pub prompt: u32,
    /// Tokens of an answer.
    pub output: u32,
    /// The priority of its requests.
    pub priority: i32,
}

/// One request a second.
pub const QUIET: Tenant = Tenant { rate: 1.0, prompt: 1024, output: 128, priority: 0 };
/// 32 requests a second, of which eight engines do twenty.
pub const FLOOD: Tenant = Tenant { rate: 32.0, prompt: 4096, output: 256, priority: 0 };
/// Seconds at the beginning of a flood that are not counted: engines have shown no bound yet, and nothing is held back.
pub const WARM_UP: f64 = 20.0;

/// Where the requests of a fleet wait that has too much to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Waits {
    /// In the engines.
    InEngines,
    /// In the router, in the order of their arrival.
    InOrder,
    /// In the router, each flow in its turn, while so many percent of the engines are kept for quiet flows.
    InTurn(u32),
}

/// Makes the requests of tenants for so many seconds; each tenant is a flow.
pub fn tenants(seed: u64, seconds: f64, fleet: Vec<Spec>, tenants: &[Tenant]) -> Workload {
    let (mut sessions, mut times, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for (flow, Tenant { rate, prompt, output, priority }) in (1..).zip(tenants) {
        // The requests of one do not depend on who else is there.
        let mut maker = Maker::new(seed + flow, 1.0);
        let arrivals = maker.poisson((rate * seconds) as usize, |_| *rate);
        sessions.extend(arrivals.iter().map(|_| vec![maker.ask(&Text::named(flow), *prompt, *output)]));
        owners.extend(arrivals.iter().map(|_| Owner { flow, priority: *priority }));
        times.extend(arrivals);
    }
    Workload { owners, ..Workload::new("tenants", fleet, sessions, Arrival::Open(times)) }
}

/// Runs a workload with the router's own picker.
pub fn play(workload: &Workload, waits: Waits, seed: u64) -> Vec<Outcome> {
    let mut workload = workload.clone();
    let settings = Settings { most_requests: usize::MAX, most_bytes: usize::MAX, ..Settings::default() };
    workload.queue = match waits {
        Waits::InEngines => None,
        Waits::InOrder => Some(settings),
        Waits::InTurn(kept_percent) => Some(Settings { kept_percent, ..settings }),
    };
    if waits == Waits::InOrder {
        workload.owners.clear();
    }
    run(&workload, &workload.fleet, vec![Rival::Default.policy()], seed, Instant::now())
}

/// Returns what came of the requests of a tenant, by its place, after the [`WARM_UP`].
pub fn of(workload: &Workload, outcomes: &[Outcome], tenant: usize) -> Vec<Outcome> {
    let is_asked =
        |outcome: &&Outcome| workload.owners[outcome.session].flow == tenant as u64 + 1 && outcome.arrived > WARM_UP;
    outcomes.iter().filter(is_asked).copied().collect()
}

/// Returns the seconds to the first token that so large a part of the requests did not exceed.
pub fn ttft(outcomes: &[Outcome], part: f64) -> f64 {
    let mut waits: Vec<f64> = outcomes.iter().map(|outcome| outcome.first - outcome.arrived).collect();
    waits.sort_by(f64::total_cmp);
    waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or_default()
}

/// Returns the tokens of prompts and answers a second, answers counting twice, that each tenant got between the
/// [`WARM_UP`] and a time at which all of them still wait.
pub fn service(workload: &Workload, outcomes: &[Outcome], until: f64) -> Vec<f64> {
    let tenants = workload.owners.iter().map(|owner| owner.flow).max().unwrap_or_default();
    let mut service = vec![0.0; usize::try_from(tenants).unwrap_or_default()];
    for outcome in outcomes.iter().filter(|outcome| (WARM_UP..until).contains(&outcome.last)) {
        let place = usize::try_from(workload.owners[outcome.session].flow - 1).unwrap_or_default();
        service[place] += f64::from(outcome.tokens + 2 * outcome.output) / (until - WARM_UP);
    }
    service
}

/// Returns Jain's index of fairness: 1 where all have the same, and one part of their number where one has everything.
/// Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
pub fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

/// Returns how many requests a second were answered between the [`WARM_UP`] and the last arrival.
pub fn throughput(workload: &Workload, outcomes: &[Outcome]) -> f64 {
    let Arrival::Open(times) = &workload.arrival else { return 0.0 };
    let until = times.iter().copied().fold(0.0, f64::max);
    outcomes.iter().filter(|outcome| (WARM_UP..until).contains(&outcome.last)).count() as f64 / (until - WARM_UP)
}

/// Returns tables of the noisy neighbour, and of tenants who all ask for more than there is.
pub fn report(seed: u64, seconds: f64) -> String {
    let mut out =
        String::from("| requests wait | TTFT p50 | TTFT p99 | by that alone | req/s |\n|---|---|---|---|---|\n");
    let fleet = || vec![SMALL; 8];
    let alone = tenants(seed, seconds, fleet(), &[QUIET]);
    let beside = tenants(seed, seconds, fleet(), &[QUIET, FLOOD]);
    let quiet = of(&alone, &play(&alone, Waits::InEngines, seed), 0);
    let p99 = ttft(&quiet, 0.99);
    let mut row = |name: &str, quiet: &[Outcome], rate: f64| {
        let (p50, p99s) = (ttft(quiet, 0.5), ttft(quiet, 0.99));
        out += &format!("| {name} | {p50:.3} | {p99s:.3} | {:.2} | {rate:.2} |\n", p99s / p99);
    };
    row("nowhere: it is alone", &quiet, QUIET.rate);
    for (name, waits) in [
        ("in engines", Waits::InEngines),
        ("in the router, in their order", Waits::InOrder),
        ("in the router, by flow, nothing is kept", Waits::InTurn(0)),
        ("in the router, by flow, one of 8 engines is kept", Waits::InTurn(13)),
        ("in the router, by flow, 2 of 8 engines are kept: the default", Waits::InTurn(25)),
    ] {
        let outcomes = play(&beside, waits, seed);
        row(name, &of(&beside, &outcomes, 0), throughput(&beside, &outcomes));
    }
    let greedy = [8.0, 16.0, 32.0, 64.0].map(|rate| Tenant { rate, prompt: 2048, ..FLOOD });
    let crowd = tenants(seed, seconds.min(100.0), vec![SMALL; 4], &greedy);
    for (name, waits) in [("in engines", Waits::InEngines), ("in the router, by flow", Waits::InTurn(25))] {
        let shares = service(&crowd, &play(&crowd, waits, seed), seconds.min(100.0));
        out += &format!("Jain's index, requests wait {name}: {:.3} of {shares:.0?} tokens/s\n", jain(&shares));
    }
    out
}

/// How one of the rows of [`knee`] fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knee {
    /// Requests a second, from the first arrival to the last token.
    pub throughput: f64,
    /// Requests a second that were answered before the last arrival.
    pub meanwhile: f64,
    /// Seconds to the first token, of nine tenths of the requests.
    pub ttft_p90: f64,
    /// The same of those of which half of the prompt was in a cache.
    pub hits_p90: f64,
    /// The same of 99 of a hundred others.
    pub misses_p99: f64,
    /// The part of all prompt tokens that was in caches.
    pub hits: f64,
}

/// Plays tenants of one flow with long prefixes, so many times as fast as the fleet can just do.
pub fn knee_at(seed: u64, scale: f64, factor: f64, waits: Waits) -> Knee {
    let workloads = Maker::new(seed, scale).all();
    let Some(mut zipf) = workloads.into_iter().find(|workload| workload.name == "H zipf") else {
        return Knee::default();
    };
    if let Arrival::Open(times) = &mut zipf.arrival {
        times.iter_mut().for_each(|time| *time /= factor);
    }
    let outcomes = play(&zipf, waits, seed);
    let figures = Figures::of(&outcomes, zipf.fleet.len());
    let (hits, misses): (Vec<_>, Vec<_>) = outcomes.iter().partition(|of| of.cached * 2 >= of.tokens);
    let until = outcomes.iter().map(|of| of.arrived).fold(0.0, f64::max);
    Knee {
        throughput: figures.throughput,
        meanwhile: outcomes.iter().filter(|of| of.last < until).count() as f64 / until,
        ttft_p90: figures.ttft_p90,
        hits_p90: ttft(&hits, 0.9),
        misses_p99: ttft(&misses, 0.99),
        hits: figures.hits,
    }
}

/// Returns a table of [`knee_at`] at growing rates, below the knee and beyond it, by where requests wait: the means of
/// eight seeds.
pub fn knee(seed: u64, scale: f64) -> String {
    let mut out = String::from(
        "| asked, req/s | requests wait | req/s | while asked | TTFT p90 | of hits | p99 of misses | hit % |\n\
         |--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for factor in [0.75, 0.9, 1.0, 1.1, 1.25, 1.5] {
        for (name, waits) in [("in engines", Waits::InEngines), ("in the router", Waits::InTurn(25))] {
            let runs: Vec<_> = (seed..seed + 8).map(|seed| knee_at(seed, scale, factor, waits)).collect();
            let mean = |of: fn(&Knee) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
            out += &format!(
                "| {:.0} | {name} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} | {:.1} |\n",
                60.0 * factor,
                mean(|of| of.throughput),
                mean(|of| of.meanwhile),
                mean(|of| of.ttft_p90),
                mean(|of| of.hits_p90),
                mean(|of| of.misses_p99),
                mean(|of| of.hits) * 100.0,
            );
        }
    }
    out
}
