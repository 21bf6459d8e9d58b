//! Least privilege, both ways: the router was refused nothing, and needed everything that it may do.
//!
//! The audit log says what it asked for since the cluster was made, from its deployment to the last test; what may not
//! have happened yet by then is brought about here.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use kthena_router_integration::audit::{Grant, Request, grants, requests};
use kthena_router_integration::kinds::{
    BACKEND_TLS_POLICY, DEFINITION, DEPLOYMENT, GATEWAY, HTTP_ROUTE, INFERENCE_POOL, LISTENER_SET, MODEL_ROUTE,
    MODEL_SERVER,
};
use kthena_router_integration::objects::{Engines, http_route, inference_pool, object, pool_route};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{INFERENCE_EXTENSION, NAME, NAMESPACE, install_inference_extension};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::{eventually, within};
use serde_json::{Value, json};

/// How long the last permission may take to be used: a renewed lease, a repeated Event.
const LIMIT: Duration = Duration::from_secs(60);

/// Where the kinds beside InferencePool are defined: in a project of its own, and before that in the Inference
/// Extension.
const POLICY_GROUPS: [&str; 2] = ["llm-d.ai", "inference.networking.x-k8s.io"];
/// Those kinds, with their plurals.
const POLICIES: [(&str, &str); 2] =
    [("InferenceObjective", "inferenceobjectives"), ("InferenceModelRewrite", "inferencemodelrewrites")];

pub(crate) async fn every_permission_is_used_and_none_is_missing(rig: &Rig) -> Result<()> {
    install_inference_extension(&rig.shell).await?;
    for group in POLICY_GROUPS {
        for (kind, plural) in POLICIES {
            rig.cluster.apply(&open_definition(group, kind, plural)).await?;
        }
    }
    rig.router.add_arguments(&[INFERENCE_EXTENSION]).await?;
    let sandbox = rig.sandbox("rbac").await?;
    sandbox.engines(&[Engines::one("a")]).await?;
    sandbox.programmed_gateway("g", 8150).await?;
    give_every_kind_a_status(rig, &sandbox).await?;
    let grants = grants(&rig.cluster, NAMESPACE, NAME).await?;
    let log = rig.control()?.state().join("audit.log");
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    go_back_and_forth(rig, &sandbox, 0).await?;
    nothing_is_missing(&requests(&log, &user)?, &grants)?;
    let mut turn = 0;
    within(LIMIT, "every permission has been used", async || {
        turn += 1;
        go_back_and_forth(rig, &sandbox, turn).await?;
        let requests = requests(&log, &user)?;
        let is_used = |grant: &&Grant| requests.iter().any(|request| grant.permits(request) && !request.forbidden);
        let unused: Vec<String> = grants.iter().filter(|grant| !is_used(grant)).map(ToString::to_string).collect();
        ensure!(unused.is_empty(), "never used: {}", unused.join(", "));
        Ok(())
    })
    .await?;
    let requests = requests(&log, &user)?;
    nothing_is_missing(&requests, &grants)?;
    let is_wildcard = |grant: &&Grant| [&grant.verb, &grant.group, &grant.resource].iter().any(|part| *part == "*");
    let wildcard = grants.iter().find(is_wildcard);
    ensure!(wildcard.is_none(), "a rule permits everything: {wildcard:?}");
    rig.note(format!("{} permissions, {} requests, none refused", grants.len(), requests.len()));
    Ok(())
}

/// Fails if a request was refused that no role permits.
fn nothing_is_missing(requests: &[Request], grants: &BTreeSet<Grant>) -> Result<()> {
    // An API server that has just started refuses everything until it has read the roles; that is not meant here.
    let is_granted = |request: &Request| grants.iter().any(|grant| grant.permits(request));
    let refused = requests.iter().filter(|request| request.forbidden && !is_granted(request));
    let refused: BTreeSet<String> = refused.map(|request| format!("{} {}", request.verb, request.path)).collect();
    ensure!(refused.is_empty(), "refused for want of a permission: {}", Vec::from_iter(refused).join(", "));
    Ok(())
}

/// Makes an object of each kind of the Gateway API whose status the router writes, and waits until it has.
async fn give_every_kind_a_status(rig: &Rig, sandbox: &Sandbox<'_>) -> Result<()> {
    let namespace = &*sandbox.namespace;
    let listeners = json!([{"name": "more", "port": 8151, "protocol": "HTTP"}]);
    let set = json!({"parentRef": {"name": "g"}, "listeners": listeners});
    let policy = json!({
        "targetRefs": [{"group": "", "kind": "Service", "name": "a"}],
        "validation": {"hostname": "a.example.com", "wellKnownCACertificates": "System"},
    });
    rig.cluster.apply(&Engines::one("a").service(namespace)).await?;
    rig.cluster.apply(&http_route(namespace, "h", "g", "a")).await?;
    rig.cluster.apply(&inference_pool(namespace, "a")).await?;
    rig.cluster.apply(&pool_route(namespace, "to-pool", "g", "a")).await?;
    rig.cluster.apply(&object(LISTENER_SET, namespace, "l", &set)).await?;
    rig.cluster.apply(&object(BACKEND_TLS_POLICY, namespace, "p", &policy)).await?;
    eventually("every kind has its status", async || {
        for (kind, name, list) in [
            (GATEWAY, "g", "/status/conditions"),
            (HTTP_ROUTE, "h", "/status/parents"),
            (LISTENER_SET, "l", "/status/conditions"),
            (BACKEND_TLS_POLICY, "p", "/status/ancestors"),
            (INFERENCE_POOL, "a", "/status/parents"),
        ] {
            let object = sandbox.get(kind, name).await?;
            let entries = object.pointer(list).and_then(|entries| entries.as_array()).map_or(0, Vec::len);
            ensure!(entries > 0, "{} `{name}` has none: {}", kind.kind, object["status"]);
        }
        Ok(())
    })
    .await
}

/// Returns a definition that the API server takes any object by.
fn open_definition(group: &str, kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let mut spec = json!({"group": group, "scope": "Namespaced", "versions": [version]});
    spec["names"] = json!({"kind": kind, "plural": plural, "singular": kind.to_lowercase()});
    let mut definition = object(DEFINITION, "", &format!("{plural}.{group}"), &spec);
    // The API server guards the groups of Kubernetes.
    definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, for a test"});
    definition
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
