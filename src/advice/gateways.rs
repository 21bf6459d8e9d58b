//! Gateways and ListenerSets.

use super::{Named, Review};
use crate::controller::CLASS_NAME;
use crate::gateway::class;
use crate::kinds::gateway::Listener;
use crate::object::{Kind, ObjectKey};

pub(super) fn review(review: &mut Review<'_>, own_ports: &[(u16, &'static str)]) {
    if !review.controller.gateway_api {
        return;
    }
    let world = review.world;
    for (key, gateway) in world.gateways.iter() {
        let object = Named { kind: Kind::Gateway, key };
        let class = &gateway.spec.gateway_class_name;
        if class::is_own(world, class) {
            ports(review, object, &gateway.spec.listeners, own_ports);
        } else {
            let foreign = match world.gateway_classes.find(&ObjectKey::new("", class.as_str())) {
                Some(known) => format!("the GatewayClass `{class}` belongs to `{}`", known.controller_name),
                None => format!("there is no GatewayClass `{class}` here, and this router's is `{CLASS_NAME}`"),
            };
            review.warn(object, "spec.gatewayClassName", format!("{foreign}: the Gateway is not served"));
        }
    }
    for (key, set) in world.listener_sets.iter() {
        let object = Named { kind: Kind::ListenerSet, key };
        ports(review, object, &set.spec.listeners, own_ports);
        if !review.plan.reports.listener_sets.contains_key(key) {
            let text = format!("its Gateway is not one of this router's; {}", review.own_gateways());
            review.fault(object, "spec.parentRef", text);
        }
    }
}

/// Looks for listeners on ports that the router needs itself.
fn ports(review: &mut Review<'_>, object: Named<'_>, listeners: &[Listener], own_ports: &[(u16, &'static str)]) {
    for (place, listener) in listeners.iter().enumerate() {
        for (port, flag) in own_ports.iter().filter(|(port, _)| i32::from(*port) == listener.port) {
            let text = format!("the router itself listens on port {port}: choose another one, or another `{flag}`");
            review.fault(object, format!("spec.listeners[{place}].port"), text);
        }
    }
}
