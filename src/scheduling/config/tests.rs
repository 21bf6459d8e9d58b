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
fn a_plugin_that_is_enabled_and_disabled_is_left_out_with_a_word() {
    let text = "scheduler: {plugins: {Filter: {enabled: [least-request], disabled: [least-request]}}}";
    let config = SchedulerConfig::parse(text).unwrap();
    assert!(config.filters.is_empty());
    assert!(config.warnings.len() == 1 && config.warnings[0].contains("is left out"), "{:?}", config.warnings);
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

#[test]
fn lookups_in_redis_are_made_where_the_plugin_is_used() {
    let parse = |text: &str| SchedulerConfig::parse(text).unwrap().kvcache_aware();
    assert_eq!(parse(""), None);
    let plugin = parse(&score("{name: kvcache-aware, weight: 1}")).unwrap();
    assert_eq!((plugin.block_size, plugin.most_blocks, plugin.vllm_port), (16, 128, None));
    let arguments = "scheduler: {pluginConfig: [{name: kvcache-aware, args: {blockSizeToHash: 8, vllmTokenizerPort: 8100}}],\n \
                     plugins: {Score: {enabled: [{name: kvcache-aware, weight: 1}]}}}";
    let plugin = parse(arguments).unwrap();
    assert_eq!((plugin.block_size, plugin.vllm_port, plugin.sglang_port), (8, Some(8100), None));
    let wrong = "scheduler: {pluginConfig: [{name: kvcache-aware, args: {sglangTokenizerPort: 70000}}]}";
    assert!(SchedulerConfig::parse(wrong).unwrap_err().to_string().contains("a port"));
}
