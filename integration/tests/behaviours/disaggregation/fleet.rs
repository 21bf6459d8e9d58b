//! The Pods of one example, and what they and the router tell.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kthena_router_integration::cluster::{name_of, text};
use kthena_router_integration::exposition::Exposition;
use kthena_router_integration::http::Answer;
use kthena_router_integration::kinds::POD;
use kthena_router_integration::objects::{model_route, object};
use kthena_router_integration::rig::Rig;
use kthena_router_integration::router::{DEFAULT_GATEWAY, is_ready};
use kthena_router_integration::sandbox::Sandbox;
use kthena_router_integration::wait::eventually;
use serde_json::{Value, json};

use super::examples::{Example, Part};

/// Where decode engines meet a prefill engine, unless its configuration says otherwise.
const BOOTSTRAP_PORT: u16 = 8998;
/// The port of the engine that stands for a shared store.
const STORE_PORT: u16 = 8000;

/// The Pods of an example.
pub(super) struct Fleet<'r> {
    rig: &'r Rig,
    sandbox: &'r Sandbox<'r>,
    /// The example.
    pub(super) example: Example,
    /// The model that clients ask for.
    pub(super) model: String,
    /// The shared store of connectors that have one.
    store: Option<String>,
}

/// Returns a prompt that is worth a prefill Pod.
pub(super) fn long_prompt() -> String {
    "What is Kubernetes, and what is it good for? ".repeat(64)
}

impl<'r> Fleet<'r> {
    /// Applies the objects of an example with `kubectl`, one group with so many engines of each role.
    pub(super) async fn apply(rig: &'r Rig, sandbox: &'r Sandbox<'r>, example: &Example, engines: u32) -> Result<Self> {
        let namespace = &*sandbox.namespace;
        let mut fleet = Self { rig, sandbox, example: *example, model: example.name.to_owned(), store: None };
        if example.has_store() {
            fleet.store = Some(fleet.start_store().await?);
        }
        fleet.kubectl_apply(&example.model_server(namespace)).await?;
        let route = model_route(namespace, example.name, &fleet.model, DEFAULT_GATEWAY, example.name);
        fleet.kubectl_apply(&route).await?;
        for part in [Part::Prefill, Part::Decode] {
            for engine in 0..engines {
                fleet.add(part, 0, engine).await?;
            }
        }
        Ok(fleet)
    }

    async fn kubectl_apply(&self, object: &Value) -> Result<()> {
        self.rig.shell.kubectl_with("apply -f -", &object.to_string()).await.map(drop)
    }

    /// Adds the Pods of an engine to a group, and returns the one that takes requests once all are ready.
    pub(super) async fn add(&self, part: Part, group: u32, engine: u32) -> Result<Value> {
        let example = &self.example;
        let mut pods = Vec::new();
        for node in 0..example.nodes {
            let spec = self.pod_spec(part);
            let pod = example.pod(&self.sandbox.namespace, part, [group, engine, node], &spec);
            self.kubectl_apply(&pod).await?;
            pods.push(pod);
        }
        for pod in &pods {
            self.is_ready(name_of(pod)).await?;
        }
        pods.into_iter().next().context("an engine has a Pod")
    }

    fn pod_spec(&self, part: Part) -> Value {
        let Example { model, port, speaks, .. } = &self.example;
        let mut flags = vec![format!("--model={model}"), format!("--port={port}"), "--time-to-first-token=5ms".into()];
        flags.extend(speaks.iter().filter(|flag| !flag.is_empty()).map(ToString::to_string));
        if !speaks.iter().any(|flag| flag.starts_with("--kv-role")) {
            flags.push(format!("--kv-role={}", if part == Part::Prefill { "prefill" } else { "decode" }));
        }
        if part == Part::Prefill && speaks.contains(&"--kv-connector=sglang") {
            flags.push(format!("--kv-bootstrap-port={BOOTSTRAP_PORT}"));
        }
        flags.extend(self.store.iter().map(|store| format!("--kv-store={store}")));
        self.engine(*port, &flags)
    }

    fn engine(&self, port: u16, flags: &[String]) -> Value {
        let own = ["engine", "--address=0.0.0.0"].into_iter().map(str::to_owned);
        let arguments: Vec<_> = own.chain(flags.iter().cloned()).collect();
        json!({
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": "leader", "image": self.rig.router.image(), "args": arguments,
                "ports": [{"containerPort": port}],
                "readinessProbe": {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 1},
            }],
        })
    }

    /// Starts the engine that stands for a shared store, and returns its address.
    async fn start_store(&self) -> Result<String> {
        let spec = self.engine(STORE_PORT, &["--model=store".to_owned(), format!("--port={STORE_PORT}")]);
        self.kubectl_apply(&object(POD, &self.sandbox.namespace, "store", &spec)).await?;
        let pod = self.is_ready("store").await?;
        Ok(format!("{}:{STORE_PORT}", text(&pod, "/status/podIP")))
    }

    async fn is_ready(&self, pod: &str) -> Result<Value> {
        eventually(&format!("the Pod `{pod}` is ready"), async || {
            let object = self.sandbox.get(POD, pod).await?;
            ensure!(is_ready(&object), "it is not: {}", object["status"]);
            Ok(object)
        })
        .await
    }

    /// Returns the name of the Pod that takes the requests of an engine of the first group.
    pub(super) fn pod(&self, part: Part, engine: u32) -> String {
        name_of(&self.example.pod("", part, [0, engine, 0], &Value::Null)).to_owned()
    }

    /// Gives a Pod a label, or takes one from it, as `kubectl label` writes it.
    pub(super) async fn label(&self, pod: &str, label: &str) -> Result<()> {
        let command = format!("label pod {pod} -n {} --overwrite {label}", self.sandbox.namespace);
        self.rig.shell.kubectl(&command).await.map(drop)
    }

    /// Waits until `kubectl get -o yaml` shows the condition `Paired` of the ModelServer with this status and these words.
    pub(super) async fn has_paired(&self, status: &str, words: &[&str]) -> Result<()> {
        let command = format!("get modelserver {} -n {} -o yaml", self.example.name, self.sandbox.namespace);
        eventually(&format!("Paired is {status}: {words:?}"), async || {
            let printed = self.rig.shell.kubectl(&command).await?;
            // Long lines are folded.
            let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
            let (before, _) = printed.split_once("type: Paired").context("there is no such condition")?;
            let (_, condition) = before.rsplit_once("lastTransitionTime:").context("it has no time")?;
            ensure!(condition.contains(&format!("status: \"{status}\"")), "it is {condition}");
            let missing = words.iter().find(|word| !condition.contains(**word));
            ensure!(missing.is_none(), "{missing:?} is not in it: {condition}");
            Ok(())
        })
        .await
    }

    /// Asks for a chat, and checks all of the answer.
    pub(super) async fn chat(&self, stream: bool) -> Result<()> {
        let messages = json!([{"role": "user", "content": long_prompt()}]);
        let body = json!({"model": self.model, "messages": messages, "max_tokens": 16, "stream": stream});
        self.ask("chat/completions", &body, [["message", "content"], ["delta", "content"]]).await
    }

    /// Asks for a completion, and checks all of the answer.
    pub(super) async fn complete(&self, stream: bool) -> Result<()> {
        let body = json!({"model": self.model, "prompt": long_prompt(), "max_tokens": 16, "stream": stream});
        self.ask("completions", &body, [["text", ""], ["text", ""]]).await
    }

    /// Asks, and checks that the answer has the whole text of one engine; the text is at `places`, whole and in an event.
    async fn ask(&self, call: &str, body: &Value, [whole, event]: [[&str; 2]; 2]) -> Result<()> {
        let base = self.rig.base().await?;
        let expected = format!("This is simulated message from {}!", self.example.model);
        let answer = eventually("the model is served", async || {
            let answer = self.rig.http.ask(&format!("{base}/v1/{call}"), body).await?;
            ensure!(answer.status != 404, "{}", answer.said());
            Ok(answer)
        })
        .await?;
        ensure!(answer.status == 200, "{}", answer.said());
        let said = if body["stream"] == true { streamed(&answer, event)? } else { said(&answer.json(), whole) };
        ensure!(said == expected, "`{said}` is not `{expected}`: {}", answer.said());
        Ok(())
    }

    /// Returns a figure of the Pods of a part, all of those that take requests.
    pub(super) async fn count(&self, part: Part, figure: &str) -> Result<f64> {
        let pods = self.rig.cluster.list(POD, &self.sandbox.namespace, "").await?;
        let is_of = |pod: &&Value| name_of(pod).contains(if part == Part::Prefill { "-prefill-" } else { "-decode-" });
        let figures = pods.iter().filter(is_of).map(|pod| self.figure(pod, figure));
        Ok(try_join_all(figures).await?.iter().sum())
    }

    /// Returns how many prompts were computed for another engine, and how many were fetched from another one.
    pub(super) async fn counts(&self) -> Result<(f64, f64)> {
        Ok((self.count(Part::Prefill, "prefills").await?, self.count(Part::Decode, "decodes").await?))
    }

    async fn figure(&self, pod: &Value, figure: &str) -> Result<f64> {
        let page =
            self.rig.cluster.pod_page(&self.sandbox.namespace, name_of(pod), self.example.port, "/metrics").await?;
        Ok(Exposition::new(page).sum(&format!("simulated:kv_{figure}_total"), &[]))
    }

    /// Fails if an engine has refused a request, if blocks were given up, or if a Pod was asked that takes no requests.
    pub(super) async fn nothing_is_wrong(&self) -> Result<()> {
        for part in [Part::Prefill, Part::Decode] {
            for figure in ["refused", "expired", "aborted"] {
                let count = self.count(part, figure).await?;
                ensure!(count == 0.0, "{figure} at {part:?}: {count}");
            }
        }
        let pods = self.rig.cluster.list(POD, &self.sandbox.namespace, "").await?;
        for worker in pods.iter().filter(|pod| name_of(pod).ends_with("-1")) {
            for figure in ["prefills", "decodes", "alone"] {
                let count = self.figure(worker, figure).await?;
                ensure!(count == 0.0, "`{}` takes no requests, and has {count} {figure}", name_of(worker));
            }
        }
        Ok(())
    }
}

/// Returns the text of a choice.
fn said(answer: &Value, [first, second]: [&str; 2]) -> String {
    let text = &answer["choices"][0][first];
    let text = if second.is_empty() { text } else { &text[second] };
    text.as_str().unwrap_or_default().to_owned()
}

/// Returns the text of all events, of a stream that ends as it should.
fn streamed(answer: &Answer, place: [&str; 2]) -> Result<String> {
    let text = answer.text();
    let events = text.strip_suffix("data: [DONE]\n\n").with_context(|| format!("no end in {}", answer.said()))?;
    let events = events.split_terminator("\n\n").map(|event| {
        let event = event.strip_prefix("data: ").with_context(|| format!("`{event}` is no event"))?;
        Ok(said(&serde_json::from_str(event)?, place))
    });
    events.collect()
}
