//! The router under test: deployed from `manifests/`, found by the names that are written there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, condition_status, name_of, text};
use crate::control::Control;
use crate::exposition::Exposition;
use crate::http::HttpClient;
use crate::kinds::{CONFIG_MAP, DEPLOYMENT, GATEWAY, LEASE, POD, SERVICE};
use crate::kubectl::Shell;
use crate::wait::{eventually, within};

/// The router's namespace.
pub const NAMESPACE: &str = "kthena-system";
/// The name of the router's Deployment, Service, Lease and container.
pub const NAME: &str = "kthena-router";
/// The name of the router's GatewayClass.
pub const CLASS: &str = "kthena-router";
/// The port of health and metrics.
pub const METRICS_PORT: u16 = 9090;
/// The default Gateway.
pub const DEFAULT_GATEWAY: (&str, &str) = (NAMESPACE, "default");
/// The flag that makes the router serve InferencePools.
pub const INFERENCE_EXTENSION: &str = "--enable-gateway-api-inference-extension=true";
/// The manifests that are deployed.
pub const MANIFESTS: &str = "manifests/overlays/gateway-api";

/// Where the scheduler's file is in its ConfigMap.
const SCHEDULER_FILE: &str = "/data/routerConfiguration.yaml";

/// How long a roll-out of the router may take: old Pods wait for endpoints to be followed before they close.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(90);

/// The deployed router.
#[derive(Clone)]
pub struct Router {
    cluster: Cluster,
    http: HttpClient,
    shell: Shell,
    /// Whether Pods are asked directly, and not by way of the API server.
    pods_in_reach: bool,
    selector: String,
    image: String,
}

impl Router {
    /// Deploys the router with the Gateway API's CustomResourceDefinitions, or takes the one that is deployed.
    ///
    /// # Errors
    ///
    /// Returns an error when it does not become ready.
    pub async fn deployed(cluster: &Cluster, control: Option<&Control>) -> Result<Self> {
        let shell = Shell::new();
        let there = cluster.find(DEPLOYMENT, NAMESPACE, NAME).await?;
        if there.is_none() {
            install_gateway_api(&shell).await?;
            shell.kubectl(&format!("apply -k {MANIFESTS}")).await?;
        }
        let deployment = cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        let labels = deployment["spec"]["selector"]["matchLabels"].as_object().context("the selector")?;
        let pair = |(key, value): (&String, &Value)| format!("{key}%3D{}", value.as_str().unwrap_or_default());
        let router = Self {
            cluster: cluster.clone(),
            http: HttpClient::new(),
            shell,
            pods_in_reach: control.is_some(),
            selector: labels.iter().map(pair).collect::<Vec<_>>().join(","),
            image: text(&deployment, "/spec/template/spec/containers/0/image").to_owned(),
        };
        router.rolled_out().await?;
        router.default_gateway_is_programmed().await?;
        Ok(router)
    }

    /// Returns the router's image, which has the simulated engine, too.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Waits until the Deployment is rolled out and no Pod of an older one is left.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn rolled_out(&self) -> Result<()> {
        self.shell.kubectl(&format!("rollout status deployment/{NAME} -n {NAMESPACE} --timeout=90s")).await?;
        let deployment = self.cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        within(ROLLOUT_LIMIT, "only the wanted Pods are left", async || {
            let pods = self.all_pods().await?;
            ensure!(pods.len() as u64 == wanted, "{} Pods instead of {wanted}", pods.len());
            ensure!(pods.iter().all(is_ready), "not all of them are ready");
            Ok(())
        })
        .await
    }

    /// Waits until the default Gateway is programmed.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn default_gateway_is_programmed(&self) -> Result<()> {
        eventually("the default Gateway is programmed", async || {
            let gateway = self.cluster.get(GATEWAY, DEFAULT_GATEWAY.0, DEFAULT_GATEWAY.1).await?;
            let programmed = condition_status(&gateway["status"], "Programmed");
            ensure!(programmed == Some("True"), "Programmed is {programmed:?}");
            Ok(())
        })
        .await
    }

    /// Changes the number of replicas and waits until it is so.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn scale(&self, replicas: u64) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.cluster.merge(DEPLOYMENT, NAMESPACE, NAME, "", &patch).await?;
        self.rolled_out().await
    }

    /// Sets an environment variable of the router as `NAME=VALUE`, or removes it as `NAME-`, and waits until the router
    /// runs with it.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn set_environment(&self, variable: &str) -> Result<()> {
        self.shell.kubectl(&format!("set env deployment/{NAME} -n {NAMESPACE} {variable}")).await?;
        self.rolled_out().await
    }

    /// Returns the router's command line.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn arguments(&self) -> Result<Value> {
        let deployment = self.cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        Ok(deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone())
    }

    /// Gives the router another command line, and waits until it runs with it.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn set_arguments(&self, arguments: &Value) -> Result<()> {
        let deployment = self.cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        let mut containers = deployment["spec"]["template"]["spec"]["containers"].clone();
        containers[0]["args"].clone_from(arguments);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.cluster.merge(DEPLOYMENT, NAMESPACE, NAME, "", &patch).await?;
        self.rolled_out().await
    }

    /// Adds flags to the router's command line, and waits until it runs with them.
    ///
    /// # Errors
    ///
    /// Returns an error when that takes too long.
    pub async fn add_arguments(&self, flags: &[&str]) -> Result<()> {
        let mut arguments = self.arguments().await?;
        arguments.as_array_mut().context("the router's arguments")?.extend(flags.iter().map(|flag| json!(flag)));
        self.set_arguments(&arguments).await
    }

    /// Returns the scheduler's file.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn scheduler(&self) -> Result<String> {
        let configuration = self.cluster.get(CONFIG_MAP, NAMESPACE, &self.scheduler_name().await?).await?;
        Ok(text(&configuration, SCHEDULER_FILE).to_owned())
    }

    /// Writes the scheduler's file, which routers read anew as soon as they see it.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn set_scheduler(&self, file: &str) -> Result<()> {
        let name = self.scheduler_name().await?;
        let key = SCHEDULER_FILE.trim_start_matches("/data/");
        self.cluster.merge(CONFIG_MAP, NAMESPACE, &name, "", &json!({"data": {key: file}})).await.map(drop)
    }

    /// Returns the name of the ConfigMap with the scheduler's file, which changes with the file that is deployed.
    async fn scheduler_name(&self) -> Result<String> {
        let deployment = self.cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        Ok(text(&deployment, "/spec/template/spec/volumes/0/configMap/name").to_owned())
    }

    /// Returns the router's Pods, those that terminate included.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn all_pods(&self) -> Result<Vec<Value>> {
        self.cluster.list(POD, NAMESPACE, &format!("labelSelector={}", self.selector)).await
    }

    /// Returns the name of the router's only Pod.
    ///
    /// # Errors
    ///
    /// Returns an error when there is none or more than one.
    pub async fn only_pod(&self) -> Result<String> {
        let pods = self.all_pods().await?;
        ensure!(pods.len() == 1, "{} router Pods instead of one", pods.len());
        Ok(name_of(&pods[0]).to_owned())
    }

    /// Returns the base of the router's address as clients have it, `http://host:port`, at a port of its Service.
    ///
    /// # Errors
    ///
    /// Returns an error when the Service has no address. `ROUTER_ADDRESS` is used where it is set.
    pub async fn base(&self, port: u16) -> Result<String> {
        Ok(format!("http://{}:{port}", self.address().await?))
    }

    /// Returns the address of the router's Service.
    ///
    /// # Errors
    ///
    /// Returns an error when it has none.
    pub async fn address(&self) -> Result<String> {
        if let Ok(address) = std::env::var("ROUTER_ADDRESS") {
            return Ok(address);
        }
        eventually("the Service has an address", async || {
            let service = self.cluster.get(SERVICE, NAMESPACE, NAME).await?;
            let address = text(&service, "/status/loadBalancer/ingress/0/ip");
            ensure!(!address.is_empty(), "its status has none");
            Ok(address.to_owned())
        })
        .await
    }

    /// Returns the ports of the router's Service: number, name and target.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn service_ports(&self) -> Result<Vec<(u64, String, String)>> {
        let service = self.cluster.get(SERVICE, NAMESPACE, NAME).await?;
        let port = |port: &Value| {
            let target = &port["targetPort"];
            let target = target.as_str().map_or_else(|| target.to_string(), str::to_owned);
            (port["port"].as_u64().unwrap_or_default(), text(port, "/name").to_owned(), target)
        };
        Ok(service["spec"]["ports"].as_array().into_iter().flatten().map(port).collect())
    }

    /// Fetches a page of the metrics port of a router Pod: its status and text.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer.
    pub async fn page(&self, pod: &str, address: &str, path: &str) -> Result<(u16, String)> {
        if self.pods_in_reach {
            let answer = self.http.get(&format!("http://{address}:{METRICS_PORT}{path}")).await?;
            return Ok((answer.status, answer.text()));
        }
        Ok((200, self.cluster.pod_page(NAMESPACE, pod, METRICS_PORT, path).await?))
    }

    /// Fetches the metrics of a router Pod.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer.
    pub async fn metrics(&self, pod: &str, address: &str) -> Result<Exposition> {
        Ok(Exposition::new(self.page(pod, address, "/metrics").await?.1))
    }

    /// Returns the name and the address of the router's only Pod.
    ///
    /// # Errors
    ///
    /// Returns an error when there is none, more than one, or one without an address.
    pub async fn only_pod_with_address(&self) -> Result<(String, String)> {
        let name = self.only_pod().await?;
        let pod = self.cluster.get(POD, NAMESPACE, &name).await?;
        let address = text(&pod, "/status/podIP").to_owned();
        ensure!(!address.is_empty(), "the Pod `{name}` has no address");
        Ok((name, address))
    }

    /// Returns the holder of the lease, and when it was last renewed.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no lease.
    pub async fn leader(&self) -> Result<(String, String)> {
        let lease = self.cluster.get(LEASE, NAMESPACE, NAME).await?;
        let holder = text(&lease, "/spec/holderIdentity");
        ensure!(!holder.is_empty(), "nobody holds the lease");
        Ok((holder.to_owned(), text(&lease, "/spec/renewTime").to_owned()))
    }

    /// Returns the last lines that each router Pod logged, for those who look into a failure.
    pub async fn last_words(&self, lines: usize) -> Vec<String> {
        let mut words = Vec::new();
        for pod in self.all_pods().await.unwrap_or_default() {
            let name = name_of(&pod);
            words.push(format!("--- {NAMESPACE}/{name}: ready {}, restarts {}", is_ready(&pod), restarts(&pod)));
            let path = format!("{}/{name}/log?tailLines={lines}", POD.path(NAMESPACE));
            let log = self.cluster.text(&path).await.unwrap_or_else(|error| format!("no log: {error:#}"));
            words.extend(log.lines().map(str::to_owned));
        }
        words
    }
}

/// Installs the CustomResourceDefinitions of the Gateway API, and waits until they are served.
///
/// # Errors
///
/// Returns what `kubectl` says.
pub async fn install_gateway_api(shell: &Shell) -> Result<()> {
    let definitions = gateway_api_definitions()?;
    shell.kubectl(&format!("apply --server-side --force-conflicts -f {definitions}")).await?;
    let names = "crd/gatewayclasses.gateway.networking.k8s.io crd/gateways.gateway.networking.k8s.io";
    shell.kubectl(&format!("wait --for=condition=Established --timeout=60s {names}")).await?;
    Ok(())
}

/// Installs the CustomResourceDefinitions of the Inference Extension, and waits until they are served.
///
/// # Errors
///
/// Returns what `kubectl` says.
pub async fn install_inference_extension(shell: &Shell) -> Result<()> {
    let definitions = inference_extension_definitions()?;
    shell.kubectl(&format!("apply --server-side --force-conflicts -f {definitions}")).await?;
    shell.kubectl(&format!("wait --for=condition=Established --timeout=60s -f {definitions}")).await?;
    Ok(())
}

/// Installs the CustomResourceDefinitions of `manifests/crds`, and waits until they are served.
///
/// # Errors
///
/// Returns what `kubectl` says.
pub async fn install_own_definitions(shell: &Shell) -> Result<()> {
    shell.kubectl("apply -f manifests/crds").await?;
    shell.kubectl("wait --for=condition=Established --timeout=60s -f manifests/crds").await?;
    Ok(())
}

/// Returns the directory of the Gateway API's CustomResourceDefinitions.
///
/// # Errors
///
/// Returns an error when the environment does not say.
pub fn gateway_api_definitions() -> Result<String> {
    std::env::var("GATEWAY_API_CRDS").context("GATEWAY_API_CRDS is not set: integration/run sets it")
}

/// Returns the directory of the Inference Extension's CustomResourceDefinitions.
///
/// # Errors
///
/// Returns an error when the environment does not say.
pub fn inference_extension_definitions() -> Result<String> {
    std::env::var("INFERENCE_EXTENSION_CRDS").context("INFERENCE_EXTENSION_CRDS is not set: integration/run sets it")
}

/// Returns whether a Pod is ready and stays.
pub fn is_ready(pod: &Value) -> bool {
    let terminates = pod["metadata"]["deletionTimestamp"].is_string();
    !terminates && condition_status(&pod["status"], "Ready") == Some("True")
}

/// Returns how often the containers of a Pod were restarted.
pub fn restarts(pod: &Value) -> u64 {
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.filter_map(|container| container["restartCount"].as_u64()).sum()
}
