//! MetricsScraper: reads the metrics of one pool's engines.
//!
//! # State
//! An HTTP client with kept-alive connections, which endpoints are being scraped at the moment, and what was said of their
//! pages in the log.
//!
//! # Messages
//! In: [`WatchEndpoints`] and [`End`] from the PoolKeeper. Out: [`Scraped`] to the PoolKeeper; a lost one is replaced by the next.
//!
//! # Supervision
//! Started by the pool's PoolKeeper, which starts a fresh one in place of a dead one. It ends when its keeper
//! says so or dies.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WeakRecipient, WrapFuture};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Collected, Limited};
use kthena_router::inference::adapters::Adapters;
use kthena_router::inference::exposition::{Dialect, EndpointMetrics, ExpositionError, parse_any};
use kthena_router_upstream::{Ask, AttemptError, Client, Peer, Transport, Upstream};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::messages::{ScrapeFault, Scraped, WatchEndpoints, Watched};
use crate::nursery::End;
use crate::ops::metrics::{Metrics, ScrapeLabels};
use crate::ops::vitals::Vitals;

/// How long one scrape may take, whatever the interval is. An engine that takes longer twice in a row hangs.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest metrics page that is read, in bytes.
const MAX_PAGE: usize = 8 << 20;

/// Scrapes the endpoints of one pool.
pub struct MetricsScraper {
    scraping: Scraping,
    client: Client,
    keeper: WeakRecipient<Scraped>,
    endpoints: Vec<Watched>,
    busy: HashSet<SocketAddr>,
    /// The dialect of each endpoint's page, `None` for a page of no known engine; what differs from the expected one is
    /// logged when it changes.
    dialects: HashMap<SocketAddr, Option<Dialect>>,
    vitals: Vitals,
}

/// What to scrape and how.
#[derive(Clone, Debug)]
pub struct Scraping {
    /// The pool's name, for metrics.
    pub pool: String,
    /// The dialect that pages are expected in; others are recognised.
    pub dialect: Dialect,
    /// What the engines speak.
    pub transport: Transport,
    /// The time between two scrapes of an endpoint.
    pub interval: Duration,
    /// How engines are reached.
    pub upstream: Upstream,
}

/// What an engine tells.
struct Page {
    metrics: EndpointMetrics,
    dialect: Dialect,
    adapters: Option<Adapters>,
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
            dialects: HashMap::new(),
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
        for Watched { endpoint, cell } in self.endpoints.clone() {
            let address = endpoint.socket();
            if self.busy.insert(address) {
                let peer = Peer { address, transport: self.scraping.transport.clone() };
                let scrape = scrape(self.client.clone(), peer, self.scraping.dialect);
                let before = cell.in_flight();
                context.spawn(scrape.into_actor(self).map(move |outcome, scraper, _| {
                    scraper.report(address, outcome, before.max(cell.in_flight()));
                }));
            }
        }
    }

    fn report(&mut self, address: SocketAddr, outcome: Result<Page, ScrapeFault>, in_flight: u32) {
        self.busy.remove(&address);
        match &outcome {
            Ok(Page { dialect, .. }) => self.note_dialect(address, Some(*dialect)),
            Err(ScrapeFault::Page(ExpositionError::NoEngine)) => self.note_dialect(address, None),
            Err(error) => debug!(pool = self.scraping.pool, endpoint = %address, %error, "scrape failed"),
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
            let (outcome, adapters) = match outcome {
                Ok(Page { metrics, adapters, .. }) => (Ok(metrics), adapters),
                Err(fault) => (Err(fault), None),
            };
            drop(keeper.try_send(Scraped { address, outcome, adapters, in_flight }));
        }
    }

    /// Says once that a page is not in the expected dialect.
    fn note_dialect(&mut self, address: SocketAddr, dialect: Option<Dialect>) {
        let expected = self.scraping.dialect;
        let known = self.dialects.insert(address, dialect).unwrap_or(Some(expected));
        if known == dialect {
            return;
        }
        let (pool, expected) = (&self.scraping.pool, expected.engine());
        match dialect {
            Some(dialect) => info!(pool, endpoint = %address, engine = dialect.engine(), expected, "engine recognised"),
            None => warn!(pool, endpoint = %address, expected, "metrics page is of no known engine"),
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
        let watched: HashSet<_> = endpoints.iter().map(|watched| watched.endpoint.socket()).collect();
        self.dialects.retain(|address, _| watched.contains(address));
        self.endpoints = endpoints;
        // New endpoints are known at once and not only after an interval.
        self.scrape_all(context);
    }
}

impl Handler<End> for MetricsScraper {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Self::Context) {
        let _handling = self.vitals.handling("End");
        context.stop();
    }
}

async fn scrape(client: Client, peer: Peer, expected: Dialect) -> Result<Page, ScrapeFault> {
    let get =
        async |target| timeout(SCRAPE_TIMEOUT, fetch(&client, &peer, target)).await.unwrap_or(Err(ScrapeFault::Answer));
    let page = get("/metrics").await?;
    let (metrics, dialect) = parse_any(&page, expected)?;
    let mut adapters = Adapters::of_metrics(&page);
    if let Some(adapters) = &mut adapters {
        // Which adapters an engine could serve is not on its page.
        adapters.listed = get("/v1/models").await.ok().and_then(|models| Adapters::list(&models));
    }
    Ok(Page { metrics, dialect, adapters })
}

/// Fetches a page of an engine.
async fn fetch(client: &Client, peer: &Peer, target: &str) -> Result<Bytes, ScrapeFault> {
    let (host, headers) = (peer.address.to_string(), HeaderMap::new());
    let mut ask = Ask::get(target, &host, &headers);
    let answer = client.send_again(peer, &mut ask).await.map_err(|failure| match failure.error {
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
