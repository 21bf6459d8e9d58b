//! The Helm chart renders the objects that the kustomizations do, refuses values that contradict each other, and rolls the
//! router out when the scheduler's configuration changes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::NAMESPACE;
use serde_json::Value;

/// A kustomization, and the values with which the chart renders the same.
const PAIRS: [(&str, &str); 5] = [
    ("manifests/base", ""),
    ("manifests/overlays/gateway-api", "gatewayAPI.enabled=true"),
    ("manifests/overlays/models-only", "gatewayAPI.rights=false"),
    ("manifests/overlays/high-availability", "replicas=2"),
    ("manifests/overlays/service-monitor", "serviceMonitor.enabled=true"),
];

/// Values that the chart refuses, and a part of what it says.
const REFUSED: [(&str, &str); 6] = [
    ("gatewayAPI.inferenceExtension=true", "needs networking.kthenaRouter.gatewayAPI.enabled=true"),
    ("metricsPort=8080", "must differ"),
    ("gatewayAPI.addressProvider=pool", "need each other"),
    ("port=70000", "/networking/kthenaRouter/port"),
    ("replicas=many", "/networking/kthenaRouter/replicas"),
    ("replica=2", "replica"),
];

/// What Helm writes on its objects on top: labels, and the annotation that tells of a changed ConfigMap.
const OF_HELM: [&str; 4] =
    ["app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "helm.sh/chart", "checksum/config"];

/// The ConfigMap, to whose name kustomize appends a hash.
const CONFIG_MAP: &str = "kthena-router-config";

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

pub(crate) async fn the_chart_renders_what_the_kustomizations_do(rig: &Rig) -> Result<()> {
    for (directory, value) in PAIRS {
        let kustomized = objects(&rig.shell.kubectl(&format!("kustomize {directory}")).await?)?;
        let rendered = objects(&render(rig, value).await?)?;
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        ensure!(
            names(&kustomized) == names(&rendered),
            "{directory}: {:?}, {:?}",
            names(&kustomized),
            names(&rendered)
        );
        let mut differences = Vec::new();
        for (name, object) in &kustomized {
            compare(name, object, &rendered[name], &mut differences);
        }
        ensure!(differences.is_empty(), "{directory} and the chart differ: {}", differences.join("; "));
        rig.note(format!("{directory}: {} equal objects", kustomized.len()));
    }
    Ok(())
}

pub(crate) async fn the_chart_refuses_values_that_make_no_sense(rig: &Rig) -> Result<()> {
    for (value, expected) in REFUSED {
        let Err(error) = render(rig, value).await else { anyhow::bail!("{value} is accepted") };
        let said = format!("{error:#}");
        ensure!(said.contains(expected), "{value}: `{expected}` is missing from: {said}");
    }
    Ok(())
}

pub(crate) async fn a_changed_scheduler_rolls_the_router_out(rig: &Rig) -> Result<()> {
    let checksum = async |value: &str| -> Result<String> {
        let rendered = documents(&render(rig, value).await?)?;
        let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").context("no Deployment")?;
        let checksum = text(deployment, "/spec/template/metadata/annotations/checksum~1config");
        ensure!(!checksum.is_empty(), "the Pods' template has no checksum of the configuration");
        Ok(checksum.to_owned())
    };
    let (before, same) = (checksum("").await?, checksum("replicas=3").await?);
    let after = checksum("scheduler.plugins.Score.enabled[0].weight=2").await?;
    ensure!(before == same, "the checksum changes although the configuration does not");
    ensure!(before != after, "the checksum does not change with the configuration");
    Ok(())
}

/// Renders the chart with one value set.
async fn render(rig: &Rig, value: &str) -> Result<String> {
    let set = if value.is_empty() { String::new() } else { format!("--set 'networking.kthenaRouter.{value}'") };
    let command = format!("helm template kthena manifests/helm/kthena --namespace {NAMESPACE} --include-crds {set}");
    rig.shell.script("", &command).await
}

fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("what was rendered is no YAML")?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads objects, without what differs on purpose: Helm's own labels and annotation, the Namespace, which Helm does not
/// make, and the hash in the ConfigMap's name.
fn objects(yaml: &str) -> Result<Objects> {
    let mut objects = Objects::new();
    for mut object in documents(yaml)? {
        if object["kind"] == "Namespace" {
            continue;
        }
        normalize(&mut object);
        let name = format!("{} {}/{}", text(&object, "/kind"), text(&object, "/metadata/namespace"), name_of(&object));
        let before = objects.insert(name.clone(), object);
        ensure!(before.is_none(), "{name} is rendered twice");
    }
    Ok(objects)
}

fn normalize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Not in selectors: what Helm wrote there would count.
            for holder in ["labels", "annotations"] {
                if let Some(Value::Object(notes)) = fields.get_mut(holder) {
                    notes.retain(|key, _| !OF_HELM.contains(&key.as_str()));
                }
            }
            fields.values_mut().for_each(normalize);
            fields.retain(|key, value| key != "annotations" || value.as_object().is_none_or(|map| !map.is_empty()));
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        Value::String(text) => {
            let hash = text.strip_prefix(CONFIG_MAP).and_then(|rest| rest.strip_prefix('-'));
            if hash.is_some_and(|hash| hash.len() == 10 && hash.chars().all(|letter| letter.is_ascii_alphanumeric())) {
                *text = CONFIG_MAP.to_owned();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Notes every place where two values differ.
fn compare(place: &str, first: &Value, second: &Value, differences: &mut Vec<String>) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            let keys: std::collections::BTreeSet<&String> = first.keys().chain(second.keys()).collect();
            for key in keys {
                let field = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                compare(&format!("{place}.{key}"), &field(first), &field(second), differences);
            }
        }
        (Value::Array(first), Value::Array(second)) if first.len() == second.len() => {
            for (index, (first, second)) in first.iter().zip(second).enumerate() {
                compare(&format!("{place}[{index}]"), first, second, differences);
            }
        }
        // YAML has 1 and 1.0, which are one number to an API server.
        (Value::Number(first), Value::Number(second)) if first.as_f64() == second.as_f64() => {}
        _ if first == second => {}
        _ => differences.push(format!("{place} is {first} and {second}")),
    }
}
