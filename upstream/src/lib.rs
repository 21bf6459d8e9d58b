//! The HTTP client that reaches engines and other backends, made for a proxy.
//!
//! A proxy passes on what it gets: it follows no redirects, decodes nothing, adds no headers of its own but those that
//! frame a message, and never takes a part of an answer for the whole. Each thread has a client of its own, with its own
//! connections; nothing is shared and nothing is locked.
//!
//! An [`Upstream`] makes [`Client`]s. [`Client::send`] takes an [`Ask`] and a [`Peer`], and returns an [`Answer`] as soon
//! as its head is there, or a [`Failure`] that says how far the attempt got.
//!
//! # A request is sent once
//!
//! It is sent a second time only where the backend provably did not begin with it: nothing was written, it refused the
//! stream, or its `GOAWAY` excludes the stream. A connection that ends after the request was written proves nothing,
//! even if it had been idle before: [`Processed::Maybe`] leaves the decision to the caller, who knows the method and
//! the policy. Idle connections are looked at by a system call before they are used, unless the caller sends the request
//! again where one has ended ([`Ask::repeated`]); then what the runtime knows of them is enough. A request whose body arrives
//! bit by bit, or whose method is not idempotent, is put on none that was idle for a second, and none on one that is
//! about to reach the time in the backend's `Keep-Alive`. What is left of the race is the time that the backend's
//! farewell takes over the network: [`AttemptError::Stale`] tells it apart from the end of a fresh connection.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | head of an answer | 128 KiB; over HTTP/1.1 256 fields |
//! | line that begins a chunk; trailers | 1 KiB; 16 KiB |
//! | what has arrived of an answer and was not read: HTTP/1.1 | 80 KiB, 192 KiB while the head is read |
//! | a chunk that is held until it is whole, so that it is passed on as one | 16 KiB |
//! | the same over HTTP/2 | 128 KiB for each answer, 16 MiB for a connection |
//! | memory for small frames that h2 has not handed out | 24 MiB for a connection |
//! | requests at once on an HTTP/2 connection | 128, or fewer if the backend says so; then there is another connection |
//! | a connection without requests | closed after 3.5 s to 4 s |
//! | a node that does not acknowledge anything | its connections end after 60 s |
//!
//! Nothing is reserved because a backend announces it: buffers grow with what has arrived.
//!
//! # Why not hyper's client
//!
//! HTTP/2 is spoken with the crate h2 itself. Above it hyper's client has a task and channels for each connection and each
//! body, and hides what a proxy needs: how many streams the backend allows at the moment, which requests a `GOAWAY`
//! excludes, and the windows, without which one client that does not read could hold up the answers to others. For
//! HTTP/1.1 it reads and writes in a task of the connection, so that each request changes tasks twice. The figures of
//! `examples/requests.rs` are in the description of that program.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use rustls::ClientConfig;
use tokio::time::Instant;

mod answer;
mod ask;
mod connect;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod headers;
mod http1;
mod http2;
mod pool;
mod stream;
mod timer;
mod tls;

pub use answer::{Answer, AnswerBody, BodySize, Tunnel};
pub use ask::{Ask, Body, BodyFault, BodyStream, Keeping, Together};
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

    /// Returns how TLS is spoken to the engines of ModelServers, for a client of another kind.
    pub fn engines_tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(self.tls.config())
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
    /// Sends a request, and returns once the head of its answer is there. The answer is in a box, because it goes from hand to
    /// hand.
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
    pub async fn send(&self, peer: &Peer, ask: &mut Ask<'_>) -> Result<Box<Answer>, Failure> {
        let progress = Progress::default();
        // A limit that no clock reaches is none.
        let began = Instant::now();
        let deadline = ask.timeout.and_then(|limit| began.checked_add(limit));
        let mut exchange = pin!(self.exchange(peer, ask, &progress, began));
        let outcome = match deadline {
            None => exchange.await,
            Some(deadline) => {
                let outcome = self.pool.timers.within(deadline, exchange.as_mut()).await;
                outcome.unwrap_or_else(|| Err(AttemptError::Timeout(progress.stage())))
            }
        };
        outcome.map_err(|error| progress.failure(error))
    }

    /// Sends a request that may be run twice, and does so if a kept connection ends as it arrives: the second time on a
    /// fresh one, within a time of its own.
    ///
    /// # Errors
    ///
    /// Returns how far the last attempt got.
    pub async fn send_again(&self, peer: &Peer, ask: &mut Ask<'_>) -> Result<Box<Answer>, Failure> {
        ask.repeated = true;
        match self.send(peer, ask).await {
            Err(Failure { error: AttemptError::Stale(_), .. }) if ask.body.is_there() => {
                ask.fresh = true;
                self.send(peer, ask).await
            }
            outcome => outcome,
        }
    }

    async fn exchange(
        &self,
        peer: &Peer,
        ask: &mut Ask<'_>,
        progress: &Progress,
        began: Instant,
    ) -> Result<Box<Answer>, AttemptError> {
        let limit = ask.connect_timeout.unwrap_or(self.connect_timeout);
        let slot = self.pool.slot(peer);
        let place = match ask.keeping {
            None => None,
            Some(keeping) => slot.keep(keeping, progress).await,
        };
        let kept = match ask.fresh {
            true => slot.free_session().map(Dialed::Http2),
            false => slot.take_kept(ask.is_sent_once(), ask.is_repeated()),
        };
        let mut may_repeat = kept.is_some();
        let mut is_old = matches!(kept, Some(Dialed::Http1(_)));
        let mut dialed = match kept {
            Some(kept) => kept,
            None => Self::connect(&slot, limit, progress).await?,
        };
        loop {
            match Self::exchange_on(dialed, ask, &slot, progress).await {
                Err(_) if may_repeat && progress.is_unprocessed() && ask.body.is_there() => {
                    (may_repeat, is_old) = (false, false);
                }
                Err(AttemptError::Broken(error)) if is_old && progress.is_unanswered() && is_end(&error) => {
                    // Who closes so much later has not crossed the request on its way: that is the end of its work.
                    if began.elapsed() >= FAREWELL {
                        return Err(AttemptError::Broken(error));
                    }
                    slot.close_idle();
                    return Err(AttemptError::Stale(error));
                }
                Ok(mut answer) => {
                    answer.body.place = place;
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
            // A session that refused the request, and is still open, is asked once more rather than joined by another
            // one. A connection for one request at a time has ended, and others that were kept may have ended with it.
            dialed = match slot.free_session() {
                Some(session) => Dialed::Http2(session),
                None => Self::connect(&slot, limit, progress).await?,
            };
        }
    }

    async fn exchange_on(
        dialed: Dialed,
        ask: &mut Ask<'_>,
        slot: &Rc<Slot>,
        progress: &Progress,
    ) -> Result<Box<Answer>, AttemptError> {
        match dialed {
            Dialed::Http1(connection) => http1::exchange(connection, ask, slot, progress).await,
            Dialed::Http2(session) => http2::exchange(session, ask, slot.peer(), progress).await,
        }
    }

    /// Makes a connection. Requests seldom need one, and do not carry the room that it takes.
    fn connect<'a>(
        slot: &'a Rc<Slot>,
        limit: Duration,
        progress: &'a Progress,
    ) -> LocalBoxFuture<'a, Result<Dialed, AttemptError>> {
        Box::pin(async move {
            let peer = slot.peer();
            while slot.is_multiplexed() {
                let dial = |stage| dial_session(peer.clone(), limit, slot.clock(), stage);
                let session = slot.join_dial(progress, dial).await?;
                // Others who waited for it may have taken all that it has.
                if let Some(session) = Some(session).filter(Session::has_room).or_else(|| slot.free_session()) {
                    progress.note_connected();
                    return Ok(Dialed::Http2(session));
                }
            }
            let stage = Rc::new(Cell::new(Stage::Connect));
            progress.follow(&stage);
            let dialed = dial(peer, limit, slot.clock(), &stage).await?;
            progress.note_connected();
            if let Dialed::Http2(session) = &dialed {
                slot.add_session(session.clone());
            }
            Ok(dialed)
        })
    }
}

/// For how long the end of a kept connection may be a farewell that the backend sent before it knew of the request.
const FAREWELL: Duration = Duration::from_millis(100);

/// Returns whether a connection was closed, and not reset.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests;
