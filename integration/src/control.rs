//! The test cluster's control: kill and restart its parts, compact its history, cut links.
//!
//! `integration/cluster` serves it to the command that it runs, at `CLUSTER_CONTROL`. Other clusters have none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::http::HttpClient;

/// The port of the back door: another API server of the same cluster, which only tests know.
pub const BACK_DOOR: u16 = 6444;

/// How long a command may take: an API server has to start.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The control of a test cluster.
#[derive(Clone, Debug)]
pub struct Control {
    base: String,
    state: PathBuf,
    http: HttpClient,
}

/// A process of the test cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// What it is: a part of the control plane, or `namespace/pod/container`.
    pub name: String,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Seconds on CPUs since its start.
    pub cpu_seconds: f64,
}

impl Control {
    /// Returns the control of the cluster that runs this program, if it is such a cluster.
    pub fn of_environment() -> Option<Self> {
        let base = std::env::var("CLUSTER_CONTROL").ok()?;
        let state = std::env::var_os("CLUSTER_STATE").map(PathBuf::from).unwrap_or_default();
        Some(Self { base, state, http: HttpClient::with_limit(COMMAND_LIMIT) })
    }

    /// Returns the directory of the cluster's logs and files.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Kills the API server without a warning.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.command("/apiserver/kill").await
    }

    /// Starts the API server, and returns once it is ready.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn start_api_server(&self) -> Result<()> {
        self.command("/apiserver/start").await
    }

    /// Starts another API server of the same cluster, which nothing but the caller talks to.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn open_back_door(&self) -> Result<Cluster> {
        self.command(&format!("/apiserver/start?port={BACK_DOOR}")).await?;
        Cluster::through_port(BACK_DOOR).await
    }

    /// Kills the other API server.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn close_back_door(&self) -> Result<()> {
        self.command(&format!("/apiserver/kill?port={BACK_DOOR}")).await
    }

    /// Forgets the history of all objects up to now.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn compact(&self) -> Result<()> {
        self.command("/etcd/compact").await
    }

    /// Sends a signal such as `KILL` to the process of a container.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn signal(&self, namespace: &str, pod: &str, container: &str, signal: &str) -> Result<()> {
        self.command(&format!("/pods/{namespace}/{pod}/kill?container={container}&signal={signal}")).await
    }

    /// Cuts a Pod's link to the API server, or mends it.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn partition(&self, namespace: &str, pod: &str, on: bool) -> Result<()> {
        self.command(&format!("/pods/{namespace}/{pod}/partition?on={on}")).await
    }

    /// Makes a Pod take the traffic of a whole range of addresses.
    ///
    /// # Errors
    ///
    /// Returns what the control says.
    pub async fn take_addresses(&self, namespace: &str, pod: &str, range: &str) -> Result<()> {
        self.command(&format!("/pods/{namespace}/{pod}/anyip?cidr={range}")).await
    }

    /// Lists the cluster's processes.
    ///
    /// # Errors
    ///
    /// Returns what the control says, or what its answer lacks.
    pub async fn processes(&self) -> Result<Vec<Process>> {
        let answer = self.http.get(&format!("{}/processes", self.base)).await?;
        ensure!(answer.status == 200, "/processes: {}", answer.said());
        let json = answer.json();
        let list = json.as_array().context("the list of processes")?;
        list.iter().map(process).collect()
    }

    /// Returns the resident memory of all processes of a Pod, in bytes.
    ///
    /// # Errors
    ///
    /// Returns an error when the Pod has no process.
    pub async fn memory_of_pod(&self, namespace: &str, pod: &str) -> Result<u64> {
        let prefix = format!("{namespace}/{pod}/");
        let processes = self.processes().await?;
        let rss = processes.iter().filter(|process| process.name.starts_with(&prefix)).map(|process| process.rss).sum();
        ensure!(rss > 0, "no process of the Pod `{prefix}` is known");
        Ok(rss)
    }

    async fn command(&self, path: &str) -> Result<()> {
        let answer = self.http.post(&format!("{}{path}", self.base)).await.with_context(|| path.to_owned())?;
        ensure!(answer.status == 200, "{path}: {}", answer.said());
        Ok(())
    }
}

fn process(value: &Value) -> Result<Process> {
    let name = value["name"].as_str().context("a process without a name")?;
    let rss = value["rssBytes"].as_u64().context("a process without its memory")?;
    Ok(Process { name: name.to_owned(), rss, cpu_seconds: value["cpuSeconds"].as_f64().unwrap_or_default() })
}
