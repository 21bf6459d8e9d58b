//! Least privilege, both ways: the router was refused nothing, and needed everything that it may do.
//!
//! The audit log says what it asked for since the cluster was made, from its deployment to the last test; what may not
//! have happened yet by then is brought about here.

use std::time::Duration;

use anyhow::{Result, ensure};
use kthena_router_integration::audit::{Request, grants, requests};
use kthena_router_integration::kinds::{DEPLOYMENT, MODEL_ROUTE, MODEL_SERVER};
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{NAME, NAMESPACE};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::within;
use serde_json::json;

/// How long the last permission may take to be used: a renewed lease, a repeated Event.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn every_permission_is_used_and_none_is_missing(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("rbac").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    sandbox.programmed_gateway("g", 8150).await?;
    let grants = grants(&rig.cluster, NAMESPACE, NAME).await?;
    let log = rig.control()?.state().join("audit.log");
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    let mut turn = 0;
    within(LIMIT, "every permission has been used", async || {
        turn += 1;
        go_back_and_forth(rig, &sandbox, turn).await?;
        let requests = requests(&log, &user)?;
        let unused: Vec<String> = grants
            .iter()
            .filter(|grant| !requests.iter().any(|request| grant.permits(request) && !request.forbidden))
            .map(ToString::to_string)
            .collect();
        ensure!(unused.is_empty(), "never used: {}", unused.join(", "));
        Ok(())
    })
    .await?;

    let requests = requests(&log, &user)?;
    // An API server that has just started refuses everything until it has read the roles; that is not meant here.
    let is_granted = |request: &Request| grants.iter().any(|grant| grant.permits(request));
    let forbidden: Vec<String> = requests
        .iter()
        .filter(|request| request.forbidden && !is_granted(request))
        .map(|request| format!("{} {} at {}", request.verb, request.path, request.at))
        .collect();
    ensure!(forbidden.is_empty(), "{} requests were refused: {}", forbidden.len(), forbidden[0]);
    let everything =
        grants.iter().find(|grant| [&grant.verb, &grant.group, &grant.resource].iter().any(|part| *part == "*"));
    ensure!(everything.is_none(), "a rule permits everything: {everything:?}");
    rig.note(format!("{} permissions, {} requests, none refused", grants.len(), requests.len()));
    Ok(())
}

/// Makes the same transitions again, so that Events are repeated.
async fn go_back_and_forth(rig: &Rig, sandbox: &Sandbox<'_>, turn: u64) -> Result<()> {
    let target = if turn.is_multiple_of(2) { "a" } else { "missing" };
    sandbox.route("r", target).await?;
    let resolved = if target == "a" { "True" } else { "False" };
    sandbox.has_condition(MODEL_ROUTE, "r", "ResolvedRefs", resolved).await?;
    let replicas = turn % 2;
    let patch = json!({"spec": {"replicas": replicas}});
    rig.cluster.merge(DEPLOYMENT, &sandbox.namespace, "a", "", &patch).await?;
    let ready = if replicas == 0 { "False" } else { "True" };
    sandbox.has_condition(MODEL_SERVER, "a", "Ready", ready).await.map(drop)
}
