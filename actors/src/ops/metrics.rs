//! Every metric of the router: families, names, labels and buckets, registered once.
//!
//! Names begin with `kthena_router_`; those of requests are the Go router's, so that its dashboards keep working.
//! Labels have bounded values: names of objects that exist, constants of the program, never text of a request. The series
//! of an object go with it: those of routes and their models by the [`Ledger`], those of a pool when its keeper has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use kthena_router::inference::health::Cause;
use kthena_router::object::PoolKey;

pub use age::Age;
pub use disaggregation::{DisaggregationMetrics, LegLabels};
pub use edge::EdgeMetrics;
pub use format::Format;
pub use go_queues::{GoInFlight, GoQueue, GoQueued};
pub use kv_events::KvEventMetrics;
pub use labels::*;
pub use ledger::{Books, Existing, Ledger, SeriesLabels, Used};
pub use plans::PlanMetrics;
pub use queue::{QueueBand, QueueMetrics, Queued};
pub use rate_limits::RateLimitMetrics;

mod age;
mod disaggregation;
mod edge;
mod format;
mod go_queues;
mod kv_events;
mod labels;
mod ledger;
mod plans;
mod process;
mod queue;
mod rate_limits;

/// The buckets of request durations, in seconds: the Go router's, and further ones for long answers.
const REQUEST_BUCKETS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// The buckets of a scheduler plugin's work, in seconds.
const PLUGIN_BUCKETS: [f64; 8] = [0.000_000_1, 0.000_000_5, 0.000_001, 0.000_005, 0.000_01, 0.000_1, 0.001, 0.01];
/// How attempts end.
const ATTEMPT_OUTCOMES: [&str; 9] = [
    "answered",
    "refused",
    "handshake",
    "broken",
    "malformed",
    "timeout",
    "connect_timeout",
    "first_token_timeout",
    "unavailable",
];
/// How attempts end because a prompt was not computed.
const PREFILL_OUTCOMES: [&str; 7] = [
    "prefill_refused",
    "prefill_handshake",
    "prefill_broken",
    "prefill_malformed",
    "prefill_handover",
    "prefill_timeout",
    "prefill_unavailable",
];
/// How scrapes end.
const SCRAPE_OUTCOMES: [&str; 5] = ["ok", "connect", "answer", "status", "page"];
/// What comes of asking an endpoint picker, and of telling it of an answer.
const PICKER_OUTCOMES: [&str; 10] = [
    "picked",
    "answered",
    "noted",
    "no_picker",
    "unreachable",
    "timeout",
    "broken",
    "nonsense",
    "no_endpoint",
    "outside_pool",
];
/// What a label says that has no value.
pub const NONE: &str = "none";
/// The states of endpoints.
const ENDPOINT_STATES: [&str; 2] = ["ready", "ejected"];
/// The buckets of what the router itself takes, in seconds.
const OVERHEAD_BUCKETS: [f64; 12] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0];

/// A histogram family whose buckets are known.
pub type HistogramFamily<L> = Family<L, Histogram, Buckets>;

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The metrics of the process, which have no prefix.
    process: Registry,
    /// The series of routes.
    pub ledger: Ledger,
    /// What concerns the API server.
    pub cluster: ClusterMetrics,
    /// Requests, by what became of them.
    pub requests: Family<RequestLabels, Counter>,
    /// Seconds from a request's head to the end of its answer.
    pub request_seconds: HistogramFamily<DurationLabels>,
    /// Tokens of prompts and answers.
    pub tokens: Family<TokenLabels, Counter>,
    /// Requests in flight, everywhere.
    pub active_requests: Gauge,
    /// Requests in flight by the model they ask for.
    pub active_downstream: Family<ModelLabel, Gauge>,
    /// Requests in flight at engines.
    pub active_upstream: Family<UpstreamLabels, Gauge>,
    /// Seconds that the router adds to a request: all but reading its body and waiting for the engine.
    pub overhead_seconds: Histogram,
    /// Attempts to have a request answered by an engine.
    pub attempts: Family<AttemptLabels, Counter>,
    /// Requests in flight by the port they came in on.
    pub listener_in_flight: Family<BindLabel, Gauge>,
    /// Whether a port is open.
    pub listener_open: Family<BindLabel, Gauge>,
    /// Endpoints by their state.
    pub endpoints: Family<EndpointLabels, Gauge>,
    /// Ejections of endpoints.
    pub ejections: Family<EjectionLabels, Counter>,
    /// Scrapes of engines' metrics.
    pub scrapes: Family<ScrapeLabels, Counter>,
    /// The metrics of the edge that faces clients.
    pub edge: EdgeMetrics,
    /// Seconds that a plugin of the scheduler takes for one pick.
    pub plugin_seconds: HistogramFamily<PluginLabels>,
    /// The metrics of KV events.
    pub kv_events: KvEventMetrics,
    /// The metrics of requests that two engines work on.
    pub disaggregation: DisaggregationMetrics,
    /// The metrics of endpoint pickers.
    pub pickers: PickerMetrics,
    /// The metrics of token limits.
    pub rate_limits: RateLimitMetrics,
    /// The metrics of requests that wait for their pool.
    pub queue: QueueMetrics,
    /// The metrics of what plans are made of.
    pub plans: PlanMetrics,
    /// Access log lines that were lost because their output could not keep up or failed.
    pub access_log_dropped: Counter,
    /// Lines of the router's own log that were lost because standard error could not keep up.
    pub log_dropped: Counter,
    /// The metrics of the actors.
    pub actors: ActorMetrics,
}

/// The metrics of what the API server says and is told.
#[derive(Debug)]
pub struct ClusterMetrics {
    /// The time since the last fact about objects of a kind.
    pub last_fact_ages: Family<KindLabel, Age>,
    /// The time since the API server last said something on a watch.
    pub watch_ages: Family<WatchLabels, Age>,
    /// Writes to the API server.
    pub api_writes: Family<WriteLabels, Counter>,
    /// Whether this replica holds the lease, and so writes to the API server.
    pub leading: Gauge,
}

/// The metrics of endpoint pickers.
#[derive(Debug)]
pub struct PickerMetrics {
    /// Requests that a picker was asked about, by what came of it.
    pub requests: Family<PickerLabels, Counter>,
    /// Seconds from asking a picker to its decision, or to giving up on it.
    pub seconds: HistogramFamily<PoolLabel>,
    /// Answers of which a picker was told, by whether it took note.
    pub reports: Family<PickerLabels, Counter>,
}

/// The metrics of the actors.
#[derive(Debug)]
pub struct ActorMetrics {
    /// Actors alive.
    pub running: Family<ActorLabel, Gauge>,
    /// Messages handled.
    pub messages: Family<MessageLabels, Counter>,
    /// Seconds to handle a message.
    pub message_seconds: HistogramFamily<MessageLabels>,
    /// Seconds from asking an actor to having its answer.
    pub ask_seconds: HistogramFamily<ActorLabel>,
    /// Actors that took the place of a dead one.
    pub restarts: Family<RestartLabels, Counter>,
    /// Panics in actors.
    pub panics: Family<MessageLabels, Counter>,
}

/// Makes histograms with fixed buckets.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl Metrics {
    /// Registers every family.
    pub fn new() -> Arc<Self> {
        let mut families = Families(Registry::with_prefix("kthena_router"));
        let build: Family<BuildLabels, Gauge> = families.add("build_info", "1, with the version", Family::default());
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        let requests = families.add("requests", "Requests by what became of them", Family::default());
        let metrics = Self {
            requests,
            request_seconds: families.histograms("request_duration_seconds", "Duration of requests", &REQUEST_BUCKETS),
            tokens: families.add("tokens", "Tokens of prompts (input) and answers (output)", Family::default()),
            active_requests: families.add("active_requests", "Requests in flight", Gauge::default()),
            active_downstream: families.add(
                "active_downstream_requests",
                "Requests in flight by the model they ask for",
                Family::default(),
            ),
            active_upstream: families.add(
                "active_upstream_requests",
                "Requests in flight at engines",
                Family::default(),
            ),
            overhead_seconds: families.add(
                "overhead_seconds",
                "What the router adds to a request: all but reading its body and waiting for the engine",
                Histogram::new(OVERHEAD_BUCKETS),
            ),
            attempts: families.add("upstream_attempts", "Attempts to have a request answered", Family::default()),
            listener_in_flight: families.add(
                "listener_inflight_requests",
                "Requests in flight by the port they came in on",
                Family::default(),
            ),
            listener_open: families.add("listener_open", "1 while a port is open, else 0", Family::default()),
            endpoints: families.add("endpoints", "Endpoints by state", Family::default()),
            ejections: families.add("endpoint_ejections", "Ejections of endpoints by cause", Family::default()),
            scrapes: families.add("scrapes", "Scrapes of engines' metrics by outcome", Family::default()),
            edge: EdgeMetrics::new(&mut families),
            plugin_seconds: families.histograms(
                "scheduler_plugin_duration_seconds",
                "Time that a plugin of the scheduler takes for one pick; one pick of sixteen is timed",
                &PLUGIN_BUCKETS,
            ),
            kv_events: KvEventMetrics::new(&mut families),
            disaggregation: DisaggregationMetrics::new(&mut families),
            pickers: PickerMetrics::new(&mut families),
            rate_limits: RateLimitMetrics::new(&mut families),
            queue: QueueMetrics::new(&mut families),
            plans: PlanMetrics::new(&mut families),
            access_log_dropped: families.add("access_log_dropped_lines", "Access log lines lost", Counter::default()),
            log_dropped: families.add("log_dropped_lines", "Lines of the router's own log lost", Counter::default()),
            actors: ActorMetrics::new(&mut families),
            cluster: ClusterMetrics::new(&mut families),
            process: process::registry(),
            ledger: Ledger::default(),
            registry: families.0,
        };
        Arc::new(metrics)
    }

    /// Lets the counters of a pool exist before they first count, so that their first increase is seen as one.
    pub fn introduce_pool(&self, key: &PoolKey, is_scraped: bool) {
        let pool = key.to_string();
        for cause in Cause::ALL {
            drop(self.ejections.get_or_create(&EjectionLabels { pool: pool.clone(), cause: cause.label() }));
        }
        for outcome in ATTEMPT_OUTCOMES {
            drop(self.attempts.get_or_create(&AttemptLabels { pool: Text::from(pool.as_str()), outcome }));
        }
        for outcome in SCRAPE_OUTCOMES.iter().filter(|_| is_scraped) {
            drop(self.scrapes.get_or_create(&ScrapeLabels { pool: pool.clone(), outcome }));
        }
    }

    /// Removes the series of a pool that is gone.
    pub fn forget_pool(&self, key: &PoolKey) {
        let pool = || key.to_string();
        for state in ENDPOINT_STATES {
            self.endpoints.remove(&EndpointLabels { pool: pool(), state });
        }
        for cause in Cause::ALL {
            self.ejections.remove(&EjectionLabels { pool: pool(), cause: cause.label() });
        }
        for outcome in ATTEMPT_OUTCOMES.into_iter().chain(PREFILL_OUTCOMES) {
            self.attempts.remove(&AttemptLabels { pool: Text::from(pool().as_str()), outcome });
        }
        for outcome in SCRAPE_OUTCOMES {
            self.scrapes.remove(&ScrapeLabels { pool: pool(), outcome });
        }
        self.kv_events.forget_pool(key);
        self.disaggregation.forget_pool(key);
        self.queue.forget_pool(key);
        self.pickers.seconds.remove(&PoolLabel { pool: pool() });
        for outcome in PICKER_OUTCOMES {
            self.pickers.requests.remove(&PickerLabels { pool: pool(), outcome });
            self.pickers.reports.remove(&PickerLabels { pool: pool(), outcome });
        }
    }

    /// Returns how many of each of these actors are alive.
    pub fn running(&self, actors: &[&'static str]) -> BTreeMap<&'static str, i64> {
        let running = |actor| self.actors.running.get(&ActorLabel { actor }).map_or(0, |running| running.get());
        actors.iter().map(|actor| (*actor, running(actor))).collect()
    }

    /// Writes all metrics as text, with those of the process.
    ///
    /// # Errors
    ///
    /// Returns an error when a metric cannot be written as text.
    pub fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        format::encode([&self.registry, &self.process], format)
    }
}

impl ClusterMetrics {
    fn new(families: &mut Families) -> Self {
        Self {
            last_fact_ages: families.add(
                "watcher_last_fact_age_seconds",
                "Time since the last fact about a kind of object",
                Family::default(),
            ),
            watch_ages: families.add(
                "watch_age_seconds",
                "Time since the API server last said something on a watch, be it only a bookmark",
                Family::default(),
            ),
            api_writes: families.add("api_writes", "Writes to the API server by outcome", Family::default()),
            leading: families.add("leading", "1 while this replica writes to the API server", Gauge::default()),
        }
    }
}

impl PickerMetrics {
    fn new(families: &mut Families) -> Self {
        Self {
            requests: families.add(
                "endpoint_picker_requests",
                "Requests that an endpoint picker was asked about, by what came of it",
                Family::default(),
            ),
            seconds: families.histograms(
                "endpoint_picker_duration_seconds",
                "Time from asking an endpoint picker to its decision, or to giving up on it",
                &OVERHEAD_BUCKETS,
            ),
            reports: families.add(
                "endpoint_picker_reports",
                "Answers that an endpoint picker was told of, by whether it took note",
                Family::default(),
            ),
        }
    }
}

impl ActorMetrics {
    fn new(families: &mut Families) -> Self {
        Self {
            running: families.add("actors_running", "Actors alive", Family::default()),
            messages: families.add("actor_messages", "Messages handled", Family::default()),
            message_seconds: families.histograms(
                "actor_message_seconds",
                "Time to handle a message; of frequent ones, one of sixteen is timed",
                &OVERHEAD_BUCKETS,
            ),
            ask_seconds: families.histograms(
                "actor_ask_seconds",
                "Time from asking an actor to its answer, mailbox wait included",
                &OVERHEAD_BUCKETS,
            ),
            restarts: families.add("actor_restarts", "Actors that took a dead one's place", Family::default()),
            panics: families.add("actor_panics", "Panics in actors", Family::default()),
        }
    }
}

struct Families(Registry);

impl Families {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn histograms<L>(&mut self, name: &str, help: &str, buckets: &'static [f64]) -> HistogramFamily<L>
    where
        HistogramFamily<L>: Metric,
        L: Clone + std::hash::Hash + Eq,
    {
        self.add(name, help, Family::new_with_constructor(Buckets(buckets)))
    }
}
