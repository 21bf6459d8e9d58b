//! One request from its head to its end: what is said of it, and what it gives back.
//!
//! Both happen when the exchange and what it holds are dropped, however the request ends.

mod held;

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use kthena_router::flow::identity::FlowId;
use kthena_router::inference::api::Api;
use kthena_router::object::Bind;
use kthena_router::rate_limit::Work;
use kthena_router::routing::table::ListenerTable;

pub(super) use held::Held;

use crate::edge::errors::ProxyError;
use crate::edge::limits::Reservation;
use crate::ops::metrics::{GoInFlight, LegLabels, Text};
use crate::ops::requests::decisions::DecisionRecord;
use crate::ops::requests::facts::{End, Facts};
use crate::ops::requests::names::Subject;
use crate::ops::requests::observer::Observer;
use crate::ops::requests::series::Series;
use crate::pools::published::{Pool, Snapshot};
use crate::pools::turnstile::Turn;

/// The status logged when the client disconnects before the answer ends.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// One request; it reads as the facts that are known of it.
pub(super) struct Exchange {
    observer: Rc<Observer>,
    series: Rc<Series>,
    /// In a box, because the exchange is handed on from stage to stage.
    facts: Box<Facts>,
    end: End,
    /// How it was decided on, until that is told; `None` for some of a busy thread's.
    decision: Option<Box<DecisionRecord>>,
    /// The tokens that it has taken of a limit.
    pub(super) reservation: Option<Box<Reservation>>,
    /// Its turn at the pool, if the pool's room has a bound.
    pub(super) turn: Option<Box<(Turn, Option<GoInFlight>)>>,
    /// The session whose next request goes first if this one has an answer.
    pub(super) session: Option<(Arc<Pool>, FlowId)>,
    /// Since when it waits for its pool to have room.
    waits_since: Option<Instant>,
}

impl Exchange {
    /// Begins a request; until it says otherwise it ends because its client left.
    pub(super) fn begin(observer: &Rc<Observer>, facts: Box<Facts>) -> Self {
        observer.metrics.active_requests.inc();
        let end = End { status: CLIENT_CLOSED_REQUEST, reason: "client_closed", error: None };
        let series = observer.unrouted();
        series.enter();
        Self {
            observer: Rc::clone(observer),
            series,
            facts,
            end,
            decision: None,
            reservation: None,
            turn: None,
            session: None,
            waits_since: None,
        }
    }

    /// Notes that it is being decided on, with the routes of this generation.
    pub(super) fn decides(&mut self, bind: Bind, generation: u64, by_model: bool) {
        self.decision = self.observer.recent.blank(bind, generation, self.facts.started);
        if let Some(decision) = &mut self.decision {
            decision.by_model = by_model;
        }
    }

    /// Returns how it is decided on, to be added to.
    pub(super) fn decision(&mut self) -> Option<&mut DecisionRecord> {
        self.decision.as_deref_mut()
    }

    /// Tells how it was decided on: nothing is added to that any more.
    pub(super) fn tell_decision(&mut self, status: u16, reason: &'static str) {
        if let Some(mut decision) = self.decision.take() {
            decision.complete(&self.facts, &self.series.names, End { status, reason, error: None });
            self.observer.recent.keep(decision);
        }
    }

    /// Returns the requested model, as metrics call it.
    pub(super) fn model_label(&self) -> Text {
        self.series.names.model.clone()
    }

    /// Notes the listener that took the request.
    pub(super) fn set_gateway(&mut self, listener: &ListenerTable) {
        self.facts.gateway.clone_from(&listener.identity.gateway);
    }

    /// Notes what the request is about, as far as it is known.
    pub(super) fn attribute_to(&mut self, snapshot: &Snapshot, subject: Subject<'_>) {
        let series = self.observer.series(snapshot, subject);
        series.enter();
        std::mem::replace(&mut self.series, series).leave();
    }

    /// Notes that it begins to wait for its pool to have room, until it is told or the client leaves.
    pub(super) fn begin_waiting(&mut self) {
        self.waits_since = Some(Instant::now());
    }

    /// Notes that it waits no more.
    pub(super) fn end_waiting(&mut self) {
        if let Some(since) = self.waits_since.take() {
            self.facts.waited = Some(since.elapsed());
        }
    }

    /// Notes that endpoints are reserved since `now`, so that the request's turn counts no more.
    pub(super) fn note_picked(&mut self, now: Instant) {
        self.facts.marks.sent.get_or_insert(now);
        if let Some((turn, _)) = self.turn.as_deref_mut() {
            turn.note_reserved();
        }
    }

    /// Counts an attempt, by how it ended.
    pub(super) fn note_attempt(&mut self, outcome: &'static str) {
        if let Some(decision) = &mut self.decision {
            decision.note_outcome(outcome);
        }
        self.series.note_attempt(&self.observer.metrics, outcome);
    }

    /// Notes that a prefill which was sent `began` has ended with this status, 0 without an answer.
    pub(super) fn note_prefill(&self, began: Instant, status: u16) {
        let seconds = &self.observer.metrics.disaggregation.prefill_seconds;
        seconds.get_or_create(&self.leg(status)).observe(began.elapsed().as_secs_f64());
    }

    fn leg(&self, status_code: u16) -> LegLabels {
        LegLabels {
            model: self.series.names.model.clone(),
            path: self.facts.api.map_or("other", Api::label),
            status_code,
        }
    }

    /// Notes that the router answers with an error.
    pub(super) fn fails(&mut self, error: &ProxyError) {
        self.end = End { status: error.status().as_u16(), reason: error.reason(), error: Some(error.reason()) };
        self.facts.error_text = Some(error.to_string());
    }

    /// Notes that the answer was passed on whole.
    pub(super) fn completes(&mut self, status: u16) {
        let failed = status >= 400;
        let reason = if failed { "request_failed" } else { "successful_request" };
        self.end = End { status, reason, error: failed.then_some("upstream_response") };
    }

    /// Counts a piece of the answer that is passed on.
    pub(super) fn pass(&mut self, piece: &[u8]) {
        self.facts.bytes += piece.len() as u64;
        if let Some(reservation) = &mut self.reservation {
            reservation.pass(piece);
        }
    }

    /// Notes that the answer broke off, why in a word, and how.
    pub(super) fn breaks_off(&mut self, status: u16, why: &'static str, how: String) {
        self.end = End { status, reason: why, error: Some(why) };
        self.facts.error_text = Some(how);
    }
}

impl Deref for Exchange {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl DerefMut for Exchange {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end_waiting();
        self.tell_decision(self.end.status, self.end.reason);
        let now = Instant::now();
        let (facts, metrics) = (&self.facts, &self.observer.metrics);
        metrics.active_requests.dec();
        let outcome = self.series.outcome(metrics, facts.api, self.end);
        outcome.requests.inc();
        outcome.seconds.observe((now - facts.started).as_secs_f64());
        if let Some(usage) = facts.usage {
            outcome.input_tokens.inc_by(usage.prompt_tokens);
            outcome.output_tokens.inc_by(usage.completion_tokens);
        }
        if let Some(decoding) = facts.marks.decoding {
            let seconds = &metrics.disaggregation.decode_seconds;
            seconds.get_or_create(&self.leg(self.end.status)).observe((now - decoding).as_secs_f64());
        }
        if let Some(overhead) = facts.overhead() {
            metrics.overhead_seconds.observe(overhead);
        }
        if let Some(log) = &self.observer.log {
            log.append(facts, self.end, &self.series.names, now);
        }
        self.series.leave();
        if let (Some(turn), Some(usage)) = (self.turn.take(), facts.usage) {
            turn.0.settle(usage.prompt_tokens, usage.completion_tokens);
        }
        if let Some((pool, session)) = self.session.take().filter(|_| self.end.status < 400 && self.end.error.is_none())
        {
            pool.turnstile.note_answered(session);
        }
        if let Some(reservation) = self.reservation.take() {
            let whole = self.end.status < 400 && self.end.error.is_none();
            // What the router has given up itself was no work of an engine.
            let sent = self.facts.marks.sent.is_some() && self.end.error.is_none();
            let Facts { upstream_status: answered, usage, .. } = *self.facts;
            reservation.settle(Work { sent, answered, whole, usage, events: 0 });
        }
    }
}
