//! A Deployment of engines is rolled out anew while clients keep asking, behind a ModelRoute and behind an HTTPRoute.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::name_of;
use kthena_router_integration::kinds::POD;
use kthena_router_integration::load::Load;
use kthena_router_integration::objects::{Engines, http_route};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::is_ready;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;

/// How often all engines are replaced.
const ROUNDS: usize = 3;
/// The port of the Gateway with the HTTPRoute.
const PORT: u16 = 8160;

pub(crate) async fn new_engines_replace_old_ones_without_a_failed_request(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("engines").await?;
    // Requests are in the engines for a while, so that those are hit that are under way.
    let engines = Engines::many("a", 3).with_flags(&["--time-to-first-token=20ms"]);
    sandbox.engines(&[engines]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    let load = sandbox.load(&model, &["a"], 16).await?;
    survives(rig, &sandbox, load).await
}

pub(crate) async fn new_pods_of_a_service_replace_old_ones_without_a_failed_request(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("services").await?;
    let engines = Engines::many("a", 3).with_flags(&["--time-to-first-token=20ms"]);
    rig.cluster.apply(&engines.service(&sandbox.namespace)).await?;
    sandbox.engines(&[engines]).await?;
    sandbox.programmed_gateway("g", PORT).await?;
    rig.cluster.apply(&http_route(&sandbox.namespace, "h", "g", "a")).await?;
    let base = rig.router.base(PORT).await?;
    eventually("the HTTPRoute is served", async || rig.http.ensure_answer(&base, "a", "a").await).await?;
    let load = sandbox.load_at(&base, "a", &["a"], 16).await?;
    survives(rig, &sandbox, load).await
}

/// Replaces every engine several times under load, and fails if a request did.
async fn survives(rig: &Rig, sandbox: &Sandbox<'_>, load: Load) -> Result<()> {
    for _ in 0..ROUNDS {
        roll_out(rig, sandbox).await?;
        load.goes_on(100).await?;
    }
    let tally = load.stop().await;
    rig.note(tally.summary());
    tally.ensure_clean()
}

/// Replaces every engine, and waits until the old ones are gone.
async fn roll_out(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    let namespace = &sandbox.namespace;
    let before = sandbox.ready_pods("a").await?;
    rig.shell.kubectl(&format!("rollout restart deployment/a -n {namespace}")).await?;
    rig.shell.kubectl(&format!("rollout status deployment/a -n {namespace} --timeout=120s")).await?;
    eventually("all engines are new ones", async || {
        let pods = rig.cluster.list(POD, namespace, "labelSelector=app%3Da").await?;
        let old = pods.iter().find(|pod| before.iter().any(|old| name_of(old) == name_of(pod)));
        ensure!(old.is_none(), "`{}` is still there", old.map_or("", name_of));
        ensure!(pods.len() == before.len() && pods.iter().all(is_ready), "{} Pods, not all ready", pods.len());
        Ok(())
    })
    .await
}
