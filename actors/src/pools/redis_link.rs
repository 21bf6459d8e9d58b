//! The way of one thread to a Redis that requests can do without.
//!
//! A question takes a limited time, and then the request goes on without an answer; so it does at once while Redis is away,
//! which is tried again once a second.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use kthena_router::config::RedisConfig;
use kthena_router::kinds::model_route::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsCertificates};
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
    /// What the names of limits' keys begin with.
    namespace: Option<String>,
}

/// Where a Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedisAddress<'a> {
    host: &'a str,
    port: u16,
    tls: bool,
}

/// Redis has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

impl RedisLink {
    /// Makes a link to a Redis; nothing is connected yet. Only the Redis of the router's own options is told their user and
    /// password: any other one is named by whoever writes a route.
    pub(crate) fn new(
        RedisAddress { host, port, tls }: RedisAddress<'_>,
        own: &RedisConfig,
        purpose: &'static str,
    ) -> RedisResult<Self> {
        let is_own = (host, port) == (&*own.redis_host, own.redis_port);
        let (host, tls) = (host.to_owned(), tls || (is_own && own.redis_tls));
        let address = if tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?;
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = own.redis_password.as_ref().filter(|_| is_own) {
            settings = settings.set_password(password.expose());
            if let Some(user) = &own.redis_username {
                settings = settings.set_username(user);
            }
        }
        let info = info.set_redis_settings(settings);
        let client = if tls {
            let root_cert = own.redis_ca_file.as_deref().map(<[u8]>::to_vec);
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })?
        } else {
            Client::open(info)?
        };
        let namespace = own.redis_key_namespace.clone();
        Ok(Self { client, connection: RefCell::default(), away: Cell::default(), purpose, namespace })
    }

    /// Returns what the names of limits' keys begin with there, if it is not the Go router's names that are used.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
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

impl<'a> RedisAddress<'a> {
    /// Reads `host:port` or `rediss://host:port`; the host may be an IPv6 address in brackets.
    pub(crate) fn of(address: &'a str) -> Option<Self> {
        let (address, tls) = address.strip_prefix(RedisServer::TLS).map_or((address, false), |address| (address, true));
        let (host, port) = address.rsplit_once(':')?;
        Some(Self { host: host.trim_start_matches('[').trim_end_matches(']'), port: port.parse().ok()?, tls })
    }

    /// Returns where the Redis of the router's own options is.
    pub(crate) fn own(config: &'a RedisConfig) -> Self {
        Self { host: &config.redis_host, port: config.redis_port, tls: config.redis_tls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_tls_is_spoken() {
        for (address, expected) in [
            ("redis:6379", Some(("redis", 6379, false))),
            ("rediss://redis.team-a:6380", Some(("redis.team-a", 6380, true))),
            ("rediss://[::1]:6380", Some(("::1", 6380, true))),
            ("redis", None),
            ("redis:70000", None),
        ] {
            let place = RedisAddress::of(address).map(|RedisAddress { host, port, tls }| (host, port, tls));
            assert_eq!(place, expected, "{address}");
        }
    }
}
