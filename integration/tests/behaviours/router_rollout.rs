//! The router itself is rolled out anew, two replicas, while clients keep asking over connections that they keep.

use anyhow::{Result, ensure};
use kthena_router_integration::cluster::name_of;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE};

pub(crate) async fn new_routers_replace_old_ones_without_a_failed_request(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("routers").await?;
    sandbox.engines(&[Engines::many("a", 2).with_flags(&["--time-to-first-token=20ms"])]).await?;
    let model = sandbox.route("r", "a").await?;
    rig.router.scale(2).await?;
    sandbox.serves(&model, "a").await?;
    let before = rig.router.all_pods().await?;
    let load = sandbox.load(&model, &["a"], 8).await?;

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
