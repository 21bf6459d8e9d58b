use super::*;

/// The file of the Go router's chart.
const CHART: &str = "
scheduler:
  pluginConfig:
    - name: least-request
      args:
        maxWaitingRequests: 10
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
      enabled:
        - least-request
      disabled:
        - lora-affinity
    Score:
      enabled:
        - name: least-request
          weight: 1
        - name: gpu-usage
          weight: 1
        - name: least-latency
          weight: 1
        - name: prefix-cache
          weight: 1
";

fn score(plugin: &str) -> String {
    format!("scheduler: {{plugins: {{Score: {{enabled: [{plugin}]}}}}}}")
}

#[test]
fn the_file_of_the_go_routers_chart_works_unchanged() {
    let config = SchedulerConfig::parse(CHART).unwrap();
    assert_eq!(config.filters, ["least-request"]);
    let scores = ["least-request", "gpu-usage", "least-latency", "prefix-cache"].map(|name| (name, 1.0));
    assert_eq!((config.scores, config.warnings), (scores.to_vec(), Vec::new()));
}

#[test]
fn files_mean_what_they_mean_to_the_go_router() {
    for (case, text, expected) in [
        ("no word about plugins", "scheduler: {}".to_owned(), vec![("expected-wait", 1.0)]),
        ("an empty section", "scheduler:".to_owned(), vec![("expected-wait", 1.0)]),
        ("a weight", score("{name: random, weight: 2.5}"), vec![("random", 2.5)]),
        ("a weight that is left out is none", score("{name: random}"), vec![("random", 0.0)]),
        ("plugins, but none enabled", "scheduler: {plugins: {}}".to_owned(), vec![]),
    ] {
        let config = SchedulerConfig::parse(&text).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(config.scores, expected, "{case}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    for (case, text, expected) in [
        ("a plugin that needs Redis", score("{name: kvcache-aware, weight: 1}"), "line 1: the plugin `kvcache-aware`"),
        ("its arguments", "scheduler: {pluginConfig: [{name: kvcache-aware, args: {x: 1}}]}".to_owned(), "Redis"),
        (
            "enabled and disabled",
            "scheduler: {plugins: {Filter: {enabled: [least-request], disabled: [least-request]}}}".to_owned(),
            "is left out",
        ),
    ] {
        let warnings = SchedulerConfig::parse(&text).unwrap_or_else(|error| panic!("{case}: {error}")).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{case}: {warnings:?}");
    }
}

#[test]
fn a_file_that_would_be_misunderstood_is_refused_with_the_line() {
    let arguments =
        |arguments: &str| format!("scheduler: {{pluginConfig: [{{name: least-latency, args: {{{arguments}}}}}]}}");
    for (case, text, expected) in [
        ("auth would be open", "scheduler: {}\nauth:\n  issuer: x".to_owned(), &["line 3", "`auth`"][..]),
        ("an unknown plugin", score("\n{name: gues, weight: 1}"), &["line 2", "`gues`", "`prefix-cache`"]),
        ("a filter's name", "scheduler: {plugins: {Filter: {enabled: [random]}}}".to_owned(), &["`random`", "Filter"]),
        ("a negative weight", score("{name: random, weight: -1}"), &["line 1", "not negative"]),
        ("a misspelt key", "scheduler:\n  pluginsConfig: []".to_owned(), &["pluginsConfig", "line 2"]),
        ("a misspelt list", "scheduler: {plugins: {Score: {enable: []}}}".to_owned(), &["enable"]),
        ("lower case", "scheduler: {plugins: {score: {}}}".to_owned(), &["score"]),
        ("an unknown section", "schedule: {}".to_owned(), &["schedule"]),
        ("an unknown argument", arguments("weight: 1"), &["line 1", "`weight`"]),
        ("an argument out of bounds", arguments("TTFTTPOTWeightFactor: 1.5"), &["line 1", "between 0 and 1"]),
        ("arguments of nobody", "scheduler: {pluginConfig: [{name: gues}]}".to_owned(), &["`gues`", "pluginConfig"]),
        ("no YAML", "scheduler: [".to_owned(), &["line 1"]),
    ] {
        let error = SchedulerConfig::parse(&text).map(|_| case).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{case}: {error}");
    }
}

#[test]
fn arguments_are_found_in_any_case() {
    let text = "scheduler: {pluginConfig: [{name: least-request, args: {MAXWAITINGREQUESTS: 3}}]}";
    let arguments = SchedulerConfig::parse(text).unwrap().arguments;
    assert_eq!(arguments["least-request"].clone().count("maxWaitingRequests", 10), Ok(3));
}
