//! What `kubectl get` and `kubectl get events` tell a user about the router's objects.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::kinds::{DEPLOYMENT, MODEL_ROUTE, MODEL_SERVER};
use kthena_router_integration::kubectl::table;
use kthena_router_integration::objects::Engines;
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::CLASS;
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

pub(crate) async fn kubectl_shows_the_state_in_columns(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("columns").await?;
    sandbox.engines(&[Engines::many("a", 2)]).await?;
    sandbox.programmed_gateway("g", 8140).await?;
    let model = sandbox.route_on((&sandbox.namespace, "g"), "r", "a").await?;
    sandbox.has_condition(MODEL_ROUTE, "r", "Accepted", "True").await?;
    let address = rig.router.address().await?;
    let own = format!("-n {}", sandbox.namespace);
    let expected: [(String, &[(&str, &str)]); 4] = [
        (format!("gateway g {own}"), &[("CLASS", CLASS), ("ADDRESS", &address), ("PROGRAMMED", "True")]),
        (format!("gatewayclass {CLASS}"), &[("CONTROLLER", "volcano.sh/kthena-router"), ("ACCEPTED", "True")]),
        (format!("modelroute r {own}"), &[("MODEL", &model), ("ACCEPTED", "True")]),
        (
            format!("modelserver a {own}"),
            &[("ENGINE", "vLLM"), ("PORT", "8000"), ("PROTOCOL", "http"), ("READY ENDPOINTS", "2")],
        ),
    ];
    for (what, columns) in expected {
        eventually(&format!("`kubectl get {what}` shows {columns:?}"), async || {
            let shown = rig.shell.kubectl(&format!("get {what}")).await?;
            let rows = table(&shown);
            let row = rows.first().with_context(|| format!("no row in {shown}"))?;
            for (column, value) in columns {
                ensure!(row.get(*column).map(String::as_str) == Some(value), "{column} is not {value}:\n{shown}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn a_transition_is_an_event_and_a_steady_state_is_none(rig: &Rig) -> Result<()> {
    let sandbox = rig.sandbox("events").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    let scale = async |replicas: u64| {
        let patch = json!({"spec": {"replicas": replicas}});
        rig.cluster.merge(DEPLOYMENT, &sandbox.namespace, "a", "", &patch).await.map(drop)
    };
    scale(0).await?;
    sandbox.has_condition(MODEL_SERVER, "a", "Ready", "False").await?;
    let warning = event(&sandbox, "Warning").await?;
    rig.note(format!("{}: {}", text(&warning, "/reason"), text(&warning, "/note")));
    scale(1).await?;
    sandbox.has_condition(MODEL_SERVER, "a", "Ready", "True").await?;
    let normal = event(&sandbox, "Normal").await?;
    rig.note(format!("{}: {}", text(&normal, "/reason"), text(&normal, "/note")));

    let before = eventually("the Events come to rest", async || {
        let events = counts(&sandbox).await?;
        // The last of them is written before a status that is asked for later.
        sandbox.route("barrier", "a").await?;
        sandbox.has_condition(MODEL_ROUTE, "barrier", "Accepted", "True").await?;
        ensure!(events == counts(&sandbox).await?, "another one came");
        Ok(events)
    })
    .await?;
    for number in 0..3 {
        let note = json!({"metadata": {"annotations": {"touched": number.to_string()}}});
        rig.cluster.merge(MODEL_SERVER, &sandbox.namespace, "a", "", &note).await?;
    }
    sandbox.route("second-barrier", "a").await?;
    sandbox.has_condition(MODEL_ROUTE, "second-barrier", "Accepted", "True").await?;
    let after = counts(&sandbox).await?;
    ensure!(after == before, "nothing happened to the ModelServer, but its Events went from {before:?} to {after:?}");
    Ok(())
}

/// Waits for an Event of this type about the ModelServer.
async fn event(sandbox: &Sandbox<'_>, kind: &str) -> Result<Value> {
    eventually(&format!("there is an Event of type {kind} about the ModelServer"), async || {
        let events = sandbox.events(MODEL_SERVER, "a").await?;
        events.into_iter().rfind(|event| event["type"] == kind).context("none yet")
    })
    .await
}

/// Returns how often each Event about the ModelServer was seen.
async fn counts(sandbox: &Sandbox<'_>) -> Result<BTreeMap<String, u64>> {
    let events = sandbox.events(MODEL_SERVER, "a").await?;
    let count = |event: &Value| event["series"]["count"].as_u64().unwrap_or(1);
    Ok(events.iter().map(|event| (name_of(event).to_owned(), count(event))).collect())
}
