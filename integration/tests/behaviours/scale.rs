//! A thousand routes, two hundred ModelServers, two thousand Pods: ready soon after a start, and new routes served at
//! once.
//!
//! The Pods are real to the API server and to the router; one engine stands behind the addresses of all of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kthena_router_integration::cluster::{Cluster, name_of};
use kthena_router_integration::http::HttpClient;
use kthena_router_integration::kinds::{MODEL_SERVER, POD};
use kthena_router_integration::latency::Latencies;
use kthena_router_integration::objects::{Engines, model_route, model_server};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{DEFAULT_GATEWAY, METRICS_PORT, NAME, NAMESPACE, is_ready};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::{eventually, every, within};
use serde_json::{Value, json};

const ROUTES: usize = 1_000;
const SERVERS: usize = 200;
const PODS: usize = 2_000;
/// The number of Pods by which memory is measured.
const MANY_PODS: usize = 10_000;
const APPLIES: usize = 100;
/// From the first sign of life of a new process to its readiness.
const READY_BOUND: Duration = Duration::from_secs(5);
/// From the API server's confirmation to the first answer.
const SERVING_BOUND: Duration = Duration::from_millis(200);
/// What ten thousand Pods may take of the router's memory.
const MEMORY_BOUND: u64 = 50 << 20;
/// How long making the further Pods may take; a slower machine does without them and says so.
const MANY_PODS_LIMIT: Duration = Duration::from_secs(60);
/// How many requests to the API server are under way at once.
const CONCURRENCY: usize = 24;
/// The addresses of the Pods.
const RANGE: &str = "10.245.0.0/16";
const MEBIBYTE: f64 = (1 << 20) as f64;

pub(crate) async fn a_thousand_routes_and_two_thousand_pods_are_no_burden(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("scale").await?;
    let namespace = &sandbox.namespace;
    engine_behind_all_addresses(rig, &sandbox).await?;
    let pod = rig.router.only_pod().await?;
    let empty = rig.control()?.memory_of_pod(NAMESPACE, &pod).await?;

    let began = Instant::now();
    make_pods(&rig.cluster, namespace, 0..PODS, |number| format!("s-{}", number % SERVERS)).await?;
    let rate = PODS as f64 / began.elapsed().as_secs_f64();
    make((0..SERVERS).map(|number| model_server(namespace, &format!("s-{number}"), "scale")), &rig.cluster).await?;
    make((0..ROUTES).map(|number| route(&sandbox, &format!("r-{number}"), number)), &rig.cluster).await?;
    rig.note(format!("objects made in {:.1} s, {rate:.0} Pods a second", began.elapsed().as_secs_f64()));
    all_serve(rig, &sandbox).await?;
    let full = rig.control()?.memory_of_pod(NAMESPACE, &pod).await?;
    rig.note(format!(
        "router: {:.0} MiB without them, {:.0} MiB with them",
        empty as f64 / MEBIBYTE,
        full as f64 / MEBIBYTE
    ));

    let (life, ready) = restart(rig, &pod).await?;
    rig.note(format!("restarted: alive after {:.2} s, ready {:.2} s later", life.as_secs_f64(), ready.as_secs_f64()));
    let restarted = rig.control()?.memory_of_pod(NAMESPACE, &pod).await?;
    rig.note(format!("router after the restart: {:.0} MiB", restarted as f64 / MEBIBYTE));
    let latencies = applies(rig, &sandbox).await?;
    rig.note(format!("apply to serving: {latencies}"));
    many_pods(rig, &sandbox, &pod, rate, restarted).await?;
    ensure!(ready < READY_BOUND, "ready after {ready:?}, not within {READY_BOUND:?}");
    latencies.ensure_p99_below(SERVING_BOUND)
}

/// Starts the one engine that answers for every Pod.
async fn engine_behind_all_addresses(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    let mut engine = Engines::one("engine");
    engine.model = "scale".to_owned();
    rig.cluster.create(&engine.pod(&sandbox.namespace, rig.router.image())).await?;
    eventually("the engine is ready", async || {
        ensure!(is_ready(&sandbox.get(POD, "engine").await?), "it is not");
        Ok(())
    })
    .await?;
    rig.control()?.take_addresses(&sandbox.namespace, "engine", RANGE).await
}

fn route(sandbox: &Sandbox<'_>, name: &str, number: usize) -> Value {
    let server = format!("s-{}", number % SERVERS);
    model_route(&sandbox.namespace, name, &sandbox.model(name), DEFAULT_GATEWAY, &server)
}

/// Applies objects, many at a time.
async fn make(objects: impl Iterator<Item = Value>, cluster: &Cluster) -> Result<()> {
    let applied = stream::iter(objects).map(async |object| cluster.apply(&object).await.map(drop));
    applied.buffer_unordered(CONCURRENCY).try_collect().await
}

/// Makes Pods that run nowhere, and says for each that it is ready.
async fn make_pods(
    cluster: &Cluster,
    namespace: &str,
    numbers: std::ops::Range<usize>,
    app: impl Fn(usize) -> String,
) -> Result<()> {
    let made = stream::iter(numbers).map(|number| make_pod(cluster, namespace, number, app(number)));
    made.buffer_unordered(CONCURRENCY).try_collect().await
}

async fn make_pod(cluster: &Cluster, namespace: &str, number: usize, app: String) -> Result<()> {
    let name = format!("p-{number}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        // What real Pods carry around, and a router has no use for.
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"app": app, "number": number.to_string()},
            "annotations": {"notes": "x".repeat(2_000)},
        },
        "spec": {
            "nodeName": "nowhere", "automountServiceAccountToken": false,
            "containers": [{"name": "engine", "image": "none", "env": [{"name": "NOTES", "value": "x".repeat(1_000)}]}],
        },
    });
    cluster.create(&pod).await?;
    let address = format!("10.245.{}.{}", number / 250, number % 250 + 1);
    let status = json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    cluster.merge(POD, namespace, &name, "status", &status).await.map(drop)
}

/// Waits until every ModelServer has its Pods, and the first and the last route are served.
async fn all_serve(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    let began = Instant::now();
    every(Duration::from_millis(200), Duration::from_secs(60), "all ModelServers have their Pods", async || {
        let servers = rig.cluster.list(MODEL_SERVER, &sandbox.namespace, "").await?;
        let wanted = (PODS / SERVERS) as u64;
        let lacking = servers.iter().find(|server| server["status"]["readyEndpoints"].as_u64() != Some(wanted));
        let status = |server: &Value| format!("`{}` has {}", name_of(server), server["status"]["readyEndpoints"]);
        ensure!(lacking.is_none(), "{}", lacking.map(status).unwrap_or_default());
        Ok(())
    })
    .await?;
    rig.note(format!("all status written {:.1} s later", began.elapsed().as_secs_f64()));
    for number in [0, ROUTES - 1] {
        sandbox.serves(&sandbox.model(&format!("r-{number}")), "scale").await?;
    }
    Ok(())
}

/// Kills the router's process, and returns how long the next one took to be alive, and from there to be ready.
async fn restart(rig: &Rig, pod: &str) -> Result<(Duration, Duration)> {
    let (_, address) = rig.router.only_pod_with_address().await?;
    let url = |path: &str| format!("http://{address}:{METRICS_PORT}{path}");
    let began = Instant::now();
    rig.control()?.signal(NAMESPACE, pod, NAME, "KILL").await?;
    eventually("the old process is gone", async || match HttpClient::new().get(&url("/healthz")).await {
        Ok(_) => Err(anyhow::anyhow!("it answers")),
        Err(_) => Ok(()),
    })
    .await?;
    let is_ok = async |path: &str| {
        let answer = rig.http.get(&url(path)).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.said());
        Ok(())
    };
    within(Duration::from_secs(60), "the next process is alive", async || is_ok("/healthz").await).await?;
    let life = began.elapsed();
    within(Duration::from_secs(60), "the next process is ready", async || is_ok("/readyz").await).await?;
    let ready = began.elapsed() - life;
    rig.router.rolled_out().await.context("after the restart")?;
    Ok((life, ready))
}

/// Applies new routes one after the other, and returns how long each took to be served.
async fn applies(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<Latencies> {
    let base = rig.base().await?;
    let mut latencies = Latencies::default();
    for number in 0..APPLIES {
        let name = format!("new-{number}");
        rig.cluster.apply(&route(sandbox, &name, number)).await?;
        let applied = Instant::now();
        let model = sandbox.model(&name);
        let attempt = async || rig.http.ensure_answer(&base, &model, "scale").await;
        every(Duration::from_millis(2), Duration::from_secs(10), &format!("`{name}` is served"), attempt).await?;
        latencies.add(applied.elapsed());
    }
    Ok(latencies)
}

/// Makes many more Pods that no ModelServer selects, and looks at what they cost a router that starts with them.
async fn many_pods(rig: &Rig, sandbox: &Sandbox<'_>, pod: &str, rate: f64, before: u64) -> Result<()> {
    let more = MANY_PODS - PODS;
    let expected = Duration::from_secs_f64(more as f64 / rate);
    if expected > MANY_PODS_LIMIT {
        rig.note(format!("{MANY_PODS} Pods were not tried: making them would take {expected:.0?} here"));
        return Ok(());
    }
    let last = MANY_PODS - 1;
    let app = |number| if number == last { "last" } else { "others" }.to_owned();
    make_pods(&rig.cluster, &sandbox.namespace, PODS..MANY_PODS, app).await?;
    let (_, ready) = restart(rig, pod).await?;
    rig.cluster.apply(&model_server(&sandbox.namespace, "last", "scale")).await?;
    eventually("the router knows the last Pod", async || {
        let server = sandbox.get(MODEL_SERVER, "last").await?;
        ensure!(server["status"]["readyEndpoints"] == 1, "the status is {}", server["status"]);
        Ok(())
    })
    .await?;
    let after = rig.control()?.memory_of_pod(NAMESPACE, pod).await?;
    let growth = after.saturating_sub(before);
    let seconds = ready.as_secs_f64();
    rig.note(format!(
        "with {MANY_PODS} Pods: ready {seconds:.2} s after a restart, {:.0} MiB",
        after as f64 / MEBIBYTE
    ));
    let for_all = growth * MANY_PODS as u64 / more as u64;
    ensure!(for_all < MEMORY_BOUND, "{MANY_PODS} Pods take {:.0} MiB", for_all as f64 / MEBIBYTE);
    Ok(())
}
