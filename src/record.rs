//! The API server's own records of an object, beside what the object asks for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

/// The records of one object. Nothing of them decides about requests; they are what a status is written with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The object's `metadata.uid`; empty for an object of a file.
    pub uid: Arc<str>,
    /// The object's `metadata.generation`, which rises with each change of its spec; 0 for an object of a file.
    pub generation: i64,
    /// When the object was created, in seconds since the epoch; 0 when unknown, as in a file.
    pub created: i64,
    /// The object's `metadata.resourceVersion`, which rises with each change of it; 0 when unknown.
    ///
    /// Source: Kubernetes API concepts, "Resource versions": those of one kind can be compared as numbers.
    pub resource_version: u64,
    /// The status that the object has now.
    pub status: Option<Arc<Value>>,
}

/// The effect of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing that matters.
    Nothing,
    /// What the API server records of an object, its status for one, but not what the object asks for.
    Records,
    /// Something that plans depend on.
    Plan,
}

impl Record {
    /// Reads the records out of an object's metadata and status.
    pub fn of(metadata: &ObjectMeta, status: Option<impl Serialize>) -> Self {
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            resource_version: metadata.resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap_or_default(),
            status: status.and_then(|status| serde_json::to_value(status).ok()).map(Arc::new),
        }
    }

    /// Returns what it changes that an object with the records `before` now has these.
    pub fn effect(&self, before: &Self) -> Effect {
        // An object of a file has no generation that would tell its versions apart.
        let same_spec = self.generation > 0 && (&self.uid, self.generation) == (&before.uid, before.generation);
        match same_spec {
            true if self == before => Effect::Nothing,
            true => Effect::Records,
            false => Effect::Plan,
        }
    }
}
