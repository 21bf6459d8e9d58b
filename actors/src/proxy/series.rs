//! The metrics of requests, by handles that are looked up once for each kind of request.
//!
//! Finding a metric by its eight labels costs more than routing the request; a worker therefore remembers the handles
//! by a few integers, for as long as the snapshot that these point into lives.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use kthena_router::inference::api::Api;
use kthena_router::object::{Kind, ObjectKey};
use kthena_router::routing::http::entry::HttpEntry;
use kthena_router::routing::models::entry::RouteEntry;
use kthena_router::routing::pool::PoolIndex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::access_log::Written;
use crate::metrics::{
    BackendLabels, DurationLabels, Metrics, ModelLabel, RequestLabels, Text, TokenLabels, UpstreamLabels,
};
use crate::published::Snapshot;

/// What a label says that has no value.
const NONE: &str = "none";
/// What the label `model` says of names that no route knows.
const UNKNOWN: &str = "unknown";

/// The handles that were used before.
pub(super) struct SeriesCache {
    metrics: Arc<Metrics>,
    known: RefCell<Known>,
}

/// What requests of one kind have in common, as parts of one snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subject<'s> {
    /// The requested model, if a route knows it.
    pub model: Option<&'s Arc<str>>,
    /// The route that matched.
    pub route: Option<Matched<'s>>,
    /// The pool that was chosen.
    pub pool: Option<PoolIndex>,
}

/// The route that matched a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matched<'s> {
    /// A ModelRoute.
    Model(&'s RouteEntry),
    /// An HTTPRoute.
    Http(&'s HttpEntry),
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
    pub downstream: Gauge,
    /// Requests in flight at the backend.
    pub upstream: Gauge,
    /// The names that logs and metrics give the request's parts.
    pub names: Names,
    outcomes: RefCell<HashMap<Ending, Rc<Outcome>>>,
}

/// The API, the status and the reason of a request that has ended.
type Ending = (Option<Api>, u16, &'static str);

/// The names that logs and metrics give a request's parts.
#[derive(Clone)]
pub(super) struct Names {
    /// What the access log says of them.
    pub written: Written,
    /// The requested model.
    pub model: Text,
    /// Whether the route is an HTTPRoute.
    pub is_http_route: bool,
    /// Whether a backend was chosen.
    pub has_backend: bool,
    /// The route and the backend.
    pub backend: BackendLabels,
}

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
    /// Makes a cache that knows nothing.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, known: RefCell::default() }
    }

    /// Returns the handles of a kind of request.
    pub(super) fn of(&self, snapshot: &Snapshot, subject: Subject<'_>) -> Rc<Series> {
        let mut known = self.known.borrow_mut();
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
            route: self.route.map_or(0, Matched::address),
            pool: self.pool,
        }
    }
}

impl Matched<'_> {
    fn key(&self) -> &ObjectKey {
        match self {
            Self::Model(entry) => entry.key(),
            Self::Http(entry) => entry.key(),
        }
    }

    fn address(self) -> usize {
        match self {
            Self::Model(entry) => std::ptr::from_ref(entry).addr(),
            Self::Http(entry) => std::ptr::from_ref(entry).addr(),
        }
    }
}

impl Series {
    fn new(metrics: &Metrics, snapshot: &Snapshot, subject: Subject<'_>) -> Self {
        let names = Names::of(snapshot, subject);
        let backend = names.backend.clone();
        let upstream = UpstreamLabels { model_server: backend.backend_name.clone(), backend };
        Self {
            downstream: metrics.active_downstream.get_or_create_owned(&ModelLabel { model: names.model.clone() }),
            upstream: metrics.active_upstream.get_or_create_owned(&upstream),
            names,
            outcomes: RefCell::default(),
        }
    }

    /// Returns the handles for requests that end in this way.
    pub(super) fn outcome(
        &self,
        metrics: &Metrics,
        api: Option<Api>,
        status: u16,
        reason: &'static str,
    ) -> Rc<Outcome> {
        let mut outcomes = self.outcomes.borrow_mut();
        let key = (api, status, reason);
        Rc::clone(
            outcomes.entry(key).or_insert_with(|| Rc::new(Outcome::new(metrics, &self.names, api, status, reason))),
        )
    }
}

impl Names {
    fn of(snapshot: &Snapshot, subject: Subject<'_>) -> Self {
        let pool = subject.pool.and_then(|pool| snapshot.table.pools.get(pool.0));
        let served = pool.and_then(|pool| pool.policy.served_model.as_deref());
        let name = |name: Option<String>| Text::from(name.as_deref().unwrap_or(NONE));
        let mut names = Self {
            written: Written::default(),
            model: subject.model.map_or_else(|| Text::from(UNKNOWN), |model| Text(Arc::clone(model))),
            is_http_route: matches!(subject.route, Some(Matched::Http(_))),
            has_backend: pool.is_some(),
            backend: BackendLabels {
                model_route: name(subject.route.map(|route| route.key().to_string())),
                backend_type: match pool.map(|pool| pool.key.kind) {
                    Some(Kind::Service) => "service",
                    Some(_) => "model_server",
                    None => "unresolved",
                },
                backend_name: name(pool.map(|pool| pool.key.object.to_string())),
                upstream_model: Text::from(served.unwrap_or(NONE)),
            },
        };
        names.written = Written::of(&names);
        names
    }
}

impl Outcome {
    fn new(metrics: &Metrics, names: &Names, api: Option<Api>, status_code: u16, error_type: &'static str) -> Self {
        let path = api.map_or("other", Api::label);
        let Names { model, backend, .. } = names.clone();
        let requests = RequestLabels { model: model.clone(), path, status_code, error_type, backend: backend.clone() };
        let tokens = |token_type| TokenLabels { model: model.clone(), path, token_type, backend: backend.clone() };
        let input_tokens = metrics.tokens.get_or_create_owned(&tokens("input"));
        let output_tokens = metrics.tokens.get_or_create_owned(&tokens("output"));
        let duration = DurationLabels { model, path, status_code, backend };
        Self {
            requests: metrics.requests.get_or_create_owned(&requests),
            seconds: metrics.request_seconds.get_or_create_owned(&duration),
            input_tokens,
            output_tokens,
        }
    }
}
