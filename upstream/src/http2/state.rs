//! What is known of an HTTP/2 connection and its streams, outside of the task that serves it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use slab::Slab;

use super::inbox::Inbox;
use super::session::MOST_STREAMS;
use crate::pool::Clock;

/// After so many times that the connection's task ran, it looks for answers that nobody reads.
const RUNS_PER_LOOK: u32 = 4;

/// What is known of a connection.
pub(super) struct State {
    clock: Clock,
    phase: Cell<Phase>,
    streams: RefCell<Slab<Entry>>,
    /// How many streams the backend allows.
    allowed: Cell<usize>,
    idle_since: Cell<u64>,
    /// How often the task ran since it last looked at what nobody reads.
    runs: Cell<u32>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It takes requests, as far as is known.
    Open,
    /// It takes no more requests.
    Closed,
    /// Its task ended without an end of the connection, by a panic for example. What h2 keeps of the connection may be
    /// locked for good: who touches it waits for ever, or panics as well.
    Lost,
}

/// One stream.
#[derive(Default)]
struct Entry {
    /// Whom to wake when the connection is lost; h2 wakes for everything else.
    waker: Option<Waker>,
    inbox: Inbox,
}

/// One of a connection's streams that is in use.
pub(super) struct Occupied {
    state: Rc<State>,
    key: usize,
}

/// Something of h2, which is not touched any more once its connection is lost.
pub(super) struct Fenced<T> {
    inner: Option<T>,
    state: Rc<State>,
}

/// The connection is lost.
#[derive(Debug)]
pub(super) struct Lost;

impl State {
    pub(super) fn new(clock: Clock) -> Self {
        let idle_since = Cell::new(clock.now());
        Self {
            clock,
            phase: Cell::new(Phase::Open),
            streams: RefCell::default(),
            allowed: Cell::default(),
            idle_since,
            runs: Cell::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.borrow().len() < self.allowed.get().min(MOST_STREAMS as usize)
    }

    pub(super) fn idle_since(&self) -> Option<u64> {
        self.streams.borrow().is_empty().then(|| self.idle_since.get())
    }

    /// Notes how many streams the backend allows.
    pub(super) fn allow(&self, streams: usize) {
        self.allowed.set(streams);
    }

    /// Notes that the connection takes no more requests.
    pub(super) fn close(&self) {
        if self.is_open() {
            self.phase.set(Phase::Closed);
        }
    }

    /// Notes that nobody serves the connection any more, and wakes those that wait for it.
    pub(super) fn lose(&self) {
        self.phase.set(Phase::Lost);
        for (_, entry) in self.streams.borrow_mut().iter_mut() {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    /// Gathers the answers that nobody has read since the last look.
    pub(super) fn look(&self) {
        let runs = (self.runs.get() + 1) % RUNS_PER_LOOK;
        self.runs.set(runs);
        if runs == 0 {
            self.streams.borrow_mut().iter_mut().for_each(|(_, entry)| entry.inbox.look());
        }
    }

    fn is_lost(&self) -> bool {
        self.phase.get() == Phase::Lost
    }
}

impl Occupied {
    pub(super) fn new(state: &Rc<State>) -> Self {
        let key = state.streams.borrow_mut().insert(Entry::default());
        Self { state: Rc::clone(state), key }
    }

    /// Puts something of h2 behind a fence.
    pub(super) fn fence<T>(&self, inner: T) -> Fenced<T> {
        Fenced { inner: Some(inner), state: Rc::clone(&self.state) }
    }

    /// Wakes the task when the connection is lost.
    ///
    /// # Errors
    ///
    /// Returns an error when it is lost already.
    pub(super) fn watch(&self, context: &Context<'_>) -> Result<(), Lost> {
        if self.state.is_lost() {
            return Err(Lost);
        }
        let waker = &mut self.state.streams.borrow_mut()[self.key].waker;
        match waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Ok(())
    }

    /// Sets where the answer's body comes from.
    pub(super) fn receive(&self, stream: RecvStream) {
        self.state.streams.borrow_mut()[self.key].inbox = Inbox::new(stream);
    }

    /// Returns the next piece of the answer's body, `None` at its end; the connection must not be lost.
    pub(super) fn poll_data(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        self.state.streams.borrow_mut()[self.key].inbox.poll_data(context)
    }

    /// Returns the trailers behind the answer's body, if there are any; the connection must not be lost.
    pub(super) fn poll_trailers(&self, context: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.state.streams.borrow_mut()[self.key].inbox.poll_trailers(context)
    }

    /// Gives up what is left of the answer.
    pub(super) fn discard(&self) {
        let inbox = std::mem::take(&mut self.state.streams.borrow_mut()[self.key].inbox);
        drop(self.fence(inbox));
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.discard();
        let entry = self.state.streams.borrow_mut().remove(self.key);
        drop(entry);
        self.state.idle_since.set(self.state.clock.now());
    }
}

impl<T> Fenced<T> {
    /// Returns what is behind the fence, which is open unless the connection is lost.
    pub(super) fn inner(&mut self) -> Result<&mut T, Lost> {
        let inner = self.inner.as_mut().filter(|_| !self.state.is_lost());
        inner.ok_or(Lost)
    }
}

impl<T> Drop for Fenced<T> {
    fn drop(&mut self) {
        if self.state.is_lost() {
            std::mem::forget(self.inner.take());
        }
    }
}
