//! Makes connections.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::error::Stage;
use super::http1::Connection;
use super::http2::Session;
use super::pool::Clock;
use super::stream::Stream;
use super::{Peer, Transport};

/// What ALPN calls HTTP/2.
const H2: &[u8] = b"h2";
/// After this time in silence, and then as often, the other side's kernel is asked whether it is still there: an answer
/// may take minutes to begin, and a node that is gone says nothing.
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// For so long the other side's kernel may leave probes, and what is sent, without an answer.
#[cfg(target_os = "linux")]
const GONE_AFTER: Duration = Duration::from_secs(60);

/// A connection that was just made.
pub(super) enum Dialed {
    /// One request at a time.
    Http1(Box<Connection>),
    /// Many requests at once.
    Http2(Session),
}

/// Why no connection is there, to all who wait for it.
#[derive(Clone, Debug)]
pub(super) enum DialError {
    /// The endpoint cannot be reached.
    Connect(Arc<io::Error>),
    /// It can, and does not agree on TLS or HTTP/2.
    Handshake(Arc<io::Error>),
}

/// Connects to a peer within `limit`, and agrees on TLS and HTTP/2 within as much; `stage` shows how far it is.
pub(super) async fn dial(peer: &Peer, limit: Duration, clock: Clock, stage: &Cell<Stage>) -> Result<Dialed, DialError> {
    let connecting = within(Instant::now() + limit, connect(peer));
    let stream = connecting.await.map_err(|error| DialError::Connect(Arc::new(error)))?;
    stage.set(Stage::Handshake);
    let greeting = greet(peer, stream, clock, Instant::now() + limit);
    greeting.await.map_err(|error| DialError::Handshake(Arc::new(error)))
}

/// Connects to a peer that is known to speak HTTP/2.
pub(super) async fn dial_session(
    peer: Peer,
    limit: Duration,
    clock: Clock,
    stage: Rc<Cell<Stage>>,
) -> Result<Session, DialError> {
    match dial(&peer, limit, clock, &stage).await? {
        Dialed::Http2(session) => Ok(session),
        Dialed::Http1(_) => {
            Err(DialError::Handshake(Arc::new(io::Error::other("the endpoint no longer speaks HTTP/2"))))
        }
    }
}

pub(super) async fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(peer.address).await?;
    // Otherwise the last part of a large body waits for the acknowledgement of what precedes it.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GONE_AFTER))?;
    Ok(stream)
}

async fn greet(peer: &Peer, stream: TcpStream, clock: Clock, deadline: Instant) -> io::Result<Dialed> {
    match &peer.transport {
        Transport::Http1 => Ok(Dialed::Http1(Connection::new(Stream::Plain(stream)))),
        Transport::H2c => Session::start(Stream::Plain(stream), clock, deadline).await.map(Dialed::Http2),
        Transport::Tls(tls) => {
            let connector = TlsConnector::from(Arc::clone(tls.config()));
            let stream = within(deadline, connector.connect(tls.server_name(peer.address.ip()), stream)).await?;
            let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            let stream = Stream::Tls(Box::new(stream));
            if speaks_h2 {
                Session::start(stream, clock, deadline).await.map(Dialed::Http2)
            } else {
                Ok(Dialed::Http1(Connection::new(stream)))
            }
        }
    }
}

async fn within<T>(deadline: Instant, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(deadline, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
