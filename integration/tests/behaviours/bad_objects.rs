//! An object that the API server takes and the router cannot read, as after a change of its definition: it is reported,
//! and everything else works, also when a router starts and finds it in its first list.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::text;
use kthena_router_integration::kinds::{DEFINITION, MODEL_ROUTE, POD};
use kthena_router_integration::objects::{Engines, object};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE, is_ready, restarts};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

const NAME_OF_DEFINITION: &str = "modelroutes.networking.serving.volcano.sh";

pub(crate) async fn an_object_that_cannot_be_decoded_is_reported_and_the_rest_works(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("undecodable").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let definition = rig.cluster.get(DEFINITION, "", NAME_OF_DEFINITION).await?;
    let strict = definition["spec"]["versions"].clone();
    let mut loose = strict.clone();
    loose[0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    set_versions(rig, &loose).await?;
    let outcome = with_a_bad_object(rig, &sandbox).await;
    let deleted = sandbox.delete(MODEL_ROUTE, "bad").await;
    let restored = set_versions(rig, &strict).await;
    outcome.and(deleted).and(restored)
}

async fn set_versions(rig: &Rig, versions: &Value) -> Result<()> {
    let patch = json!({"spec": {"versions": versions}});
    rig.cluster.merge(DEFINITION, "", NAME_OF_DEFINITION, "", &patch).await.map(drop)
}

async fn with_a_bad_object(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    let good = sandbox.route("good", "a").await?;
    sandbox.serves(&good, "a").await?;
    let load = sandbox.load(&good, &["a"], 2).await?;
    let bad = object(MODEL_ROUTE, &sandbox.namespace, "bad", &json!({"modelName": "bad", "rules": "many"}));
    eventually("the API server takes the bad object", async || rig.cluster.apply(&bad).await.map(drop)).await?;
    let event = eventually("there is an Event about the bad object", async || {
        let events = sandbox.events(MODEL_ROUTE, "bad").await?;
        events.into_iter().find(|event| event["type"] == "Warning").context("no warning")
    })
    .await?;
    rig.note(format!("Event: {}", text(&event, "/note")));
    let second = sandbox.route("second", "a").await?;
    sandbox.serves(&second, "a").await?;
    let tally = load.stop().await;
    tally.ensure_clean()?;

    // What a router finds at its start is a list with the bad object in it.
    let pod = rig.router.only_pod().await?;
    let before = restarts(&rig.cluster.get(POD, NAMESPACE, &pod).await?);
    rig.control()?.signal(NAMESPACE, &pod, NAME, "KILL").await?;
    eventually("the router is back", async || {
        let pod = rig.cluster.get(POD, NAMESPACE, &pod).await?;
        ensure!(restarts(&pod) > before && is_ready(&pod), "it is not ready: {}", pod["status"]["containerStatuses"]);
        Ok(())
    })
    .await?;
    sandbox.serves(&second, "a").await?;
    let third = sandbox.route("third", "a").await?;
    sandbox.serves(&third, "a").await
}
