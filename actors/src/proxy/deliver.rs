//! Has a request answered by an endpoint of its backend: the one place that sends for a client, and that knows what it
//! means when that fails.
//!
//! What follows an attempt is the policy's to say (`routing::retry`). The last answer of an engine passes to the client
//! as it is, whatever was tried after it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kthena_router::inference::health::Outcome as Health;
use kthena_router::routing::http::route::Timeouts;
use kthena_router::routing::retry::{Attempts, Next, Outcome};
use kthena_router::scheduling::picker::PickError;
use kthena_router::scheduling::request::RequestFacts;
use kthena_router_downstream::Refusal;
use kthena_router_upstream::{self as upstream, Ask, AttemptError, Body, Failure, Peer, Processed, Stage};
use tokio::time::sleep;

use super::answer::Answer;
use super::backend::Backend;
use super::body;
use super::error::{AttemptFailure, NoEndpoint, ProxyError};
use super::exchange::Exchange;
use super::outbound::Outbound;
use super::worker::Worker;
use crate::lease::Lease;
use crate::scheduler::PickEndpoint;

/// The attempts to have one request answered.
pub(super) struct Delivery<'d> {
    pub worker: &'d Worker,
    pub backend: &'d Backend,
    /// What follows each attempt.
    pub attempts: Attempts<'d>,
    /// How long the request, and each attempt, may take until an answer begins.
    pub timeouts: Timeouts,
    /// What the request tells of itself; `None` for one that is no inference request.
    pub facts: Option<Arc<RequestFacts>>,
    /// The endpoints that a picker allows, the best one first; without a picker there is no such list.
    pub picked: Option<&'d [SocketAddr]>,
}

/// What the attempts have come to so far.
#[derive(Default)]
struct Course {
    tried: Vec<SocketAddr>,
    /// Whether an endpoint may be tried again that was tried before.
    may_return: bool,
    /// The last answer.
    answer: Option<Answer>,
    /// How the last attempt failed that had no answer.
    failure: Option<AttemptFailure>,
}

/// How an attempt failed: for the client, for the endpoint's health, and for the policy.
type Judgement = (AttemptFailure, Health, Outcome);

impl Delivery<'_> {
    /// Makes attempts until none may follow, and returns the last answer.
    pub(super) async fn make(mut self, outbound: &mut Outbound, exchange: &mut Exchange) -> Result<Answer, ProxyError> {
        let deadline = self.timeouts.request.map(|limit| exchange.started + limit);
        let mut course = Course::default();
        while let Some(lease) = self.pick(&mut course).await? {
            course.tried.push(lease.endpoint().socket());
            exchange.endpoint = Some(Arc::clone(lease.endpoint()));
            exchange.marks.sent.get_or_insert_with(Instant::now);
            let (label, outcome) = match self.send(outbound, &lease, deadline).await {
                Ok(upstream) => {
                    exchange.attempts += upstream.sends;
                    ("answered", course.take(Answer { upstream, lease }))
                }
                Err(failure) => {
                    exchange.attempts += failure.sends.max(1);
                    let (failure, health, outcome) = judge(failure, deadline)?;
                    lease.note(health);
                    course.failure = Some(failure);
                    (failure.label(), outcome)
                }
            };
            let next = if outbound.body.is_there() { self.attempts.after(outcome) } else { Next::Stop };
            let pause = self.pause(next, &mut course, deadline);
            let is_passed_over = label == "answered" && pause.is_some();
            exchange.note_attempt(if is_passed_over { "unavailable" } else { label });
            match pause {
                None => break,
                Some(pause) if pause.is_zero() => {}
                Some(pause) => sleep(pause).await,
            }
        }
        course.end(self.backend, exchange)
    }

    /// Picks an endpoint, one that was not tried yet if there is any; `None` if none may be tried.
    async fn pick(&self, course: &mut Course) -> Result<Option<Lease>, ProxyError> {
        let pool = &self.backend.pool;
        loop {
            let lease = match self.picked {
                Some(picked) => Lease::first_of(pool, picked, &course.tried),
                None => {
                    let ask = || PickEndpoint {
                        pool: Arc::clone(pool),
                        facts: self.facts.clone(),
                        tried: course.tried.clone(),
                    };
                    self.worker.pick(ask).await?
                }
            };
            match lease {
                Ok(lease) => return Ok(Some(lease)),
                Err(PickError::AllTried) if course.may_return => course.tried.clear(),
                Err(PickError::AllTried | PickError::NoEndpoints | PickError::Filtered { .. }) => return Ok(None),
            }
        }
    }

    /// Sends the request to an endpoint, and waits for the head of its answer.
    async fn send(
        &self,
        outbound: &mut Outbound,
        lease: &Lease,
        deadline: Option<Instant>,
    ) -> Result<upstream::Answer, Failure> {
        let peer = Peer { address: lease.endpoint().socket(), transport: self.backend.transport.clone() };
        let body = std::mem::replace(&mut outbound.body, Body::Gone);
        let mut ask = Ask {
            method: &outbound.method,
            target: outbound.target(),
            host: if outbound.host().is_empty() { lease.authority().as_str() } else { outbound.host() },
            headers: &outbound.headers,
            replaced: &[],
            upgrade: outbound.upgrade.as_ref(),
            body,
            timeout: Some(self.limit(deadline)),
        };
        let outcome = self.worker.client.send(&peer, &mut ask).await;
        outbound.body = ask.body;
        outcome
    }

    /// Returns how long an attempt that begins now may take.
    fn limit(&self, deadline: Option<Instant>) -> Duration {
        let written = self.timeouts.backend_request.or(self.backend.policy.timeout);
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let always = self.worker.door.serving.config.engines.first_byte_timeout;
        written.into_iter().chain(rest).fold(always, Duration::min)
    }

    /// Returns the pause before the next attempt; `None` if there is nobody left to ask, or no time.
    fn pause(&self, next: Next, course: &mut Course, deadline: Option<Instant>) -> Option<Duration> {
        let (pause, may_return) = match next {
            Next::Stop => return None,
            Next::Same(pause) => (pause, true),
            Next::Other(pause) => (pause, false),
        };
        let is_in_time = deadline.is_none_or(|deadline| Instant::now() + pause < deadline);
        let is_left = |endpoint: SocketAddr| may_return || !course.tried.contains(&endpoint);
        let is_anybody_left = match self.picked {
            Some(picked) => picked.iter().any(|endpoint| is_left(*endpoint)),
            None => self.backend.pool.view().members.iter().any(|member| is_left(member.endpoint.socket())),
        };
        course.may_return = may_return;
        (is_in_time && is_anybody_left).then_some(pause)
    }
}

impl Course {
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

    fn end(self, backend: &Backend, exchange: &mut Exchange) -> Result<Answer, ProxyError> {
        match (self.answer, self.failure) {
            // Gateway API, `HTTPRouteRetry.backoff`: when the time for the request ends during a further attempt, it is
            // answered with a timeout, and not with what an earlier attempt brought.
            (_, Some(failure @ AttemptFailure::PastDeadline)) => {
                Err(ProxyError::Failed { attempts: exchange.attempts, failure })
            }
            (Some(answer), _) => {
                exchange.endpoint = Some(Arc::clone(answer.lease.endpoint()));
                exchange.upstream_status = Some(answer.upstream.head.status.as_u16());
                exchange.marks.answered = Some(Instant::now());
                Ok(answer)
            }
            (None, Some(failure)) => Err(ProxyError::Failed { attempts: exchange.attempts, failure }),
            (None, None) => Err(NoEndpoint::Pool { pool: backend.pool.key.clone() }.into()),
        }
    }
}

/// Judges a failed attempt.
///
/// # Errors
///
/// Returns an error if it was not the endpoint that failed, but the client's own request.
fn judge(Failure { error, processed, .. }: Failure, deadline: Option<Instant>) -> Result<Judgement, ProxyError> {
    let late = match deadline {
        Some(deadline) if Instant::now() >= deadline => AttemptFailure::PastDeadline,
        _ => AttemptFailure::Late,
    };
    Ok(match error {
        AttemptError::RequestBody(fault) => return Err(body::fault(fault)),
        AttemptError::Unsendable(_) => return Err(Refusal::Target.into()),
        AttemptError::Connect(_) => (AttemptFailure::Refused, Health::Refused, Outcome::Unsent),
        AttemptError::Handshake(_) => (AttemptFailure::Handshake, Health::Handshake, Outcome::Unsent),
        AttemptError::Timeout(Stage::Connect) => (late, Health::Refused, Outcome::Unsent),
        AttemptError::Timeout(Stage::Handshake) => (late, Health::Handshake, Outcome::Unsent),
        AttemptError::Timeout(Stage::Exchange) => (late, Health::Late, Outcome::Late),
        AttemptError::Malformed(how) => (AttemptFailure::Malformed(how), Health::Malformed, Outcome::Malformed),
        AttemptError::Broken(_) if processed == Processed::No => {
            (AttemptFailure::Broken, Health::Reset, Outcome::Unsent)
        }
        AttemptError::Broken(_) => (AttemptFailure::Broken, Health::Reset, Outcome::Broken),
    })
}
