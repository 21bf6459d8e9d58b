//! Three replicas serve and one of them writes; when it dies without a word, another writes within the lease's time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kthena_router_integration::audit::{Request, requests};
use kthena_router_integration::cluster::{condition_status, name_of, text};
use kthena_router_integration::kinds::{GATEWAY, MODEL_ROUTE};
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::{eventually, within};

/// The duration of the lease, and what a takeover may need on top.
const TAKEOVER: Duration = Duration::from_secs(15 + 5);

pub(crate) async fn one_replica_writes_and_another_takes_over_when_it_dies(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("leadership").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    rig.router.scale(3).await?;
    let leader = held_by_a_pod(rig).await?;
    only_writes(rig, &sandbox, &leader, 8130).await?;
    all_serve(rig, &sandbox, 8130).await?;

    // It is stopped first, so that it cannot even say that it goes.
    rig.control()?.signal(NAMESPACE, &leader, NAME, "STOP").await?;
    let died = Instant::now();
    rig.shell.kubectl(&format!("delete pod {leader} -n {NAMESPACE} --grace-period=0 --force")).await?;
    sandbox.gateway("late", 8132).await?;
    within(TAKEOVER, "another replica writes the status of a new Gateway", async || {
        let gateway = sandbox.get(GATEWAY, "late").await?;
        let programmed = condition_status(&gateway["status"], "Programmed");
        ensure!(programmed == Some("True"), "Programmed is {programmed:?}");
        Ok(())
    })
    .await?;
    rig.note(format!("status is written again {:.1} s after the leader's death", died.elapsed().as_secs_f64()));
    let next = held_by_a_pod(rig).await?;
    ensure!(next != leader, "the dead replica `{leader}` holds the lease");
    only_writes(rig, &sandbox, &next, 8131).await
}

/// Makes changes that are reported in the status of several objects, and fails unless the leader wrote all of it.
async fn only_writes(rig: &Rig, sandbox: &Sandbox<'_>, leader: &str, port: u16) -> Result<()> {
    let written = written_by(rig)?.len();
    sandbox.programmed_gateway(&format!("g-{port}"), port).await?;
    for number in 0..5 {
        let name = route_name(port, number);
        sandbox.route(&name, if number % 2 == 0 { "a" } else { "missing" }).await?;
        sandbox.has_condition(MODEL_ROUTE, &name, "Accepted", "True").await?;
    }
    let writers: BTreeSet<String> = written_by(rig)?.split_off(written).into_iter().collect();
    ensure!(writers.len() == 1 && writers.contains(leader), "`{leader}` leads, but status is written by {writers:?}");
    Ok(())
}

fn route_name(port: u16, number: u32) -> String {
    format!("r-{port}-{number}")
}

/// Waits until one of the Pods holds the lease, and returns its name.
async fn held_by_a_pod(rig: &Rig) -> Result<String> {
    eventually("one of the replicas holds the lease", async || {
        let (holder, _) = rig.router.leader().await?;
        let pods = rig.router.all_pods().await?;
        ensure!(pods.iter().any(|pod| name_of(pod) == holder), "it is held by `{holder}`");
        Ok(holder)
    })
    .await
}

/// Fails unless every replica serves a route that is new.
async fn all_serve(rig: &Rig, sandbox: &Sandbox<'_>, port: u16) -> Result<()> {
    let model = sandbox.model(&route_name(port, 0));
    for pod in rig.router.all_pods().await? {
        let base = format!("http://{}:8080", text(&pod, "/status/podIP"));
        let what = format!("`{}` serves", name_of(&pod));
        eventually(&what, async || rig.http.ensure_answer(&base, &model, "a").await).await?;
    }
    Ok(())
}

/// Returns the Pods that wrote status, one for each time, in the order of the audit log.
fn written_by(rig: &Rig) -> Result<Vec<String>> {
    let log = rig.control()?.state().join("audit.log");
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    let writes = requests(&log, &user)?.into_iter().filter(Request::writes_status);
    let pods: Vec<String> = writes.map(|request| request.pod).collect();
    ensure!(pods.iter().all(|pod| !pod.is_empty()), "the audit log does not say which Pod asked");
    Ok(pods)
}
