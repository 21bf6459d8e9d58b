//! A connection to one Redis server, or to all nodes of a Redis Cluster.

use std::time::Duration;

use futures::future::try_join_all;
use kthena_router::config::RedisConfig;
use kthena_router::kinds::redis_address::RedisAddress;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline, RedisFuture,
    RedisResult, TlsCertificates, Value,
};

/// How long a node of a cluster may take to be connected to.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How often a question is sent again while slots move or a node is replaced, and how many milliseconds that waits: whoever
/// asks has little time.
const RETRIES: u32 = 8;
const RETRY_WAIT: (u64, u64) = (5, 50);
/// What a node says of a cluster each of whose slots has a node that answers.
const ALL_SLOTS: &str = "cluster_slots_ok:16384";

/// Makes connections.
pub(super) enum Connector {
    /// To one server.
    One(Box<Client>),
    /// To the nodes of a cluster.
    Cluster(Box<ClusterClient>),
}

/// A connection; its copies share it.
#[derive(Clone)]
pub(crate) enum Connection {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster; it follows slots that move.
    Cluster(ClusterConnection),
}

impl Connector {
    /// Makes one for a Redis, which is told the user and the password of the router's own if it is that.
    pub(super) fn new(place: RedisAddress<'_>, own: &RedisConfig, is_own: bool) -> RedisResult<Self> {
        let info = info(place, own, is_own)?;
        let root_cert = own.redis_ca_file.as_deref().map(<[u8]>::to_vec);
        let certificates = place.tls.then_some(TlsCertificates { client_tls: None, root_cert });
        if !place.cluster {
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            };
            return Ok(Self::One(Box::new(client)));
        }
        let (least, most) = RETRY_WAIT;
        let builder = ClusterClientBuilder::new([info]).connection_timeout(CONNECT_LIMIT).retries(RETRIES);
        let builder = builder.retry_wait_formula(least, 2).min_retry_wait(least).max_retry_wait(most);
        let builder = match certificates {
            Some(certificates) => builder.certs(certificates),
            None => builder,
        };
        Ok(Self::Cluster(Box::new(builder.build()?)))
    }

    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Self::One(client) => client.get_multiplexed_async_connection().await.map(Connection::One),
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl Connection {
    /// Returns whether all keys can be had.
    pub(crate) async fn is_whole(&mut self) -> RedisResult<bool> {
        match self {
            Self::One(connection) => redis::cmd("PING").query_async::<()>(connection).await.map(|()| true),
            Self::Cluster(connection) => {
                let told: String = redis::cmd("CLUSTER").arg("INFO").query_async(connection).await?;
                Ok(told.lines().any(|line| line.trim_end() == ALL_SLOTS))
            }
        }
    }

    /// Reads hashes, in the order of their keys.
    pub(crate) async fn hashes<T: FromRedisValue>(&mut self, keys: &[String]) -> RedisResult<Vec<T>> {
        match self {
            Self::One(connection) => {
                let mut questions = redis::pipe();
                for key in keys {
                    questions.hgetall(key);
                }
                questions.query_async(connection).await
            }
            // They are at several nodes, and what is sent as one goes to one.
            Self::Cluster(connection) => {
                let ask = async |key| redis::cmd("HGETALL").arg(key).query_async(&mut connection.clone()).await;
                try_join_all(keys.iter().map(ask)).await
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

fn info(place: RedisAddress<'_>, own: &RedisConfig, is_own: bool) -> RedisResult<ConnectionInfo> {
    let (host, port) = (place.host.to_owned(), place.port);
    let address = if place.tls {
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
    Ok(info.set_redis_settings(settings))
}
