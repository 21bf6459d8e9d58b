//! Connections that wait for their next request, by endpoint.
//!
//! The one that was used last is used next, so that those that are too many grow old and go.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared, WeakShared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ask::{Keeping, Together};
use super::connect::{DialError, Dialed};
use super::error::{Progress, Stage};
use super::http1::Connection;
use super::http2::Session;
use super::timer::Timers;
use super::{Peer, Transport};

/// The time between two looks at what is idle.
const TICK: Duration = Duration::from_millis(500);
/// So many ticks are a second.
const TICKS_PER_SECOND: u64 = 2;
/// For how many ticks an idle connection is kept: 3.5 s to 4 s, less than the 5 s after which uvicorn, in front of vLLM
/// and SGLang, closes it.
const KEPT_TICKS: u64 = 8;
/// For how many ticks an idle connection takes a request that may be sent once only: 0.5 s to 1 s. The longer it was idle,
/// the likelier its backend closes it at the very moment, and such a request would be lost.
const FRESH_TICKS: u64 = 2;

/// The connections of one client.
pub(super) struct Pool {
    slots: RefCell<HashMap<Peer, Rc<Slot>>>,
    clock: Clock,
    crowds: Crowds,
    /// The timers of attempts.
    pub timers: Timers,
}

/// Counts ticks: the age of connections is wanted so often that asking for the time would be felt.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Rc<Cell<u64>>);

/// How many connections wait over the peers that belong together, by what they have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowds(Rc<RefCell<HashMap<u64, Rc<Cell<usize>>>>>);

/// A place among the connections that wait; it is given back with the connection.
struct Waiting(Rc<Cell<usize>>);

/// The connections to one peer.
pub(super) struct Slot {
    peer: Peer,
    clock: Clock,
    crowds: Crowds,
    /// Those that its connections are counted among.
    crowd: RefCell<Option<(u64, Rc<Cell<usize>>)>>,
    idle: RefCell<Vec<Idle>>,
    sessions: RefCell<Vec<Session>>,
    multiplexed: Cell<bool>,
    dialing: RefCell<Option<Dialing>>,
    keeping: Cell<Keeping>,
    /// The places for requests, where those are limited, and how many there are.
    places: RefCell<Option<(usize, Arc<Semaphore>)>>,
}

/// A connection that is being made.
struct Dialing {
    session: WeakShared<Dial>,
    stage: Rc<Cell<Stage>>,
}

struct Idle {
    connection: Box<Connection>,
    since: u64,
    _waiting: Option<Waiting>,
}

impl Idle {
    /// Returns whether it has waited for so many ticks, or for as long as its peer keeps it, as far as that is known:
    /// half a second less, in which a request reaches the peer.
    fn is_old(&self, clock: &Clock, ticks: u64) -> bool {
        let kept = self.connection.kept_for().map(|seconds| seconds.saturating_mul(TICKS_PER_SECOND).saturating_sub(1));
        clock.is_over(self.since, kept.map_or(ticks, |kept| kept.min(ticks)))
    }
}

type Dial = LocalBoxFuture<'static, Result<Session, DialError>>;

impl Clock {
    /// Returns the number of the current tick.
    pub(super) fn now(&self) -> u64 {
        self.0.get()
    }

    /// Returns whether so many ticks have passed.
    fn is_over(&self, since: u64, ticks: u64) -> bool {
        self.now().saturating_sub(since) >= ticks
    }
}

impl Crowds {
    fn find(&self, key: u64) -> Rc<Cell<usize>> {
        Rc::clone(self.0.borrow_mut().entry(key).or_default())
    }

    /// Forgets those that no peer belongs to.
    fn tidy(&self) {
        self.0.borrow_mut().retain(|_, count| Rc::strong_count(count) > 1);
    }
}

impl Waiting {
    /// Takes a place, if there is one.
    fn among(count: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(Rc::clone(count))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    /// Makes an empty pool that looks after its connections for as long as it is in use.
    pub(super) fn start() -> Rc<Self> {
        let (clock, crowds, timers) = (Clock::default(), Crowds::default(), Timers::default());
        let pool = Rc::new(Self { slots: RefCell::new(HashMap::new()), clock, crowds, timers });
        let weak = Rc::downgrade(&pool);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let Some(pool) = weak.upgrade() else { return };
                pool.tick();
            }
        });
        pool
    }

    /// Returns the connections to a peer.
    pub(super) fn slot(&self, peer: &Peer) -> Rc<Slot> {
        if let Some(slot) = self.slots.borrow().get(peer) {
            return Rc::clone(slot);
        }
        let slot = Rc::new(Slot::new(peer.clone(), self.clock.clone(), self.crowds.clone()));
        self.slots.borrow_mut().insert(peer.clone(), Rc::clone(&slot));
        slot
    }

    fn tick(&self) {
        self.clock.0.set(self.clock.now() + 1);
        self.slots.borrow_mut().retain(|_, slot| {
            slot.close_old();
            // A slot that a request holds gets its connection back.
            Rc::strong_count(slot) > 1 || !slot.is_empty()
        });
        self.crowds.tidy();
    }
}

impl Slot {
    pub(super) fn new(peer: Peer, clock: Clock, crowds: Crowds) -> Self {
        let multiplexed = Cell::new(peer.transport == Transport::H2c);
        Self {
            peer,
            clock,
            crowds,
            crowd: RefCell::default(),
            idle: RefCell::default(),
            sessions: RefCell::default(),
            multiplexed,
            dialing: RefCell::default(),
            keeping: Cell::default(),
            places: RefCell::default(),
        }
    }

    /// Keeps connections as a request wants it, and waits for the place that it needs, if they are limited.
    pub(super) async fn keep(&self, keeping: Keeping, progress: &Progress) -> Option<OwnedSemaphorePermit> {
        self.keeping.set(keeping);
        if let Some(Together { key, .. }) = keeping.together {
            let mut crowd = self.crowd.borrow_mut();
            if crowd.as_ref().is_none_or(|(known, _)| *known != key) {
                *crowd = Some((key, self.crowds.find(key)));
            }
        }
        let most = keeping.most_active.filter(|_| !self.is_multiplexed())?;
        let places = {
            let mut places = self.places.borrow_mut();
            match &*places {
                Some((known, places)) if *known == most => Arc::clone(places),
                // Requests that have a place of the former ones give it back to them.
                _ => Arc::clone(&places.insert((most, Arc::new(Semaphore::new(most)))).1),
            }
        };
        progress.follow(&Rc::new(Cell::new(Stage::Connect)));
        let place = places.acquire_owned().await.ok();
        progress.note_connected();
        place
    }

    /// Returns for how many ticks a connection waits for its next request.
    fn kept_ticks(&self) -> u64 {
        let ticks = |limit: Duration| u64::try_from(limit.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).max(1);
        self.keeping.get().idle_timeout.map_or(KEPT_TICKS, ticks)
    }

    /// Returns whom the connections lead to.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the clock that connections are aged by.
    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Returns whether the peer is known to speak HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// Takes a connection that is there already and can carry a request; one that may be sent once only is not put on
    /// an HTTP/1.1 connection that was idle for long. For one that is repeated where such a connection has ended, the kernel
    /// is not asked whether it has.
    pub(super) fn take_kept(&self, once_only: bool, is_repeated: bool) -> Option<Dialed> {
        let ticks = if once_only { FRESH_TICKS.min(self.kept_ticks()) } else { self.kept_ticks() };
        match self.take_idle(ticks, !is_repeated) {
            Some(connection) => Some(Dialed::Http1(connection)),
            None => self.free_session().map(Dialed::Http2),
        }
    }

    /// Takes the connection that was used last, if that is not so many ticks ago; those that have ended are dropped.
    fn take_idle(&self, ticks: u64, asks_kernel: bool) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let mut last = idle.pop_if(|idle| !idle.is_old(&self.clock, ticks))?;
            if last.connection.is_quiet(asks_kernel) {
                return Some(last.connection);
            }
        }
    }

    /// Closes all connections that wait: one of them has turned out to be closed by the peer, and they are as old.
    pub(super) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Gives a connection back whose answer was read to its end.
    pub(super) fn give_back(&self, connection: Box<Connection>) {
        let (mut idle, keeping) = (self.idle.borrow_mut(), self.keeping.get());
        if keeping.most_idle.is_some_and(|most| idle.len() >= most) {
            return;
        }
        let mut waiting = None;
        if let (Some(Together { most, .. }), Some((_, count))) = (keeping.together, &*self.crowd.borrow()) {
            let Some(place) = Waiting::among(count, most) else { return };
            waiting = Some(place);
        }
        idle.push(Idle { connection, since: self.clock.now(), _waiting: waiting });
    }

    /// Returns a connection that can take one more request; those that have ended are dropped.
    pub(super) fn free_session(&self) -> Option<Session> {
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(Session::is_open);
        sessions.iter().find(|session| session.has_room()).cloned()
    }

    /// Adds a connection that takes many requests.
    pub(super) fn add_session(&self, session: Session) {
        self.multiplexed.set(true);
        self.sessions.borrow_mut().push(session);
    }

    /// Connects once for all that want to at the same time.
    pub(super) async fn join_dial<D>(
        self: &Rc<Self>,
        progress: &Progress,
        dial: impl FnOnce(Rc<Cell<Stage>>) -> D,
    ) -> Result<Session, DialError>
    where
        D: Future<Output = Result<Session, DialError>> + 'static,
    {
        let joined = self.dialing.borrow().as_ref().and_then(|dialing| {
            let session = dialing.session.upgrade().filter(|session| session.peek().is_none())?;
            progress.follow(&dialing.stage);
            Some(session)
        });
        let session = joined.unwrap_or_else(|| {
            let stage = Rc::new(Cell::new(Stage::Connect));
            progress.follow(&stage);
            let session = self.share(dial(Rc::clone(&stage)));
            *self.dialing.borrow_mut() = session.downgrade().map(|session| Dialing { session, stage });
            session
        });
        session.await
    }

    fn share(self: &Rc<Self>, dial: impl Future<Output = Result<Session, DialError>> + 'static) -> Shared<Dial> {
        let slot = Rc::downgrade(self);
        let shared = async move {
            let session = dial.await?;
            if let Some(slot) = slot.upgrade() {
                slot.add_session(session.clone());
            }
            Ok(session)
        };
        shared.boxed_local().shared()
    }

    fn close_old(&self) {
        let (mut idle, ticks) = (self.idle.borrow_mut(), self.kept_ticks());
        let old = idle.iter().take_while(|idle| idle.is_old(&self.clock, ticks)).count();
        idle.drain(..old);
        let is_kept = |session: &Session| {
            session.is_open() && session.idle_since().is_none_or(|since| !self.clock.is_over(since, ticks))
        };
        self.sessions.borrow_mut().retain(is_kept);
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.sessions.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests;
