//! ClusterWriter: writes what the router has to say to the API server.
//!
//! # State
//! What is to be written, what was written lately, and whether this replica is the one that writes. It all comes back:
//! the registry derives what is to be written from the world.
//!
//! # Messages
//! In: [`DesireWrites`] from the registry, [`LeadershipChanged`] from Leadership, [`ReportTrouble`] from the sources
//! and the registry.
//! Out: requests to the API server.
//!
//! # Supervision
//! Part of the spine: its death ends the process.
//!
//! ```text
//! plan ──> wanted ──(leading, not in flight, not just written)──> API server ──> watch ──> plan: nothing to write
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, WrapFuture};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kthena_router::desired::{FIELD_MANAGER, Purpose, Target, Transition, Write, Writes, stamp};
use kthena_router::object::{Kind, ObjectKey};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::control::cluster::resource;
use crate::ops::metrics::{Metrics, WriteLabels};
use crate::ops::observe::Observe;
use crate::ops::vitals::Vitals;

/// How many writes may be in flight at once.
const AT_ONCE: usize = 16;
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often what is still wanted is looked at again; also the pause after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a write may go unobserved before it is written again.
const OBSERVED_WITHIN: Duration = Duration::from_secs(10);
/// How long a report waits for this replica to become the one that writes: somewhat longer than a lease lasts.
const REPORTED_WITHIN: Duration = Duration::from_secs(20);
/// The longest note of an Event, in bytes; the API server refuses notes over 1 kB.
const LONGEST_NOTE: usize = 1000;

/// Writes to one cluster.
pub struct ClusterWriter {
    client: Client,
    recorder: Recorder,
    leading: bool,
    wanted: Writes,
    written: BTreeMap<Target, Written>,
    /// What is about to be written.
    due: VecDeque<Target>,
    in_flight: BTreeSet<Target>,
    /// Writes that failed since the last look.
    failed: BTreeSet<Target>,
    /// Troubles that no Event tells of yet, and since when they are known.
    troubles: Vec<(Instant, ReportTrouble)>,
    vitals: Vitals,
}

/// What is to be written: everything, not a difference.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DesireWrites(pub Writes);

/// Whether this replica is the one that writes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LeadershipChanged(pub bool);

/// Something is wrong with an object or with what it stands for, and an Event is to tell.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReportTrouble {
    /// Its kind.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
    /// Its `metadata.uid`.
    pub uid: String,
    /// The reason of the Event.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

/// The writer's state.
#[derive(Clone, Debug, Serialize)]
pub struct WriterState {
    /// Whether this replica writes.
    pub leading: bool,
    /// The number of writes that are wanted.
    pub wanted: usize,
    /// The number of writes in flight.
    pub in_flight: usize,
}

struct Written {
    body: Value,
    /// The resource version that the write made; 0 when unknown.
    version: u64,
    at: Instant,
}

/// Why a write failed.
#[derive(Debug, Error)]
enum WriteError {
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the write is not an object")]
    Shape(#[from] serde_json::Error),
}

impl ClusterWriter {
    /// The actor's name.
    pub const NAME: &str = "ClusterWriter";

    /// Makes a writer that does not write until it leads; Events name `instance` as their author.
    pub fn new(client: Client, instance: &str, metrics: &Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            leading: false,
            wanted: Writes::new(),
            written: BTreeMap::new(),
            due: VecDeque::new(),
            in_flight: BTreeSet::new(),
            failed: BTreeSet::new(),
            troubles: Vec::new(),
            vitals: Vitals::new(Self::NAME, metrics),
        }
    }

    /// Lines up the wanted writes, all but those that were just written or have just failed, and starts the first.
    fn line_up(&mut self, context: &mut Context<Self>) {
        let is_due = |(target, write): &(&Target, &Write)| {
            !self.failed.contains(target) && !self.written.get(*target).is_some_and(|written| written.covers(write))
        };
        self.due = self.wanted.iter().filter(is_due).map(|(target, _)| target.clone()).collect();
        self.start_due(context);
    }

    /// Starts as many of the writes that are lined up as may be in flight.
    fn start_due(&mut self, context: &mut Context<Self>) {
        while self.leading && self.in_flight.len() < AT_ONCE {
            let Some(target) = self.due.pop_front() else { return };
            // What is wanted of a target in flight is looked at again when that has come back.
            if let (false, Some(write)) = (self.in_flight.contains(&target), self.wanted.get(&target).cloned()) {
                self.start(target, write, context);
            }
        }
    }

    fn start(&mut self, target: Target, write: Write, context: &mut Context<Self>) {
        self.in_flight.insert(target.clone());
        let request = perform(self.client.clone(), target.clone(), write.clone()).into_actor(self);
        context.spawn(request.map(move |outcome, writer, context| {
            writer.in_flight.remove(&target);
            writer.finish(target, write, outcome, context);
            writer.start_due(context);
        }));
    }

    fn finish(&mut self, target: Target, write: Write, outcome: Result<u64, WriteError>, context: &mut Context<Self>) {
        let _handling = self.vitals.handling("Written");
        let labels = |outcome| WriteLabels { kind: target.kind.label(), purpose: purpose(target.purpose), outcome };
        let writes = &self.vitals.metrics().cluster.api_writes;
        match outcome {
            Ok(version) => {
                writes.get_or_create(&labels("ok")).inc();
                debug!(kind = %target.kind, object = %target.key, purpose = purpose(target.purpose), "written");
                for transition in &write.transitions {
                    self.publish(&target, &write.uid, transition.clone(), context);
                }
                self.written.insert(target, Written { body: write.body, version, at: Instant::now() });
            }
            Err(error) => {
                writes.get_or_create(&labels("failed")).inc();
                // An object that is gone or was made anew is no failure; the watch will tell.
                let gone =
                    matches!(&error, WriteError::Api(kube::Error::Api(status)) if [404, 409].contains(&status.code));
                if !gone {
                    warn!(kind = %target.kind, object = %target.key, %error, "write failed, trying again");
                }
                self.failed.insert(target);
            }
        }
    }

    /// Publishes Events about the troubles that are known, if this replica is the one that does.
    fn tell_troubles(&mut self, context: &mut Context<Self>) {
        if !self.leading {
            return;
        }
        for (_, report) in std::mem::take(&mut self.troubles) {
            let target = Target { purpose: Purpose::Status, kind: report.kind, key: report.key };
            let transition = Transition { is_good: false, reason: report.reason.to_owned(), message: report.message };
            self.publish(&target, &report.uid, transition, context);
        }
    }

    /// Publishes an Event about an object.
    fn publish(&self, target: &Target, uid: &str, transition: Transition, context: &mut Context<Self>) {
        let (recorder, reference) = (self.recorder.clone(), reference(target.kind, &target.key, uid));
        let event = Event {
            type_: if transition.is_good { EventType::Normal } else { EventType::Warning },
            reason: transition.reason,
            note: Some(shortened(transition.message)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let published = async move { recorder.publish(&event, &reference).await }.into_actor(self);
        context.spawn(published.map(|outcome, _, _| {
            if let Err(error) = outcome {
                debug!(%error, "an Event was not published");
            }
        }));
    }
}

impl Written {
    /// Returns whether `write` is this one, derived from a state in which it was not observed yet.
    fn covers(&self, write: &Write) -> bool {
        self.at.elapsed() < OBSERVED_WITHIN && self.body == write.body && write.seen <= self.version
    }
}

async fn perform(client: Client, target: Target, write: Write) -> Result<u64, WriteError> {
    let Write { mut body, uid, .. } = write;
    let kind = resource(target.kind);
    let api: Api<DynamicObject> = if target.key.namespace.is_empty() {
        Api::all_with(client, &kind)
    } else {
        Api::namespaced_with(client, &target.key.namespace, &kind)
    };
    stamp(&mut body, &Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let name = &*target.key.name;
    let apply = PatchParams::apply(FIELD_MANAGER).force();
    let request = async {
        match target.purpose {
            Purpose::Create => {
                let object = serde_json::from_value(body)?;
                let create = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                Ok(Some(api.create(&create, &object).await?))
            }
            Purpose::Spec => Ok(Some(api.patch(name, &apply, &Patch::Apply(&body)).await?)),
            Purpose::Delete => delete(&api, name, &uid).await,
            Purpose::Status => Ok(Some(api.patch_status(name, &apply, &Patch::Apply(&body)).await?)),
        }
    };
    let written = timeout(WRITE_TIMEOUT, request).await.unwrap_or(Err(WriteError::Timeout))?;
    let version = written.and_then(|object: DynamicObject| object.metadata.resource_version);
    Ok(version.and_then(|version| version.parse().ok()).unwrap_or_default())
}

/// Deletes the object of this name if it is still the one with this uid.
async fn delete(api: &Api<DynamicObject>, name: &str, uid: &str) -> Result<Option<DynamicObject>, WriteError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
    api.delete(name, &DeleteParams::default().preconditions(preconditions)).await?;
    Ok(None)
}

fn reference(kind: Kind, key: &ObjectKey, uid: &str) -> ObjectReference {
    let kind = resource(kind);
    ObjectReference {
        api_version: Some(kind.api_version),
        kind: Some(kind.kind),
        name: Some(key.name.to_string()),
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// Cuts a note to what the API server takes.
fn shortened(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    note
}

const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Create => "create",
        Purpose::Spec => "spec",
        Purpose::Delete => "delete",
        Purpose::Status => "status",
    }
}

impl Actor for ClusterWriter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(LOOK_AGAIN, |writer, context| {
            writer.failed.clear();
            writer.troubles.retain(|(since, _)| since.elapsed() < REPORTED_WITHIN);
            writer.line_up(context);
        });
    }
}

impl Handler<DesireWrites> for ClusterWriter {
    type Result = ();

    fn handle(&mut self, DesireWrites(writes): DesireWrites, context: &mut Self::Context) {
        let _handling = self.vitals.handling("DesireWrites");
        self.written.retain(|target, _| writes.contains_key(target));
        self.wanted = writes;
        self.line_up(context);
    }
}

impl Handler<LeadershipChanged> for ClusterWriter {
    type Result = ();

    fn handle(&mut self, LeadershipChanged(leading): LeadershipChanged, context: &mut Self::Context) {
        let _handling = self.vitals.handling("LeadershipChanged");
        if self.leading != leading {
            info!(leading, wanted = self.wanted.len(), "leadership changed");
        }
        self.leading = leading;
        self.vitals.metrics().cluster.leading.set(i64::from(leading));
        self.tell_troubles(context);
        self.line_up(context);
    }
}

impl Handler<ReportTrouble> for ClusterWriter {
    type Result = ();

    fn handle(&mut self, report: ReportTrouble, context: &mut Self::Context) {
        let _handling = self.vitals.handling("ReportTrouble");
        // The first lists arrive before the lease is held; of what is older, the leader of that time has told.
        self.troubles.push((Instant::now(), report));
        self.tell_troubles(context);
    }
}

impl Handler<Observe<WriterState>> for ClusterWriter {
    type Result = MessageResult<Observe<WriterState>>;

    fn handle(&mut self, _: Observe<WriterState>, _: &mut Self::Context) -> Self::Result {
        let _handling = self.vitals.handling("Observe");
        MessageResult(WriterState { leading: self.leading, wanted: self.wanted.len(), in_flight: self.in_flight.len() })
    }
}
