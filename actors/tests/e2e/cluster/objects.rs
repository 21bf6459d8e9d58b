//! Objects of a cluster, as short as tests need them.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::harness::ENGINE_PORT;

/// Returns an object in another namespace than `default`.
pub(super) fn inside(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// Returns a ModelServer of the Pods of the app of its own name.
pub(super) fn model_server(name: &str, model: &str) -> Value {
    json!({"kind": "ModelServer", "metadata": {"name": name}, "spec": {
        "model": model,
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": name}},
        "workloadPort": {"port": ENGINE_PORT},
    }})
}

/// Returns that ModelServer with a spec that nobody can read.
pub(super) fn unreadable_model_server(name: &str) -> Value {
    let mut server = model_server(name, "unreadable");
    server["spec"]["workloadPort"] = "eight thousand".into();
    server
}

/// Returns a Pod of an app that is ready.
pub(super) fn pod(name: &str, app: &str, address: IpAddr) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "labels": {"app": app}}, "status": {
        "podIP": address, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }})
}

/// Returns a ModelRoute of everything for a model to one ModelServer.
pub(super) fn model_route(name: &str, model: &str, server: &str) -> Value {
    json!({"kind": "ModelRoute", "metadata": {"name": name}, "spec": {
        "modelName": model,
        "rules": [{"name": "all", "targetModels": [{"modelServerName": server}]}],
    }})
}

/// Returns a ModelRoute on a Gateway.
pub(super) fn attached_route(name: &str, model: &str, server: &str, gateway: &str) -> Value {
    let mut route = model_route(name, model, server);
    route["spec"]["parentRefs"] = json!([{"name": gateway}]);
    route
}

/// Returns a Gateway of a class with one listener.
pub(super) fn gateway(name: &str, class: &str, port: u16) -> Value {
    json!({"kind": "Gateway", "metadata": {"name": name}, "spec": {
        "gatewayClassName": class,
        "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
    }})
}

/// Returns a GatewayClass of a controller.
pub(super) fn gateway_class(name: &str, controller: &str) -> Value {
    json!({"kind": "GatewayClass", "metadata": {"name": name}, "spec": {"controllerName": controller}})
}

/// Returns the definition that says which release of the Gateway API is installed.
pub(super) fn definition(version: &str) -> Value {
    json!({
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "gatewayclasses.gateway.networking.k8s.io",
            "annotations": {"gateway.networking.k8s.io/bundle-version": version},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "names": {"kind": "GatewayClass", "plural": "gatewayclasses"},
            "scope": "Cluster",
            "versions": [],
        },
    })
}

/// Returns the router's own Service with a port of its user, and the address of its load balancer.
pub(super) fn service(address: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": "kthena-router"}, "spec": {
        "type": "LoadBalancer",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    }, "status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
}
