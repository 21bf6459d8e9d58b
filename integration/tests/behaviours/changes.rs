//! Editing, deleting and re-adding routes and Gateways takes effect in less than a second.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kthena_router_integration::http::HttpClient;
use kthena_router_integration::kinds::{GATEWAY, MODEL_ROUTE};
use kthena_router_integration::latency::Latencies;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::every;

/// How often a route is edited, edited back, deleted and added again.
const ROUTE_ROUNDS: usize = 20;
/// How often a Gateway is added and deleted.
const GATEWAY_ROUNDS: usize = 10;
/// 99 of 100 changes take effect within this time.
const BOUND: Duration = Duration::from_secs(1);
/// The port of the Gateway that comes and goes.
const PORT: u16 = 8090;
/// How exactly the moment of a change is seen.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn a_change_takes_effect_within_a_second(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("changes").await?;
    sandbox.engines(&[Engines::one("a"), Engines::one("b")]).await?;
    let routes = change_routes(rig, &sandbox).await?;
    let gateways = change_gateways(rig, &sandbox).await?;
    let mut all = routes.clone();
    all.extend(&gateways);
    rig.note(format!("routes: {routes}"));
    rig.note(format!("Gateways: {gateways}"));
    rig.note(format!("all changes: {all}"));
    all.ensure_p99_below(BOUND)
}

async fn change_routes(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<Latencies> {
    let base = rig.base().await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    let mut latencies = Latencies::default();
    for _ in 0..ROUTE_ROUNDS {
        for target in ["b", "a"] {
            sandbox.route("r", target).await?;
            latencies.add(until(|| rig.http.ensure_answer(&base, &model, target)).await?);
        }
        sandbox.delete(MODEL_ROUTE, "r").await?;
        latencies.add(until(async || rig.http.ensure_refusal(&base, &model, 404).await.map(drop)).await?);
        sandbox.route("r", "a").await?;
        latencies.add(until(|| rig.http.ensure_answer(&base, &model, "a")).await?);
    }
    Ok(latencies)
}

async fn change_gateways(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<Latencies> {
    let base = rig.router.base(PORT).await?;
    let model = sandbox.route_on((&sandbox.namespace, "g"), "s", "a").await?;
    let mut latencies = Latencies::default();
    for _ in 0..GATEWAY_ROUNDS {
        sandbox.gateway("g", PORT).await?;
        latencies.add(until(|| rig.http.ensure_answer(&base, &model, "a")).await?);
        sandbox.delete(GATEWAY, "g").await?;
        // Connections that are open may live on; new clients must not be served.
        let is_closed = async || match HttpClient::new().complete(&base, &model).await {
            Err(_) => Ok(()),
            Ok(answer) => {
                ensure!(answer.status == 404, "still answered: {}", answer.said());
                Ok(())
            }
        };
        latencies.add(until(is_closed).await?);
    }
    Ok(latencies)
}

/// Returns how long it takes, from the API server's confirmation on, until an attempt succeeds.
async fn until(attempt: impl AsyncFnMut() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    every(PAUSE, Duration::from_secs(20), "the change takes effect", attempt).await?;
    Ok(began.elapsed())
}
