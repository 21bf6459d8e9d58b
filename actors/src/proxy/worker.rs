//! What the requests of one worker thread share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, Addr, MailboxError};
use kthena_router::config::{Config, LimitConfig};
use kthena_router::object::Bind;
use kthena_router::scheduling::config::SchedulerConfig;
use kthena_router::scheduling::picker::{Legs, PickError};
use kthena_router_downstream::Budget;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustls::ServerConfig;

use super::access_log::LogBuffer;
use super::error::ProxyError;
use super::http_route::Copies;
use super::series::SeriesCache;
use crate::access_logger::AccessLog;
use crate::lease::Lease;
use crate::metrics::{ActorLabel, AttemptLabels, BindLabel, Metrics};
use crate::picker::Channels;
use crate::published::{Reader, Stopping};
use crate::scheduler::{PickEndpoint, Scheduler};
use crate::tls::TlsReader;
use crate::upstream::{Client, Upstream};
use crate::vitals::note_restart;

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
    /// How endpoints are rated.
    pub scheduler: SchedulerConfig,
    /// The routes and pools.
    pub reader: Reader,
    /// How engines are reached.
    pub upstream: Upstream,
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
    in_flight: AtomicUsize,
    in_flight_shown: Gauge,
}

/// What the requests of one worker thread of one bind share.
pub struct Worker {
    /// The bind.
    pub(super) door: Arc<Door>,
    /// Connections to engines.
    pub(super) client: Client,
    /// The handles of metrics that were used before.
    pub(super) series: SeriesCache,
    /// Access log lines that were not sent yet.
    pub(super) log: Option<Rc<LogBuffer>>,
    /// Copies of requests that are under way.
    pub(super) copies: Copies,
    /// Connections to endpoint pickers.
    pub(super) pickers: Channels,
    /// Attempts that were answered: the one outcome that is frequent.
    answered: Counter,
    scheduler: RefCell<Addr<Scheduler>>,
    asks: Histogram,
    rng: RefCell<SmallRng>,
}

/// One of the requests that a bind may have in flight.
pub(super) struct Admission(Arc<Door>);

impl Door {
    /// Makes a door with nobody inside.
    pub fn new(bind: Bind, serving: Arc<Serving>) -> Arc<Self> {
        let label = BindLabel { bind: bind.to_string() };
        let in_flight_shown = serving.metrics.listener_in_flight.get_or_create_owned(&label);
        Arc::new(Self { bind, serving, in_flight: AtomicUsize::new(0), in_flight_shown })
    }

    /// Lets a request in, unless too many are in flight.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, ProxyError> {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.serving.config.limits.max_inflight {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(ProxyError::Overloaded);
        }
        self.in_flight_shown.inc();
        Ok(Admission(Arc::clone(self)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.in_flight_shown.dec();
    }
}

impl Worker {
    /// Makes the worker of the current thread.
    pub fn new(door: Arc<Door>) -> Rc<Self> {
        let serving = &door.serving;
        let engines = &serving.config.engines;
        let asks = serving.metrics.actors.ask_seconds.get_or_create_owned(&ActorLabel { actor: Scheduler::NAME });
        let log = serving.access_log.clone().map(|log| LogBuffer::start(log, Arc::clone(&serving.metrics)));
        Rc::new(Self {
            client: serving.upstream.client(),
            copies: Copies::default(),
            pickers: Channels::new(engines.connect_timeout, engines.endpoint_picker_timeout),
            series: SeriesCache::new(Arc::clone(&serving.metrics)),
            log,
            answered: serving.metrics.attempts.get_or_create_owned(&AttemptLabels { outcome: "answered" }),
            scheduler: RefCell::new(Scheduler::new(&serving.scheduler, &serving.metrics).start()),
            asks,
            rng: RefCell::new(SmallRng::from_rng(&mut rand::rng())),
            door,
        })
    }

    /// Returns what clients are allowed.
    pub(crate) fn limits(&self) -> &LimitConfig {
        &self.door.serving.config.limits
    }

    /// Returns whether the router is stopping, so that clients should connect elsewhere.
    pub(crate) fn is_stopping(&self) -> bool {
        self.door.serving.stopping.is_announced()
    }

    /// Returns a random number below `bound`, which must not be 0.
    pub(super) fn draw(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..bound)
    }

    /// Counts an attempt to have a request answered.
    pub(super) fn note_attempt(&self, outcome: &'static str) {
        match outcome {
            "answered" => self.answered.inc(),
            outcome => self.door.serving.metrics.attempts.get_or_create(&AttemptLabels { outcome }).inc(),
        };
    }

    /// Asks the thread's scheduler for an endpoint; one that died is replaced and asked again.
    pub(super) async fn pick(&self, ask: impl Fn() -> PickEndpoint) -> Result<Result<Lease, PickError>, ProxyError> {
        let started = std::time::Instant::now();
        let scheduler = self.scheduler.borrow().clone();
        let answer = match scheduler.send(ask()).await {
            Err(MailboxError::Closed) => self.fresh_scheduler().send(ask()).await,
            answer => answer,
        };
        self.asks.observe(started.elapsed().as_secs_f64());
        answer.map(|legs| legs.map(|Legs::One(lease)| lease)).map_err(|_| ProxyError::SchedulerGone)
    }

    fn fresh_scheduler(&self) -> Addr<Scheduler> {
        let serving = &self.door.serving;
        let mut scheduler = self.scheduler.borrow_mut();
        if !scheduler.connected() {
            tracing::warn!(bind = %self.door.bind, "scheduler died, starting a fresh one");
            note_restart(&serving.metrics, Scheduler::NAME, "died");
            *scheduler = Scheduler::new(&serving.scheduler, &serving.metrics).start();
        }
        scheduler.clone()
    }
}

#[cfg(test)]
mod tests;
