//! The client over connections in memory, for programs that try it with hostile bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::time::Instant;

use crate::connect::{DialError, Dialed};
use crate::error::Progress;
use crate::http1::Connection;
use crate::http2::Session;
use crate::pool::{Clock, Crowds, Slot};
use crate::stream::Stream;
use crate::{Answer, Ask, AttemptError, Client, Failure, Peer, Transport};

/// For how long a backend may take to greet in HTTP/2.
const GREETING: Duration = Duration::from_secs(5);

/// Sends a request on a fresh connection, over HTTP/2 or HTTP/1.1.
///
/// # Errors
///
/// As [`Client::send`] does.
pub async fn send(stream: DuplexStream, is_http2: bool, ask: &mut Ask<'_>) -> Result<Box<Answer>, Failure> {
    let transport = if is_http2 { Transport::H2c } else { Transport::Http1 };
    let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), transport };
    let slot = Rc::new(Slot::new(peer, Clock::default(), Crowds::default()));
    let progress = Progress::default();
    let stream = Stream::Memory(stream);
    let dialed = if is_http2 {
        let greeting = Session::start(stream, Clock::default(), Instant::now() + GREETING).await;
        greeting.map(Dialed::Http2).map_err(|error| AttemptError::from(DialError::Handshake(error.into())))
    } else {
        Ok(Dialed::Http1(Connection::new(stream)))
    };
    let outcome = match dialed {
        Ok(dialed) => Client::exchange_on(dialed, ask, &slot, &progress).await,
        Err(error) => Err(error),
    };
    outcome.map_err(|error| progress.failure(error))
}
