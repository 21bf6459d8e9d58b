//! What one simulated engine serves, where, and how fast.
//!
//! The struct is a group of command-line flags and at the same time the value that tests and the demo write by hand;
//! [`EngineConfig::new`] gives the defaults of the flags.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::transfer::{KvConnector, KvRole};

/// Names under which an engine publishes its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// `vllm:num_requests_running` and the rest of that family.
    #[default]
    Vllm,
    /// `sglang:num_running_reqs` and the rest of that family.
    Sglang,
}

/// Configuration of one simulated engine.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Address to serve on; may be repeated.
    #[arg(long = "address", value_name = "IP", default_value = "127.0.0.1")]
    pub addresses: Vec<IpAddr>,

    /// Port to serve on, on every address; may be repeated; 0 lets the system choose.
    #[arg(long = "port", value_name = "PORT", default_value = "8000")]
    pub ports: Vec<u16>,

    /// Name of the served model.
    #[arg(long, value_name = "NAME")]
    pub model: String,

    /// Names of the metrics.
    #[arg(long, value_enum, default_value = "vllm")]
    pub dialect: Dialect,

    /// Time from admission to the first token.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub time_to_first_token: Duration,

    /// Time from one token to the next.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub time_per_output_token: Duration,

    /// Length of every answer in tokens (words); the sentence is repeated or cut to it, and a smaller `max_tokens` of a
    /// request ends it earlier. Without it, the sentence is always whole.
    #[arg(long, value_name = "COUNT")]
    pub output_tokens: Option<u64>,

    /// Requests that run at once, more wait in a queue; 0 is no limit.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub max_concurrency: usize,

    /// Capacity of the simulated KV cache in tokens.
    #[arg(long, value_name = "COUNT", default_value_t = 131_072)]
    pub kv_cache_tokens: u64,

    /// Port on which changes of the KV cache are published (ZeroMQ), as vLLM and SGLang do; 0 lets the system choose. Only
    /// an engine with it has a cache of prompts, which `usage.prompt_tokens_details` tells of.
    #[arg(long, value_name = "PORT")]
    pub kv_events_port: Option<u16>,

    /// Port on which those messages are sent again to whoever asks.
    #[arg(long, value_name = "PORT", requires = "kv_events_port")]
    pub kv_events_replay_port: Option<u16>,

    /// How the KV cache of prompts goes from engine to engine; without it, requests are never split.
    #[arg(long, value_enum, value_name = "CONNECTOR")]
    pub kv_connector: Option<KvConnector>,

    /// What this engine does of split requests.
    #[arg(long, value_enum, value_name = "ROLE", default_value = "both", requires = "kv_connector")]
    pub kv_role: KvRole,

    /// Port on which decode engines meet this one, on every address, beside the ports that it serves on: 8998 for `mooncake`
    /// and `sglang`.
    #[arg(long, value_name = "PORT", requires = "kv_connector")]
    pub kv_bootstrap_port: Option<u16>,

    /// Engine that stands for the shared store of `http` and `lmcache`.
    #[arg(long, value_name = "ADDRESS", requires = "kv_connector")]
    pub kv_store: Option<SocketAddr>,

    /// How long a prefill's blocks are held for a decode engine, and one leg waits for the other.
    #[arg(long, value_name = "DURATION", default_value = "480s", value_parser = humantime::parse_duration)]
    pub kv_hold_timeout: Duration,

    /// KV cache of one token in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 131_072)]
    pub kv_bytes_per_token: u64,

    /// Rate of transfers between engines; 0 is no limit.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub kv_bytes_per_second: u64,

    /// Share of the inference requests that fail, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub error_rate: f64,

    /// Status of the requests that `--error-rate` fails, from 400 to 599.
    #[arg(long, value_name = "STATUS", default_value_t = 500)]
    pub error_status: u16,

    /// LoRA adapter that is loaded at start; may be repeated.
    #[arg(long = "lora", value_name = "NAME")]
    pub loras: Vec<String>,

    /// Threads that serve; 0 counts as 1.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub workers: usize,

    /// Keep the last inference request for `Engine::last_request`.
    #[arg(long)]
    pub record: bool,
}

impl EngineConfig {
    /// Returns the configuration that the flags give by default, but on a port that the system chooses.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            ports: vec![0],
            model: model.into(),
            dialect: Dialect::Vllm,
            time_to_first_token: Duration::ZERO,
            time_per_output_token: Duration::ZERO,
            output_tokens: None,
            max_concurrency: 0,
            kv_cache_tokens: 131_072,
            kv_events_port: None,
            kv_events_replay_port: None,
            kv_connector: None,
            kv_role: KvRole::Both,
            kv_bootstrap_port: None,
            kv_store: None,
            kv_hold_timeout: Duration::from_secs(480),
            kv_bytes_per_token: 131_072,
            kv_bytes_per_second: 0,
            error_rate: 0.0,
            error_status: 500,
            loras: Vec::new(),
            workers: 1,
            record: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        engine: EngineConfig,
    }

    fn parse(arguments: &[&str]) -> EngineConfig {
        let line = std::iter::once(&"engine").chain(arguments);
        Command::try_parse_from(line).unwrap().engine
    }

    #[test]
    fn flags_and_constructor_agree_on_the_defaults() {
        assert_eq!(parse(&["--model", "m", "--port", "0"]), EngineConfig::new("m"));
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let flags = "--address 127.0.0.2 --address ::1 --port 1 --port 2 --model m --dialect sglang \
            --time-to-first-token 150ms --time-per-output-token 2ms --output-tokens 7 \
            --max-concurrency 3 --kv-cache-tokens 9 --kv-events-port 3 --kv-events-replay-port 4 \
            --kv-connector mooncake-ascend --kv-role decode --kv-bootstrap-port 8998 --kv-store 127.0.0.3:80 \
            --kv-hold-timeout 3s --kv-bytes-per-token 5 --kv-bytes-per-second 6 --error-rate 0.5 --error-status 503 \
            --lora a --lora b --workers 2 --record";
        let expected = EngineConfig {
            addresses: vec!["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()],
            ports: vec![1, 2],
            model: "m".to_owned(),
            dialect: Dialect::Sglang,
            time_to_first_token: Duration::from_millis(150),
            time_per_output_token: Duration::from_millis(2),
            output_tokens: Some(7),
            max_concurrency: 3,
            kv_cache_tokens: 9,
            kv_events_port: Some(3),
            kv_events_replay_port: Some(4),
            kv_connector: Some(KvConnector::MooncakeAscend),
            kv_role: KvRole::Decode,
            kv_bootstrap_port: Some(8998),
            kv_store: Some("127.0.0.3:80".parse().unwrap()),
            kv_hold_timeout: Duration::from_secs(3),
            kv_bytes_per_token: 5,
            kv_bytes_per_second: 6,
            error_rate: 0.5,
            error_status: 503,
            loras: vec!["a".to_owned(), "b".to_owned()],
            workers: 2,
            record: true,
        };
        let arguments: Vec<&str> = flags.split_whitespace().collect();
        assert_eq!(parse(&arguments), expected);
    }
}
