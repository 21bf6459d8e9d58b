use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::health::{Cause, Standing};
use crate::inference::pool::{Endpoint, Observation};
use crate::inference::scheduling::SchedulerConfig;
use crate::object::ObjectKey;

struct Case {
    in_flight: u32,
    elsewhere: u32,
    ejected: bool,
    penalty: u32,
    tried: bool,
}

const IDLE: Case = Case { in_flight: 0, elsewhere: 0, ejected: false, penalty: 0, tried: false };

fn endpoints(count: usize) -> Vec<Endpoint> {
    (0..count)
        .map(|index| Endpoint {
            pod: ObjectKey::new("default", format!("pod-{index}")),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8000,
        })
        .collect()
}

fn observations(cases: &[Case]) -> Vec<Observation> {
    cases
        .iter()
        .map(|case| Observation {
            metrics: Some(EndpointMetrics { running: case.elsewhere, ..EndpointMetrics::default() }),
            in_flight_at_scrape: 0,
            standing: if case.ejected { Standing::Ejected(Cause::Refused) } else { Standing::Serving },
        })
        .collect()
}

fn pick(cases: &[Case], seed: u64) -> Result<usize, PickError> {
    let endpoints = endpoints(cases.len());
    let observations = observations(cases);
    let mut candidates = cases
        .iter()
        .enumerate()
        .map(|(position, case)| Candidate {
            endpoint: &endpoints[position],
            position,
            in_flight: case.in_flight,
            observation: &observations[position],
            penalty: case.penalty,
            tried: case.tried,
        })
        .collect();
    SchedulerConfig::default()
        .picker()
        .pick(&mut candidates, &mut StdRng::seed_from_u64(seed))
        .map(|candidate| candidate.position)
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
    let candidate =
        Candidate { endpoint, position: 0, in_flight: 1, observation: &observation, penalty: 0, tried: false };
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

proptest! {
    #[test]
    fn a_pick_is_never_a_tried_endpoint(
        cases in prop::collection::vec((0_u32..50, 0_u32..50, any::<bool>(), any::<bool>()), 0..70),
        seed in any::<u64>(),
    ) {
        let cases: Vec<_> = cases
            .into_iter()
            .map(|(in_flight, elsewhere, ejected, tried)| Case { in_flight, elsewhere, ejected, penalty: 0, tried })
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
