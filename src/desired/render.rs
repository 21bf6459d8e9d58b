//! The statuses of objects as they are written, out of a plan's reports.
//!
//! Sources: the Gateway API's `GatewayClassStatus`, `GatewayStatus`, `ListenerSetStatus`, `HTTPRouteStatus` and
//! `PolicyStatus`; the router's own kinds. The lists `parents` and `ancestors` are written as a whole, so that the entries
//! of other controllers in them are written again as they are.

use serde_json::{Value, json};

use crate::conditions::{Condition, Verdict};
use crate::controller::CONTROLLER_NAME;
use crate::kinds::parent_reference::ParentReference;
use crate::kinds::{
    BackendTlsPolicy, Gateway, GatewayClass, HttpRoute, InferencePool, ListenerSet, ModelRoute, ModelServer,
};
use crate::object::Kind;
use crate::plan::{
    AncestorReport, ClassReport, GatewayReport, HttpRouteReport, InferencePoolReport, ListenerReport,
    ListenerSetReport, PolicyReport, RouteReport, ServerReport,
};
use crate::record::Record;
use crate::world::WorldKind;

/// A kind whose objects have a status that the router writes.
pub(super) trait Rendered: WorldKind {
    /// What plans report of its objects.
    type Report;

    /// Returns what the API server records of an object.
    fn record(stored: &Self::Stored) -> &Record;

    /// Renders the status of an object, with its report and the features of the Gateway API that are supported.
    fn status(stored: &Self::Stored, report: &Self::Report, features: &[&str]) -> Value;

    /// Returns whether a status stays as it is when the report does and, as `same_features` tells, the features do.
    fn is_settled_by_report(_same_features: bool) -> bool {
        true
    }
}

impl Rendered for GatewayClass {
    type Report = ClassReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(_: &Self::Stored, report: &Self::Report, features: &[&str]) -> Value {
        let mut status = json!({"conditions": written(&report.conditions, report.generation)});
        // Releases before v1.4 have no such field, and so no features.
        if !features.is_empty() {
            let features: Vec<_> = features.iter().map(|feature| json!({"name": feature})).collect();
            status["supportedFeatures"] = features.into();
        }
        status
    }

    fn is_settled_by_report(same_features: bool) -> bool {
        same_features
    }
}

impl Rendered for Gateway {
    type Report = GatewayReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(stored: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
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
        let observed = stored.record.status.as_ref();
        let counted = observed.is_some_and(|status| status.get("attachedListenerSets").is_some());
        if counted || report.attached_sets > 0 {
            status["attachedListenerSets"] = json!(report.attached_sets);
        }
        status
    }
}

impl Rendered for ListenerSet {
    type Report = ListenerSetReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(_: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        json!({
            "conditions": written(&report.conditions, report.generation),
            "listeners": listeners(&report.listeners, report.generation),
        })
    }
}

impl Rendered for HttpRoute {
    type Report = HttpRouteReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(stored: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        let own = report.parents.iter().filter_map(|parent| {
            let reference = stored.spec.parent_refs.get(parent.place)?;
            Some(entry("parentRef", reference, &parent.verdict, report.generation))
        });
        json!({"parents": own.chain(foreign_entries(&stored.record, "parents")).collect::<Vec<_>>()})
    }
}

impl Rendered for BackendTlsPolicy {
    type Report = PolicyReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(stored: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        let own = report.ancestors.iter().map(|ancestor| at_gateway("ancestorRef", ancestor, report.generation));
        json!({"ancestors": own.chain(foreign_entries(&stored.record, "ancestors")).collect::<Vec<_>>()})
    }
}

impl Rendered for InferencePool {
    type Report = InferencePoolReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(stored: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        let own = report.parents.iter().map(|parent| at_gateway("parentRef", parent, report.generation));
        json!({"parents": own.chain(foreign_entries(&stored.record, "parents")).collect::<Vec<_>>()})
    }
}

impl Rendered for ModelRoute {
    type Report = RouteReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(stored: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        let parents = stored.spec.parent_refs.iter().zip(&report.parents);
        let parents = parents.map(|(parent, verdict)| entry("parentRef", parent, verdict, report.generation));
        json!({
            "conditions": written(report.verdict.iter(), report.generation),
            "parents": parents.collect::<Vec<_>>(),
        })
    }
}

impl Rendered for ModelServer {
    type Report = ServerReport;

    fn record(stored: &Self::Stored) -> &Record {
        &stored.record
    }

    fn status(_: &Self::Stored, report: &Self::Report, _: &[&str]) -> Value {
        json!({
            "conditions": written(report.conditions(), report.generation),
            "observedGeneration": report.generation,
            "endpoints": report.endpoints,
            "readyEndpoints": report.ready_endpoints,
        })
    }
}

/// Returns whether a status has entries of other controllers.
pub(super) fn has_foreign_entries(status: &Value) -> bool {
    ["parents", "ancestors"].iter().any(|list| entries(status, list).any(is_foreign))
}

fn entry(name: &str, reference: &ParentReference, verdict: &Verdict, generation: i64) -> Value {
    json!({
        name: reference,
        "controllerName": CONTROLLER_NAME,
        "conditions": written(verdict.iter(), generation),
    })
}

/// Renders the entry of a Gateway.
fn at_gateway(name: &str, report: &AncestorReport, generation: i64) -> Value {
    let mut reference = ParentReference::to_gateway(&*report.gateway.name);
    reference.namespace = Some(report.gateway.namespace.to_string());
    entry(name, &reference, &report.verdict, generation)
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
fn written<'c>(conditions: impl IntoIterator<Item = &'c Condition>, generation: i64) -> Vec<Value> {
    let written = |condition: &Condition| {
        let mut written = json!(condition);
        written["observedGeneration"] = json!(generation);
        written
    };
    conditions.into_iter().map(written).collect()
}
