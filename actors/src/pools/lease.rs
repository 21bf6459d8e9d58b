//! The right to send one request to an endpoint.

use std::cell::Cell;
use std::net::SocketAddr;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::WeakRecipient;
use http::header::{HeaderName, HeaderValue};
use http::uri::Authority;
use kthena_router::inference::health::{Outcome, Standing};
use kthena_router::scheduling::endpoint::Endpoint;
use kthena_router::scheduling::ledger::Entry;
use kthena_router::scheduling::picker::PickError;
use kthena_router::scheduling::plugins::kv_cache_source::HEADER;
use kthena_router::scheduling::request::PickRequest;

use crate::messages::AttemptEnded;
use crate::pools::published::{Member, Pool};

/// From how many failures in a row on not each of them is told of.
const MANY_IN_A_ROW: u32 = 16;

/// A reservation of an endpoint, given back when it is dropped: at the end of the answer, on an error, and when the
/// asker is gone before the reply reaches it.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    member: Arc<Member>,
    /// The entry in the endpoint's ledger, until the answer begins.
    entry: Cell<Option<(Entry, Instant)>>,
    /// The header that tells the endpoint's sidecar where the beginning of the prompt can be pulled from.
    source: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Lease {
    /// Reserves a member of a pool.
    pub(crate) fn new(pool: Arc<Pool>, member: Arc<Member>) -> Self {
        member.cell.reserve();
        Self { pool, member, entry: Cell::new(None), source: None }
    }

    /// Reserves a member of a pool for a request of whose prompt `cached` tokens are in its cache, and notes the prompt
    /// and the time, which is `now`.
    pub(crate) fn opened(
        pool: Arc<Pool>,
        member: Arc<Member>,
        request: &PickRequest<'_>,
        (cached, now): (u32, Instant),
    ) -> Self {
        if request.prefix.is_empty() && request.tokens == 0 {
            return Self::new(pool, member);
        }
        let entry = member.ledger.open(request, cached, member.observation.cache_tokens());
        let lease = Self::new(pool, member);
        lease.entry.set(Some((entry, now)));
        lease
    }

    /// Reserves a member of a pool for a request whose prompt comes computed, so that nothing waits there for it and nothing
    /// is learnt of the engine's rate.
    pub(crate) fn receiving(
        pool: Arc<Pool>,
        member: Arc<Member>,
        request: &PickRequest<'_>,
        _: (u32, Instant),
    ) -> Self {
        member.ledger.receive(request, member.observation.cache_tokens());
        Self::new(pool, member)
    }

    /// Has the endpoint told where the beginning of the prompt can be pulled from.
    pub(crate) fn pulling_from(mut self, source: Option<SocketAddr>) -> Self {
        let named = source.and_then(|source| HeaderValue::from_str(&source.to_string()).ok());
        self.source = named.map(|named| Box::new((HeaderName::from_static(HEADER), named)));
        self
    }

    /// Returns the headers that the endpoint is to get.
    pub fn told(&self) -> &[(HeaderName, HeaderValue)] {
        self.source.as_deref().map_or(&[], slice::from_ref)
    }

    /// Notes that the first bytes of the answer's body came: the prompt is computed. If it is a stream, they are the first
    /// token and tell the engine's rate.
    pub fn note_first_bytes(&self, is_stream: bool) {
        if let Some((entry, since)) = self.entry.take() {
            // A clock is not read for a time that nobody wants.
            let waited = if is_stream { since.elapsed() } else { Duration::ZERO };
            self.member.ledger.begin(&entry, waited, is_stream);
            // The next prompt may be sent there.
            self.pool.let_pass();
        }
    }

    /// Counts the tokens that the engine has told of.
    pub fn note_tokens(&self, tokens: u64) {
        self.pool.throughput.add(tokens);
    }

    /// Reserves the first of the wanted endpoints that the pool has and that was not tried yet.
    pub(crate) fn first_of(pool: &Arc<Pool>, wanted: &[SocketAddr], tried: &[SocketAddr]) -> Result<Self, PickError> {
        let view = pool.view();
        let member = |wanted: &SocketAddr| view.members.iter().find(|member| member.endpoint.socket() == *wanted);
        let mut there = wanted.iter().filter_map(member).peekable();
        if there.peek().is_none() {
            return Err(PickError::NoEndpoints);
        }
        let untried = there.find(|member| !tried.contains(&member.endpoint.socket()));
        untried.map(|member| Self::new(Arc::clone(pool), Arc::clone(member))).ok_or(PickError::AllTried)
    }

    /// Returns the reserved endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.member.endpoint
    }

    /// Returns where the endpoint is, as part of a URI.
    pub fn authority(&self) -> &Authority {
        &self.member.authority
    }

    /// Notes how an attempt at the endpoint ended; called once for each attempt.
    ///
    /// A good answer costs no more than to see that nothing went wrong before. The pool's keeper is told of failures
    /// that may eject the endpoint, and of the outcome of a trial.
    pub fn note(&self, outcome: Outcome) {
        let in_a_row = self.member.cell.note(outcome);
        let is_unusual = self.member.observation.standing != Standing::Serving;
        if is_unusual || outcome.cause().is_some_and(|cause| is_told(in_a_row, cause.in_a_row())) {
            self.tell(outcome, in_a_row);
        }
    }

    fn tell(&self, outcome: Outcome, in_a_row: u32) {
        if let Some(keeper) = self.pool.view().keeper.as_ref().and_then(WeakRecipient::upgrade) {
            keeper.do_send(AttemptEnded { address: self.member.endpoint.socket(), outcome, in_a_row });
        }
    }
}

/// Returns whether the keeper is told of a failure. A long row is told of now and then only: an endpoint that may not
/// be ejected, because too many others are, must not fill the keeper's mailbox.
fn is_told(in_a_row: u32, threshold: u32) -> bool {
    in_a_row >= threshold && (in_a_row <= MANY_IN_A_ROW || in_a_row.is_power_of_two())
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((entry, _)) = self.entry.take() {
            self.member.ledger.abandon(&entry);
        }
        self.member.cell.give_back();
        self.pool.let_pass();
    }
}
