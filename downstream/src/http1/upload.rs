//! The body of a request that is still to come, between the connection that reads it and the service that asks for it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::incoming::ReadError;

/// A body that is still to come. Nothing of it is read before it is asked for.
#[derive(Debug)]
pub(crate) struct Upload(RefCell<State>);

#[derive(Debug)]
struct State {
    next: Next,
    /// Who waits for the next piece.
    reader: Option<Waker>,
    /// Who reads it.
    connection: Waker,
    /// Whether the connection is done with it.
    is_abandoned: bool,
}

#[derive(Debug)]
enum Next {
    /// Nobody has asked for more.
    Unasked,
    /// More was asked for, and nothing has come.
    Asked,
    /// A piece that was asked for; whether it is the last.
    Piece(Bytes, bool),
    /// Why no more comes; `None` at the end.
    Over(Option<ReadError>),
}

impl Upload {
    /// Makes a body of which nothing was asked for, of the connection whose task has this waker.
    pub(super) fn new(connection: &Waker) -> Rc<Self> {
        let connection = connection.clone();
        Rc::new(Self(RefCell::new(State { next: Next::Unasked, reader: None, connection, is_abandoned: false })))
    }

    /// Returns whether more is asked for than there is.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.0.borrow().next, Next::Asked)
    }

    /// Returns whether all of it was given to its reader, or nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.0.borrow().next, Next::Over(_) | Next::Piece(_, true))
    }

    /// Gives the reader a piece; returns whether the reader has the task of this context, and so is to be asked again.
    pub(super) fn give(&self, piece: Bytes, is_last: bool, context: &Context<'_>) -> bool {
        self.set(Next::Piece(piece, is_last), context)
    }

    /// Ends the body; returns what [`give`](Self::give) does.
    pub(super) fn end(&self, why: Option<ReadError>, context: &Context<'_>) -> bool {
        self.set(Next::Over(why), context)
    }

    /// Ends the body because its connection is done with it.
    pub(super) fn abandon(&self) {
        let mut state = self.0.borrow_mut();
        state.is_abandoned = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn set(&self, next: Next, context: &Context<'_>) -> bool {
        let mut state = self.0.borrow_mut();
        state.next = next;
        state.connection.clone_from(context.waker());
        let Some(reader) = state.reader.take() else { return false };
        drop(state);
        let is_here = reader.will_wake(context.waker());
        if !is_here {
            reader.wake();
        }
        is_here
    }

    /// Returns the next piece, and asks for it if it is not there.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        let mut state = self.0.borrow_mut();
        match std::mem::replace(&mut state.next, Next::Asked) {
            Next::Piece(piece, is_last) => {
                state.next = if is_last { Next::Over(None) } else { Next::Unasked };
                Poll::Ready(Some(Ok(piece)))
            }
            Next::Over(why) => {
                state.next = Next::Over(None);
                Poll::Ready(why.map(Err))
            }
            Next::Unasked | Next::Asked if state.is_abandoned => {
                state.next = Next::Over(None);
                let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
                Poll::Ready(Some(Err(ReadError::Broken(gone.into()))))
            }
            before @ (Next::Unasked | Next::Asked) => {
                match &mut state.reader {
                    Some(reader) => reader.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                // The connection looks when it has asked the service.
                if matches!(before, Next::Unasked) && !state.connection.will_wake(context.waker()) {
                    state.connection.wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}
