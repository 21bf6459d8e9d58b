//! The list of models, in OpenAI's shape with vLLM's fields: what a client of some listeners may ask for.
//!
//! Sources: OpenAI API reference, "Models"; vLLM's `ModelCard`, whose `root` is what the engine serves, and whose
//! `parent` is the model that a LoRA adapter belongs to. `max_model_len` is not listed, because no object says it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{ListenerTable, PoolEntry};

/// The models of some listeners, by name.
#[derive(Debug)]
pub struct ModelList<'t> {
    models: BTreeMap<&'t str, Model<'t>>,
}

/// One model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Model<'t> {
    id: &'t str,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    root: &'t str,
    parent: Option<&'t str>,
}

/// The body of `GET /v1/models`.
#[derive(Serialize)]
struct Body<'b, 't> {
    object: &'static str,
    data: Vec<&'b Model<'t>>,
}

impl<'t> ModelList<'t> {
    /// Lists what the listeners serve, each name once; `started` is the creation time of models whose route has none,
    /// in seconds since the epoch.
    pub fn of(listeners: &'t [ListenerTable], pools: &'t [PoolEntry], started: i64) -> Self {
        let mut models = BTreeMap::new();
        for served in listeners.iter().flat_map(|listener| listener.models.served()) {
            let policy = served.pool.and_then(|pool| pools.get(pool.0)).map(|pool| &pool.policy);
            let root = policy.and_then(|policy| policy.served_model.as_deref()).filter(|_| served.parent.is_none());
            models.entry(&**served.name).or_insert_with(|| Model {
                id: served.name,
                object: "model",
                created: if served.created > 0 { served.created } else { started },
                owned_by: "kthena",
                root: root.unwrap_or(served.name),
                parent: served.parent.map(|parent| &**parent),
            });
        }
        Self { models }
    }

    /// Returns the whole list as JSON, in the order of the names.
    pub fn body(&self) -> String {
        json(&Body { object: "list", data: self.models.values().collect() })
    }

    /// Returns one model as JSON; `None` if it is not in the list.
    pub fn model(&self, name: &str) -> Option<String> {
        self.models.get(name).map(json)
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written as JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixtures::{bind, plan_of};

    const SCENE: &str = "
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: s}
spec: {model: served, inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: s}}, workloadPort: {port: 8000}}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: r, creationTimestamp: '1970-01-01T00:01:00Z'}
spec: {modelName: org/m, loraAdapters: [lora], parentRefs: [{name: default}], rules: [{targetModels: [{modelServerName: s}]}]}
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: undated}
spec: {modelName: u, parentRefs: [{name: default}], rules: [{targetModels: [{modelServerName: gone}]}]}
";

    #[test]
    fn models_are_listed_with_what_is_known_of_them() {
        let plan = plan_of(SCENE);
        let list = ModelList::of(plan.table.listeners(bind(8080), ""), &plan.table.pools, 100);
        let card = |id: &str, created: i64, root: &str, parent: Option<&str>| {
            json!({
                "id": id, "object": "model", "created": created, "owned_by": "kthena", "root": root, "parent": parent,
            })
        };
        let (adapter, model) = (card("lora", 60, "lora", Some("org/m")), card("org/m", 60, "served", None));
        let body: Value = serde_json::from_str(&list.body()).unwrap();
        assert_eq!(body, json!({"object": "list", "data": [&adapter, &model, card("u", 100, "u", None)]}));
        let one = list.model("org/m").map(|text| serde_json::from_str::<Value>(&text).unwrap());
        assert_eq!((one, list.model("served")), (Some(model), None));
    }
}
