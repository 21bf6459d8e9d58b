//! One attempt: a request to one endpoint, or its two legs to a pair.
//!
//! # The legs
//!
//! Where the connector wants one after the other, the prefill's answer is read whole, up to a bound, and gives the decode what
//! it needs; nothing of it reaches the client. Where it wants both at once, the decode's answer is held back until the
//! prefill's is there: nothing can be generated before, and a prefill that fails still can be followed by another pair. With a
//! sidecar there is one request, to the endpoint that answers, with a header that names the other.
//!
//! # How failures end
//!
//! - The prefill fails, whatever way: the decode's request is not sent, or dropped with what came of it, and
//!   `Attempts::after_prefill` decides. A refusal by a status below 500 is the client's: the decode would refuse it, too.
//! - The decode fails before its head: as any endpoint, by `Attempts::after`; the next pair gets a transfer of its own.
//! - The decode breaks off after its head: as any answer (`AnswerBody`): a stream ends with an event that says so.
//!
//! # What is dropped first
//!
//! A leg that is not wanted any more, because the other one failed, the time is over, or the client left, is dropped, which
//! closes its connection or resets its stream, and by that engines free its blocks. One after the other, there is only one
//! leg at any time; a prefill that is over and whose decode never comes is freed by the engine's own time limit, which no
//! request can shorten. Where both are under way the prefill goes first: it writes into blocks of the decode, which must
//! not be given to another request while somebody still writes. So the prefill is declared last in `together`.
//!
//! All of an attempt has the time of one attempt.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use kthena_router::inference::disaggregation::{
    BOOTSTRAP_PORT, Connector, Handover, HandoverError, MAX_ANSWER, Order, PromptCounts, SplitRequest, Transfer,
};
use kthena_router::inference::health::Outcome as Health;
use kthena_router::pool::disaggregation::{Disaggregation, PREFILLER_HEADER};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router_downstream::Charge;
use kthena_router_upstream::{AnswerBody, AttemptError, Body, BodyError, Failure, Processed, Stage};
use tokio::time::timeout_at;

use super::EngineIds;
use crate::edge::answers::Answer;
use crate::edge::backends::{Outbound, To};
use crate::edge::exchange::Exchange;
use crate::pools::lease::Lease;

/// What an endpoint does in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Leg {
    /// It answers.
    Answer,
    /// It computes the prompt for one that answers.
    Prefill,
}

/// What came of an attempt.
pub(in crate::edge) enum Tried {
    /// An answer began, for the client if nothing follows.
    Answered(Answer, Leg),
    /// There was none.
    Failed(Lease, Failure, Leg),
    /// An answer began and its first token did not come in time; the request was sent as often.
    Silent(Lease, u32),
    /// The prefill's answer is good and of no use.
    Unusable(Lease, HandoverError),
}

/// What an attempt is made with.
struct Attempt<'a> {
    to: To<'a>,
    engine_ids: &'a EngineIds,
    outbound: &'a Outbound,
    /// When it must have an answer.
    until: Instant,
}

/// Has a request answered by a pair in no more time than `limit` to the head of the answer; `id` is that of the
/// transfer, and of no other one.
pub(in crate::edge) async fn send(
    (to, engine_ids): (To<'_>, &EngineIds),
    (outbound, body): (&Outbound, &Body),
    (prefill, decode): (Lease, Lease),
    (id, limit): (u128, Duration),
    exchange: &mut Exchange,
) -> Tried {
    let attempt = Attempt { to, engine_ids, outbound, until: Instant::now() + limit };
    // Who leaves now has left while this one computes.
    exchange.prefill = Some(Arc::clone(prefill.endpoint()));
    exchange.marks.decoding = None;
    let (Some(Disaggregation::Legs(connector)), Some(split)) = (to.backend.policy.disaggregation, outbound.split())
    else {
        return attempt.by_sidecar(body, (prefill, decode), exchange).await;
    };
    let Endpoint { address, bootstrap_port, .. } = **prefill.endpoint();
    let bootstrap_port = bootstrap_port.unwrap_or(BOOTSTRAP_PORT);
    let transfer = Transfer { bootstrap_port, ..Transfer::new(id, address.to_string()) };
    match connector.protocol().order {
        Order::Together => attempt.together(split, &transfer, (prefill, decode), exchange).await,
        Order::PrefillFirst => attempt.in_turn((connector, split), &transfer, (prefill, decode), exchange).await,
    }
}

/// Returns what came of a request to the endpoint that answers.
pub(in crate::edge) fn answered(sent: Result<Box<kthena_router_upstream::Answer>, Failure>, lease: Lease) -> Tried {
    match sent {
        Ok(upstream) => Tried::Answered(Answer::new(upstream, lease), Leg::Answer),
        Err(failure) => Tried::Failed(lease, failure, Leg::Answer),
    }
}

impl Attempt<'_> {
    /// Tells the sidecar of the endpoint that answers which one computes the prompt.
    async fn by_sidecar(&self, body: &Body, (prefill, decode): (Lease, Lease), exchange: &mut Exchange) -> Tried {
        let socket = HeaderValue::try_from(prefill.endpoint().socket().to_string());
        let (Body::Whole(body), Ok(socket)) = (body, socket) else { return answered(Err(unsendable()), decode) };
        let mut replaced = decode.told().to_vec();
        replaced.push((HeaderName::from_static(PREFILLER_HEADER), socket));
        exchange.marks.decoding = Some(Instant::now());
        match answered(self.send(&decode, body.clone(), &replaced).await, decode) {
            Tried::Answered(answer, leg) => Tried::Answered(Answer { prefill: Some(Box::new(prefill)), ..answer }, leg),
            failed => failed,
        }
    }

    /// Has the prompt computed, and then the request answered.
    async fn in_turn(
        &self,
        (connector, split): (Connector, &SplitRequest),
        transfer: &Transfer<'_>,
        (prefill, decode): (Lease, Lease),
        exchange: &mut Exchange,
    ) -> Tried {
        let began = Instant::now();
        let prefilled = self.prefill(split, transfer, &prefill).await;
        exchange.note_prefill(began, prefilled.as_ref().map_or_else(NoPrefill::status, |_| 200));
        let (answer, _charge) = match prefilled {
            Ok(computed) => computed,
            Err(failed) => return failed.tried(prefill),
        };
        let (prompt, handover) = (counts(exchange, &answer), Handover::read(connector, &answer));
        let mut body = handover.clone().and_then(|handover| split.decode(transfer, &handover));
        let prefill_endpoint = Arc::clone(prefill.endpoint());
        let mut asked = false;
        if connector == Connector::Mooncake
            && let (Ok(handover), Err(HandoverError::NoParams)) = (handover, &body)
        {
            let charge = self.outbound.more_charge();
            let id = self.engine_ids.find(self.to.client, &prefill_endpoint, self.until, charge).await;
            let prefill_engine = id.as_deref().map(Cow::Borrowed);
            body = split.decode(&Transfer { prefill_engine, ..transfer.clone() }, &handover);
            asked = true;
        }
        let body = match body {
            Ok(body) => body,
            Err(error) => return Tried::Unusable(prefill, error),
        };
        computed(&prefill);
        drop(prefill);
        exchange.marks.decoding = Some(Instant::now());
        let sent = self.send(&decode, body, &[plain()]).await;
        if asked && !sent.as_ref().is_ok_and(|answer| answer.head.status.is_success()) {
            self.engine_ids.forget(&prefill_endpoint);
        }
        answered(sent, decode).with(prompt)
    }

    /// Sends both legs at once, and returns the answer when the prompt is computed.
    async fn together(
        &self,
        split: &SplitRequest,
        transfer: &Transfer<'_>,
        (prefill, decode): (Lease, Lease),
        exchange: &mut Exchange,
    ) -> Tried {
        let began = Instant::now();
        exchange.marks.decoding = Some(began);
        let body = match split.decode(transfer, &Handover::default()) {
            Ok(body) => body,
            Err(error) => return Tried::Unusable(prefill, error),
        };
        let (mut answer, mut computed_answer) = (None, None);
        let ended = {
            let replaced = [plain()];
            let mut decoding = pin!(self.send(&decode, body, &replaced));
            // Declared last, and so dropped first.
            let mut prefilling = pin!(self.prefill(split, transfer, &prefill));
            loop {
                tokio::select! {
                    biased;
                    prefilled = &mut prefilling, if computed_answer.is_none() => match prefilled {
                        Ok(computed) => computed_answer = Some(computed),
                        Err(failed) => break Err(failed),
                    },
                    sent = &mut decoding, if answer.is_none() => match sent {
                        Ok(sent) if sent.head.status.is_success() => answer = Some(sent),
                        sent => break Ok(sent),
                    },
                }
                if let Some(sent) = answer.take_if(|_| computed_answer.is_some()) {
                    break Ok(Ok(sent));
                }
            }
        };
        let status = if computed_answer.is_some() { 200 } else { ended.as_ref().err().map_or(0, NoPrefill::status) };
        exchange.note_prefill(began, status);
        if computed_answer.is_some() {
            computed(&prefill);
        }
        match ended {
            Ok(sent) => answered(sent, decode).with(computed_answer.and_then(|(answer, _)| counts(exchange, &answer))),
            Err(failed) => failed.tried(prefill),
        }
    }

    async fn send(
        &self,
        lease: &Lease,
        body: Bytes,
        replaced: &[(HeaderName, HeaderValue)],
    ) -> Result<Box<kthena_router_upstream::Answer>, Failure> {
        let rest = self.until.saturating_duration_since(Instant::now());
        self.outbound.send(self.to, lease, Some(rest), (&mut Body::Whole(body), replaced)).await
    }

    /// Has a prompt computed, and reads the whole answer, which takes as much of the memory for requests.
    async fn prefill(
        &self,
        split: &SplitRequest,
        transfer: &Transfer<'_>,
        lease: &Lease,
    ) -> Result<(Bytes, Option<Charge>), NoPrefill> {
        let replaced = [plain()];
        let upstream = self.send(lease, split.prefill(transfer), &replaced).await.map_err(NoPrefill::Failed)?;
        if !upstream.head.status.is_success() {
            return Err(NoPrefill::Refused(upstream));
        }
        let failed = |error| NoPrefill::Failed(Failure { error, processed: Processed::Maybe, sends: upstream.sends });
        let (mut body, mut charge) = (upstream.body, self.outbound.more_charge());
        let read = timeout_at(self.until.into(), read(&mut body, &mut charge)).await;
        let read = read.map_err(|_| failed(AttemptError::Timeout(Stage::Exchange)))?;
        let read = read.map_err(|_| failed(AttemptError::Broken(ErrorKind::UnexpectedEof.into())))?;
        Ok((read.map_err(NoPrefill::Unread)?, charge))
    }
}

/// Why a prompt was not computed.
enum NoPrefill {
    /// It was answered with an error.
    Refused(Box<kthena_router_upstream::Answer>),
    /// It was answered with more than is read, or than there is memory for.
    Unread(HandoverError),
    /// It was not answered, or not to the end.
    Failed(Failure),
}

impl NoPrefill {
    /// Returns the status, 0 without an answer.
    fn status(&self) -> u16 {
        match self {
            Self::Refused(answer) => answer.head.status.as_u16(),
            Self::Unread(_) => 200,
            Self::Failed(_) => 0,
        }
    }

    /// Returns what came of the attempt.
    fn tried(self, prefill: Lease) -> Tried {
        match self {
            Self::Refused(upstream) => Tried::Answered(Answer::new(upstream, prefill), Leg::Prefill),
            Self::Unread(error) => Tried::Unusable(prefill, error),
            Self::Failed(failure) => Tried::Failed(prefill, failure, Leg::Prefill),
        }
    }
}

impl Tried {
    /// Adds what the endpoint that computed the prompt says of it.
    fn with(self, prompt: Option<Box<PromptCounts>>) -> Self {
        match self {
            Self::Answered(answer, leg) => Self::Answered(Answer { prompt, ..answer }, leg),
            failed => failed,
        }
    }
}

/// Returns the header by which an answer is asked for that can be read.
fn plain() -> (HeaderName, HeaderValue) {
    (ACCEPT_ENCODING, HeaderValue::from_static("identity"))
}

/// Reads what a prefill's answer says of the prompt.
fn counts(exchange: &Exchange, answer: &[u8]) -> Option<Box<PromptCounts>> {
    PromptCounts::read(exchange.api?, answer).map(Box::new)
}

/// Notes that a prompt was computed.
fn computed(prefill: &Lease) {
    prefill.note_first_bytes(true);
    prefill.note(Health::Answered(200));
}

fn unsendable() -> Failure {
    Failure { error: AttemptError::Unsendable("its body is gone"), processed: Processed::No, sends: 0 }
}

/// Reads a body, if it is not longer than a prefill's may be, and there is memory for it.
pub(super) async fn read(
    body: &mut AnswerBody,
    charge: &mut Option<Charge>,
) -> Result<Result<Bytes, HandoverError>, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = poll_fn(|context| body.poll_chunk(context)).await.transpose()? {
        if whole.len() + piece.len() > MAX_ANSWER {
            return Ok(Err(HandoverError::TooLong));
        }
        if charge.as_mut().is_some_and(|charge| charge.grow(piece.len()).is_err()) {
            return Ok(Err(HandoverError::NoMemory));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Ok(whole.freeze()))
}
