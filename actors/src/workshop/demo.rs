//! The quickstart: simulated engines, a router in front of them, and what to try.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kthena_router::config::Config;
use kthena_router::gateway::gateways::own_gateways;
use kthena_router::gateway::references::References;
use kthena_router::kinds::ModelServerSpec;
use kthena_router::kinds::model_server::InferenceEngine;
use kthena_router::manifest::read;
use kthena_router::object::ObjectKey;
use kthena_router::selector::has_all;
use kthena_router::world::World;
use simulated_engine::{Dialect, Engine, EngineConfig, EngineError, start};
use tempfile::TempDir;
use thiserror::Error;

use crate::control::manifest_directory::list;
use crate::router::{StartError, controller};
use crate::serve::{complain, serve};
use crate::workshop::cli::Demo;

/// Where the quickstart's manifests are in a checkout.
const QUICKSTART: &str = "examples/quickstart";
/// The quickstart's manifests, for a program without its checkout.
const FILES: [(&str, &str); 3] = [
    ("1-engines.yaml", include_str!("../../../examples/quickstart/1-engines.yaml")),
    ("2-gateways.yaml", include_str!("../../../examples/quickstart/2-gateways.yaml")),
    ("3-routes.yaml", include_str!("../../../examples/quickstart/3-routes.yaml")),
];

/// What the engines take to answer, so that streams look like streams.
const TIME_TO_FIRST_TOKEN: Duration = Duration::from_millis(50);
const TIME_PER_OUTPUT_TOKEN: Duration = Duration::from_millis(20);

/// No engine of the demo can start.
#[derive(Debug, Error)]
#[error("no simulated engine can be started")]
struct DemoError(#[source] EngineError);

/// Runs the demo until it is told to stop.
pub fn demo(mut options: Demo) -> ExitCode {
    let config = &mut options.config;
    if options.is_anywhere {
        // Whoever tries something out does not mean to serve the network; who does says so.
        config.listen.bind_address = Ipv4Addr::LOCALHOST.into();
    }
    // The files are removed at the end, if they were written for this run.
    let (directory, _files) = match config.manifests.clone().map_or_else(quickstart, |given| Ok((given, None))) {
        Ok(directory) => directory,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    config.manifests = Some(directory.clone());
    let config = options.config;
    serve(&config, async {
        let manifests = |source| StartError::Manifests { path: directory.display().to_string(), source };
        let world = world(&directory).map_err(manifests)?;
        let engines = start_engines(&world).await?;
        introduce(&config, &directory, &world, &engines);
        Ok(engines)
    })
}

/// Returns the quickstart's directory; outside of a checkout it is written to a directory of this run.
fn quickstart() -> io::Result<(PathBuf, Option<TempDir>)> {
    let checkout = Path::new(QUICKSTART);
    if checkout.is_dir() {
        return Ok((checkout.to_owned(), None));
    }
    let directory = TempDir::with_prefix("kthena-router-quickstart-")?;
    for (name, text) in FILES {
        std::fs::write(directory.path().join(name), text)?;
    }
    Ok((directory.path().to_owned(), Some(directory)))
}

/// Reads the directory's objects.
fn world(directory: &Path) -> io::Result<World> {
    let mut world = World::default();
    for file in list(directory)? {
        read(&std::fs::read_to_string(&file)?).objects.into_iter().for_each(|located| world.apply(located.object));
    }
    Ok(world)
}

/// Starts an engine for each Pod of each ModelServer.
async fn start_engines(world: &World) -> Result<Vec<(ObjectKey, Engine)>, DemoError> {
    let mut engines = Vec::new();
    let mut failure = None;
    for (key, server) in world.model_servers.iter() {
        let required = &server.spec.workload_selector.match_labels;
        if required.is_empty() {
            continue;
        }
        let selected =
            world.pods.iter().filter(|(pod, facts)| pod.namespace == key.namespace && has_all(&facts.labels, required));
        for (pod, address) in selected.filter_map(|(pod, facts)| Some((pod, facts.address?))) {
            match start(engine_config(&server.spec, address)).await {
                Ok(engine) => engines.push((pod.clone(), engine)),
                Err(error) => failure = Some(note(pod, error)),
            }
        }
    }
    match failure {
        Some(error) if engines.is_empty() => Err(DemoError(error)),
        _ => Ok(engines),
    }
}

fn engine_config(spec: &ModelServerSpec, address: IpAddr) -> EngineConfig {
    EngineConfig {
        addresses: vec![address],
        ports: spec.port().into_iter().collect(),
        dialect: match spec.inference_engine {
            InferenceEngine::Sglang => Dialect::Sglang,
            InferenceEngine::Vllm => Dialect::Vllm,
        },
        time_to_first_token: TIME_TO_FIRST_TOKEN,
        time_per_output_token: TIME_PER_OUTPUT_TOKEN,
        ..EngineConfig::new(spec.served_model().unwrap_or("simulated"))
    }
}

fn note(pod: &ObjectKey, error: EngineError) -> EngineError {
    drop(writeln!(io::stderr(), "engine of Pod {pod} does not run:"));
    complain(&error);
    error
}

/// Says what runs where, and what to try.
fn introduce(config: &Config, directory: &Path, world: &World, engines: &[(ObjectKey, Engine)]) {
    let mut text = String::from("\nkthena-router demo\n\n  engines (simulated)\n");
    for (pod, engine) in engines {
        for address in engine.addresses() {
            text += &format!("    {address:<22} Pod {pod}\n");
        }
    }
    let host = match config.listen.bind_address {
        address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address,
    };
    text += "\n  router\n";
    let mut ports = Vec::new();
    for gateway in own_gateways(world, &controller(config), &References::new(world)).gateways {
        for bind in gateway.listeners.iter().flat_map(|listener| &listener.binds) {
            let socket = SocketAddr::new(host, bind.port);
            text += &format!("    {:<22} Gateway {}\n", socket.to_string(), gateway.key);
            ports.push(socket);
        }
    }
    ports.sort();
    ports.dedup();
    let metrics = SocketAddr::new(host, config.listen.metrics_port).to_string();
    let debug = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), config.listen.debug_port).to_string();
    text +=
        &format!("    {metrics:<22} /metrics /readyz\n    {debug:<22} /debug/actors /debug/config_dump/modelroutes\n");
    let model = world.model_routes.iter().find_map(|(_, route)| route.model.as_deref()).unwrap_or("deepseek-r1");
    text += "\nOne model name on each Gateway; ask both:\n\n";
    for port in ports.iter().take(2) {
        text += &format!(
            "  curl -s http://{port}/v1/completions -H 'Content-Type: application/json' \
             -d '{{\"model\": \"{model}\", \"prompt\": \"What is Kubernetes?\", \"max_tokens\": 100}}'\n"
        );
    }
    if let Some(port) = ports.first() {
        text += &format!(
            "\nWhat a Gateway serves, and a stream:\n\n  curl -s http://{port}/v1/models\n  \
             curl -sN http://{port}/v1/chat/completions -H 'Content-Type: application/json' \
             -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hi\"}}]}}'\n"
        );
    }
    text += &format!(
        "\nEdit the files in {} and ask again. Requests are logged below; Ctrl-C stops.\n\n",
        directory.display()
    );
    drop(io::stdout().write_all(text.as_bytes()));
}
