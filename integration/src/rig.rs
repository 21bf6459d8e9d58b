//! What every test gets: the cluster, the router in it, and a place for figures.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::control::{BACK_DOOR, Control};
use crate::http::HttpClient;
use crate::kinds::{DEPLOYMENT, GATEWAY, MODEL_ROUTE};
use crate::kubectl::Shell;
use crate::router::{NAME, NAMESPACE, Router, install_gateway_api, install_own_definitions};
use crate::sandbox::Sandbox;
use crate::wait::eventually;

/// What every test gets.
pub struct Rig {
    /// The API server.
    pub cluster: Cluster,
    /// Commands of users.
    pub shell: Shell,
    /// Clients of the router.
    pub http: HttpClient,
    /// The router under test.
    pub router: Router,
    control: Option<Control>,
    baseline: Baseline,
    namespaces: RefCell<Vec<String>>,
    serial: Cell<u32>,
    notes: RefCell<Vec<String>>,
}

/// What the router's deployment was like before the first test.
struct Baseline {
    /// The number of replicas.
    replicas: u64,
    /// The router's command line.
    arguments: Value,
    /// The scheduler's file.
    scheduler: String,
    /// The ports of the Service.
    ports: BTreeSet<u64>,
    /// The port of the Service that leads to the default Gateway.
    port: u16,
}

impl Baseline {
    async fn of(cluster: &Cluster, router: &Router) -> Result<Self> {
        let deployment = cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        let ports = router.service_ports().await?;
        let http = ports
            .iter()
            .find(|(_, name, _)| name == "http")
            .or_else(|| ports.first())
            .context("the Service's ports")?;
        Ok(Self {
            replicas: deployment["spec"]["replicas"].as_u64().unwrap_or(1),
            arguments: router.arguments().await?,
            scheduler: router.scheduler().await?,
            port: u16::try_from(http.0)?,
            ports: ports.iter().map(|(port, ..)| *port).collect(),
        })
    }
}

impl Rig {
    /// Deploys the router into the cluster of `KUBECONFIG`.
    ///
    /// # Errors
    ///
    /// Returns an error when the router does not become ready.
    pub async fn set_up(control: Option<Control>) -> Result<Self> {
        let cluster = Cluster::of_kubeconfig().await?;
        let router = Router::deployed(&cluster, control.as_ref()).await.context("the router's deployment")?;
        let rig = Self {
            baseline: Baseline::of(&cluster, &router).await?,
            cluster,
            shell: Shell::new(),
            http: HttpClient::new(),
            router,
            control,
            namespaces: RefCell::default(),
            serial: Cell::new(0),
            notes: RefCell::default(),
        };
        rig.restore().await?;
        Ok(rig)
    }

    /// Returns the control of the test cluster.
    ///
    /// # Errors
    ///
    /// Returns an error in any other cluster.
    pub fn control(&self) -> Result<&Control> {
        self.control.as_ref().context("only the cluster of integration/run can be told to break")
    }

    /// Returns the router's address on the default Gateway as clients have it.
    ///
    /// # Errors
    ///
    /// Returns an error when the Service has no address.
    pub async fn base(&self) -> Result<String> {
        self.router.base(self.baseline.port).await
    }

    /// Makes a namespace of its own for a test; it goes when the test has ended.
    ///
    /// # Errors
    ///
    /// Returns the API server's error.
    pub async fn sandbox(&self, topic: &str) -> Result<Sandbox<'_>> {
        self.serial.set(self.serial.get() + 1);
        let name = format!("test-{topic}-{}-{}", std::process::id(), self.serial.get());
        self.namespaces.borrow_mut().push(name.clone());
        Sandbox::new(self, name).await
    }

    /// Notes a figure that is printed with the test's result.
    pub fn note(&self, text: impl Into<String>) {
        self.notes.borrow_mut().push(text.into());
    }

    /// Takes the figures that were noted.
    pub fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }

    /// Puts the cluster into the state that every test begins with, whatever the last one did.
    ///
    /// # Errors
    ///
    /// Returns what cannot be restored.
    pub async fn restore(&self) -> Result<()> {
        if self.control.is_some() {
            self.restore_control_plane().await?;
        }
        // Forgotten only at the end, so that a failed attempt can be made again.
        let namespaces = self.namespaces.borrow().clone();
        self.restore_definitions().await?;
        for namespace in &namespaces {
            Sandbox::remove(&self.cluster, namespace).await.with_context(|| format!("removing `{namespace}`"))?;
        }
        self.namespaces.borrow_mut().clear();
        self.restore_router().await
    }

    async fn restore_control_plane(&self) -> Result<()> {
        let control = self.control()?;
        if !self.cluster.is_ready().await {
            control.start_api_server().await?;
        }
        if Cluster::through_port(BACK_DOOR).await?.is_ready().await {
            control.close_back_door().await?;
        }
        Ok(())
    }

    /// Installs the definitions that a test has removed and not installed again.
    async fn restore_definitions(&self) -> Result<()> {
        if self.cluster.list(GATEWAY, "", "limit=1").await.is_err() {
            install_gateway_api(&self.shell).await?;
        }
        if self.cluster.list(MODEL_ROUTE, "", "limit=1").await.is_err() {
            install_own_definitions(&self.shell).await?;
        }
        Ok(())
    }

    async fn restore_router(&self) -> Result<()> {
        let replicas = self.baseline.replicas;
        let deployment = self.cluster.get(DEPLOYMENT, NAMESPACE, NAME).await?;
        if deployment["spec"]["replicas"].as_u64() != Some(replicas) {
            let patch = json!({"spec": {"replicas": replicas}});
            self.cluster.merge(DEPLOYMENT, NAMESPACE, NAME, "", &patch).await?;
        }
        if self.router.scheduler().await? != self.baseline.scheduler {
            self.router.set_scheduler(&self.baseline.scheduler).await?;
        }
        if self.router.arguments().await? != self.baseline.arguments {
            self.router.set_arguments(&self.baseline.arguments).await?;
        }
        self.router.rolled_out().await?;
        self.router.default_gateway_is_programmed().await?;
        self.restore_ports().await
    }

    /// Takes out the ports that tests wrote as users do, and waits until the router has taken out its own.
    async fn restore_ports(&self) -> Result<()> {
        let is_written = |(port, name, _): &&(u64, String, String)| {
            !self.baseline.ports.contains(port) && !name.starts_with("gateway-")
        };
        let ports = self.router.service_ports().await?;
        let delete = |(port, ..): &(u64, _, _)| json!({"$patch": "delete", "port": port, "protocol": "TCP"});
        let patches: Vec<_> = ports.iter().filter(is_written).map(delete).collect();
        if !patches.is_empty() {
            let patch = json!({"spec": {"ports": patches}}).to_string();
            let command = format!("patch service {NAME} -n {NAMESPACE} --patch-file=/dev/stdin");
            self.shell.kubectl_with(&command, &patch).await?;
        }
        eventually("the router's Service has no port that nobody listens on", async || {
            let listened = self.listened_ports().await?;
            let ports = self.router.service_ports().await?;
            let left = ports.iter().find(|(port, ..)| !self.baseline.ports.contains(port) && !listened.contains(port));
            ensure!(left.is_none(), "it has {ports:?}");
            Ok(())
        })
        .await
    }

    /// Returns the ports of all Gateways' listeners.
    async fn listened_ports(&self) -> Result<BTreeSet<u64>> {
        let gateways = self.cluster.list(GATEWAY, "", "").await?;
        let listeners =
            gateways.iter().flat_map(|gateway| gateway["spec"]["listeners"].as_array().into_iter().flatten());
        Ok(listeners.filter_map(|listener| listener["port"].as_u64()).collect())
    }
}
