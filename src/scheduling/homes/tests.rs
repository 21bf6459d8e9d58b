use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::inference::exposition::EndpointMetrics;
use crate::object::ObjectKey;
use crate::scheduling::request::RequestFacts;

/// A pool as one replica sees it.
struct Sight {
    endpoints: Vec<Endpoint>,
    observations: Vec<Observation>,
    ledgers: Vec<Ledger>,
    commons: Commons,
    homes: Homes,
}

impl Sight {
    /// Sees so many endpoints, each with so many requests of which this router sent some.
    fn new(endpoints: u16, requests: u32, own: u32) -> Self {
        let endpoint = |place: u16| {
            Endpoint::new(ObjectKey::new("n", format!("pod-{place}")), IpAddr::V4(Ipv4Addr::LOCALHOST), place)
        };
        let metrics = EndpointMetrics { running: requests, ..EndpointMetrics::default() };
        let observation = Observation { metrics: Some(metrics), in_flight_at_scrape: own, ..Observation::default() };
        Self {
            endpoints: (0..endpoints).map(endpoint).collect(),
            observations: vec![observation; endpoints.into()],
            ledgers: (0..endpoints).map(|_| Ledger::default()).collect(),
            commons: Commons::default(),
            homes: Homes::default(),
        }
    }

    fn survey(&mut self) {
        let surveyed: Vec<_> = (self.endpoints.iter().zip(&self.observations).zip(&self.ledgers))
            .map(|((endpoint, observation), ledger)| Surveyed { endpoint, observation, ledger })
            .collect();
        for _ in 0..50 {
            self.homes = self.homes.survey(&self.commons, &surveyed);
        }
    }

    /// Returns what each endpoint is presumed to have of a prompt.
    fn presumed(&self, prompt: u64) -> Vec<u32> {
        let prefix: Vec<_> = (1..=20).map(|block: u64| BlockHash(prompt).followed_by(&block.to_le_bytes())).collect();
        let facts = RequestFacts { prefix, tokens: 20 * 64, ..RequestFacts::default() };
        let mut candidates: Vec<_> = (self.endpoints.iter().zip(&self.observations).zip(&self.ledgers).enumerate())
            .map(|(position, ((endpoint, observation), ledger))| Candidate {
                endpoint,
                position,
                in_flight: 0,
                elsewhere: 0,
                observation,
                penalty: 0,
                ledger,
                cached: 0,
                counted: 0,
            })
            .collect();
        self.homes.presume(&self.commons, &facts.attempt(&[]), &mut candidates);
        candidates.iter().map(|candidate| candidate.counted).collect()
    }

    fn home(&self, prompt: u64) -> Option<usize> {
        self.presumed(prompt).iter().position(|tokens| *tokens > 0)
    }
}

#[test]
fn a_lone_router_presumes_nothing() {
    let mut sight = Sight::new(4, 10, 10);
    assert_eq!(sight.presumed(1), [0; 4]);
    sight.survey();
    assert_eq!((sight.presumed(1), sight.homes.is_shared()), (vec![0; 4], false));
}

#[test]
fn what_was_seen_once_is_presumed_at_its_home() {
    let mut sight = Sight::new(4, 10, 5);
    sight.survey();
    assert!(sight.homes.is_shared());
    let first = sight.presumed(1).into_iter().max();
    assert_eq!(sight.presumed(1).into_iter().filter(|tokens| *tokens > 0).collect::<Vec<_>>(), [20 * 64]);
    assert!(first > Some(0), "nothing is known yet, and so hope counts");
}

#[test]
fn prompts_that_never_come_back_have_no_home() {
    let mut sight = Sight::new(4, 10, 5);
    sight.survey();
    for prompt in 0..4000 {
        sight.presumed(prompt);
    }
    sight.survey();
    let most = sight.presumed(1_000_000).into_iter().max();
    assert!(most < Some(10), "{most:?} of 1280 tokens");
}

#[test]
fn replicas_agree_in_whatever_order_they_see_prompts_and_endpoints() {
    let (mut one, mut other) = (Sight::new(6, 10, 5), Sight::new(6, 10, 4));
    other.endpoints.reverse();
    for prompt in 0..600 {
        for _ in 0..2 {
            one.presumed(prompt % 300);
            other.presumed(299 - prompt % 300);
        }
    }
    one.survey();
    other.survey();
    let mut counts = [0; 6];
    for prompt in 0..300 {
        let home = one.home(prompt);
        assert_eq!(home, other.home(prompt).map(|place| 5 - place), "{prompt}");
        counts[home.expect("every prompt has a home")] += 1;
    }
    assert!(counts.iter().all(|count| (45..=53).contains(count)), "shared out evenly: {counts:?}");
}

#[test]
fn what_is_new_goes_home_where_new_prompts_come_back() {
    let mut sight = Sight::new(4, 10, 5);
    // Most of these tenants were seen once, a few twice: there are not many more of them.
    (0..100).for_each(|prompt| drop(sight.presumed(prompt)));
    (0..20).for_each(|prompt| drop(sight.presumed(prompt)));
    sight.survey();
    let most = sight.presumed(1_000_000).into_iter().max();
    assert!(most > Some(1000), "{most:?} of 1280 tokens");
}

#[test]
fn an_endpoint_that_has_more_requests_than_others_takes_fewer_marks() {
    let mut sight = Sight::new(4, 100, 50);
    (0..3).for_each(|_| (0..400).for_each(|prompt| drop(sight.presumed(prompt))));
    let mut counts = |busy: u32| {
        sight.observations[0].metrics = Some(EndpointMetrics { running: busy, ..EndpointMetrics::default() });
        sight.survey();
        // Marks are shared out anew when requests have come.
        sight.presumed(0);
        sight.survey();
        let mut counts = [0; 4];
        (0..400).for_each(|prompt| counts[sight.home(prompt).expect("every prompt has a home")] += 1);
        counts
    };
    let alike = counts(100);
    assert!(alike.iter().all(|count| (97..=101).contains(count)), "{alike:?}");
    let busy = counts(300);
    assert!((94..=98).contains(&busy[0]) && busy[1..].iter().all(|count| *count > 99), "{busy:?}");
    assert!(counts(20)[0] > 101, "one that is idle takes more");
}

#[test]
fn few_marks_leave_no_endpoint_out() {
    let mut sight = Sight::new(8, 10, 5);
    for _ in 0..3 {
        (0..12).for_each(|prompt| drop(sight.presumed(prompt)));
    }
    sight.survey();
    let mut counts = [0; 8];
    (0..12).for_each(|prompt| counts[sight.home(prompt).expect("every prompt has a home")] += 1);
    assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
}

#[test]
fn an_endpoint_that_goes_changes_few_homes() {
    let (mut all, mut fewer) = (Sight::new(8, 10, 5), Sight::new(7, 10, 5));
    for sight in [&mut all, &mut fewer] {
        for _ in 0..3 {
            (0..400).for_each(|prompt| drop(sight.presumed(prompt)));
        }
        sight.survey();
    }
    let stayed = (0..400).filter(|prompt| all.home(*prompt) == fewer.home(*prompt)).count();
    assert!(stayed > 300, "{stayed} of 350 that could");
}

#[test]
fn what_this_router_has_added_since_a_scrape_others_have_too() {
    let mut sight = Sight::new(2, 10, 5);
    assert_eq!(sight.homes.elsewhere(&sight.observations[0], 8), 5, "it is alone as far as it knows");
    sight.survey();
    assert_eq!(sight.homes.elsewhere(&sight.observations[0], 8), 8);
    assert_eq!(sight.homes.elsewhere(&sight.observations[0], 0), 0);
    assert_eq!(sight.homes.elsewhere(&Observation::default(), 8), 0, "nothing was scraped");
}
