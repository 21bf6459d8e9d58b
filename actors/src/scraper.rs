//! MetricsScraper: reads the metrics of one pool's engines.
//!
//! # State
//! An HTTP client with kept-alive connections, and which endpoints are being scraped at the moment.
//!
//! # Messages
//! In: [`WatchEndpoints`] from the PoolKeeper. Out: [`Scraped`] to the PoolKeeper; a lost one is replaced by the next.
//!
//! # Supervision
//! Started by the pool's PoolKeeper, which starts a fresh one in place of a dead one. It ends with its keeper.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WeakRecipient, WrapFuture};
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Collected, Limited};
use kthena_router::inference::exposition::{Dialect, EndpointMetrics, ExpositionError, parse};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_upstream::{Ask, AttemptError, Body, Client, Peer, Transport, Upstream};
use thiserror::Error;
use tokio::time::timeout;
use tracing::debug;

use crate::metrics::{Metrics, ScrapeLabels};
use crate::pool_keeper::Scraped;
use crate::vitals::Vitals;

/// How long one scrape may take, whatever the interval is.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest metrics page that is read, in bytes.
const MAX_PAGE: usize = 8 << 20;

/// Scrapes the endpoints of one pool.
pub struct MetricsScraper {
    scraping: Scraping,
    client: Client,
    keeper: WeakRecipient<Scraped>,
    endpoints: Vec<Arc<Endpoint>>,
    busy: HashSet<SocketAddr>,
    vitals: Vitals,
}

/// What to scrape and how.
#[derive(Clone, Debug)]
pub struct Scraping {
    /// The pool's name, for metrics.
    pub pool: String,
    /// The engines' names for their figures.
    pub dialect: Dialect,
    /// What the engines speak.
    pub transport: Transport,
    /// The time between two scrapes of an endpoint.
    pub interval: Duration,
    /// How engines are reached.
    pub upstream: Upstream,
}

/// The endpoints to scrape: all of them, not a difference.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchEndpoints(pub Vec<Arc<Endpoint>>);

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
    /// The page is not the metrics of this engine.
    #[error("unreadable metrics")]
    Page(#[from] ExpositionError),
}

impl MetricsScraper {
    /// The actor's name.
    pub const NAME: &str = "MetricsScraper";

    /// Makes a scraper; it must be made on the thread that it runs on.
    pub fn new(scraping: Scraping, keeper: WeakRecipient<Scraped>, metrics: &Arc<Metrics>) -> Self {
        Self {
            client: scraping.upstream.client(),
            scraping,
            keeper,
            endpoints: Vec::new(),
            busy: HashSet::new(),
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Starts a scrape of every endpoint whose last one is over, so that a slow engine delays no other.
    fn scrape_all(&mut self, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Tick");
        if self.keeper.upgrade().is_none() {
            context.stop();
            return;
        }
        for endpoint in self.endpoints.clone() {
            let address = endpoint.socket();
            if self.busy.insert(address) {
                let peer = Peer { address, transport: self.scraping.transport.clone() };
                let scrape = scrape(self.client.clone(), peer, self.scraping.dialect);
                context.spawn(scrape.into_actor(self).map(move |outcome, scraper, _| scraper.report(address, outcome)));
            }
        }
    }

    fn report(&mut self, address: SocketAddr, outcome: Result<EndpointMetrics, ScrapeFault>) {
        self.busy.remove(&address);
        if let Err(error) = &outcome {
            debug!(pool = self.scraping.pool, endpoint = %address, %error, "scrape failed");
        }
        let label = match &outcome {
            Ok(_) => "ok",
            Err(ScrapeFault::Connect) => "connect",
            Err(ScrapeFault::Answer) => "answer",
            Err(ScrapeFault::Status(_)) => "status",
            Err(ScrapeFault::Page(_)) => "page",
        };
        let labels = ScrapeLabels { pool: self.scraping.pool.clone(), outcome: label };
        self.vitals.metrics().scrapes.get_or_create(&labels).inc();
        if let Some(keeper) = self.keeper.upgrade() {
            // A sample that does not fit is replaced by the next one.
            drop(keeper.try_send(Scraped { address, outcome }));
        }
    }
}

impl Actor for MetricsScraper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(self.scraping.interval, Self::scrape_all);
    }
}

impl Handler<WatchEndpoints> for MetricsScraper {
    type Result = ();

    fn handle(&mut self, WatchEndpoints(endpoints): WatchEndpoints, context: &mut Self::Context) {
        let _handling = self.vitals.handling("WatchEndpoints");
        self.endpoints = endpoints;
        // New endpoints are known at once and not only after an interval.
        self.scrape_all(context);
    }
}

async fn scrape(client: Client, peer: Peer, dialect: Dialect) -> Result<EndpointMetrics, ScrapeFault> {
    timeout(SCRAPE_TIMEOUT, fetch(&client, &peer))
        .await
        .unwrap_or(Err(ScrapeFault::Answer))
        .and_then(|page| Ok(parse(&page, dialect)?))
}

/// Fetches a metrics page.
async fn fetch(client: &Client, peer: &Peer) -> Result<Bytes, ScrapeFault> {
    let mut ask = Ask {
        method: &Method::GET,
        target: "/metrics",
        host: &peer.address.to_string(),
        headers: &HeaderMap::new(),
        replaced: &[],
        upgrade: None,
        body: Body::Empty,
        timeout: None,
    };
    let answer = client.send(peer, &mut ask).await.map_err(|failure| match failure.error {
        AttemptError::Connect(_) => ScrapeFault::Connect,
        _ => ScrapeFault::Answer,
    })?;
    let status = answer.head.status;
    if !status.is_success() {
        return Err(ScrapeFault::Status(status.as_u16()));
    }
    let page = Limited::new(answer.body, MAX_PAGE).collect().await;
    page.map(Collected::to_bytes).map_err(|_| ScrapeFault::Answer)
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(MetricsScraper, vitals);
