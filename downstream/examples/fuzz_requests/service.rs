//! What the requests of a round are answered with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kthena_router_downstream::{BoxError, Connection, Incoming, Refused, Service};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// Answers in the ways that a proxy does, and in some that no proxy should.
///
/// Its answers say what they are, so that their reader can tell whether they are what came: `x-number` counts the requests,
/// `x-length` is the length of the body, all of whose bytes are those of the number, and `x-breaks` says that it is not
/// ended.
pub(crate) struct Answering {
    pub(crate) handled: Cell<u64>,
    pub(crate) refused: Cell<u64>,
    random: RefCell<StdRng>,
}

/// The body of an answer: pieces with pauses between them.
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    /// Its length, where it is known before.
    length: Option<u64>,
    breaks: bool,
    is_late: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.is_late = !self.is_late;
        if self.is_late && self.pieces.len() % 3 == 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.pieces.pop_front() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            // It breaks once: whoever asks again hears of an end.
            None if std::mem::take(&mut self.breaks) => Some(Err("it breaks off".into())),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Answering {
    pub(crate) fn new(seed: u64) -> Self {
        let random = RefCell::new(StdRng::seed_from_u64(seed));
        Self { handled: Cell::new(0), refused: Cell::new(0), random }
    }

    /// Makes an answer of any shape.
    fn answer(&self, number: u64, is_head: bool) -> Response<Pieces> {
        let random = &mut *self.random.borrow_mut();
        let status = if random.random_bool(0.05) { [204, 304][random.random_range(0..2)] } else { 200 };
        let sizes = [0, 1, 100, 4095, 4096, 20_000, 70_000];
        let count = if random.random_bool(0.5) { 1 } else { random.random_range(0..6) };
        let byte = b'a' + (number % 26) as u8;
        let pieces: VecDeque<_> =
            (0..count).map(|_| Bytes::from(vec![byte; sizes[random.random_range(0..sizes.len())]])).collect();
        let has_body = !is_head && status == 200;
        let breaks = has_body && random.random_bool(0.05);
        let length = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let said = random.random_bool(0.5).then_some(length + if breaks { 10 } else { 0 });
        let mut response = Response::new(Pieces { pieces, length: said, breaks, is_late: false });
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        let fields = response.headers_mut();
        fields.insert("x-number", number.into());
        fields.insert("x-length", if has_body { length.into() } else { 0.into() });
        if breaks {
            fields.insert("x-breaks", HeaderValue::from_static("yes"));
        }
        if random.random_bool(0.05) {
            fields.insert("connection", HeaderValue::from_static("close"));
        }
        response
    }
}

impl Service for Answering {
    type Body = Pieces;

    fn handle(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Pieces>>>> {
        let number = self.handled.replace(self.handled.get() + 1);
        let (parts, mut body) = request.into_parts();
        assert!(!parts.headers.contains_key("host"), "one authority");
        let target = parts.uri.path_and_query().expect("a request has a target").as_str();
        assert!(target.starts_with('/') || target == "*", "{target}");
        let random = |most: u32| self.random.borrow_mut().random_range(0..most);
        let (way, pauses, waits) = (random(6), random(4), random(8) == 0);
        let upgrade = body.upgrade().filter(|_| random(2) == 0);
        let answer = self.answer(number, parts.method == Method::HEAD);
        Box::pin(async move {
            match way {
                // Nobody reads it, or it is held until the answer has begun.
                0 => drop(body),
                1 => drop(tokio::task::spawn_local(hold(body))),
                // Another task reads it, before the answer or beside it.
                2 => drop(tokio::task::spawn_local(read(connection, body, usize::MAX)).await),
                3 => drop(tokio::task::spawn_local(read(connection, body, usize::MAX))),
                4 => read(connection, body, 2).await,
                _ => read(connection, body, usize::MAX).await,
            }
            for _ in 0..pauses {
                tokio::task::yield_now().await;
            }
            if waits {
                sleep(Duration::from_secs(100)).await;
            }
            let Some(upgrade) = upgrade else { return answer };
            tokio::task::spawn_local(async move {
                if let Some(tunnel) = upgrade.await {
                    timeout(Duration::from_secs(100), echo(tunnel)).await.ok();
                }
            });
            switching(number)
        })
    }

    fn refuse(&self, _: &Connection, refused: &Refused<'_>) -> Response<Pieces> {
        self.refused.set(self.refused.get() + 1);
        let piece = Bytes::from_static(b"!");
        let mut response =
            Response::new(Pieces { pieces: [piece].into(), length: Some(1), breaks: false, is_late: false });
        *response.status_mut() = refused.why.status().unwrap_or(StatusCode::BAD_REQUEST);
        response
    }
}

/// Answers that the protocol changes.
fn switching(number: u64) -> Response<Pieces> {
    let mut response =
        Response::new(Pieces { pieces: VecDeque::new(), length: Some(0), breaks: false, is_late: false });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [("connection", "upgrade"), ("upgrade", "x"), ("x-length", "0")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert("x-number", number.into());
    response
}

/// Reads so many pieces of a body, and holds what it has read.
async fn read(connection: Rc<Connection>, mut body: Incoming, most: usize) {
    let mut held = connection.charge();
    for _ in 0..most {
        match body.next().await {
            Some(Ok(piece)) => {
                held.grow(piece.len()).ok();
            }
            Some(Err(_)) | None => return,
        }
    }
}

/// Holds a body for a while before it asks for it.
async fn hold(mut body: Incoming) {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    while let Some(Ok(_)) = body.next().await {}
}

/// Sends back what comes through a tunnel.
async fn echo(mut tunnel: kthena_router_downstream::Upgraded) {
    let mut piece = [0; 1000];
    while let Ok(length @ 1..) = tunnel.read(&mut piece).await {
        if tunnel.write_all(&piece[..length]).await.is_err() {
            break;
        }
    }
    tunnel.shutdown().await.ok();
}
