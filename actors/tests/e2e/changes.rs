//! Manifests change while requests run: the change takes effect, and no request notices.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;

use actix_web::rt::task::JoinHandle;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::harness::{ENGINE_PORT, Harness, Network, PORT, gateway_yaml, read, route_with, route_yaml};

/// Clients that ask for a model all the time, each one request after the other.
pub(crate) struct Load {
    stop: Rc<Cell<bool>>,
    answers: Rc<Cell<usize>>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts clients that ask for `model` on a port of the router.
    pub(crate) fn start(harness: &Harness, port: u16, model: &str, clients: usize) -> Self {
        let (stop, answers) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let request = harness.post_to(port, "/v1/completions").freeze().unwrap();
        let body = json!({"model": model, "prompt": "Say something.", "max_tokens": 100}).to_string();
        let client = || {
            let (stop, answers, request, body) = (stop.clone(), answers.clone(), request.clone(), body.clone());
            actix_web::rt::spawn(async move {
                let mut outcomes = Vec::new();
                while !stop.get() {
                    let outcome = match request.send_body(body.clone()).await {
                        Ok(response) if response.status() == 200 => read(response).await.answered_by(),
                        Ok(response) => format!("failed: {} {}", response.status(), read(response).await.text()),
                        Err(error) => format!("failed: {error}"),
                    };
                    outcomes.push(outcome);
                    answers.set(answers.get() + 1);
                }
                outcomes
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Self { stop, answers, clients }
    }

    /// Waits until the clients have had `count` more answers.
    pub(crate) async fn goes_on(&self, harness: &Harness, count: usize) {
        let before = self.answers.get();
        harness.until("the load goes on", async || self.answers.get() >= before + count).await;
    }

    /// Stops the clients and returns what each of them got, in order: the model that answered, or what failed.
    pub(crate) async fn end(self) -> Vec<Vec<String>> {
        self.stop.set(true);
        futures::future::join_all(self.clients).await.into_iter().map(Result::unwrap).collect()
    }

    /// Stops the clients and returns how many answers of each kind they got.
    pub(crate) async fn tally(self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for outcome in self.end().await.into_iter().flatten() {
            *tally.entry(outcome).or_default() += 1;
        }
        tally
    }
}

/// An engine that streams to its first client exactly what the test says, when it says so.
pub(crate) struct Puppet {
    chunks: Option<mpsc::UnboundedSender<&'static str>>,
    serving: JoinHandle<()>,
}

impl Puppet {
    pub(crate) async fn start(address: IpAddr) -> Self {
        let (chunks, receiver) = mpsc::unbounded_channel();
        let receiver = Rc::new(Cell::new(Some(receiver)));
        let listener = tokio::net::TcpListener::bind((address, ENGINE_PORT)).await.unwrap();
        let serving = actix_web::rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = Rc::clone(&receiver);
                actix_web::rt::spawn(async move { drop(perform(stream, &receiver).await) });
            }
        });
        Self { chunks: Some(chunks), serving }
    }

    /// Sends a chunk.
    pub(crate) fn say(&self, chunk: &'static str) {
        self.chunks.as_ref().unwrap().send(chunk).unwrap();
    }

    /// Ends the stream.
    pub(crate) fn finish(&mut self) {
        self.chunks = None;
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn perform(stream: TcpStream, chunks: &Cell<Option<mpsc::UnboundedReceiver<&'static str>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let chunks = if head.starts_with("POST ") { chunks.take() } else { None };
        let Some(mut chunks) = chunks else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        };
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        while let Some(chunk) = chunks.recv().await {
            stream.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await?;
        }
        return stream.write_all(b"0\r\n\r\n").await;
    }
}

fn is_open(harness: &Harness, port: u16) -> bool {
    std::net::TcpStream::connect(SocketAddr::new(harness.host(1), port)).is_ok()
}

/// Two engines, `a` and `b`, with a ModelServer each.
async fn two_models(network: &Network) -> [simulated_engine::Engine; 2] {
    network.model_server("a", "a", &[10]);
    network.model_server("b", "b", &[11]);
    [network.engine(10, "a").await, network.engine(11, "b").await]
}

#[actix_web::test]
async fn swapping_two_model_servers_swaps_the_answers_and_fails_no_request() {
    let network = Network::new();
    let _engines = two_models(&network).await;
    let routes = |first: &str, second: &str| {
        let second = format!("- targetModels: [{{modelServerName: {second}}}]");
        route_yaml("first", "m", first) + &route_with("second", "modelName: m", "other", &second)
    };
    network.write("gateway.yaml", &gateway_yaml("other", &[(8081, None)]));
    network.write("routes.yaml", &routes("a", "b"));
    let harness = network.start(&[]).await;
    harness.until("the second port is open", async || is_open(&harness, 8081)).await;
    let loads = [Load::start(&harness, PORT, "m", 4), Load::start(&harness, 8081, "m", 4)];
    for load in &loads {
        load.goes_on(&harness, 50).await;
    }
    harness.write("routes.yaml", &routes("b", "a"));
    let answer = async |port| harness.complete_on(port, "m").await.answered_by();
    harness.until("the first answer is swapped", async || answer(PORT).await == "b").await;
    harness.until("the second answer is swapped", async || answer(8081).await == "a").await;
    for load in &loads {
        load.goes_on(&harness, 50).await;
    }
    for (load, expected) in loads.into_iter().zip([["a", "b"], ["b", "a"]]) {
        for mut answers in load.end().await {
            answers.dedup();
            assert_eq!(answers, expected, "each client sees the old model, then the new one, and nothing else");
        }
    }
}

#[actix_web::test]
async fn a_gateway_opens_its_port_and_a_stream_outlives_it() {
    let network = Network::new();
    let mut puppet = Puppet::start(network.host(10)).await;
    network.model_server("a", "a", &[10]);
    network.write("route.yaml", &route_with("r", "modelName: m", "late", "- targetModels: [{modelServerName: a}]"));
    let harness = network.start(&[]).await;
    let bind = format!("{}:8081", harness.host(1));
    assert!(!is_open(&harness, 8081), "the port is closed before there is a Gateway");

    harness.write("gateway.yaml", &gateway_yaml("late", &[(8081, None)]));
    harness
        .until("the port is open", async || harness.metric("kthena_router_listener_open", &[&bind]).await == 1.0)
        .await;
    assert!(is_open(&harness, 8081));
    puppet.say("data: first\n\n");
    let request = harness.post_to(8081, "/v1/completions");
    let mut response =
        request.send_body(json!({"model": "m", "prompt": "x", "stream": true}).to_string()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "data: first\n\n");

    harness.remove("gateway.yaml");
    harness.until("the port is closed", async || !is_open(&harness, 8081)).await;
    let page = harness.get_metrics_page("/metrics").await.text();
    assert!(!page.contains(&format!("kthena_router_listener_open{{bind=\"{bind}\"}}")), "{page}");
    assert_eq!(harness.metric("kthena_router_listener_inflight_requests", &[&bind]).await, 1.0);
    harness.write("gateway.yaml", &gateway_yaml("late", &[(8081, None)]));
    harness.until("the port is open again", async || is_open(&harness, 8081)).await;

    puppet.say("data: last\n\n");
    puppet.finish();
    assert_eq!(read(response).await.text(), "data: last\n\n");
    harness
        .until("the old listener is gone", async || {
            harness.metric("kthena_router_actors_running", &["\"Listener\""]).await == 2.0
        })
        .await;
    assert_eq!(harness.metric("kthena_router_listener_open", &[&bind]).await, 1.0, "the new one's metrics stay");
    let page = harness.get_metrics_page("/metrics").await.text();
    assert!(page.contains(&format!("kthena_router_listener_inflight_requests{{bind=\"{bind}\"}} 0\n")), "{page}");
}

#[actix_web::test]
async fn a_taken_port_is_reported_and_opened_once_it_is_free() {
    let network = Network::new();
    let _engines = two_models(&network).await;
    let taken = TcpListener::bind((network.host(1), 8081)).unwrap();
    network.write("gateway.yaml", &gateway_yaml("other", &[(8081, None)]));
    network.write("route.yaml", &route_with("r", "modelName: m", "other", "- targetModels: [{modelServerName: a}]"));
    let harness = network.start(&[]).await;
    let bind = format!("{}:8081", harness.host(1));
    let condition = async |kind: &str| {
        let gateway = harness.dump("namespaces/default/gateways/other").await.json();
        let conditions = gateway["status"]["listeners"][0]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap()
    };
    let page = harness.get_metrics_page("/metrics").await.text();
    assert!(page.contains(&format!("kthena_router_listener_open{{bind=\"{bind}\"}} 0\n")), "{page}");
    harness.until("it is reported", async || condition("Accepted").await["status"] == "False").await;
    let accepted = condition("Accepted").await;
    assert_eq!(accepted["reason"], "PortUnavailable");
    assert!(accepted["message"].as_str().unwrap().contains(&bind), "{accepted}");

    drop(taken);
    let programmed = async || condition("Programmed").await["status"] == "True";
    harness.until("the port is opened", programmed).await;
    assert_eq!(condition("Accepted").await["status"], "True");
    assert_eq!(harness.metric("kthena_router_listener_open", &[&bind]).await, 1.0);
    assert_eq!(harness.complete_on(8081, "m").await.answered_by(), "a");
}

#[actix_web::test]
async fn removing_and_adding_a_pod_fails_no_request() {
    let network = Network::new();
    let engines = [network.engine(10, "a").await, network.engine(11, "a").await];
    let [both, one] = [&[10, 11][..], &[10]].map(|hosts| network.model_server_yaml("a", "a", hosts, ""));
    network.write("server.yaml", &both);
    network.write("route.yaml", &route_yaml("r", "m", "a"));
    let harness = network.start(&[]).await;
    let ready = async || harness.metric("kthena_router_endpoints", &["state=\"ready\""]).await;
    let load = Load::start(&harness, PORT, "m", 4);
    load.goes_on(&harness, 50).await;
    assert!(engines.iter().all(|engine| engine.requests() > 0), "both engines serve at first");

    harness.write("server.yaml", &one);
    harness.until("one endpoint is left", async || ready().await == 1.0).await;
    // What was picked before is under way for a moment; meanwhile each client has sent its next request.
    load.goes_on(&harness, 50).await;
    harness.until("the removed engine is idle", async || engines[1].running() == 0).await;
    let before = engines[1].requests();
    load.goes_on(&harness, 50).await;
    assert_eq!(engines[1].requests(), before, "a removed Pod gets no request any more");

    harness.write("server.yaml", &both);
    harness.until("the engine serves again", async || engines[1].requests() > before).await;
    let tally = load.tally().await;
    assert_eq!(tally.keys().collect::<Vec<_>>(), ["a"], "{tally:?}");
}

#[actix_web::test]
async fn changing_the_served_model_changes_the_rewritten_name() {
    let network = Network::new();
    let engine = network.engine(10, "base").await;
    let renamed = network.model_server_yaml("s", "renamed", &[10], "");
    network.model_server("s", "base", &[10]);
    network.write("route.yaml", &route_yaml("r", "m", "s"));
    let harness = network.start(&[]).await;
    let forwarded = async || {
        harness.complete("m").await;
        serde_json::from_slice::<Value>(&engine.last_request().unwrap().body).unwrap()["model"].clone()
    };
    assert_eq!(forwarded().await, "base");
    harness.write("server-s.yaml", &renamed);
    harness.until("the new name is forwarded", async || forwarded().await == "renamed").await;
}

#[actix_web::test]
async fn removing_a_file_removes_its_objects() {
    let network = Network::new();
    let _engines = two_models(&network).await;
    network.write("route-a.yaml", &route_yaml("a", "first", "a"));
    network.write("route-b.yml", &route_yaml("b", "second", "b"));
    let harness = network.start(&[]).await;
    assert_eq!(harness.complete("first").await.status, 200);
    assert_eq!(harness.registry().await.objects["ModelRoute"], 2);

    harness.remove("route-a.yaml");
    harness.until("the route is gone", async || harness.complete("first").await.status == 404).await;
    assert_eq!(harness.registry().await.objects["ModelRoute"], 1);
    assert_eq!(harness.complete("second").await.answered_by(), "b");

    harness.remove("server-b.yaml");
    harness.until("the server is gone", async || harness.complete("second").await.status == 503).await;
    let objects = harness.registry().await.objects;
    assert_eq!((objects["ModelServer"], objects["Pod"]), (1, 1));
}

#[actix_web::test]
async fn files_that_change_nothing_make_no_plan() {
    let network = Network::new();
    let _engines = two_models(&network).await;
    network.write("route.yaml", &route_yaml("r", "m", "a"));
    let harness = network.start(&[]).await;
    let programmed = async || {
        let gateway = harness.dump("namespaces/default/gateways/default").await.json();
        gateway["status"]["conditions"][1]
            == json!({"type": "Programmed", "status": "True", "reason": "Programmed", "message": ""})
    };
    harness.until("the first plans are made", programmed).await;
    let before = harness.registry().await.generation;
    let loads = async || harness.metric("kthena_router_manifest_loads_total", &[]).await;
    let loads_before = loads().await;
    harness.write("notes.txt", "kind: ModelRoute");
    harness.write("route.yaml", &route_yaml("r", "m", "a"));
    harness.until("the directory is read", async || loads().await > loads_before).await;
    harness.write("route.yaml", &route_yaml("r", "m", "b"));
    harness.until("a change takes effect", async || harness.complete("m").await.answered_by() == "b").await;
    assert_eq!(harness.registry().await.generation, before + 1, "one change makes one plan");
}

#[actix_web::test]
async fn parent_refs_are_for_routers_with_the_gateway_api() {
    let attached = route_yaml("attached", "attached", "a");
    let plain = attached.replace("attached", "plain").replace("  parentRefs: [{name: default}]\n", "");
    for (flag, serves, ignores) in
        [("--enable-gateway-api=false", "plain", "attached"), ("--enable-gateway-api=true", "attached", "plain")]
    {
        let network = Network::new();
        let _engines = two_models(&network).await;
        network.write("routes.yaml", &format!("{attached}{plain}"));
        network.write("gateway.yaml", &gateway_yaml("other", &[(8081, None)]));
        let harness = network.start(&[flag]).await;
        assert_eq!(harness.complete(serves).await.answered_by(), "a", "{flag}");
        let refused = harness.complete(ignores).await;
        assert_eq!(refused.status, 404, "{flag}: {}", refused.text());
        let ignored = harness.dump(&format!("namespaces/default/modelroutes/{ignores}")).await.json();
        let accepted = &ignored["status"]["conditions"][0];
        assert_eq!((&accepted["type"], &accepted["status"]), (&json!("Accepted"), &json!("False")), "{flag}");
        assert!(accepted["message"].as_str().unwrap().contains("spec.parentRefs"), "{flag}: {accepted}");
        let gateways = harness.dump("gateways").await.json()["gateways"].as_array().unwrap().len();
        assert_eq!(
            (gateways, is_open(&harness, 8081)),
            if serves == "plain" { (0, false) } else { (2, true) },
            "{flag}"
        );
    }
}
