//! The statuses of objects as they are written, out of a plan's reports.
//!
//! Sources: the Gateway API's `GatewayClassStatus`, `GatewayStatus`, `ListenerSetStatus`, `HTTPRouteStatus` and
//! `PolicyStatus`; the router's own kinds. The lists `parents` and `ancestors` are written as a whole, so that the entries
//! of other controllers in them are written again as they are.

use serde_json::{Value, json};

use crate::conditions::Condition;
use crate::controller::CONTROLLER_NAME;
use crate::kinds::parent_reference::ParentReference;
use crate::object::Kind;
use crate::plan::{
    GatewayReport, HttpRouteReport, InferencePoolReport, ListenerReport, ListenerSetReport, PolicyReport, RouteReport,
    ServerReport,
};
use crate::record::Record;
use crate::routing::http::route::HttpRoute;
use crate::routing::models::route::Route;

/// Renders the status of a GatewayClass that supports `features`; none where the installed release has no such field.
pub(super) fn class(conditions: &[Condition], generation: i64, features: &[&str]) -> Value {
    let mut status = json!({"conditions": written(conditions, generation)});
    if !features.is_empty() {
        let features: Vec<_> = features.iter().map(|feature| json!({"name": feature})).collect();
        status["supportedFeatures"] = features.into();
    }
    status
}

/// Renders the status of a Gateway with this record.
pub(super) fn gateway(report: &GatewayReport, record: &Record) -> Value {
    let addresses = report.addresses.iter().map(|address| {
        let is_ip = address.parse::<std::net::IpAddr>().is_ok();
        json!({"type": if is_ip { "IPAddress" } else { "Hostname" }, "value": address})
    });
    let mut status = json!({
        "addresses": addresses.collect::<Vec<_>>(),
        "conditions": written(&report.conditions, report.generation),
        "listeners": listeners(&report.listeners, report.generation),
    });
    // Releases without ListenerSets have no such field.
    let counted = record.status.as_ref().is_some_and(|status| status.get("attachedListenerSets").is_some());
    if counted || report.attached_sets > 0 {
        status["attachedListenerSets"] = json!(report.attached_sets);
    }
    status
}

/// Renders the status of a ListenerSet.
pub(super) fn listener_set(report: &ListenerSetReport) -> Value {
    json!({
        "conditions": written(&report.conditions, report.generation),
        "listeners": listeners(&report.listeners, report.generation),
    })
}

/// Renders the status of an HTTPRoute.
pub(super) fn http_route(route: &HttpRoute, report: &HttpRouteReport) -> Value {
    let own = report.parents.iter().filter_map(|(place, conditions)| {
        let parent = route.spec.parent_refs.get(*place)?;
        Some(entry("parentRef", parent, conditions, report.generation))
    });
    json!({"parents": own.chain(foreign_entries(&route.record, "parents")).collect::<Vec<_>>()})
}

/// Renders the status of a BackendTLSPolicy with this record.
pub(super) fn policy(report: &PolicyReport, record: &Record) -> Value {
    let own = report.ancestors.iter().map(|(gateway, conditions)| {
        let mut ancestor = ParentReference::to_gateway(&*gateway.name);
        ancestor.namespace = Some(gateway.namespace.to_string());
        entry("ancestorRef", &ancestor, conditions, report.generation)
    });
    json!({"ancestors": own.chain(foreign_entries(record, "ancestors")).collect::<Vec<_>>()})
}

/// Renders the status of an InferencePool with this record.
pub(super) fn inference_pool(report: &InferencePoolReport, record: &Record) -> Value {
    let own = report.parents.iter().map(|(gateway, conditions)| {
        let mut parent = ParentReference::to_gateway(&*gateway.name);
        parent.namespace = Some(gateway.namespace.to_string());
        entry("parentRef", &parent, conditions, report.generation)
    });
    json!({"parents": own.chain(foreign_entries(record, "parents")).collect::<Vec<_>>()})
}

/// Renders the status of a ModelRoute.
pub(super) fn model_route(route: &Route, report: &RouteReport) -> Value {
    let parents = route.spec.parent_refs.iter().zip(&report.parents);
    let parents = parents.map(|(parent, of)| entry("parentRef", parent, &of.conditions, report.generation));
    json!({
        "conditions": written(&report.conditions, report.generation),
        "parents": parents.collect::<Vec<_>>(),
    })
}

/// Renders the status of a ModelServer.
pub(super) fn model_server(report: &ServerReport) -> Value {
    json!({
        "conditions": written(&report.conditions, report.generation),
        "observedGeneration": report.generation,
        "endpoints": report.endpoints,
        "readyEndpoints": report.ready_endpoints,
    })
}

/// Returns whether a status has entries of other controllers.
pub(super) fn has_foreign_entries(status: &Value) -> bool {
    ["parents", "ancestors"].iter().any(|list| entries(status, list).any(is_foreign))
}

fn entry(name: &str, reference: &ParentReference, conditions: &[Condition], generation: i64) -> Value {
    json!({
        name: reference,
        "controllerName": CONTROLLER_NAME,
        "conditions": written(conditions, generation),
    })
}

/// Returns the entries of other controllers in a list of an object's status.
fn foreign_entries(record: &Record, list: &str) -> impl Iterator<Item = Value> {
    record.status.iter().flat_map(move |status| entries(status, list)).filter(|entry| is_foreign(entry)).cloned()
}

fn entries<'s>(status: &'s Value, list: &str) -> impl Iterator<Item = &'s Value> + use<'s> {
    status.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn is_foreign(entry: &Value) -> bool {
    entry.get("controllerName").is_none_or(|name| name != CONTROLLER_NAME)
}

fn listeners(reports: &[ListenerReport], generation: i64) -> Vec<Value> {
    let rendered = |report: &ListenerReport| {
        let kind = |kind: &Kind| json!({"group": kind.group(), "kind": kind.as_str()});
        json!({
            "name": report.name,
            "attachedRoutes": report.attached_routes,
            "supportedKinds": report.supported_kinds.iter().map(kind).collect::<Vec<_>>(),
            "conditions": written(&report.conditions, generation),
        })
    };
    reports.iter().map(rendered).collect()
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
