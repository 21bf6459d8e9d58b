//! The router itself is rolled out anew, two replicas, while clients keep asking over connections that they keep.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::name_of;
use kthena_router_integration::http::HttpClient;
use kthena_router_integration::kinds::POD;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE};
use kthena_router_integration::wait::within;

/// Many, because a connection that closes hurts only the client that is about to use it.
const CLIENTS: usize = 32;

/// More than the time for which a router that stops still serves.
const DELAY: Duration = Duration::from_secs(8);

pub(crate) async fn new_routers_replace_old_ones_without_a_failed_request(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("routers").await?;
    sandbox.engines(&[Engines::many("a", 2).with_flags(&["--time-to-first-token=20ms"])]).await?;
    let model = sandbox.route("r", "a").await?;
    rig.router.scale(2).await?;
    sandbox.serves(&model, "a").await?;
    let before = rig.router.all_pods().await?;
    let load = sandbox.load(&model, &["a"], CLIENTS).await?;

    rig.shell.kubectl(&format!("rollout restart deployment/{NAME} -n {NAMESPACE}")).await?;
    rig.router.rolled_out().await?;
    let after = rig.router.all_pods().await?;
    let old = after.iter().find(|pod| before.iter().any(|old| name_of(old) == name_of(pod)));
    ensure!(old.is_none(), "`{}` is still there", old.map_or("", name_of));
    load.goes_on(100).await?;

    let tally = load.stop().await;
    rig.note(tally.summary());
    tally.ensure_clean()
}

pub(crate) async fn a_router_that_stops_tells_its_clients_to_go_elsewhere(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("farewell").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let model = sandbox.route("r", "a").await?;
    sandbox.serves(&model, "a").await?;
    let (pod, address) = rig.router.only_pod_with_address().await?;
    // One connection to this Pod, which is kept from request to request.
    let http = HttpClient::new();
    let base = format!("http://{address}:8080");
    let before = http.complete(&base, &model).await?;
    ensure!(before.answered_by()? == "a" && !before.closes, "a connection is not kept: {}", before.said());

    rig.cluster.delete(POD, NAMESPACE, &pod).await?;
    let mut requests = 0;
    within(DELAY, "an answer says that the connection is closed", async || {
        let answer = http.complete(&base, &model).await;
        requests += 1;
        let answer = answer.context("the connection was closed without a word, or nobody listens any more")?;
        ensure!(answer.answered_by()? == "a", "not served while it drains: {}", answer.said());
        ensure!(answer.closes, "the connection is kept");
        Ok(())
    })
    .await?;
    rig.note(format!("said with answer {requests} after the Pod was deleted"));
    rig.router.rolled_out().await
}
