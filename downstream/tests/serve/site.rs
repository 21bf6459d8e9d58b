//! A server with a service of a test's own, and clients of it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kthena_router_downstream::{
    BoxError, Budget, CancellationToken, ChooseTls, Connection, Incoming, Limits, Refusal, Refused, Server, Service,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a test waits for something to come true before it fails; with a paused clock it takes no time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// What a pipe holds, like the buffers of a socket.
const PIPE: usize = 16 << 10;

type Handle = dyn Fn(Rc<Connection>, Request<Incoming>) -> LocalBoxFuture<'static, Response<TestBody>>;

/// A service that does as a test says, and keeps what was refused.
pub(crate) struct TestService {
    handle: Box<Handle>,
    pub(crate) refused: RefCell<Vec<Refusal>>,
}

/// The body of a test's answer.
pub(crate) enum TestBody {
    /// One piece, or nothing.
    Whole(Option<Bytes>),
    /// Pieces as they are sent into a channel; an error breaks the answer off.
    Pieces(mpsc::UnboundedReceiver<Result<Bytes, BoxError>>),
    /// Pieces of a body that is said to have a length.
    Announced(u64, mpsc::UnboundedReceiver<Result<Bytes, BoxError>>),
    /// The same piece again and again.
    Endless(Bytes),
    /// One piece, and a note when it was asked for more.
    Told(Option<Bytes>, Rc<Cell<bool>>),
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(piece) => Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece)))),
            Self::Pieces(pieces) | Self::Announced(_, pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
            Self::Endless(piece) => Poll::Ready(Some(Ok(Frame::data(piece.clone())))),
            Self::Told(piece, ended) => {
                ended.set(piece.is_none());
                Poll::Ready(piece.take().map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(piece) | Self::Told(piece, _) => {
                SizeHint::with_exact(piece.as_ref().map_or(0, |piece| piece.len() as u64))
            }
            Self::Announced(length, _) => SizeHint::with_exact(*length),
            Self::Pieces(_) | Self::Endless(_) => SizeHint::default(),
        }
    }
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<TestBody> {
    let body = Some(text.into()).filter(|text| !text.is_empty());
    let mut response = Response::new(TestBody::Whole(body));
    *response.status_mut() = status;
    response
}

impl Service for TestService {
    type Body = TestBody;

    fn handle(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<TestBody>>>> {
        (self.handle)(connection, request)
    }

    fn refuse(&self, _: &Connection, refused: &Refused<'_>) -> Response<TestBody> {
        self.refused.borrow_mut().push(refused.why);
        text(refused.why.status().unwrap_or(StatusCode::BAD_REQUEST), refused.why.reason())
    }
}

/// A server for the connections of a test.
pub(crate) struct Site {
    pub(crate) server: Rc<Server<TestService>>,
}

impl Site {
    /// Makes a site whose service answers as `handle` does.
    pub(crate) fn new<F>(limits: Limits, handle: impl Fn(Rc<Connection>, Request<Incoming>) -> F + 'static) -> Self
    where
        F: Future<Output = Response<TestBody>> + 'static,
    {
        Self::with(limits, Budget::new(64 << 20), None, handle)
    }

    /// Makes a site with a budget and TLS of the test's own.
    pub(crate) fn with<F>(
        limits: Limits,
        budget: Budget,
        tls: Option<Rc<dyn ChooseTls>>,
        handle: impl Fn(Rc<Connection>, Request<Incoming>) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = Response<TestBody>> + 'static,
    {
        let handle = move |connection, request| handle(connection, request).boxed_local();
        let service = TestService { handle: Box::new(handle), refused: RefCell::default() };
        let closing = CancellationToken::new();
        Self { server: Rc::new(Server { service: Rc::new(service), limits, budget, tls, closing }) }
    }

    /// Makes a site that answers with the method, authority, path and body of the request.
    pub(crate) fn echo(limits: Limits) -> Self {
        Self::new(limits, |_, request| echo(request))
    }

    /// Connects through memory; returns the client's end, and the task of the server's.
    pub(crate) fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        self.connect_wide(PIPE)
    }

    /// Connects through memory that holds as many bytes each way.
    pub(crate) fn connect_wide(&self, bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        let (client, socket) = tokio::io::duplex(bytes);
        let address = "127.0.0.1:1".parse().unwrap();
        let served = tokio::task::spawn_local(Rc::clone(&self.server).serve(socket, address, address));
        (client, served)
    }

    /// Sends bytes on a fresh connection, and returns all that the server sends until it closes.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        let (mut client, served) = self.connect();
        client.write_all(bytes).await.unwrap();
        let answer = rest(&mut client).await;
        drop(client);
        within(served).await.unwrap();
        answer
    }

    /// Returns what was refused so far.
    pub(crate) fn refused(&self) -> Vec<Refusal> {
        self.server.service.refused.borrow().clone()
    }
}

pub(crate) async fn echo(mut request: Request<Incoming>) -> Response<TestBody> {
    let mut body = Vec::new();
    while let Some(piece) = request.body_mut().next().await {
        match piece {
            Ok(piece) => body.extend_from_slice(&piece),
            Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
    let uri = request.uri();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    text(StatusCode::OK, format!("{} {authority} {path} {body}", request.method()))
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the connection makes progress")
}

/// Returns all that comes until the other end closes.
pub(crate) async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    within(client.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads until a text has come.
pub(crate) async fn until(client: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        assert!(within(client.read_buf(&mut seen)).await.unwrap() > 0, "the text comes before the end");
    }
    // What belongs to it may come after it.
    tokio::task::yield_now().await;
    String::from_utf8(seen).unwrap()
}

/// Runs a test whose tasks stay on its thread.
pub(crate) async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}
