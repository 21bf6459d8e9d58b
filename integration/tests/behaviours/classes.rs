//! Whose a Gateway is, is decided by the controller of its class, not by the name of the class.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::{condition_status, text};
use kthena_router_integration::kinds::{GATEWAY, GATEWAY_CLASS};
use kthena_router_integration::objects::{Engines, gateway, object};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::wait::eventually;
use serde_json::json;

const OUR_CONTROLLER: &str = "volcano.sh/kthena-router";

pub(crate) async fn gateways_of_a_foreign_class_are_left_alone(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("foreign").await?;
    let class = sandbox.namespace.clone();
    let spec = json!({"controllerName": "example.com/another"});
    let class_before = rig.cluster.apply(&object(GATEWAY_CLASS, "", &class, &spec)).await?;
    let before = rig.cluster.apply(&gateway(&sandbox.namespace, "theirs", &class, 8120)).await?;
    let nobodys = rig.cluster.apply(&gateway(&sandbox.namespace, "nobodys", "no-such-class", 8121)).await?;
    // The router has seen the foreign ones when it has dealt with one that came after them.
    sandbox.programmed_gateway("ours", 8122).await?;

    for (name, before) in [("theirs", &before), ("nobodys", &nobodys)] {
        let after = sandbox.get(GATEWAY, name).await?;
        ensure!(after["status"] == before["status"], "the status of `{name}` is now {}", after["status"]);
        let version = |gateway| text(gateway, "/metadata/resourceVersion").to_owned();
        ensure!(version(&after) == version(before), "`{name}` was written");
    }
    let class_after = rig.cluster.get(GATEWAY_CLASS, "", &class).await?;
    ensure!(class_after["status"] == class_before["status"], "the class's status is now {}", class_after["status"]);
    let ports = rig.router.service_ports().await?;
    ensure!(ports.iter().all(|(port, ..)| ![8120, 8121].contains(port)), "the Service has a foreign port: {ports:?}");
    Ok(())
}

pub(crate) async fn a_class_of_another_name_with_our_controller_is_ours(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("class").await?;
    let class = sandbox.namespace.clone();
    sandbox.engines(&[Engines::one("a")]).await?;
    // The Gateway is there before its class, as happens when a directory is applied.
    rig.cluster.apply(&gateway(&sandbox.namespace, "g", &class, 8123)).await?;
    rig.cluster.apply(&object(GATEWAY_CLASS, "", &class, &json!({"controllerName": OUR_CONTROLLER}))).await?;
    eventually("the class is accepted", async || {
        let class = rig.cluster.get(GATEWAY_CLASS, "", &class).await?;
        for condition in ["Accepted", "SupportedVersion"] {
            ensure!(condition_status(&class["status"], condition) == Some("True"), "{}", class["status"]);
        }
        Ok(())
    })
    .await?;
    sandbox.has_condition(GATEWAY, "g", "Programmed", "True").await?;
    let model = sandbox.route_on((&sandbox.namespace, "g"), "r", "a").await?;
    let base = rig.router.base(8123).await?;
    eventually("its listener serves", async || rig.http.ensure_answer(&base, &model, "a").await).await
}
