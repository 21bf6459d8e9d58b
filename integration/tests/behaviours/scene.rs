//! Routes, Gateways and ModelServers that are changed behind the router's back, and how to tell whether it has caught
//! up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kthena_router_integration::cluster::Cluster;
use kthena_router_integration::http::HttpClient;
use kthena_router_integration::kinds::{GATEWAY, MODEL_ROUTE, MODEL_SERVER};
use kthena_router_integration::objects::{Engines, gateway, model_route, model_server};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{CLASS, DEFAULT_GATEWAY};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::within;

/// The port of the Gateway that is deleted.
const OLD_PORT: u16 = 8101;
/// The port of the Gateway that is added.
const NEW_PORT: u16 = 8102;

/// A world before and after a set of changes.
pub(crate) struct Scene<'r> {
    rig: &'r Rig,
    sandbox: Sandbox<'r>,
    base: String,
    old_base: String,
    new_base: String,
}

impl<'r> Scene<'r> {
    /// Makes the world as it is before the changes.
    pub(crate) async fn set(rig: &'r Rig, topic: &str) -> Result<Self> {
        let sandbox = rig.sandbox(topic).await?;
        sandbox.engines(&[Engines::one("a"), Engines::one("b")]).await?;
        rig.cluster.apply(&model_server(&sandbox.namespace, "leaves", "a")).await?;
        sandbox.route("edited", "a").await?;
        sandbox.route("deleted", "a").await?;
        sandbox.programmed_gateway("old", OLD_PORT).await?;
        sandbox.route_on((&sandbox.namespace, "old"), "on-old", "a").await?;
        sandbox.route_on((&sandbox.namespace, "new"), "on-new", "b").await?;
        let [base, old_base, new_base] =
            [rig.base().await?, rig.router.base(OLD_PORT).await?, rig.router.base(NEW_PORT).await?];
        let scene = Self { rig, sandbox, base, old_base, new_base };
        within(Duration::from_secs(20), "the world is as it was made", async || scene.is_old().await).await?;
        Ok(scene)
    }

    /// Makes the changes through an API server: an edit, deletes, and new objects.
    pub(crate) async fn change(&self, cluster: &Cluster) -> Result<()> {
        let Sandbox { namespace, .. } = &self.sandbox;
        let model = |name: &str| self.sandbox.model(name);
        let default = DEFAULT_GATEWAY;
        cluster.apply(&model_route(namespace, "edited", &model("edited"), default, "b")).await?;
        cluster.delete(MODEL_ROUTE, namespace, "deleted").await?;
        cluster.apply(&model_route(namespace, "added", &model("added"), default, "b")).await?;
        cluster.delete(GATEWAY, namespace, "old").await?;
        cluster.apply(&gateway(namespace, "new", CLASS, NEW_PORT)).await?;
        cluster.delete(MODEL_SERVER, namespace, "leaves").await?;
        Ok(())
    }

    /// Fails unless the router serves the world before the changes.
    pub(crate) async fn is_old(&self) -> Result<()> {
        self.answered("edited", "a").await?;
        self.answered("deleted", "a").await?;
        self.rig.http.ensure_refusal(&self.base, &self.sandbox.model("added"), 404).await?;
        self.rig
            .http
            .ensure_answer(&self.old_base, &self.sandbox.model("on-old"), "a")
            .await
            .context("the old Gateway")?;
        self.is_closed(&self.new_base).await
    }

    /// Waits until the router serves the world after the changes, and returns how long it took.
    pub(crate) async fn becomes_new(&self, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        within(limit, "the router has caught up", async || self.is_new().await).await?;
        Ok(began.elapsed())
    }

    async fn is_new(&self) -> Result<()> {
        self.answered("edited", "b").await?;
        self.rig.http.ensure_refusal(&self.base, &self.sandbox.model("deleted"), 404).await.context("`deleted`")?;
        self.answered("added", "b").await?;
        self.rig
            .http
            .ensure_answer(&self.new_base, &self.sandbox.model("on-new"), "b")
            .await
            .context("the new Gateway")?;
        self.is_closed(&self.old_base).await?;
        let route = self.sandbox.get(MODEL_ROUTE, "added").await?;
        ensure!(route["status"]["conditions"].is_array(), "the new route has no status yet");
        Ok(())
    }

    async fn answered(&self, name: &str, expected: &str) -> Result<()> {
        self.rig.http.ensure_answer(&self.base, &self.sandbox.model(name), expected).await
    }

    /// Fails if a new client is served there.
    async fn is_closed(&self, base: &str) -> Result<()> {
        match HttpClient::new().complete(base, "any").await {
            Err(_) => Ok(()),
            Ok(answer) => bail!("{base} is open: {}", answer.said()),
        }
    }
}
