//! How engines are reached, and how long they may take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::kinds::model_server::HeartbeatForm;
use crate::pool::time_limits::{Heartbeat, TimeLimits};

/// How engines are reached and observed.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct EngineConfig {
    /// Time between two scrapes of an engine's metrics
    #[arg(long, env = "METRICS_SCRAPE_INTERVAL", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub metrics_scrape_interval: Duration,

    /// Time to establish a connection to an engine
    #[arg(long, env = "KTHENA_CONNECT_TIMEOUT", default_value = "3s", value_parser = duration, value_name = "DURATION")]
    pub connect_timeout: Duration,

    /// Time from sending a request to an engine to the first byte of its answer, where no route or ModelServer says less;
    /// an answer that is not streamed begins when it is complete
    #[arg(
        long, env = "KTHENA_FIRST_BYTE_TIMEOUT", default_value = "30m", value_parser = duration, value_name = "DURATION"
    )]
    pub first_byte_timeout: Duration,

    /// Time from sending a request to an engine to the first piece of its stream, where no ModelServer says otherwise;
    /// without it there is no such limit
    #[arg(long, env = "KTHENA_FIRST_TOKEN_TIMEOUT", value_parser = duration, value_name = "DURATION")]
    pub first_token_timeout: Option<Duration>,

    /// Longest pause within an answer of an engine; after it the answer is broken off
    #[arg(long, env = "KTHENA_IDLE_TIMEOUT", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub idle_timeout: Duration,

    /// Time from a request to the end of its answer, where no ModelServer says otherwise; without it there is no such limit
    #[arg(long, env = "KTHENA_TOTAL_TIMEOUT", value_parser = duration, value_name = "DURATION")]
    pub total_timeout: Option<Duration>,

    /// Time for which an engine is silent within a stream before its client gets a heartbeat, and again for each further
    /// one; without it there are none, unless a ModelServer asks for them
    #[arg(long, env = "KTHENA_HEARTBEAT_INTERVAL", value_parser = duration, value_name = "DURATION")]
    pub heartbeat_interval: Option<Duration>,

    /// What those heartbeats look like: comments, or the API's own event for that purpose where it has one
    #[arg(long, env = "KTHENA_HEARTBEAT_FORM", value_enum, default_value = "comment")]
    pub heartbeat_form: HeartbeatForm,

    /// Time in which the endpoint picker of an InferencePool must decide on a request that it has been sent whole
    #[arg(
        long, env = "KTHENA_ENDPOINT_PICKER_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "DURATION"
    )]
    pub endpoint_picker_timeout: Duration,

    /// YAML file that says how endpoints are rated, as the Go router's [default: by the time until an answer begins]
    #[arg(long, env = "KTHENA_SCHEDULER_CONFIG", value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,

    /// PEM file with the CA certificates that https engines are verified against; without it they are not verified
    #[arg(long, env = "KTHENA_ENGINE_CA_CERT", value_name = "FILE")]
    pub engine_ca_cert: Option<PathBuf>,
}

impl EngineConfig {
    /// Returns the limits that hold where a backend has none of its own.
    pub fn limits(&self) -> TimeLimits {
        TimeLimits {
            connect: None,
            first_token: self.first_token_timeout,
            idle: Some(self.idle_timeout),
            total: self.total_timeout,
            heartbeat: self.heartbeat_interval.map(|interval| Heartbeat { interval, form: self.heartbeat_form }),
        }
    }
}
