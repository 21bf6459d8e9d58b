//! The router's Service has a port for every listener, and every port that a user wrote stays as it was written.

use anyhow::{Result, ensure};
use kthena_router_integration::kinds::GATEWAY;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{DEFAULT_GATEWAY, NAME, NAMESPACE};
use kthena_router_integration::wait::eventually;

/// A port as the tests compare it: number, name, target.
type Port = (u64, String, String);

fn port(number: u64, name: &str, target: &str) -> Port {
    (number, name.to_owned(), target.to_owned())
}

pub(crate) async fn ports_follow_the_gateways_and_those_of_users_stay(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("ports").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let own = eventually("the Service has the default Gateway's port", async || {
        let default = rig.cluster.get(GATEWAY, DEFAULT_GATEWAY.0, DEFAULT_GATEWAY.1).await?;
        let ports = rig.router.service_ports().await?;
        let listened = &default["spec"]["listeners"][0]["port"];
        ensure!(ports.iter().any(|(port, ..)| listened == port), "it has {ports:?}");
        Ok(ports)
    })
    .await?;
    let with = |more: &[Port]| [&own[..], more].concat();

    sandbox.programmed_gateway("first", 8085).await?;
    has_exactly(rig, &with(&[port(8085, "gateway-8085", "8085")])).await?;
    let model = sandbox.route_on((&sandbox.namespace, "first"), "r", "a").await?;
    let base = rig.router.base(8085).await?;
    eventually("the new port serves", async || rig.http.ensure_answer(&base, &model, "a").await).await?;

    // One port of a number that no Gateway has yet, and one that leads to the Gateway.
    let patch = "kubectl patch service NAME -n NAMESPACE -p '{\"spec\": {\"ports\": [
        {\"name\": \"mine\", \"port\": 8086, \"targetPort\": 8080}, {\"name\": \"other\", \"port\": 85, \"targetPort\": 8085}]}}'";
    rig.shell.script("", &patch.replace("NAMESPACE", NAMESPACE).replace("NAME", NAME)).await?;
    let mine = [port(8086, "mine", "8080"), port(85, "other", "8085")];
    has_exactly(rig, &[with(&[port(8085, "gateway-8085", "8085")]), mine.to_vec()].concat()).await?;

    // The user's port 8086 leads elsewhere, and it stays that way.
    sandbox.programmed_gateway("second", 8086).await?;
    sandbox.programmed_gateway("third", 8087).await?;
    let both = [port(8085, "gateway-8085", "8085"), port(8087, "gateway-8087", "8087")];
    has_exactly(rig, &[with(&both), mine.to_vec()].concat()).await?;
    let user_base = rig.router.base(85).await?;
    eventually("the user's port serves", async || rig.http.ensure_answer(&user_base, &model, "a").await).await?;

    for name in ["first", "second", "third"] {
        sandbox.delete(GATEWAY, name).await?;
    }
    has_exactly(rig, &with(&mine)).await
}

/// Waits until the Service has these ports and no others.
async fn has_exactly(rig: &Rig, expected: &[Port]) -> Result<()> {
    let mut expected = expected.to_vec();
    expected.sort();
    eventually(&format!("the ports of the Service are {expected:?}"), async || {
        let mut ports = rig.router.service_ports().await?;
        ports.sort();
        ensure!(ports == expected, "they are {ports:?}");
        Ok(())
    })
    .await
}
