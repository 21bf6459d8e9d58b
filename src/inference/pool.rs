//! The endpoints of a pool, as the picker sees them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::exposition::EndpointMetrics;
use super::health::Standing;
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
}

/// What is known of an endpoint beyond its address; published with the pool and so a little old.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// The engine's own figures, while they are fresh.
    pub metrics: Option<EndpointMetrics>,
    /// Requests of this router that were in flight when the metrics were scraped.
    pub in_flight_at_scrape: u32,
    /// Whether the endpoint gets requests, by how the last ones ended.
    pub standing: Standing,
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
    /// What was observed of it.
    pub observation: &'e Observation,
    /// What it is rated down by for failures of late, as a number of requests.
    pub penalty: u32,
    /// Whether an earlier attempt of the same request failed there.
    pub tried: bool,
}

impl Endpoint {
    /// Returns the socket to connect to.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
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
        let elsewhere = self.observation.metrics.map_or(0, |metrics| {
            metrics.running.saturating_add(metrics.waiting).saturating_sub(self.observation.in_flight_at_scrape)
        });
        self.in_flight.saturating_add(elsewhere).saturating_add(self.penalty)
    }
}
