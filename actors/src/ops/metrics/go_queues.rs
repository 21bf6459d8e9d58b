//! The metrics of the Go router's queues, under its names: one of the two is in use, or none.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Families, HistogramFamily, Text};

/// The Go router's buckets of the time in a queue, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What the Go router's label of users says, who are not told apart.
const ALL_USERS: &str = "_all";

/// The Go router's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoQueue {
    /// Fair between users.
    Fairness,
    /// Quick for sessions whose prompts are likely to be cached.
    SessionBoost,
}

/// The metrics of both.
#[derive(Debug)]
pub(super) struct GoQueueMetrics {
    fairness: Queue,
    session_boost: Queue,
}

#[derive(Debug)]
struct Queue {
    size: Family<QueueLabels, Gauge>,
    seconds: HistogramFamily<QueueLabels>,
    cancelled: Family<QueueLabels, Counter>,
    dequeued: Family<QueueLabels, Counter>,
    in_flight: Family<QueueLabels, Gauge>,
}

/// A request in one of them, counted until this is dropped.
pub struct GoQueued<'m> {
    queue: &'m Queue,
    labels: QueueLabels,
    began: Instant,
    passed: bool,
}

/// A request that has left one of them and is in flight, counted until this is dropped.
pub struct GoInFlight(Gauge);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    model: Text,
    user_id: Option<&'static str>,
}

impl GoQueueMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            fairness: Queue::new(families, "fairness_queue"),
            session_boost: Queue::new(families, "session_boost_queue"),
        }
    }

    /// Counts a request for a model that begins to wait.
    pub(super) fn enter(&self, queue: GoQueue, model: Text) -> GoQueued<'_> {
        let (queue, user_id) = match queue {
            GoQueue::Fairness => (&self.fairness, Some(ALL_USERS)),
            GoQueue::SessionBoost => (&self.session_boost, None),
        };
        let labels = QueueLabels { model, user_id };
        queue.size.get_or_create(&labels).inc();
        GoQueued { queue, labels, began: Instant::now(), passed: false }
    }

    /// Removes the series of a model that is gone.
    pub(super) fn forget(&self, model: &Text) {
        self.fairness.forget(&QueueLabels { model: model.clone(), user_id: Some(ALL_USERS) });
        self.session_boost.forget(&QueueLabels { model: model.clone(), user_id: None });
    }
}

impl Queue {
    fn new(families: &mut Families, name: &str) -> Self {
        let named = |what: &str| format!("{name}_{what}");
        Self {
            size: families.add(&named("size"), "Requests that wait, by model", Family::default()),
            seconds: families.histograms(&named("duration_seconds"), "Time that requests have waited", &BUCKETS),
            cancelled: families.add(&named("cancelled"), "Requests that have waited for nothing", Family::default()),
            dequeued: families.add(
                &named("dequeue"),
                "Requests that have waited and got their turn",
                Family::default(),
            ),
            in_flight: families.add(&named("inflight"), "Requests in flight that have waited", Family::default()),
        }
    }

    fn forget(&self, labels: &QueueLabels) {
        self.size.remove(labels);
        self.seconds.remove(labels);
        self.cancelled.remove(labels);
        self.dequeued.remove(labels);
        self.in_flight.remove(&labels.of_all());
    }
}

impl QueueLabels {
    /// Returns the labels of what is counted for a model alone.
    fn of_all(&self) -> Self {
        Self { user_id: None, ..self.clone() }
    }
}

impl GoQueued<'_> {
    /// Notes that the request got its turn.
    pub fn pass(mut self) -> GoInFlight {
        self.passed = true;
        let in_flight = self.queue.in_flight.get_or_create_owned(&self.labels.of_all());
        in_flight.inc();
        GoInFlight(in_flight)
    }
}

impl Drop for GoQueued<'_> {
    fn drop(&mut self) {
        let Self { queue, labels, began, passed } = self;
        queue.size.get_or_create(labels).dec();
        queue.seconds.get_or_create(labels).observe(began.elapsed().as_secs_f64());
        let ended = if *passed { &queue.dequeued } else { &queue.cancelled };
        ended.get_or_create(labels).inc();
    }
}

impl Drop for GoInFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
