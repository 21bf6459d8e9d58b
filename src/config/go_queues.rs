//! The Go router's options for its queues, of which it has one of two: fair between users, or quick for sessions whose
//! prompts are likely to be cached. Both are this router's one queue with other settings.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::{ConfigError, duration};
use crate::flow::settings::{Settings, Weights};

/// The Go router's names for how requests wait.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct GoQueueConfig {
    /// Let requests wait as the Go router's fairness options say, and tell of it in its metrics
    #[arg(
        long, env = "ENABLE_FAIRNESS_SCHEDULING", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set
    )]
    pub enable_fairness_scheduling: bool,

    /// Time that a request waits with --enable-fairness-scheduling, in place of --queue-timeout
    #[arg(long, env = "FAIRNESS_QUEUE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub fairness_queue_timeout: Duration,

    /// Requests in flight of a pool with --enable-fairness-scheduling; 0 leaves that to --max-requests-per-pool
    #[arg(long, env = "FAIRNESS_MAX_CONCURRENT", default_value_t = 0, value_name = "N")]
    pub fairness_max_concurrent: u32,

    /// What a token of a prompt counts with --enable-fairness-scheduling
    #[arg(long, env = "FAIRNESS_INPUT_TOKEN_WEIGHT", default_value_t = 1.0, value_name = "WEIGHT")]
    pub fairness_input_token_weight: f64,

    /// What a token of an answer counts with --enable-fairness-scheduling
    #[arg(long, env = "FAIRNESS_OUTPUT_TOKEN_WEIGHT", default_value_t = 2.0, value_name = "WEIGHT")]
    pub fairness_output_token_weight: f64,

    /// What tokens count beside requests with --enable-fairness-scheduling
    #[arg(long, env = "FAIRNESS_PRIORITY_TOKEN_WEIGHT", default_value_t = 1.0, value_name = "WEIGHT")]
    pub fairness_priority_token_weight: f64,

    /// What a request counts beside its tokens with --enable-fairness-scheduling
    #[arg(long, env = "FAIRNESS_PRIORITY_REQUEST_NUM_WEIGHT", default_value_t = 0.0, value_name = "WEIGHT")]
    pub fairness_priority_request_num_weight: f64,

    /// Let requests of sessions go first that had an answer before, and tell of it in the Go router's metrics
    #[arg(
        long, env = "ENABLE_SESSION_BOOST", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set
    )]
    pub enable_session_boost: bool,

    /// Header that names the session with --enable-session-boost
    #[arg(long, env = "SESSION_BOOST_HEADER", default_value = "X-Session-ID", value_name = "HEADER")]
    pub session_boost_header: String,

    /// Sessions that are remembered of each pool with --enable-session-boost
    #[arg(long, env = "SESSION_BOOST_MAX_SESSIONS", default_value_t = 4096, value_name = "N")]
    pub session_boost_max_sessions: usize,

    /// Requests in flight at each engine with --enable-session-boost, in place of --max-requests-per-endpoint
    #[arg(long, env = "SESSION_BOOST_INFLIGHT_PER_POD", default_value_t = 16, value_name = "N")]
    pub session_boost_inflight_per_pod: u32,

    /// Time that a request waits with --enable-session-boost, in place of --queue-timeout
    #[arg(long, env = "SESSION_BOOST_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub session_boost_timeout: Duration,
}

impl GoQueueConfig {
    /// Returns the settings with what these options say in their place.
    pub(super) fn change(&self, settings: Settings) -> Settings {
        if self.enable_fairness_scheduling {
            let most = self.fairness_max_concurrent;
            return Settings {
                enabled: true,
                time_to_live: self.fairness_queue_timeout,
                per_pool: if most > 0 { Some(most) } else { settings.per_pool },
                weights: self.weights(),
                ..settings
            };
        }
        if self.enable_session_boost {
            return Settings {
                enabled: true,
                time_to_live: self.session_boost_timeout,
                per_endpoint: Some(self.session_boost_inflight_per_pod),
                most_sessions: self.session_boost_max_sessions,
                ..settings
            };
        }
        settings
    }

    fn weights(&self) -> Weights {
        let request = self.fairness_priority_request_num_weight;
        let token = self.fairness_priority_token_weight;
        // Where neither counts, the Go router lets tokens count.
        let token = if token == 0.0 && request == 0.0 { 1.0 } else { token };
        let (input, output) = (self.fairness_input_token_weight, self.fairness_output_token_weight);
        Weights { input: token * input, output: token * output, request }
    }

    /// Returns what contradicts itself or cannot be used.
    pub(super) fn faults(&self) -> impl Iterator<Item = ConfigError> {
        let both = self.enable_fairness_scheduling && self.enable_session_boost;
        let weights = [
            ("--fairness-input-token-weight", self.fairness_input_token_weight),
            ("--fairness-output-token-weight", self.fairness_output_token_weight),
            ("--fairness-priority-token-weight", self.fairness_priority_token_weight),
            ("--fairness-priority-request-num-weight", self.fairness_priority_request_num_weight),
        ];
        let unusable = weights.into_iter().filter(|(_, weight)| !weight.is_finite() || *weight < 0.0);
        let zero = [
            ("--fairness-queue-timeout", self.fairness_queue_timeout.is_zero()),
            ("--session-boost-max-sessions", self.session_boost_max_sessions == 0),
            ("--session-boost-inflight-per-pod", self.session_boost_inflight_per_pod == 0),
            ("--session-boost-timeout", self.session_boost_timeout.is_zero()),
        ];
        (both.then_some(ConfigError::TwoQueues).into_iter())
            .chain(unusable.map(|(flag, _)| ConfigError::NotANumber { flag }))
            .chain(zero.into_iter().filter(|(_, zero)| *zero).map(|(flag, _)| ConfigError::Zero { flag }))
    }
}
