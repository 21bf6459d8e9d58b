//! SchedulerFile: reads the file of `--scheduler-config` again whenever it changes.
//!
//! # State
//! The last text that was read, and one that is waited for to stay as it is. It is rebuilt by reading the file.
//!
//! # Messages
//! In: [`FilesChanged`] from the file system and on SIGHUP. Out: [`SetProfiles`] to the RouteRegistry, which publishes
//! the pickers.
//!
//! # Supervision
//! Started by the Overseer, which starts a fresh one in place of a dead one.
//!
//! Changes are told by the file system, for the whole directory, because editors and Kubernetes put another file in its
//! place; since some file systems tell nothing, the file is also read each second. A text is taken when it is read
//! twice alike, because a file that is being written is cut off. While a text cannot be used, the last good one stays
//! in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, WrapFuture};
use arc_swap::ArcSwapOption;
use kthena_router::scheduling::profiles::Profiles;
use notify::RecommendedWatcher;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::control::files_changed::{FilesChanged, watch};
use crate::control::registry::SetProfiles;
use crate::ops::metrics::{LoadLabels, Metrics};
use crate::ops::vitals::Vitals;

/// How long a text must stay as it is before it is taken.
const QUIET: Duration = Duration::from_millis(100);
/// How often the file is read without being told.
const POLL: Duration = Duration::from_secs(1);

/// Reads one configuration file.
pub struct SchedulerFile {
    path: PathBuf,
    /// The text that was read last; its fault, if it has one, was told.
    known: Option<Reading>,
    /// A text that is another one, until it is read again.
    pending: Option<Reading>,
    registry: Recipient<SetProfiles>,
    watcher: Option<RecommendedWatcher>,
    vitals: Vitals,
}

/// A text, or why there is none.
type Reading = Result<String, String>;

/// The way to the reader of the moment.
#[derive(Clone, Default)]
pub struct SchedulerFileAddress(Arc<ArcSwapOption<Addr<SchedulerFile>>>);

impl SchedulerFileAddress {
    /// Leads to this reader from now on.
    pub fn lead_to(&self, reader: Addr<SchedulerFile>) {
        self.0.store(Some(Arc::new(reader)));
    }

    /// Has the file read again.
    pub fn read_again(&self) {
        if let Some(reader) = self.0.load().as_ref() {
            reader.do_send(FilesChanged);
        }
    }
}

impl SchedulerFile {
    /// The actor's name.
    pub const NAME: &str = "SchedulerFile";

    /// Makes a reader of the file at `path`.
    pub fn new(path: PathBuf, registry: Recipient<SetProfiles>, metrics: &Arc<Metrics>) -> Self {
        let vitals = Vitals::new(Self::NAME, metrics);
        Self { path, known: None, pending: None, registry, watcher: None, vitals }
    }

    fn read(&mut self, context: &mut Context<Self>) {
        let path = self.path.clone();
        let read = spawn_blocking(move || std::fs::read_to_string(path)).into_actor(self);
        context.spawn(read.map(|read, file, context| {
            let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            file.take(read.map_err(|error| format!("the file cannot be read: {error}")), context);
        }));
    }

    /// Takes a text in, once it was read twice.
    fn take(&mut self, reading: Reading, context: &mut Context<Self>) {
        if self.known.as_ref() == Some(&reading) {
            self.pending = None;
        } else if self.pending.as_ref() == Some(&reading) {
            self.pending = None;
            self.follow(&reading);
            self.known = Some(reading);
        } else {
            self.pending = Some(reading);
            context.run_later(QUIET, Self::read);
        }
    }

    fn follow(&self, reading: &Reading) {
        let _handling = self.vitals.handling("Follow");
        let file = self.path.display().to_string();
        let parsed = reading.as_ref().map_err(Clone::clone).and_then(|text| parse(text, self.known.as_ref()));
        let outcome = if parsed.is_ok() { "ok" } else { "fault" };
        self.vitals.metrics().plans.scheduler_config_loads.get_or_create(&LoadLabels { outcome }).inc();
        match &parsed {
            Ok(profiles) => tell(&file, profiles),
            Err(fault) => warn!(file, fault, "scheduler configuration has a fault, the last good one stays in use"),
        }
        self.registry.do_send(SetProfiles(parsed.map(Arc::new)));
    }

    /// Asks the file system to tell of changes; where it cannot, reading each second has to do.
    fn watch(&self, context: &Context<Self>) -> Option<RecommendedWatcher> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        let name = self.path.file_name().map(ToOwned::to_owned);
        let is_it = move |path: &Path| path.file_name() == name.as_deref();
        let watcher = watch(directory, is_it, context.address().downgrade().recipient());
        watcher.inspect_err(|error| warn!(%error, "changes of the scheduler configuration will be seen late")).ok()
    }
}

fn tell(file: &str, profiles: &Profiles) {
    info!(file, profiles = profiles.names().len(), "scheduler configuration read");
    for warning in profiles.warnings() {
        warn!(file, warning, "scheduler configuration is not followed in full");
    }
}

/// Reads a text. One that is empty may be on its way to have a content, where there was one before.
fn parse(text: &str, before: Option<&Reading>) -> Result<Profiles, String> {
    let had_content = matches!(before, Some(Ok(before)) if !before.trim().is_empty());
    if text.trim().is_empty() && had_content {
        return Err("the file is empty".to_owned());
    }
    Profiles::parse(text).map_err(|error| error.to_string())
}

impl Actor for SchedulerFile {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.watcher = self.watch(context);
        self.read(context);
        context.run_interval(POLL, Self::read);
    }
}

impl Handler<FilesChanged> for SchedulerFile {
    type Result = ();

    fn handle(&mut self, _: FilesChanged, context: &mut Self::Context) {
        let _handling = self.vitals.handling("FilesChanged");
        self.read(context);
    }
}

#[cfg(test)]
crate::supervision_tests::panics_in_tests!(SchedulerFile, vitals);

#[cfg(test)]
mod tests;
