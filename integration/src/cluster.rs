//! The API server as tests use it: objects are JSON, as `kubectl get -o json` shows them.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper::http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::kinds::{Kind, NAMESPACE};

/// The field manager of everything that tests apply.
const FIELD_MANAGER: &str = "integration-tests";
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// An API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Talks to the API server that `KUBECONFIG` names.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no usable kubeconfig. The API server need not be up.
    pub async fn of_kubeconfig() -> Result<Self> {
        Self::of(configuration().await?)
    }

    /// Talks to another API server of the same cluster, which listens on `port` of the same address.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no usable kubeconfig.
    pub async fn through_port(port: u16) -> Result<Self> {
        let mut config = configuration().await?;
        let host = config.cluster_url.host().context("the kubeconfig's server has no host")?;
        config.cluster_url = format!("https://{host}:{port}").parse().context("the back door's address")?;
        Self::of(config)
    }

    fn of(mut config: Config) -> Result<Self> {
        config.connect_timeout = Some(Duration::from_secs(2));
        config.read_timeout = Some(REQUEST_LIMIT);
        Ok(Self { client: Client::try_from(config).context("a client of the API server")? })
    }

    /// Returns whether the API server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.text("/readyz").await.is_ok_and(|text| text == "ok")
    }

    /// Fetches a page as text.
    ///
    /// # Errors
    ///
    /// Returns the API server's error, or that of the connection.
    pub async fn text(&self, path: &str) -> Result<String> {
        let request = Request::get(path).body(Vec::new())?;
        self.client.request_text(request).await.with_context(|| format!("GET {path}"))
    }

    /// Fetches an object.
    ///
    /// # Errors
    ///
    /// Returns an error when it does not exist, too.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value> {
        self.send("GET", &one(kind, namespace, name), "application/json", None).await
    }

    /// Fetches an object that need not exist.
    ///
    /// # Errors
    ///
    /// Returns the API server's error other than 404, or that of the connection.
    pub async fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        absent_as_none(self.get(kind, namespace, name).await)
    }

    /// Lists the objects of a kind, in a namespace or everywhere, optionally with a query such as `labelSelector=a=b`.
    ///
    /// # Errors
    ///
    /// Returns the API server's error, or that of the connection.
    pub async fn list(&self, kind: Kind, namespace: &str, query: &str) -> Result<Vec<Value>> {
        let path = format!("{}?{query}", kind.path(namespace));
        let mut list = self.send("GET", &path, "application/json", None).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Err(anyhow!("GET {path}: the answer has no items")),
        }
    }

    /// Applies an object on the server's side, as `kubectl apply --server-side --force-conflicts` does.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal, or the error of the connection.
    pub async fn apply(&self, object: &Value) -> Result<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = Kind::named(&text(&object["kind"]))?;
        let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        let path = format!("{}?fieldManager={FIELD_MANAGER}&force=true", one(kind, &namespace, &name));
        self.send("PATCH", &path, "application/apply-patch+yaml", Some(object)).await
    }

    /// Creates an object.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal, or the error of the connection.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        let kind = Kind::named(object["kind"].as_str().unwrap_or_default())?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.send("POST", &kind.path(namespace), "application/json", Some(object)).await
    }

    /// Merges a patch into an object, or with `subresource` such as `status` into that part of it.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal, or the error of the connection.
    pub async fn merge(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<Value> {
        let path = format!("{}/{subresource}", one(kind, namespace, name));
        self.send("PATCH", path.trim_end_matches('/'), "application/merge-patch+json", Some(patch)).await
    }

    /// Deletes an object that need not exist, and does not wait for it to be gone.
    ///
    /// # Errors
    ///
    /// Returns the API server's error other than 404, or that of the connection.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<()> {
        let deleted = self.send("DELETE", &one(kind, namespace, name), "application/json", None).await;
        absent_as_none(deleted).map(drop)
    }

    /// Deletes an object that need not exist without a period of grace.
    ///
    /// # Errors
    ///
    /// Returns the API server's error other than 404, or that of the connection.
    pub async fn delete_at_once(&self, kind: Kind, namespace: &str, name: &str) -> Result<()> {
        let path = format!("{}?gracePeriodSeconds=0", one(kind, namespace, name));
        absent_as_none(self.send("DELETE", &path, "application/json", None).await).map(drop)
    }

    /// Deletes all objects of a kind in a namespace at once, without a period of grace, and does not wait.
    ///
    /// # Errors
    ///
    /// Returns the API server's error other than 404, or that of the connection.
    pub async fn delete_all(&self, kind: Kind, namespace: &str) -> Result<()> {
        let path = format!("{}?gracePeriodSeconds=0&propagationPolicy=Background", kind.path(namespace));
        absent_as_none(self.send("DELETE", &path, "application/json", None).await).map(drop)
    }

    /// Returns whether a namespace exists.
    ///
    /// # Errors
    ///
    /// Returns the API server's error other than 404, or that of the connection.
    pub async fn has_namespace(&self, name: &str) -> Result<bool> {
        Ok(self.find(NAMESPACE, "", name).await?.is_some())
    }

    /// Fetches a page of a Pod by way of the API server, which works from outside of the Pods' network, too.
    ///
    /// # Errors
    ///
    /// Returns the error of the API server or of the Pod.
    pub async fn pod_page(&self, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
        self.text(&format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")).await
    }

    async fn send(&self, method: &str, path: &str, media_type: &str, body: Option<&Value>) -> Result<Value> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", media_type).body(bytes)?;
        let sent = tokio::time::timeout(REQUEST_LIMIT, self.client.request(request)).await;
        sent.with_context(|| format!("{method} {path}: no answer"))?.with_context(|| format!("{method} {path}"))
    }
}

async fn configuration() -> Result<Config> {
    let file = Kubeconfig::from_env().context("KUBECONFIG")?;
    let file = file.context("KUBECONFIG is not set: integration/run starts a cluster and sets it")?;
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.context("the kubeconfig")
}

fn one(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{name}", kind.path(namespace))
}

fn absent_as_none(result: Result<Value>) -> Result<Option<Value>> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if status_code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the status code of the API server's refusal, if that is what an error is.
pub fn status_code(error: &anyhow::Error) -> Option<u16> {
    error.chain().find_map(|cause| match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    })
}

/// Returns a condition of an object or of a part of it, from its list of conditions.
pub fn condition<'o>(holder: &'o Value, kind: &str) -> Option<&'o Value> {
    holder["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Returns the status of a condition: `True`, `False`, `Unknown`, or nothing while there is no such condition.
pub fn condition_status<'o>(holder: &'o Value, kind: &str) -> Option<&'o str> {
    condition(holder, kind)?["status"].as_str()
}

/// Returns a text of an object by its JSON pointer; empty where there is none.
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the name of an object.
pub fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}
