//! The messages that two actors exchange, below both, so that neither has to know the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use kthena_router::inference::adapters::Adapters;
use kthena_router::inference::api::Api;
use kthena_router::inference::exposition::{EndpointMetrics, ExpositionError};
use kthena_router::inference::health::{Cause, Outcome};
use kthena_router::object::{Bind, BindState, PoolKey};
use kthena_router::plan::BindPlan;
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::request::RequestFacts;
use kthena_router::world::Ejected;
use thiserror::Error;

use crate::pools::load::LoadCell;

/// The sockets to have open: all of them, not a difference. From the RouteRegistry to the ListenerFleet.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EnsureBinds(pub Vec<BindPlan>);

/// A socket was opened, or could not be. From listeners to the RouteRegistry.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BindReported {
    /// The socket.
    pub bind: Bind,
    /// What became of it.
    pub state: BindState,
}

/// The endpoints to scrape: all of them, not a difference. From the PoolKeeper to the MetricsScraper.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchEndpoints(pub Vec<Watched>);

/// An endpoint to scrape.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The requests of this router there.
    pub cell: Arc<LoadCell>,
}

/// A scrape of one endpoint came to an end. From the MetricsScraper to the PoolKeeper.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Scraped {
    /// The endpoint.
    pub address: SocketAddr,
    /// Its figures.
    pub outcome: Result<EndpointMetrics, ScrapeFault>,
    /// Its LoRA adapters, where it tells of them.
    pub adapters: Option<Adapters>,
    /// The most requests of this router that were in flight there when the scrape began or when it ended.
    pub in_flight: u32,
}

/// Why a scrape yielded nothing.
#[derive(Debug, Error)]
pub enum ScrapeFault {
    /// No connection could be made.
    #[error("no connection")]
    Connect,
    /// The engine did not answer, or not in time.
    #[error("no answer")]
    Answer,
    /// The engine answered with an error.
    #[error("status {0}")]
    Status(u16),
    /// The page is not the metrics of an engine.
    #[error("unreadable metrics")]
    Page(#[from] ExpositionError),
}

/// A prompt of which too little is known. From request handlers to the Tokenizer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LearnPrompt {
    /// The API that the request is for.
    pub api: Api,
    /// The request's body.
    pub body: Bytes,
    /// What the request tells of itself.
    pub facts: Arc<RequestFacts>,
}

/// The endpoints of a pool that are ejected: all of them, not a difference. From the PoolKeeper to the RouteRegistry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct HealthChanged {
    /// The pool.
    pub pool: PoolKey,
    /// Why each of its ejected endpoints is, in order.
    pub ejected: Ejected,
    /// The one that has just been ejected, if that is what changed.
    pub latest: Option<(Arc<Endpoint>, Cause)>,
}

/// Which of the Redis servers of limits do not answer: all of them, not a difference. From the RedisWatch to the RouteRegistry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct RedisReported {
    /// Where they are, as `host:port`.
    pub away: BTreeSet<Arc<str>>,
}

/// The addresses of names: all that were found, not a difference. From the NameResolver to the RouteRegistry.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NamesResolved(pub BTreeMap<Arc<str>, IpAddr>);

/// An attempt at an endpoint ended in a way that its pool's keeper should know of. From leases to the PoolKeeper.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AttemptEnded {
    /// The endpoint.
    pub address: SocketAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// How many attempts failed in a row, this one included; 0 for a good answer.
    pub in_a_row: u32,
}
