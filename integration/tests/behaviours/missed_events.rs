//! The API server is killed, the world changes meanwhile, deletes included, and it comes back.

use std::time::Duration;

use anyhow::{Context, Result};
use kthena_router_integration::rig::Rig;

use crate::scene::Scene;

pub(crate) async fn changes_made_while_the_api_server_is_down_take_effect(rig: &Rig) -> Result<()> {
    let scene = Scene::set(rig, "missed").await?;
    let control = rig.control()?;
    control.kill_api_server().await?;
    let back_door = control.open_back_door().await?;
    scene.change(&back_door).await?;
    scene.is_old().await.context("the router serves from its last state")?;
    control.close_back_door().await?;
    scene.is_old().await.context("the router still serves from its last state")?;
    control.start_api_server().await?;
    let took = scene.becomes_new(Duration::from_secs(30)).await?;
    rig.note(format!("caught up {:.1} s after the API server was ready", took.as_secs_f64()));
    Ok(())
}
