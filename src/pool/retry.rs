//! Whether a request is attempted again, and where.
//!
//! Source: RFC 9110, section 9.2.2: a proxy must not repeat a request that is not idempotent once a server may have
//! seen it, unless it knows that this does no harm. It knows so where somebody wrote it down (a ModelServer's
//! `trafficPolicy.retry`, an HTTPRoute's `retry`), and of inference calls that only compute an answer.
//!
//! | what went wrong | nothing written | a policy with attempts left | `attempts: 0` |
//! |---|---|---|---|
//! | nothing was sent: refused, no handshake | up to [`MOVES`] other endpoints | again | no |
//! | the connection broke | once: idempotent on any endpoint, inference on another one | again | no |
//! | a kept connection was closed without a word | once, at the same endpoint: idempotent, inference | likewise, without a pause | no |
//! | 502, 503, 504 from an inference pool | up to [`MOVES`] others, if repeatable | the statuses of the policy | no |
//! | 429, 500 from an inference pool | once on another endpoint, if inference | a ModelServer's: as many others as it says | no |
//! | 404 for a LoRA adapter | up to [`MOVES`] other endpoints, which may have it | the same | no |
//! | no answer within the time of an attempt | once on another endpoint, inference of a pool | again | no |
//! | an answer that is no HTTP | no | no | no |
//!
//! "Again" prefers endpoints that were not tried; an engine that has answered is never asked twice. A kept connection that was
//! closed says nothing against its endpoint, which has the beginning of the prompt: it is asked first, on a fresh connection.
//! What is done once is done once in all, whatever went wrong: a prompt that breaks engines, or that keeps them busy
//! for too long, is run twice at most.
//!
//! Where two engines work on a request, an error of either may be the fault of the transfer between them, so that every
//! status of 500 and more counts as "cannot serve now": [`Attempts::after_decode`]. And one that cannot compute a prompt has
//! not begun to answer: [`Attempts::after_prefill`] gives such a request a further attempt, by a decode engine alone.

use std::time::Duration;

/// How many further endpoints a request is offered to that none has taken.
pub const MOVES: u32 = 2;

/// How often a request that an endpoint may have begun is repeated without a written policy.
const RERUNS: u32 = 1;

/// The statuses by which a server says that it cannot serve now.
const UNAVAILABLE: [u16; 3] = [502, 503, 504];

/// The statuses by which an engine says that it has too much to do, or has failed. Another engine may be idle, and is not the
/// one that failed; but the next one may say the same, so that one is enough.
const WORTH_ONE_MORE: [u16; 2] = [429, 500];

/// The statuses after which another engine is asked where somebody wrote that requests are tried again.
const WORTH_ANOTHER: [u16; 5] = [429, 500, 502, 503, 504];

/// The status by which an engine says that it does not know the model.
const UNKNOWN_MODEL: u16 = 404;

/// Which attempts are followed by another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Nobody wrote anything, and the backend is a server of any kind.
    #[default]
    Backend,
    /// Nobody wrote anything, and the backend is a pool of inference engines.
    Engines,
    /// Somebody did.
    Written(Written),
}

/// What somebody wrote about attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many attempts may follow the first.
    attempts: u32,
    statuses: Vec<u16>,
    /// The pause before each of them.
    interval: Duration,
    /// Whether the endpoints are engines, any of which may do better than one that answered.
    engines: bool,
}

/// Whether a request may be run twice without anybody having written so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeatable {
    /// It may not: it may change something.
    #[default]
    No,
    /// Its method says that a second run changes nothing more.
    Idempotent,
    /// It is a call of an inference API that only computes an answer.
    Inference,
}

/// How an attempt ended, as far as that matters for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing of the request was sent, or the endpoint cannot have begun to work on it.
    Unsent,
    /// The connection broke after something was sent.
    Broken,
    /// A connection that was kept from an earlier request was closed without a word: most likely because it was idle,
    /// which says nothing against the endpoint.
    Stale,
    /// What came back is no HTTP.
    Malformed,
    /// The time for the attempt is over.
    Late,
    /// An answer began, with this status.
    Answered(u16),
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt at once, at the same endpoint as long as it is there, on a fresh connection.
    Again,
    /// Another attempt after this pause, at an endpoint that was tried before if there is no other.
    Same(Duration),
    /// Another attempt after this pause, if there is an endpoint that was not tried yet.
    Other(Duration),
    /// Another attempt after this pause, by an endpoint that does all of the request.
    Alone(Duration),
    /// None: what the last attempt yielded is the client's.
    Stop,
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Attempts<'p> {
    policy: &'p RetryPolicy,
    repeatable: Repeatable,
    /// Whether the request names a LoRA adapter, which some endpoints of a pool may have and others not.
    adapter: bool,
    retries: u32,
    reruns: u32,
    moves: u32,
    /// Whether the request was given to an endpoint alone.
    alone: bool,
    /// Whether a kept connection was found closed.
    stale: bool,
}

impl RetryPolicy {
    /// Makes the policy of a ModelServer that says how many attempts follow a failed one, and after what pause.
    pub fn of_engines(attempts: u32, interval: Duration) -> Self {
        Self::Written(Written { attempts, statuses: WORTH_ANOTHER.to_vec(), interval, engines: true })
    }

    /// Makes the policy of a rule of an HTTPRoute that says how many attempts follow a failed one, after which
    /// statuses, and after what pause.
    pub fn of_rule(attempts: u32, statuses: Vec<u16>, interval: Duration) -> Self {
        Self::Written(Written { attempts, statuses, interval, engines: false })
    }

    /// Begins the attempts of a request.
    pub fn begin(&self, repeatable: Repeatable, adapter: bool) -> Attempts<'_> {
        Attempts { policy: self, repeatable, adapter, retries: 0, reruns: 0, moves: 0, alone: false, stale: false }
    }
}

impl Attempts<'_> {
    /// Returns whether the body of the request is worth keeping until an answer is there. A large upload is not, only
    /// because its method would allow to repeat it.
    pub fn keep_body(&self) -> bool {
        match self.policy {
            RetryPolicy::Backend => false,
            RetryPolicy::Engines => self.repeatable == Repeatable::Inference,
            RetryPolicy::Written(written) => written.attempts > 0,
        }
    }

    /// Decides what follows an attempt, and counts it.
    pub fn after(&mut self, outcome: Outcome) -> Next {
        let outcome = match outcome {
            Outcome::Stale => match self.refresh() {
                Some(next) => return next,
                None => Outcome::Broken,
            },
            outcome => outcome,
        };
        match self.policy {
            RetryPolicy::Written(Written { attempts: 0, .. }) => Next::Stop,
            RetryPolicy::Written(written) => self.as_written(written, outcome),
            RetryPolicy::Backend => self.by_default(outcome, false),
            RetryPolicy::Engines => self.by_default(outcome, true),
        }
    }

    /// Decides what follows when the endpoint that was to compute the prompt failed so, and counts it: as after an endpoint
    /// that cannot serve, whatever its status of 500 and more. When that is used up, an endpoint that decodes does all of
    /// it, once, where it `may_go_alone`. A prompt at which connections broke twice may be what breaks engines: it
    /// gets no third one. Nothing follows where `attempts: 0` is written.
    pub fn after_prefill(&mut self, outcome: Outcome, may_go_alone: bool) -> Next {
        let outcome = outcome.of_a_pair();
        let may_go_alone = may_go_alone
            && !self.alone
            && !matches!(outcome, Outcome::Broken | Outcome::Stale | Outcome::Answered(..500))
            && !matches!(self.policy, RetryPolicy::Written(Written { attempts: 0, .. }));
        // One that hangs has cost the time of an attempt already.
        let hurries = outcome == Outcome::Late && matches!(self.policy, RetryPolicy::Engines);
        let next = if hurries && (may_go_alone || self.alone) { Next::Stop } else { self.after(outcome) };
        match next {
            Next::Stop if may_go_alone => {
                self.alone = true;
                Next::Alone(Duration::ZERO)
            }
            next => next,
        }
    }

    /// Decides what follows when the endpoint that was to answer failed so, with a prompt that another one has computed, and
    /// counts it: another pair, whatever the status of 500 and more, because the prompt may not have reached it.
    pub fn after_decode(&mut self, outcome: Outcome) -> Next {
        self.after(outcome.of_a_pair())
    }

    /// Returns whether the same endpoint is asked again, on a fresh connection, if a kept one turns out to be closed.
    pub fn may_refresh(&self) -> bool {
        !self.stale
            && match self.policy {
                RetryPolicy::Written(written) => self.retries < written.attempts,
                RetryPolicy::Backend | RetryPolicy::Engines => {
                    self.repeatable != Repeatable::No && self.reruns < RERUNS
                }
            }
    }

    /// Asks the same endpoint on a fresh connection after a kept one was closed, once, if another run does no harm.
    fn refresh(&mut self) -> Option<Next> {
        let may_refresh = self.may_refresh();
        self.stale = true;
        let done = match self.policy {
            RetryPolicy::Written(_) => &mut self.retries,
            RetryPolicy::Backend | RetryPolicy::Engines => &mut self.reruns,
        };
        may_refresh.then(|| {
            *done += 1;
            Next::Again
        })
    }

    fn as_written(&mut self, written: &Written, outcome: Outcome) -> Next {
        let next = match outcome {
            Outcome::Malformed => None,
            Outcome::Answered(status) if !written.statuses.contains(&status) => None,
            Outcome::Late | Outcome::Answered(_) if written.engines => Some(Next::Other(written.interval)),
            Outcome::Late | Outcome::Answered(_) | Outcome::Unsent | Outcome::Broken | Outcome::Stale => {
                Some(Next::Same(written.interval))
            }
        };
        let next = next.and_then(|next| spend(&mut self.retries, written.attempts, next));
        next.unwrap_or_else(|| self.move_on(outcome))
    }

    fn by_default(&mut self, outcome: Outcome, engines: bool) -> Next {
        let rerun = match (outcome, self.repeatable) {
            (Outcome::Broken, Repeatable::Idempotent) => Next::Same(Duration::ZERO),
            (Outcome::Broken, Repeatable::Inference) => Next::Other(Duration::ZERO),
            (Outcome::Late, Repeatable::Inference) if engines => Next::Other(Duration::ZERO),
            (Outcome::Answered(status), Repeatable::Inference) if engines && WORTH_ONE_MORE.contains(&status) => {
                Next::Other(Duration::ZERO)
            }
            (Outcome::Answered(status), Repeatable::Idempotent | Repeatable::Inference)
                if engines && UNAVAILABLE.contains(&status) =>
            {
                return self.another();
            }
            _ => return self.move_on(outcome),
        };
        spend(&mut self.reruns, RERUNS, rerun).unwrap_or(Next::Stop)
    }

    /// Tries another endpoint where this one has done nothing for the request.
    fn move_on(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Unsent => self.another(),
            Outcome::Answered(UNKNOWN_MODEL) if self.adapter => self.another(),
            _ => Next::Stop,
        }
    }

    fn another(&mut self) -> Next {
        spend(&mut self.moves, MOVES, Next::Other(Duration::ZERO)).unwrap_or(Next::Stop)
    }
}

impl Outcome {
    /// Returns what it is to the policy where two endpoints work on a request: an error may be the fault of the other one.
    fn of_a_pair(self) -> Self {
        match self {
            Self::Answered(500..) => Self::Answered(UNAVAILABLE[1]),
            outcome => outcome,
        }
    }
}

/// Returns what follows, and counts it; `None` once that was done as often as it may be.
fn spend(done: &mut u32, most: u32, next: Next) -> Option<Next> {
    if *done >= most {
        return None;
    }
    *done += 1;
    Some(next)
}

impl Repeatable {
    /// Returns whether the method of a request allows to repeat it: RFC 9110, section 9.2.2.
    pub fn of_method(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Self::Idempotent,
            _ => Self::No,
        }
    }
}

#[cfg(test)]
mod tests;
