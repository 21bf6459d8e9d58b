//! The way of one thread to a Redis that requests can do without.
//!
//! A question takes a limited time, and then the request goes on without an answer; so it does at once while Redis is away,
//! which is tried again once a second.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use kthena_router::config::RedisConfig;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult};
use tokio::time::timeout;
use tracing::warn;

/// How long Redis is left alone after it could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection to one Redis, made when it is needed.
pub(crate) struct RedisLink {
    client: Client,
    connection: RefCell<Option<MultiplexedConnection>>,
    /// When Redis was last found away.
    away: Cell<Option<Instant>>,
    /// What is missing while it is away.
    purpose: &'static str,
}

/// Redis has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

impl RedisLink {
    /// Makes a link to the Redis at a host and a port; nothing is connected yet. Only the Redis of the router's own
    /// options is told their password: any other one is named by whoever writes a route.
    pub(crate) fn new((host, port): (&str, u16), own: &RedisConfig, purpose: &'static str) -> RedisResult<Self> {
        let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info()?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        let is_own = (host, port) == (&*own.redis_host, own.redis_port);
        if let Some(password) = own.redis_password.as_ref().filter(|_| is_own) {
            settings = settings.set_password(password.expose());
        }
        let client = Client::open(info.set_redis_settings(settings))?;
        Ok(Self { client, connection: RefCell::default(), away: Cell::default(), purpose })
    }

    /// Returns whether it makes no sense to ask now.
    pub(crate) fn is_away(&self) -> bool {
        self.away.get().is_some_and(|since| since.elapsed() < PAUSE)
    }

    /// Asks Redis, for a limited time.
    pub(crate) async fn ask<T>(
        &self,
        limit: Duration,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Away> {
        if self.is_away() {
            return Err(Away);
        }
        let answer = timeout(limit, self.connected(question)).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned());
        answer.and_then(|answer| answer.map_err(|error| error.to_string())).map_err(|error| {
            // A connection that fails or takes too long is not used again.
            self.connection.take();
            if self.away.replace(Some(Instant::now())).is_none() {
                let (redis, purpose) = (self.client.get_connection_info().addr().to_string(), self.purpose);
                warn!(redis, error, purpose, "redis does not answer");
            }
            Away
        })
    }

    async fn connected<T>(
        &self,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let open = self.connection.borrow().clone();
        let mut connection = match open {
            Some(connection) => connection,
            None => self.client.get_multiplexed_async_connection().await?,
        };
        let answer = question(&mut connection).await?;
        *self.connection.borrow_mut() = Some(connection);
        self.away.set(None);
        Ok(answer)
    }
}

/// Returns the host and the port of `host:port`; the host may be an IPv6 address in brackets.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}
