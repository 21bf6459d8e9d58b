//! The HTTP client that reaches engines and other backends, made for a proxy.
//!
//! A proxy passes on what it gets: it follows no redirects, decodes nothing, adds no headers of its own but those that
//! frame a message, and never takes a part of an answer for the whole. Each thread has a client of its own, with its own
//! connections; nothing is shared and nothing is locked.
//!
//! An [`Upstream`] makes [`Client`]s. [`Client::send`] takes an [`Ask`] and a [`Peer`], and returns an [`Answer`] as soon
//! as its head is there, or a [`Failure`] that says how far the attempt got.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout;

mod answer;
mod ask;
mod connect;
mod error;
pub mod headers;
mod http1;
mod http2;
mod pool;
mod stream;
mod tls;

pub use answer::{Answer, AnswerBody, BodySize, Tunnel};
pub use ask::{Ask, Body, BodyFault, BodyStream};
pub use error::{AttemptError, BodyError, Failure, Processed, Stage};
pub use tls::ClientTls;

use connect::{Dialed, dial, dial_session};
use error::Progress;
use http2::Session;
use pool::{Pool, Slot};

/// How endpoints are reached; makes clients.
#[derive(Clone, Debug)]
pub struct Upstream {
    connect_timeout: Duration,
    tls: Arc<ClientTls>,
}

/// Where a request goes, and in what protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The endpoint.
    pub address: std::net::SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How an endpoint is spoken to. Connections of different transports are never taken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP/1.1 without encryption.
    Http1,
    /// HTTP/2 without encryption, which the endpoint is known to speak.
    H2c,
    /// TLS, and within it what the two sides agree on.
    Tls(Arc<ClientTls>),
}

/// A client for one thread, and its connections.
#[derive(Clone)]
pub struct Client {
    pool: Rc<Pool>,
    connect_timeout: Duration,
}

impl Upstream {
    /// Makes clients that give up connecting after `connect_timeout`, and TLS and the HTTP/2 handshake after the same
    /// time once more; `tls` is for ModelServers that speak https.
    pub fn new(connect_timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        Self { connect_timeout, tls: Arc::new(ClientTls::of_address(tls)) }
    }

    /// Returns how the engines of a ModelServer are spoken to.
    pub fn engines(&self, https: bool) -> Transport {
        if https { Transport::Tls(Arc::clone(&self.tls)) } else { Transport::Http1 }
    }

    /// Makes a client for the current thread; its connections are not shared with other clients.
    ///
    /// # Panics
    ///
    /// Panics outside of a local task set of tokio, in which the connections are served.
    pub fn client(&self) -> Client {
        Client { pool: Pool::start(), connect_timeout: self.connect_timeout }
    }
}

impl Client {
    /// Sends a request, and returns once the head of its answer is there.
    ///
    /// When the returned future or the answer's body is dropped, the connection is closed, or in HTTP/2 the stream is
    /// reset; only an answer that was read to its end leaves its connection to the next request.
    ///
    /// # Errors
    ///
    /// Returns how far the attempt got; [`Body::is_there`] tells whether another one can be made. The request is sent a
    /// second time within the same attempt only where the backend provably did not process it the first time. A kept
    /// connection that ends without a byte of an answer proves nothing (RFC 9112, section 9.3.1): whether such a request
    /// is repeated, because its method is idempotent for example, is for the caller to decide.
    pub async fn send(&self, peer: &Peer, ask: &mut Ask<'_>) -> Result<Answer, Failure> {
        let progress = Progress::default();
        let outcome = match ask.timeout {
            None => self.exchange(peer, ask, &progress).await,
            Some(limit) => timeout(limit, self.exchange(peer, ask, &progress))
                .await
                .unwrap_or_else(|_| Err(AttemptError::Timeout(progress.stage()))),
        };
        outcome.map_err(|error| progress.failure(error))
    }

    async fn exchange(&self, peer: &Peer, ask: &mut Ask<'_>, progress: &Progress) -> Result<Answer, AttemptError> {
        let slot = self.pool.slot(peer);
        let Some(first) = slot.take_kept() else {
            return Self::exchange_on(self.connect(&slot, progress).await?, ask, &slot, progress).await;
        };
        match Self::exchange_on(first, ask, &slot, progress).await {
            Err(_) if progress.is_unprocessed() && ask.body.is_there() => {}
            outcome => return outcome,
        }
        // A session that refused the request, and is still open, is asked once more rather than joined by another one;
        // a connection for one request at a time has ended, and others that were kept may have ended with it.
        let second = match slot.free_session() {
            Some(session) => Dialed::Http2(session),
            None => self.connect(&slot, progress).await?,
        };
        Self::exchange_on(second, ask, &slot, progress).await
    }

    async fn exchange_on(
        dialed: Dialed,
        ask: &mut Ask<'_>,
        slot: &Rc<Slot>,
        progress: &Progress,
    ) -> Result<Answer, AttemptError> {
        match dialed {
            Dialed::Http1(connection) => http1::exchange(connection, ask, slot, progress).await,
            Dialed::Http2(session) => http2::exchange(session, ask, slot.peer(), progress).await,
        }
    }

    async fn connect(&self, slot: &Rc<Slot>, progress: &Progress) -> Result<Dialed, AttemptError> {
        let peer = slot.peer();
        while slot.is_multiplexed() {
            let dial = |stage| dial_session(peer.clone(), self.connect_timeout, slot.clock(), stage);
            let session = slot.join_dial(progress, dial).await?;
            // Others who waited for it may have taken all that it has.
            if let Some(session) = Some(session).filter(Session::has_room).or_else(|| slot.free_session()) {
                progress.note_connected();
                return Ok(Dialed::Http2(session));
            }
        }
        let stage = Rc::new(Cell::new(Stage::Connect));
        progress.follow(&stage);
        let dialed = dial(peer, self.connect_timeout, slot.clock(), &stage).await?;
        progress.note_connected();
        if let Dialed::Http2(session) = &dialed {
            slot.add_session(session.clone());
        }
        Ok(dialed)
    }
}

#[cfg(test)]
mod tests;
