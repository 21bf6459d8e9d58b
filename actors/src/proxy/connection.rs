//! What is known of a client's connection, and a watch that cuts it off when its client does not get to its next request.
//!
//! The HTTP server gives a connection's first request head a time limit, and none to the further ones: a client that has
//! had one answer could hold its connection with half a head for ever. Here a connection on which no request is in
//! flight has the time of an idle connection and then that of a head.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream as Socket};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use actix_http::{HttpMessage, Request};
use kthena_router::config::LimitConfig;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tracing::debug;

use crate::listener::ClientStream;

/// One client connection, as its requests see it.
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The server name that the client asked for in its handshake, in lower case.
    pub sni: Option<String>,
    socket: Option<Socket>,
    in_flight: Cell<u32>,
    quiet_since: Cell<Instant>,
}

impl Connection {
    /// Takes a connection that was accepted on this thread, and starts to watch it.
    pub(crate) fn open(stream: &ClientStream, limits: &LimitConfig) -> Rc<Self> {
        let connection = Rc::new(Self {
            peer: stream.peer(),
            is_tls: stream.is_tls(),
            sni: stream.server_name(),
            // Without a second handle the connection is not watched.
            socket: duplicate(stream.socket()).ok(),
            in_flight: Cell::new(0),
            quiet_since: Cell::new(Instant::now()),
        });
        actix::spawn(cut_off(Rc::downgrade(&connection), limits.client_keep_alive + limits.client_timeout));
        connection
    }

    /// Returns the connection that a request came in on.
    pub(crate) fn of(request: &Request) -> Option<Rc<Self>> {
        // HTTP/1.1 keeps it among the connection's data, HTTP/2 gives it to each request.
        request.conn_data::<Rc<Self>>().cloned().or_else(|| request.extensions().get::<Rc<Self>>().cloned())
    }

    /// Notes that a request has come; a connection is not cut off before as many have ended. A tunnel is a request
    /// until it is closed.
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Notes that a request has ended.
    pub(super) fn end(&self, now: Instant) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.quiet_since.set(now);
    }

    /// Returns how much is left of `patience`; nothing once it is over.
    pub(crate) fn left(&self, patience: Duration) -> Option<Duration> {
        if self.in_flight.get() > 0 {
            return Some(patience);
        }
        patience.checked_sub(self.quiet_since.get().elapsed()).filter(|left| !left.is_zero())
    }
}

/// Ends a connection when its client's time is over; the server then closes it like any other that has ended.
async fn cut_off(connection: Weak<Connection>, patience: Duration) {
    while let Some(open) = connection.upgrade() {
        let Some(left) = open.left(patience) else {
            if let Some(Err(error)) = open.socket.as_ref().map(|socket| socket.shutdown(Shutdown::Both)) {
                debug!(%error, "connection has ended by itself");
            }
            return;
        };
        drop(open);
        sleep(left).await;
    }
}

/// Returns a second handle of a socket; the connection's data has it, so that it is closed with the connection.
fn duplicate(stream: &TcpStream) -> io::Result<Socket> {
    stream.as_fd().try_clone_to_owned().map(Socket::from)
}
