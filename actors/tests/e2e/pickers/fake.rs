//! An endpoint picker that does what a test tells it to.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::rt;
use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::{BoxFuture, FutureExt, ready};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kthena_router_actors::edge::ext_proc::messages::{
    BodyMutation, CommonResponse, HeaderMutation, HeaderValue, HeaderValueOption, HttpBody, HttpStatus,
    ImmediateResponse, PartResponse, ProcessingRequest, ProcessingResponse, Replacement, Said, Told, text_in,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

/// The port of every picker.
pub(crate) const PICKER_PORT: u16 = 9002;
/// The header in which pickers name endpoints.
const DESTINATION: &str = "x-gateway-destination-endpoint";

/// What a picker does with every request.
#[derive(Clone, Debug)]
pub(crate) enum Conduct {
    /// Names endpoints once it has the whole request, and answers each piece of the body with nothing.
    Names(String),
    /// Names endpoints, and streams this body back in two pieces; also sets and removes a header.
    Rewrites(String, &'static str),
    /// Names endpoints at once, and then breaks the exchange off.
    Dies(String),
    /// Names endpoints, and breaks the exchange off when it is told of the answer.
    DiesLate(String),
    /// Says nothing.
    Hangs,
    /// Ends the exchange with this code and no word.
    Fails(Code),
    /// Closes the connection.
    Closes,
    /// Says what is no gRPC.
    Babbles,
    /// Answers the request itself.
    Answers(i32),
    /// Lets the request go on and names nothing.
    NamesNothing,
}

/// A picker that runs to the end of its test.
pub(crate) struct FakePicker(Arc<State>);

struct State {
    conduct: ArcSwap<Conduct>,
    streams: AtomicUsize,
    open: AtomicUsize,
    last: ArcSwap<Vec<ProcessingRequest>>,
    close: Notify,
}

/// An open stream, as it is counted.
struct Counted(Arc<State>);

impl FakePicker {
    /// Starts a picker that speaks HTTP/2 with prior knowledge.
    pub(crate) async fn start(address: IpAddr, conduct: Conduct) -> Self {
        Self::start_with(address, conduct, None).await
    }

    /// Starts a picker, which speaks TLS if it is given what that takes.
    pub(crate) async fn start_with(address: IpAddr, conduct: Conduct, tls: Option<TlsAcceptor>) -> Self {
        let state = Arc::new(State {
            conduct: ArcSwap::from_pointee(conduct),
            streams: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            last: ArcSwap::default(),
            close: Notify::new(),
        });
        let listener = TcpListener::bind(SocketAddr::new(address, PICKER_PORT)).await.unwrap();
        rt::spawn(listen(listener, tls, Arc::clone(&state)));
        Self(state)
    }

    /// Has the picker do something else from now on.
    pub(crate) fn turn_to(&self, conduct: Conduct) {
        self.0.conduct.store(Arc::new(conduct));
    }

    /// Returns how many exchanges were begun.
    pub(crate) fn streams(&self) -> usize {
        self.0.streams.load(Ordering::Relaxed)
    }

    /// Returns how many exchanges have not ended.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Returns a header of the last request, as the picker was told of it.
    pub(crate) fn told_header(&self, name: &str) -> Option<String> {
        self.0.last.load().iter().find_map(|message| match &message.told {
            Some(Told::RequestHeaders(told)) => {
                let mut headers = told.headers.iter().flat_map(|map| &map.headers);
                let header = headers.find(|header| header.key == name)?;
                Some(String::from_utf8_lossy(header.bytes()).into_owned())
            }
            _ => None,
        })
    }

    /// Returns the body of the last request, as the picker was told of it, and in how many pieces.
    pub(crate) fn told_body(&self) -> (Vec<u8>, usize) {
        let last = self.0.last.load();
        let pieces: Vec<_> = last.iter().filter_map(piece).collect();
        (pieces.concat(), pieces.len())
    }

    /// Returns the endpoint that has answered the last request, as the picker was told of it.
    pub(crate) fn told_served(&self) -> Option<String> {
        self.0.last.load().iter().find_map(|message| {
            let metadata = &message.metadata_context.as_ref()?.filter_metadata;
            let served = metadata.get("envoy.lb")?;
            let wrapped = prost_types::Value { kind: Some(prost_types::value::Kind::StructValue(served.clone())) };
            let outer = prost_types::Struct { fields: [("envoy.lb".to_owned(), wrapped)].into() };
            text_in(&outer, "envoy.lb", "x-gateway-destination-endpoint-served").map(str::to_owned)
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn piece(message: &ProcessingRequest) -> Option<Vec<u8>> {
    match &message.told {
        Some(Told::RequestBody(body)) => Some(body.body.to_vec()),
        _ => None,
    }
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        rt::spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    // A client that does not agree on TLS is seen in its own test.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = {
        let state = Arc::clone(&state);
        service_fn(move |request| answer(request, Arc::clone(&state)))
    };
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A router that leaves is no fault of the picker.
        _ = connection => {}
        () = state.close.notified() => {}
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<tonic::body::Body>, Infallible> {
    state.streams.fetch_add(1, Ordering::Relaxed);
    if matches!(**state.conduct.load(), Conduct::Babbles) {
        let body = tonic::body::Body::new(Full::new(Bytes::from_static(b"\x00\x00\x00\x00\x03\xff\xff\xff")));
        return Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap());
    }
    let codec = ProstCodec::<ProcessingResponse, ProcessingRequest>::default();
    Ok(Grpc::new(codec).streaming(Process(state), request).await)
}

struct Process(Arc<State>);

impl StreamingService<ProcessingRequest> for Process {
    type Response = ProcessingResponse;
    type ResponseStream = UnboundedReceiver<Result<ProcessingResponse, Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<ProcessingRequest>>) -> Self::Future {
        if let Conduct::Fails(code) = **self.0.conduct.load() {
            return ready(Err(Status::new(code, "the picker cannot"))).boxed();
        }
        let (say, said) = unbounded();
        tokio::spawn(converse(request.into_inner(), say, Arc::clone(&self.0)));
        ready(Ok(tonic::Response::new(said))).boxed()
    }
}

type Say = UnboundedSender<Result<ProcessingResponse, Status>>;

/// Holds one exchange.
async fn converse(mut told: Streaming<ProcessingRequest>, say: Say, state: Arc<State>) {
    state.open.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(Arc::clone(&state));
    let conduct = Conduct::clone(&state.conduct.load());
    let mut heard = Vec::new();
    while let Some(Ok(message)) = told.next().await {
        let part = message.told.clone();
        heard.push(message);
        state.last.store(Arc::new(heard.clone()));
        let whole = match &part {
            Some(Told::RequestHeaders(headers)) => headers.end_of_stream,
            Some(Told::RequestBody(body)) => body.end_of_stream,
            _ => false,
        };
        let dies = matches!(conduct, Conduct::DiesLate(_)) && matches!(part, Some(Told::ResponseHeaders(_)));
        if matches!(conduct, Conduct::Closes) {
            state.close.notify_waiters();
        }
        let said = if dies { Vec::new() } else { responses(&conduct, part, whole) };
        for response in said {
            // The router may have left.
            let _ = say.unbounded_send(Ok(response));
        }
        if dies || (whole && matches!(conduct, Conduct::Dies(_))) {
            let _ = say.unbounded_send(Err(Status::internal("the picker died")));
            return;
        }
    }
}

/// Returns what the picker says after it was told a part of a request or of an answer.
fn responses(conduct: &Conduct, part: Option<Told>, whole: bool) -> Vec<ProcessingResponse> {
    let is_body = matches!(part, Some(Told::RequestBody(_)));
    match (conduct, part) {
        (Conduct::Hangs | Conduct::Closes | Conduct::Babbles | Conduct::Fails(_), _) => Vec::new(),
        (_, Some(Told::ResponseHeaders(_))) => {
            vec![says(Said::ResponseHeaders(part_of(set("x-picker", "noted", &[]), None)))]
        }
        (Conduct::Answers(code), _) if whole => {
            let headers = Some(set("x-picker", "answered", &[]));
            let status = Some(HttpStatus { code: *code });
            let body = Bytes::from_static(b"not now");
            vec![says(Said::Immediate(ImmediateResponse { status, headers, body }))]
        }
        (Conduct::NamesNothing, _) if whole => {
            let headers = says(Said::RequestHeaders(part_of(set("x-a", "b", &[]), None)));
            [headers].into_iter().chain(is_body.then(acknowledged)).collect()
        }
        (Conduct::Dies(endpoints), _) if whole => {
            // Without an opinion on the body nothing is decided.
            if is_body { vec![named(endpoints)] } else { Vec::new() }
        }
        (Conduct::Rewrites(endpoints, body), _) if whole => {
            let (first, second) = body.split_at(body.len() / 2);
            let mut mutation = set(DESTINATION, endpoints, &["x-removed"]);
            mutation.set_headers.extend(set("x-request-id", "the-pickers", &[]).set_headers);
            let headers = says(Said::RequestHeaders(part_of(mutation, None)));
            vec![headers, streamed(first, false), streamed(second, true)]
        }
        (Conduct::Names(endpoints) | Conduct::DiesLate(endpoints), _) => {
            let headers = whole.then(|| named(endpoints));
            headers.into_iter().chain(is_body.then(acknowledged)).collect()
        }
        _ => Vec::new(),
    }
}

fn says(said: Said) -> ProcessingResponse {
    ProcessingResponse { said: Some(said), dynamic_metadata: None }
}

fn named(endpoints: &str) -> ProcessingResponse {
    says(Said::RequestHeaders(part_of(set(DESTINATION, endpoints, &[]), None)))
}

fn acknowledged() -> ProcessingResponse {
    says(Said::RequestBody(PartResponse::default()))
}

fn streamed(piece: &str, end_of_stream: bool) -> ProcessingResponse {
    let body = HttpBody { body: Bytes::copy_from_slice(piece.as_bytes()), end_of_stream };
    says(Said::RequestBody(part_of(HeaderMutation::default(), Some(Replacement::Streamed(body)))))
}

fn part_of(mutation: HeaderMutation, replacement: Option<Replacement>) -> PartResponse {
    let body_mutation = replacement.map(|replacement| BodyMutation { replacement: Some(replacement) });
    PartResponse { response: Some(CommonResponse { status: 0, header_mutation: Some(mutation), body_mutation }) }
}

fn set(name: &str, value: &str, remove: &[&str]) -> HeaderMutation {
    let header = Some(HeaderValue::new(name, value.as_bytes()));
    let set_headers = vec![HeaderValueOption { header, append: None, append_action: 0 }];
    HeaderMutation { set_headers, remove_headers: remove.iter().map(ToString::to_string).collect() }
}
