//! How requests wait for pools that have no room.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::{ConfigError, GoQueueConfig, duration};
use crate::flow::settings::Settings;

/// How requests wait for pools that have no room, and for those that have no endpoint.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct FlowConfig {
    /// Let requests wait in the router while their pool is saturated, in an order that is fair
    #[arg(
        long, env = "KTHENA_ENABLE_FLOW_CONTROL", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", action = ArgAction::Set
    )]
    pub enable_flow_control: bool,

    /// Time that a request waits for a saturated pool; after it, it is answered with 429
    #[arg(long, env = "KTHENA_QUEUE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub queue_timeout: Duration,

    /// Requests of each priority that wait for a pool; more are answered with 429, the longest flow's first
    #[arg(long, env = "KTHENA_QUEUE_MAX_REQUESTS", default_value_t = 5000, value_name = "N")]
    pub queue_max_requests: usize,

    /// Bytes of the requests that wait for a pool; more are answered with 429, the longest flow's first
    #[arg(long, env = "KTHENA_QUEUE_MAX_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub queue_max_bytes: usize,

    /// Flows of each priority that are told apart; further ones share one turn
    #[arg(long, env = "KTHENA_QUEUE_MAX_FLOWS", default_value_t = 1024, value_name = "N")]
    pub queue_max_flows: usize,

    /// How many times the service of the next lower priority a priority gets while requests of both wait
    #[arg(long, env = "KTHENA_QUEUE_PRIORITY_WEIGHT", default_value_t = 8, value_name = "N")]
    pub queue_priority_weight: u32,

    /// Percentage of a pool's engines, rounded down, that get no prompts of busy flows while a quiet flow asks beside them
    #[arg(
        long, env = "KTHENA_QUEUE_QUIET_PERCENT", default_value_t = 25, value_name = "PERCENT",
        value_parser = clap::value_parser!(u32).range(..=100)
    )]
    pub queue_quiet_percent: u32,

    /// Requests in flight at each engine of a pool; more wait [default: as many as the engine shows that it works on]
    #[arg(long, env = "KTHENA_MAX_REQUESTS_PER_ENDPOINT", value_name = "N")]
    pub max_requests_per_endpoint: Option<u32>,

    /// Requests in flight at all engines of a pool together; more wait [default: no such limit]
    #[arg(long, env = "KTHENA_MAX_REQUESTS_PER_POOL", value_name = "N")]
    pub max_requests_per_pool: Option<u32>,

    /// Time that a request waits for a pool without endpoints, as one that is scaled to zero; 0s answers it with 503
    /// at once
    #[arg(
        long, env = "KTHENA_HOLD_WITHOUT_ENDPOINTS", default_value = "0s", value_parser = duration, value_name = "DURATION"
    )]
    pub hold_without_endpoints: Duration,

    /// Requests that wait for a pool without endpoints; more are answered with 503
    #[arg(long, env = "KTHENA_HOLD_MAX_REQUESTS", default_value_t = 1000, value_name = "N")]
    pub hold_max_requests: usize,

    /// Port on which KEDA is answered as an external scaler over gRPC [default: none is opened]
    #[arg(long, env = "KTHENA_SCALER_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub scaler_port: Option<u16>,

    /// The Go router's options.
    #[command(flatten)]
    pub go: GoQueueConfig,
}

impl FlowConfig {
    /// Returns what contradicts itself or cannot be used.
    pub(super) fn faults(&self) -> impl Iterator<Item = ConfigError> {
        let zero = [
            ("--queue-timeout", self.queue_timeout.is_zero()),
            ("--queue-max-flows", self.queue_max_flows == 0),
            ("--queue-priority-weight", self.queue_priority_weight == 0),
            ("--max-requests-per-endpoint", self.max_requests_per_endpoint == Some(0)),
            ("--max-requests-per-pool", self.max_requests_per_pool == Some(0)),
        ];
        let zero = zero.into_iter().filter(|(_, zero)| *zero).map(|(flag, _)| ConfigError::Zero { flag });
        zero.chain(self.go.faults())
    }

    /// Returns how requests wait.
    pub fn settings(&self) -> Settings {
        self.go.change(Settings {
            enabled: self.enable_flow_control,
            time_to_live: self.queue_timeout,
            most_requests: self.queue_max_requests,
            most_bytes: self.queue_max_bytes,
            most_flows: self.queue_max_flows,
            priority_weight: self.queue_priority_weight,
            kept_percent: self.queue_quiet_percent,
            per_endpoint: self.max_requests_per_endpoint,
            per_pool: self.max_requests_per_pool,
            hold: self.hold_without_endpoints,
            most_held: self.hold_max_requests,
            ..Settings::default()
        })
    }
}
