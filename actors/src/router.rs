//! The router as a whole: makes the cast and introduces its members to each other.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, AsyncContext, Context};
use actix_web::dev::ServerHandle;
use kthena_router::config::Config;
use kthena_router::controller::Controller;
use kthena_router::object::ObjectKey;
use kthena_router::scheduling::config::SchedulerConfigError;
use kthena_router::scheduling::profiles::Profiles;
use kthena_router::world::World;
use kthena_router_downstream::Budget;
use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::control::cluster::ClusterError;
use crate::control::fleet::ListenerFleet;
use crate::control::manifest_directory::ManifestAddress;
use crate::control::overseer::{Farewell, Overseer, Ward};
use crate::control::redis_watch::RedisWatch;
use crate::control::registry::{Keeping, Publishers, RouteRegistry};
use crate::control::scheduler_file::{SchedulerFile, SchedulerFileAddress};
use crate::edge::listener::InferenceWorkers;
use crate::edge::proxy::Serving;
use crate::edge::tls::{self, TlsError, TlsReader};
use crate::memory::default_budget;
use crate::ops::access_logger::{AccessLog, AccessLogger, Output};
use crate::ops::admin::{Admin, scaler};
use crate::ops::metrics::Metrics;
use crate::origin::Origin;
use crate::pools::pool_keeper::Means;
use crate::pools::published::{self, Reader, Stopping};
use kthena_router_upstream::Upstream;

/// A running router.
pub struct Router {
    /// Its overseer, which stops it.
    pub overseer: Addr<Overseer>,
    /// Its registry.
    pub registry: Addr<RouteRegistry>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// What it opens and reads again when told to.
    pub reload: Reload,
    arbiters: Vec<Arbiter>,
    workers: InferenceWorkers,
    pages: Vec<ServerHandle>,
    /// Answers KEDA.
    scaler: Option<JoinHandle<()>>,
}

/// What a router opens and reads again when told to.
#[derive(Clone)]
pub struct Reload {
    access_log: Option<AccessLog>,
    manifests: Option<ManifestAddress>,
    scheduler: Option<SchedulerFileAddress>,
}

/// Why a router cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The cluster cannot be talked to.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
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
    /// The operators' pages cannot be served.
    #[error("the pages of metrics and debugging cannot be served")]
    Pages {
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
    /// The scheduler configuration cannot be read.
    #[error("the scheduler configuration `{path}` cannot be read")]
    SchedulerConfigFile {
        /// What `--scheduler-config` names.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The scheduler configuration cannot be used.
    #[error("the scheduler configuration `{path}` cannot be used")]
    SchedulerConfig {
        /// What `--scheduler-config` names.
        path: String,
        /// What is wrong with it.
        #[source]
        source: SchedulerConfigError,
    },
    /// The process cannot be told to stop.
    #[error("signals cannot be received")]
    Signals {
        /// Why.
        #[source]
        source: io::Error,
    },
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
    /// Starts a router in the current actix System, which takes its objects from `origin`.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] for what would also be wrong at every other try; ports of Gateways are tried again.
    pub fn start(config: &Config, origin: &Origin) -> Result<Self, StartError> {
        let access_log = access_log(config)?;
        let profiles = Arc::new(profiles(config)?);
        let metrics = Metrics::new();
        let engine_tls = tls::client(config.engines.engine_ca_cert.as_deref())?;
        let upstream = Upstream::new(config.engines.connect_timeout, Arc::clone(&engine_tls));
        let ((snapshot, reader), (tls_publisher, tls_reader)) = (published::channel(), tls::channel());
        let (connections, pages_reader) = (Stopping::default(), reader.clone());
        let serving = Arc::new(Serving {
            stopping: connections.clone(),
            ..serving(config, (reader.clone(), tls_reader), upstream, access_log.clone(), &metrics)?
        });
        // Whoever has taken a port is found before an actor runs that would have to be stopped.
        let sockets = PageSockets::open(config)?;
        let arbiters = vec![Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let [scheduling, scraping, logging] = [arbiters[0].handle(), arbiters[1].handle(), arbiters[2].handle()];
        let engines = config.engines.clone();
        let upstream = kthena_router_upstream::Upstream::new(engines.connect_timeout, engine_tls);
        let means = Means { scraping, engines, upstream, reports: None };

        // The two need each other's address, and an address exists before its actor does.
        let (registry_context, fleet_context) = (Context::<RouteRegistry>::new(), Context::<ListenerFleet>::new());
        let (registry, fleet) = (registry_context.address(), fleet_context.address());
        let workers = InferenceWorkers::start(serving.workers);
        fleet_context.run(ListenerFleet::new(serving, workers.clone(), registry.downgrade().recipient()));
        let sources = origin.start(config, &registry, &metrics)?;
        let keeping = Keeping { scheduling, means, profiles, waiting: config.flow.settings() };
        registry_context.run(RouteRegistry::new(
            (World::expecting(sources.lists), controller(config)),
            Publishers { snapshot, tls: tls_publisher },
            fleet.clone().recipient(),
            sources.writer.clone(),
            keeping,
            &metrics,
        ));

        let mut wards =
            vec![Ward::spine(RouteRegistry::NAME, registry.clone()), Ward::spine(ListenerFleet::NAME, fleet.clone())];
        wards.extend(sources.wards);
        wards.push(redis_watch(reader, config, &registry, &metrics));
        let scheduler = config.engines.scheduler_config.clone().map(|path| (path, SchedulerFileAddress::default()));
        wards.extend(scheduler.clone().map(|file| scheduler_file(file, &registry, &metrics)));
        wards.extend(access_log.clone().map(|log| access_logger(log, config, logging, &metrics)));
        let (drain, farewell) = (config.drain.clone(), Farewell { lease: sources.stopping, connections });
        let scheduler = scheduler.map(|(_, address)| address);
        let reload = Reload { access_log: access_log.clone(), manifests: sources.manifests, scheduler };
        let overseer = Overseer::new(wards, drain, fleet.recipient(), access_log, farewell, &metrics).start();
        let (writer, asked) = (sources.writer, registry.clone());
        let admin = Admin {
            metrics: Arc::clone(&metrics),
            overseer: overseer.clone(),
            registry: asked,
            writer,
            workers: workers.clone(),
            reader: pages_reader,
            bind_address: config.listen.bind_address,
        };
        let (pages, scaler) = sockets.serve(&admin)?;
        Ok(Self { overseer, registry, metrics, reload, arbiters, workers, pages, scaler })
    }
}

impl Drop for Router {
    /// Ends the router's pages and threads at once, for a process that goes on without it.
    fn drop(&mut self) {
        if let Some(scaler) = &self.scaler {
            scaler.abort();
        }
        for page in &self.pages {
            // The order is given by the call; whoever drops a router does not wait until it is carried out.
            drop(page.stop(false));
        }
        self.workers.stop();
        for arbiter in &self.arbiters {
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

fn redis_watch(reader: Reader, config: &Config, registry: &Addr<RouteRegistry>, metrics: &Arc<Metrics>) -> Ward {
    let (own, registry, metrics) = (config.redis.clone(), registry.clone().recipient(), Arc::clone(metrics));
    Ward::replaceable(RedisWatch::NAME, move || {
        RedisWatch::new(reader.clone(), own.clone(), registry.clone(), &metrics).start()
    })
}

fn scheduler_file(
    (path, address): (PathBuf, SchedulerFileAddress),
    registry: &Addr<RouteRegistry>,
    metrics: &Arc<Metrics>,
) -> Ward {
    let (registry, metrics) = (registry.clone().recipient(), Arc::clone(metrics));
    Ward::replaceable(SchedulerFile::NAME, move || {
        let reader = SchedulerFile::new(path.clone(), registry.clone(), &metrics).start();
        address.lead_to(reader.clone());
        reader
    })
}

fn serving(
    config: &Config,
    (reader, tls): (Reader, TlsReader),
    upstream: Upstream,
    access_log: Option<AccessLog>,
    metrics: &Arc<Metrics>,
) -> Result<Serving, StartError> {
    let server_tls = match (&config.listen.tls_cert, &config.listen.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::server(certificate, key)?),
        _ => None,
    };
    let budget = Budget::new(config.limits.max_buffered_bytes.unwrap_or_else(default_budget));
    metrics.edge.watch(&budget);
    let cpus = || available_parallelism().map_or(1, usize::from);
    Ok(Serving {
        stopping: Stopping::default(),
        workers: config.listen.workers.map_or_else(cpus, usize::from),
        budget,
        config: config.clone(),
        reader,
        upstream,
        holders: Arc::default(),
        server_tls,
        tls,
        access_log,
        metrics: Arc::clone(metrics),
    })
}

/// Reads how endpoints are rated, and warns of what the file asks for and does not get.
fn profiles(config: &Config) -> Result<Profiles, StartError> {
    let Some(path) = &config.engines.scheduler_config else { return Ok(Profiles::default()) };
    let file = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| StartError::SchedulerConfigFile { path: file(), source })?;
    let profiles = Profiles::parse(&text).map_err(|source| StartError::SchedulerConfig { path: file(), source })?;
    for warning in profiles.warnings() {
        warn!(file = file(), warning, "scheduler configuration is not followed in full");
    }
    Ok(profiles)
}

/// Returns what plans depend on of the router's options.
pub(crate) fn controller(config: &Config) -> Controller {
    Controller {
        addresses: config.addresses.provider(),
        gateway_api: config.gateway_api(),
        inference_extension: config.inference_extension(),
        prefer_builtin_picker: config.apis.prefer_builtin_picker,
        namespace: config.apis.pod_namespace.clone(),
        bind_address: config.listen.bind_address,
        port: config.listen.port,
        tls: config.listen.tls_cert.is_some(),
        trust_pods_without_conditions: config.manifests.is_some(),
        service: ObjectKey::new(&*config.apis.pod_namespace, &*config.cluster.service_name),
        profiles: BTreeSet::new(),
        sync_service_ports: config.cluster.sync_service_ports,
        provides: config.manifests.is_none(),
    }
}

/// The ports of the operators' pages.
struct PageSockets {
    metrics: TcpListener,
    debug: TcpListener,
    scaler: Option<TcpListener>,
}

impl PageSockets {
    fn open(config: &Config) -> Result<Self, StartError> {
        let open = |flag, address: IpAddr, port| {
            TcpListener::bind(SocketAddr::new(address, port)).map_err(|source| StartError::Port { flag, port, source })
        };
        let listen = &config.listen;
        Ok(Self {
            metrics: open("--metrics-port", listen.bind_address, listen.metrics_port)?,
            debug: open("--debug-port", Ipv4Addr::LOCALHOST.into(), listen.debug_port)?,
            scaler: (config.flow.scaler_port)
                .map(|port| open("--scaler-port", listen.bind_address, port))
                .transpose()?,
        })
    }

    fn serve(self, admin: &Admin) -> Result<(Vec<ServerHandle>, Option<JoinHandle<()>>), StartError> {
        let pages = |source| StartError::Pages { source };
        let scaler =
            self.scaler.map(|socket| scaler::serve(socket, admin.reader.clone())).transpose().map_err(pages)?;
        let metrics = admin.serve_metrics(self.metrics).map_err(pages)?;
        Ok((vec![metrics, admin.serve_debug(self.debug).map_err(pages)?], scaler))
    }
}

impl Reload {
    /// Opens the access log's file again, and reads the manifests and the scheduler's configuration again.
    pub fn reload(&self) {
        info!("told to open the access log and to read files again");
        if let Some(log) = &self.access_log {
            log.reopen();
        }
        if let Some(manifests) = &self.manifests {
            manifests.read_again();
        }
        if let Some(scheduler) = &self.scheduler {
            scheduler.read_again();
        }
    }
}
