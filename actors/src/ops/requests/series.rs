//! The metrics of requests, by handles that are looked up once for each kind of request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use kthena_router::inference::api::Api;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::facts::End;
use super::names::{Names, Subject};
use crate::ops::metrics::{
    AttemptLabels, DurationLabels, Metrics, ModelLabel, RequestLabels, SeriesLabels, TokenLabels, UpstreamLabels,
};
use crate::pools::published::Snapshot;

/// The handles of one kind of request.
pub(crate) struct Series {
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
pub(crate) struct Outcome {
    pub requests: Counter,
    pub seconds: Histogram,
    pub input_tokens: Counter,
    pub output_tokens: Counter,
}

impl Series {
    /// Finds the handles.
    pub(crate) fn new(metrics: &Metrics, snapshot: &Snapshot, subject: Subject<'_>) -> Self {
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
    pub(crate) fn enter(&self) {
        self.downstream.inc();
        if self.names.pool.is_some() {
            self.upstream.inc();
        }
    }

    /// Counts a request out.
    pub(crate) fn leave(&self) {
        self.downstream.dec();
        if self.names.pool.is_some() {
            self.upstream.dec();
        }
    }

    /// Counts an attempt, by how it ended.
    pub(crate) fn note_attempt(&self, metrics: &Metrics, outcome: &'static str) {
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
    pub(crate) fn outcome(&self, metrics: &Metrics, api: Option<Api>, end: End) -> Rc<Outcome> {
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
