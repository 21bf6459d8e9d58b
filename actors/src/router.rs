//! The router as a whole: makes the cast and introduces its members to each other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, AsyncContext, Context};
use actix_web::dev::ServerHandle;
use gateway_api::experimental::gatewayclasses::GatewayClass;
use gateway_api::experimental::gateways::Gateway;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kthena_router::config::Config;
use kthena_router::kinds::{ModelRoute, ModelServer};
use kthena_router::plan::Controller;
use thiserror::Error;
use tokio::sync::watch;

use crate::access_logger::{AccessLog, AccessLogger, Output};
use crate::admin::Admin;
use crate::fleet::ListenerFleet;
use crate::manifest_directory::{DirectorySource, ManifestDirectory, ManifestKind};
use crate::metrics::Metrics;
use crate::overseer::{Overseer, Ward};
use crate::proxy::Serving;
use crate::published::{self, Reader};
use crate::registry::{Keeping, Observed, RouteRegistry};
use crate::tls::{self, TlsError};
use crate::upstream::Upstream;
use crate::watcher::Watcher;

/// A running router.
pub struct Router {
    /// Its overseer, which stops it.
    pub overseer: Addr<Overseer>,
    /// Its registry.
    pub registry: Addr<RouteRegistry>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    arbiters: Vec<Arbiter>,
    pages: Vec<ServerHandle>,
}

/// Why a router cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is nowhere to take objects from.
    #[error("serving from a cluster is not supported yet: use --manifests DIR")]
    NoSource,
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port of the router's own cannot be opened.
    #[error("port {port} of `{flag}` cannot be opened")]
    Port {
        /// The flag that sets the port.
        flag: &'static str,
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("the access log `{output}` cannot be opened")]
    AccessLog {
        /// What `--access-log-output` names.
        output: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process cannot be told to stop.
    #[error("signals cannot be received")]
    Signals {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An engine of the demo cannot start.
    #[error("no simulated engine can be started")]
    Engine(#[from] simulated_engine::EngineError),
    /// The manifests cannot be listed.
    #[error("the manifests in `{path}` cannot be read")]
    Manifests {
        /// What `--manifests` names.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Router {
    /// Starts a router in the current actix System.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] for what would also be wrong at every other try; ports of Gateways are tried again.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let Some(directory) = config.manifests.clone() else { return Err(StartError::NoSource) };
        std::fs::metadata(&directory)
            .map_err(|source| StartError::Manifests { path: directory.display().to_string(), source })?;
        let metrics = Metrics::new();
        let arbiters = vec![Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let [scheduling, scraping, logging] = [arbiters[0].handle(), arbiters[1].handle(), arbiters[2].handle()];
        let access_log = access_log(config)?;
        let upstream =
            Upstream::new(config.engines.connect_timeout, tls::client(config.engines.engine_ca_cert.as_deref())?);
        let (publisher, reader) = published::channel();
        let serving = serving(config, reader, upstream.clone(), access_log.clone(), &metrics)?;

        // The two need each other's address, and an address exists before its actor does.
        let (registry_context, fleet_context) = (Context::<RouteRegistry>::new(), Context::<ListenerFleet>::new());
        let (registry, fleet) = (registry_context.address(), fleet_context.address());
        fleet_context.run(ListenerFleet::new(serving, registry.downgrade().recipient()));
        let keeping = Keeping { scheduling, scraping, engines: config.engines.clone(), upstream };
        registry_context.run(RouteRegistry::new(
            controller(config),
            publisher,
            fleet.clone().recipient(),
            keeping,
            &metrics,
        ));

        let mut wards =
            vec![Ward::spine(RouteRegistry::NAME, registry.clone()), Ward::spine(ListenerFleet::NAME, fleet.clone())];
        wards.extend(watchers(directory, &registry, &metrics));
        wards.extend(access_log.clone().map(|log| access_logger(log, config, logging, &metrics)));
        let overseer = Overseer::new(wards, config.drain.clone(), fleet.recipient(), access_log, &metrics).start();
        let admin = Admin { metrics: Arc::clone(&metrics), overseer: overseer.clone(), registry: registry.clone() };
        let pages = open_pages(&admin, config)?;
        Ok(Self { overseer, registry, metrics, arbiters, pages })
    }

    /// Ends the router's threads and pages at once; for a process that goes on without it.
    pub async fn end(self) {
        for page in self.pages {
            page.stop(false).await;
        }
        for arbiter in self.arbiters {
            arbiter.stop();
        }
    }
}

/// Returns the way to the access logger, unless there is no access log; its output must be one that can be opened.
fn access_log(config: &Config) -> Result<Option<AccessLog>, StartError> {
    if !config.access_log.access_log_enabled {
        return Ok(None);
    }
    let output = config.access_log.access_log_output.clone();
    match Output::open(&output) {
        Ok(_) => Ok(Some(AccessLog::default())),
        Err(source) => Err(StartError::AccessLog { output, source }),
    }
}

fn access_logger(log: AccessLog, config: &Config, arbiter: ArbiterHandle, metrics: &Arc<Metrics>) -> Ward {
    let (output, metrics) = (config.access_log.access_log_output.clone(), Arc::clone(metrics));
    Ward::replaceable(AccessLogger::NAME, move || {
        let (output, metrics) = (output.clone(), Arc::clone(&metrics));
        let logger = AccessLogger::start_in_arbiter(&arbiter, move |_| AccessLogger::new(output, &metrics));
        log.lead_to(logger.clone());
        logger
    })
}

fn serving(
    config: &Config,
    reader: Reader,
    upstream: Upstream,
    access_log: Option<AccessLog>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Serving>, StartError> {
    let server_tls = match (&config.listen.tls_cert, &config.listen.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::server(certificate, key)?),
        _ => None,
    };
    let cpus = || available_parallelism().map_or(1, usize::from);
    Ok(Arc::new(Serving {
        workers: config.listen.workers.map_or_else(cpus, usize::from),
        config: config.clone(),
        reader,
        upstream,
        server_tls,
        access_log,
        metrics: Arc::clone(metrics),
    }))
}

/// Returns what plans depend on of the router's options.
pub(crate) fn controller(config: &Config) -> Controller {
    Controller {
        gateway_api: config.gateway_api(),
        namespace: config.apis.pod_namespace.clone(),
        bind_address: config.listen.bind_address,
        port: config.listen.port,
        tls: config.listen.tls_cert.is_some(),
        trust_pods_without_conditions: config.manifests.is_some(),
    }
}

/// Starts the reader of the directory, and a watcher for each kind.
fn watchers(directory: std::path::PathBuf, registry: &Addr<RouteRegistry>, metrics: &Arc<Metrics>) -> Vec<Ward> {
    let (sender, receiver) = watch::channel(None);
    let source = DirectorySource(receiver);
    let reader_metrics = Arc::clone(metrics);
    let reader = Ward::replaceable(ManifestDirectory::NAME, move || {
        ManifestDirectory::new(directory.clone(), sender.clone(), &reader_metrics).start()
    });
    vec![
        reader,
        watcher::<GatewayClass>(&source, registry, metrics),
        watcher::<Gateway>(&source, registry, metrics),
        watcher::<ModelRoute>(&source, registry, metrics),
        watcher::<ModelServer>(&source, registry, metrics),
        watcher::<Namespace>(&source, registry, metrics),
        watcher::<Pod>(&source, registry, metrics),
    ]
}

fn watcher<K: ManifestKind>(source: &DirectorySource, registry: &Addr<RouteRegistry>, metrics: &Arc<Metrics>) -> Ward
where
    RouteRegistry: actix::Handler<Observed<K>>,
{
    let (source, registry, metrics) = (source.clone(), registry.clone(), Arc::clone(metrics));
    Ward::replaceable(Watcher::<K>::name(), move || {
        Watcher::<K>::new(Box::new(source.clone()), registry.clone().recipient(), &metrics).start()
    })
}

fn open_pages(admin: &Admin, config: &Config) -> Result<Vec<ServerHandle>, StartError> {
    let (metrics_port, debug_port) = (config.listen.metrics_port, config.listen.debug_port);
    let port = |flag, port| move |source| StartError::Port { flag, port, source };
    let address = SocketAddr::new(config.listen.bind_address, metrics_port);
    Ok(vec![
        admin.serve_metrics(address).map_err(port("--metrics-port", metrics_port))?,
        admin.serve_debug(debug_port).map_err(port("--debug-port", debug_port))?,
    ])
}
