//! Observe: asks an actor for a snapshot of its state, typed by what is asked for.

use std::marker::PhantomData;

use actix::Message;

/// Asks for a state of type `S`. It is a question that leaves the thread: ask it with a timeout.
#[derive(Debug)]
pub struct Observe<S>(PhantomData<S>);

impl<S> Observe<S> {
    /// Makes the question.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S> Default for Observe<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: 'static> Message for Observe<S> {
    type Result = S;
}
