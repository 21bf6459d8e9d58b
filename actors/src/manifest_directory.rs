//! ManifestDirectory: reads a directory of Kubernetes YAML, again whenever a file in it changes.
//!
//! # State
//! For each file its text, the objects of its last good text, and what is wrong with its present one. It is rebuilt by
//! reading the directory.
//!
//! # Messages
//! In: [`FilesChanged`] from the file system. Out: all objects, to the watchers' [`DirectorySource`]s.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one.
//!
//! Changes are told by the file system; since some file systems tell nothing, the directory is also looked at each
//! second.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use futures::StreamExt;
use futures::stream::{self, LocalBoxStream};
use kthena_router::manifest::{Object, read};
use kthena_router::object::{Kind, ObjectKey};
use kthena_router::world::{Fact, Listing, WorldKind};
use kthena_router::{for_each_kind, kinds};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::vitals::Vitals;
use crate::watcher::Source;

/// How long the directory must be quiet before it is read: an editor's several steps make one change.
const QUIET: Duration = Duration::from_millis(50);
/// How often the directory is looked at without being told.
const POLL: Duration = Duration::from_secs(1);

/// The objects of all files, once the directory was read.
pub type Objects = Option<Arc<Vec<Object>>>;

/// Reads one directory.
pub struct ManifestDirectory {
    path: PathBuf,
    files: Files,
    /// `None` before the first look: an empty directory has to be read, too.
    seen: Option<Fingerprint>,
    objects: watch::Sender<Objects>,
    watcher: Option<RecommendedWatcher>,
    /// Whether a reading is about to start.
    waiting: bool,
    /// The number of readings that were started, and the latest of them that was published.
    started: u64,
    published: u64,
    vitals: Vitals,
}

/// The files of a directory by name.
pub type Files = BTreeMap<PathBuf, ManifestFile>;

/// What is known of one file.
#[derive(Clone, Debug, Default)]
pub struct ManifestFile {
    /// `None` while it cannot be read.
    text: Option<Arc<str>>,
    objects: Arc<Vec<Object>>,
    /// What is wrong with the present text, each with its line.
    pub faults: Vec<String>,
}

/// When each file was last written, and how long it is.
type Fingerprint = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Something in the directory may have changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FilesChanged;

/// The facts about objects of one kind in a directory.
#[derive(Clone, Debug)]
pub struct DirectorySource(pub watch::Receiver<Objects>);

/// A kind that manifests may hold.
pub trait ManifestKind: WorldKind {
    /// Returns the object if it is of this kind.
    fn select(object: &Object) -> Option<&Self>;
}

impl ManifestDirectory {
    /// The actor's name.
    pub const NAME: &str = "ManifestDirectory";

    /// Makes a reader of the directory at `path` that gives what it finds to `objects`.
    pub fn new(path: PathBuf, objects: watch::Sender<Objects>, metrics: &Arc<Metrics>) -> Self {
        Self {
            path,
            files: Files::new(),
            seen: None,
            objects,
            watcher: None,
            waiting: false,
            started: 0,
            published: 0,
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        let path = self.path.clone();
        let fingerprint = spawn_blocking(move || fingerprint(&path)).into_actor(self);
        context.spawn(fingerprint.map(|found, directory, context| match found {
            Ok(Ok(fingerprint)) if directory.seen.as_ref() != Some(&fingerprint) => {
                directory.seen = Some(fingerprint);
                directory.read(context);
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => error!(path = %directory.path.display(), %error, "manifest directory cannot be listed"),
            Err(error) => error!(%error, "manifest directory was not listed"),
        }));
    }

    fn read_soon(&mut self, context: &mut Context<Self>) {
        // Later changes do not put it off: a file that is written all the time must be read some time.
        if !std::mem::replace(&mut self.waiting, true) {
            context.run_later(QUIET, Self::read);
        }
    }

    fn read(&mut self, context: &mut Context<Self>) {
        self.waiting = false;
        self.started += 1;
        let (turn, path, known) = (self.started, self.path.clone(), self.files.clone());
        let read = spawn_blocking(move || read_files(&path, &known)).into_actor(self);
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
        metrics.manifest_loads.inc();
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
        metrics.manifest_faults.set(i64::try_from(faults).unwrap_or(i64::MAX));
        self.files = files;
        self.objects.send_replace(Some(Arc::new(objects)));
    }

    /// Asks the file system to tell of changes; where it cannot, looking each second has to do.
    fn watch(&self, context: &Context<Self>) -> Option<RecommendedWatcher> {
        let address = context.address().downgrade();
        let tell = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event, too.
            let changed = event.is_ok_and(|event| !event.kind.is_access());
            if let Some(directory) = address.upgrade().filter(|_| changed) {
                directory.do_send(FilesChanged);
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .and_then(|mut watcher| watcher.watch(&self.path, RecursiveMode::NonRecursive).map(|()| watcher));
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
        // The fingerprint is not asked: a file can change twice within the resolution of its time stamp.
        self.read_soon(context);
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

/// Lists the manifests of a directory; a path that is a file is its own and only manifest.
pub fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        // Kubernetes mounts ConfigMaps by way of hidden directories, and editors keep hidden copies.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let manifest = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
        if manifest && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns whether files were read again and are as they were.
fn is_same(before: &Files, now: &Files) -> bool {
    let same = |before: &ManifestFile, now: &ManifestFile| {
        Arc::ptr_eq(&before.objects, &now.objects) && before.faults == now.faults
    };
    before.len() == now.len()
        && before.iter().zip(now).all(|((path, before), (other, now))| path == other && same(before, now))
}

fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let files = list(path)?.into_iter();
    Ok(files
        .filter_map(|file| {
            let metadata = std::fs::metadata(&file).ok()?;
            Some((file, (metadata.modified().ok(), metadata.len())))
        })
        .collect())
}

/// Reads the files of a directory; of a file that does not parse, the last good objects are kept.
pub fn read_files(path: &Path, known: &Files) -> io::Result<Files> {
    let read = |path: PathBuf| {
        let before = known.get(&path).cloned().unwrap_or_default();
        let file = match std::fs::read_to_string(&path) {
            Ok(text) if before.text.as_deref() == Some(&text) => before,
            Ok(text) => parse(&text, &before),
            Err(error) => ManifestFile { text: None, faults: vec![format!("file cannot be read: {error}")], ..before },
        };
        (path, file)
    };
    Ok(list(path)?.into_iter().map(read).collect())
}

fn parse(text: &str, before: &ManifestFile) -> ManifestFile {
    let manifest = read(text);
    let mut faults: Vec<_> = manifest.faults.iter().map(ToString::to_string).collect();
    let objects = if manifest.unreadable == 0 {
        Arc::new(manifest.objects.into_iter().map(|located| located.object).collect())
    } else {
        faults.push("the file's last good objects stay in use".to_owned());
        Arc::clone(&before.objects)
    };
    ManifestFile { text: Some(text.into()), objects, faults }
}

/// Returns the objects of all files; of those with one name the last is kept, and the others are faults.
fn merge(files: &mut Files) -> Vec<Object> {
    let mut owners: BTreeMap<(Kind, ObjectKey), (PathBuf, Object)> = BTreeMap::new();
    for (path, file) in files.iter_mut() {
        file.faults.retain(|fault| !fault.starts_with(DUPLICATE));
        for object in file.objects.iter() {
            let name = (object.kind(), object.key());
            if let Some((first, _)) = owners.insert(name, (path.clone(), object.clone())) {
                file.faults.push(format!(
                    "{DUPLICATE}: {} `{}` is also in {}; this one is used",
                    object.kind(),
                    object.key(),
                    first.display()
                ));
            }
        }
    }
    owners.into_values().map(|(_, object)| object).collect()
}

/// How faults begin that are not one file's alone.
const DUPLICATE: &str = "duplicate";
