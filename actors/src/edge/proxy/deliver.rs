//! Has a request answered by an endpoint of its backend: the one loop of attempts, and the one place that knows what a
//! failure means.
//!
//! What follows an attempt is the policy's to say (`pool::retry`). The last answer of an engine passes to the client
//! as it is, whatever was tried after it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kthena_router::inference::disaggregation::HandoverError;
use kthena_router::inference::health::Outcome as Health;
use kthena_router::pool::disaggregation::Disaggregation;
use kthena_router::pool::retry::{Next, Outcome};
use kthena_router::pool::time_limits::Limit;
use kthena_router::scheduling::picker::{Legs, PickError};
use kthena_router::scheduling::request::RequestFacts;
use kthena_router_downstream::Refusal;
use kthena_router_upstream::{AttemptError, Body, Failure, Processed, Stage};
use tokio::time::sleep;
use tracing::debug;

use super::call::Call;
use super::pick::Picked;
use super::way::{Deadline, Way};
use super::worker::Worker;
use crate::edge::answers::Answer;
use crate::edge::attempts::FirstToken;
use crate::edge::attempts::legs::{self, Leg, Tried};
use crate::edge::backends::{Backend, Outbound};
use crate::edge::bodies;
use crate::edge::errors::{AttemptFailure, NoEndpoint, ProxyError};
use crate::edge::exchange::Exchange;
use crate::ops::requests::decisions::DecisionRecord;
use crate::pools::lease::Lease;
use crate::pools::scheduler::Among;

/// The attempts to have one request answered.
struct Course<'c> {
    worker: &'c Worker,
    way: &'c Way<'c>,
    /// What the request tells of itself; `None` for one that is no inference request.
    facts: Option<Arc<RequestFacts>>,
    /// When an answer must have begun.
    deadline: Option<Deadline>,
    /// How long the first token may take.
    first_token: Option<FirstToken>,
    /// The endpoints that a picker allows, the best one first; without a picker there is no such list.
    named: Option<&'c [SocketAddr]>,
    /// The endpoints that were tried, but for the last one.
    tried: Vec<SocketAddr>,
    /// The endpoint of the last attempt: most requests have no other, and need no list.
    last: Option<SocketAddr>,
    /// Whether an endpoint may be tried again that was tried before.
    may_return: bool,
    /// Whether those of the last attempt are to be tried again before any other.
    again: bool,
    /// Whether one endpoint is to do all of the request from now on.
    alone: bool,
    /// The last answer.
    answer: Option<Answer>,
    /// How the last attempt failed that had no answer.
    failure: Option<AttemptFailure>,
}

/// How an attempt failed: for the client, for the endpoint's health if it says anything about that, and for the policy.
type Judgement = (AttemptFailure, Option<Health>, Outcome);

/// Makes attempts until none may follow, and returns the last answer.
pub(super) async fn deliver(
    call: &mut Call<'_>,
    way: &Way<'_>,
    outbound: &mut Outbound,
    picked: &Picked,
) -> Result<Answer, ProxyError> {
    let mut attempts = way.attempts(call);
    let mut course = Course::begin(call, way, picked);
    let exchange = &mut call.exchange;
    let mut body = std::mem::replace(&mut outbound.body, Body::Gone);
    while let Some(legs) = course.pick(exchange).await? {
        let began = Instant::now();
        exchange.note_picked(began);
        let (limit, to) = (course.limit(began), course.worker.to(&way.backend));
        let is_pair = matches!(legs, Legs::Two { .. });
        // A pair that is asked again computes the prompt again, which is worth a look at the connections.
        outbound.repeated = !is_pair && attempts.may_refresh();
        let tried = match legs {
            Legs::One(lease) => {
                (exchange.prefill, exchange.marks.decoding) = (None, None);
                legs::answered(outbound.send(to, &lease, Some(limit), (&mut body, lease.told())).await, lease)
            }
            // Few requests have two legs, and the others do not carry the room for them.
            Legs::Two { prefill, decode } => {
                outbound.charge_legs(way.backend.policy.disaggregation.map_or(0, Disaggregation::bodies_at_once))?;
                let pair = (prefill, decode);
                let (to, time) = ((to, &course.worker.engine_ids), (course.worker.draw_id(), limit));
                Box::pin(legs::send(to, (outbound, &body), pair, time, exchange)).await
            }
        };
        let tried = match &course.first_token {
            None => tried,
            Some(first_token) => {
                let end = course.deadline.map(|deadline| deadline.at);
                Box::pin(first_token.of_attempt(tried, began, end)).await
            }
        };
        let (failure, leg, outcome) = course.conclude(tried, exchange)?;
        outbound.fresh |= outcome == Outcome::Stale;
        let next = match leg {
            _ if !body.is_there() => Next::Stop,
            Leg::Answer if is_pair => attempts.after_decode(outcome),
            Leg::Answer => attempts.after(outcome),
            Leg::Prefill => attempts.after_prefill(outcome, course.may_go_alone()),
        };
        let pause = course.pause(next);
        exchange.note_attempt(label(failure, leg, pause.is_some()));
        match pause {
            None => break,
            Some(pause) if pause.is_zero() => {}
            Some(pause) => sleep(pause).await,
        }
    }
    drop(body);
    outbound.release();
    course.end(exchange)
}

impl<'c> Course<'c> {
    /// Begins before the first attempt.
    fn begin<'w: 'c>(call: &mut Call<'w>, way: &'c Way<'c>, picked: &'c Picked) -> Self {
        Self {
            worker: call.worker,
            way,
            facts: call.request_facts.take(),
            deadline: way.deadline(call),
            first_token: FirstToken::of(&way.limits(call.worker)),
            named: picked.endpoints(),
            tried: Vec::new(),
            last: None,
            may_return: false,
            again: false,
            alone: false,
            answer: None,
            failure: None,
        }
    }

    /// Picks endpoints, some that were not tried yet if there are any; `None` if none may be tried.
    async fn pick(&mut self, exchange: &mut Exchange) -> Result<Option<Legs<Lease>>, ProxyError> {
        if std::mem::take(&mut self.again) {
            let last = exchange.prefill.iter().chain(&exchange.endpoint).map(|endpoint| endpoint.socket()).collect();
            // They may have gone meanwhile.
            if let Ok(legs) = self.reserve(Among::Only(last), exchange).await? {
                return Ok(Some(legs));
            }
        }
        loop {
            match self.reserve(Among::Untried(self.tried.clone()), exchange).await? {
                Ok(legs) => return Ok(Some(legs)),
                Err(PickError::AllTried) if self.may_return => self.tried.clear(),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Reserves the best endpoints among those that may be tried, and notes which.
    async fn reserve(
        &self,
        among: Among,
        exchange: &mut Exchange,
    ) -> Result<Result<Legs<Lease>, PickError>, ProxyError> {
        let Backend { pool, picker, .. } = &self.way.backend;
        let mut record = exchange.decision().filter(|_| self.named.is_none()).map(DecisionRecord::pick);
        let legs = match (self.named, &among) {
            (Some(_), Among::Only(last)) => Lease::first_of(pool, last, &[]).map(Legs::One),
            (Some(named), Among::Untried(tried)) => Lease::first_of(pool, named, tried).map(Legs::One),
            (None, _) => {
                self.worker.pick((pool, picker), self.facts.as_ref(), (among, self.alone), &mut record).await?
            }
        };
        let answering = legs.as_ref().ok().map(Legs::answering).map(Lease::endpoint);
        if let Some(decision) = exchange.decision() {
            decision.add(record, answering.map(|endpoint| endpoint.socket()));
        }
        if let Some(endpoint) = answering {
            exchange.endpoint = Some(Arc::clone(endpoint));
        }
        Ok(legs)
    }

    /// Returns how long an attempt that begins `now` may take.
    fn limit(&self, now: Instant) -> Duration {
        let written = self.way.decision.steps.timeouts.backend_request.or(self.way.backend.policy.timeout);
        let rest = self.deadline.map(|deadline| deadline.at.saturating_duration_since(now));
        let always = self.worker.door.serving.config.engines.first_byte_timeout;
        written.into_iter().chain(rest).fold(always, Duration::min)
    }

    /// Takes in what came of an attempt: how it failed, if it did, whose doing it was, and what it is to the policy.
    fn conclude(
        &mut self,
        tried: Tried,
        exchange: &mut Exchange,
    ) -> Result<(Option<AttemptFailure>, Leg, Outcome), ProxyError> {
        let (lease, sends, judged, leg) = match tried {
            Tried::Answered(answer, leg) => {
                exchange.attempts += answer.upstream.sends;
                self.last = Some(answer.lease.endpoint().socket());
                return Ok((None, leg, self.take(answer)));
            }
            Tried::Failed(lease, failure, leg) => (lease, failure.sends.max(1), judge(failure, self.deadline), leg),
            Tried::Silent(lease, sends) => {
                let failure = late(self.deadline, Limit::FirstToken);
                (lease, sends, Ok((failure, Some(Health::Late), Outcome::Late)), Leg::Answer)
            }
            Tried::Unusable(lease, error) => {
                debug!(endpoint = %lease.endpoint(), %error, "prefill of no use");
                let (health, outcome) = match error {
                    // An engine whose one token ended the text has nothing to hand over, and others will have no more; for
                    // the answer of another one, there is no more memory.
                    HandoverError::NoParams | HandoverError::NoMemory => (Health::Answered(200), Outcome::Malformed),
                    _ => (Health::Malformed, Outcome::Answered(502)),
                };
                (lease, 1, Ok((AttemptFailure::Handover, Some(health), outcome)), Leg::Prefill)
            }
        };
        exchange.attempts += sends;
        self.last = Some(lease.endpoint().socket());
        let (failure, health, outcome) = judged?;
        if let Some(health) = health {
            lease.note(health);
        }
        self.failure = Some(failure);
        Ok((Some(failure), leg, outcome))
    }

    /// Returns whether an endpoint that decodes may do all of the request.
    fn may_go_alone(&self) -> bool {
        self.way.backend.policy.disaggregation.is_some_and(Disaggregation::decodes_alone)
    }

    /// Takes in an answer in place of the one before, and returns what it is to the policy.
    fn take(&mut self, answer: Answer) -> Outcome {
        let status = answer.upstream.head.status.as_u16();
        if status >= 500 {
            // A good answer is told of once its body has begun.
            answer.lease.note(Health::Answered(status));
        }
        self.answer = Some(answer);
        Outcome::Answered(status)
    }

    /// Returns the pause before the next attempt; `None` if there is nobody left to ask, or no time.
    fn pause(&mut self, next: Next) -> Option<Duration> {
        let (pause, may_return) = match next {
            Next::Stop => return None,
            Next::Alone(pause) => {
                self.alone = true;
                (pause, false)
            }
            Next::Again => {
                self.again = true;
                (Duration::ZERO, true)
            }
            Next::Same(pause) => (pause, true),
            Next::Other(pause) => (pause, false),
        };
        self.tried.extend(self.last.take());
        let is_in_time = self.deadline.is_none_or(|deadline| Instant::now() + pause < deadline.at);
        let is_left = |endpoint: SocketAddr| may_return || !self.tried.contains(&endpoint);
        let is_anybody_left = match self.named {
            Some(named) => named.iter().any(|endpoint| is_left(*endpoint)),
            None => self.way.backend.pool.view().members.iter().any(|member| is_left(member.endpoint.socket())),
        };
        self.may_return = may_return;
        (is_in_time && is_anybody_left).then_some(pause)
    }

    fn end(self, exchange: &mut Exchange) -> Result<Answer, ProxyError> {
        match (self.answer, self.failure) {
            // Gateway API, `HTTPRouteRetry.backoff`: when the time for the request ends during a further attempt, it is
            // answered with a timeout, and not with what an earlier attempt brought.
            (Some(answer), failure) if !failure.is_some_and(AttemptFailure::ends_request) => {
                exchange.endpoint = Some(Arc::clone(answer.lease.endpoint()));
                exchange.upstream_status = Some(answer.upstream.head.status.as_u16());
                exchange.marks.answered = Some(Instant::now());
                Ok(answer)
            }
            (_, Some(failure)) => Err(ProxyError::Failed { attempts: exchange.attempts, failure }),
            (_, None) => Err(NoEndpoint::Pool { pool: self.way.backend.pool.key.clone() }.into()),
        }
    }
}

/// Returns what metrics call an attempt; an answer after which another attempt is made was none for the client.
fn label(failure: Option<AttemptFailure>, leg: Leg, is_passed_over: bool) -> &'static str {
    match (failure, leg) {
        (None, Leg::Answer) if is_passed_over => "unavailable",
        (None, Leg::Prefill) if is_passed_over => "prefill_unavailable",
        (None, _) => "answered",
        (Some(failure), Leg::Answer) => failure.label(),
        (Some(failure), Leg::Prefill) => failure.prefill_label(),
    }
}

/// Judges a failed attempt.
///
/// # Errors
///
/// Returns an error if it was not the endpoint that failed, but the client's own request.
fn judge(Failure { error, processed, .. }: Failure, deadline: Option<Deadline>) -> Result<Judgement, ProxyError> {
    let late = late(deadline, Limit::Head);
    let (failure, health, outcome) = match error {
        AttemptError::Stale(_) => return Ok((AttemptFailure::Broken, None, Outcome::Stale)),
        AttemptError::RequestBody(fault) => return Err(bodies::fault(fault)),
        AttemptError::Unsendable(_) => return Err(Refusal::Target.into()),
        AttemptError::Connect(error) => {
            (unconnected(&error, AttemptFailure::Refused), Health::Refused, Outcome::Unsent)
        }
        AttemptError::Handshake(error) => {
            (unconnected(&error, AttemptFailure::Handshake), Health::Handshake, Outcome::Unsent)
        }
        AttemptError::Timeout(Stage::Connect) => (late, Health::Refused, Outcome::Unsent),
        AttemptError::Timeout(Stage::Handshake) => (late, Health::Handshake, Outcome::Unsent),
        AttemptError::Timeout(Stage::Exchange) => (late, Health::Late, Outcome::Late),
        AttemptError::Malformed(how) => (AttemptFailure::Malformed(how), Health::Malformed, Outcome::Malformed),
        AttemptError::Broken(_) if processed == Processed::No => {
            (AttemptFailure::Broken, Health::Reset, Outcome::Unsent)
        }
        AttemptError::Broken(_) => (AttemptFailure::Broken, Health::Reset, Outcome::Broken),
    };
    Ok((failure, Some(health), outcome))
}

/// Returns which limit was reached: that of the request, or one of the attempt.
fn late(deadline: Option<Deadline>, limit: Limit) -> AttemptFailure {
    match deadline {
        Some(deadline) if Instant::now() >= deadline.at => deadline.limit.into(),
        _ => limit.into(),
    }
}

/// Returns the failure of an attempt without a connection: this one, unless it was waited for too long.
fn unconnected(error: &io::Error, failure: AttemptFailure) -> AttemptFailure {
    if error.kind() == io::ErrorKind::TimedOut { Limit::Connect.into() } else { failure }
}
