//! An HTTP/2 connection and the task that serves it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, Connection, SendRequest};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::into_io;
use super::state::{Occupied, State};
use crate::pool::Clock;
use crate::stream::Stream;

/// How much of one answer may have arrived without being read, in bytes.
pub(super) const STREAM_WINDOW: u32 = 128 << 10;
/// How many requests one connection carries at once, if the backend allows as many.
pub(super) const MOST_STREAMS: u32 = 128;
/// How much of all answers of a connection may have arrived without being read: as much as all its streams together, so
/// that clients that do not read hold up nobody else's answer.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;
/// How much memory h2 may spend on small frames that nobody has read; it closes the connection when more is needed.
/// Answers of language models consist of small frames, so those that nobody reads are gathered (see
/// [`Inbox::gather`](super::inbox::Inbox::gather)): the budget is for what arrives between two looks.
const FRAME_BUDGET: usize = 24 << 20;
/// The longest headers of an answer, in bytes; each field counts 32 bytes more than its name and value have.
const MAX_HEAD: u32 = 128 << 10;

/// A connection that takes many requests; clones share it.
#[derive(Clone)]
pub(crate) struct Session {
    requests: SendRequest<Bytes>,
    state: Rc<State>,
}

/// Notes that a connection is lost, unless its task ended as it should.
struct Watch {
    state: Rc<State>,
    has_ended: bool,
}

impl Session {
    /// Greets the other side on a fresh connection, and serves the connection until it ends.
    ///
    /// The other side has to answer a ping first: by then its settings are known, and with them how many streams it
    /// takes, so that none is refused. A backend that takes none is given until `deadline` to allow one.
    pub(crate) async fn start(stream: Stream, clock: Clock, deadline: Instant) -> io::Result<Self> {
        let mut has_answered = false;
        let (requests, connection) = match timeout_at(deadline, greet(stream, &mut has_answered)).await {
            Ok(greeted) => greeted?,
            Err(_) if has_answered => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it allows no requests on its connections"));
            }
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let state = Rc::new(State::new(clock));
        state.allow(connection.max_concurrent_send_streams());
        watch(&state, serve(Rc::clone(&state), connection));
        Ok(Self { requests, state })
    }

    /// Returns whether the connection takes requests, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    /// Returns whether one more request would neither be refused nor have to wait for another one's end.
    pub(crate) fn has_room(&self) -> bool {
        self.state.has_room()
    }

    /// Returns the tick since which no request is in flight; `None` if any is.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        self.state.idle_since()
    }

    /// Takes one of the connection's streams.
    pub(super) fn occupy(&self) -> Occupied {
        Occupied::new(&self.state)
    }

    /// Returns what sends a request.
    ///
    /// # Errors
    ///
    /// Returns an error when the connection takes no more requests; it is not asked again.
    pub(super) async fn ready(self) -> io::Result<SendRequest<Bytes>> {
        if !self.is_open() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let Self { requests, state } = self;
        requests.ready().await.map_err(into_io).inspect_err(|_| state.close())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.has_ended {
            self.state.lose();
        }
    }
}

/// Exchanges settings and a ping, which sets `has_answered`, and waits until a stream is allowed.
async fn greet(stream: Stream, has_answered: &mut bool) -> io::Result<(SendRequest<Bytes>, Connection<Stream, Bytes>)> {
    let greeting = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(FRAME_BUDGET)
        .max_header_list_size(MAX_HEAD)
        .enable_push(false)
        .handshake(stream);
    let (requests, mut connection) = greeting.await.map_err(into_io)?;
    let mut ping_pong = connection.ping_pong().ok_or_else(|| io::Error::other("a fresh connection takes no ping"))?;
    {
        let mut ping = pin!(ping_pong.ping(Ping::opaque()));
        poll_fn(|context| {
            poll_open(&mut connection, context)?;
            ping.as_mut().poll(context).map_err(into_io)
        })
        .await?;
    }
    *has_answered = true;
    poll_fn(|context| {
        poll_open(&mut connection, context)?;
        if connection.max_concurrent_send_streams() > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
    .map(|()| (requests, connection))
}

/// Serves a connection that must not end yet.
fn poll_open(connection: &mut Connection<Stream, Bytes>, context: &mut Context<'_>) -> io::Result<()> {
    match Pin::new(connection).poll(context) {
        Poll::Ready(Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
        Poll::Ready(Err(error)) => Err(into_io(error)),
        Poll::Pending => Ok(()),
    }
}

/// Serves a connection until it ends.
async fn serve(state: Rc<State>, mut connection: Connection<Stream, Bytes>) {
    let served = poll_fn(|context| {
        let served = Pin::new(&mut connection).poll(context);
        state.allow(connection.max_concurrent_send_streams());
        state.look();
        served
    });
    if let Err(error) = served.await {
        debug!(%error, "connection to a backend has ended");
    }
}

/// Runs the task of a connection, and notes its end, whatever it is.
fn watch(state: &Rc<State>, serving: impl Future<Output = ()> + 'static) {
    let mut watch = Watch { state: Rc::clone(state), has_ended: false };
    tokio::task::spawn_local(async move {
        serving.await;
        watch.has_ended = true;
        watch.state.close();
    });
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use h2::server;
    use http::{HeaderMap, Method};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::error::Progress;
    use crate::{Ask, AttemptError, Body, BodyError, Peer, Transport, http2};

    /// Makes a session with a backend that begins an answer to every request but `/silent`, and ends none.
    async fn session() -> (Session, Peer) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = server::handshake(stream).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let is_silent = request.uri().path() == "/silent";
                let begun = (!is_silent).then(|| respond.send_response(http::Response::new(()), false).unwrap());
                held.push((respond, begun));
            }
        });
        let stream = Stream::Plain(TcpStream::connect(peer.address).await.unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        (Session::start(stream, Clock::default(), deadline).await.unwrap(), peer)
    }

    async fn exchange(session: &Session, peer: &Peer, target: &str) -> Result<Box<crate::Answer>, AttemptError> {
        let (headers, progress) = (HeaderMap::new(), Progress::default());
        let mut ask = Ask {
            method: &Method::GET,
            target,
            host: "example.com",
            headers: &headers,
            replaced: &[],
            upgrade: None,
            body: Body::Empty,
            keeping: None,
            connect_timeout: None,
            timeout: None,
            fresh: false,
            repeated: false,
        };
        http2::exchange(session.clone(), &mut ask, peer, &progress).await
    }

    #[tokio::test(flavor = "local")]
    async fn a_session_whose_task_panics_is_given_up_by_all_that_wait_for_it() {
        let (session, peer) = session().await;
        let mut answer = exchange(&session, &peer, "/").await.unwrap();
        let panicking = async {
            tokio::task::yield_now().await;
            watch(&session.state, async { panic!("as a fault in a library would") });
        };
        let reading = poll_fn(|context| answer.body.poll_chunk(context));
        let (silent, read, ()) = futures::join!(exchange(&session, &peer, "/silent"), reading, panicking);
        assert!(matches!(silent.err(), Some(AttemptError::Broken(_))));
        assert!(matches!(read, Some(Err(BodyError::Broken(_)))));
        assert!(!session.is_open());
        assert!(matches!(exchange(&session, &peer, "/").await.err(), Some(AttemptError::Broken(_))));
    }
}
