//! Which statuses are to be written: those that differ from what a plan reports.

use std::sync::Arc;

use foldhash::HashMap;
use serde_json::{Value, json};

use super::render::{Rendered, has_foreign_entries};
use super::settle::settle;
use super::{Purpose, Target, Write, Writes};
use crate::controller::Controller;
use crate::for_each_kind;
use crate::gateway::class;
use crate::kinds;
use crate::object::{Kind, ObjectKey};
use crate::plan::Reports;
use crate::record::Record;
use crate::world::{Table, World};

/// Remembers which statuses are in order.
///
/// Large clusters have thousands of objects, and of all but a few neither the report nor the object differs from the
/// last look; comparing those is a thousand times less work than making their statuses.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The reports of the last look.
    reports: Arc<Reports>,
    /// The features of the last look, which classes tell of.
    features: Vec<&'static str>,
    /// For each object whose status was in order its resource version at the time.
    versions: HashMap<Kind, HashMap<ObjectKey, u64>>,
}

macro_rules! statuses {
    ($($kind:ident $name:literal in $table:ident {
        version: $version:literal, needs: $api:ident, reach: $reach:ident, only: $only:literal, reports: $reports:ident
    },)*) => {
        impl Settled {
            fn add_all(&mut self, world: &World, look: &Look<'_>, writes: &mut Writes) {
                $(statuses!(@add $reports, $kind, &world.$table, self, look, writes);)*
            }

            /// Forgets objects that are gone.
            fn forget(&mut self, world: &World) {
                for (kind, versions) in &mut self.versions {
                    match kind {
                        $(Kind::$kind => forget_gone(versions, &world.$table),)*
                    }
                }
            }
        }
    };
    (@add none, $kind:ident, $table:expr, $settled:expr, $look:expr, $writes:expr) => {};
    (@add $reports:ident, $kind:ident, $table:expr, $settled:expr, $look:expr, $writes:expr) => {
        for (key, report) in &$look.reports.$reports {
            if let Some(stored) = $table.find(key) {
                let known = $look.same || $look.last.$reports.get(key) == Some(report);
                let known = known && <kinds::$kind as Rendered>::is_settled_by_report($look.same_features);
                let object = Object { kind: Kind::$kind, key, record: kinds::$kind::record(stored) };
                let status = || kinds::$kind::status(stored, report, &$look.features);
                $settled.add(&object, known, status, $writes);
            }
        }
    };
}

for_each_kind!(statuses);

/// What is looked at.
struct Look<'l> {
    reports: &'l Reports,
    last: &'l Reports,
    /// Whether both are one.
    same: bool,
    features: Vec<&'static str>,
    /// Whether these are the features of the last look.
    same_features: bool,
}

/// An object whose status may have to be written.
struct Object<'o> {
    kind: Kind,
    key: &'o ObjectKey,
    record: &'o Record,
}

impl Settled {
    /// Adds the statuses that are not yet as they should be.
    pub(super) fn statuses(
        &mut self,
        world: &World,
        reports: &Arc<Reports>,
        controller: &Controller,
        writes: &mut Writes,
    ) {
        let features = class::features(world, &controller.addresses);
        let last = std::mem::replace(&mut self.reports, Arc::clone(reports));
        let same_features = self.features == features;
        self.features.clone_from(&features);
        let look = Look { reports, last: &last, same: Arc::ptr_eq(&last, reports), features, same_features };
        self.add_all(world, &look, writes);
        self.forget(world);
    }

    /// Adds a status unless it is in order; `known` tells that the object's report is that of the last look.
    fn add(&mut self, object: &Object<'_>, known: bool, status: impl FnOnce() -> Value, writes: &mut Writes) {
        let Object { kind, key, record } = *object;
        let versions = self.versions.entry(kind).or_default();
        // An object of a file has no status that could be written.
        if record.uid.is_empty() || known && versions.get(key) == Some(&record.resource_version) {
            return;
        }
        let (mut status, mut transitions) = (status(), Vec::new());
        if !settle(&mut status, record.status.as_deref(), &mut transitions) {
            // Without a version nothing would tell that someone changed the object.
            if record.resource_version > 0 {
                versions.insert(key.clone(), record.resource_version);
            }
            return;
        }
        versions.remove(key);
        let mut metadata = json!({"name": &*key.name, "uid": &*record.uid});
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(&*key.namespace);
        }
        if has_foreign_entries(&status) {
            // What others have in a list that can only be written as a whole must not be overwritten unseen.
            metadata["resourceVersion"] = json!(record.resource_version.to_string());
        }
        let body =
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "status": status});
        let target = Target { purpose: Purpose::Status, kind, key: key.clone() };
        writes.insert(target, Write { body, seen: record.resource_version, uid: Arc::clone(&record.uid), transitions });
    }
}

fn forget_gone<S>(versions: &mut HashMap<ObjectKey, u64>, table: &Table<S>) {
    if versions.len() > table.objects.len() {
        versions.retain(|key, _| table.find(key).is_some());
    }
}
