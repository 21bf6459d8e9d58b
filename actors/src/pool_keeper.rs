//! PoolKeeper: keeps the truth about one pool, and publishes it.
//!
//! # State
//! The members of the pool with what was observed of them. It starts from what the pool's view last showed, so that
//! load cells and ejections survive a dead keeper.
//!
//! # Messages
//! In: [`SetEndpoints`] from the RouteRegistry, [`Scraped`] from the MetricsScraper, [`AttemptEnded`] from leases.
//! Out: [`WatchEndpoints`] to the MetricsScraper; the pool's view, to everyone.
//!
//! # Supervision
//! Started by the RouteRegistry, which looks each second and starts a fresh one in place of a dead one. It does the same
//! for its own MetricsScraper.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, WrapFuture};
use kthena_router::config::EngineConfig;
use kthena_router::inference::exposition::{Dialect, EndpointMetrics};
use kthena_router::inference::health::{Cause, Change, LONGEST, Outcome, PoolHealth, Signs, Standing};
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::routing::pool::{BackendProtocol, PoolPolicy};
use kthena_router::scheduling::endpoint::Endpoint;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::messages::AttemptEnded;
use crate::metrics::{EjectionLabels, EndpointLabels, Metrics};
use crate::published::{Member, Pool, PoolView};
use crate::scraper::{MetricsScraper, ScrapeFault, Scraping, WatchEndpoints};
use crate::vitals::{Vitals, note_restart};
use kthena_router_upstream::{Transport, Upstream};

/// How often an endpoint that refuses connections is probed, and for how long at most.
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
    health: PoolHealth,
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
            health: PoolHealth::default(),
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

    /// Makes a change of an endpoint's health known: to pickers by the pool's view, to people by log and metric.
    fn note(&mut self, address: SocketAddr, change: Option<Change>, context: &mut Context<Self>) {
        let Some(change) = change else { return };
        let (pool, standing) = (Arc::clone(&self.pool), self.health.standing(address));
        let Some(member) = self.member(address) else { return };
        member.observation.standing = standing;
        let endpoint = Arc::clone(&member.endpoint);
        match change {
            Change::Ejected { cause, time } => {
                warn!(pool = %pool.key, %endpoint, cause = cause.label(), seconds = time.as_secs(), "endpoint ejected");
                let labels = EjectionLabels { pool: pool.key.to_string(), cause: cause.label() };
                self.vitals.metrics().ejections.get_or_create(&labels).inc();
                context.run_later(time, Self::advance);
                if cause == Cause::Refused {
                    context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
                }
            }
            Change::Tried => {
                debug!(pool = %pool.key, %endpoint, "endpoint on trial");
                context.run_later(LONGEST, Self::advance);
            }
            Change::Recovered => info!(pool = %pool.key, %endpoint, "endpoint serves again"),
        }
        self.publish(context);
    }

    /// Moves health on to this moment.
    fn advance(&mut self, context: &mut Context<Self>) {
        let members: HashMap<_, _> = self.members.iter().map(|member| (member.endpoint.socket(), member)).collect();
        let changes = self.health.advance(Instant::now(), |address| {
            let signs =
                |member: &&Member| Signs { in_flight: member.cell.in_flight(), failing: member.cell.is_failing() };
            members.get(&address).map(signs).unwrap_or_default()
        });
        for (address, change) in changes {
            self.note(address, Some(change), context);
        }
    }

    /// Takes back an endpoint that refused connections as soon as it accepts one, be there requests or not.
    fn probe(&mut self, address: SocketAddr, context: &mut Context<Self>) {
        if self.health.standing(address).cause() != Some(Cause::Refused) {
            return;
        }
        let probe = timeout(PROBE_INTERVAL, TcpStream::connect(address)).into_actor(self);
        context.spawn(probe.map(move |connected, keeper, context| {
            if matches!(connected, Ok(Ok(_))) {
                keeper.note_contact(address, false, context);
            } else {
                context.run_later(PROBE_INTERVAL, move |keeper, context| keeper.probe(address, context));
            }
        }));
    }

    fn note_contact(&mut self, address: SocketAddr, by_scrape: bool, context: &mut Context<Self>) {
        if let Some(member) = self.member(address) {
            member.cell.note_contact();
        }
        let change = self.health.note_contact(address, by_scrape, Instant::now());
        self.note(address, change, context);
    }

    fn look(&mut self, context: &mut Context<Self>) {
        for member in &self.members {
            member.cell.forgive();
        }
        self.advance(context);
        self.look_after_scraper(context);
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
        let ejected = self.members.iter().filter(|member| member.observation.standing.is_ejected()).count();
        self.show("ejected", ejected);
        self.show("ready", self.members.len() - ejected);
    }

    fn show(&self, state: &'static str, count: usize) {
        let labels = EndpointLabels { pool: self.pool.key.to_string(), state };
        self.vitals.metrics().endpoints.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Actor for PoolKeeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let now = Instant::now();
        for member in &self.members {
            self.health.add(member.endpoint.socket(), member.observation.standing, now);
        }
        for address in self.members.iter().map(|member| member.endpoint.socket()).collect::<Vec<_>>() {
            self.probe(address, context);
        }
        self.look_after_scraper(context);
        context.run_interval(Duration::from_secs(1), Self::look);
        self.publish(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        for state in ["ready", "ejected"] {
            self.vitals.metrics().endpoints.remove(&EndpointLabels { pool: self.pool.key.to_string(), state });
        }
    }
}

impl Handler<SetEndpoints> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, SetEndpoints(endpoints): SetEndpoints, context: &mut Self::Context) {
        let _handling = self.vitals.handling("SetEndpoints");
        let known_before: HashSet<_> = self.members.iter().map(|member| member.endpoint.socket()).collect();
        let mut known: HashMap<Arc<Endpoint>, Member> =
            self.members.drain(..).map(|member| (Arc::clone(&member.endpoint), member)).collect();
        self.members =
            endpoints.iter().map(|endpoint| known.remove(endpoint).unwrap_or_else(|| Member::new(endpoint))).collect();
        let now = Instant::now();
        let kept: HashSet<_> =
            known_before.difference(&known.keys().map(|gone| gone.socket()).collect()).copied().collect();
        self.missed_scrapes.retain(|address, _| kept.contains(address));
        self.health.retain(|address| kept.contains(&address));
        for member in self.members.iter().filter(|member| !kept.contains(&member.endpoint.socket())) {
            self.health.add(member.endpoint.socket(), Standing::Serving, now);
        }
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
        let missed = *missed;
        let Some(member) = self.member(address) else { return };
        let cell = Arc::clone(&member.cell);
        match &outcome {
            Ok(metrics) => {
                member.observation.metrics = Some(*metrics);
                member.observation.in_flight_at_scrape = cell.in_flight();
            }
            Err(_) if missed >= STALE_AFTER => member.observation.metrics = None,
            Err(_) => {}
        }
        let now = Instant::now();
        let change = match outcome {
            Err(ScrapeFault::Connect) => {
                let in_a_row = cell.note(Outcome::Refused);
                self.health.note(address, Outcome::Refused, in_a_row, now)
            }
            Err(ScrapeFault::Answer) => self.health.note_missed_scrape(address, missed, now),
            // What answers is alive. Whether it is an engine whose page can be read is a question of configuration.
            Ok(_) | Err(ScrapeFault::Status(_) | ScrapeFault::Page(_)) => {
                cell.note_contact();
                self.health.note_contact(address, true, now)
            }
        };
        self.note(address, change, context);
        self.publish_soon(context);
    }
}

impl Handler<AttemptEnded> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, AttemptEnded { address, outcome, in_a_row }: AttemptEnded, context: &mut Self::Context) {
        let _handling = self.vitals.handling("AttemptEnded");
        let change = self.health.note(address, outcome, in_a_row, Instant::now());
        self.note(address, change, context);
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(PoolKeeper, vitals, |keeper| &keeper.scraper);
