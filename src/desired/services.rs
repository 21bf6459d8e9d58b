//! The Services that the router makes for Gateways, unless all Gateways share its own.
//!
//! With the `service` provider it is a load balancer that leads to the router's Pods, in the router's namespace. With
//! the `pool` provider the addresses are there already, and a headless Service beside a Gateway that has
//! `infrastructure` carries its labels and annotations for whoever reads them. Services that were made for a Gateway
//! which is no more are deleted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Purpose, Target, Write, Writes};
use crate::addresses::AddressProvider;
use crate::controller::Controller;
use crate::gateway::services::{GATEWAY_NAMESPACE, checksum, key, labels};
use crate::kinds::gateway::{GatewayInfrastructure, GatewaySpec};
use crate::object::{Kind, ObjectKey};
use crate::plan::{GatewayReport, Reports};
use crate::world::{GatewayFacts, ProvidedFacts, World};

/// The annotation with a checksum of everything applied; a different checksum means that fields must be removed.
const APPLIED: &str = "networking.serving.volcano.sh/applied";

/// Adds the Services that are missing or differ from what is desired, and the deletion of Services that are not needed.
pub(super) fn provide(world: &World, reports: &Reports, controller: &Controller, writes: &mut Writes) {
    let mut wanted = BTreeSet::new();
    for (gateway, report) in &reports.gateways {
        let Some(facts) = world.gateways.find(gateway).filter(|facts| !facts.record.uid.is_empty()) else { continue };
        if !needs_one(&facts.spec, controller) {
            continue;
        }
        let Some(service) = key(gateway, &facts.spec.gateway_class_name, controller) else { continue };
        let present = world.services.find(&service);
        let body = body(&service, gateway, facts, report, world, controller);
        let is_ours =
            |provided: &ProvidedFacts| provided.labels.get(GATEWAY_NAMESPACE) == labels_of(&body, GATEWAY_NAMESPACE);
        match present.map(|present| present.provided.as_deref()) {
            None => add(Purpose::Create, &service, body, writes),
            Some(Some(provided)) if is_ours(provided) && !is_applied(provided, &body) => {
                add(Purpose::Spec, &service, body, writes);
            }
            // A Service of that name which someone else wrote stays theirs.
            Some(_) => {}
        }
        wanted.insert(service);
    }
    for (service, facts) in world.services.iter().filter(|(service, _)| may_delete(service, world, controller)) {
        if let (Some(provided), false) = (&facts.provided, wanted.contains(service)) {
            let target = Target { purpose: Purpose::Delete, kind: Kind::Service, key: service.clone() };
            let uid = provided.uid.as_str().into();
            writes.insert(target, Write { body: Value::Null, seen: 0, uid, transitions: Vec::new() });
        }
    }
}

/// Returns whether a Service that was made for a Gateway may be deleted: those of another router are none of this one's
/// business, and while Gateways cannot be read nobody knows which are gone.
fn may_delete(service: &ObjectKey, world: &World, controller: &Controller) -> bool {
    let is_here = *service.namespace == *controller.namespace;
    world.gateways.known
        && controller.gateway_api
        && (is_here || matches!(controller.addresses, AddressProvider::Pool(_)))
}

/// Returns whether a Gateway needs a Service: for its addresses, or else for what is to be carried.
fn needs_one(spec: &GatewaySpec, controller: &Controller) -> bool {
    let carries = |wanted: &GatewayInfrastructure| !wanted.labels.is_empty() || !wanted.annotations.is_empty();
    controller.addresses == AddressProvider::Service || spec.infrastructure.as_ref().is_some_and(carries)
}

fn add(purpose: Purpose, service: &ObjectKey, body: Value, writes: &mut Writes) {
    let target = Target { purpose, kind: Kind::Service, key: service.clone() };
    writes.insert(target, Write { body, seen: 0, uid: "".into(), transitions: Vec::new() });
}

fn body(
    service: &ObjectKey,
    gateway: &ObjectKey,
    facts: &GatewayFacts,
    report: &GatewayReport,
    world: &World,
    controller: &Controller,
) -> Value {
    let infrastructure = facts.spec.infrastructure.as_ref();
    let mut all_labels = infrastructure.map(|wanted| wanted.labels.clone()).unwrap_or_default();
    all_labels.extend(labels(gateway, &facts.spec.gateway_class_name));
    let mut annotations = infrastructure.map(|wanted| wanted.annotations.clone()).unwrap_or_default();
    let spec = match controller.addresses {
        AddressProvider::Service => load_balancer(&facts.spec, &report.ports, world, controller),
        _ => json!({"clusterIP": "None", "ports": ports(report.ports.keys().map(|port| (*port, *port)))}),
    };
    let mut metadata = json!({"name": &*service.name, "namespace": &*service.namespace, "labels": all_labels});
    // An owner must be in the namespace of what it owns.
    if service.namespace == gateway.namespace {
        metadata["ownerReferences"] = json!([{
            "apiVersion": Kind::Gateway.api_version(),
            "kind": Kind::Gateway.as_str(),
            "name": &*gateway.name,
            "uid": &*facts.record.uid,
            "controller": true,
        }]);
    }
    let sum = checksum(&format!("{metadata}{}{spec}", json!(annotations)));
    annotations.insert(APPLIED.to_owned(), format!("{sum:08x}"));
    metadata["annotations"] = json!(annotations);
    json!({
        "apiVersion": Kind::Service.api_version(),
        "kind": Kind::Service.as_str(),
        "metadata": metadata,
        "spec": spec,
    })
}

fn load_balancer(spec: &GatewaySpec, targets: &BTreeMap<u16, u16>, world: &World, controller: &Controller) -> Value {
    let own = world.services.find(&controller.service);
    let mut service = json!({
        "type": "LoadBalancer",
        "selector": own.map(|own| own.selector.clone()).unwrap_or_default(),
        "ports": ports(targets.iter().map(|(port, target)| (*port, *target))),
    });
    let wish = spec.addresses.iter().find(|address| address.value.parse::<std::net::IpAddr>().is_ok());
    if let Some(wish) = wish {
        service["loadBalancerIP"] = json!(wish.value);
    }
    service
}

/// Returns the ports of a Service, each given with the port that it leads to.
fn ports(targets: impl Iterator<Item = (u16, u16)>) -> Vec<Value> {
    let port =
        |(port, target)| json!({"name": format!("port-{port}"), "port": port, "targetPort": target, "protocol": "TCP"});
    targets.map(port).collect()
}

/// Returns whether a Service has everything that was to be applied, and nothing of an earlier time.
fn is_applied(provided: &ProvidedFacts, body: &Value) -> bool {
    let has_all = |present: &BTreeMap<String, String>, wanted: &Value| {
        let mut wanted = wanted.as_object().into_iter().flatten();
        wanted.all(|(name, value)| present.get(name).map(String::as_str) == value.as_str())
    };
    has_all(&provided.labels, &body["metadata"]["labels"])
        && has_all(&provided.annotations, &body["metadata"]["annotations"])
}

fn labels_of<'b>(body: &'b Value, name: &str) -> Option<&'b String> {
    match &body["metadata"]["labels"][name] {
        Value::String(value) => Some(value),
        _ => None,
    }
}
