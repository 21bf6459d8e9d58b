//! The default Gateway and the GatewayClass are made again when somebody deletes them, and no client notices.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{condition_status, text};
use kthena_router_integration::kinds::{GATEWAY, GATEWAY_CLASS, Kind, MODEL_ROUTE};
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{CLASS, DEFAULT_GATEWAY};
use kthena_router_integration::wait::eventually;

pub(crate) async fn the_default_gateway_and_the_class_come_back_and_traffic_goes_on(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("defaults").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    let load = sandbox.load(&model, &["a"], 4).await?;

    let (namespace, name) = DEFAULT_GATEWAY;
    comes_back(rig, GATEWAY, namespace, name, &format!("delete gateway {name} -n {namespace}"), "Programmed").await?;
    sandbox.has_condition(MODEL_ROUTE, "r", "Accepted", "True").await?;
    load.goes_on(50).await?;
    comes_back(rig, GATEWAY_CLASS, "", CLASS, &format!("delete gatewayclass {CLASS}"), "Accepted").await?;
    load.goes_on(50).await?;
    rig.router.default_gateway_is_programmed().await?;

    let tally = load.stop().await;
    rig.note(tally.summary());
    tally.ensure_clean().context("while the default Gateway and the class were away")
}

/// Deletes an object with a command, and waits until another one of its name has a condition.
async fn comes_back(rig: &Rig, kind: Kind, namespace: &str, name: &str, command: &str, condition: &str) -> Result<()> {
    let before = rig.cluster.get(kind, namespace, name).await?;
    rig.shell.kubectl(command).await?;
    eventually(&format!("{} `{name}` is back", kind.kind), async || {
        let after = rig.cluster.get(kind, namespace, name).await?;
        ensure!(text(&after, "/metadata/uid") != text(&before, "/metadata/uid"), "it is the old one");
        let status = condition_status(&after["status"], condition);
        ensure!(status == Some("True"), "{condition} is {status:?}");
        Ok(())
    })
    .await
}
