//! What an API server keeps, and what it remembers of the past.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

/// What an API server keeps.
#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<Place, Value>,
    /// What happened, oldest first; a version each.
    history: Vec<Happening>,
    /// The version of the last change.
    version: u64,
    /// The version up to which the history is forgotten.
    forgotten: u64,
    /// What each field manager applied last.
    pub(super) applied: BTreeMap<(Place, String), Value>,
    writes: Vec<Write>,
    requests: BTreeMap<(&'static str, &'static str), usize>,
    silent: BTreeSet<&'static str>,
    refused: BTreeMap<&'static str, u16>,
    /// How many of the next writes to a kind are to fail.
    failing: BTreeMap<&'static str, usize>,
    /// After which time without a change a watch is told that there was none.
    pub(super) bookmarks: Option<Duration>,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) plural: &'static str,
    /// Empty for objects outside of namespaces.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A write as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// `create`, or the kind of patch.
    pub(crate) verb: &'static str,
    pub(crate) place: Place,
    /// The subresource; empty for the object itself.
    pub(crate) subresource: String,
    pub(crate) manager: String,
    pub(crate) force: bool,
    pub(crate) body: Value,
}

/// A change of an object.
pub(super) struct Happening {
    pub(super) version: u64,
    pub(super) place: Place,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) verb: &'static str,
    /// The object afterwards, or before it was deleted.
    pub(super) object: Value,
    /// Whether watches are not told.
    silent: bool,
}

/// A kind of object.
pub(super) struct Resource {
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
}

const fn resource(kind: &'static str, api_version: &'static str, plural: &'static str, namespaced: bool) -> Resource {
    Resource { kind, api_version, plural, namespaced }
}

/// The kinds of object that the API server knows.
pub(super) const RESOURCES: [Resource; 10] = [
    resource("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", false),
    resource("Event", "events.k8s.io/v1", "events", true),
    resource("Gateway", "gateway.networking.k8s.io/v1", "gateways", true),
    resource("GatewayClass", "gateway.networking.k8s.io/v1", "gatewayclasses", false),
    resource("Lease", "coordination.k8s.io/v1", "leases", true),
    resource("ModelRoute", "networking.serving.volcano.sh/v1alpha1", "modelroutes", true),
    resource("ModelServer", "networking.serving.volcano.sh/v1alpha1", "modelservers", true),
    resource("Namespace", "v1", "namespaces", false),
    resource("Pod", "v1", "pods", true),
    resource("Service", "v1", "services", true),
];

/// Returns what is known of a kind.
pub(super) fn resource_of(kind: &str) -> &'static Resource {
    RESOURCES.iter().find(|resource| resource.kind == kind).unwrap_or_else(|| panic!("`{kind}` is a known kind"))
}

impl Place {
    /// Returns the place of an object, in the namespace `default` if it does not say.
    pub(crate) fn of(object: &Value) -> Self {
        let resource = resource_of(object["kind"].as_str().unwrap());
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
        Self { plural: resource.plural, namespace, name }
    }

    /// Returns the place with a name, which follows a namespace and a slash unless that is `default`.
    pub(crate) fn named(kind: &str, key: &str) -> Self {
        let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
        Self::of(&json!({"kind": kind, "metadata": {"namespace": namespace, "name": name}}))
    }
}

impl Store {
    pub(crate) fn find(&self, place: &Place) -> Option<&Value> {
        self.objects.get(place)
    }

    /// Returns the objects of a kind in a namespace, or all of them; only the one with a name if there is one.
    pub(crate) fn list(
        &self,
        plural: &'static str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> impl Iterator<Item = &Value> {
        let is_listed = move |place: &Place| {
            place.plural == plural
                && namespace.is_none_or(|namespace| place.namespace == namespace)
                && name.is_none_or(|name| place.name == name)
        };
        self.objects.iter().filter(move |(place, _)| is_listed(place)).map(|(_, object)| object)
    }

    /// Returns what happened after a version, but for what nobody is told.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &Happening> {
        self.history.iter().filter(move |happening| happening.version > version && !happening.silent)
    }

    /// Keeps an object as the new state of what is at a place; returns it with its new metadata.
    pub(crate) fn put(&mut self, place: Place, mut object: Value) -> Value {
        let before = self.objects.get(&place);
        let resource = resource_of(object["kind"].as_str().unwrap());
        object["apiVersion"] = resource.api_version.into();
        if resource.namespaced {
            object["metadata"]["namespace"] = place.namespace.as_str().into();
        }
        let (uid, generation) = match before {
            None => (format!("uid-{}", self.version + 1), 1),
            Some(before) => {
                if object.get("status").is_none()
                    && let Some(status) = before.get("status")
                {
                    object["status"] = status.clone();
                }
                let generation = before["metadata"]["generation"].as_u64().unwrap();
                let rises = object["spec"] != before["spec"];
                (before["metadata"]["uid"].as_str().unwrap().to_owned(), generation + u64::from(rises))
            }
        };
        object["metadata"]["uid"] = uid.into();
        object["metadata"]["generation"] = generation.into();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let verb = if before.is_none() { "ADDED" } else { "MODIFIED" };
        object = self.happen(verb, &place, object);
        self.objects.insert(place, object.clone());
        object
    }

    /// Deletes an object and returns it.
    pub(crate) fn delete(&mut self, place: &Place) -> Option<Value> {
        let object = self.objects.remove(place)?;
        self.applied.retain(|(applied, _), _| applied != place);
        Some(self.happen("DELETED", place, object))
    }

    fn happen(&mut self, verb: &'static str, place: &Place, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let silent = self.is_silent(place.plural);
        let happening = Happening { version: self.version, place: place.clone(), verb, object: object.clone(), silent };
        self.history.push(happening);
        object
    }

    /// Forgets what happened so far; a version of its own makes even the newest one known to others too old.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
        self.history.clear();
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn record(&mut self, write: Write) {
        self.writes.push(write);
    }

    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    pub(super) fn count(&mut self, verb: &'static str, plural: &'static str) {
        *self.requests.entry((verb, plural)).or_default() += 1;
    }

    pub(super) fn requests(&self, verb: &'static str, plural: &'static str) -> usize {
        self.requests.get(&(verb, plural)).copied().unwrap_or_default()
    }

    pub(super) fn silence(&mut self, plural: &'static str) {
        self.silent.insert(plural);
    }

    pub(super) fn is_silent(&self, plural: &str) -> bool {
        self.silent.contains(plural)
    }

    pub(super) fn refuse(&mut self, plural: &'static str, code: u16) {
        self.refused.insert(plural, code);
    }

    pub(super) fn fail_writes(&mut self, plural: &'static str, count: usize) {
        self.failing.insert(plural, count);
    }

    /// Returns whether a write is to fail, of which there is then one less.
    pub(super) fn fails(&mut self, plural: &str) -> bool {
        let left = self.failing.get_mut(plural).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    pub(super) fn allow(&mut self, plural: &'static str) {
        self.refused.remove(plural);
    }

    /// Returns the HTTP status with which every request for a kind is refused.
    pub(super) fn refusal(&self, plural: &str) -> Option<u16> {
        self.refused.get(plural).copied()
    }
}
