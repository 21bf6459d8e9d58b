//! What the requests of one worker thread share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix::{Actor, Addr, MailboxError};
use kthena_router::config::{Config, LimitConfig};
use kthena_router::object::Bind;
use kthena_router::pool::response_holders::ResponseHolders;
use kthena_router::scheduling::picker::{Legs, PickError, Picker};
use kthena_router::scheduling::record::PickRecord;
use kthena_router::scheduling::request::RequestFacts;
use kthena_router_downstream::Budget;
use kthena_router_upstream::{Client, Upstream};
use prometheus_client::metrics::histogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustls::ServerConfig;

use crate::edge::attempts::EngineIds;
use crate::edge::backends::{Backend, To};
use crate::edge::errors::{NoEndpoint, ProxyError};
use crate::edge::ext_proc::Channels;
use crate::edge::limits::{MirrorRoom, PortPlaces, SharedLimits};
use crate::edge::lookups::{Lookups, SharedCache};
use crate::edge::tls::TlsReader;
use crate::nursery::{Child, Tended};
use crate::ops::access_logger::AccessLog;
use crate::ops::metrics::{ActorLabel, BindLabel, Metrics};
use crate::ops::requests::access_log::LogBuffer;
use crate::ops::requests::decisions::Recent;
use crate::ops::requests::observer::Observer;
use crate::pools::lease::Lease;
use crate::pools::published::{Pool, Reader, Stopping};
use crate::pools::scheduler::{Among, PickEndpoint, Scheduler};

/// What all listeners serve with.
pub struct Serving {
    /// The router's options.
    pub config: Config,
    /// Worker threads for all listeners.
    pub workers: usize,
    /// The bytes that requests may hold.
    pub budget: Budget,
    /// Whether the router is stopping.
    pub stopping: Stopping,
    /// The routes and pools.
    pub reader: Reader,
    /// How engines are reached.
    pub upstream: Upstream,
    /// Which engine has which response.
    pub holders: Arc<ResponseHolders>,
    /// The certificate of the inference port.
    pub server_tls: Option<Arc<ServerConfig>>,
    /// The certificates of listeners.
    pub tls: TlsReader,
    /// Where access log lines go; `None` when there is no access log.
    pub access_log: Option<AccessLog>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// One bind, as its workers share it.
pub struct Door {
    /// The bind that requests come in on.
    pub bind: Bind,
    /// What is served with.
    pub serving: Arc<Serving>,
    /// The requests that it may have in flight.
    pub(super) places: Arc<PortPlaces>,
}

/// What the requests of one worker thread of one bind share.
pub struct Worker {
    /// The bind.
    pub(super) door: Arc<Door>,
    /// Connections to engines.
    pub(super) client: Client,
    /// Who learns of the end of requests.
    pub(super) observer: Rc<Observer>,
    /// The room for copies of requests that are under way.
    pub(super) mirrors: MirrorRoom,
    /// Connections to endpoint pickers.
    pub(super) pickers: Channels,
    /// The ids of prefill engines.
    pub(super) engine_ids: EngineIds,
    /// Lookups of prompts in Redis, where the scheduler wants them.
    pub(super) shared_cache: Option<SharedCache>,
    /// Ways to the Redis servers in which replicas count together.
    pub(super) shared_limits: SharedLimits,
    /// The turns of requests that look for a response.
    pub(super) lookups: Lookups,
    /// When the worker started, in seconds since the epoch.
    pub(super) started: i64,
    scheduler: RefCell<Child<Scheduler>>,
    asks: Histogram,
    rng: RefCell<SmallRng>,
}

impl Door {
    /// Makes a door with nobody inside.
    pub fn new(bind: Bind, serving: Arc<Serving>) -> Arc<Self> {
        let label = BindLabel { bind: bind.to_string() };
        let shown = serving.metrics.listener_in_flight.get_or_create_owned(&label);
        let places = PortPlaces::new(serving.config.limits.max_inflight, shown);
        Arc::new(Self { bind, serving, places })
    }
}

impl Worker {
    /// Makes the worker of the current thread.
    pub(crate) fn new(door: Arc<Door>, recent: Rc<Recent>) -> Rc<Self> {
        let serving = &door.serving;
        let engines = &serving.config.engines;
        let asks = serving.metrics.actors.ask_seconds.get_or_create_owned(&ActorLabel { actor: Scheduler::NAME });
        let (metrics, format) = (&serving.metrics, serving.config.access_log.access_log_format);
        let log = serving.access_log.clone().map(|log| LogBuffer::start(log, format, Arc::clone(metrics)));
        let observer = Observer::start(Arc::clone(metrics), log, recent, serving.reader.clone());
        let scheduled = Arc::clone(metrics);
        let start = move || Scheduler::new(&scheduled).start();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Rc::new(Self {
            client: serving.upstream.client(),
            mirrors: MirrorRoom::default(),
            observer,
            pickers: Channels::new(engines.connect_timeout, engines.endpoint_picker_timeout),
            engine_ids: EngineIds::default(),
            shared_limits: SharedLimits::new(serving.config.redis.clone(), Arc::clone(metrics)),
            lookups: Lookups::new(Arc::clone(&serving.holders)),
            shared_cache: SharedCache::new(&serving.config.redis, &serving.upstream, Arc::clone(metrics)).ok(),
            started: i64::try_from(since_epoch.as_secs()).unwrap_or_default(),
            scheduler: RefCell::new(Child::start(Scheduler::NAME, start)),
            asks,
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            door,
        })
    }

    /// Returns what clients are allowed.
    pub(crate) fn limits(&self) -> &LimitConfig {
        &self.door.serving.config.limits
    }

    /// Returns a backend as what requests are sent to.
    pub(super) fn to<'t>(&'t self, backend: &'t Backend) -> To<'t> {
        To { client: &self.client, backend, threads: self.door.serving.workers }
    }

    /// Returns whether the router is stopping, so that clients should connect elsewhere.
    pub(super) fn is_stopping(&self) -> bool {
        self.door.serving.stopping.is_announced()
    }

    /// Returns a random number below `bound`, which must not be 0.
    pub(super) fn draw(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..bound)
    }

    /// Asks the thread's scheduler for an endpoint of a pool, or two; one that died is replaced and asked again. `facts` are
    /// what the request tells of itself; `alone`, one endpoint is to do all of it.
    /// Where there is a `record`, the pick is written down in it.
    pub(super) async fn pick(
        &self,
        (pool, picker): (&Arc<Pool>, &Arc<Picker>),
        facts: Option<&Arc<RequestFacts>>,
        (among, alone): (Among, bool),
        record: &mut Option<Box<PickRecord>>,
    ) -> Result<Result<Legs<Lease>, PickError>, ProxyError> {
        let ask = |record| PickEndpoint {
            pool: Arc::clone(pool),
            picker: Arc::clone(picker),
            facts: facts.cloned(),
            among: among.clone(),
            alone,
            record,
        };
        let started = Instant::now();
        let asked = self.scheduler.borrow().address().send(ask(record.take()));
        let answer = match asked.await {
            Err(MailboxError::Closed) => self.fresh_scheduler().send(ask(None)).await,
            answer => answer,
        };
        self.asks.observe(started.elapsed().as_secs_f64());
        let (legs, written) = answer.map_err(|_| NoEndpoint::Scheduler)?;
        *record = written;
        Ok(legs)
    }

    /// Returns a random number that nobody else has.
    pub(super) fn draw_id(&self) -> u128 {
        self.rng.borrow_mut().random()
    }

    fn fresh_scheduler(&self) -> Addr<Scheduler> {
        let mut scheduler = self.scheduler.borrow_mut();
        scheduler.look(&self.door.bind, &self.door.serving.metrics);
        scheduler.address().clone()
    }
}

#[cfg(test)]
mod tests;
