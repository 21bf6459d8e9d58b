//! The objects that tests make, with all that does not matter to a test filled in.

use serde_json::{Value, json};

use crate::kinds::{DEPLOYMENT, GATEWAY, HTTP_ROUTE, INFERENCE_POOL, Kind, MODEL_ROUTE, MODEL_SERVER, SERVICE};

/// The port of every engine.
pub const ENGINE_PORT: u16 = 8000;

/// A Deployment of simulated engines, and the ModelServer that selects its Pods.
#[derive(Clone, Debug)]
pub struct Engines {
    /// The name of the Deployment, of the ModelServer and of the label.
    pub name: String,
    /// The model that answers.
    pub model: String,
    /// The number of Pods.
    pub replicas: u32,
    /// Further flags of the engine.
    pub flags: Vec<String>,
}

impl Engines {
    /// Makes one engine whose model has its own name.
    pub fn one(name: &str) -> Self {
        Self::many(name, 1)
    }

    /// Makes several engines whose model has their own name.
    pub fn many(name: &str, replicas: u32) -> Self {
        Self { name: name.to_owned(), model: name.to_owned(), replicas, flags: Vec::new() }
    }

    /// Adds flags.
    #[must_use]
    pub fn with_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Returns the Deployment; `image` is the router's own.
    pub fn deployment(&self, namespace: &str, image: &str) -> Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind,
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {"labels": labels}, "spec": self.pod_spec(image)},
            },
        })
    }

    /// Returns one Pod that is nobody's.
    pub fn pod(&self, namespace: &str, image: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": namespace, "labels": {"app": self.name}},
            "spec": self.pod_spec(image),
        })
    }

    fn pod_spec(&self, image: &str) -> Value {
        let own = ["engine", "--address=0.0.0.0", &format!("--port={ENGINE_PORT}"), &format!("--model={}", self.model)];
        let flags: Vec<String> = own.into_iter().map(str::to_owned).chain(self.flags.iter().cloned()).collect();
        json!({
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": "engine", "image": image, "args": flags,
                "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
                "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
            }],
        })
    }

    /// Returns the Service, on port 80.
    pub fn service(&self, namespace: &str) -> Value {
        let ports = json!([{"name": "http", "port": 80, "targetPort": "http"}]);
        object(SERVICE, namespace, &self.name, &json!({"selector": {"app": self.name}, "ports": ports}))
    }

    /// Returns the ModelServer.
    pub fn model_server(&self, namespace: &str) -> Value {
        model_server(namespace, &self.name, &self.model)
    }
}

/// Returns a ModelServer whose Pods have its name as their label.
pub fn model_server(namespace: &str, name: &str, model: &str) -> Value {
    let spec = json!({
        "model": model, "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": name}}, "workloadPort": {"port": ENGINE_PORT},
    });
    object(MODEL_SERVER, namespace, name, &spec)
}

/// Returns a ModelRoute of all requests for `model` to one ModelServer, on the Gateway `namespace/name`.
pub fn model_route(namespace: &str, name: &str, model: &str, gateway: (&str, &str), server: &str) -> Value {
    let spec = json!({
        "modelName": model,
        "parentRefs": [{"namespace": gateway.0, "name": gateway.1}],
        "rules": [{"targetModels": [{"modelServerName": server}]}],
    });
    object(MODEL_ROUTE, namespace, name, &spec)
}

/// Returns an HTTPRoute of all requests to one Service, on a Gateway of its namespace.
pub fn http_route(namespace: &str, name: &str, gateway: &str, service: &str) -> Value {
    let rules = json!([{"backendRefs": [{"name": service, "port": 80}]}]);
    object(HTTP_ROUTE, namespace, name, &json!({"parentRefs": [{"name": gateway}], "rules": rules}))
}

/// Returns an InferencePool of the Pods whose label `app` is its name, without a picker.
pub fn inference_pool(namespace: &str, name: &str) -> Value {
    let spec = json!({"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": ENGINE_PORT}]});
    object(INFERENCE_POOL, namespace, name, &spec)
}

/// Returns an HTTPRoute of all requests to one InferencePool, on a Gateway of its namespace.
pub fn pool_route(namespace: &str, name: &str, gateway: &str, pool: &str) -> Value {
    let backend = json!({"group": "inference.networking.k8s.io", "kind": INFERENCE_POOL.kind, "name": pool});
    let rules = json!([{"backendRefs": [backend]}]);
    object(HTTP_ROUTE, namespace, name, &json!({"parentRefs": [{"name": gateway}], "rules": rules}))
}

/// Returns a Gateway of a class with one HTTP listener.
pub fn gateway(namespace: &str, name: &str, class: &str, port: u16) -> Value {
    let listeners = json!([{"name": "http", "port": port, "protocol": "HTTP"}]);
    object(GATEWAY, namespace, name, &json!({"gatewayClassName": class, "listeners": listeners}))
}

/// Returns an object of a kind.
pub fn object(kind: Kind, namespace: &str, name: &str, spec: &Value) -> Value {
    let metadata = if kind.namespaced { json!({"name": name, "namespace": namespace}) } else { json!({"name": name}) };
    json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec})
}
