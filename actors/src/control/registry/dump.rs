//! The configuration as the debug pages show it, in the Go router's JSON shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_router::inference::exposition::HistogramTotals;
use kthena_router::inference::health::{Cause, Standing};
use kthena_router::inference::kv_events::index::Standing as Heard;
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::object::{Kind, ObjectKey, PoolKey};
use kthena_router::plan::{AncestorReport, Reports};
use kthena_router::scheduling::room::Room;
use kthena_router::selector::has_all;
use kthena_router::world::World;
use serde_json::{Value, json};

use crate::pools::published::{Member, Pool};

/// The objects of each kind, by the name that the debug pages give the kind.
#[derive(Clone, Debug, Default)]
pub struct ConfigDump(pub BTreeMap<&'static str, Vec<Value>>);

/// The pools, each with the engine that its figures are read by.
type Pools<'p> = BTreeMap<&'p PoolKey, (&'p Pool, Option<InferenceEngine>)>;

/// What a Pod serves as: a member of a pool, with the engine that its figures are read by.
type Serving<'p> = (&'p PoolKey, Option<InferenceEngine>, Arc<Member>);

/// Dumps the world with what was made of it.
pub(super) fn dump(world: &World, reports: &Reports, pools: &Pools<'_>) -> ConfigDump {
    ConfigDump(BTreeMap::from([
        ("gateways", gateways(world, reports)),
        ("httproutes", http_routes(world, reports)),
        ("inferencepools", inference_pools(world, reports)),
        ("modelroutes", model_routes(world, reports)),
        ("modelservers", model_servers(world, reports)),
        ("pods", pods(world, pools)),
        ("pools", health(pools)),
    ]))
}

fn gateways(world: &World, reports: &Reports) -> Vec<Value> {
    // The default Gateway is reported even where nobody wrote it.
    reports
        .gateways
        .iter()
        .map(|(key, report)| {
            let listeners: Vec<_> = report
                .listeners
                .iter()
                .map(|listener| {
                    json!({
                        "name": listener.name,
                        "attachedRoutes": listener.attached_routes,
                        "conditions": listener.conditions,
                    })
                })
                .collect();
            json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "spec": world.gateways.find(key).map(|gateway| gateway.spec.as_ref()),
                "status": {"conditions": report.conditions, "listeners": listeners},
            })
        })
        .collect()
}

fn http_routes(world: &World, reports: &Reports) -> Vec<Value> {
    world
        .http_routes
        .iter()
        .map(|(key, route)| {
            let parents: Vec<_> = reports
                .http_routes
                .get(key)
                .iter()
                .flat_map(|report| &report.parents)
                .map(|parent| {
                    json!({"parentRef": route.spec.parent_refs.get(parent.place), "conditions": parent.verdict})
                })
                .collect();
            json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "spec": route.spec,
                "status": {"parents": parents},
            })
        })
        .collect()
}

fn inference_pools(world: &World, reports: &Reports) -> Vec<Value> {
    // Without the extension nothing is made of them.
    let known = reports
        .inference_pools
        .iter()
        .filter_map(|(key, report)| Some((key, report, world.inference_pools.find(key)?)));
    known
        .map(|(key, report, pool)| {
            let parent = |AncestorReport { gateway, verdict }: &AncestorReport| {
                let reference = json!({"name": &*gateway.name, "namespace": &*gateway.namespace});
                json!({"parentRef": reference, "conditions": verdict})
            };
            let parents: Vec<_> = report.parents.iter().map(parent).collect();
            json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "spec": pool.spec.as_ref(),
                "status": {"parents": parents},
            })
        })
        .collect()
}

fn model_routes(world: &World, reports: &Reports) -> Vec<Value> {
    world
        .model_routes
        .iter()
        .map(|(key, route)| {
            let report = reports.routes.get(key);
            let parents: Vec<_> = report
                .iter()
                .flat_map(|report| route.spec.parent_refs.iter().zip(&report.parents))
                .map(|(parent, verdict)| json!({"parentRef": parent, "conditions": verdict}))
                .collect();
            json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "spec": route.spec,
                "status": {"conditions": report.map(|report| &report.verdict), "parents": parents},
            })
        })
        .collect()
}

fn model_servers(world: &World, reports: &Reports) -> Vec<Value> {
    world
        .model_servers
        .iter()
        .map(|(key, server)| {
            let required = &server.spec.workload_selector.match_labels;
            let pods: Vec<_> = world
                .pods
                .iter()
                .filter(|(pod, facts)| pod.namespace == key.namespace && has_all(&facts.labels, required))
                .filter(|_| !required.is_empty())
                .map(|(pod, _)| pod.to_string())
                .collect();
            json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "spec": server.spec.as_ref(),
                "status": {"conditions": reports.servers.get(key).map(|report| report.conditions().collect::<Vec<_>>())},
                "associatedPods": pods,
            })
        })
        .collect()
}

/// The pools with the health of their endpoints.
fn health(pools: &Pools<'_>) -> Vec<Value> {
    let endpoint = |member: &Arc<Member>| {
        let standing = member.observation.standing;
        json!({
            "pod": member.endpoint.pod.to_string(),
            "address": member.endpoint.socket().to_string(),
            "role": member.endpoint.role,
            "group": member.endpoint.group.as_deref(),
            "standing": match standing {
                Standing::Serving => "serving",
                Standing::Ejected(_) => "ejected",
                Standing::Trial { .. } => "trial",
            },
            "cause": standing.cause().map(Cause::label),
            "inFlight": member.cell.in_flight(),
            "limit": member.observation.slots.limit(),
            "penalty": member.cell.penalty(),
            "scraped": member.observation.metrics.is_some(),
            "asleep": member.observation.metrics.is_some_and(|metrics| metrics.is_asleep),
            "cache": cache(member),
        })
    };
    let pool = |(key, (pool, _)): (&&PoolKey, &(&Pool, _))| {
        json!({
            "name": &*key.object.name,
            "namespace": &*key.object.namespace,
            "kind": key.kind.as_str(),
            "port": key.port,
            "room": match pool.view().room {
                Room::Left => "left",
                Room::Full => "full",
            },
            "waiting": pool.turnstile.waiting(),
            "endpoints": pool.view().members.iter().map(endpoint).collect::<Vec<_>>(),
        })
    };
    pools.iter().map(pool).collect()
}

/// Shows what is foreseen of an endpoint's cache, in tokens as they are estimated from texts, and what its events tell.
fn cache(member: &Member) -> Value {
    let (asked, foreseen) = member.ledger.foreseen();
    json!({
        "promptTokens": asked,
        "foreseenTokens": foreseen,
        "events": match member.held.standing() {
            Heard::Deaf => "deaf",
            Heard::Partial => "partial",
            Heard::Whole => "whole",
        },
        "blocks": member.held.blocks(),
        "blockSize": member.held.block_size(),
    })
}

fn pods(world: &World, pools: &Pools<'_>) -> Vec<Value> {
    let mut members: BTreeMap<ObjectKey, Vec<Serving<'_>>> = BTreeMap::new();
    for (key, (pool, engine)) in pools {
        for member in &pool.view().members {
            members.entry(member.endpoint.pod.clone()).or_default().push((key, *engine, Arc::clone(member)));
        }
    }
    world
        .pods
        .iter()
        .filter_map(|(key, facts)| {
            let serving = members.get(key)?;
            let (_, engine, member) = serving.first()?;
            let metrics = member.observation.metrics.unwrap_or_default();
            let servers = serving.iter().filter(|(key, ..)| key.kind == Kind::ModelServer);
            Some(json!({
                "name": &*key.name,
                "namespace": &*key.namespace,
                "engine": match engine {
                    Some(InferenceEngine::Sglang) => "SGLang",
                    Some(InferenceEngine::Vllm) | None => "vLLM",
                },
                "metrics": {
                    "gpuCacheUsage": metrics.kv_cache_usage,
                    "requestWaitingNum": metrics.waiting,
                    "requestRunningNum": metrics.running,
                    "tpot": mean(metrics.inter_token_latency),
                    "ttft": mean(metrics.time_to_first_token),
                },
                "inFlight": member.cell.in_flight(),
                "ejected": member.observation.standing.cause().map(Cause::label),
                "models": [],
                "modelServers": servers.map(|(key, ..)| key.object.to_string()).collect::<Vec<_>>(),
                "podInfo": {
                    "podIP": facts.address,
                    "nodeName": facts.node,
                    "phase": facts.phase,
                    "labels": facts.labels,
                },
            }))
        })
        .collect()
}

fn mean(totals: HistogramTotals) -> f64 {
    totals.mean_since(&HistogramTotals::default()).unwrap_or_default()
}
