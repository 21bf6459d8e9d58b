//! The objects that the router provides: its GatewayClass, the default Gateway, and the ports of its own Service.
//!
//! Objects that exist are a user's to change and are left alone. Of the Service only ports called `gateway-<port>` are
//! the router's, so that ports which a user wrote stay as they are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Purpose, Target, Write, Writes};
use crate::controller::{CLASS_NAME, CONTROLLER_NAME, Controller};
use crate::object::{Kind, ObjectKey};
use crate::plan::BindPlan;
use crate::world::{ServiceFacts, ServicePort, World};

/// How the names of the router's own Service ports begin.
const PORT_PREFIX: &str = "gateway-";

/// Adds what is missing.
pub(super) fn provide(world: &World, binds: &[BindPlan], controller: &Controller, writes: &mut Writes) {
    if controller.gateway_api && controller.provides {
        let class = ObjectKey::new("", CLASS_NAME);
        if world.gateway_classes.known && world.gateway_classes.find(&class).is_none() {
            let spec = json!({
                "controllerName": CONTROLLER_NAME,
                "description": "Gateways of this class are served by kthena-router.",
            });
            create(Kind::GatewayClass, class, &spec, writes);
        }
        let gateway = controller.default_gateway();
        if world.gateways.known && world.gateways.find(&gateway).is_none() {
            let listener = json!({
                "name": "default",
                "port": controller.port,
                "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            });
            let spec = json!({"gatewayClassName": CLASS_NAME, "listeners": [listener]});
            create(Kind::Gateway, gateway, &spec, writes);
        }
    }
    if controller.sync_service_ports
        && let Some(service) = world.services.find(&controller.service)
    {
        sync_ports(service, binds, controller, writes);
    }
}

fn create(kind: Kind, key: ObjectKey, spec: &Value, writes: &mut Writes) {
    let mut metadata = json!({"name": &*key.name, "labels": {"app.kubernetes.io/managed-by": "kthena-router"}});
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    let body = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "spec": spec});
    let target = Target { purpose: Purpose::Create, kind, key };
    writes.insert(target, Write { body, seen: 0, uid: "".into(), transitions: Vec::new() });
}

/// Exposes every port under its own number, which is where clients of a Gateway's address look for it.
///
/// The ports are those that are to be open: while a replica starts, none of them is yet, and all are in use.
fn sync_ports(service: &ServiceFacts, binds: &[BindPlan], controller: &Controller, writes: &mut Writes) {
    let is_own = |port: &&ServicePort| port.name.starts_with(PORT_PREFIX);
    let present: BTreeSet<i32> = service.ports.iter().filter(is_own).map(|port| port.port).collect();
    let of_users = service.ports.iter().filter(|port| !is_own(port) && port.protocol == "TCP");
    let taken: BTreeSet<i32> = of_users.map(|port| port.port).collect();
    let wanted: BTreeSet<i32> = binds.iter().map(|plan| plan.bind.port.into()).collect();
    let wanted: BTreeSet<i32> = wanted.difference(&taken).copied().collect();
    // A Service cannot be left without any port.
    if wanted == present || (wanted.is_empty() && taken.is_empty()) {
        return;
    }
    let port = |port: &i32| json!({"name": format!("{PORT_PREFIX}{port}"), "port": port, "targetPort": port, "protocol": "TCP"});
    let body = json!({
        "apiVersion": Kind::Service.api_version(),
        "kind": Kind::Service.as_str(),
        "metadata": {"name": &*controller.service.name, "namespace": &*controller.service.namespace},
        "spec": {"ports": wanted.iter().map(port).collect::<Vec<_>>()},
    });
    let target = Target { purpose: Purpose::Spec, kind: Kind::Service, key: controller.service.clone() };
    writes.insert(target, Write { body, seen: 0, uid: "".into(), transitions: Vec::new() });
}
