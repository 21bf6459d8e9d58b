//! What is known of a client's connection.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use http::HeaderValue;

use crate::budget::{Budget, Charge, Exhausted};
use crate::progress::Progress;
use crate::tls::Tls;

/// One connection of a client, as its requests see it. It stays on the thread that serves it.
#[derive(Debug)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// What was agreed on in the handshake; `None` without TLS.
    pub tls: Option<Tls>,
    /// The client's address as text.
    client: HeaderValue,
    pub(crate) progress: Rc<Progress>,
    budget: Budget,
    limit: usize,
    held: Cell<usize>,
}

impl Connection {
    pub(crate) fn new(
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<Tls>,
        progress: Rc<Progress>,
        (budget, limit): (Budget, usize),
    ) -> Rc<Self> {
        // Digits, colons and dots are a header's value.
        let client = HeaderValue::try_from(peer.ip().to_canonical().to_string());
        let client = client.unwrap_or(HeaderValue::from_static("unknown"));
        Rc::new(Self { peer, local, tls, client, progress, budget, limit, held: Cell::new(0) })
    }

    /// Returns the client's IP address as text, in its shortest form: it is written into requests and logs.
    #[must_use]
    pub fn client(&self) -> &HeaderValue {
        &self.client
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the server name of the handshake, in lower case; `None` if the client named none.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// Returns a charge of nothing for what a request of this connection holds, which may grow.
    #[must_use]
    pub fn charge(self: &Rc<Self>) -> Charge {
        Charge::of(Rc::clone(self))
    }

    /// Returns the bytes that all requests of the connection hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let held = self.held.get().saturating_add(bytes);
        if held > self.limit {
            return Err(Exhausted);
        }
        self.held.set(held);
        Ok(())
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_version_4_is_told_as_one_whatever_the_socket_says() {
        let budget = Budget::new(0);
        for (peer, client) in [("[::ffff:10.0.0.7]:1", "10.0.0.7"), ("10.0.0.7:1", "10.0.0.7"), ("[::1]:1", "::1")] {
            let addresses = (peer.parse().unwrap(), "127.0.0.1:80".parse().unwrap());
            let connection = Connection::new(addresses, None, Progress::new(&budget), (budget.clone(), 0));
            assert_eq!(connection.client(), client, "{peer}");
        }
    }
}
