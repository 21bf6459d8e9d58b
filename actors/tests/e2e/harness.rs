//! A router with engines and manifests of its own, for one test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use awc::{Client, ClientRequest, Connector};
use clap::Parser;
use kthena_router_actors::control::cluster::Cluster;
use kthena_router_actors::control::registry::RegistryState;
use kthena_router_actors::ops::observe::Observe;
use kthena_router_actors::origin::Origin;
use kthena_router_actors::router::Router;
use kthena_router_actors::workshop::cli::Cli;
use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig};
use tempfile::TempDir;

/// How long a test waits for something to come true before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The inference port of every router under test.
pub(crate) const PORT: u16 = 8080;
/// The port of every engine under test.
pub(crate) const ENGINE_PORT: u16 = 8000;

/// Networks whose addresses differ in one octet.
const PER_RANGE: u16 = 250;
/// The ranges of each process.
const RANGES: u16 = 3;
/// The processes that have ranges of their own.
const PROCESSES: u16 = 66;

/// The ports that tests share.
const PORTS: u16 = 20_000;

static NETWORKS: AtomicU16 = AtomicU16::new(1);

/// A router under test.
pub(crate) struct Harness {
    pub(crate) router: Router,
    pub(crate) manifests: TempDir,
    network: u16,
    metrics_port: u16,
    pub(crate) debug_port: u16,
    client: Client,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A test's network before its router is started: engines are started here, and manifests written.
pub(crate) struct Network {
    number: u16,
    manifests: TempDir,
}

impl Network {
    pub(crate) fn new() -> Self {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        assert!(number < RANGES * PER_RANGE, "every test has a network of its own, and there are no more");
        Self { number, manifests: TempDir::new().unwrap() }
    }

    /// Returns the address of the host with this number; the router is host 1, engines are from 10 on.
    pub(crate) fn host(&self, host: u8) -> IpAddr {
        address(self.number, host)
    }

    /// Starts an engine on a host.
    pub(crate) async fn engine(&self, host: u8, model: &str) -> Engine {
        self.engine_with(host, EngineConfig { record: true, ..EngineConfig::new(model) }).await
    }

    /// Starts an engine on a host, with its address and port filled in.
    pub(crate) async fn engine_with(&self, host: u8, config: EngineConfig) -> Engine {
        let config = EngineConfig { addresses: vec![self.host(host)], ports: vec![ENGINE_PORT], ..config };
        simulated_engine::start(config).await.unwrap()
    }

    /// Returns the directory of the manifests.
    pub(crate) fn directory(&self) -> &Path {
        self.manifests.path()
    }

    /// Writes a manifest file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.manifests, name, text);
    }

    /// Writes a ModelServer called `name` and its Pods on `hosts`.
    pub(crate) fn model_server(&self, name: &str, model: &str, hosts: &[u8]) {
        self.write(&format!("server-{name}.yaml"), &self.model_server_yaml(name, model, hosts, ""));
    }

    /// Returns the YAML of a ModelServer and its Pods; `more` is appended to the ModelServer's spec.
    pub(crate) fn model_server_yaml(&self, name: &str, model: &str, hosts: &[u8], more: &str) -> String {
        let pods = hosts.iter().map(|host| pod_yaml(&format!("{name}-{host}"), name, self.host(*host)));
        let server = format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {name}}}\nspec:\n  \
             model: {model}\n  inferenceEngine: vLLM\n  workloadSelector: {{matchLabels: {{app: {name}}}}}\n  \
             workloadPort: {{port: {ENGINE_PORT}}}\n{more}\n---\n"
        );
        server + &pods.collect::<String>()
    }

    /// Starts the router on what was written, and waits until it is ready; `flags` take precedence over the tests' own.
    pub(crate) async fn start(self, flags: &[&str]) -> Harness {
        let directory = format!("--manifests={}", self.manifests.path().display());
        let flags: Vec<_> = std::iter::once(&*directory).chain(flags.iter().copied()).collect();
        let harness = self.launch(None, &flags).await;
        harness.until("the router is ready", async || harness.readyz().await.status == 200).await;
        harness
    }

    /// Starts the router on the objects of a cluster, or on whatever `flags` say, and does not wait for anything.
    pub(crate) async fn launch(self, cluster: Option<kube::Config>, flags: &[&str]) -> Harness {
        let metrics_port = free_port(self.host(1));
        // The same number may be free at another address.
        let mut others = std::iter::repeat_with(|| free_port(Ipv4Addr::LOCALHOST.into()));
        let debug_port = others.find(|port| *port != metrics_port).unwrap();
        let own = [
            "kthena-router".to_owned(),
            format!("--bind-address={}", self.host(1)),
            format!("--metrics-port={metrics_port}"),
            format!("--debug-port={debug_port}"),
            "--workers=1".to_owned(),
            "--pod-namespace=default".to_owned(),
            "--metrics-scrape-interval=100ms".to_owned(),
            format!("--access-log-output={}", self.manifests.path().join("access.log").display()),
        ];
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let is_given = |flag: &String| flags.iter().any(|given| name(given) == name(flag));
        let own = own.into_iter().filter(|flag| !is_given(flag));
        let arguments = own.chain(flags.iter().map(ToString::to_string));
        let config = Cli::try_parse_from(arguments).unwrap().config;
        assert_eq!(config.faults(), []);
        let origin = match cluster {
            Some(cluster) => Origin::Cluster(Box::new(Cluster::at(cluster, &config.cluster))),
            None => Origin::find(&config).await.unwrap(),
        };
        Harness {
            router: Router::start(&config, &origin).unwrap(),
            manifests: self.manifests,
            network: self.number,
            metrics_port,
            debug_port,
            client: client(),
        }
    }
}

impl Harness {
    /// Returns the address of the host with this number.
    pub(crate) fn host(&self, host: u8) -> IpAddr {
        address(self.network, host)
    }

    /// Writes a manifest file of the running router.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(&self.manifests, name, text);
    }

    /// Removes a manifest file of the running router.
    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.manifests.path().join(name)).unwrap();
    }

    /// Begins a request to the router's inference port, or to another port of it.
    pub(crate) fn post_to(&self, port: u16, path: &str) -> ClientRequest {
        self.client
            .post(format!("http://{}{path}", SocketAddr::new(self.host(1), port)))
            .insert_header(("content-type", "application/json"))
    }

    /// Sends a completion for a model to the router's inference port.
    pub(crate) async fn complete(&self, model: &str) -> Answer {
        self.complete_on(PORT, model).await
    }

    /// Sends a completion for a model to a port of the router.
    pub(crate) async fn complete_on(&self, port: u16, model: &str) -> Answer {
        let body = json!({"model": model, "prompt": "Say something.", "max_tokens": 100});
        read(self.post_to(port, "/v1/completions").send_body(body.to_string()).await.unwrap()).await
    }

    /// Fetches a page of the router's inference port.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", SocketAddr::new(self.host(1), PORT));
        read(self.client.get(url).send().await.unwrap()).await
    }

    /// Fetches a page of the router's metrics port.
    pub(crate) async fn get_metrics_page(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", SocketAddr::new(self.host(1), self.metrics_port));
        read(self.client.get(url).send().await.unwrap()).await
    }

    /// Fetches the metrics in the OpenMetrics format.
    pub(crate) async fn get_open_metrics(&self) -> Answer {
        let url = format!("http://{}/metrics", SocketAddr::new(self.host(1), self.metrics_port));
        let accept = ("accept", "application/openmetrics-text; version=1.0.0");
        read(self.client.get(url).insert_header(accept).send().await.unwrap()).await
    }

    /// Fetches the page that says whether the router is ready.
    pub(crate) async fn readyz(&self) -> Answer {
        self.get_metrics_page("/readyz").await
    }

    /// Fetches a page of the router's debug port.
    pub(crate) async fn get_debug_page(&self, path: &str) -> Answer {
        let url = format!("http://{}{path}", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.debug_port));
        read(self.client.get(url).send().await.unwrap()).await
    }

    /// Fetches a part of the configuration dump.
    pub(crate) async fn dump(&self, what: &str) -> Answer {
        self.get_debug_page(&format!("/debug/config_dump/{what}")).await
    }

    /// Returns the sum of a metric over all series whose labels contain all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.get_metrics_page("/metrics").await.text();
        page.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Returns the registry's state.
    pub(crate) async fn registry(&self) -> RegistryState {
        self.router.registry.send(Observe::new()).await.unwrap()
    }

    /// Returns the access log once it has a line that contains `text`.
    pub(crate) async fn logged(&self, text: &str) -> String {
        let path = self.manifests.path().join("access.log");
        let log = || std::fs::read_to_string(&path).unwrap_or_default();
        self.until(&format!("`{text}` is logged"), async || log().contains(text)).await;
        log()
    }

    /// Waits until a condition is true, and fails the test if it never is.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        until(what, condition).await;
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the model that the text of a completion says has answered.
    pub(crate) fn answered_by(&self) -> String {
        let text = self.json()["choices"][0]["text"].as_str().unwrap_or_default().to_owned();
        let model = text.strip_prefix("This is simulated message from ").and_then(|rest| rest.strip_suffix('!'));
        model.unwrap_or_else(|| panic!("not a simulated message: {} {}", self.status, self.text())).to_owned()
    }
}

/// Waits until a condition is true, and fails the test if it never is.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "it never came true that {what}");
}

/// Reads an answer whole.
pub(crate) async fn read<S>(mut response: awc::ClientResponse<S>) -> Answer
where
    S: futures::Stream<Item = Result<actix_web::web::Bytes, awc::error::PayloadError>> + Unpin,
{
    let status = response.status().as_u16();
    let text = |value: &awc::http::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = response.body().limit(256 << 20).await.unwrap().to_vec();
    Answer { status, headers, body }
}

/// Returns the YAML of a ModelRoute of everything for `model` to one ModelServer, on the default Gateway.
pub(crate) fn route_yaml(name: &str, model: &str, server: &str) -> String {
    route_with(
        name,
        &format!("modelName: {model}"),
        "default",
        &format!("- targetModels: [{{modelServerName: {server}}}]"),
    )
}

/// Returns the YAML of a ModelRoute: what it serves, on which Gateway, by which rules.
pub(crate) fn route_with(name: &str, serves: &str, gateway: &str, rules: &str) -> String {
    let rules = rules.replace('\n', "\n    ");
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         {serves}\n  parentRefs: [{{name: {gateway}}}]\n  rules:\n    {rules}\n---\n"
    )
}

/// Returns the YAML of a Gateway with one HTTP listener on each of these ports and hostnames.
pub(crate) fn gateway_yaml(name: &str, listeners: &[(u16, Option<&str>)]) -> String {
    let listeners: String = listeners
        .iter()
        .enumerate()
        .map(|(index, (port, hostname))| {
            let hostname = hostname.map(|hostname| format!(", hostname: \"{hostname}\"")).unwrap_or_default();
            format!("    - {{name: l{index}, port: {port}, protocol: HTTP{hostname}}}\n")
        })
        .collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
         gatewayClassName: kthena-router\n  listeners:\n{listeners}---\n"
    )
}

/// Returns the YAML of a Pod of an app.
pub(crate) fn pod_yaml(name: &str, app: &str, address: IpAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\nstatus: {{podIP: {address}}}\n---\n"
    )
}

fn write(directory: &TempDir, name: &str, text: &str) {
    // Replaced as a whole, as `kubectl` and careful editors do; a test of half-written files writes them itself.
    let path: PathBuf = directory.path().join(name);
    let draft = directory.path().join(format!(".{name}.draft"));
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// Returns the address of a host of a network; test processes that run at the same time have different ones.
fn address(network: u16, host: u8) -> IpAddr {
    let process = std::process::id() % u32::from(PROCESSES);
    let range = 32 + u32::from(RANGES) * process + u32::from(network / PER_RANGE);
    let [range, network] = [range, u32::from(network % PER_RANGE)].map(|octet| u8::try_from(octet).unwrap());
    IpAddr::V4(Ipv4Addr::new(127, range, network, host))
}

pub(crate) fn client() -> Client {
    let connector = Connector::new().limit(0).timeout(Duration::from_secs(5));
    Client::builder().connector(connector).disable_timeout().disable_redirects().finish()
}

/// Returns a port that nobody listens at. It is none of those that connections get by chance, from 32 768 on, since one
/// of them might have it before who asked.
pub(crate) fn free_port(address: IpAddr) -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() % u32::from(PORTS);
    let next = || 10_000 + (first + u32::from(ASKED.fetch_add(1, Ordering::Relaxed))) % u32::from(PORTS);
    let mut ports = std::iter::repeat_with(|| u16::try_from(next()).unwrap());
    ports.find(|port| TcpListener::bind((address, *port)).is_ok()).unwrap()
}
