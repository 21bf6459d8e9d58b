use std::net::{IpAddr, Ipv4Addr};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::health::Cause;
use crate::object::ObjectKey;
use crate::scheduling::config::SchedulerConfig;
use crate::scheduling::endpoint::{Endpoint, Observation};
use crate::scheduling::ledger::Ledger;
use crate::scheduling::request::RequestFacts;

const CONFIG: &str = "scheduler: {plugins: {Filter: {enabled: [least-request]}, Score: {enabled: \
                      [{name: least-request, weight: 2}, {name: gpu-usage, weight: 1}]}}}";

/// Picks among four endpoints, the first of which was tried, the second of which is ejected, and the third of which has
/// a long queue; the figures of all are 250 ms old.
#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a test is who gives it")]
fn pick(record: &mut PickRecord) {
    let scraped = Instant::now();
    let pool = PoolFacts { now: scraped + Duration::from_millis(250), is_shared: false, has_roles: false };
    let endpoints: Vec<_> = (0..4)
        .map(|port| Endpoint::new(ObjectKey::new("default", "p"), IpAddr::V4(Ipv4Addr::LOCALHOST), 8000 + port))
        .collect();
    let observation = |place: usize| Observation {
        metrics: Some(EndpointMetrics { waiting: if place == 2 { 50 } else { 1 }, ..EndpointMetrics::default() }),
        scraped: Some(scraped),
        standing: if place == 1 { Standing::Ejected(Cause::Refused) } else { Standing::Serving },
        ..Observation::default()
    };
    let observations: Vec<_> = (0..4).map(observation).collect();
    let ledger = Ledger::default();
    let candidate = |(position, endpoint)| Candidate {
        endpoint,
        position,
        in_flight: 1,
        elsewhere: observations[position].elsewhere(),
        observation: &observations[position],
        penalty: 0,
        ledger: &ledger,
        cached: 64,
        counted: 64,
    };
    let mut candidates: Vec<_> = endpoints.iter().enumerate().map(candidate).collect();
    let tried = [endpoints[0].socket()];
    let facts = RequestFacts { tokens: 100, ..RequestFacts::default() };
    let request = facts.attempt(&tried);
    record.begin(&request, &pool, &candidates);
    let picker = SchedulerConfig::parse(CONFIG).unwrap().picker();
    picker.pick(&request, &pool, &mut candidates, &mut StdRng::seed_from_u64(0), record).unwrap();
}

#[test]
fn a_pick_can_be_read_back() {
    let mut record = PickRecord::default();
    pick(&mut record);
    let words = record.words(&|address| Some(format!("pod-{}", address.port())));
    assert_eq!((words.picked.as_deref(), words.equally_good, words.prompt_tokens), (Some("pod-8003"), 1, 100));
    let verdicts = |place: usize| {
        let filters = words.endpoints[place].filters.iter();
        filters.map(|words| (words.filter.as_str(), words.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(0), [("tried", Verdict::PassedOver)]);
    assert_eq!(verdicts(1), [("serving", Verdict::PassedOver)]);
    assert_eq!(verdicts(2), [("serving", Verdict::Kept), ("least-request", Verdict::PassedOver)]);
    assert_eq!(verdicts(3), [("serving", Verdict::Kept), ("least-request", Verdict::Kept)]);
    let picked = &words.endpoints[3];
    let scores: Vec<_> = picked.scores.iter().map(|words| (words.score.as_str(), words.raw, words.weighted)).collect();
    assert_eq!(scores, [("least-request", 0.0, 0.0), ("gpu-usage", 0.5, 0.5)]);
    assert_eq!((picked.total, picked.inputs.scrape_age_seconds), (Some(0.5), Some(0.25)));
    assert_eq!((picked.inputs.cached_tokens, picked.inputs.waiting), (64, Some(1)));
    assert!(words.endpoints[..3].iter().all(|words| words.scores.is_empty() && words.total.is_none()));
}

#[test]
fn a_record_is_used_again() {
    let mut record = PickRecord::default();
    pick(&mut record);
    let (bytes, words) = (record.bytes(), record.words(&|_| None));
    pick(&mut record);
    assert_eq!((record.bytes(), record.words(&|_| None)), (bytes, words), "it has not grown");
    record.clear();
    assert_eq!(record.words(&|_| None).endpoints, []);
}
