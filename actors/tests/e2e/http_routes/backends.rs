//! Backends that answer with what they were asked.

use std::convert::Infallible;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::rt;
use arc_swap::ArcSwap;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

/// The port of every backend.
pub(crate) const BACKEND_PORT: u16 = 3000;

/// A backend that runs to the end of its test.
pub(crate) struct Backend(Arc<State>);

struct State {
    name: String,
    requests: AtomicUsize,
    last: ArcSwap<Value>,
}

impl Backend {
    /// Starts a backend; its answers have its name. It speaks HTTP/1.1 and HTTP/2 with prior knowledge.
    pub(crate) async fn start(address: IpAddr, name: &str) -> Self {
        let state = Arc::new(State { name: name.to_owned(), requests: AtomicUsize::new(0), last: ArcSwap::default() });
        let listener = TcpListener::bind(SocketAddr::new(address, BACKEND_PORT)).await.unwrap();
        rt::spawn(serve(listener, Arc::clone(&state)));
        Self(state)
    }

    /// Returns how many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Returns what the last request was.
    pub(crate) fn last(&self) -> Value {
        Value::clone(&self.0.last.load())
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        rt::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            // A client that leaves is no fault of the backend.
            drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// Answers with the request; `?status=` sets the answer's status for the first `?failures=` requests or for all,
/// `?hang` leaves the request without an answer.
async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = state.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = seen(&state.name, &head, &body);
    state.last.store(Arc::new(seen.clone()));
    let query = head.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    if parameter("hang").is_some() {
        pending::<()>().await;
    }
    let fails = parameter("failures").is_none_or(|failures| number < failures.parse::<usize>().unwrap());
    let status = parameter("status").filter(|_| fails).unwrap_or("200");
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if let Some(pairs) = head.headers.get("x-echo-set-header").and_then(|value| value.to_str().ok()) {
        for pair in pairs.split(',') {
            let (name, value) = pair.split_once(':').unwrap();
            response = response.header(name.trim(), value.trim());
        }
    }
    Ok(response.body(Full::from(seen.to_string())).unwrap())
}

/// Returns a request as an answer tells of it.
fn seen(backend: &str, head: &http::request::Parts, body: &[u8]) -> Value {
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        let list = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(json!(value.to_str().unwrap()));
    }
    let named = head.headers.get("host").and_then(|host| host.to_str().ok());
    json!({
        "backend": backend,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map(ToString::to_string),
        "host": named.or_else(|| head.uri.authority().map(http::uri::Authority::as_str)),
        "headers": headers,
        "version": format!("{:?}", head.version),
        "body": String::from_utf8_lossy(body),
    })
}
