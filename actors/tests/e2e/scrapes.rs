//! What the router learns from the metrics pages of engines.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_web::rt;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use simulated_engine::{Dialect, EngineConfig};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::harness::{ENGINE_PORT, Harness, Network, PORT, gateway_yaml, route_yaml};
use crate::inference_pools::{EXTENSION, pod_yaml, pool_yaml};

/// An engine whose answers and pages are let go one by one.
struct Held {
    /// How many requests run.
    running: Cell<usize>,
    /// As many requests are answered as there are permits.
    answers: Semaphore,
    /// What each page that was asked for says is running.
    pages: RefCell<Vec<usize>>,
    /// How many pages may be answered.
    allowed: watch::Sender<usize>,
    /// What comes before the numbers of the page's metrics.
    family: &'static str,
}

impl Held {
    async fn start(address: SocketAddr, family: &'static str) -> Rc<Self> {
        let held = Rc::new(Self {
            running: Cell::new(0),
            answers: Semaphore::new(0),
            pages: RefCell::default(),
            allowed: watch::Sender::new(0),
            family,
        });
        let listener = TcpListener::bind(address).await.unwrap();
        let engine = Rc::clone(&held);
        rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let engine = Rc::clone(&engine);
                let service = service_fn(move |request| Rc::clone(&engine).answer(request));
                rt::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        held
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let text = match request.uri().path() {
            "/metrics" => self.page().await,
            "/v1/models" => json!({"object": "list", "data": [{"id": "m", "object": "model"}]}).to_string(),
            _ => self.complete().await,
        };
        Ok(Response::new(Full::from(text)))
    }

    /// Says what ran when the page was asked for, once it may.
    async fn page(&self) -> String {
        let running = self.running.get();
        self.pages.borrow_mut().push(running);
        let number = self.pages.borrow().len();
        self.allowed.subscribe().wait_for(|allowed| *allowed >= number).await.unwrap();
        let family = self.family;
        format!("{family}:num_requests_running {running}\n{family}:num_requests_waiting 0\n")
    }

    async fn complete(&self) -> String {
        self.running.set(self.running.get() + 1);
        self.answers.acquire().await.unwrap().forget();
        self.running.set(self.running.get() - 1);
        json!({"model": "m", "choices": []}).to_string()
    }
}

#[actix_web::test]
async fn a_request_that_ends_while_its_engine_is_scraped_does_not_count_as_somebody_elses() {
    let network = Network::new();
    let engine = Held::start(SocketAddr::new(network.host(10), ENGINE_PORT), "vllm").await;
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("r", "m", "m"));
    let harness = Rc::new(network.start(&[]).await);
    let request = rt::spawn({
        let harness = Rc::clone(&harness);
        async move { harness.complete("m").await.status }
    });
    harness.until("the request is at the engine", async || engine.running.get() == 1).await;
    // The page that was asked for before is let go, so that the next one tells of the request.
    let earlier = engine.pages.borrow().len();
    engine.allowed.send_replace(earlier);
    harness.until("a page tells of it", async || engine.pages.borrow().len() > earlier).await;
    assert_eq!(engine.pages.borrow()[earlier], 1);
    engine.answers.add_permits(2);
    assert_eq!(request.await.unwrap(), 200);
    engine.allowed.send_replace(earlier + 1);
    harness.until("the page is read", async || running(&harness).await == json!(1)).await;
    assert_eq!(harness.complete("m").await.status, 200);
    assert_eq!(elsewhere(&harness).await, json!(0), "the engine had no request but the router's own");
}

/// Returns how many requests the engine had by its last page.
async fn running(harness: &Harness) -> serde_json::Value {
    harness.dump("pods").await.json()["pods"][0]["metrics"]["requestRunningNum"].clone()
}

/// Returns how many requests the last pick believed to come from elsewhere.
async fn elsewhere(harness: &Harness) -> serde_json::Value {
    let page = harness.get_debug_page("/debug/decisions?last=1").await.json();
    page["decisions"][0]["attempts"][0]["pick"]["endpoints"][0]["inputs"]["elsewhere"].clone()
}

#[actix_web::test]
async fn engines_of_an_inference_pool_are_recognised_by_their_pages() {
    for dialect in [Dialect::Vllm, Dialect::Sglang] {
        let network = Network::new();
        let _engine = network.engine_with(10, EngineConfig { dialect, ..EngineConfig::new("m") }).await;
        let harness = pool(network).await;
        harness.until("the engine's figures are known", async || is_scraped(&harness).await).await;
        assert_eq!(harness.metric("kthena_router_scrapes_total", &["outcome=\"page\""]).await, 0.0, "{dialect:?}");
    }
}

#[actix_web::test]
async fn a_page_of_no_known_engine_is_counted_and_tells_nothing() {
    let network = Network::new();
    let engine = Held::start(SocketAddr::new(network.host(10), ENGINE_PORT), "unheard_of").await;
    engine.allowed.send_replace(usize::MAX);
    let harness = pool(network).await;
    let outcome = ["outcome=\"page\""];
    let read = async || harness.metric("kthena_router_scrapes_total", &outcome).await > 1.0;
    harness.until("pages were read", read).await;
    assert!(!is_scraped(&harness).await);
    engine.answers.add_permits(1);
    let body = json!({"model": "m", "prompt": "Say something."}).to_string();
    let answer = harness.post_to(PORT, "/v1/completions").send_body(body).await.unwrap();
    assert_eq!(answer.status(), 200, "it serves all the same");
}

/// Starts a router with an InferencePool of host 10 that says nothing of its engine.
async fn pool(network: Network) -> Harness {
    network.write("pods.yaml", &pod_yaml("p-0", network.host(10)));
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    network.write("pool.yaml", &pool_yaml("g", ""));
    network.start(&[EXTENSION]).await
}

async fn is_scraped(harness: &Harness) -> bool {
    harness.dump("pools").await.json()["pools"][0]["endpoints"][0]["scraped"] == json!(true)
}
