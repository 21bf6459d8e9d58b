//! The CustomResourceDefinitions are installed after the router: it waits for them, and then it serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kthena_router_integration::audit::requests;
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::kinds::{DEFINITION, DEPLOYMENT, GATEWAY, MODEL_ROUTE, POD};
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{
    NAME, NAMESPACE, gateway_api_definitions, install_gateway_api, install_own_definitions, restarts,
};
use kthena_router_integration::wait::{eventually, throughout, within};
use serde_json::{Value, json};

/// The user in the audit log.
const ACCOUNT: &str = "system:serviceaccount:kthena-system:kthena-router";
/// How long the router is left alone without definitions.
const WAIT: Duration = Duration::from_secs(4);
/// How often it may ask meanwhile: eight kinds, several times each, because pauses get longer from a small one on.
const MOST_LISTS: usize = 8 * 8;

pub(crate) async fn definitions_may_be_installed_after_the_router(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("late").await?;
    rig.router.scale(0).await?;
    delete_definitions(rig).await?;
    rig.cluster.merge(DEPLOYMENT, NAMESPACE, NAME, "", &json!({"spec": {"replicas": 1}})).await?;
    let (pod, _) = waits(rig).await?;
    asks_with_patience(rig, &pod).await?;
    let (_, said) = waits(rig).await?;
    rig.note(format!("without definitions, /readyz says: {}", said.split_whitespace().collect::<Vec<_>>().join(" ")));

    install_gateway_api(&rig.shell).await?;
    install_own_definitions(&rig.shell).await?;
    let began = Instant::now();
    sandbox.engines(&[Engines::one("a")]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    rig.note(format!("served {:.1} s after the definitions were installed", began.elapsed().as_secs_f64()));
    rig.router.rolled_out().await?;
    rig.router.default_gateway_is_programmed().await?;
    let pod = rig.cluster.get(POD, NAMESPACE, &pod).await.context("the Pod that waited is not the one that serves")?;
    ensure!(restarts(&pod) == 0, "the router was restarted {} times", restarts(&pod));
    Ok(())
}

/// Deletes all definitions that the router reads objects of, and waits until they are gone.
async fn delete_definitions(rig: &Rig) -> Result<()> {
    let definitions = gateway_api_definitions()?;
    let files = format!("-f manifests/crds -f {definitions}");
    rig.shell.kubectl(&format!("delete --ignore-not-found --wait=false {files}")).await?;
    let groups = [GATEWAY, MODEL_ROUTE].map(|kind| kind.api_version.split('/').next().unwrap_or_default());
    within(Duration::from_secs(60), "the definitions are gone", async || {
        let all = rig.cluster.list(DEFINITION, "", "").await?;
        let left = all.iter().find(|definition| groups.contains(&text(definition, "/spec/group")));
        ensure!(
            left.is_none(),
            "`{}` is still there: {}",
            left.map_or("", name_of),
            left.unwrap_or(&Value::Null)["status"]
        );
        Ok(())
    })
    .await
}

/// Fails if the router hammers the API server with the question whether the definitions are there.
async fn asks_with_patience(rig: &Rig, pod: &str) -> Result<()> {
    let log = rig.control()?.state().join("audit.log");
    let lists = || -> Result<usize> {
        let asked = requests(&log, ACCOUNT)?.into_iter();
        Ok(asked.filter(|request| request.pod == pod && request.verb == "list" && request.code == 404).count())
    };
    let before = lists()?;
    throughout(WAIT, "the router is up", async || {
        let pod = rig.cluster.get(POD, NAMESPACE, pod).await?;
        ensure!(restarts(&pod) == 0, "it was restarted");
        Ok(())
    })
    .await?;
    let asked = lists()? - before;
    rig.note(format!("asked {asked} times in {WAIT:?} for what is not there"));
    ensure!(asked <= MOST_LISTS, "asked {asked} times in {WAIT:?} for what is not there");
    Ok(())
}

/// Waits until the router is up and ready, or says what it waits for; returns its Pod and what it says.
async fn waits(rig: &Rig) -> Result<(String, String)> {
    eventually("the router is up without definitions", async || {
        let pods = rig.router.all_pods().await?;
        let pod = pods.first().context("there is no Pod yet")?;
        let (name, address) = (name_of(pod), text(pod, "/status/podIP"));
        ensure!(!address.is_empty(), "the Pod has no address yet");
        let (status, said) = rig.router.page(name, address, "/readyz").await?;
        let names_what_is_missing = ["ModelRoute", "ModelServer"].iter().all(|kind| said.contains(kind));
        ensure!(status == 200 || names_what_is_missing, "/readyz: {status} {said}");
        ensure!(restarts(pod) == 0, "the router was restarted");
        Ok((name.to_owned(), said))
    })
    .await
}
