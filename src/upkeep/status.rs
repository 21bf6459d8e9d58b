//! The statuses of objects, out of a plan's reports.
//!
//! Sources: the Gateway API's `GatewayClassStatus` and `GatewayStatus`; the router's own kinds.

use std::sync::Arc;

use foldhash::HashMap;
use serde_json::{Value, json};

use super::settle::settle;
use super::{Purpose, Target, Write, Writes};
use crate::gateway::conditions::Condition;
use crate::native::route::Route;
use crate::object::{Kind, ObjectKey};
use crate::plan::{CONTROLLER_NAME, GatewayReport, ListenerReport, Reports, RouteReport, ServerReport};
use crate::world::{Record, Table, World};

/// What was found to be as it should be.
///
/// Large clusters have thousands of objects, and of all but a few neither the report nor the object differs from the
/// last look; comparing those is a thousand times less work than making their statuses.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The reports of the last look.
    reports: Arc<Reports>,
    /// For each object whose status was in order its resource version at the time.
    versions: HashMap<Kind, HashMap<ObjectKey, u64>>,
}

impl Settled {
    /// Adds the statuses that are not yet as they should be.
    pub(super) fn statuses(&mut self, world: &World, reports: &Arc<Reports>, writes: &mut Writes) {
        let last = std::mem::replace(&mut self.reports, Arc::clone(reports));
        let same = Arc::ptr_eq(&last, reports);
        for (key, conditions) in &reports.classes {
            if let Some(class) = world.gateway_classes.find(key) {
                let known = same || last.classes.get(key) == Some(conditions);
                let status = || json!({"conditions": written(conditions, class.record.generation)});
                self.add((Kind::GatewayClass, key, &class.record), known, status, writes);
            }
        }
        for (key, report) in &reports.gateways {
            if let Some(gateway) = world.gateways.find(key) {
                let known = same || last.gateways.get(key) == Some(report);
                self.add((Kind::Gateway, key, &gateway.record), known, || gateway_status(report), writes);
            }
        }
        for (key, report) in &reports.routes {
            if let Some(route) = world.model_routes.find(key) {
                let known = same || last.routes.get(key) == Some(report);
                self.add((Kind::ModelRoute, key, &route.record), known, || route_status(route, report), writes);
            }
        }
        for (key, report) in &reports.servers {
            if let Some(server) = world.model_servers.find(key) {
                let known = same || last.servers.get(key) == Some(report);
                self.add((Kind::ModelServer, key, &server.record), known, || server_status(report), writes);
            }
        }
        self.forget(world);
    }

    /// Adds a status unless it is in order; `known` tells that the object's report is that of the last look.
    fn add(
        &mut self,
        (kind, key, record): (Kind, &ObjectKey, &Record),
        known: bool,
        status: impl FnOnce() -> Value,
        writes: &mut Writes,
    ) {
        let versions = self.versions.entry(kind).or_default();
        // An object of a file has no status that could be written.
        if record.uid.is_empty() || known && versions.get(key) == Some(&record.resource_version) {
            return;
        }
        let (mut status, mut transitions) = (status(), Vec::new());
        if !settle(&mut status, record.status.as_deref(), &mut transitions) {
            // Without a version nothing would tell that someone changed the object.
            if record.resource_version > 0 {
                versions.insert(key.clone(), record.resource_version);
            }
            return;
        }
        versions.remove(key);
        let mut metadata = json!({"name": &*key.name, "uid": &*record.uid});
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(&*key.namespace);
        }
        let body =
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "status": status});
        let target = Target { purpose: Purpose::Status, kind, key: key.clone() };
        writes.insert(target, Write { body, seen: record.resource_version, uid: Arc::clone(&record.uid), transitions });
    }

    /// Forgets objects that are gone.
    fn forget(&mut self, world: &World) {
        for (kind, versions) in &mut self.versions {
            match kind {
                Kind::GatewayClass => forget_gone(versions, &world.gateway_classes),
                Kind::Gateway => forget_gone(versions, &world.gateways),
                Kind::ModelRoute => forget_gone(versions, &world.model_routes),
                _ => forget_gone(versions, &world.model_servers),
            }
        }
    }
}

fn forget_gone<S>(versions: &mut HashMap<ObjectKey, u64>, table: &Table<S>) {
    if versions.len() > table.objects.len() {
        versions.retain(|key, _| table.find(key).is_some());
    }
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
        let kinds = listener.supported_kinds.iter().map(|kind| json!({"group": kind.group(), "kind": kind.as_str()}));
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
