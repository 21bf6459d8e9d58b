//! Where objects come from: a directory of manifests or a cluster. Behind the watchers everything is the same.

use std::path::PathBuf;
use std::sync::Arc;

use actix::{Actor, Addr, Handler, Recipient};
use kthena_router::config::Config;
use kthena_router::for_each_kind;
use kthena_router::kinds;
use kthena_router::object::{Api, Kind, Reach};
use kthena_router::world::{Scope, WorldKind};
use tokio::sync::watch;
use uuid::Uuid;

use crate::control::cluster::{Cluster, ClusterError, ClusterKind, ClusterSource, Watch};
use crate::control::cluster_writer::{ClusterWriter, ReportTrouble};
use crate::control::leadership::{Candidacy, Leadership};
use crate::control::manifest_directory::{DirectorySource, ManifestAddress, ManifestDirectory};
use crate::control::overseer::Ward;
use crate::control::registry::{Observed, RouteRegistry};
use crate::control::watcher::{Source, Watcher};
use crate::ops::metrics::{Metrics, Text, WatchLabels};
use crate::router::StartError;

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A directory of manifests.
    Directory(PathBuf),
    /// A cluster.
    Cluster(Box<Cluster>),
}

/// The actors that bring objects, and who writes where they come from.
pub(crate) struct Sources {
    /// The actors to look after.
    pub(crate) wards: Vec<Ward>,
    /// The lists that make the world complete.
    pub(crate) lists: Vec<Scope>,
    /// Who writes to the API server.
    pub(crate) writer: Option<Addr<ClusterWriter>>,
    /// Who reads manifests, where there are any.
    pub(crate) manifests: Option<ManifestAddress>,
    /// Tells that the router stops, to whoever has something to give back.
    pub(crate) stopping: Arc<watch::Sender<bool>>,
}

/// What the watchers of a cluster are made with.
struct Watchers<'r> {
    cluster: &'r Cluster,
    config: &'r Config,
    registry: &'r Addr<RouteRegistry>,
    reports: Recipient<ReportTrouble>,
    metrics: &'r Arc<Metrics>,
    wards: Vec<Ward>,
    lists: Vec<Scope>,
}

impl Origin {
    /// Finds out where the objects come from that `config` tells to serve.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such directory, or nothing that leads to a cluster.
    pub async fn find(config: &Config) -> Result<Self, StartError> {
        match &config.manifests {
            Some(directory) => {
                std::fs::metadata(directory)
                    .map_err(|source| StartError::Manifests { path: directory.display().to_string(), source })?;
                Ok(Self::Directory(directory.clone()))
            }
            None => Ok(Self::Cluster(Box::new(Cluster::find(&config.cluster).await?))),
        }
    }

    /// Starts the watchers, and whatever they need.
    pub(crate) fn start(
        &self,
        config: &Config,
        registry: &Addr<RouteRegistry>,
        metrics: &Arc<Metrics>,
    ) -> Result<Sources, StartError> {
        match self {
            Self::Directory(directory) => Ok(from_directory(directory.clone(), registry, metrics)),
            Self::Cluster(cluster) => Ok(from_cluster(cluster, config, registry, metrics)?),
        }
    }
}

macro_rules! watchers {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        fn directory_watchers(
            source: &DirectorySource,
            registry: &Addr<RouteRegistry>,
            metrics: &Arc<Metrics>,
        ) -> Vec<Ward> {
            vec![$(watcher_of::<kinds::$kind>(source.clone(), registry.clone(), Arc::clone(metrics)),)*]
        }

        impl Watchers<'_> {
            /// Watches the kinds of everything that the router was told to serve.
            fn add_all(&mut self) -> Result<(), ClusterError> {
                $(if serves(self.config, Kind::$kind.api()) {
                    self.add::<kinds::$kind>()?;
                })*
                Ok(())
            }
        }
    };
}

for_each_kind!(watchers);

fn serves(config: &Config, api: Api) -> bool {
    match api {
        Api::Models => true,
        Api::GatewayApi => config.gateway_api(),
        Api::InferenceExtension => config.inference_extension(),
    }
}

fn from_directory(directory: PathBuf, registry: &Addr<RouteRegistry>, metrics: &Arc<Metrics>) -> Sources {
    let (sender, receiver) = watch::channel(None);
    let reader_metrics = Arc::clone(metrics);
    let manifests = ManifestAddress::default();
    let address = manifests.clone();
    let reader = Ward::replaceable(ManifestDirectory::NAME, move || {
        let reader = ManifestDirectory::new(directory.clone(), sender.clone(), &reader_metrics).start();
        address.lead_to(reader.clone());
        reader
    });
    let mut wards = vec![reader];
    wards.extend(directory_watchers(&DirectorySource(receiver), registry, metrics));
    let lists = Kind::ALL.iter().map(|kind| (*kind, None)).collect();
    Sources { wards, lists, writer: None, manifests: Some(manifests), stopping: Arc::default() }
}

fn from_cluster(
    cluster: &Cluster,
    config: &Config,
    registry: &Addr<RouteRegistry>,
    metrics: &Arc<Metrics>,
) -> Result<Sources, ClusterError> {
    let identity = config.cluster.pod_name.clone().unwrap_or_else(|| format!("kthena-router-{}", Uuid::new_v4()));
    let writer = ClusterWriter::new(cluster.writer()?, &identity, metrics).start();
    let stopping: Arc<watch::Sender<bool>> = Arc::default();
    let candidacy = Candidacy { client: cluster.writer()?, namespace: config.apis.pod_namespace.clone(), identity };
    let leadership = leadership(candidacy, &writer, Arc::clone(&stopping), Arc::clone(metrics));
    let mut watchers = Watchers {
        cluster,
        config,
        registry,
        reports: writer.clone().recipient(),
        metrics,
        wards: vec![Ward::spine(ClusterWriter::NAME, writer.clone()), leadership],
        lists: Vec::new(),
    };
    watchers.add_all()?;
    let Watchers { wards, lists, .. } = watchers;
    Ok(Sources { wards, lists, writer: Some(writer), manifests: None, stopping })
}

fn leadership(
    candidacy: Candidacy,
    writer: &Addr<ClusterWriter>,
    stopping: Arc<watch::Sender<bool>>,
    metrics: Arc<Metrics>,
) -> Ward {
    let writer = writer.clone().recipient();
    Ward::replaceable(Leadership::NAME, move || {
        Leadership::new(candidacy.clone(), writer.clone(), stopping.subscribe(), &metrics).start()
    })
}

impl Watchers<'_> {
    fn add<K: ClusterKind>(&mut self) -> Result<(), ClusterError>
    where
        RouteRegistry: Handler<Observed<K>>,
    {
        let fields = K::KIND.field_selector();
        let mut watches = Vec::new();
        for namespace in self.namespaces(K::KIND.reach()) {
            let label = Text::from(namespace.as_deref().unwrap_or_default());
            let labels = WatchLabels { kind: K::KIND.label(), namespace: label };
            let contact = self.metrics.cluster.watch_ages.get_or_create_owned(&labels);
            let client = self.cluster.watcher(&contact)?;
            watches.push(Watch { client, contact, namespace: namespace.clone(), fields });
            self.lists.push((K::KIND, namespace));
        }
        let silence = self.config.cluster.watch_silence_timeout;
        let source = ClusterSource::<K>::new(watches, silence, self.reports.clone());
        self.wards.push(watcher_of::<K>(source, self.registry.clone(), Arc::clone(self.metrics)));
        Ok(())
    }

    /// Returns the namespaces to watch, where none stands for all of them.
    fn namespaces(&self, reach: Reach) -> Vec<Option<Arc<str>>> {
        let listed = &self.config.cluster.watch_namespaces;
        let own = match reach {
            Reach::Cluster => return vec![None],
            Reach::Watched | Reach::WatchedAndOwn if listed.is_empty() => return vec![None],
            Reach::Watched => None,
            Reach::WatchedAndOwn => Some(&self.config.apis.pod_namespace),
        };
        let mut watched: Vec<Option<Arc<str>>> =
            listed.iter().chain(own).map(|namespace| Some(namespace.as_str().into())).collect();
        if own.is_some() {
            watched.sort_unstable();
            watched.dedup();
        }
        watched
    }
}

/// Makes a watcher that is started anew, with the same source, when it is dead.
fn watcher_of<K: WorldKind>(
    source: impl Source<K> + Clone + 'static,
    registry: Addr<RouteRegistry>,
    metrics: Arc<Metrics>,
) -> Ward
where
    RouteRegistry: Handler<Observed<K>>,
{
    Ward::replaceable(Watcher::<K>::name(), move || {
        Watcher::<K>::new(Box::new(source.clone()), registry.clone().recipient(), &metrics).start()
    })
}
