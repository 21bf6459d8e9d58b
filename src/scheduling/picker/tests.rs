use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::health::{Cause, Standing};
use crate::object::ObjectKey;
use crate::scheduling::endpoint::{Endpoint, Observation};
use crate::scheduling::ledger::Ledger;
use crate::scheduling::plugins::least_request::LeastRequest;
use crate::scheduling::request::RequestFacts;

struct Case {
    in_flight: u32,
    elsewhere: u32,
    ejected: bool,
    asleep: bool,
    penalty: u32,
    tried: bool,
}

const IDLE: Case = Case { in_flight: 0, elsewhere: 0, ejected: false, asleep: false, penalty: 0, tried: false };

fn endpoints(count: usize) -> Vec<Endpoint> {
    (0..count)
        .map(|index| {
            let pod = ObjectKey::new("default", format!("pod-{index}"));
            Endpoint::new(pod, IpAddr::V4(Ipv4Addr::LOCALHOST), 8000 + u16::try_from(index).unwrap())
        })
        .collect()
}

fn observations(cases: &[Case]) -> Vec<Observation> {
    cases
        .iter()
        .map(|case| Observation {
            metrics: Some(EndpointMetrics {
                running: case.elsewhere,
                is_asleep: case.asleep,
                ..EndpointMetrics::default()
            }),
            in_flight_at_scrape: 0,
            standing: if case.ejected { Standing::Ejected(Cause::Refused) } else { Standing::Serving },
            ..Observation::default()
        })
        .collect()
}

fn pick(cases: &[Case], seed: u64) -> Result<usize, PickError> {
    pick_before(cases, seed, &mut ())
}

#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a test is who gives it")]
fn moment() -> Instant {
    Instant::now()
}

fn pick_before(cases: &[Case], seed: u64, witness: &mut impl Witness) -> Result<usize, PickError> {
    let endpoints = endpoints(cases.len());
    let observations = observations(cases);
    let ledger = Ledger::default();
    let mut candidates = cases
        .iter()
        .enumerate()
        .map(|(position, case)| Candidate {
            endpoint: &endpoints[position],
            position,
            in_flight: case.in_flight,
            elsewhere: case.elsewhere,
            observation: &observations[position],
            penalty: case.penalty,
            ledger: &ledger,
            cached: 0,
            counted: 0,
        })
        .collect();
    let tried: Vec<_> =
        endpoints.iter().zip(cases).filter(|(_, case)| case.tried).map(|(endpoint, _)| endpoint.socket()).collect();
    let pool = PoolFacts { now: moment(), is_shared: false, has_roles: false };
    Picker::new(Vec::new(), vec![(Box::new(LeastRequest), 1.0)])
        .pick(
            &RequestFacts::default().attempt(&tried),
            &pool,
            &mut candidates,
            &mut StdRng::seed_from_u64(seed),
            witness,
        )
        .map(|legs| legs.into_answering().position)
}

#[test]
fn the_endpoint_with_the_fewest_requests_is_picked() {
    for (name, cases, expected) in [
        ("own requests count", [Case { in_flight: 3, ..IDLE }, Case { in_flight: 1, ..IDLE }], Ok(1)),
        ("requests from elsewhere count", [Case { elsewhere: 1, ..IDLE }, Case { elsewhere: 9, ..IDLE }], Ok(0)),
        ("one that fails fast is not idle", [Case { penalty: 4, ..IDLE }, Case { in_flight: 3, ..IDLE }], Ok(1)),
        ("a tried endpoint is out", [Case { tried: true, ..IDLE }, Case { in_flight: 9, ..IDLE }], Ok(1)),
        ("an ejected one is out", [Case { ejected: true, ..IDLE }, Case { in_flight: 9, ..IDLE }], Ok(1)),
        (
            "an ejected one is the last resort",
            [Case { ejected: true, ..IDLE }, Case { ejected: true, tried: true, ..IDLE }],
            Ok(0),
        ),
        ("one that sleeps is out", [Case { asleep: true, ..IDLE }, Case { in_flight: 9, ..IDLE }], Ok(1)),
        (
            "one that sleeps is the last resort",
            [Case { asleep: true, ..IDLE }, Case { asleep: true, tried: true, ..IDLE }],
            Ok(0),
        ),
        ("all tried", [Case { tried: true, ..IDLE }, Case { tried: true, ..IDLE }], Err(PickError::AllTried)),
    ] {
        assert_eq!(pick(&cases, 7), expected, "{name}");
    }
    assert_eq!(pick(&[], 7), Err(PickError::NoEndpoints));
}

#[test]
fn this_routers_own_share_of_the_scraped_requests_is_not_counted_twice() {
    let endpoint = &endpoints(1)[0];
    let metrics = EndpointMetrics { running: 5, waiting: 2, ..EndpointMetrics::default() };
    let observation = Observation { metrics: Some(metrics), in_flight_at_scrape: 4, ..Observation::default() };
    let candidate = Candidate {
        endpoint,
        position: 0,
        in_flight: 1,
        elsewhere: observation.elsewhere(),
        observation: &observation,
        penalty: 0,
        ledger: &Ledger::default(),
        cached: 0,
        counted: 0,
    };
    assert_eq!(candidate.load(), 4);
}

#[test]
fn equally_good_endpoints_share_the_traffic() {
    let mut counts = [0_u32; 4];
    for seed in 0..4000 {
        counts[pick(&[IDLE, IDLE, IDLE, IDLE], seed).expect("all are idle")] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

/// Writes down what a pick does.
#[derive(Default)]
struct Notebook(Vec<String>);

impl Witness for Notebook {
    fn passed_over(&mut self, candidate: &Candidate<'_>, filter: &'static str) {
        self.0.push(format!("{}: {filter}", candidate.position));
    }

    fn gave_way(&mut self, filter: &'static str) {
        self.0.push(format!("{filter} gave way"));
    }

    fn rated(&mut self, candidate: &Candidate<'_>, score: &'static str, rate: f32, weight: f32) {
        self.0.push(format!("{}: {score} {rate} x {weight}", candidate.position));
    }

    fn picked(&mut self, candidate: &Candidate<'_>, total: f32, ties: u32) {
        self.0.push(format!("{}: {total}, one of {ties}", candidate.position));
    }
}

#[test]
fn a_witness_sees_why_each_endpoint_was_passed_over_or_picked() {
    let busy = Case { in_flight: 4, ..IDLE };
    let cases = [Case { tried: true, ..IDLE }, Case { ejected: true, ..IDLE }, busy, IDLE, IDLE];
    let mut notebook = Notebook::default();
    let picked = pick_before(&cases, 7, &mut notebook).unwrap();
    let rest = ["2: least-request 0 x 1", "3: least-request 1 x 1", "4: least-request 1 x 1"].map(str::to_owned);
    let first = ["0: tried", "1: serving"].map(str::to_owned);
    let expected = [&first[..], &rest, &[format!("{picked}: 1, one of 2")]].concat();
    assert_eq!(notebook.0, expected);

    let mut notebook = Notebook::default();
    pick_before(&[Case { ejected: true, ..IDLE }], 7, &mut notebook).unwrap();
    assert_eq!(notebook.0[0], "serving gave way");
}

proptest! {
    #[test]
    fn a_pick_is_never_a_tried_endpoint(
        cases in prop::collection::vec((0_u32..50, 0_u32..50, any::<bool>(), any::<bool>()), 0..70),
        seed in any::<u64>(),
    ) {
        let cases: Vec<_> = cases
            .into_iter()
            .map(|(in_flight, elsewhere, ejected, tried)| Case { in_flight, elsewhere, ejected, tried, ..IDLE })
            .collect();
        let untried = cases.iter().filter(|case| !case.tried).count();
        match pick(&cases, seed) {
            Ok(position) => {
                prop_assert!(!cases[position].tried);
                let serving = cases.iter().any(|case| !case.tried && !case.ejected);
                prop_assert!(!serving || !cases[position].ejected, "a serving endpoint was passed over");
            }
            Err(_) => prop_assert_eq!(untried, 0),
        }
    }
}
