//! PoolKeeper: keeps the truth about one pool, and publishes it.
//!
//! # State
//! The members of the pool with what was observed of them. It starts from what the pool's view last showed, so that
//! load cells and ejections survive a dead keeper.
//!
//! # Messages
//! In: [`SetPool`] and [`End`] from the RouteRegistry, [`Scraped`] from the MetricsScraper, [`AttemptEnded`] from leases.
//! Out: [`WatchEndpoints`] to the MetricsScraper; the pool's view, to everyone.
//!
//! # Supervision
//! Started by the RouteRegistry, which replaces a dead one, and ends it with its pool. It does the same for its own
//! MetricsScraper, which it also replaces when the engines are spoken to in another way, and for its KvEventListener and
//! Tokenizer where the engines tell of their KV caches. A pool has one keeper at a time,
//! and so one writer.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseActFuture,
    WeakRecipient, WrapFuture,
};
use kthena_router::config::EngineConfig;
use kthena_router::inference::exposition::Dialect;
use kthena_router::inference::health::{Outcome, PoolHealth, Standing};
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::pool::policy::{BackendProtocol, PoolPolicy};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::homes::{Homes, Surveyed};
use kthena_router::scheduling::room::Room;
use kthena_router_upstream::{Transport, Upstream};

use crate::messages::{AttemptEnded, HealthChanged, ScrapeFault, Scraped, WatchEndpoints, Watched};
use crate::nursery::{Child, End, Tended};
use crate::ops::metrics::{EndpointLabels, Metrics};
use crate::ops::vitals::Vitals;
use crate::pools::published::{Member, Pool, PoolView};
use crate::pools::scraper::{MetricsScraper, Scraping};
use hearing::Hearing;

mod hearing;
mod tending;

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
    homes: Arc<Homes>,
    room: Room,
    policy: Arc<PoolPolicy>,
    means: Means,
    scraper: Option<Child<MetricsScraper>>,
    hearing: Option<Hearing>,
    publish_pending: bool,
    vitals: Vitals,
}

/// What pool keepers work with.
#[derive(Clone, Debug)]
pub struct Means {
    /// Where their scrapers run.
    pub scraping: ArbiterHandle,
    /// How engines are observed.
    pub engines: EngineConfig,
    /// How engines are reached.
    pub upstream: Upstream,
    /// Who is told which endpoints are ejected.
    pub reports: Option<WeakRecipient<HealthChanged>>,
}

/// What the pool is to be.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetPool {
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// Its endpoints: all of them, not a difference.
    pub endpoints: Vec<Endpoint>,
}

impl PoolKeeper {
    /// The actor's name.
    pub const NAME: &str = "PoolKeeper";

    /// Makes the keeper of `pool`.
    pub fn new(pool: Arc<Pool>, policy: Arc<PoolPolicy>, means: Means, metrics: &Arc<Metrics>) -> Self {
        Self {
            members: pool.view().members.iter().map(|member| Member::clone(member)).collect(),
            missed_scrapes: HashMap::new(),
            health: PoolHealth::default(),
            homes: Arc::clone(&pool.view().homes),
            room: pool.view().room,
            pool,
            policy,
            means,
            scraper: None,
            hearing: None,
            publish_pending: false,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Returns how the engines are scraped; `None` for endpoints that are no engines.
    fn scraping(&self) -> Option<Scraping> {
        let Means { engines, upstream, .. } = &self.means;
        self.policy.engine.map(|engine| Scraping {
            pool: self.pool.key.to_string(),
            dialect: match engine {
                InferenceEngine::Vllm => Dialect::Vllm,
                InferenceEngine::Sglang => Dialect::Sglang,
            },
            transport: match self.policy.protocol {
                BackendProtocol::H2c => Transport::H2c,
                BackendProtocol::Http1 => upstream.engines(self.policy.https),
            },
            interval: engines.metrics_scrape_interval,
            upstream: upstream.clone(),
        })
    }

    fn start_scraper(&mut self, context: &mut Context<Self>) {
        let Some(scraping) = self.scraping().filter(|_| self.scraper.is_none()) else { return };
        let keeper = context.address().downgrade().recipient();
        let (arbiter, metrics) = (self.means.scraping.clone(), Arc::clone(self.vitals.metrics()));
        let scraper = Child::start(MetricsScraper::NAME, move || {
            let (scraping, keeper, metrics) = (scraping.clone(), keeper.clone(), Arc::clone(&metrics));
            MetricsScraper::start_in_arbiter(&arbiter, move |_| MetricsScraper::new(scraping, keeper, &metrics))
        });
        scraper.address().do_send(self.watched());
        self.scraper = Some(scraper);
    }

    /// Replaces the scraper by one for the present policy, once the old one scrapes no more.
    fn replace_scraper(&mut self, context: &mut Context<Self>) {
        match self.scraper.take() {
            Some(scraper) => {
                let ended = scraper.end().into_actor(self);
                context.spawn(ended.map(|(), keeper, context| keeper.start_scraper(context)));
            }
            None => self.start_scraper(context),
        }
    }

    fn look_after_scraper(&mut self) {
        let _handling = self.vitals.handling("Look");
        let watched = self.watched();
        if let Some(scraper) = &mut self.scraper
            && scraper.look(&self.pool.key, self.vitals.metrics())
        {
            scraper.address().do_send(watched);
        }
    }

    fn watched(&self) -> WatchEndpoints {
        let watched =
            |member: &Member| Watched { endpoint: Arc::clone(&member.endpoint), cell: Arc::clone(&member.cell) };
        WatchEndpoints(self.members.iter().map(watched).collect())
    }

    fn member(&mut self, address: SocketAddr) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.endpoint.socket() == address)
    }

    fn set_endpoints(&mut self, endpoints: &[Endpoint]) {
        let mut known: HashMap<Arc<Endpoint>, Member> =
            self.members.drain(..).map(|member| (Arc::clone(&member.endpoint), member)).collect();
        let (mut kept, mut new) = (HashSet::new(), Vec::new());
        self.members = endpoints
            .iter()
            .map(|endpoint| match known.remove(endpoint) {
                Some(member) => {
                    kept.insert(endpoint.socket());
                    member
                }
                None => {
                    new.push(endpoint.socket());
                    Member::new(endpoint)
                }
            })
            .collect();
        // A new Pod with the address of an old one has done nothing yet.
        self.missed_scrapes.retain(|address, _| kept.contains(address));
        self.health.retain(|address| kept.contains(&address));
        let now = Instant::now();
        for address in new {
            self.health.add(address, Standing::Serving, now);
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        self.pool.throughput.tick();
        for member in &self.members {
            member.cell.forgive();
        }
        self.survey();
        self.advance(context);
        self.look_after_scraper();
        let (pool, metrics) = (&self.pool.key, self.vitals.metrics());
        if self.hearing.as_mut().is_some_and(|hearing| hearing.look(pool, &self.members, metrics)) {
            self.publish(context);
        }
    }

    /// Finds out where what is new is sent from now on; it is published with the next scrape.
    fn survey(&mut self) {
        let surveyed: Vec<_> = (self.members.iter())
            .map(|Member { endpoint, observation, ledger, .. }| Surveyed { endpoint, observation, ledger })
            .collect();
        self.homes = Arc::new(self.homes.survey(&self.pool.commons, &surveyed));
    }

    fn publish_soon(&mut self, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.publish_pending, true) {
            context.run_later(PUBLISH_QUIET, Self::publish);
        }
    }

    fn publish(&mut self, context: &mut Context<Self>) {
        self.publish_pending = false;
        let keeper = Some(context.address().downgrade().recipient());
        let serving = self.members.iter().filter(|member| !member.observation.standing.is_ejected());
        self.room = self.room.after(serving.map(|member| member.observation.metrics.as_ref()));
        let homes = Arc::clone(&self.homes);
        let learner = self.hearing.as_ref().map(Hearing::learner);
        let view = PoolView::of(self.members.iter().cloned());
        self.pool.publish(PoolView { room: self.room, homes, keeper, learner, ..view });
        self.pool.let_pass();
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
        self.vitals.metrics().introduce_pool(&self.pool.key, self.policy.engine.is_some());
        self.start_scraper(context);
        self.start_hearing();
        context.run_interval(Duration::from_secs(1), Self::look);
        self.publish(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // Of a keeper that died: the fresh one has a scraper of its own.
        if let Some(scraper) = &self.scraper {
            scraper.address().do_send(End);
        }
        if let Some(hearing) = &self.hearing {
            hearing.listener.address().do_send(End);
            hearing.tokenizer.address().do_send(End);
        }
    }
}

impl Handler<SetPool> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, SetPool { policy, endpoints }: SetPool, context: &mut Self::Context) {
        let _handling = self.vitals.handling("SetPool");
        let before = std::mem::replace(&mut self.policy, policy);
        let was_ejected = self.ejected();
        self.set_endpoints(&endpoints);
        if self.ejected() != was_ejected {
            self.report(None);
        }
        if is_spoken_to_alike(&before, &self.policy) {
            if let Some(scraper) = &self.scraper {
                scraper.address().do_send(self.watched());
            }
        } else {
            for member in &mut self.members {
                member.observation.metrics = None;
            }
            self.replace_scraper(context);
        }
        self.hear_anew(&before, context);
        self.publish(context);
    }
}

impl Handler<End> for PoolKeeper {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: End, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("End");
        self.pool.close();
        let (scraper, hearing) = (self.scraper.take(), self.hearing.take());
        let ended = async move {
            if let Some(hearing) = hearing {
                hearing.end().await;
            }
            if let Some(scraper) = scraper {
                scraper.end().await;
            }
        };
        Box::pin(ended.into_actor(self).map(|(), _, context| context.stop()))
    }
}

impl Handler<Scraped> for PoolKeeper {
    type Result = ();

    fn handle(&mut self, Scraped { address, outcome, adapters, in_flight }: Scraped, context: &mut Self::Context) {
        let _handling = self.vitals.handling("Scraped");
        let missed = self.missed_scrapes.entry(address).or_default();
        *missed = if outcome.is_ok() { 0 } else { missed.saturating_add(1) };
        let missed = *missed;
        let is_held = self.pool.turnstile.waiting() > 0;
        let Some(member) = self.member(address) else { return };
        let (cell, now) = (Arc::clone(&member.cell), Instant::now());
        match &outcome {
            Ok(metrics) => member.observation.absorb(*metrics, adapters, (in_flight, is_held), now),
            Err(_) if missed >= STALE_AFTER => member.observation.forget(),
            Err(_) => {}
        }
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

/// Returns whether a scraper made for one policy can go on with the other.
fn is_spoken_to_alike(first: &PoolPolicy, second: &PoolPolicy) -> bool {
    (first.engine, first.https, first.protocol) == (second.engine, second.https, second.protocol)
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(PoolKeeper, vitals, |keeper| keeper
    .scraper
    .iter()
    .map(|scraper| scraper.address().clone().recipient())
    .chain(keeper.hearing.iter().flat_map(Hearing::children)));
