//! Everything under `manifests/` and `examples/` is what an API server takes, field by field.

use anyhow::{Context, Result, ensure};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::NAMESPACE;

/// The Prometheus operator's definition, as far as the API server must know it to look at a ServiceMonitor.
const SERVICE_MONITORS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// Values of the chart that are rendered, each on its own.
const VALUES: [&str; 7] = [
    "",
    "--set networking.kthenaRouter.gatewayAPI.enabled=true",
    "--set networking.kthenaRouter.gatewayAPI.enabled=true --set networking.kthenaRouter.gatewayAPI.inferenceExtension=true",
    "--set networking.kthenaRouter.replicas=3",
    "--set networking.kthenaRouter.tls.enabled=true",
    "--set networking.kthenaRouter.watchNamespaces={default}",
    "--set networking.kthenaRouter.serviceMonitor.enabled=true",
];

pub(crate) async fn every_manifest_and_example_passes_the_api_server(rig: &Rig) -> Result<()> {
    let had_them = rig.shell.try_kubectl("get crd servicemonitors.monitoring.coreos.com", "").await?.success;
    if !had_them {
        rig.shell.kubectl_with("apply -f -", SERVICE_MONITORS).await?;
        rig.shell
            .kubectl("wait --for=condition=Established crd/servicemonitors.monitoring.coreos.com --timeout=30s")
            .await?;
    }
    let outcome = all_pass(rig).await;
    if !had_them {
        rig.shell.kubectl("delete crd servicemonitors.monitoring.coreos.com").await?;
    }
    outcome
}

async fn all_pass(rig: &Rig) -> Result<()> {
    let mut passed = 0;
    for directory in kustomizations(rig)? {
        let applied = rig.shell.kubectl(&format!("apply --dry-run=server -k {directory}")).await;
        passed += applied.with_context(|| directory.clone())?.lines().count();
    }
    for values in VALUES {
        let render = format!(
            "helm template kthena manifests/helm/kthena --namespace {NAMESPACE} {values} |
             kubectl apply --dry-run=server -f -"
        );
        passed += rig.shell.script("", &render).await.with_context(|| format!("the chart, {values}"))?.lines().count();
    }
    for file in examples(rig)? {
        let applied = rig.shell.kubectl(&format!("apply --dry-run=server -f {file}")).await;
        passed += applied.with_context(|| file.clone())?.lines().count();
    }
    rig.note(format!("{passed} objects pass"));
    Ok(())
}

/// Returns every directory that `kubectl apply -k` is meant for.
fn kustomizations(rig: &Rig) -> Result<Vec<String>> {
    let mut directories = vec!["manifests/base".to_owned(), "manifests/crds".to_owned()];
    for entry in std::fs::read_dir(rig.shell.path("manifests/overlays"))? {
        directories.push(format!("manifests/overlays/{}", entry?.file_name().to_string_lossy()));
    }
    directories.sort();
    ensure!(directories.len() > 2, "there are no overlays");
    Ok(directories)
}

/// Returns every example file but the Pods of the quickstart, which stand for processes outside of a cluster.
fn examples(rig: &Rig) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for directory in ["examples/gateway-api", "examples/quickstart"] {
        for entry in std::fs::read_dir(rig.shell.path(directory))? {
            let file = format!("{directory}/{}", entry?.file_name().to_string_lossy());
            if file.ends_with(".yaml") && file != "examples/quickstart/1-engines.yaml" {
                files.push(file);
            }
        }
    }
    files.sort();
    ensure!(files.len() >= 6, "examples are missing: {files:?}");
    Ok(files)
}
