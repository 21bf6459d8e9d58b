//! Which statuses are to be written: those that differ from what a plan reports.

use std::sync::Arc;

use foldhash::HashMap;
use serde_json::{Value, json};

use super::settle::settle;
use super::{Purpose, Target, Write, Writes, render};
use crate::controller::Controller;
use crate::gateway::class;
use crate::object::{Kind, ObjectKey};
use crate::plan::Reports;
use crate::record::Record;
use crate::world::{Table, World};

/// What was found to be as it should be.
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
        let same = Arc::ptr_eq(&last, reports);
        let same_features = self.features == features;
        self.features.clone_from(&features);
        for (key, conditions) in &reports.classes {
            if let Some(class) = world.gateway_classes.find(key) {
                let known = same_features && (same || last.classes.get(key) == Some(conditions));
                let status = || render::class(conditions, class.record.generation, &features);
                self.add((Kind::GatewayClass, key, &class.record), known, status, writes);
            }
        }
        for (key, report) in &reports.gateways {
            if let Some(gateway) = world.gateways.find(key) {
                let known = same || last.gateways.get(key) == Some(report);
                self.add(
                    (Kind::Gateway, key, &gateway.record),
                    known,
                    || render::gateway(report, &gateway.record),
                    writes,
                );
            }
        }
        for (key, report) in &reports.listener_sets {
            if let Some(set) = world.listener_sets.find(key) {
                let known = same || last.listener_sets.get(key) == Some(report);
                self.add((Kind::ListenerSet, key, &set.record), known, || render::listener_set(report), writes);
            }
        }
        for (key, report) in &reports.http_routes {
            if let Some(route) = world.http_routes.find(key) {
                let known = same || last.http_routes.get(key) == Some(report);
                self.add((Kind::HttpRoute, key, &route.record), known, || render::http_route(route, report), writes);
            }
        }
        for (key, report) in &reports.policies {
            if let Some(policy) = world.backend_tls_policies.find(key) {
                let known = same || last.policies.get(key) == Some(report);
                let status = || render::policy(report, &policy.record);
                self.add((Kind::BackendTlsPolicy, key, &policy.record), known, status, writes);
            }
        }
        self.statuses_of_pools(world, reports, &last, writes);
        self.forget(world);
    }

    /// Adds the statuses of ModelRoutes and of what pools are made of; `last` are the reports of the last look.
    fn statuses_of_pools(&mut self, world: &World, reports: &Arc<Reports>, last: &Arc<Reports>, writes: &mut Writes) {
        let same = Arc::ptr_eq(last, reports);
        for (key, report) in &reports.inference_pools {
            if let Some(pool) = world.inference_pools.find(key) {
                let known = same || last.inference_pools.get(key) == Some(report);
                let status = || render::inference_pool(report, &pool.record);
                self.add((Kind::InferencePool, key, &pool.record), known, status, writes);
            }
        }
        for (key, report) in &reports.routes {
            if let Some(route) = world.model_routes.find(key) {
                let known = same || last.routes.get(key) == Some(report);
                self.add((Kind::ModelRoute, key, &route.record), known, || render::model_route(route, report), writes);
            }
        }
        for (key, report) in &reports.servers {
            if let Some(server) = world.model_servers.find(key) {
                let known = same || last.servers.get(key) == Some(report);
                self.add((Kind::ModelServer, key, &server.record), known, || render::model_server(report), writes);
            }
        }
    }

    /// Adds a status unless it is in order; `known` tells that the object's report is that of the last look.
    fn add(
        &mut self,
        (kind, key, record): (Kind, &ObjectKey, &Record),
        known: bool,
        status: impl FnOnce() -> Value,
        writes: &mut Writes,
    ) {
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
        if render::has_foreign_entries(&status) {
            // What others have in a list that can only be written as a whole must not be overwritten unseen.
            metadata["resourceVersion"] = json!(record.resource_version.to_string());
        }
        let body =
            json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "status": status});
        let target = Target { purpose: Purpose::Status, kind, key: key.clone() };
        writes.insert(target, Write { body, seen: record.resource_version, uid: Arc::clone(&record.uid), transitions });
    }

    /// Forgets objects that are gone.
    fn forget(&mut self, world: &World) {
        for (kind, versions) in &mut self.versions {
            match kind {
                Kind::GatewayClass => forget_gone(versions, &world.gateway_classes),
                Kind::Gateway => forget_gone(versions, &world.gateways),
                Kind::ListenerSet => forget_gone(versions, &world.listener_sets),
                Kind::HttpRoute => forget_gone(versions, &world.http_routes),
                Kind::BackendTlsPolicy => forget_gone(versions, &world.backend_tls_policies),
                Kind::InferencePool => forget_gone(versions, &world.inference_pools),
                Kind::ModelRoute => forget_gone(versions, &world.model_routes),
                _ => forget_gone(versions, &world.model_servers),
            }
        }
    }
}

fn forget_gone<S>(versions: &mut HashMap<ObjectKey, u64>, table: &Table<S>) {
    if versions.len() > table.objects.len() {
        versions.retain(|key, _| table.find(key).is_some());
    }
}
