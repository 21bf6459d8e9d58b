//! A Deployment of engines is rolled out anew while clients keep asking.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::name_of;
use kthena_router_integration::kinds::POD;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::is_ready;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;

/// How often all engines are replaced.
const ROUNDS: usize = 3;

pub(crate) async fn new_engines_replace_old_ones_without_a_failed_request(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("engines").await?;
    // Requests are in the engines for a while, so that those are hit that are under way.
    let engines = Engines::many("a", 3).with_flags(&["--time-to-first-token=20ms"]);
    sandbox.engines(&[engines]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    let load = sandbox.load(&model, &["a"], 16).await?;
    for _ in 0..ROUNDS {
        roll_out(rig, &sandbox).await?;
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
