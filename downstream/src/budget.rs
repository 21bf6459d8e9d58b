//! A budget of bytes that all requests of the process share, and what one of them has taken of it.
//!
//! What is counted is what is really held, or what the router has granted a client to send: never what a client says
//! that it will send.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

use crate::connection::Connection;

/// The bytes that requests of all connections of the process may hold together. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// The budget of the process, or that of one connection, has no room.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the memory for requests is used up")]
pub struct Exhausted;

/// Bytes that were taken of a budget; they are given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    /// The connection that they count for as well.
    connection: Option<Rc<Connection>>,
    bytes: usize,
}

impl Budget {
    /// Makes a budget of as many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// Returns the bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Returns the bytes that may be taken.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Returns a charge of nothing, which may grow.
    #[must_use]
    pub fn charge(&self) -> Charge {
        Charge { budget: self.clone(), connection: None, bytes: 0 }
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.0.limit {
            self.give_back(bytes);
            return Err(Exhausted);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Charge {
    /// Returns a charge of nothing that counts for a connection as well.
    pub(crate) fn of(connection: Rc<Connection>) -> Self {
        Self { budget: connection.budget().clone(), connection: Some(connection), bytes: 0 }
    }

    /// Returns a charge of nothing for the same budget and the same connection, which may grow.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { budget: self.budget.clone(), connection: self.connection.clone(), bytes: 0 }
    }

    /// Takes more bytes.
    ///
    /// # Errors
    ///
    /// Returns an error, and takes nothing, when the process or the connection has no room for so many.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if let Some(connection) = &self.connection {
            connection.take(bytes)?;
        }
        if let Err(exhausted) = self.budget.take(bytes) {
            if let Some(connection) = &self.connection {
                connection.give_back(bytes);
            }
            return Err(exhausted);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives bytes back before the charge ends; no more than it has.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.give_back(bytes);
        if let Some(connection) = &self.connection {
            connection.give_back(bytes);
        }
    }

    /// Returns the bytes that it has taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shrink(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_the_limit_holds() {
        let budget = Budget::new(100);
        let mut one = budget.charge();
        let mut two = budget.clone().charge();
        assert_eq!(one.grow(60), Ok(()));
        assert_eq!(two.grow(41), Err(Exhausted));
        assert_eq!((budget.used(), two.bytes()), (60, 0), "a refused charge takes nothing");
        assert_eq!(two.beside().grow(41), Err(Exhausted), "it is the same budget");
        assert_eq!(two.grow(40), Ok(()));
        one.shrink(1000);
        assert_eq!((budget.used(), one.bytes()), (40, 0));
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
