//! The Go router's examples: its ModelServers and ModelRoutes, and Pods as its ModelServing objects would have made them.

use serde_json::{Map, Value, json};

/// A label.
pub(super) type Label = (&'static str, &'static str);

const NAME: &str = "modelserving.volcano.sh/name";
const GROUP: &str = "modelserving.volcano.sh/group-name";
const ROLE: &str = "modelserving.volcano.sh/role";
/// The label of the role in examples whose roles have labels of their own.
const ROLE_NAME: &str = "modelserving.volcano.sh/rolename";
const ENTRY: Label = ("modelserving.volcano.sh/entry", "true");

/// One example.
#[derive(Clone, Copy, Debug)]
pub(super) struct Example {
    /// The name of the ModelServer and of the ModelRoute.
    pub(super) name: &'static str,
    /// The label that all Pods have.
    pub(super) selector: Label,
    /// The labels of both roles.
    pub(super) roles: [Label; 2],
    /// How many Pods an engine runs on: only the first of them is asked.
    pub(super) nodes: u32,
    /// `inferenceEngine`.
    pub(super) engine: &'static str,
    /// `kvConnector.type`.
    pub(super) connector: Option<&'static str>,
    /// The model that the engines serve.
    pub(super) model: &'static str,
    /// The port of the engines.
    pub(super) port: u16,
    /// Flags by which the simulated engines do as the example's would; one may be empty.
    pub(super) speaks: [&'static str; 2],
}

/// What a Pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It computes prompts.
    Prefill,
    /// It answers.
    Decode,
}

const VLLM: Example = Example {
    name: "",
    selector: (NAME, ""),
    roles: [(ROLE, "prefill"), (ROLE, "decode")],
    nodes: 1,
    engine: "vLLM",
    connector: None,
    model: "",
    port: 8000,
    speaks: ["", ""],
};

/// vLLM with a Pod for each role, over every connector that the examples use.
pub(super) const PAIRS_OF_VLLM: [Example; 4] = [
    // `kvConnector` is left out.
    Example {
        name: "deepseek-r1-1-5b-pd-disaggregation",
        selector: ("app", "deepseek-r1-1-5b"),
        roles: [(ROLE_NAME, "P-instance"), (ROLE_NAME, "D-instance")],
        model: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        speaks: ["--kv-connector=http", ""],
        ..VLLM
    },
    Example {
        name: "vllm-qwen-06b",
        selector: (NAME, "vllm-qwen-06b"),
        connector: Some("nixl"),
        model: "Qwen/Qwen3-0.6B",
        speaks: ["--kv-connector=nixl", ""],
        ..VLLM
    },
    // vLLM Ascend.
    Example {
        name: "deepseek-v2",
        selector: (NAME, "deepseek-v2-lite"),
        connector: Some("mooncake"),
        model: "deepseek-ai/DeepSeekV2",
        speaks: ["--kv-connector=mooncake-ascend", ""],
        ..VLLM
    },
    Example {
        name: "lmcache-pd",
        selector: (NAME, "lmcache-pd"),
        connector: Some("lmcache"),
        model: "Qwen/Qwen3-8B",
        speaks: ["--kv-connector=lmcache", ""],
        ..VLLM
    },
];

/// vLLM whose roles run on two Pods each.
pub(super) const LEADERS_OF_VLLM: Example = Example {
    name: "vllm-pd-multinode",
    selector: (NAME, "vllm-pd-multinode"),
    nodes: 2,
    connector: Some("nixl"),
    model: "Qwen/Qwen3-8B",
    speaks: ["--kv-connector=nixl", ""],
    ..VLLM
};

/// SGLang with a Pod for each role.
pub(super) const PAIR_OF_SGLANG: Example = Example {
    name: "deepseek-r1-1-5b-sglang-pd-disaggregation",
    selector: (NAME, "deepseek-r1-1-5b-sglang-pd"),
    roles: [(ROLE_NAME, "prefill"), (ROLE_NAME, "decode")],
    engine: "SGLang",
    model: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    port: 30_000,
    speaks: ["--kv-connector=sglang", "--dialect=sglang"],
    ..VLLM
};

/// SGLang whose roles run on two Pods each.
pub(super) const LEADERS_OF_SGLANG: Example = Example {
    name: "sglang-pd-multinode",
    selector: (NAME, "sglang-pd-multinode"),
    roles: [(ROLE, "prefill"), (ROLE, "decode")],
    nodes: 2,
    ..PAIR_OF_SGLANG
};

impl Example {
    /// Returns the name of the ModelServing, by which its groups are called.
    pub(super) fn workload(&self) -> &'static str {
        self.selector.1
    }

    /// Returns whether the engines share a store.
    pub(super) fn has_store(&self) -> bool {
        self.speaks.iter().any(|flag| ["--kv-connector=http", "--kv-connector=lmcache"].contains(flag))
    }

    /// Returns the ModelServer.
    pub(super) fn model_server(&self, namespace: &str) -> Value {
        let is_entry = (self.nodes > 1).then_some(ENTRY);
        let labels = |label: Label| -> Map<String, Value> {
            [label].into_iter().chain(is_entry).map(|(key, value)| (key.to_owned(), json!(value))).collect()
        };
        let [prefill, decode] = self.roles;
        let mut server = json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "workloadSelector": {
                    "matchLabels": labels(self.selector),
                    "pdGroup": {
                        "groupKey": GROUP, "prefillLabels": labels(prefill), "decodeLabels": labels(decode),
                    },
                },
                "workloadPort": {"port": self.port},
                "model": self.model,
                "inferenceEngine": self.engine,
                "trafficPolicy": {"timeout": "10s"},
            },
        });
        if let Some(connector) = self.connector {
            server["spec"]["kvConnector"] = json!({"type": connector});
        }
        server
    }

    /// Returns a Pod of the group with this number: `replica` counts the engines of the role, `node` the Pods of an engine.
    pub(super) fn pod(&self, namespace: &str, part: Part, [group, replica, node]: [u32; 3], spec: &Value) -> Value {
        let (role, label) = match part {
            Part::Prefill => ("prefill", self.roles[0]),
            Part::Decode => ("decode", self.roles[1]),
        };
        let workload = self.workload();
        let group = format!("{workload}-{group}");
        let name = format!("{group}-{role}-{replica}-{node}");
        let mut labels = json!({
            NAME: workload, GROUP: group, ROLE: role, "modelserving.volcano.sh/role-id": format!("{role}-{replica}"),
            "modelserving.volcano.sh/revision": "59f6d9d7c5",
        });
        for (key, value) in [self.selector, label].into_iter().chain((node == 0).then_some(ENTRY)) {
            labels[key] = json!(value);
        }
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }
}
