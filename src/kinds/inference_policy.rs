//! InferenceObjectives and InferenceModelRewrites: how an InferencePool treats the requests that it gets.
//!
//! Source: the API `v1alpha2` of both kinds. They began in the Inference Extension's experimental group and moved to
//! `llm-d.ai`; objects of both groups mean the same.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::inference_pool::POOL_GROUP;

/// The API group of both kinds.
pub const POLICY_GROUP: &str = "llm-d.ai";

/// The API group of both kinds before.
pub const FORMER_POLICY_GROUP: &str = "inference.networking.x-k8s.io";

/// The largest weight of a target.
const MAX_WEIGHT: i64 = 1_000_000;

/// How important the requests of clients that name it are to the pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceObjectiveSpec {
    /// How important they are, in comparison; 0 if absent, and requests below 0 can be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,

    /// The pool.
    pub pool_ref: PoolReference,
}

/// Which models the requests to a pool get, by the model that they ask for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceModelRewriteSpec {
    /// The pool.
    pub pool_ref: PoolReference,

    /// The rules.
    #[serde(default)]
    pub rules: Vec<ModelRewriteRule>,
}

/// Names a pool.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PoolReference {
    /// API group.
    #[serde(default = "pool_group")]
    pub group: String,

    /// Kind.
    #[serde(default = "pool_kind")]
    pub kind: String,

    /// Name, in the namespace of whoever refers to it.
    pub name: String,
}

/// Which models some of the requests get.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ModelRewriteRule {
    /// The matches, of which one must hold; every request matches if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<ModelRewriteMatch>,

    /// The models.
    #[serde(default)]
    pub targets: Vec<ModelRewriteTarget>,
}

/// Selects requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ModelRewriteMatch {
    /// By the model that they ask for; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelNameMatch>,
}

/// Compares a model's name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ModelNameMatch {
    /// How: `Exact`, and so if absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,

    /// With what.
    pub value: String,
}

/// A model that requests get.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelRewriteTarget {
    /// Its share, as a part of the sum of all weights of the rule; the same for all if absent.
    #[serde(default = "one")]
    pub weight: i64,

    /// The model's name.
    pub model_rewrite: String,
}

/// Makes types of kinds that several groups have, which [`kube::CustomResource`] can do for one group only.
macro_rules! kinds_of_groups {
    ($($(#[$doc:meta])* $root:ident: $spec:ident, $kind:literal, $plural:literal, $group:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
            pub struct $root {
                /// The object's metadata.
                pub metadata: ObjectMeta,
                /// What the object asks for.
                pub spec: $spec,
                /// Its status.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub status: Option<serde_json::Value>,
            }

            impl Resource for $root {
                type DynamicType = ();
                type Scope = NamespaceResourceScope;

                fn kind((): &()) -> Cow<'_, str> {
                    $kind.into()
                }

                fn group((): &()) -> Cow<'_, str> {
                    $group.into()
                }

                fn version((): &()) -> Cow<'_, str> {
                    "v1alpha2".into()
                }

                fn plural((): &()) -> Cow<'_, str> {
                    $plural.into()
                }

                fn meta(&self) -> &ObjectMeta {
                    &self.metadata
                }

                fn meta_mut(&mut self) -> &mut ObjectMeta {
                    &mut self.metadata
                }
            }
        )*
    };
}

kinds_of_groups! {
    /// An InferenceObjective.
    InferenceObjective: InferenceObjectiveSpec, "InferenceObjective", "inferenceobjectives", POLICY_GROUP;
    /// An InferenceObjective of the former group.
    XInferenceObjective: InferenceObjectiveSpec, "InferenceObjective", "inferenceobjectives", FORMER_POLICY_GROUP;
    /// An InferenceModelRewrite.
    InferenceModelRewrite: InferenceModelRewriteSpec, "InferenceModelRewrite", "inferencemodelrewrites", POLICY_GROUP;
    /// An InferenceModelRewrite of the former group.
    XInferenceModelRewrite: InferenceModelRewriteSpec, "InferenceModelRewrite", "inferencemodelrewrites", FORMER_POLICY_GROUP;
}

/// Returns what is wrong with an InferenceModelRewrite beyond its types.
pub fn model_rewrite_faults(spec: &InferenceModelRewriteSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{place}]");
        let mut add = |path: String, message: String| faults.push(Fault { path, message });
        for (index, model) in
            rule.matches.iter().enumerate().filter_map(|(index, of)| Some((index, of.model.as_ref()?)))
        {
            let path = format!("{path}.matches[{index}].model");
            if let Some(kind) = model.kind.as_deref().filter(|kind| *kind != "Exact") {
                add(format!("{path}.type"), format!("`{kind}` is not known, only `Exact` is"));
            } else if model.value.is_empty() {
                add(format!("{path}.value"), "no model has an empty name".to_owned());
            }
        }
        if rule.targets.is_empty() {
            add(format!("{path}.targets"), "at least one target is needed".to_owned());
        }
        for (index, target) in rule.targets.iter().enumerate() {
            let path = format!("{path}.targets[{index}]");
            if !(1..=MAX_WEIGHT).contains(&target.weight) {
                add(format!("{path}.weight"), format!("`{}` is not from 1 to {MAX_WEIGHT}", target.weight));
            }
            if target.model_rewrite.is_empty() {
                add(format!("{path}.modelRewrite"), "no model has an empty name".to_owned());
            }
        }
    }
    faults
}

impl PoolReference {
    /// Returns whether it names an InferencePool.
    pub fn is_to_pool(&self) -> bool {
        (&*self.group, &*self.kind) == (POOL_GROUP, "InferencePool")
    }
}

fn pool_group() -> String {
    POOL_GROUP.to_owned()
}

fn pool_kind() -> String {
    "InferencePool".to_owned()
}

const fn one() -> i64 {
    1
}
