//! A client of simulated engines.

use std::time::Duration;

use actix_web::rt::{self, task::JoinHandle, time::interval};
use awc::{Client, ClientRequest, http::StatusCode};
use serde_json::Value;
use simulated_engine::{Engine, EngineConfig};

/// Longer than any test; what waits for it is never answered.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// Looks of [`until`], a few milliseconds apart, before it gives up.
const LOOKS: usize = 2500;

/// Starts an engine of model `m` that `change` sets up.
pub(crate) async fn engine(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig::new("m");
    change(&mut config);
    let started = simulated_engine::start(config).await;
    started.expect("an ephemeral loopback port can be bound")
}

/// Returns the URL of a path on the first address.
pub(crate) fn url(engine: &Engine, path: &str) -> String {
    format!("http://{}{path}", engine.addresses()[0])
}

/// Prepares a request without time limit, on a connection of its own.
pub(crate) fn post(engine: &Engine, path: &str) -> ClientRequest {
    let client = Client::builder().disable_timeout().finish();
    client.post(url(engine, path)).force_close()
}

/// An answer that arrived whole.
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Received {
    /// Reads the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the engine answers in JSON")
    }
}

/// Sends a request and reads the answer.
pub(crate) async fn send(request: ClientRequest, body: &str) -> Received {
    let sent = request.send_body(body.to_owned()).await;
    let mut response = sent.expect("the engine answers");
    let read = response.body().limit(usize::MAX).await;
    let bytes = read.expect("the answer arrives whole");
    Received { status: response.status(), body: String::from_utf8_lossy(&bytes).into_owned() }
}

/// Sends a body to a path.
pub(crate) async fn ask(engine: &Engine, path: &str, body: &str) -> Received {
    send(post(engine, path), body).await
}

/// Reads a path.
pub(crate) async fn read(engine: &Engine, path: &str) -> Received {
    let request = Client::default().get(url(engine, path)).force_close();
    send(request, "").await
}

/// Returns the value of a series of the metrics page, by the start of its line.
pub(crate) async fn metric(engine: &Engine, series: &str) -> Option<f64> {
    let page = read(engine, "/metrics").await.body;
    let value = page.lines().find_map(|line| line.strip_prefix(series))?;
    value.rsplit(' ').next()?.parse().ok()
}

/// Sends a request that is not waited for; aborting it makes the client leave.
pub(crate) fn begin(engine: &Engine, path: &str, body: &str) -> JoinHandle<Received> {
    let request = post(engine, path);
    let body = body.to_owned();
    rt::spawn(async move { send(request, &body).await })
}

/// Looks until a condition holds; fails when it does not within some seconds.
pub(crate) async fn until(case: &str, mut holds: impl FnMut() -> bool) {
    let mut looks = interval(Duration::from_millis(4));
    for _ in 0..LOOKS {
        if holds() {
            return;
        }
        looks.tick().await;
    }
    panic!("{case} does not come true");
}
