//! The API server is down for a minute while clients keep asking: none of them notices, and nothing flaps on its
//! return.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{condition, name_of, text};
use kthena_router_integration::kinds::{GATEWAY, GATEWAY_CLASS, MODEL_ROUTE, MODEL_SERVER, POD, SERVICE};
use kthena_router_integration::objects::{Engines, model_server};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAMESPACE, restarts};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::{throughout, within};
use serde_json::Value;

/// How long the API server is down.
const OUTAGE: Duration = Duration::from_secs(60);
/// How long the router may take to write status again: the lease has to be had again, too.
const RETURN: Duration = Duration::from_secs(60);
/// The metric of how long ago the API server last said something on a watch.
const AGE: &str = "kthena_router_watch_age_seconds";

pub(crate) async fn traffic_goes_on_for_a_minute_without_an_api_server(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("outage").await?;
    sandbox.engines(&[Engines::many("a", 2)]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.has_condition(MODEL_ROUTE, "r", "Accepted", "True").await?;
    sandbox.programmed_gateway("g", 8110).await?;
    sandbox.serves(&model, "a").await?;
    let (pod, address) = rig.router.only_pod_with_address().await?;
    let readiness_before = readiness(rig, &pod).await?;
    let before = versions(rig).await?;
    let load = sandbox.load(&model, &["a"], 4).await?;

    rig.control()?.kill_api_server().await?;
    outage(rig, &pod, &address).await?;
    load.goes_on(50).await.context("before the API server is back")?;
    rig.control()?.start_api_server().await?;

    let began = Instant::now();
    writes_again(rig, &sandbox).await?;
    rig.note(format!("status is written again {:.1} s after the return", began.elapsed().as_secs_f64()));
    load.goes_on(50).await.context("after the API server is back")?;
    let tally = load.stop().await;
    rig.note(tally.summary());
    tally.ensure_clean()?;
    nobody_wrote(&before, &versions(rig).await?)?;
    ensure!(readiness(rig, &pod).await? == readiness_before, "the Pod's readiness has changed");
    Ok(())
}

/// Sits the outage out while the router stays ready.
async fn outage(rig: &Rig, pod: &str, address: &str) -> Result<()> {
    let killed = Instant::now();
    throughout(OUTAGE, "the router is ready", async || {
        let (status, page) = rig.router.page(pod, address, "/readyz").await?;
        ensure!(status == 200, "/readyz: {status} {page}");
        Ok(())
    })
    .await?;
    ages_show(rig, pod, address, killed).await
}

/// Fails unless the metrics say of every watch that it has been silent since the API server was killed.
async fn ages_show(rig: &Rig, pod: &str, address: &str, killed: Instant) -> Result<()> {
    let silent = killed.elapsed().as_secs_f64();
    let metrics = rig.router.metrics(pod, address).await?;
    let ages = metrics.select(AGE, &[]);
    ensure!(ages.iter().any(|age| age.labels.contains("ModelRoute")), "there is no metric `{AGE}` of ModelRoutes");
    for age in ages {
        ensure!(
            age.value >= silent - 1.0,
            "the API server is dead for {silent:.0} s, but {AGE}{{{}}} is {}",
            age.labels,
            age.value
        );
    }
    Ok(())
}

/// Waits until the router writes the status of an object that gives no other object a reason to change.
async fn writes_again(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    rig.cluster.apply(&model_server(&sandbox.namespace, "late", "late")).await?;
    within(RETURN, "a new ModelServer has a status", async || {
        let server = sandbox.get(MODEL_SERVER, "late").await?;
        ensure!(condition(&server["status"], "Ready").is_some(), "the status is {}", server["status"]);
        Ok(())
    })
    .await
}

/// Fails if any object has another version than before.
fn nobody_wrote(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Result<()> {
    for (object, version) in before {
        ensure!(after.get(object) == Some(version), "{object} was written: {version} is now {:?}", after.get(object));
    }
    Ok(())
}

/// Returns the version of every object that the router writes.
async fn versions(rig: &Rig) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for (kind, namespace) in
        [(GATEWAY_CLASS, ""), (GATEWAY, ""), (MODEL_ROUTE, ""), (MODEL_SERVER, ""), (SERVICE, NAMESPACE)]
    {
        for object in rig.cluster.list(kind, namespace, "").await? {
            let key = format!("{} {}/{}", kind.kind, text(&object, "/metadata/namespace"), name_of(&object));
            versions.insert(key, text(&object, "/metadata/resourceVersion").to_owned());
        }
    }
    Ok(versions)
}

/// Returns since when the Pod is ready, and how often it was restarted.
async fn readiness(rig: &Rig, pod: &str) -> Result<(Value, u64)> {
    let pod = rig.cluster.get(POD, NAMESPACE, pod).await?;
    let ready = condition(&pod["status"], "Ready").context("the Pod has no condition Ready")?;
    Ok((ready["lastTransitionTime"].clone(), restarts(&pod)))
}
