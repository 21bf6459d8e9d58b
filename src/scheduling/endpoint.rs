//! The endpoints of a pool, as the picker sees them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::drain;
use super::ledger::Ledger;
use super::request::PickRequest;
use super::room::Slots;
use crate::inference::adapters::Adapters;
use crate::inference::exposition::EndpointMetrics;
use crate::inference::health::Standing;
use crate::inference::prompt::BlockHash;
use crate::object::ObjectKey;

/// One address that serves a pool's requests: a Pod at a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The Pod.
    pub pod: ObjectKey,
    /// The Pod's address.
    pub address: IpAddr,
    /// The port of the engine.
    pub port: u16,
    /// The place of the port among the ports that the pool has at each Pod, from 0: the data-parallel rank.
    pub rank: u16,
    /// Which part of a request the engine works on.
    pub role: Role,
    /// The group whose prefill and decode endpoints work together, where a ModelServer has such groups.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub group: Option<Arc<str>>,
    /// Where the engine meets those that decode what it has computed, unless it is where all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_port: Option<u16>,
    /// Which life of the Pod this is: its UID and, after a space, when its newest container started. An engine that was started anew has an empty cache, and is another endpoint.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Arc<str>>,
}

/// Which part of a request an engine works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All of it.
    #[default]
    Whole,
    /// The prompt.
    Prefill,
    /// The tokens of the answer.
    Decode,
}

/// What is known of an endpoint beyond its address; published with the pool and so a little old.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The engine's own figures, while they are fresh.
    pub metrics: Option<EndpointMetrics>,
    /// When the engine was last scraped with success.
    pub scraped: Option<Instant>,
    /// Requests of this router that were in flight when the metrics were scraped.
    pub in_flight_at_scrape: u32,
    /// Whether the endpoint gets requests, by how the last ones ended.
    pub standing: Standing,
    /// Seconds to the first token, on average of the requests between the last two scrapes; `None` where there was none.
    pub first_token: Option<f64>,
    /// Seconds between two tokens, likewise.
    pub inter_token: Option<f64>,
    /// How many requests it begins to answer in a second, whoever sent them; `None` until two scrapes have told.
    pub drain: Option<f64>,
    /// Its LoRA adapters, where it tells of them.
    pub adapters: Option<Arc<Adapters>>,
    /// How many requests it works on at once, as far as it has shown.
    pub slots: Slots,
}

/// What is known of a pool as a whole at the moment of a pick.
#[derive(Clone, Copy, Debug)]
pub struct PoolFacts {
    /// The time.
    pub now: Instant,
    /// Whether others send to the pool as well, which this router knows of by scrapes only.
    pub is_shared: bool,
    /// Whether its endpoints share the work on a request, so that the role of each counts.
    pub has_roles: bool,
}

/// One endpoint that a picker may choose.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'e> {
    /// The endpoint.
    pub endpoint: &'e Endpoint,
    /// Its place in the pool it was taken from.
    pub position: usize,
    /// Requests of this router in flight there at this moment.
    pub in_flight: u32,
    /// Requests from elsewhere there, by the last scrape and what has come since.
    pub elsewhere: u32,
    /// What was observed of it.
    pub observation: &'e Observation,
    /// What it is rated down by for failures of late, as a number of requests.
    pub penalty: u32,
    /// What this router has sent there, and learnt from the answers.
    pub ledger: &'e Ledger,
    /// Tokens of the request's prompt that its cache holds, as far as this router knows or presumes.
    pub cached: u32,
    /// Tokens of it that count as cached when endpoints are compared: fewer where other replicas of the router would not
    /// look for them.
    pub counted: u32,
}

impl Endpoint {
    /// Makes an endpoint of which no more is known than where it is.
    pub fn new(pod: ObjectKey, address: IpAddr, port: u16) -> Self {
        Self { pod, address, port, rank: 0, role: Role::Whole, group: None, bootstrap_port: None, incarnation: None }
    }

    /// Returns when the newest container of this life of the Pod started, in seconds since 1970, if that is known.
    pub fn started(&self) -> Option<i64> {
        let (_, started) = self.incarnation.as_deref()?.split_once(' ')?;
        started.parse::<Timestamp>().ok().map(Timestamp::as_second)
    }

    /// Returns the socket to connect to.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns what all replicas of the router know the endpoint by.
    pub fn identity(&self) -> BlockHash {
        let pod = BlockHash(0).followed_by(self.pod.namespace.as_bytes()).followed_by(self.pod.name.as_bytes());
        pod.followed_by(&self.port.to_le_bytes())
    }

    /// Returns how the endpoint ranks for a mark: the highest is the mark's home, the next one takes what is too much for
    /// it. That is rendezvous hashing; an endpoint that comes or goes changes the home of no more marks than its share.
    pub fn rank_for(&self, mark: BlockHash) -> u64 {
        rank(self.identity(), mark)
    }
}

impl Observation {
    /// Takes in what a scrape tells, at which this router had so many requests in flight; `is_held` if others wait in the
    /// router for the endpoint's pool.
    pub fn absorb(
        &mut self,
        metrics: EndpointMetrics,
        adapters: Option<Adapters>,
        (in_flight, is_held): (u32, bool),
        now: Instant,
    ) {
        let elapsed = self.scraped.replace(now).map(|before| now.saturating_duration_since(before));
        // What has not changed is kept, so that views share it.
        if self.adapters.as_deref() != adapters.as_ref() {
            self.adapters = adapters.map(Arc::new);
        }
        let before = self.metrics.replace(metrics);
        self.first_token =
            before.and_then(|before| metrics.time_to_first_token.mean_since(&before.time_to_first_token));
        self.inter_token =
            before.and_then(|before| metrics.inter_token_latency.mean_since(&before.inter_token_latency));
        if let (Some(before), Some(elapsed)) = (before, elapsed) {
            let begun = metrics.time_to_first_token.since(&before.time_to_first_token).count;
            self.drain = drain::blend(self.drain, begun, elapsed);
        }
        self.in_flight_at_scrape = in_flight;
        self.slots = self.slots.after(&metrics, is_held);
    }

    /// Forgets what scrapes have told: it is too old.
    pub fn forget(&mut self) {
        *self = Self { standing: self.standing, ..Self::default() };
    }

    /// Returns how many requests the endpoint had when it was last scraped.
    pub fn requests(&self) -> u32 {
        self.metrics.map_or(0, |metrics| metrics.running.saturating_add(metrics.waiting))
    }

    /// Returns how many of them came from elsewhere.
    pub fn elsewhere(&self) -> u32 {
        self.requests().saturating_sub(self.in_flight_at_scrape)
    }

    /// Returns how many tokens the engine's cache has room for, if it says so.
    pub fn cache_tokens(&self) -> Option<u64> {
        self.metrics.and_then(|metrics| metrics.cache_tokens)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.pod, self.socket())
    }
}

impl Candidate<'_> {
    /// Returns the number of requests that the endpoint has to work on.
    ///
    /// That is what this router has in flight there now, plus what came from elsewhere: the engine's own running and
    /// waiting requests at its last scrape, less this router's share of them at that time. The penalty is added, because
    /// an endpoint that fails at once would look idle.
    pub fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.elsewhere).saturating_add(self.penalty)
    }

    /// Returns how many tokens of a prompt the endpoint would have to compute, for comparisons.
    pub fn uncached(&self, request: &PickRequest<'_>) -> u32 {
        request.tokens.saturating_sub(self.counted)
    }
}

/// Returns how the endpoint of this identity ranks for a mark.
pub fn rank(identity: BlockHash, mark: BlockHash) -> u64 {
    identity.followed_by(&mark.0.to_le_bytes()).0
}

/// Writes a shared text as any other.
fn text<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}
