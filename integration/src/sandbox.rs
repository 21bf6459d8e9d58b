//! A namespace of its own for a test, and the objects in it.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, condition_status, name_of};
use crate::http::PROMPT;
use crate::kinds::{
    DEPLOYMENT, EVENT, GATEWAY, GATEWAY_CLASS, HTTP_ROUTE, Kind, MODEL_ROUTE, MODEL_SERVER, NAMESPACE, POD,
    SERVICE_ACCOUNT,
};
use crate::load::{Load, Wish};
use crate::objects::{Engines, gateway, model_route};
use crate::rig::Rig;
use crate::router::{CLASS, DEFAULT_GATEWAY, is_ready};
use crate::wait::{eventually, within};

/// How long Pods may take to be ready.
const PODS_LIMIT: Duration = Duration::from_secs(120);

/// How many Pods are deleted at once: the API server would delete a whole collection one by one.
const CONCURRENCY: usize = 24;

/// A namespace of a test.
pub struct Sandbox<'r> {
    rig: &'r Rig,
    /// Its name.
    pub namespace: String,
}

impl<'r> Sandbox<'r> {
    pub(crate) async fn new(rig: &'r Rig, namespace: String) -> Result<Self> {
        let object = json!({"apiVersion": "v1", "kind": NAMESPACE.kind, "metadata": {"name": namespace}});
        rig.cluster.create(&object).await?;
        // Pods are refused until the account that they run as exists.
        eventually("the namespace has its ServiceAccount", async || {
            rig.cluster.get(SERVICE_ACCOUNT, &namespace, "default").await.map(drop)
        })
        .await?;
        Ok(Self { rig, namespace })
    }

    /// Removes a sandbox: its Gateways, routes and Pods are gone when this returns.
    pub(crate) async fn remove(cluster: &Cluster, namespace: &str) -> Result<()> {
        if !cluster.has_namespace(namespace).await? {
            return Ok(());
        }
        // Without a kubelet that waits for grace, and before the namespace goes, whose controller would look again only
        // after many seconds.
        let kinds = [DEPLOYMENT, MODEL_ROUTE, MODEL_SERVER, HTTP_ROUTE, GATEWAY];
        for kind in kinds {
            cluster.delete_all(kind, namespace).await?;
        }
        within(PODS_LIMIT, "the Pods are gone", async || {
            let pods = cluster.list(POD, namespace, "").await?;
            let deleted = stream::iter(&pods).map(|pod| cluster.delete_at_once(POD, namespace, name_of(pod)));
            deleted.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
            ensure!(pods.is_empty(), "`{}` is still there", pods.first().map_or("a Pod", name_of));
            Ok(())
        })
        .await?;
        // A test's GatewayClass has the name of its namespace.
        cluster.delete(GATEWAY_CLASS, "", namespace).await?;
        cluster.delete(NAMESPACE, "", namespace).await
    }

    /// Returns a model name that no other test uses.
    pub fn model(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    /// Deploys engines with their ModelServers, and waits until the router says that all of them are ready.
    ///
    /// # Errors
    ///
    /// Returns an error when they are not ready in time.
    pub async fn engines(&self, all: &[Engines]) -> Result<()> {
        for engines in all {
            self.rig.cluster.apply(&engines.deployment(&self.namespace, self.rig.router.image())).await?;
            self.rig.cluster.apply(&engines.model_server(&self.namespace)).await?;
        }
        for engines in all {
            within(PODS_LIMIT, &format!("all engines `{}` are ready", engines.name), async || {
                let server = self.get(MODEL_SERVER, &engines.name).await?;
                let ready = server["status"]["readyEndpoints"].as_u64().unwrap_or_default();
                let wanted = u64::from(engines.replicas);
                ensure!(ready == wanted, "{ready} of {wanted} are: {}", server["status"]);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Applies a route of a model to a ModelServer on the default Gateway, and returns the model's name for clients.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal.
    pub async fn route(&self, name: &str, server: &str) -> Result<String> {
        self.route_on(DEFAULT_GATEWAY, name, server).await
    }

    /// Applies a route of a model to a ModelServer on a Gateway, and returns the model's name for clients.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal.
    pub async fn route_on(&self, gateway: (&str, &str), name: &str, server: &str) -> Result<String> {
        let model = self.model(name);
        self.rig.cluster.apply(&model_route(&self.namespace, name, &model, gateway, server)).await?;
        Ok(model)
    }

    /// Applies a Gateway of the router's class with one listener.
    ///
    /// # Errors
    ///
    /// Returns the API server's refusal.
    pub async fn gateway(&self, name: &str, port: u16) -> Result<Value> {
        self.rig.cluster.apply(&gateway(&self.namespace, name, CLASS, port)).await
    }

    /// Applies a Gateway of the router's class, and waits until it is programmed.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not in time.
    pub async fn programmed_gateway(&self, name: &str, port: u16) -> Result<()> {
        self.gateway(name, port).await?;
        self.has_condition(GATEWAY, name, "Programmed", "True").await.map(drop)
    }

    /// Fetches an object.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        self.rig.cluster.get(kind, &self.namespace, name).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        self.rig.cluster.delete(kind, &self.namespace, name).await
    }

    /// Waits until a condition of an object has this status for its present generation, and returns the condition.
    ///
    /// # Errors
    ///
    /// Returns what the object's status is instead.
    pub async fn has_condition(&self, kind: Kind, name: &str, condition_kind: &str, status: &str) -> Result<Value> {
        eventually(&format!("{condition_kind} of {} `{name}` is {status}", kind.kind), async || {
            let object = self.get(kind, name).await?;
            let is = condition_status(&object["status"], condition_kind);
            let seen = condition(&object["status"], condition_kind).cloned().unwrap_or_default();
            let current = seen["observedGeneration"] == object["metadata"]["generation"];
            ensure!(is == Some(status) && current, "the status is {}", object["status"]);
            Ok(seen)
        })
        .await
    }

    /// Waits until `model` is answered by `expected` on the default Gateway.
    ///
    /// # Errors
    ///
    /// Returns what is answered instead.
    pub async fn serves(&self, model: &str, expected: &str) -> Result<()> {
        let base = self.rig.base().await?;
        eventually(&format!("`{model}` is answered by `{expected}`"), async || {
            self.rig.http.ensure_answer(&base, model, expected).await
        })
        .await
    }

    /// Starts clients that ask for `model` on the default Gateway and expect one of `answers`, and waits for the first
    /// answers.
    ///
    /// # Errors
    ///
    /// Returns an error when no answer comes.
    pub async fn load(&self, model: &str, answers: &[&str], clients: usize) -> Result<Load> {
        self.load_at(&self.rig.base().await?, model, answers, clients).await
    }

    /// Starts clients as [`load`](Self::load) does, on the router's port that `base` leads to.
    ///
    /// # Errors
    ///
    /// Returns an error when no answer comes.
    pub async fn load_at(&self, base: &str, model: &str, answers: &[&str], clients: usize) -> Result<Load> {
        let answers = answers.iter().map(ToString::to_string).collect();
        let (base, model, prompt) = (base.to_owned(), model.to_owned(), PROMPT.to_owned());
        let load = Load::start(&Wish { base, model, prompt, answers }, clients);
        load.goes_on(20).await?;
        Ok(load)
    }

    /// Returns the Pods of an app that are ready and stay.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn ready_pods(&self, app: &str) -> Result<Vec<Value>> {
        let pods = self.rig.cluster.list(POD, &self.namespace, &format!("labelSelector=app%3D{app}")).await?;
        Ok(pods.into_iter().filter(is_ready).collect())
    }

    /// Returns the Events about an object, the oldest first.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn events(&self, kind: Kind, name: &str) -> Result<Vec<Value>> {
        let mut events = self.rig.cluster.list(EVENT, &self.namespace, "").await?;
        events.retain(|event| event["regarding"]["kind"] == kind.kind && event["regarding"]["name"] == name);
        events.sort_by_key(|event| event["eventTime"].to_string());
        Ok(events)
    }
}
