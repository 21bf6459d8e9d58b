//! The history that a watch would continue from is compacted away: the API server answers 410 Gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{Cluster, status_code, text};
use kthena_router_integration::kinds::MODEL_ROUTE;
use kthena_router_integration::rig::Rig;
use serde_json::Value;

use crate::scene::Scene;

pub(crate) async fn changes_take_effect_although_their_history_is_gone(rig: &Rig) -> Result<()> {
    let scene = Scene::set(rig, "compaction").await?;
    let version = version(&rig.cluster).await?;
    let control = rig.control()?;
    control.kill_api_server().await?;
    let back_door = control.open_back_door().await?;
    scene.change(&back_door).await?;
    control.compact().await?;
    control.close_back_door().await?;
    scene.is_old().await.context("the router serves from its last state")?;
    control.start_api_server().await?;
    ensure!(is_gone(&rig.cluster, &version).await?, "a watch from version {version} is not answered with 410");
    let took = scene.becomes_new(Duration::from_secs(30)).await?;
    rig.note(format!("caught up {:.1} s after the API server was ready", took.as_secs_f64()));
    Ok(())
}

/// Returns the version of the list of all ModelRoutes, as a watch would continue from.
async fn version(cluster: &Cluster) -> Result<String> {
    let list: Value = serde_json::from_str(&cluster.text(&MODEL_ROUTE.path("")).await?)?;
    Ok(text(&list, "/metadata/resourceVersion").to_owned())
}

/// Returns whether the API server no longer knows what happened since a version.
async fn is_gone(cluster: &Cluster, version: &str) -> Result<bool> {
    let path = format!("{}?watch=1&resourceVersion={version}&timeoutSeconds=2", MODEL_ROUTE.path(""));
    match cluster.text(&path).await {
        // The refusal is an event of a watch that has begun, or the answer to the request.
        Ok(events) => Ok(events.contains("\"code\":410")),
        Err(error) if status_code(&error) == Some(410) => Ok(true),
        Err(error) => Err(error),
    }
}
