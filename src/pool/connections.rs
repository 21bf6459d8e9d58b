//! How many connections there are to the endpoints of a pool, and for how long they wait for requests.
//!
//! Source: `ModelServer.spec.trafficPolicy.connectionPool` of the Go kthena-router. Its figures are those of a process; each
//! worker thread has connections of its own, and so a share of them, which is one at least. As in Go's `http.Transport`, which
//! reads them there, `maxIdleConnections: 0` and `maxConnectionsPerHost: 0` are any number.

use std::time::Duration;

use crate::kinds::connection_pool::ConnectionPool;
use crate::kinds::duration::{DurationError, parse_duration};

/// The limits on connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long one waits for a request; `None` leaves that to the client.
    pub idle_timeout: Option<Duration>,
    /// How many to all endpoints of the pool together wait for requests; `None` is any number.
    pub idle: Option<u32>,
    /// How many to one endpoint wait for requests; `None` is any number.
    pub idle_per_host: Option<u32>,
    /// How many to one endpoint there are; `None` is any number.
    pub per_host: Option<u32>,
}

impl ConnectionLimits {
    /// Reads what a ModelServer says.
    ///
    /// # Errors
    /// Returns what is wrong with `idleTimeout` if it is not a duration.
    pub fn of(pool: &ConnectionPool) -> Result<Self, DurationError> {
        Ok(Self {
            idle_timeout: pool.idle_timeout.as_deref().map(parse_duration).transpose()?,
            idle: pool.max_idle_connections.filter(|most| *most > 0),
            idle_per_host: pool.max_idle_connections_per_host,
            per_host: pool.max_connections_per_host.filter(|most| *most > 0),
        })
    }

    /// Returns the share of one of several worker threads of a number of connections; none has none, unless there are to be
    /// none at all.
    pub fn share(most: u32, workers: usize) -> usize {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        (most / workers.max(1)).max(most.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_share() {
        for (most, workers, expected) in [(0, 4, 0), (1, 4, 1), (4, 4, 1), (10, 4, 2), (64, 1, 64), (5, 0, 5)] {
            assert_eq!(ConnectionLimits::share(most, workers), expected, "{most} of {workers}");
        }
    }

    #[test]
    fn what_is_not_limited_is_any_number() {
        let pool = |yaml| ConnectionLimits::of(&serde_saphyr::from_str(yaml).unwrap());
        assert_eq!(pool("{}"), Ok(ConnectionLimits::default()));
        let full = "{maxIdleConnections: 9, maxIdleConnectionsPerHost: 0, maxConnectionsPerHost: 0, idleTimeout: 2s}";
        let idle_timeout = Some(Duration::from_secs(2));
        let expected = ConnectionLimits { idle_timeout, idle: Some(9), idle_per_host: Some(0), per_host: None };
        assert_eq!(pool(full), Ok(expected));
        assert_eq!(pool("{maxIdleConnections: 0}"), Ok(ConnectionLimits::default()));
        assert!(pool("{idleTimeout: soon}").is_err());
    }
}
