//! The metrics of requests, by handles that are looked up once for each kind of request.
//!
//! Finding a metric by its eight labels costs more than routing the request; a worker therefore remembers the handles
//! by a few integers, for as long as the snapshot that these point into lives.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use kthena_router::inference::api::Api;
use kthena_router::routing::decision::Matched;
use kthena_router::routing::models::entry::RouteEntry;
use kthena_router::routing::pool::PoolIndex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::facts::End;
use super::names::{Names, Subject};
use crate::metrics::{
    AttemptLabels, DurationLabels, Metrics, ModelLabel, RequestLabels, SeriesLabels, TokenLabels, UpstreamLabels,
};
use crate::published::{Reader, Snapshot};

/// How often handles of former snapshots are let go: as long as they are kept, their series are in use.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The handles that were used before.
pub(super) struct SeriesCache {
    metrics: Arc<Metrics>,
    known: RefCell<Known>,
    unrouted: Rc<Series>,
}

/// A subject's identity within its snapshot: where its parts lie in memory, which is quicker to compare than they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    model: usize,
    route: usize,
    pool: Option<PoolIndex>,
}

/// The handles of one kind of request.
pub(super) struct Series {
    /// Requests in flight that ask for the model.
    downstream: Gauge,
    /// Requests in flight at the backend.
    upstream: Gauge,
    /// Attempts that were answered, the one outcome that is frequent; `None` without a pool.
    answered: Option<Counter>,
    /// The names that logs and metrics give the request's parts.
    pub names: Names,
    outcomes: RefCell<HashMap<Ending, Rc<Outcome>>>,
    /// While it is there, the series are in use.
    users: Arc<()>,
}

/// The API, the status and the reason of a request that has ended.
type Ending = (Option<Api>, u16, &'static str);

/// The handles of one way in which requests end.
pub(super) struct Outcome {
    pub requests: Counter,
    pub seconds: Histogram,
    pub input_tokens: Counter,
    pub output_tokens: Counter,
}

#[derive(Default)]
struct Known {
    generation: u64,
    series: HashMap<Identity, Rc<Series>>,
}

impl SeriesCache {
    /// Makes a cache that knows nothing, and that forgets what is not of the snapshot of the moment.
    pub(super) fn start(metrics: Arc<Metrics>, reader: Reader) -> Rc<Self> {
        let unrouted = Rc::new(Series::new(&metrics, &Snapshot::default(), Subject::default()));
        let cache = Rc::new(Self { metrics, known: RefCell::default(), unrouted });
        let weak = Rc::downgrade(&cache);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                ticks.tick().await;
                let Some(cache) = weak.upgrade() else { return };
                if cache.known.borrow().generation != reader.glance().generation {
                    cache.known.take();
                }
            }
        });
        cache
    }

    /// Returns the handles of requests that no route was found for.
    pub(super) fn unrouted(&self) -> Rc<Series> {
        let series = Rc::clone(&self.unrouted);
        series.enter();
        series
    }

    /// Returns the handles of a kind of request.
    pub(super) fn of(&self, snapshot: &Snapshot, subject: Subject<'_>) -> Rc<Series> {
        let mut known = self.known.borrow_mut();
        if known.generation > snapshot.generation {
            // A request of a former snapshot: what it needs is not needed again.
            return Rc::new(Series::new(&self.metrics, snapshot, subject));
        }
        if known.generation != snapshot.generation {
            *known = Known { generation: snapshot.generation, series: HashMap::new() };
        }
        let make = || Rc::new(Series::new(&self.metrics, snapshot, subject));
        Rc::clone(known.series.entry(subject.identity()).or_insert_with(make))
    }
}

impl Subject<'_> {
    fn identity(&self) -> Identity {
        Identity {
            model: self.model.map_or(0, |model| Arc::as_ptr(model).addr()),
            route: self.route.as_ref().map_or(0, address),
            pool: self.pool,
        }
    }
}

/// Returns where the route lies in memory.
fn address(route: &Matched<'_>) -> usize {
    match route {
        Matched::Model(entry) => std::ptr::from_ref::<RouteEntry>(entry).addr(),
        Matched::Http(matched) => std::ptr::from_ref(matched.entry).addr(),
    }
}

impl Series {
    fn new(metrics: &Metrics, snapshot: &Snapshot, subject: Subject<'_>) -> Self {
        let names = Names::of(snapshot, subject);
        let backend = names.backend.clone();
        let upstream = UpstreamLabels { model_server: backend.backend_name.clone(), backend: backend.clone() };
        let answered = names.pool.clone().map(|pool| AttemptLabels { pool, outcome: "answered" });
        let users = Arc::default();
        metrics.ledger.enter(SeriesLabels::Active { model: names.model.clone(), backend }, &users);
        Self {
            answered: answered.map(|labels| metrics.attempts.get_or_create_owned(&labels)),
            downstream: metrics.active_downstream.get_or_create_owned(&ModelLabel { model: names.model.clone() }),
            upstream: metrics.active_upstream.get_or_create_owned(&upstream),
            names,
            outcomes: RefCell::default(),
            users,
        }
    }

    /// Counts a request in.
    pub(super) fn enter(&self) {
        self.downstream.inc();
        if self.names.pool.is_some() {
            self.upstream.inc();
        }
    }

    /// Counts a request out.
    pub(super) fn leave(&self) {
        self.downstream.dec();
        if self.names.pool.is_some() {
            self.upstream.dec();
        }
    }

    /// Counts an attempt, by how it ended.
    pub(super) fn note_attempt(&self, metrics: &Metrics, outcome: &'static str) {
        match (&self.answered, &self.names.pool) {
            (Some(answered), _) if outcome == "answered" => {
                answered.inc();
            }
            (_, Some(pool)) => {
                let labels = AttemptLabels { pool: pool.clone(), outcome };
                metrics.attempts.get_or_create(&labels).inc();
            }
            (_, None) => {}
        }
    }

    /// Returns the handles for requests that end in this way.
    pub(super) fn outcome(&self, metrics: &Metrics, api: Option<Api>, end: End) -> Rc<Outcome> {
        let End { status, reason, .. } = end;
        let mut outcomes = self.outcomes.borrow_mut();
        let key = (api, status, reason);
        Rc::clone(outcomes.entry(key).or_insert_with(|| {
            let labels = self.names.request(api, status, reason);
            metrics.ledger.enter(SeriesLabels::Ended(labels.clone()), &self.users);
            Rc::new(Outcome::new(metrics, labels))
        }))
    }
}

impl Outcome {
    fn new(metrics: &Metrics, labels: RequestLabels) -> Self {
        let requests = metrics.requests.get_or_create_owned(&labels);
        let RequestLabels { model, path, status_code, backend, .. } = labels;
        let tokens = |token_type| TokenLabels { model: model.clone(), path, token_type, backend: backend.clone() };
        let input_tokens = metrics.tokens.get_or_create_owned(&tokens("input"));
        let output_tokens = metrics.tokens.get_or_create_owned(&tokens("output"));
        let duration = DurationLabels { model, path, status_code, backend };
        Self { requests, seconds: metrics.request_seconds.get_or_create_owned(&duration), input_tokens, output_tokens }
    }
}
