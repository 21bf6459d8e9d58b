//! The program as a process: its commands, its exit codes, and how it stops.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use awc::{Client, Connector};
use kthena_router_actors::edge::tls;
use serde_json::json;
use tempfile::TempDir;

use crate::changes::Puppet;
use crate::harness::{Answer, Network, PORT, client, free_port, gateway_yaml, read, route_with, route_yaml, until};
use crate::wire::{Wire, post};

pub(crate) const METRICS_PORT: u16 = 9090;

/// A process of the program; it does not outlive its test.
pub(crate) struct Process {
    pub(crate) child: Child,
    output: TempDir,
}

impl Process {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let output = TempDir::new().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kthena-router"))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(output.path())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// Starts a router on a network's manifests, and waits until it is ready.
    pub(crate) async fn serve(
        network: &Network,
        command: &[&str],
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let own = [
            format!("--manifests={}", network.directory().display()),
            format!("--bind-address={}", network.host(1)),
            format!("--debug-port={}", free_port(Ipv4Addr::LOCALHOST.into())),
            "--workers=1".to_owned(),
            format!("--pod-namespace={}", if command == ["demo"] { "kthena-system" } else { "default" }),
        ];
        let arguments: Vec<_> =
            command.iter().copied().chain(own.iter().map(String::as_str)).chain(flags.iter().copied()).collect();
        let process = Self::start(&arguments, environment);
        let ready =
            async || get(network.host(1), METRICS_PORT, "/readyz").await.is_some_and(|answer| answer.status == 200);
        until("the router is ready", ready).await;
        process
    }

    /// Runs a command to its end, and returns its exit code, what it printed, and its complaints.
    pub(crate) async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let mut process = Self::start(arguments, environment);
        (process.exit_code().await, process.printed("stdout"), process.printed("stderr"))
    }

    pub(crate) fn printed(&self, stream: &str) -> String {
        fs::read_to_string(self.output.path().join(stream)).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end; a process that was killed has no exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let child = std::cell::RefCell::new(&mut self.child);
        until("the process ends", async || child.borrow_mut().try_wait().unwrap().is_some()).await;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

/// Fetches a page, unless nobody answers.
pub(crate) async fn get(address: IpAddr, port: u16, path: &str) -> Option<Answer> {
    let url = format!("http://{}{path}", SocketAddr::new(address, port));
    Some(read(client().get(url).send().await.ok()?).await)
}

pub(crate) async fn complete(client: &Client, url: &str, model: &str) -> Option<Answer> {
    let body = json!({"model": model, "prompt": "What is Kubernetes?"}).to_string();
    let request = client.post(format!("{url}/v1/completions")).insert_header(("content-type", "application/json"));
    Some(read(request.send_body(body).await.ok()?).await)
}

/// Starts a router with an engine that the test plays, and a stream that has begun.
pub(crate) async fn streaming(flags: &[&str], environment: &[(&str, &str)]) -> (Network, Puppet, Process, Wire) {
    let network = Network::new();
    let puppet = Puppet::start(network.host(10)).await;
    network.model_server("a", "a", &[10]);
    network.write("route.yaml", &route_yaml("r", "m", "a"));
    let process = Process::serve(&network, &[], flags, environment).await;
    let mut stream = Wire::open_at(SocketAddr::new(network.host(1), PORT)).await;
    stream.send(post("/v1/completions", "", r#"{"model": "m", "prompt": "x", "stream": true}"#)).await;
    puppet.say("data: first\n\n");
    assert_eq!(stream.head().await.unwrap().status, 200);
    assert_eq!(stream.chunk().await.unwrap(), b"data: first\n\n");
    (network, puppet, process, stream)
}

fn is_open(address: IpAddr, port: u16) -> bool {
    TcpStream::connect((address, port)).is_ok()
}

#[actix_web::test]
async fn told_to_stop_it_refuses_the_new_and_finishes_the_old() {
    let (network, mut puppet, mut process, mut stream) = streaming(&["--drain-delay=2s"], &[]).await;
    process.signal("TERM");
    let readiness = async || get(network.host(1), METRICS_PORT, "/readyz").await.unwrap();
    until("it is not ready", async || readiness().await.status == 503).await;
    assert!(is_open(network.host(1), PORT), "load balancers get time to look elsewhere");
    let reason = readiness().await.text();
    assert!(reason.contains("[-] not draining: the router is stopping\n"), "{reason}");
    assert_eq!(get(network.host(1), METRICS_PORT, "/healthz").await.unwrap().status, 200, "it is not ill");
    until("the port is closed", async || !is_open(network.host(1), PORT)).await;
    puppet.say("data: second\n\n");
    assert_eq!(stream.chunk().await.unwrap(), b"data: second\n\n");
    assert!(process.child.try_wait().unwrap().is_none(), "it waits for the stream");
    puppet.say("data: last\n\n");
    puppet.finish();
    assert_eq!(stream.chunk().await.unwrap(), b"data: last\n\n");
    assert_eq!(stream.chunk().await.unwrap(), b"", "the stream ends in order");
    assert_eq!(process.exit_code().await, Some(0));
    let log = process.printed("stdout");
    assert!(log.contains("\"POST /v1/completions HTTP/1.1\" 200 model_name=m"), "{log}");
}

#[actix_web::test]
async fn a_second_signal_stops_it_at_once() {
    let (network, puppet, mut process, mut stream) = streaming(&[], &[]).await;
    process.signal("TERM");
    until("the port is closed", async || !is_open(network.host(1), PORT)).await;
    puppet.say("data: second\n\n");
    assert_eq!(stream.chunk().await.unwrap(), b"data: second\n\n");
    process.signal("INT");
    assert_eq!(process.exit_code().await, Some(1));
    assert!(stream.chunk().await.is_err(), "the client learns that the stream is not whole");
}

#[actix_web::test]
async fn what_runs_longer_than_the_drain_timeout_is_cut_off() {
    let (_network, _puppet, mut process, mut stream) = streaming(&[], &[("DRAIN_TIMEOUT", "1s")]).await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(stream.chunk().await.is_err(), "the client learns that the stream is not whole");
    let log = process.printed("stderr");
    assert!(log.contains("stopped before every request was finished cut_off=1"), "{log}");
}

#[actix_web::test]
async fn a_command_line_that_cannot_be_used_is_refused() {
    let contradictory = [
        "--manifests=.",
        "--tls-cert=a.pem",
        "--port=9090",
        "--max-inflight=0",
        "--enable-gateway-api=false",
        "--enable-gateway-api-inference-extension",
    ];
    let cases: [(&[&str], &[&str]); 7] = [
        (&[], &["--manifests DIR"]),
        (
            &contradictory,
            &[
                "`--tls-cert` and `--tls-key`",
                "`--port` and `--metrics-port` are both 9090",
                "`--max-inflight`",
                "`--enable-gateway-api-inference-extension` needs",
            ],
        ),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--manifests=.", "--drain-timeout=soon"], &["--drain-timeout"]),
        (&["no-such-command"], &["no-such-command"]),
        (&["engine"], &["--model"]),
        (&["check"], &["<PATH>"]),
    ];
    for (arguments, expected) in cases {
        let (code, printed, complaints) = Process::run(arguments, &[]).await;
        assert_eq!((code, printed.as_str()), (Some(64), ""), "{arguments:?}: {complaints}");
        for text in expected {
            assert!(complaints.contains(text), "{arguments:?} says `{text}`: {complaints}");
        }
    }
}

#[actix_web::test]
async fn what_is_wrong_at_the_start_is_said() {
    let network = Network::new();
    let _taken = std::net::TcpListener::bind((network.host(1), METRICS_PORT)).unwrap();
    let bind = format!("--bind-address={}", network.host(1));
    let cases: [(&[&str], &str); 3] = [
        (&["--manifests=no-such-directory"], "`no-such-directory` cannot be read"),
        (&["--manifests=.", &bind], "port 9090 of `--metrics-port` cannot be opened: "),
        (&["--manifests=.", "--tls-cert=no-such.pem", "--tls-key=no-such.key"], "`no-such.pem` cannot be read"),
    ];
    for (arguments, expected) in cases {
        let (code, _, complaints) = Process::run(arguments, &[]).await;
        assert_eq!(code, Some(1), "{arguments:?}: {complaints}");
        assert!(complaints.contains(expected), "{arguments:?}: {complaints}");
        assert!(!complaints.contains("panic"), "{arguments:?}: {complaints}");
    }
}

#[actix_web::test]
async fn version_help_and_crds_are_printed() {
    let version = format!("kthena-router {}\n", env!("CARGO_PKG_VERSION"));
    let cases: [(&str, &[&str]); 3] = [
        ("--version", &[&version]),
        (
            "--help",
            &[
                "Usage: kthena-router",
                "demo",
                "engine",
                "check",
                "crds",
                "--manifests",
                "KTHENA_MANIFESTS",
                "DRAIN_TIMEOUT",
            ],
        ),
        (
            "crds",
            &["name: modelroutes.networking.serving.volcano.sh", "name: modelservers.networking.serving.volcano.sh"],
        ),
    ];
    for (argument, expected) in cases {
        let (code, printed, complaints) = Process::run(&[argument], &[]).await;
        assert_eq!((code, complaints.as_str()), (Some(0), ""), "{argument}");
        for text in expected {
            assert!(printed.contains(text), "{argument} prints `{text}`: {printed}");
        }
        if argument == "crds" {
            assert_eq!(printed.matches("kind: CustomResourceDefinition").count(), 2, "{printed}");
        }
    }
}

pub(crate) fn quickstart() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart")
}

#[actix_web::test]
async fn an_engine_says_where_it_serves() {
    let mut process = Process::start(&["engine", "--port=0", "--model=m"], &[]);
    let url = || {
        process
            .printed("stdout")
            .strip_prefix("simulated engine on ")
            .and_then(|url| Some(url.strip_suffix('\n')?.to_owned()))
    };
    until("it prints its address", async || url().is_some()).await;
    let answer = complete(&client(), &url().unwrap(), "m").await.unwrap();
    assert_eq!(answer.answered_by(), "m");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

#[actix_web::test]
async fn the_demo_runs_the_quickstart() {
    let network = Network::new();
    let [first, second] = [10, 11].map(|host| format!("podIP: {}", network.host(host)));
    for entry in fs::read_dir(quickstart()).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap();
        let text = text.replace("podIP: 127.0.0.1", &first).replace("podIP: 127.0.0.2", &second);
        network.write(entry.file_name().to_str().unwrap(), &text);
    }
    let mut process = Process::serve(&network, &["demo"], &[], &[]).await;
    let introduction = process.printed("stdout");
    let engines =
        [(10, 18001, "deepseek-r1-1-5b-0"), (11, 18001, "deepseek-r1-1-5b-1"), (10, 18002, "deepseek-r1-7b-0")];
    for (host, port, pod) in engines {
        let line = format!("{:<22} Pod default/{pod}\n", format!("{}:{port}", network.host(host)));
        assert!(introduction.contains(&line), "`{line}` is printed: {introduction}");
    }
    let curls = introduction.lines().filter(|line| line.starts_with("  curl -s")).count();
    assert_eq!(curls, 4, "{introduction}");
    for (port, model) in [(PORT, "1.5B"), (8081, "7B")] {
        let answer = complete(&client(), &format!("http://{}:{port}", network.host(1)), "deepseek-r1").await.unwrap();
        assert_eq!(answer.answered_by(), format!("deepseek-ai/DeepSeek-R1-Distill-Qwen-{model}"));
    }
    process.signal("INT");
    assert_eq!(process.exit_code().await, Some(0));
    let log = process.printed("stdout");
    assert_eq!(log.lines().filter(|line| line.contains("\" 200 model_name=deepseek-r1 ")).count(), 2, "{log}");
}

#[actix_web::test]
async fn a_file_that_breaks_while_it_serves_is_logged_with_its_line() {
    let network = Network::new();
    network.write("broken.yaml", &route_yaml("r", "m", "a"));
    let process = Process::serve(&network, &[], &[], &[]).await;
    network.write("broken.yaml", &route_yaml("r", "m", "a").replace("rules:", "rules: none\n  other:"));
    let file = format!("file={}", network.directory().join("broken.yaml").display());
    let is_logged =
        |line: &str| line.contains(" WARN ") && line.contains(&file) && line.contains("line 7: spec.rules:");
    until("the fault is logged", async || process.printed("stderr").lines().any(is_logged)).await;
}

#[actix_web::test]
async fn a_certificate_makes_the_inference_port_speak_https() {
    let network = Network::new();
    let _engine = network.engine(10, "a").await;
    network.model_server("a", "a", &[10]);
    network.write("gateway.yaml", &gateway_yaml("plain", &[(8081, None)]));
    let plain = route_with("plain", "modelName: m", "plain", "- targetModels: [{modelServerName: a}]");
    network.write("routes.yaml", &(route_yaml("secure", "m", "a") + &plain));
    let pair = rcgen::generate_simple_self_signed([network.host(1).to_string()]).unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| network.directory().join(name));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let flags = [format!("--tls-cert={}", certificate.display()), format!("--tls-key={}", key.display())];
    let _process = Process::serve(&network, &[], &[&flags[0], &flags[1]], &[]).await;
    let connector = Connector::new().rustls_0_23(tls::client(Some(&certificate)).unwrap());
    let trusting = Client::builder().connector(connector).timeout(Duration::from_secs(20)).finish();
    let url = |scheme: &str, port: u16| format!("{scheme}://{}:{port}", network.host(1));
    let answer =
        complete(&trusting, &url("https", PORT), "m").await.expect("the certificate is the one that was given");
    assert_eq!(answer.answered_by(), "a");
    assert!(complete(&trusting, &url("http", PORT), "m").await.is_none(), "the inference port speaks https only");
    let answer = complete(&trusting, &url("http", 8081), "m").await.unwrap();
    assert_eq!(answer.answered_by(), "a", "Gateways' other ports are as they were");
}
