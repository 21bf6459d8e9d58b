//! Every option of the serving router, once: its flag, its environment variable, its default, its meaning.
//!
//! Flags keep the names and defaults of the Go kthena-router. Environment variables mirror the flags with the
//! prefix `KTHENA_`, except for those that the Go router already reads (`POD_NAMESPACE`, `DRAIN_TIMEOUT`, …). The
//! prefix is not `KTHENA_ROUTER_` because Kubernetes sets `KTHENA_ROUTER_PORT=tcp://…` in every Pod beside a Service
//! called `kthena-router`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use thiserror::Error;

use crate::controller::SERVICE_NAME;
use crate::kinds::duration::{DurationError, parse_duration};

pub use addresses::{AddressConfig, AddressProviderName};
pub use engines::EngineConfig;
pub use flow::FlowConfig;
pub use go_queues::GoQueueConfig;
pub use redis::{RedisConfig, Secret};
pub use unserved::unserved;

mod addresses;
mod engines;
mod flow;
mod go_queues;
mod redis;
mod unserved;

/// The port of `/metrics` and the probes unless `--metrics-port` says otherwise.
pub const DEFAULT_METRICS_PORT: u16 = 9090;

/// The port of the debug pages unless `--debug-port` says otherwise.
pub const DEFAULT_DEBUG_PORT: u16 = 15000;

/// The namespace that the manifests, the chart and the examples put the router in.
pub const DEFAULT_NAMESPACE: &str = "kthena-system";

/// The options of a router that serves.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Config {
    /// Serve from a directory of Kubernetes YAML instead of a cluster; changes to its files take effect at once
    #[arg(long, env = "KTHENA_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,

    /// Which sockets to open and how to speak on them.
    #[command(flatten)]
    pub listen: ListenConfig,

    /// Which APIs to serve.
    #[command(flatten)]
    pub apis: ApiConfig,

    /// Where the addresses of Gateways come from.
    #[command(flatten)]
    pub addresses: AddressConfig,

    /// How the cluster is watched and written to.
    #[command(flatten)]
    pub cluster: ClusterConfig,

    /// What one request may cost.
    #[command(flatten)]
    pub limits: LimitConfig,

    /// How requests wait for pools that have no room.
    #[command(flatten)]
    pub flow: FlowConfig,

    /// How the router stops.
    #[command(flatten)]
    pub drain: DrainConfig,

    /// How engines are reached and observed.
    #[command(flatten)]
    pub engines: EngineConfig,

    /// Where routers and sidecars share what they know.
    #[command(flatten)]
    pub redis: RedisConfig,

    /// The access log.
    #[command(flatten)]
    pub access_log: AccessLogConfig,
}

/// Which sockets to open and how to speak on them.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct ListenConfig {
    /// Address on which inference and metrics ports are opened
    #[arg(long, env = "KTHENA_BIND_ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), value_name = "IP")]
    pub bind_address: IpAddr,

    /// Inference port: the default Gateway's listener, or the only port when the Gateway API is off
    #[arg(long, env = "KTHENA_PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// PEM file with the certificate chain for the inference port; needs --tls-key
    #[arg(long, env = "KTHENA_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key for the inference port; needs --tls-cert
    #[arg(long, env = "KTHENA_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Port of /metrics, /healthz and /readyz
    #[arg(long, env = "KTHENA_METRICS_PORT", default_value_t = DEFAULT_METRICS_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub metrics_port: u16,

    /// Port of /debug, opened on the loopback address only
    #[arg(long, env = "KTHENA_DEBUG_PORT", default_value_t = DEFAULT_DEBUG_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub debug_port: u16,

    /// Worker threads of all inference ports [default: as many as the process may use CPUs]
    #[arg(long, env = "KTHENA_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
}

/// Which APIs to serve, and as whom.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct ApiConfig {
    /// Serve Gateways; ModelRoutes then need parentRefs [default: true with --manifests, else false]
    #[arg(
        long, env = "KTHENA_ENABLE_GATEWAY_API", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true"
    )]
    pub enable_gateway_api: Option<bool>,

    /// Serve HTTPRoutes to InferencePools; needs the Gateway API
    #[arg(
        long, env = "KTHENA_ENABLE_GATEWAY_API_INFERENCE_EXTENSION", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub enable_gateway_api_inference_extension: bool,

    /// Pick the endpoints of InferencePools without asking the endpoint pickers that they refer to
    #[arg(
        long, env = "KTHENA_PREFER_BUILTIN_PICKER", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub prefer_builtin_picker: bool,

    /// Namespace of the router, and so of the default Gateway
    #[arg(long, env = "POD_NAMESPACE", default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    pub pod_namespace: String,
}

/// How the cluster is watched and written to.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct ClusterConfig {
    /// Name of the router's own Pod, by which it holds the lease [default: a random name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// The router's own Service, in its namespace; the Gateways' addresses are those of the Service
    #[arg(long, env = "KTHENA_SERVICE_NAME", default_value = SERVICE_NAME, value_name = "NAME")]
    pub service_name: String,

    /// Keep the ports of the router's own Service in step with the Gateways' listeners
    #[arg(
        long, env = "KTHENA_SYNC_SERVICE_PORTS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub sync_service_ports: bool,

    /// Namespaces to watch, separated by commas; that of the router is always watched for Gateways [default: all]
    #[arg(long, env = "KTHENA_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACES")]
    pub watch_namespaces: Vec<String>,

    /// Time after which a watch that the API server says nothing on, no bookmark even, is replaced by a new list
    #[arg(
        long, env = "KTHENA_WATCH_SILENCE_TIMEOUT", default_value = "3m", value_parser = duration,
        value_name = "DURATION"
    )]
    pub watch_silence_timeout: Duration,

    /// Requests per second to the Kubernetes API server; 0 means without limit
    #[arg(long, env = "KTHENA_KUBE_API_QPS", default_value_t = 0.0, value_name = "N")]
    pub kube_api_qps: f32,

    /// Requests to the Kubernetes API server that may be sent at once within --kube-api-qps; 0 means twice that
    #[arg(long, env = "KTHENA_KUBE_API_BURST", default_value_t = 0, value_name = "N")]
    pub kube_api_burst: u32,
}

/// What one request, and all of them together, may cost.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct LimitConfig {
    /// Largest request body in bytes; larger ones are answered with 413
    #[arg(long, env = "KTHENA_MAX_BODY_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    pub max_body_bytes: usize,

    /// Bytes that all requests may hold together; more are answered with 503 [default: half of the memory limit]
    #[arg(long, env = "KTHENA_MAX_BUFFERED_BYTES", value_name = "BYTES")]
    pub max_buffered_bytes: Option<usize>,

    /// Requests in flight per inference port; more are answered with 429
    #[arg(long, env = "KTHENA_MAX_INFLIGHT", default_value_t = 65_536, value_name = "N")]
    pub max_inflight: usize,

    /// Time that a connection may stay open between two requests
    #[arg(long, env = "KTHENA_CLIENT_KEEP_ALIVE", default_value = "75s", value_parser = duration, value_name = "DURATION")]
    pub client_keep_alive: Duration,

    /// Time in which a client must send its request head; the longest pause between two pieces of its body, and between
    /// two pieces of its answer that it reads
    #[arg(long, env = "KTHENA_CLIENT_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub client_timeout: Duration,
}

/// How the router stops after SIGTERM.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct DrainConfig {
    /// Time between reporting not ready and closing the ports, for load balancers to look elsewhere
    #[arg(long, env = "KTHENA_DRAIN_DELAY", default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub drain_delay: Duration,

    /// Time that requests in flight get to finish after the ports are closed
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub drain_timeout: Duration,
}

/// Where and how each request is logged.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct AccessLogConfig {
    /// Write one line per request
    #[arg(
        long, env = "ACCESS_LOG_ENABLED", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub access_log_enabled: bool,

    /// Shape of an access log line
    #[arg(long, env = "ACCESS_LOG_FORMAT", value_enum, default_value_t = AccessLogFormat::Text, value_name = "FORMAT")]
    pub access_log_format: AccessLogFormat,

    /// `stdout`, `stderr`, or a file to append to
    #[arg(long, env = "ACCESS_LOG_OUTPUT", default_value = "stdout", value_name = "OUTPUT")]
    pub access_log_output: String,
}

/// The shape of an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// One line of `key=value` fields.
    Text,
    /// One JSON object.
    Json,
}

/// Values that contradict each other or cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A certificate without its key, or a key without its certificate.
    #[error("`--tls-cert` and `--tls-key` need each other: only `{given}` is set")]
    HalfTls {
        /// The flag that is set.
        given: &'static str,
    },
    /// The inference extension is built on the Gateway API.
    #[error("`--enable-gateway-api-inference-extension` needs `--enable-gateway-api`")]
    ExtensionWithoutGatewayApi,
    /// A pool of addresses without addresses, or addresses without a pool.
    #[error("`--gateway-address-provider=pool` and `--gateway-addresses` need each other")]
    PoolAndAddresses,
    /// The Go router has one queue or the other.
    #[error("`--enable-fairness-scheduling` and `--enable-session-boost` exclude each other")]
    TwoQueues,
    /// Two sockets want one port.
    #[error("`{first}` and `{second}` are both {port}")]
    SamePort {
        /// One flag.
        first: &'static str,
        /// The other flag.
        second: &'static str,
        /// Their value.
        port: u16,
    },
    /// A value outside its bounds.
    #[error("`{flag}` must be greater than zero")]
    Zero {
        /// The flag.
        flag: &'static str,
    },
    /// A value outside its bounds.
    #[error("`{flag}` must be a finite number and not negative")]
    NotANumber {
        /// The flag.
        flag: &'static str,
    },
}

impl Config {
    /// Returns whether Gateways are served: as the flag says, or by default only without a cluster.
    pub fn gateway_api(&self) -> bool {
        self.apis.enable_gateway_api.unwrap_or_else(|| self.manifests.is_some())
    }

    /// Returns whether HTTPRoutes may lead to InferencePools.
    pub fn inference_extension(&self) -> bool {
        self.gateway_api() && self.apis.enable_gateway_api_inference_extension
    }

    /// Returns every contradiction at once, so that an operator fixes all of them in one go.
    pub fn faults(&self) -> Vec<ConfigError> {
        let mut faults = Vec::new();
        match (&self.listen.tls_cert, &self.listen.tls_key) {
            (Some(_), None) => faults.push(ConfigError::HalfTls { given: "--tls-cert" }),
            (None, Some(_)) => faults.push(ConfigError::HalfTls { given: "--tls-key" }),
            _ => {}
        }
        if self.apis.enable_gateway_api_inference_extension && !self.gateway_api() {
            faults.push(ConfigError::ExtensionWithoutGatewayApi);
        }
        faults.extend(self.addresses.fault());
        let ports = [
            ("--port", self.listen.port),
            ("--metrics-port", self.listen.metrics_port),
            ("--debug-port", self.listen.debug_port),
        ];
        for (index, (first, port)) in ports.iter().enumerate() {
            for (second, other) in &ports[index + 1..] {
                if port == other {
                    faults.push(ConfigError::SamePort { first, second, port: *port });
                }
            }
        }
        let positive = [
            ("--max-body-bytes", self.limits.max_body_bytes == 0),
            ("--max-inflight", self.limits.max_inflight == 0),
            ("--first-byte-timeout", self.engines.first_byte_timeout.is_zero()),
            ("--idle-timeout", self.engines.idle_timeout.is_zero()),
            ("--first-token-timeout", self.engines.first_token_timeout == Some(Duration::ZERO)),
            ("--total-timeout", self.engines.total_timeout == Some(Duration::ZERO)),
            ("--heartbeat-interval", self.engines.heartbeat_interval == Some(Duration::ZERO)),
            ("--client-timeout", self.limits.client_timeout.is_zero()),
            ("--drain-timeout", self.drain.drain_timeout.is_zero()),
            ("--metrics-scrape-interval", self.engines.metrics_scrape_interval.is_zero()),
            ("--connect-timeout", self.engines.connect_timeout.is_zero()),
            ("--endpoint-picker-timeout", self.engines.endpoint_picker_timeout.is_zero()),
            ("--watch-silence-timeout", self.cluster.watch_silence_timeout.is_zero()),
        ];
        faults.extend(positive.into_iter().filter(|(_, zero)| *zero).map(|(flag, _)| ConfigError::Zero { flag }));
        faults.extend(self.flow.faults());
        if !self.cluster.kube_api_qps.is_finite() || self.cluster.kube_api_qps < 0.0 {
            faults.push(ConfigError::NotANumber { flag: "--kube-api-qps" });
        }
        faults
    }
}

fn duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

#[cfg(test)]
mod tests;
