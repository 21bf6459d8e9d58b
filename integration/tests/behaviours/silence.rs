//! A watch whose connection has died without a sign is noticed by its silence.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kthena_router_integration::kinds::POD;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::NAMESPACE;

use crate::scene::Scene;

/// How long a watch may be silent in this test; API servers otherwise say something once a minute.
const SILENCE: &str = "KTHENA_WATCH_SILENCE_TIMEOUT=8s";
/// The silence, the longest pause between two tries, and a list.
const LIMIT: Duration = Duration::from_secs(8 + 5 + 5);
/// What the router logs when it gives up a watch for its silence.
const LOGGED: &str = "watch is silent";

/// Drops what the API server sends to the Pod, too, and has the kernel forget soon that the API server's process would
/// have said good-bye: the far end of a connection that died with its machine says nothing.
const MUTE: &str = "
sysctl -q -w net.ipv4.tcp_orphan_retries=1
ip rule add pref 11 to POD ipproto tcp sport 6443 blackhole
";
const UNMUTE: &str = "ip rule delete pref 11 to POD ipproto tcp sport 6443 blackhole";

pub(crate) async fn a_watch_that_has_died_in_silence_is_noticed(rig: &Rig) -> Result<()> {
    rig.router.set_environment(SILENCE).await?;
    let outcome = with_short_patience(rig).await;
    let reset = rig.router.set_environment("KTHENA_WATCH_SILENCE_TIMEOUT-").await;
    outcome?;
    reset
}

async fn with_short_patience(rig: &Rig) -> Result<()> {
    let scene = Scene::set(rig, "silence").await?;
    let control = rig.control()?;
    let (pod, address) = rig.router.only_pod_with_address().await?;
    control.partition(NAMESPACE, &pod, true).await?;
    rig.shell.script("", &MUTE.replace("POD", &address)).await?;
    let changed = while_cut(rig, &scene).await;
    let mended = Instant::now();
    rig.shell.script("", &UNMUTE.replace("POD", &address)).await?;
    control.partition(NAMESPACE, &pod, false).await?;
    changed?;
    scene.becomes_new(LIMIT).await?;
    rig.note(format!("caught up {:.1} s after the link was mended", mended.elapsed().as_secs_f64()));
    let log = rig.cluster.text(&format!("{}/{pod}/log", POD.path(NAMESPACE))).await?;
    ensure!(log.contains(LOGGED), "the router does not say that a watch was silent, so this was no silence");
    Ok(())
}

/// The API server loses its connections, and the world changes.
async fn while_cut(rig: &Rig, scene: &Scene<'_>) -> Result<()> {
    let control = rig.control()?;
    control.kill_api_server().await?;
    control.start_api_server().await?;
    scene.change(&rig.cluster).await?;
    scene.is_old().await.context("the router serves from its last state")
}
