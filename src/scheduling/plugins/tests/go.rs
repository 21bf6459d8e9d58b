//! The Go router's own plugin tests: four engines of which one should get the requests, or should not, and 200 probes of
//! which at least nine in ten must go to the right one. Each has a configuration file with that plugin alone, as the Go
//! router's tests write it.

use super::*;

const MOST: usize = PROBES * 9 / 10;

/// Returns the Go router's file with one score and, where there is one, a filter.
fn file(filter: &str, score: &str) -> String {
    format!(
        "
scheduler:
  pluginConfig:
    - name: least-request
      args:
        maxWaitingRequests: 1
    - name: least-latency
      args:
        TTFTTPOTWeightFactor: 0.5
    - name: prefix-cache
      args:
        blockSizeToHash: 64
        maxBlocksToMatch: 128
        maxHashCacheSize: 50000
  plugins:
    Filter:
      enabled: [{filter}]
      disabled: []
    Score:
      enabled:
        - name: {score}
          weight: 1
      disabled: []
"
    )
}

fn scenes<const N: usize>(make: impl Fn(usize) -> Scene) -> [Scene; N] {
    std::array::from_fn(make)
}

#[test]
fn prefix_cache_sends_the_same_prompt_to_one_pod() {
    let scenes: [_; 4] = scenes(|_| Scene::default());
    let facts = prompt(8);
    let config = file("", "prefix-cache");
    // The first probe goes anywhere, and is noted in the same step.
    let first = picks(&config, &scenes, &facts).iter().position(|count| *count > 0).unwrap();
    scenes[first].ledger.open(&facts.attempt(&[]), 0, None);
    assert!(picks(&config, &scenes, &facts)[first] >= MOST);
}

#[test]
fn least_request_sends_to_the_idle_pod() {
    let busy = EndpointMetrics { running: 4, waiting: 3, ..EndpointMetrics::default() };
    let scenes: [_; 4] = scenes(|place| Scene {
        metrics: if place == 2 { EndpointMetrics::default() } else { busy },
        ..Scene::default()
    });
    for config in [file("least-request", "random"), file("", "least-request"), file("least-request", "least-request")] {
        assert!(picks(&config, &scenes, &RequestFacts::default())[2] >= MOST, "{config}");
    }
}

#[test]
fn gpu_usage_sends_to_the_pod_with_an_empty_cache() {
    let scenes: [_; 4] =
        scenes(|place| Scene { metrics: engine(0, if place == 1 { 0.04 } else { 0.1 }), ..Scene::default() });
    assert!(picks(&file("", "gpu-usage"), &scenes, &RequestFacts::default())[1] >= MOST);
}

#[test]
fn least_latency_avoids_the_slow_pod() {
    let scenes: [_; 4] = scenes(|place| {
        let (first, inter) = if place == 3 { (0.5, 0.02) } else { (0.02, 0.005) };
        Scene { first_token: Some(first), inter_token: Some(inter), ..Scene::default() }
    });
    let counts = picks(&file("", "least-latency"), &scenes, &RequestFacts::default());
    assert!(counts[..3].iter().sum::<usize>() >= MOST, "{counts:?}");
}

#[test]
fn lora_affinity_sends_nothing_to_pods_without_the_adapter() {
    let listed = |names: &[&str]| Adapters {
        listed: Some(names.iter().map(|name| Arc::from(*name)).collect()),
        ..Adapters::default()
    };
    let scenes: [_; 4] = scenes(|place| {
        let names: &[&str] = if place == 0 { &["base", "lora-a"] } else { &["base"] };
        Scene { adapters: Some(Arc::new(listed(names))), ..Scene::default() }
    });
    let facts = RequestFacts { adapter: Some("lora-a".into()), ..RequestFacts::default() };
    for config in [file("lora-affinity", "random"), "scheduler: {}".to_owned()] {
        assert_eq!(picks(&config, &scenes, &facts), [PROBES, 0, 0, 0], "{config}");
    }
    let others = RequestFacts { adapter: Some("lora-b".into()), ..RequestFacts::default() };
    let counts = picks(&file("lora-affinity", "random"), &scenes, &others);
    assert!(counts.iter().all(|count| *count > 0), "nobody has it, and the engine says so: {counts:?}");
}

#[test]
fn a_session_stays_where_it_is_until_that_endpoint_is_full() {
    let facts = RequestFacts { session: Some("user-1".into()), ..RequestFacts::default() };
    let idle: [_; 4] = scenes(|_| Scene::default());
    let counts = picks(&file("", "random"), &idle, &facts);
    let home = counts.iter().position(|count| *count == PROBES).expect("all probes go to one endpoint");
    for (others, own, expected) in [(0, 8, true), (0, 9, false), (10, 20, true), (10, 21, false), (50, 40, true)] {
        let scenes: [_; 4] =
            scenes(|place| Scene { in_flight: if place == home { own } else { others }, ..Scene::default() });
        let counts = picks("scheduler: {}", &scenes, &facts);
        assert_eq!(counts[home] == PROBES, expected, "{own} where others have {others}: {counts:?}");
        assert!(counts.contains(&PROBES), "a session that moves stays together: {counts:?}");
    }
    let homes: Vec<_> = (0..100)
        .map(|user| RequestFacts { session: Some(format!("user-{user}").into()), ..RequestFacts::default() })
        .map(|facts| picks(&file("", "random"), &idle, &facts).iter().position(|count| *count == PROBES))
        .collect();
    let count = |place| homes.iter().filter(|home| **home == Some(place)).count();
    assert!((0..4).all(|place| count(place) > 10), "sessions are spread: {homes:?}");
}

#[test]
fn random_is_even() {
    let scenes: [_; 4] = scenes(|_| Scene::default());
    let counts = picks(&file("", "random"), &scenes, &RequestFacts::default());
    assert!(counts.iter().all(|count| (30..=70).contains(count)), "{counts:?}");
}

#[test]
fn the_default_keeps_an_adapter_where_it_is_loaded() {
    let facts = RequestFacts { adapter: Some("a".into()), ..prompt(4) };
    let sent: [_; 4] = scenes(|_| Scene::default());
    let entry = sent[1].ledger.open(&RequestFacts { adapter: Some("a".into()), ..prompt(0) }.attempt(&[]), 0, None);
    sent[1].ledger.abandon(&entry);
    assert_eq!(picks("scheduler: {}", &sent, &facts)[1], PROBES, "what was sent last is loaded");
    let used = |names: &[&str]| Adapters {
        used: names.iter().map(|name| Arc::from(*name)).collect(),
        slots: Some(2),
        ..Adapters::default()
    };
    let told: [_; 3] = scenes(|place| {
        let names: &[&str] = [&["b", "c"][..], &["a", "c"], &["b", "d"]][place];
        Scene { adapters: Some(Arc::new(used(names))), in_flight: if place == 1 { 6 } else { 0 }, ..Scene::default() }
    });
    assert_eq!(
        picks("scheduler: {}", &told, &facts)[1],
        PROBES,
        "slots that are all in use cost more than a few requests"
    );
}
