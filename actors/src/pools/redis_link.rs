//! The way of one thread to a Redis that requests can do without.
//!
//! A question takes a limited time, and then the request goes on without an answer; so it does at once while Redis is away,
//! which is tried again once a second.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use kthena_router::config::RedisConfig;
use kthena_router::kinds::redis_address::RedisAddress;
use kthena_router::rate_limit::shared::KeyNames;
use redis::RedisResult;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::warn;

pub(crate) use connection::Connection;

use connection::Connector;

mod connection;

/// How long Redis is left alone after it could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection to one Redis, made when it is needed.
pub(crate) struct RedisLink {
    address: String,
    connector: Rc<Connector>,
    connection: RefCell<Option<Connection>>,
    /// A connection that is being made, for whoever needs it.
    connecting: RefCell<Option<Connecting>>,
    /// When Redis was last found away.
    away: Cell<Option<Instant>>,
    /// What is missing while it is away.
    purpose: &'static str,
    names: KeyNames,
}

type Connecting = Shared<LocalBoxFuture<'static, Result<Connection, String>>>;

/// Redis has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

impl RedisLink {
    /// Makes a link to a Redis; nothing is connected yet. Only the Redis of the router's own options is told their user and
    /// password: any other one is named by whoever writes a route.
    pub(crate) fn new(place: RedisAddress<'_>, own: &RedisConfig, purpose: &'static str) -> RedisResult<Self> {
        let is_own = (place.host, place.port) == (&*own.redis_host, own.redis_port);
        let tls = place.tls || (is_own && own.redis_tls);
        let cluster = place.cluster || (is_own && own.redis_cluster);
        let place = RedisAddress { tls, cluster, ..place };
        Ok(Self {
            address: format!("{}:{}", place.host, place.port),
            connector: Rc::new(Connector::new(place, own, is_own)?),
            connection: RefCell::default(),
            connecting: RefCell::default(),
            away: Cell::default(),
            purpose,
            names: KeyNames { namespace: own.redis_key_namespace.clone(), tagged: cluster },
        })
    }

    /// Makes a link to the Redis of the router's own options.
    pub(crate) fn to_own(own: &RedisConfig, purpose: &'static str) -> RedisResult<Self> {
        let place = RedisAddress { host: &own.redis_host, port: own.redis_port, tls: false, cluster: false };
        Self::new(place, own, purpose)
    }

    /// Returns how limits' keys are named there.
    pub(crate) fn names(&self) -> &KeyNames {
        &self.names
    }

    /// Returns whether it makes no sense to ask now.
    pub(crate) fn is_away(&self) -> bool {
        self.away.get().is_some_and(|since| since.elapsed() < PAUSE)
    }

    /// Asks Redis, for a limited time.
    pub(crate) async fn ask<T>(
        &self,
        limit: Duration,
        question: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Away> {
        if self.is_away() {
            return Err(Away);
        }
        let asked = async {
            let mut connection = self.connected().await?;
            question(&mut connection).await.map_err(|error| error.to_string())
        };
        let answer = timeout(limit, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match answer {
            Ok(answer) => {
                self.away.set(None);
                Ok(answer)
            }
            Err(error) => {
                // A connection that fails or takes too long is not used again.
                self.connection.take();
                if self.away.replace(Some(Instant::now())).is_none() {
                    let (redis, purpose) = (&self.address, self.purpose);
                    warn!(redis, error, purpose, "redis does not answer");
                }
                Err(Away)
            }
        }
    }

    /// Returns the connection. It is made once for all who wait for it, and further if nobody can wait for so long: a
    /// cluster has several nodes to shake hands with.
    async fn connected(&self) -> Result<Connection, String> {
        if let Some(connection) = self.connection.borrow().clone() {
            return Ok(connection);
        }
        let connecting = self.connecting.borrow_mut().get_or_insert_with(|| connect(&self.connector)).clone();
        let connection = connecting.await;
        self.connecting.take();
        self.connection.replace(Some(connection.clone()?));
        connection
    }
}

fn connect(connector: &Rc<Connector>) -> Connecting {
    let connector = Rc::clone(connector);
    let connecting = async move { connector.connect().await.map_err(|error| error.to_string()) };
    let connecting = connecting.boxed_local().shared();
    spawn_local(connecting.clone());
    connecting
}
