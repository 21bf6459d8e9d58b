//! What a connection is doing and since when, as its transport and its requests note it.
//!
//! One deadline follows from it at every moment, so that a connection has one timer, which is seldom set anew.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::budget::{Budget, Charge};
use crate::limits::Limits;

/// Bytes that are read in one turn of a connection; then others have theirs.
const TURN_BYTES: usize = 128 << 10;
/// Requests that are begun in one turn of a connection.
const TURN_REQUESTS: u32 = 4;
/// Bytes of a head that are not counted: every connection may have so many.
const FREE_HEAD: usize = 8 << 10;

/// What a connection is doing and since when.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    in_flight: Cell<u32>,
    /// Since when nothing could be written of what is to be written.
    stalled: Cell<Option<Instant>>,
    turn_bytes: Cell<usize>,
    turn_requests: Cell<u32>,
    head_bytes: Cell<usize>,
    head_charge: RefCell<Charge>,
}

/// What a connection without a request in flight is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client has sent a part of a head, or nothing yet on a fresh connection.
    Head,
    /// The client has had its answers, and has sent nothing since.
    Idle,
    /// HTTP/2, of which heads cannot be told from other frames: the client has no request in flight.
    Quiet,
    /// The connection has changed its protocol, and is somebody else's.
    Upgraded,
}

/// What a client was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The head of a request.
    Head,
    /// The next request.
    Request,
    /// An answer, to read any of it.
    Reading,
}

/// A request in flight, from its head to the end of its answer.
#[derive(Debug)]
pub(crate) struct InFlight(Rc<Progress>);

/// Has a task whose turn is over run again after all others, and after the thread has looked at its sockets. One that wakes
/// itself goes before those: a `LocalSet` of tokio 1.54 has 61 turns between two looks.
pub(crate) fn yield_turn(context: &mut Context<'_>) {
    // The runtime keeps what wakes the task.
    let _ = pin!(yield_now()).poll(context);
}

impl Progress {
    /// Begins with a connection of which nothing has been read.
    pub(crate) fn new(budget: &Budget) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Head),
            since: Cell::new(Instant::now()),
            in_flight: Cell::new(0),
            stalled: Cell::new(None),
            turn_bytes: Cell::new(0),
            turn_requests: Cell::new(0),
            head_bytes: Cell::new(0),
            head_charge: RefCell::new(budget.charge()),
        })
    }

    /// Notes that the connection has a turn on its thread.
    pub(crate) fn begin_turn(&self) {
        self.turn_bytes.set(0);
        self.turn_requests.set(0);
    }

    /// Does something with the connection, which has a turn whenever it goes on.
    pub(crate) async fn in_turns<F: Future>(&self, doing: F) -> F::Output {
        let mut doing = pin!(doing);
        poll_fn(|context| {
            self.begin_turn();
            doing.as_mut().poll(context)
        })
        .await
    }

    /// Returns whether more may be read in this turn.
    pub(crate) fn may_read(&self) -> bool {
        self.turn_bytes.get() < TURN_BYTES || self.phase.get() == Phase::Upgraded
    }

    /// Returns whether no more requests are begun in this turn.
    pub(crate) fn is_turn_over(&self) -> bool {
        self.turn_requests.get() >= TURN_REQUESTS
    }

    /// Notes what was read.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no memory for so large a head.
    pub(crate) fn note_read(&self, bytes: usize) -> io::Result<()> {
        self.turn_bytes.set(self.turn_bytes.get() + bytes);
        if bytes == 0 || self.in_flight.get() > 0 {
            return Ok(());
        }
        match self.phase.get() {
            Phase::Quiet | Phase::Upgraded => return Ok(()),
            Phase::Head => {}
            Phase::Idle => {
                self.phase.set(Phase::Head);
                self.since.set(Instant::now());
            }
        }
        let head = self.head_bytes.get() + bytes;
        self.head_bytes.set(head);
        if head > FREE_HEAD {
            self.head_charge.borrow_mut().grow(bytes).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Notes that a part of a head is there, which may have come before the request before it had ended.
    pub(crate) fn begin_head(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
        }
    }

    /// Notes whether a write had to wait.
    pub(crate) fn note_write(&self, has_stalled: bool) {
        match (has_stalled, self.stalled.get()) {
            (true, None) => self.stalled.set(Some(Instant::now())),
            (false, Some(_)) => self.stalled.set(None),
            _ => {}
        }
    }

    /// Notes that a request's head is there.
    pub(crate) fn begin_request(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.turn_requests.set(self.turn_requests.get() + 1);
        if self.head_bytes.take() > FREE_HEAD {
            let mut charge = self.head_charge.borrow_mut();
            let held = charge.bytes();
            charge.shrink(held);
        }
        InFlight(Rc::clone(self))
    }

    /// Notes that the connection speaks HTTP/2.
    pub(crate) fn become_http2(&self) {
        self.phase.set(Phase::Quiet);
        self.since.set(Instant::now());
    }

    /// Notes that the connection is no longer HTTP.
    pub(crate) fn become_upgraded(&self) {
        self.phase.set(Phase::Upgraded);
    }

    /// Returns when the last request ended, or the connection began.
    pub(crate) fn quiet_since(&self) -> Instant {
        self.since.get()
    }

    /// Returns when the client will have been too slow, and for what; `None` while it is not its turn.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        if let Some(since) = self.stalled.get() {
            return Some((since + limits.write_stall, Overdue::Reading));
        }
        if self.in_flight.get() > 0 {
            return None;
        }
        let since = self.since.get();
        match self.phase.get() {
            Phase::Head => Some((since + limits.head_time, Overdue::Head)),
            Phase::Idle | Phase::Quiet => Some((since + limits.keep_alive, Overdue::Request)),
            Phase::Upgraded => None,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let progress = &self.0;
        let in_flight = progress.in_flight.get() - 1;
        progress.in_flight.set(in_flight);
        if in_flight == 0 {
            progress.since.set(Instant::now());
            if progress.phase.get() == Phase::Head {
                progress.phase.set(Phase::Idle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[tokio::test]
    async fn sockets_are_looked_at_between_the_turns_of_a_task_that_is_never_done() {
        let tasks = LocalSet::new();
        let read = tasks.run_until(async {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let turns = Rc::new(Cell::new(0));
            let counted = Rc::clone(&turns);
            let busy = spawn_local(poll_fn(move |context| {
                counted.set(counted.get() + 1);
                yield_turn(context);
                Poll::<()>::Pending
            }));
            far.write_all(b"x").await.unwrap();
            let before = turns.get();
            near.read_u8().await.unwrap();
            busy.abort();
            turns.get() - before
        });
        let turns = read.await;
        assert!(turns <= 2, "{turns} turns before the socket is read");
    }
}
