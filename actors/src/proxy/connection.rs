//! Cuts off connections whose client does not get to its next request.
//!
//! The HTTP server gives a connection's first request head a time limit, and none to the further ones: a client that has
//! had one answer could hold its connection with half a head for ever. Here a connection on which no request is in
//! flight has the time of an idle connection and then that of a head.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpStream as Socket};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use kthena_router::config::LimitConfig;
use tokio::time::sleep;
use tracing::debug;

/// One client connection, as its requests see it.
pub(super) struct Connection {
    socket: Socket,
    in_flight: Cell<u32>,
    quiet_since: Cell<Instant>,
}

/// Starts to watch a connection that was accepted on this thread; its requests find it among the connection's data.
pub fn watch(io: &dyn Any, data: &mut Extensions, limits: &LimitConfig) {
    let plain = io.downcast_ref::<TcpStream>();
    let Some(stream) = plain.or_else(|| io.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0)) else {
        return;
    };
    let Ok(socket) = duplicate(stream) else { return };
    let connection = Connection { socket, in_flight: Cell::new(0), quiet_since: Cell::new(Instant::now()) };
    let connection = Rc::new(connection);
    actix::spawn(cut_off(Rc::downgrade(&connection), limits.client_keep_alive + limits.client_timeout));
    data.insert(connection);
}

impl Connection {
    /// Notes that a request has come.
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Notes that a request has ended.
    pub(super) fn end(&self, now: Instant) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.quiet_since.set(now);
    }

    /// Returns how much is left of `patience`; nothing once it is over.
    fn left(&self, patience: Duration) -> Option<Duration> {
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
            if let Err(error) = open.socket.shutdown(Shutdown::Both) {
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
