use clap::Parser;

use super::*;
use crate::addresses::AddressProvider;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

fn config(flags: &[&str]) -> Config {
    Cli::try_parse_from([&["kthena-router"], flags].concat()).expect("flags parse").config
}

#[test]
fn defaults_are_those_of_the_go_router() {
    let config = config(&[]);
    assert_eq!((config.listen.port, config.listen.metrics_port, config.listen.debug_port), (8080, 9090, 15000));
    assert_eq!(config.drain.drain_timeout, Duration::from_secs(300));
    assert_eq!(config.engines.metrics_scrape_interval, Duration::from_secs(1));
    assert_eq!(config.limits.max_body_bytes, 64 * 1024 * 1024);
    assert!(config.access_log.access_log_enabled);
    assert!(!config.gateway_api());
    assert_eq!(config.faults(), []);
}

#[test]
fn the_gateway_api_is_on_by_default_only_without_a_cluster() {
    for (flags, expected) in [
        (&["--manifests", "dir"][..], true),
        (&["--manifests", "dir", "--enable-gateway-api=false"], false),
        (&["--enable-gateway-api"], true),
        (&["--enable-gateway-api=true"], true),
    ] {
        assert_eq!(config(flags).gateway_api(), expected, "{flags:?}");
    }
}

#[test]
fn all_contradictions_are_reported_at_once() {
    let faults = config(&[
        "--tls-cert=a.pem",
        "--enable-gateway-api-inference-extension",
        "--port=9090",
        "--max-body-bytes=0",
        "--drain-timeout=0s",
        "--kube-api-qps=-1",
    ])
    .faults();
    assert_eq!(
        faults,
        [
            ConfigError::HalfTls { given: "--tls-cert" },
            ConfigError::ExtensionWithoutGatewayApi,
            ConfigError::SamePort { first: "--port", second: "--metrics-port", port: 9090 },
            ConfigError::Zero { flag: "--max-body-bytes" },
            ConfigError::Zero { flag: "--drain-timeout" },
            ConfigError::NotANumber { flag: "--kube-api-qps" },
        ]
    );
}

#[test]
fn a_port_of_zero_or_a_bad_duration_does_not_parse() {
    for flag in ["--port=0", "--port=70000", "--drain-timeout=soon", "--access-log-format=xml", "--bind-address=host"] {
        assert!(Cli::try_parse_from(["kthena-router", flag]).is_err(), "{flag}");
    }
}

#[test]
fn durations_are_written_as_in_manifests() {
    assert_eq!(config(&["--client-timeout=1m30s"]).limits.client_timeout, Duration::from_secs(90));
    for duration in ["5", "5 s", "5sec", "2days"] {
        let Err(refused) = Cli::try_parse_from(["kthena-router", "--client-timeout", duration]) else {
            panic!("{duration} is refused")
        };
        let said = refused.to_string();
        assert!(said.contains("such as `500ms`, `30s` or `1m30s`"), "{duration}: {said}");
    }
}

#[test]
fn a_pool_and_its_addresses_need_each_other() {
    let pool = ["--gateway-address-provider=pool", "--gateway-addresses=192.0.2.0/28,192.0.2.64"];
    assert_eq!(config(&pool).faults(), []);
    assert!(matches!(config(&pool).addresses.provider(), AddressProvider::Pool(ranges) if ranges.len() == 2));
    for flag in pool {
        assert_eq!(config(&[flag]).faults(), [ConfigError::PoolAndAddresses], "{flag}");
    }
    assert!(Cli::try_parse_from(["kthena-router", "--gateway-addresses=192.0.2.0/33"]).is_err());
}

#[test]
fn the_go_routers_queues_are_this_ones_with_other_settings() {
    let settings = |flags: &[&str]| config(flags).flow.settings();
    let fair = settings(&[
        "--enable-fairness-scheduling",
        "--fairness-max-concurrent=32",
        "--fairness-queue-timeout=5s",
        "--fairness-output-token-weight=3",
        "--fairness-priority-token-weight=0",
    ]);
    assert_eq!((fair.per_pool, fair.time_to_live), (Some(32), Duration::from_secs(5)));
    assert_eq!((fair.weights.input, fair.weights.output, fair.weights.request), (1.0, 3.0, 0.0));
    let by_requests = ["--fairness-priority-token-weight=0", "--fairness-priority-request-num-weight=2"];
    let fair = settings(&[&["--enable-fairness-scheduling"], &by_requests[..]].concat());
    assert_eq!((fair.per_pool, fair.weights.service(100, 100)), (None, 2000));
    let boost = settings(&["--enable-session-boost", "--session-boost-inflight-per-pod=8"]);
    assert_eq!((boost.per_endpoint, boost.most_sessions), (Some(8), 4096));
    assert_eq!(boost.time_to_live, Duration::from_secs(30));
    let off = settings(&["--fairness-max-concurrent=32", "--session-boost-inflight-per-pod=8"]);
    assert_eq!((off.per_pool, off.per_endpoint, off.most_sessions), (None, None, 0), "neither is switched on");
    let both = config(&["--enable-fairness-scheduling", "--enable-session-boost", "--fairness-input-token-weight=-1"]);
    let expected = [ConfigError::TwoQueues, ConfigError::NotANumber { flag: "--fairness-input-token-weight" }];
    assert_eq!(both.faults(), expected);
}
