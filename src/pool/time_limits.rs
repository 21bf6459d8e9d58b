//! How long the parts of a request may take at a backend, and what its client gets while an engine is silent.
//!
//! | limit | from | to | where it is written | code |
//! |---|---|---|---|---|
//! | [`Limit::Connect`] | the attempt | a connection; TLS and HTTP/2 have as long again | ModelServer, flag | `connect_timeout` |
//! | [`Limit::Head`] | the attempt | the head of the answer | ModelServer, HTTPRoute, flag | `upstream_timeout` |
//! | [`Limit::FirstToken`] | the attempt | the first piece of a stream | ModelServer, flag | `first_token_timeout` |
//! | [`Limit::Idle`] | a piece of the answer | the next one | ModelServer, flag | `idle_timeout` |
//! | [`Limit::Total`] | the request | the end of the answer | ModelServer, flag | `total_timeout` |
//! | [`Limit::Request`] | the request | the beginning of the answer | HTTPRoute | `request_timeout` |
//!
//! What a ModelServer writes takes the place of a flag, and is no further limit beside it. Before the answer begins, the
//! limit that is reached first counts.

use std::time::Duration;

use crate::kinds::duration::{DurationError, parse_duration};
use crate::kinds::model_server::{HeartbeatForm, ModelServerSpec};

/// A limit on the time that a part of a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// On the time to connect to an endpoint.
    #[error("could not be connected to within the timeout")]
    Connect,
    /// On the time to the head of an answer.
    #[error("did not begin to answer within the timeout")]
    Head,
    /// On the time to the first piece of a stream.
    #[error("did not send the first token within the timeout")]
    FirstToken,
    /// On a pause within an answer.
    #[error("was silent for longer than the timeout")]
    Idle,
    /// On the time that a request takes as a whole.
    #[error("did not answer within the time for the whole request")]
    Total,
    /// On the time that a route gives a request until its answer begins.
    #[error("did not begin to answer within the time that the route gives the request")]
    Request,
}

/// The limits of a backend, and its heartbeat; `None` leaves one to whoever is asked next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// [`Limit::Connect`].
    pub connect: Option<Duration>,
    /// [`Limit::FirstToken`].
    pub first_token: Option<Duration>,
    /// [`Limit::Idle`].
    pub idle: Option<Duration>,
    /// [`Limit::Total`].
    pub total: Option<Duration>,
    /// What is sent while an engine is silent.
    pub heartbeat: Option<Heartbeat>,
}

/// What is sent within a stream of events while its engine is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How long the engine is silent before the first one, and between two.
    pub interval: Duration,
    /// What it looks like.
    pub form: HeartbeatForm,
}

impl Limit {
    /// Returns the word for it in errors, logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Connect => "connect_timeout",
            Self::Head => "upstream_timeout",
            Self::FirstToken => "first_token_timeout",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
            Self::Request => "request_timeout",
        }
    }
}

impl TimeLimits {
    /// Reads what a ModelServer says of them.
    ///
    /// # Errors
    /// Returns what is wrong with the first text that is not a duration.
    pub fn of_server(spec: &ModelServerSpec) -> Result<Self, DurationError> {
        let policy = spec.traffic_policy.as_ref();
        let read = |text: &Option<String>| text.as_deref().map(parse_duration).transpose();
        let timeouts = policy.and_then(|policy| policy.timeouts.clone()).unwrap_or_default();
        let heartbeat = policy
            .and_then(|policy| policy.heartbeat.as_ref())
            .map(|heartbeat| Ok(Heartbeat { interval: parse_duration(&heartbeat.interval)?, form: heartbeat.form }));
        Ok(Self {
            connect: read(&timeouts.connect)?,
            first_token: read(&timeouts.first_token)?,
            idle: read(&timeouts.idle)?,
            total: read(&timeouts.total)?,
            heartbeat: heartbeat.transpose()?,
        })
    }

    /// Returns these limits, with those of `others` where there is none.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            connect: self.connect.or(others.connect),
            first_token: self.first_token.or(others.first_token),
            idle: self.idle.or(others.idle),
            total: self.total.or(others.total),
            heartbeat: self.heartbeat.or(others.heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(policy: &str) -> Result<TimeLimits, DurationError> {
        let yaml = format!(
            "{{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{a: b}}}}, workloadPort: {{port: 1}}, \
             trafficPolicy: {policy}}}"
        );
        TimeLimits::of_server(&serde_saphyr::from_str(&yaml).unwrap())
    }

    #[test]
    fn what_a_model_server_says_comes_before_the_flags() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let flags = TimeLimits { idle: seconds(600), total: seconds(900), ..TimeLimits::default() };
        let written =
            limits("{timeouts: {connect: 1s, firstToken: 2s, idle: 20m}, heartbeat: {interval: 5s}}").unwrap();
        let expected = TimeLimits {
            connect: seconds(1),
            first_token: seconds(2),
            idle: seconds(1200),
            total: seconds(900),
            heartbeat: Some(Heartbeat { interval: Duration::from_secs(5), form: HeartbeatForm::Comment }),
        };
        assert_eq!(written.or(flags), expected);
        assert_eq!(limits("{timeout: 3s}").unwrap().or(flags), flags);
        assert!(limits("{timeouts: {total: soon}}").is_err());
    }

    #[test]
    fn every_limit_has_a_code_of_its_own() {
        use Limit::{Connect, FirstToken, Head, Idle, Request, Total};
        let codes = [Connect, Head, FirstToken, Idle, Total, Request].map(Limit::code);
        assert!(codes.iter().enumerate().all(|(place, code)| !codes[..place].contains(code)), "{codes:?}");
    }
}
