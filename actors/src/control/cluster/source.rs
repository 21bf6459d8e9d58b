//! The facts about objects of one kind, from the API server.
//!
//! kube's watcher lists and watches, follows bookmarks, and lists again when the API server has forgotten the version it
//! was at (410 Gone). Added to that: one object that cannot be read does not hold up the others, a kind that the API
//! server does not know is waited for, and a watch that has gone silent is given up for a new list.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;
use futures::StreamExt;
use futures::stream::{self, BoxStream, LocalBoxStream, SelectAll};
use kthena_router::kinds::Fault;
use kthena_router::manifest::from_json;
use kthena_router::object::ObjectKey;
use kthena_router::world::{Fact, Listing, WorldKind};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::resource;
use crate::control::cluster_writer::ReportTrouble;
use crate::control::watcher::Source;
use crate::ops::metrics::Age;

/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a kind that was there must be missing before its objects count as gone: an API server that starts may deny
/// for a moment to know a kind.
const BELIEVED_ABSENT: Duration = Duration::from_secs(10);
/// How many objects are listed at once: a few Pods of 10 kB make a page, not all of them.
const PAGE: u32 = 250;

/// A kind of object that is watched in a cluster.
pub trait ClusterKind: WorldKind + Resource + DeserializeOwned + Debug {}

impl<K: WorldKind + Resource + DeserializeOwned + Debug> ClusterKind for K {}

/// The facts about objects of one kind in a cluster.
#[derive(Clone)]
pub struct ClusterSource<K> {
    watches: Vec<Watch>,
    silence: Duration,
    writer: Recipient<ReportTrouble>,
    kind: PhantomData<fn() -> K>,
}

/// What is watched: a kind in one namespace or in all of them.
#[derive(Clone)]
pub struct Watch {
    /// The client of this watch alone.
    pub client: Client,
    /// When the API server last said something to that client.
    pub contact: Age,
    /// The namespace; all of them if absent.
    pub namespace: Option<Arc<str>>,
    /// The fields that objects must have to be watched, as a field selector; all objects if absent.
    pub fields: Option<&'static str>,
}

/// One watch at work.
struct Watching<K: ClusterKind> {
    watch: Watch,
    api: Api<DynamicObject>,
    events: BoxStream<'static, watcher::Result<Event<DynamicObject>>>,
    /// When the present stream of events began.
    began: Instant,
    /// The list that is arriving.
    listing: Listing<K::Stored>,
    /// Whether a list has arrived.
    listed: bool,
    /// Since when the API server denies to know the kind.
    denied: Option<Instant>,
    /// How many tries have failed since the last success.
    failures: u32,
    silence: Duration,
    writer: Recipient<ReportTrouble>,
}

impl<K: ClusterKind> ClusterSource<K> {
    /// Makes a source of these watches, each of which is given up when it is silent for `silence`.
    pub fn new(watches: Vec<Watch>, silence: Duration, writer: Recipient<ReportTrouble>) -> Self {
        Self { watches, silence, writer, kind: PhantomData }
    }
}

impl<K: ClusterKind> Source<K> for ClusterSource<K> {
    fn facts(&self) -> LocalBoxStream<'static, Fact<K::Stored>> {
        let watching = |watch: &Watch| Watching::<K>::new(watch.clone(), self.silence, self.writer.clone());
        let facts = self.watches.iter().map(watching).map(|watching| {
            let next = |mut watching: Watching<K>| async move { Some((watching.next().await, watching)) };
            stream::unfold(watching, next).boxed_local()
        });
        facts.collect::<SelectAll<_>>().boxed_local()
    }
}

impl<K: ClusterKind> Watching<K> {
    fn new(watch: Watch, silence: Duration, writer: Recipient<ReportTrouble>) -> Self {
        let (client, kind) = (watch.client.clone(), resource(K::KIND));
        let api = match &watch.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        Self {
            events: stream::pending().boxed(),
            began: Instant::now(),
            listing: empty(&watch),
            listed: false,
            denied: None,
            failures: 0,
            api,
            watch,
            silence,
            writer,
        }
        .begun()
    }

    fn begun(mut self) -> Self {
        self.restart();
        self
    }

    /// Begins again, with a list.
    fn restart(&mut self) {
        let mut config = watcher::Config::default().page_size(PAGE);
        if let Some(fields) = &self.watch.fields {
            config = config.fields(fields);
        }
        self.events = watcher(self.api.clone(), config).boxed();
        self.began = Instant::now();
    }

    /// Returns the next fact, however long it takes.
    async fn next(&mut self) -> Fact<K::Stored> {
        loop {
            let heard = self.watch.contact.elapsed().min(self.began.elapsed());
            let fact = match timeout(self.silence.saturating_sub(heard), self.events.next()).await {
                Err(_) if self.watch.contact.elapsed().min(self.began.elapsed()) < self.silence => None,
                Err(_) => {
                    warn!(kind = %K::KIND, silence = ?self.silence, "watch is silent, listing again");
                    self.restart();
                    None
                }
                Ok(None) => {
                    self.restart();
                    None
                }
                Ok(Some(Ok(event))) => self.absorb(event),
                Ok(Some(Err(error))) => self.fail(&error).await,
            };
            if let Some(fact) = fact {
                return fact;
            }
        }
    }

    fn absorb(&mut self, event: Event<DynamicObject>) -> Option<Fact<K::Stored>> {
        // That a list is about to be asked for is no success yet.
        if !matches!(event, Event::Init) {
            self.note_success();
        }
        match event {
            Event::Init => {
                self.listing = empty(&self.watch);
                None
            }
            Event::InitApply(object) => {
                let key = key(&object);
                match self.read(object) {
                    Some(object) => self.listing.objects.push((key, object)),
                    None => self.listing.unreadable.push(key),
                }
                None
            }
            Event::InitDone => {
                self.listed = true;
                Some(Fact::Resynced(std::mem::replace(&mut self.listing, empty(&self.watch))))
            }
            Event::Apply(object) => {
                let key = key(&object);
                self.read(object).map(|object| Fact::Applied(key, object))
            }
            Event::Delete(object) => Some(Fact::Deleted(key(&object))),
        }
    }

    /// Reads an object; one that cannot be read is reported, and whatever was known of it stays in use.
    fn read(&self, mut object: DynamicObject) -> Option<K::Stored> {
        let (key, uid) = (key(&object), object.uid().unwrap_or_default());
        // Nobody here asks who wrote which field, and the list of it is often the greater part of an object.
        object.metadata.managed_fields = None;
        let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
        object.data["metadata"] = metadata;
        match from_json::<K>(&object.data) {
            Ok(object) => Some(object.digest()),
            Err(Fault { path, message }) => {
                let message = format!("`{path}`: {message}");
                warn!(kind = %K::KIND, object = %key, message, "object cannot be read, it is left as it was");
                self.writer.do_send(ReportTrouble { kind: K::KIND, key, uid, reason: "Unreadable", message });
                None
            }
        }
    }

    /// Waits after a failure; returns a fact if it means that the kind does not exist.
    async fn fail(&mut self, error: &watcher::Error) -> Option<Fact<K::Stored>> {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        if status_code(error) == Some(404) {
            return self.wait_for_kind(pause).await;
        }
        self.tell(error);
        // The answer to a watch is read as events whatever its status is, and only a list tells that the kind is gone;
        // nor does kube list again when it is refused a watch, and not told in one, that its version is forgotten.
        let is_no_event = matches!(error, watcher::Error::WatchFailed(kube::Error::SerdeError(_)));
        if is_no_event || status_code(error) == Some(410) {
            self.restart();
        }
        self.denied = None;
        sleep(pause).await;
        None
    }

    /// Waits for a kind that the API server denies to know; returns a fact once that is believed.
    async fn wait_for_kind(&mut self, pause: Duration) -> Option<Fact<K::Stored>> {
        let is_first = self.denied.is_none();
        let since = *self.denied.get_or_insert_with(Instant::now);
        if is_first {
            info!(kind = %K::KIND, "the API server does not know this kind, waiting for it");
        }
        let is_news = if self.listed { since.elapsed() > BELIEVED_ABSENT } else { is_first };
        // What was watched is gone, and so is the version that a watch would go on from.
        self.restart();
        if is_news {
            self.listed = false;
            return Some(Fact::Absent);
        }
        sleep(pause).await;
        None
    }

    fn tell(&self, error: &watcher::Error) {
        if self.failures == 1 {
            warn!(kind = %K::KIND, %error, "watch failed, trying again");
        } else {
            debug!(kind = %K::KIND, %error, failures = self.failures, "watch failed again");
        }
    }

    fn note_success(&mut self) {
        if self.failures > 0 {
            info!(kind = %K::KIND, "watch works again");
        }
        (self.failures, self.denied) = (0, None);
    }
}

fn empty<S>(watch: &Watch) -> Listing<S> {
    Listing { namespace: watch.namespace.clone(), objects: Vec::new(), unreadable: Vec::new() }
}

fn key(object: &DynamicObject) -> ObjectKey {
    ObjectKey::of(&object.metadata)
}

/// Returns the HTTP status with which the API server refused.
fn status_code(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
