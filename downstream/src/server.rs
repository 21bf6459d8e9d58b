//! Serves connections, from their first byte to their last.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::budget::{Budget, Charge, Exhausted};
use crate::connection::Connection;
use crate::limits::Limits;
use crate::progress::Progress;
use crate::service::{Refusal, Refused, Service};
use crate::stream::{BEGINNING, Metered, Stream};
use crate::tls::{ChooseTls, NoTls, Tls, handshake};
use crate::{http1, http2};

/// How an HTTP/2 connection begins (RFC 9113, section 3.4); no request of HTTP/1.1 begins so.
const PREFACE: &[u8; BEGINNING] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the connections of one port have in common on one thread.
pub struct Server<S> {
    /// What answers their requests.
    pub service: Rc<S>,
    /// What their clients are allowed.
    pub limits: Limits,
    /// The bytes that all requests of the process may hold.
    pub budget: Budget,
    /// What TLS handshakes are done with; `None` for a port without TLS.
    pub tls: Option<Rc<dyn ChooseTls>>,
    /// Cancelled when the port closes: idle connections end at once, running requests in their own time, and none
    /// begins after them.
    pub closing: CancellationToken,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl<S: Service> Server<S> {
    /// Serves one connection to its end.
    ///
    /// It must be polled on a thread with a tokio runtime and its timers. Dropping the future ends the connection, and
    /// with it all its requests.
    pub async fn serve<T>(self: Rc<Self>, socket: T, peer: SocketAddr, local: SocketAddr)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let closing = self.closing.clone();
        let progress = Progress::new(&self.budget);
        let begun = tokio::select! {
            // In a box: who has begun needs no room for it.
            begun = Box::pin(self.begin(socket, Rc::clone(&progress))) => begun,
            // A client that has not begun when the port closes is not waited for.
            () = closing.cancelled() => return,
        };
        match begun {
            Ok((stream, tls, protocol)) => {
                let connection = self.connection((peer, local), tls, progress);
                // In boxes: a connection has room for the version that it speaks, and none for both before it says so.
                match protocol {
                    Protocol::Http1 => Box::pin(http1::serve(self, stream, connection)).await,
                    Protocol::Http2 => Box::pin(http2::serve(self, stream, connection)).await,
                }
            }
            Err(NoTls::Left) => debug!(%peer, "client left before it sent anything"),
            Err(NoTls::Refused(why)) => {
                let connection = self.connection((peer, local), None, progress);
                self.service.refuse(&connection, &Refused { why, head: None });
            }
        }
    }

    fn connection(
        &self,
        addresses: (SocketAddr, SocketAddr),
        tls: Option<Tls>,
        progress: Rc<Progress>,
    ) -> Rc<Connection> {
        Connection::new(addresses, tls, progress, (self.budget.clone(), self.limits.connection_bytes))
    }

    /// Brings a connection to where HTTP begins.
    async fn begin<T>(&self, socket: T, progress: Rc<Progress>) -> Result<(Stream<T>, Option<Tls>, Protocol), NoTls>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.limits.head_time;
        match &self.tls {
            Some(chooser) => {
                let shaken = timeout(limit, handshake(socket, progress, &**chooser));
                let (stream, tls) = shaken.await.unwrap_or(Err(NoTls::Refused(Refusal::Handshake)))?;
                let protocol = if tls.protocol.as_deref() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
                Ok((Stream::tls(stream), Some(tls), protocol))
            }
            None => {
                let mut socket = Metered::new(socket, progress);
                // Who takes too long is left to HTTP/1.1, which answers with 408 at once.
                let protocol = timeout(limit, recognize(&mut socket)).await.unwrap_or(Some(Protocol::Http1));
                Ok((Stream::plain(socket), None, protocol.ok_or(NoTls::Left)?))
            }
        }
    }
}

/// Reads the beginning of a connection until it is known to be the preface or not; `None` if the client has left.
async fn recognize<T: AsyncRead + Unpin>(socket: &mut Metered<T>) -> Option<Protocol> {
    loop {
        if !socket.look().await.unwrap_or(false) {
            return if socket.beginning().is_empty() { None } else { Some(Protocol::Http1) };
        }
        let beginning = socket.beginning();
        if beginning == PREFACE {
            return Some(Protocol::Http2);
        }
        if !PREFACE.starts_with(beginning) {
            return Some(Protocol::Http1);
        }
    }
}

/// Takes what a connection may hold of a body that nobody has read yet: no more than the client may send ahead.
pub(crate) fn room(connection: &Rc<Connection>, announced: Option<u64>, ahead: usize) -> Result<Charge, Exhausted> {
    let announced = announced.map_or(ahead, |length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut charge = connection.charge();
    charge.grow(announced.min(ahead))?;
    Ok(charge)
}

/// Takes what a head costs beyond what every request may.
pub(crate) fn head_room(connection: &Rc<Connection>, cost: usize) -> Result<Option<Charge>, Exhausted> {
    /// Heads of up to so many bytes are not counted.
    const FREE: usize = 4 << 10;
    if cost <= FREE {
        return Ok(None);
    }
    let mut charge = connection.charge();
    charge.grow(cost)?;
    Ok(Some(charge))
}
