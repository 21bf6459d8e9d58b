//! The statuses of objects, out of a plan's reports.
//!
//! Sources: the Gateway API's `GatewayClassStatus` and `GatewayStatus`; the router's own kinds.

use std::sync::Arc;

use serde_json::{Value, json};

use super::settle::settle;
use super::{Purpose, Target, Write, Writes, api_version};
use crate::gateway::conditions::Condition;
use crate::native::route::Route;
use crate::object::{Kind, ObjectKey};
use crate::plan::{CONTROLLER_NAME, GatewayReport, ListenerReport, Reports, RouteReport, ServerReport};
use crate::world::{Record, World};

/// Adds the statuses that are not yet as they should be.
pub(super) fn statuses(world: &World, reports: &Reports, writes: &mut Writes) {
    for (key, conditions) in &reports.classes {
        if let Some(class) = world.gateway_classes.find(key) {
            let status = || json!({"conditions": written(conditions, class.record.generation)});
            add(Kind::GatewayClass, key, &class.record, status, writes);
        }
    }
    for (key, report) in &reports.gateways {
        if let Some(gateway) = world.gateways.find(key) {
            add(Kind::Gateway, key, &gateway.record, || gateway_status(report), writes);
        }
    }
    for (key, report) in &reports.routes {
        if let Some(route) = world.model_routes.find(key) {
            add(Kind::ModelRoute, key, &route.record, || route_status(route, report), writes);
        }
    }
    for (key, report) in &reports.servers {
        if let Some(server) = world.model_servers.find(key) {
            add(Kind::ModelServer, key, &server.record, || server_status(report), writes);
        }
    }
}

fn add(kind: Kind, key: &ObjectKey, record: &Record, status: impl FnOnce() -> Value, writes: &mut Writes) {
    // An object of a file has no status that could be written.
    if record.uid.is_empty() {
        return;
    }
    let (mut status, mut transitions) = (status(), Vec::new());
    if !settle(&mut status, record.status.as_deref(), &mut transitions) {
        return;
    }
    let mut metadata = json!({"name": &*key.name, "uid": &*record.uid});
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    let body = json!({"apiVersion": api_version(kind), "kind": kind.as_str(), "metadata": metadata, "status": status});
    let target = Target { purpose: Purpose::Status, kind, key: key.clone() };
    writes.insert(target, Write { body, seen: record.resource_version, uid: Arc::clone(&record.uid), transitions });
}

fn gateway_status(report: &GatewayReport) -> Value {
    let addresses: Vec<_> = report
        .addresses
        .iter()
        .map(|address| {
            let is_ip = address.parse::<std::net::IpAddr>().is_ok();
            json!({"type": if is_ip { "IPAddress" } else { "Hostname" }, "value": address})
        })
        .collect();
    let listener = |listener: &ListenerReport| {
        let kinds = listener.supported_kinds.iter().map(|kind| json!({"group": group(*kind), "kind": kind.as_str()}));
        json!({
            "name": listener.name,
            "attachedRoutes": listener.attached_routes,
            "supportedKinds": kinds.collect::<Vec<_>>(),
            "conditions": written(&listener.conditions, report.generation),
        })
    };
    json!({
        "addresses": addresses,
        "conditions": written(&report.conditions, report.generation),
        "listeners": report.listeners.iter().map(listener).collect::<Vec<_>>(),
    })
}

fn route_status(route: &Route, report: &RouteReport) -> Value {
    let parents = route.spec.parent_refs.iter().zip(&report.parents).map(|(parent, report_of_parent)| {
        json!({
            "parentRef": parent,
            "controllerName": CONTROLLER_NAME,
            "conditions": written(&report_of_parent.conditions, report.generation),
        })
    });
    json!({
        "conditions": written(&report.conditions, report.generation),
        "parents": parents.collect::<Vec<_>>(),
    })
}

fn server_status(report: &ServerReport) -> Value {
    json!({
        "conditions": written(&report.conditions, report.generation),
        "observedGeneration": report.generation,
        "endpoints": report.endpoints,
        "readyEndpoints": report.ready_endpoints,
    })
}

/// Returns conditions as they are written, but for their times.
fn written(conditions: &[Condition], generation: i64) -> Vec<Value> {
    let written = |condition| {
        let mut written = json!(condition);
        written["observedGeneration"] = json!(generation);
        written
    };
    conditions.iter().map(written).collect()
}

fn group(kind: Kind) -> &'static str {
    api_version(kind).split_once('/').map_or("", |(group, _)| group)
}
