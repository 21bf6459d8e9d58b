//! Waits for the first piece of a stream where that has a limit: an engine may begin its answer at once and then be silent,
//! and as long as nothing was passed on, another one can be asked.
//!
//! With heartbeats the head is passed on when the first of them is due, and then nobody else can be asked: the limit holds
//! within the answer (`answers::Pace`).

use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use kthena_router::inference::tap::AnswerHead;
use kthena_router::pool::time_limits::TimeLimits;
use kthena_router_upstream::{AttemptError, BodyError, Failure, Processed};
use tokio::time::timeout_at;

use super::legs::{Leg, Tried};
use crate::edge::answers::Answer;
use crate::edge::heads::text;

/// The limit on the time to the first piece of a stream.
pub(in crate::edge) struct FirstToken {
    limit: Duration,
    /// For how long nothing has to be sent to the client.
    patience: Option<Duration>,
}

impl FirstToken {
    /// Returns the limit, if there is one.
    pub(in crate::edge) fn of(limits: &TimeLimits) -> Option<Self> {
        let patience = limits.heartbeat.map(|heartbeat| heartbeat.interval);
        limits.first_token.map(|limit| Self { limit, patience })
    }

    /// Waits for the first piece of what an attempt that `began` has yielded, no longer than until `deadline`.
    pub(in crate::edge) async fn of_attempt(&self, tried: Tried, began: Instant, deadline: Option<Instant>) -> Tried {
        let Tried::Answered(mut answer, Leg::Answer) = tried else { return tried };
        let (true, Some(until)) = (is_stream(&answer), began.checked_add(self.limit)) else {
            return Tried::Answered(answer, Leg::Answer);
        };
        let last = deadline.map_or(until, |deadline| deadline.min(until));
        let patience = self.patience.and_then(|patience| Instant::now().checked_add(patience));
        let end = patience.map_or(last, |patience| patience.min(last));
        let body = &mut answer.upstream.body;
        match timeout_at(end.into(), poll_fn(|context| body.poll_chunk(context))).await {
            Ok(Some(Err(error))) => {
                let (error, sends) = (as_attempt(error), answer.upstream.sends);
                return Tried::Failed(answer.lease, Failure { error, processed: Processed::Maybe, sends }, Leg::Answer);
            }
            Ok(piece) => answer.first.piece = Some(piece),
            Err(_) if end < last => answer.first.until = Some(until),
            Err(_) => return Tried::Silent(answer.lease, answer.upstream.sends),
        }
        Tried::Answered(answer, Leg::Answer)
    }
}

fn is_stream(answer: &Answer) -> bool {
    let head = &answer.upstream.head;
    let seen = AnswerHead { content_type: text(&head.headers, CONTENT_TYPE), content_encoding: None };
    head.status.is_success() && seen.is_event_stream()
}

/// Returns what an answer that breaks before its first piece is to an attempt.
fn as_attempt(error: BodyError) -> AttemptError {
    match error {
        BodyError::Broken(error) => AttemptError::Broken(error),
        BodyError::Malformed(how) => AttemptError::Malformed(how),
        BodyError::RequestBody(fault) => AttemptError::RequestBody(fault),
    }
}
