//! The figures that every actor of the cast shows: how many there are, what they handle and how long it takes them.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::ops::metrics::{ActorLabel, MessageLabels, Metrics, RestartLabels};

thread_local! {
    /// The actor whose handler runs on this thread; a panic hook has nothing else to tell actors apart by.
    static HANDLING: Cell<Option<(&'static str, &'static str)>> = const { Cell::new(None) };
}

/// The figures of one actor; the actor counts as running for as long as it holds them.
#[derive(Debug)]
pub struct Vitals {
    actor: &'static str,
    metrics: Arc<Metrics>,
    running: Gauge,
}

/// The figures of one type of message, resolved once for handlers that run often.
#[derive(Debug)]
pub struct MessageVitals {
    labels: MessageLabels,
    metrics: Arc<Metrics>,
    handled: Counter,
    seconds: Histogram,
    /// Messages since the last one that was timed.
    untimed: Cell<u8>,
}

/// How many frequent messages are handled for each one that is timed: a clock is read in a good part of the time that a
/// pick takes.
const TIMED_ONE_OF: u8 = 16;

/// Counts and times a message for as long as it is held; held while unwinding, it counts a panic.
#[must_use]
pub struct Handling<'v> {
    vitals: Cow<'v, MessageVitals>,
    started: Option<Instant>,
    outer: Option<(&'static str, &'static str)>,
}

/// Returns the actor and the message that are being handled on this thread.
pub fn handling_here() -> Option<(&'static str, &'static str)> {
    HANDLING.get()
}

impl Vitals {
    /// Makes the vitals of one actor called `actor`.
    pub fn new(actor: &'static str, metrics: &Arc<Metrics>) -> Self {
        let running = metrics.actors.running.get_or_create_owned(&ActorLabel { actor });
        running.inc();
        Self { actor, metrics: Arc::clone(metrics), running }
    }

    /// Returns the metrics that these vitals are part of.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the figures of one type of message.
    pub fn message(&self, message: &'static str) -> MessageVitals {
        let labels = MessageLabels { actor: self.actor, message };
        MessageVitals {
            handled: self.metrics.actors.messages.get_or_create_owned(&labels),
            seconds: self.metrics.actors.message_seconds.get_or_create_owned(&labels),
            metrics: Arc::clone(&self.metrics),
            untimed: Cell::new(0),
            labels,
        }
    }

    /// Starts to handle a message that is not frequent.
    pub fn handling(&self, message: &'static str) -> Handling<'static> {
        Handling::start(Cow::Owned(self.message(message)), true)
    }
}

impl Drop for Vitals {
    fn drop(&mut self) {
        self.running.dec();
    }
}

impl MessageVitals {
    /// Starts to handle a message that is frequent: all of them are counted, and one of sixteen is timed.
    pub fn handling(&self) -> Handling<'_> {
        let untimed = self.untimed.get();
        self.untimed.set((untimed + 1) % TIMED_ONE_OF);
        Handling::start(Cow::Borrowed(self), untimed == 0)
    }
}

impl Clone for MessageVitals {
    fn clone(&self) -> Self {
        Self {
            labels: self.labels.clone(),
            metrics: Arc::clone(&self.metrics),
            handled: self.handled.clone(),
            seconds: self.seconds.clone(),
            untimed: self.untimed.clone(),
        }
    }
}

impl<'v> Handling<'v> {
    /// Returns whether the handling is timed.
    pub fn is_timed(&self) -> bool {
        self.started.is_some()
    }

    fn start(vitals: Cow<'v, MessageVitals>, timed: bool) -> Self {
        let outer = HANDLING.replace(Some((vitals.labels.actor, vitals.labels.message)));
        Self { vitals, started: timed.then(Instant::now), outer }
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        HANDLING.set(self.outer);
        if thread::panicking() {
            self.vitals.metrics.actors.panics.get_or_create(&self.vitals.labels).inc();
        }
        self.vitals.handled.inc();
        if let Some(started) = self.started {
            self.vitals.seconds.observe(started.elapsed().as_secs_f64());
        }
    }
}

/// Counts an actor that takes the place of a dead one.
pub fn note_restart(metrics: &Metrics, actor: &'static str, cause: &'static str) {
    metrics.actors.restarts.get_or_create(&RestartLabels { actor, cause }).inc();
}
