//! The namespaces that the router looks at can be limited: what is in the others does not exist for it.

use anyhow::{Result, ensure};
use kthena_router_integration::kinds::{GATEWAY, MODEL_ROUTE};
use kthena_router_integration::objects::{Engines, gateway, model_server};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::CLASS;
use kthena_router_integration::sandbox::Sandbox;

pub(crate) async fn only_the_namespaces_that_are_named_are_served(rig: &Rig) -> Result<()> {
    let (seen, unseen) = (rig.sandbox("seen").await?, rig.sandbox("unseen").await?);
    rig.router.set_environment(&format!("KTHENA_WATCH_NAMESPACES={}", seen.namespace)).await?;
    let outcome = in_both(rig, &seen, &unseen).await;
    let reset = rig.router.set_environment("KTHENA_WATCH_NAMESPACES-").await;
    outcome?;
    reset
}

async fn in_both(rig: &Rig, seen: &Sandbox<'_>, unseen: &Sandbox<'_>) -> Result<()> {
    rig.cluster.apply(&model_server(&unseen.namespace, "a", "a")).await?;
    let unseen_model = unseen.route("r", "a").await?;
    rig.cluster.apply(&gateway(&unseen.namespace, "g", CLASS, 8160)).await?;
    // What came later is served, so that what came before would be.
    seen.engines(&[Engines::one("a")]).await?;
    let model = seen.route("r", "a").await?;
    seen.serves(&model, "a").await?;
    seen.programmed_gateway("g", 8161).await?;
    rig.http.ensure_refusal(&rig.base().await?, &unseen_model, 404).await?;
    let route = unseen.get(MODEL_ROUTE, "r").await?;
    ensure!(route["status"].is_null(), "the route has a status: {}", route["status"]);
    let other = unseen.get(GATEWAY, "g").await?;
    ensure!(other["status"]["listeners"].is_null(), "the Gateway has a status: {}", other["status"]);
    // The default Gateway is in the router's own namespace, which nobody has to name.
    rig.router.default_gateway_is_programmed().await
}
