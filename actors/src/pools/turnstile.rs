//! The turnstile of a pool: requests pass while the pool has room, and wait for their turn while it has none.
//!
//! All worker threads share it. While nobody waits it costs a load of each endpoint's count, and where no engine has
//! shown how much it works on, one load. Its queue is behind a lock, which is taken only while requests wait; what is
//! done under it is a few steps of a search tree.
//!
//! A turn is a value that gives itself back, like a lease. It is given when there is room for it, and counts until an
//! endpoint is reserved in its place. Whoever makes room, a lease that ends, an answer that begins, or a keeper that
//! publishes, looks whether somebody waits; whoever waits looks once more whether there is room. Both are sequentially
//! consistent, so that one of the two sees the other.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
#[expect(clippy::disallowed_types, reason = "the queue of a pool has no thread of its own, and is asked by all")]
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use kthena_router::flow::identity::FlowId;
use kthena_router::flow::queue::{Asked, FlowQueue, Place, Pushed, Rank, Served};
use kthena_router::flow::room::{Asker, Room};
use kthena_router::flow::sessions::RecentSessions;
use kthena_router::flow::settings::Settings;
use kthena_router::scheduling::objective::{REJECTED_NO_ENDPOINTS, REJECTED_SATURATED};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::pools::published::Pool;

/// Tokens that an answer is taken for before the first one has ended.
const ANSWER_TOKENS: f64 = 128.0;
/// What a new answer leaves of the older ones in their average.
const FADE: f64 = 0.95;

/// Where the requests of one pool wait.
#[derive(Default)]
pub struct Turnstile {
    settings: Settings,
    waiting: AtomicUsize,
    /// Turns that were given, and for which no endpoint is reserved yet.
    given: AtomicUsize,
    /// Whether the pool is gone, so that nobody waits any more.
    closed: AtomicBool,
    line: Line,
}

#[expect(clippy::disallowed_types, reason = "see above")]
type Line = Mutex<Waiting>;

struct Waiting {
    queue: FlowQueue<oneshot::Sender<Result<Turn, Dropped>>>,
    /// From when the arrivals of requests are counted.
    began: Instant,
    /// The tokens of an answer, on average.
    answer_tokens: f64,
    /// The sessions that go first, where any do.
    sessions: RecentSessions,
}

/// A request that wants to pass.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How important it is, and whose.
    pub asked: Asked,
    /// The tokens of its prompt.
    pub prompt_tokens: u64,
    /// When the client gives up, if that is known.
    pub deadline: Option<Instant>,
}

/// Why a request does not get its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There is no room in the queue.
    Saturated,
    /// It waited for too long.
    Expired,
    /// Requests of flows with fewer of them took its place.
    DrivenOut,
    /// No endpoint came in the time that it may wait for one, or too many wait for one already.
    NoEndpoints,
    /// The time that its route gives it was over.
    PastDeadline,
}

impl Dropped {
    /// Returns the field's word for it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Saturated => REJECTED_SATURATED,
            Self::Expired => "rejected-ttl-expired",
            Self::DrivenOut => "evicted-queue-pressure",
            Self::NoEndpoints => REJECTED_NO_ENDPOINTS,
            Self::PastDeadline => "request-timeout",
        }
    }
}

/// What a request finds that comes to a pool.
#[derive(Debug)]
pub enum Entrance {
    /// Nothing bounds how many pass.
    Open,
    /// There is room for it.
    Turn(Turn),
    /// It has to wait.
    Full,
}

/// A request's turn, until it is over.
pub struct Turn {
    pool: Arc<Pool>,
    /// What its flow is charged, if it has waited.
    served: Option<Served>,
    prompt_tokens: u64,
    /// Whether no endpoint is reserved for it yet.
    is_pending: bool,
}

/// A place in the queue, which is free again when this is dropped.
struct Waiter {
    pool: Arc<Pool>,
    place: Place,
}

impl Turnstile {
    /// Makes a turnstile at which nobody waits.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Returns how requests wait.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns how many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Returns how many requests wait in each band.
    pub fn bands(&self) -> Vec<(Rank, usize)> {
        if self.waiting() == 0 { Vec::new() } else { self.lock().queue.bands().collect() }
    }

    /// Returns whether a session had an answer of late.
    pub(crate) fn knows(&self, session: FlowId) -> bool {
        self.lock().sessions.knows(session)
    }

    /// Notes that a session had an answer.
    pub(crate) fn note_answered(&self, session: FlowId) {
        self.lock().sessions.note(session, self.settings.most_sessions);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts those who wait, while the queue is locked.
    fn count(&self, line: &Waiting) {
        self.waiting.store(line.queue.waiting(), Ordering::SeqCst);
    }
}

impl Pool {
    /// Lets a request pass if nobody waits and there is room. Where the room has a bound, the request counts at once, so
    /// that of those who come together no more pass than there is room for.
    pub fn enter(self: &Arc<Self>) -> Entrance {
        if self.turnstile.waiting() > 0 {
            return Entrance::Full;
        }
        match self.room_beside(0).left(Asker::Long) {
            0 => Entrance::Full,
            usize::MAX => Entrance::Open,
            _ => {
                let turn = Turn::give(self);
                if self.room_beside(1).left(Asker::Long) > 0 { Entrance::Turn(turn) } else { Entrance::Full }
            }
        }
    }

    /// Lets those pass for whom there is room.
    pub(crate) fn let_pass(self: &Arc<Self>) {
        while self.turnstile.waiting() > 0 {
            let passing = self.take_turns();
            if passing.is_empty() {
                return;
            }
            for (waiter, turn) in passing {
                // One that has just left leaves its turn to the next.
                drop(waiter.send(Ok(turn)));
            }
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    #[expect(clippy::manual_async_fn, reason = "an `async fn` has room for the request twice")]
    pub(crate) fn wait_for_turn(self: &Arc<Self>, request: Request) -> impl Future<Output = Result<Turn, Dropped>> {
        async move {
            let settings = &self.turnstile.settings;
            let is_empty = self.view().members.is_empty();
            if is_empty && self.turnstile.waiting() >= settings.most_held {
                return Err(Dropped::NoEndpoints);
            }
            let patience = if is_empty { settings.hold } else { settings.time_to_live };
            let expiry = Instant::now() + patience;
            let (sender, receiver) = oneshot::channel();
            let _waiter = self.line_up(request, sender).ok_or(Dropped::Saturated)?;
            self.let_pass();
            let until = request.deadline.map_or(expiry, |deadline| deadline.min(expiry));
            match timeout_at(until.into(), receiver).await {
                Ok(Ok(turn)) => turn.map(|turn| turn.for_prompt(request.prompt_tokens)),
                Ok(Err(_)) => Err(Dropped::DrivenOut),
                Err(_) if until < expiry => Err(Dropped::PastDeadline),
                Err(_) if self.view().members.is_empty() => Err(Dropped::NoEndpoints),
                Err(_) => Err(Dropped::Expired),
            }
        }
    }

    /// Takes a place in the queue; `None` if there is no room.
    fn line_up(
        self: &Arc<Self>,
        Request { mut asked, prompt_tokens, .. }: Request,
        sender: oneshot::Sender<Result<Turn, Dropped>>,
    ) -> Option<Waiter> {
        let turnstile = &self.turnstile;
        let mut line = turnstile.lock();
        asked.arrived = line.began.elapsed();
        asked.cost = turnstile.settings.weights.service(prompt_tokens, line.answer_tokens as u64);
        let Pushed { place, driven_out } = line.queue.push(asked, &turnstile.settings, sender);
        turnstile.count(&line);
        drop(line);
        for waiter in driven_out {
            // One that has just left has nothing to be told.
            drop(waiter.send(Err(Dropped::DrivenOut)));
        }
        place.map(|place| Waiter { pool: Arc::clone(self), place })
    }

    /// Takes those out of the queue for whom there is room.
    fn take_turns(self: &Arc<Self>) -> Vec<(oneshot::Sender<Result<Turn, Dropped>>, Turn)> {
        let turnstile = &self.turnstile;
        let mut line = turnstile.lock();
        let mut passing = Vec::new();
        loop {
            // Like one that enters, it counts before it looks: of two who do so at the same time one sees the other.
            turnstile.given.fetch_add(1, Ordering::SeqCst);
            let Some((served, waiter)) = line.queue.pop_within(self.room_beside(1), &turnstile.settings) else { break };
            let turn = Turn { pool: Arc::clone(self), served: Some(served), prompt_tokens: 0, is_pending: true };
            passing.push((waiter, turn));
        }
        turnstile.given.fetch_sub(1, Ordering::SeqCst);
        turnstile.count(&line);
        passing
    }

    /// Lets all pass from now on: the pool is gone.
    pub(crate) fn close(self: &Arc<Self>) {
        self.turnstile.closed.store(true, Ordering::SeqCst);
        self.let_pass();
    }

    /// Returns the room that there is, but for turns that were given; so many of those are the asker's own.
    fn room_beside(&self, own: usize) -> Room {
        if self.turnstile.closed.load(Ordering::SeqCst) {
            return Room::UNBOUNDED;
        }
        // A turn that is given up for a lease between the two looks is counted twice, and never not at all.
        let given = self.turnstile.given.load(Ordering::SeqCst);
        self.view().room_for_turns(&self.turnstile.settings).less(given.saturating_sub(own))
    }
}

impl Turn {
    /// Gives a turn to a request that has not waited; it counts from now on.
    fn give(pool: &Arc<Pool>) -> Self {
        pool.turnstile.given.fetch_add(1, Ordering::SeqCst);
        Self { pool: Arc::clone(pool), served: None, prompt_tokens: 0, is_pending: true }
    }

    fn for_prompt(mut self, tokens: u64) -> Self {
        self.prompt_tokens = tokens;
        self
    }

    /// Notes that an endpoint is reserved, which counts from now on.
    pub fn note_reserved(&mut self) {
        if std::mem::take(&mut self.is_pending) {
            self.pool.turnstile.given.fetch_sub(1, Ordering::SeqCst);
            // Both were counted for a moment, in which a lease may have ended and let nobody pass.
            self.pool.let_pass();
        }
    }

    /// Settles what the request has used.
    pub fn settle(mut self, prompt_tokens: u64, answer_tokens: u64) {
        let Some(served) = self.served.take() else { return };
        let turnstile = &self.pool.turnstile;
        let used = turnstile.settings.weights.service(prompt_tokens.max(self.prompt_tokens), answer_tokens);
        let mut line = turnstile.lock();
        line.queue.settle(served, used);
        line.answer_tokens = line.answer_tokens * FADE + answer_tokens as f64 * (1.0 - FADE);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(served) = self.served.take() {
            self.pool.turnstile.lock().queue.settle(served, served.charged);
        }
        self.note_reserved();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let turnstile = &self.pool.turnstile;
        let mut line = turnstile.lock();
        // One whose turn came is out already; its turn is dropped with the channel.
        let sender = line.queue.cancel(self.place);
        turnstile.count(&line);
        drop((line, sender));
    }
}

impl Default for Waiting {
    fn default() -> Self {
        let queue = FlowQueue::default();
        Self { queue, began: Instant::now(), answer_tokens: ANSWER_TOKENS, sessions: RecentSessions::default() }
    }
}

impl fmt::Debug for Turnstile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turnstile").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Turn").field("pool", &self.pool.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
