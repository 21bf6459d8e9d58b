//! Lets the proxy, which speaks the types of actix-http, answer the requests of the server, which speaks those of `http`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage, Payload, Request};
use actix_web::HttpResponse;
use actix_web::http::Version;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use kthena_router_downstream::{BoxError, Connection, Incoming, ReadError, Refused, Service, Upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::proxy::{self, Worker};

/// How much is read of a tunnel at once.
const ROOM: usize = 16 << 10;

/// Answers requests by the proxy.
pub struct Bridge {
    worker: Rc<Worker>,
}

/// The body of an answer of the proxy.
pub struct BridgeBody(BoxBody);

impl Bridge {
    pub(super) fn new(worker: Rc<Worker>) -> Self {
        Self { worker }
    }
}

impl Service for Bridge {
    type Body = BridgeBody;

    fn handle(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = Response<BridgeBody>> + 'static {
        let (parts, mut body) = request.into_parts();
        // Other offers are passed over.
        let is_websocket =
            parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let upgrade = body.upgrade().filter(|_| is_websocket);
        let (payload, tunnel) = match upgrade {
            Some(upgrade) => {
                let (sender, receiver) = mpsc::channel(1);
                (stream(tokio_stream(receiver)), Some((upgrade, sender)))
            }
            None if body.is_empty() => (Payload::None, None),
            None => (stream(body.map(|piece| piece.map_err(payload_error))), None),
        };
        let request = received(&parts, payload, connection);
        let is_http1 = parts.version != http::Version::HTTP_2;
        async move {
            // In HTTP/2 a request that cannot be read to its end costs its own stream only.
            let may_close = || is_http1 || self.worker.is_stopping();
            let response = proxy::handle(Rc::clone(&self.worker), request).await;
            match tunnel {
                Some((upgrade, sender)) if response.status().as_u16() == 101 => changed(response, upgrade, sender),
                _ => answered(response, may_close()),
            }
        }
    }

    fn refuse(&self, connection: &Connection, refused: &Refused<'_>) -> Response<BridgeBody> {
        let request = refused.head.map_or_else(Request::new, |head| {
            let mut request = Request::new();
            fill(&mut request, head);
            request
        });
        let mut request = request;
        request.head_mut().peer_addr = Some(connection.peer);
        answered(proxy::refuse(&self.worker, request, refused.why), false)
    }
}

fn tokio_stream(mut receiver: mpsc::Receiver<Bytes>) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context).map(|piece| piece.map(Ok)))
}

fn stream(stream: impl Stream<Item = Result<Bytes, PayloadError>> + 'static) -> Payload<BoxedPayloadStream> {
    Payload::Stream { payload: Box::pin(stream) }
}

fn payload_error(error: ReadError) -> PayloadError {
    let kind = match &error {
        ReadError::Late => std::io::ErrorKind::TimedOut,
        ReadError::Malformed(_) => std::io::ErrorKind::InvalidData,
        ReadError::Broken(_) => std::io::ErrorKind::UnexpectedEof,
    };
    PayloadError::Io(std::io::Error::new(kind, error))
}

fn received(parts: &Parts, payload: Payload<BoxedPayloadStream>, connection: Rc<Connection>) -> Request {
    let mut request = Request::with_payload(payload);
    fill(&mut request, parts);
    request.head_mut().peer_addr = Some(connection.peer);
    request.extensions_mut().insert(connection);
    request
}

fn fill<P>(request: &mut Request<P>, parts: &Parts) {
    let head = request.head_mut();
    // What `http` 1 has accepted, `http` 0.2 accepts as well.
    if let Ok(method) = parts.method.as_str().parse() {
        head.method = method;
    }
    if let Ok(uri) = parts.uri.to_string().parse() {
        head.uri = uri;
    }
    head.version = match parts.version {
        http::Version::HTTP_10 => Version::HTTP_10,
        http::Version::HTTP_2 => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    for (name, value) in &parts.headers {
        let name = actix_web::http::header::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = actix_web::http::header::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            head.headers.append(name, value);
        }
    }
}

fn answered(response: HttpResponse<BoxBody>, may_close: bool) -> Response<BridgeBody> {
    let closes = may_close && !response.head().keep_alive() && !response.head().upgrade();
    let (head, body) = response.into_parts();
    let mut answer = Response::new(BridgeBody(body));
    *answer.status_mut() = StatusCode::from_u16(head.status().as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in head.headers() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            answer.headers_mut().append(name, value);
        }
    }
    if closes {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Makes the answer that changes the protocol, and passes the bytes both ways once it is sent.
fn changed(response: HttpResponse<BoxBody>, upgrade: Upgrade, sender: mpsc::Sender<Bytes>) -> Response<BridgeBody> {
    let mut answer = answered(response, false);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let mut downward = std::mem::replace(answer.body_mut(), BridgeBody(BoxBody::new(())));
    tokio::task::spawn_local(async move {
        let Some(client) = upgrade.await else { return };
        let (mut reader, mut writer) = tokio::io::split(client);
        let upward = async {
            let mut room = Vec::new();
            loop {
                room.resize(ROOM, 0);
                match reader.read(&mut room).await {
                    Ok(read) if read > 0 && sender.send(Bytes::copy_from_slice(&room[..read])).await.is_ok() => {}
                    _ => break,
                }
            }
            drop(sender);
            // The backend ends the tunnel, when it has said what it has to say.
            std::future::pending::<()>().await;
        };
        let downward = async {
            while let Some(Ok(bytes)) =
                futures::future::poll_fn(|context| Pin::new(&mut downward.0).poll_next(context)).await
            {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            writer.shutdown().await.ok();
        };
        tokio::select! {
            () = upward => {}
            () = downward => {}
        }
    });
    answer
}

impl Body for BridgeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = Pin::new(&mut self.get_mut().0).poll_next(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(|error| error.to_string().into())))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0.size(), BodySize::None | BodySize::Sized(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.size() {
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::Stream => SizeHint::default(),
        }
    }
}
