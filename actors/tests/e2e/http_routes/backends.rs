//! Backends that answer with what they were asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use arc_swap::ArcSwap;
use serde_json::{Map, Value, json};

use crate::harness::PATIENCE;

/// The port of every backend.
pub(crate) const BACKEND_PORT: u16 = 3000;

/// A backend that is running.
pub(crate) struct Backend {
    state: Arc<State>,
    handle: ServerHandle,
}

struct State {
    name: String,
    requests: AtomicUsize,
    last: ArcSwap<Value>,
}

impl Backend {
    /// Starts a backend; its answers have its name.
    pub(crate) fn start(address: IpAddr, name: &str) -> Self {
        let state = Arc::new(State { name: name.to_owned(), requests: AtomicUsize::new(0), last: ArcSwap::default() });
        let shared = Arc::clone(&state);
        let server = HttpServer::new(move || {
            App::new().app_data(web::Data::from(Arc::clone(&shared))).default_service(web::to(answer))
        });
        let server = server.workers(1).disable_signals();
        let server = server.bind_auto_h2c(SocketAddr::new(address, BACKEND_PORT)).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { state, handle }
    }

    /// Returns how many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Returns what the last request was.
    pub(crate) fn last(&self) -> Value {
        Value::clone(&self.state.last.load())
    }

    /// Ends the backend at once.
    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

/// Answers with the request; `?status=` sets the answer's status for the first `?failures=` requests or for all, `?hang`
/// leaves the request without an answer.
async fn answer(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let number = state.requests.fetch_add(1, Ordering::Relaxed);
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let list = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(json!(value.to_str().unwrap()));
    }
    let parameter = |name: &str| {
        let mut pairs = request.query_string().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let number_of = |name: &str| parameter(name).and_then(|value| value.parse::<usize>().ok());
    let seen = json!({
        "backend": state.name,
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(ToString::to_string),
        "host": request.headers().get("host").and_then(|host| host.to_str().ok()).map_or_else(
            || request.uri().authority().map(ToString::to_string),
            |host| Some(host.to_owned()),
        ),
        "headers": headers,
        "version": format!("{:?}", request.version()),
        "body": String::from_utf8_lossy(&body),
    });
    state.last.store(Arc::new(seen.clone()));
    if parameter("hang").is_some() {
        // Longer than any test waits.
        tokio::time::sleep(PATIENCE + Duration::from_secs(60)).await;
    }
    let fails = number_of("failures").is_none_or(|failures| number < failures);
    let status = number_of("status").filter(|_| fails).and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
    if let Some(pairs) = request.headers().get("x-echo-set-header").and_then(|value| value.to_str().ok()) {
        for pair in pairs.split(',') {
            let (name, value) = pair.split_once(':').unwrap();
            response.append_header((name.trim(), value.trim()));
        }
    }
    response.json(seen)
}
