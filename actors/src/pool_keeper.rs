//! PoolKeeper: keeps the truth about one pool, and publishes it.
//!
//! # State
//! The members of the pool with what was observed of them. It starts from what the pool's view last showed, so that
//! load cells and endpoints that are set aside survive a dead keeper.
//!
//! # Messages
//! In: [`SetEndpoints`] from the RouteRegistry, [`Scraped`] from the MetricsScraper, [`ConnectionRefused`] from leases.
//! Out: [`WatchEndpoints`] to the MetricsScraper; the pool's view, to everyone.
//!
//! # Supervision
//! Started by the RouteRegistry, which looks each second and starts a fresh one in place of a dead one. It does the same
//! for its own MetricsScraper.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture};
use kthena_router::config::EngineConfig;
use kthena_router::inference::exposition::{Dialect, EndpointMetrics};
use kthena_router::inference::pool::Endpoint;
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::routing::pool::{BackendProtocol, PoolPolicy};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::metrics::{EndpointLabels, Metrics, PoolLabel};
use crate::published::{Member, Pool, PoolView};
use crate::scraper::{MetricsScraper, ScrapeFault, Scraping, WatchEndpoints};
use crate::upstream::{Transport, Upstream};
use crate::vitals::{Vitals, note_restart};

/// How many refused connections in a row set an endpoint aside.
pub const SET_ASIDE_AFTER: u32 = 3;
/// How often an endpoint that is set aside is probed, and for how long at most.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How many scrapes in a row may fail before the last figures are forgotten.
const STALE_AFTER: u32 = 3;
/// How long views wait for further samples, so that a large pool is not published once for each of its endpoints.
const PUBLISH_QUIET: Duration = Duration::from_millis(20);

/// Keeps one pool.
pub struct PoolKeeper {
    pool: Arc<Pool>,
    members: Vec<Member>,
    missed_scrapes: HashMap<SocketAddr, u32>,
    /// How the engines are scraped; `None` for endpoints that are no engines.
    scraping: Option<Scraping>,
    scraper_arbiter: ArbiterHandle,
    scraper: Option<Addr<MetricsScraper>>,
    publish_pending: bool,
    vitals: Vitals,
}

/// The endpoints that the pool is to have: all of them, not a difference.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetEndpoints(pub Vec<Endpoint>);

/// A scrape of one endpoint came to an end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Scraped {
    /// The endpoint.
    pub address: SocketAddr,
    /// Its figures.
    pub outcome: Result<EndpointMetrics, ScrapeFault>,
}

/// An endpoint refused a connection.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ConnectionRefused {
    /// The endpoint.
    pub address: SocketAddr,
    /// How many connections it refused in a row, this one included.
    pub in_a_row: u32,
}

impl PoolKeeper {
    /// The actor's name.
    pub const NAME: &str = "PoolKeeper";

    /// Makes the keeper of `pool`, whose scraper will run in `scraper_arbiter`.
    pub fn new(
        pool: Arc<Pool>,
        policy: &PoolPolicy,
        engines: &EngineConfig,
        scraper_arbiter: ArbiterHandle,
        upstream: &Upstream,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let scraping = policy.engine.map(|engine| Scraping {
            pool: pool.key.to_string(),
            dialect: match engine {
                InferenceEngine::Vllm => Dialect::Vllm,
                InferenceEngine::Sglang => Dialect::Sglang,
            },
            transport: match policy.protocol {
                BackendProtocol::H2c => Transport::H2c,
                BackendProtocol::Http1 => upstream.engines(policy.https),
            },
            interval: engines.metrics_scrape_interval,
            upstream: upstream.clone(),
        });
        Self {
            members: pool.view().members.clone(),
            pool,
            missed_scrapes: HashMap::new(),
            scraping,
            scraper_arbiter,
            scraper: None,
            publish_pending: false,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    fn look_after_scraper(&mut self, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Look");
        if self.scraper.as_ref().is_some_and(Addr::connected) {
            return;
        }
        let Some(scraping) = self.scraping.clone() else { return };
        if self.scraper.is_some() {
            warn!(pool = %self.pool.key, "metrics scraper died, starting a fresh one");
            note_restart(self.vitals.metrics(), MetricsScraper::NAME, "died");
        }
        let keeper = context.address().downgrade().recipient();
        let metrics = Arc::clone(self.vitals.metrics());
        let scraper = MetricsScraper::start_in_arbiter(&self.scraper_arbiter, move |_| {
            MetricsScraper::new(scraping, keeper, &metrics)
        });
        scraper.do_send(self.watched());
        self.scraper = Some(scraper);
    }

    fn watched(&self) -> WatchEndpoints {
        WatchEndpoints(self.members.iter().map(|member| Arc::clone(&member.endpoint)).collect())
    }

    fn member(&mut self, address: SocketAddr) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.endpoint.socket() == address)
    }

    /// Sets an endpoint aside and probes it until it accepts a connection.
    fn set_aside(&mut self, address: SocketAddr, context: &mut Context<Self>) {
        let pool = self.pool.key.to_string();
        let Some(member) = self.member(address) else { return };
        if std::mem::replace(&mut member.observation.set_aside, true) {
            return;
        }
        warn!(%pool, endpoint = %member.endpoint, "endpoint set aside: it refuses connections");
        self.vitals.metrics().set_aside.get_or_create(&PoolLabel { pool }).inc();
        self.publish(context);
        context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
    }

    fn probe(&mut self, address: SocketAddr, context: &mut Context<Self>) {
        if self.member(address).is_none() {
            return;
        }
        let probe = timeout(PROBE_INTERVAL, TcpStream::connect(address)).into_actor(self);
        context.spawn(probe.map(move |connected, keeper, context| {
            if matches!(connected, Ok(Ok(_))) {
                keeper.take_back(address, context);
            } else {
                context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
            }
        }));
    }

    fn take_back(&mut self, address: SocketAddr, context: &mut Context<Self>) {
        let pool = Arc::clone(&self.pool);
        let Some(member) = self.member(address) else { return };
        member.cell.note_answer();
        if std::mem::take(&mut member.observation.set_aside) {
            info!(pool = %pool.key, endpoint = %member.endpoint, "endpoint serves again");
            self.publish(context);
        }
    }

    fn publish_soon(&mut self, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.publish_pending, true) {
            context.run_later(PUBLISH_QUIET, Self::publish);
        }
    }

    fn publish(&mut self, context: &mut Context<Self>) {
        self.publish_pending = false;
        let keeper = Some(context.address().downgrade().recipient());
        self.pool.publish(PoolView { members: self.members.clone(), keeper });
        let set_aside = self.members.iter().filter(|member| member.observation.set_aside).count();
        self.show("set_aside", set_aside);
        self.show("ready", self.members.len() - set_aside);
    }

    fn show(&self, state: &'static str, count: usize) {
        let labels = EndpointLabels { pool: self.pool.key.to_string(), state };
        self.vitals.metrics().endpoints.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Actor for PoolKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let set_aside: Vec<_> = self.members.iter().filter(|member| member.observation.set_aside).collect();
        for address in set_aside.iter().map(|member| member.endpoint.socket()).collect::<Vec<_>>() {
            self.probe(address, context);
        }
        self.look_after_scraper(context);
        context.run_interval(Duration::from_secs(1), Self::look_after_scraper);
        self.publish(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        for state in ["ready", "set_aside"] {
            self.vitals.metrics().endpoints.remove(&EndpointLabels { pool: self.pool.key.to_string(), state });
        }
    }
}

impl Handler<SetEndpoints> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, SetEndpoints(endpoints): SetEndpoints, context: &mut Self::Context) {
        let _handling = self.vitals.handling("SetEndpoints");
        let mut known: HashMap<Arc<Endpoint>, Member> =
            self.members.drain(..).map(|member| (Arc::clone(&member.endpoint), member)).collect();
        self.members =
            endpoints.iter().map(|endpoint| known.remove(endpoint).unwrap_or_else(|| Member::new(endpoint))).collect();
        let sockets: Vec<_> = self.members.iter().map(|member| member.endpoint.socket()).collect();
        self.missed_scrapes.retain(|address, _| sockets.contains(address));
        if let Some(scraper) = &self.scraper {
            scraper.do_send(self.watched());
        }
        self.publish(context);
    }
}

impl Handler<Scraped> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, Scraped { address, outcome }: Scraped, context: &mut Self::Context) {
        let _handling = self.vitals.handling("Scraped");
        let missed = self.missed_scrapes.entry(address).or_default();
        *missed = if outcome.is_ok() { 0 } else { missed.saturating_add(1) };
        let stale = *missed >= STALE_AFTER;
        let refused = matches!(outcome, Err(ScrapeFault::Connect));
        let Some(member) = self.member(address) else { return };
        match outcome {
            Ok(metrics) => {
                member.cell.note_answer();
                member.observation.metrics = Some(metrics);
                member.observation.in_flight_at_scrape = member.cell.in_flight();
            }
            Err(_) if stale => member.observation.metrics = None,
            Err(_) => {}
        }
        if refused && member.cell.note_refusal() >= SET_ASIDE_AFTER {
            self.set_aside(address, context);
        }
        self.publish_soon(context);
    }
}

impl Handler<ConnectionRefused> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, ConnectionRefused { address, in_a_row }: ConnectionRefused, context: &mut Self::Context) {
        let _handling = self.vitals.handling("ConnectionRefused");
        if in_a_row >= SET_ASIDE_AFTER {
            self.set_aside(address, context);
        }
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(PoolKeeper, vitals, |keeper| &keeper.scraper);
