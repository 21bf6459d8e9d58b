//! The quickstart: simulated engines, a router in front of them, and what to try.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kthena_router::config::Config;
use kthena_router::kinds::ModelServer;
use kthena_router::manifest::{Object, read};
use kthena_router::object::ObjectKey;
use kthena_router::selector::has_all;
use kthena_router::world::{PodFacts, WorldKind};
use simulated_engine::{Dialect, Engine, EngineConfig, EngineError, start};

use crate::cli::Demo;
use crate::manifest_directory::list;
use crate::router::StartError;
use crate::serve::{complain, serve};

/// Where the quickstart's manifests are in a checkout.
const QUICKSTART: &str = "examples/quickstart";
/// The quickstart's manifests, for a program without its checkout.
const FILES: [(&str, &str); 3] = [
    ("1-engines.yaml", include_str!("../../examples/quickstart/1-engines.yaml")),
    ("2-gateways.yaml", include_str!("../../examples/quickstart/2-gateways.yaml")),
    ("3-routes.yaml", include_str!("../../examples/quickstart/3-routes.yaml")),
];
/// The namespace that the quickstart's routes expect the default Gateway in.
const NAMESPACE: &str = "kthena-system";

/// What the engines take to answer, so that streams look like streams.
const TIME_TO_FIRST_TOKEN: Duration = Duration::from_millis(50);
const TIME_PER_OUTPUT_TOKEN: Duration = Duration::from_millis(20);

/// Runs the demo until it is told to stop.
pub fn demo(mut options: Demo) -> ExitCode {
    let config = &mut options.config;
    if config.apis.pod_namespace == "default" {
        NAMESPACE.clone_into(&mut config.apis.pod_namespace);
    }
    let directory = match config.manifests.clone().map_or_else(quickstart, Ok) {
        Ok(directory) => directory,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    config.manifests = Some(directory.clone());
    let config = options.config;
    serve(&config, async {
        let engines = start_engines(&directory).await?;
        introduce(&config, &directory, &engines);
        Ok(engines)
    })
}

/// Returns the quickstart's directory; outside of a checkout it is written below the temporary directory.
fn quickstart() -> io::Result<PathBuf> {
    let checkout = Path::new(QUICKSTART);
    if checkout.is_dir() {
        return Ok(checkout.to_owned());
    }
    let directory = std::env::temp_dir().join("kthena-router-quickstart");
    std::fs::create_dir_all(&directory)?;
    for (name, text) in FILES {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(directory)
}

/// Starts an engine for each Pod of each ModelServer in the directory.
async fn start_engines(directory: &Path) -> Result<Vec<(ObjectKey, Engine)>, StartError> {
    let manifests = |source| StartError::Manifests { path: directory.display().to_string(), source };
    let mut servers: BTreeMap<ObjectKey, ModelServer> = BTreeMap::new();
    let mut pods: BTreeMap<ObjectKey, PodFacts> = BTreeMap::new();
    for file in list(directory).map_err(manifests)? {
        for located in read(&std::fs::read_to_string(&file).map_err(manifests)?).objects {
            match located.object {
                Object::ModelServer(server) => drop(servers.insert(WorldKind::key(server.as_ref()), *server)),
                Object::Pod(pod) => drop(pods.insert(pod.key(), pod.digest())),
                _ => {}
            }
        }
    }
    let mut engines = Vec::new();
    let mut failure = None;
    for (key, server) in &servers {
        let required = &server.spec.workload_selector.match_labels;
        let selected =
            pods.iter().filter(|(pod, facts)| pod.namespace == key.namespace && has_all(&facts.labels, required));
        for (pod, address) in selected.filter_map(|(pod, facts)| Some((pod, facts.address?))) {
            match start(engine_config(server, address)).await {
                Ok(engine) => engines.push((pod.clone(), engine)),
                Err(error) => failure = Some(note(pod, error)),
            }
        }
    }
    match failure {
        Some(error) if engines.is_empty() => Err(error.into()),
        _ => Ok(engines),
    }
}

fn engine_config(server: &ModelServer, address: IpAddr) -> EngineConfig {
    let model = server.spec.served_model().unwrap_or("simulated");
    EngineConfig {
        addresses: vec![address],
        ports: vec![server.spec.workload_port.port],
        dialect: match server.spec.inference_engine {
            kthena_router::kinds::model_server::InferenceEngine::Sglang => Dialect::Sglang,
            kthena_router::kinds::model_server::InferenceEngine::Vllm => Dialect::Vllm,
        },
        time_to_first_token: TIME_TO_FIRST_TOKEN,
        time_per_output_token: TIME_PER_OUTPUT_TOKEN,
        ..EngineConfig::new(model)
    }
}

fn note(pod: &ObjectKey, error: EngineError) -> EngineError {
    drop(writeln!(io::stderr(), "engine of Pod {pod} does not run:"));
    complain(&error);
    error
}

/// Says what runs where, and what to try.
fn introduce(config: &Config, directory: &Path, engines: &[(ObjectKey, Engine)]) {
    let mut text = String::from("\nkthena-router demo\n\n  engines (simulated)\n");
    for (pod, engine) in engines {
        for address in engine.addresses() {
            text += &format!("    {address:<22} Pod {pod}\n");
        }
    }
    let (port, metrics, debug) = (config.listen.port, config.listen.metrics_port, config.listen.debug_port);
    let completion = |port: u16| {
        format!(
            "  curl -s http://127.0.0.1:{port}/v1/completions -H 'Content-Type: application/json' \
             -d '{{\"model\": \"deepseek-r1\", \"prompt\": \"What is Kubernetes?\", \"max_tokens\": 100, \"temperature\": 0}}'\n"
        )
    };
    let manifests = directory.display();
    text += &format!(
        "\n  router\n    127.0.0.1:{port:<12} Gateway {namespace}/default\n    127.0.0.1:8081         Gateway default/kthena-gateway-8081\n    \
         127.0.0.1:{metrics:<12} /metrics /readyz\n    127.0.0.1:{debug:<12} /debug/actors /debug/config_dump/modelroutes\n\n\
         Two Gateways, one model name, two different models:\n\n{first}{second}\n\
         What this Gateway serves, and a stream:\n\n  curl -s http://127.0.0.1:{port}/v1/models\n  \
         curl -sN http://127.0.0.1:{port}/v1/chat/completions -H 'Content-Type: application/json' \
         -d '{{\"model\": \"deepseek-r1\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hi\"}}]}}'\n\n\
         Edit {manifests}/3-routes.yaml and ask again. Requests are logged below; Ctrl-C stops.\n\n",
        namespace = config.apis.pod_namespace,
        first = completion(port),
        second = completion(8081),
    );
    drop(io::stdout().write_all(text.as_bytes()));
}
