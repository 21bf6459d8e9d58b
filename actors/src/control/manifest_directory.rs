//! ManifestDirectory: reads a directory of Kubernetes YAML, again whenever a file in it changes.
//!
//! # State
//! For each file its text, the objects of its last good text, and what is wrong with its present one. It is rebuilt by
//! reading the directory.
//!
//! # Messages
//! In: [`FilesChanged`] from the file system and on SIGHUP. Out: all objects, to the watchers' [`DirectorySource`]s.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one.
//!
//! Changes are told by the file system; since some file systems tell nothing, the directory is also looked at each
//! second. When a change is read, says [`Settling`]. Of a file that goes on being written the last good objects stay in use,
//! and so they do of one that is empty.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, WrapFuture};
use arc_swap::ArcSwapOption;
use futures::StreamExt;
use futures::stream::{self, LocalBoxStream};
use kthena_router::manifest::{Due, Object, Settling};
use kthena_router::world::{Fact, Listing, WorldKind};
use kthena_router::{for_each_kind, kinds};
use notify::RecommendedWatcher;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::control::files_changed::{FilesChanged, watch as watch_files};
use crate::control::watcher::Source;
use crate::ops::metrics::Metrics;
use crate::ops::vitals::Vitals;
use files::{Files, fingerprint, is_manifest, is_same, merge, read_files};

pub use files::list;

mod files;

/// How often the directory is looked at while something may have changed.
const LOOK: Duration = Duration::from_millis(25);
/// How often the directory is looked at without being told.
const POLL: Duration = Duration::from_secs(1);

/// The objects of all files, once the directory was read.
pub type Objects = Option<Arc<Vec<Object>>>;

/// Reads one directory.
pub struct ManifestDirectory {
    path: PathBuf,
    files: Files,
    settling: Settling,
    objects: watch::Sender<Objects>,
    watcher: Option<RecommendedWatcher>,
    /// Whether a look is about to be taken.
    is_looking: bool,
    /// The number of readings that were started, and the latest of them that was published.
    started: u64,
    published: u64,
    vitals: Vitals,
}

/// The facts about objects of one kind in a directory.
#[derive(Clone, Debug)]
pub struct DirectorySource(pub watch::Receiver<Objects>);

/// A kind that manifests may hold.
pub trait ManifestKind: WorldKind {
    /// Returns the object if it is of this kind.
    fn select(object: &Object) -> Option<&Self>;
}

/// The way to the reader of the moment.
#[derive(Clone, Default)]
pub struct ManifestAddress(Arc<ArcSwapOption<Addr<ManifestDirectory>>>);

impl ManifestAddress {
    /// Leads to this reader from now on.
    pub fn lead_to(&self, reader: Addr<ManifestDirectory>) {
        self.0.store(Some(Arc::new(reader)));
    }

    /// Has the manifests read again.
    pub fn read_again(&self) {
        if let Some(reader) = self.0.load().as_ref() {
            reader.do_send(FilesChanged);
        }
    }
}

impl ManifestDirectory {
    /// The actor's name.
    pub const NAME: &str = "ManifestDirectory";

    /// Makes a reader of the directory at `path` that gives what it finds to `objects`.
    pub fn new(path: PathBuf, objects: watch::Sender<Objects>, metrics: &Arc<Metrics>) -> Self {
        Self {
            path,
            files: Files::new(),
            settling: Settling::default(),
            objects,
            watcher: None,
            is_looking: false,
            started: 0,
            published: 0,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Looks whether files are there that were not, or are not as they were, and reads them when it is time to.
    fn look(&mut self, context: &mut Context<Self>) {
        let path = self.path.clone();
        let found = spawn_blocking(move || fingerprint(&path)).into_actor(self);
        context.spawn(found.map(|found, directory, context| match found {
            Ok(Ok(found)) => {
                let now = Instant::now();
                directory.settling.compare(found, now);
                match directory.settling.due(!directory.files.is_empty(), now) {
                    Due::Nothing => {}
                    Due::Look => directory.look_soon(context),
                    Due::Read(unfinished) => directory.read(unfinished, context),
                }
            }
            Ok(Err(error)) => error!(path = %directory.path.display(), %error, "manifest directory cannot be listed"),
            Err(error) => error!(%error, "manifest directory was not listed"),
        }));
    }

    fn look_soon(&mut self, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.is_looking, true) {
            context.run_later(LOOK, |directory, context| {
                directory.is_looking = false;
                directory.look(context);
            });
        }
    }

    fn read(&mut self, unfinished: BTreeSet<PathBuf>, context: &mut Context<Self>) {
        if !unfinished.is_empty() {
            self.look_soon(context);
        }
        self.started += 1;
        let (turn, path, known) = (self.started, self.path.clone(), self.files.clone());
        let read = spawn_blocking(move || read_files(&path, &known, &unfinished)).into_actor(self);
        context.spawn(read.map(move |files, directory, _| match files {
            // A reading that was overtaken saw an older state of the directory.
            Ok(Ok(_)) if turn < directory.published => {}
            Ok(Ok(files)) => {
                let is_first = std::mem::replace(&mut directory.published, turn) == 0;
                directory.publish(files, is_first);
            }
            Ok(Err(error)) => error!(path = %directory.path.display(), %error, "manifest directory cannot be read"),
            Err(error) => error!(%error, "manifest directory was not read"),
        }));
    }

    fn publish(&mut self, mut files: Files, is_first: bool) {
        let _handling = self.vitals.handling("Publish");
        let metrics = self.vitals.metrics();
        metrics.plans.manifest_loads.inc();
        let objects = merge(&mut files);
        if !is_first && is_same(&self.files, &files) {
            // Other files live in the directory, too, and some are written all the time.
            return;
        }
        let faults: usize = files.values().map(|file| file.faults.len()).sum();
        for (path, file) in &files {
            let known = self.files.get(path).map(|known| known.faults.as_slice()).unwrap_or_default();
            for fault in file.faults.iter().filter(|fault| !known.contains(fault)) {
                warn!(file = %path.display(), fault, "manifest has a fault");
            }
        }
        info!(files = files.len(), objects = objects.len(), faults, "manifests read");
        metrics.plans.manifest_faults.set(i64::try_from(faults).unwrap_or(i64::MAX));
        self.files = files;
        self.objects.send_replace(Some(Arc::new(objects)));
    }

    /// Asks the file system to tell of changes; where it cannot, looking each second has to do.
    fn watch(&self, context: &Context<Self>) -> Option<RecommendedWatcher> {
        let watcher = watch_files(&self.path, is_manifest, context.address().downgrade().recipient());
        watcher.inspect_err(|error| warn!(%error, "changes of manifests will be seen once a second only")).ok()
    }
}

impl Actor for ManifestDirectory {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.watcher = self.watch(context);
        self.look(context);
        context.run_interval(POLL, Self::look);
    }
}

impl Handler<FilesChanged> for ManifestDirectory {
    type Result = ();

    fn handle(&mut self, _: FilesChanged, context: &mut Self::Context) {
        let _handling = self.vitals.handling("FilesChanged");
        // Not only the fingerprint says so: a file can change twice within the resolution of its time stamp.
        self.settling.note_change(Instant::now());
        self.look_soon(context);
    }
}

impl<K: ManifestKind> Source<K> for DirectorySource {
    fn facts(&self) -> LocalBoxStream<'static, Fact<K::Stored>> {
        let mut receiver = self.0.clone();
        receiver.mark_changed();
        let states = stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let objects = receiver.borrow_and_update().clone();
            Some((objects, receiver))
        });
        let lists = states.filter_map(|objects| async move {
            let objects = objects?;
            let of_kind = objects.iter().filter_map(K::select);
            Some(Fact::Resynced(Listing::of_all(of_kind.map(|object| (object.key(), object.clone().digest())))))
        });
        lists.boxed_local()
    }
}

macro_rules! manifest_kinds {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        $(impl ManifestKind for kinds::$kind {
            fn select(object: &Object) -> Option<&Self> {
                if let Object::$kind(object) = object { Some(object.as_ref()) } else { None }
            }
        })*
    };
}

for_each_kind!(manifest_kinds);

#[cfg(test)]
mod tests;
