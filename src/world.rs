//! The world as observed: one table for each kind of object, and what became of the sockets.
//!
//! Facts arrive in any order and are absorbed one by one; nothing is decided here. Each object is digested once, when it
//! is observed, so that [`plan`](crate::plan::plan) reads compiled routes and not raw ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use kube::Resource;

use crate::for_each_kind;
use crate::inference::health::Cause;
use crate::kinds::{self, ReferenceGrantSpec};
use crate::manifest::Object;
use crate::object::{Bind, BindState, Kind, ObjectKey, PoolKey};
use crate::pool::model_server::Server;
use crate::record::Effect;
use crate::routing::http::route::HttpRoute;
use crate::routing::models::route::Route;

pub use digests::{
    BOOTSTRAP_PORTS, BackendTlsPolicyFacts, Channel, ConfigMapFacts, CorsPolicy, DefinitionFacts, EndpointSliceFacts,
    GATEWAY_NAME, GatewayClassFacts, GatewayFacts, InferenceObjectiveFacts, InferencePoolFacts, ListenerSetFacts,
    MANAGED_BY, ModelRewriteFacts, PodFacts, ProvidedFacts, SecretFacts, ServiceFacts, ServicePort, SliceEndpoint,
    SlicePort,
};

mod digests;

/// Why endpoints are ejected, each named as its Pod and address.
pub type Ejected = BTreeMap<String, Cause>;

/// Everything the router knows.
#[derive(Debug, Default)]
pub struct World {
    /// The GatewayClasses.
    pub gateway_classes: Table<GatewayClassFacts>,
    /// The Gateways, of every class.
    pub gateways: Table<GatewayFacts>,
    /// The ListenerSets.
    pub listener_sets: Table<ListenerSetFacts>,
    /// The HTTPRoutes.
    pub http_routes: Table<Arc<HttpRoute>>,
    /// The BackendTLSPolicies.
    pub backend_tls_policies: Table<BackendTlsPolicyFacts>,
    /// The ReferenceGrants.
    pub reference_grants: Table<Arc<ReferenceGrantSpec>>,
    /// The ModelRoutes.
    pub model_routes: Table<Arc<Route>>,
    /// The ModelServers.
    pub model_servers: Table<Server>,
    /// The InferencePools.
    pub inference_pools: Table<InferencePoolFacts>,
    /// The InferenceObjectives.
    pub inference_objectives: Table<InferenceObjectiveFacts>,
    /// The InferenceObjectives of the former group.
    pub former_inference_objectives: Table<InferenceObjectiveFacts>,
    /// The InferenceModelRewrites.
    pub model_rewrites: Table<ModelRewriteFacts>,
    /// The InferenceModelRewrites of the former group.
    pub former_model_rewrites: Table<ModelRewriteFacts>,
    /// The labels of the Namespaces.
    pub namespaces: Table<BTreeMap<String, String>>,
    /// The Pods.
    pub pods: Table<PodFacts>,
    /// The Services.
    pub services: Table<ServiceFacts>,
    /// The EndpointSlices.
    pub endpoint_slices: Table<EndpointSliceFacts>,
    /// The Secrets of type `kubernetes.io/tls`.
    pub secrets: Table<SecretFacts>,
    /// The ConfigMaps, of which only certificates are kept.
    pub config_maps: Table<ConfigMapFacts>,
    /// The CustomResourceDefinitions.
    pub definitions: Table<DefinitionFacts>,
    /// What became of each socket that was asked for.
    pub binds: HashMap<Bind, BindState>,
    /// The endpoints that are ejected, by their pools.
    pub ejected: HashMap<PoolKey, Ejected>,
    /// The Redis servers of limits, as `host:port`, that do not answer.
    pub redis_away: BTreeSet<Arc<str>>,
    /// The addresses that the last plan gave to Gateways, which keep them.
    pub allocations: BTreeMap<ObjectKey, IpAddr>,
    /// The addresses of the names that ModelServers list; those that were not found are left out.
    pub names: BTreeMap<Arc<str>, IpAddr>,
    /// The lists that have not arrived yet.
    unsynced: BTreeSet<Scope>,
}

/// What a list covers: a kind, and the namespace that is listed; all of them if absent.
pub type Scope = (Kind, Option<Arc<str>>);

/// The objects of one kind.
#[derive(Debug)]
pub struct Table<S> {
    /// The objects in the order of their keys.
    pub objects: BTreeMap<ObjectKey, S>,
    /// Whether there is such a kind where the objects come from: the API server may lack its CustomResourceDefinition.
    pub known: bool,
}

/// Something observed about the objects of one kind.
#[derive(Clone, Debug)]
pub enum Fact<S> {
    /// A complete list; what else was known is gone, which heals everything that was missed.
    Resynced(Listing<S>),
    /// One object is new or has changed.
    Applied(ObjectKey, S),
    /// One object is gone.
    Deleted(ObjectKey),
    /// There is no such kind, and so there are no objects of it.
    Absent,
}

/// All objects of one kind in one namespace or in all of them.
#[derive(Clone, Debug)]
pub struct Listing<S> {
    /// The namespace that was listed; all of them if absent.
    pub namespace: Option<Arc<str>>,
    /// The objects.
    pub objects: Vec<(ObjectKey, S)>,
    /// Objects that exist but cannot be read; what is known of them stays in use.
    pub unreadable: Vec<ObjectKey>,
}

/// What is kept of the objects of a kind.
pub trait Digest: Resource<DynamicType = ()> + Clone + Send + 'static {
    /// What is kept of an object.
    type Stored: Clone + Send + 'static;

    /// Reduces an object to what is kept of it.
    fn digest(self) -> Self::Stored;
    /// Returns what it changes that an object is no longer `before` but `after`.
    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect;
    /// Returns whether plans look at this object at all, as the rest of the world is now.
    fn concerns_plans(_world: &World, _key: &ObjectKey, _object: &Self::Stored) -> bool {
        true
    }
}

/// A kind of object that the world keeps a table of.
pub trait WorldKind: Digest {
    /// Which kind it is.
    const KIND: Kind;

    /// Returns the table of this kind.
    fn table(world: &mut World) -> &mut Table<Self::Stored>;

    /// Returns the object's key.
    fn key(&self) -> ObjectKey {
        let key = ObjectKey::of(self.meta());
        if Self::KIND.is_namespaced() { key } else { ObjectKey { namespace: "".into(), ..key } }
    }
}

macro_rules! tables {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        $(impl WorldKind for kinds::$kind {
            const KIND: Kind = Kind::$kind;

            fn table(world: &mut World) -> &mut Table<Self::Stored> {
                &mut world.$table
            }
        })*

        impl World {
            /// Takes in an object of a manifest as new or changed.
            pub fn apply(&mut self, object: Object) {
                match object {
                    $(Object::$kind(object) => self.apply_one(*object),)*
                }
            }

            /// Returns the number of objects of each kind.
            pub fn counts(&self) -> BTreeMap<Kind, usize> {
                [$((Kind::$kind, self.$table.objects.len())),*].into()
            }
        }
    };
}

for_each_kind!(tables);

impl World {
    /// Makes an empty world that is complete once these lists have arrived.
    pub fn expecting(lists: impl IntoIterator<Item = Scope>) -> Self {
        Self { unsynced: lists.into_iter().collect(), ..Self::default() }
    }

    /// Takes in a fact, and returns what it changes.
    pub fn absorb<K: WorldKind>(&mut self, fact: Fact<K::Stored>) -> Effect {
        match fact {
            Fact::Resynced(listing) => {
                let is_first = self.unsynced.remove(&(K::KIND, listing.namespace.clone()));
                let table = K::table(self);
                let was_known = std::mem::replace(&mut table.known, true);
                let effect = table.replace::<K>(listing);
                if is_first || !was_known { Effect::Plan } else { effect }
            }
            Fact::Absent => {
                self.unsynced.retain(|(kind, _)| *kind != K::KIND);
                let table = K::table(self);
                table.objects.clear();
                if std::mem::replace(&mut table.known, false) { Effect::Plan } else { Effect::Nothing }
            }
            Fact::Applied(key, object) => {
                let concerns = K::concerns_plans(self, &key, &object);
                let before = K::table(self).objects.insert(key.clone(), object.clone());
                let concerned = before.as_ref().is_some_and(|before| K::concerns_plans(self, &key, before));
                if concerns || concerned {
                    before.map_or(Effect::Plan, |before| K::effect(&before, &object))
                } else {
                    Effect::Nothing
                }
            }
            Fact::Deleted(key) => {
                let gone = K::table(self).objects.remove(&key);
                let concerned = gone.is_some_and(|gone| K::concerns_plans(self, &key, &gone));
                if concerned { Effect::Plan } else { Effect::Nothing }
            }
        }
    }

    fn apply_one<K: WorldKind>(&mut self, object: K) {
        self.absorb::<K>(Fact::Applied(object.key(), object.digest()));
    }

    /// Returns the lists that have not arrived yet; until then an absent object may merely be unknown.
    pub fn unsynced(&self) -> &BTreeSet<Scope> {
        &self.unsynced
    }
}

impl<S> Table<S> {
    /// Iterates over the objects in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &S)> {
        self.objects.iter()
    }

    /// Returns the object with this key.
    pub fn find(&self, key: &ObjectKey) -> Option<&S> {
        self.objects.get(key)
    }

    fn replace<K: WorldKind<Stored = S>>(&mut self, listing: Listing<S>) -> Effect {
        let Listing { namespace, objects, unreadable } = listing;
        let before = std::mem::take(&mut self.objects);
        let is_listed = |key: &ObjectKey| namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace);
        let (mut before, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|(key, _)| is_listed(key));
        self.objects = others;
        let mut effect = Effect::Nothing;
        for (key, object) in objects {
            effect = effect.max(before.remove(&key).map_or(Effect::Plan, |before| K::effect(&before, &object)));
            self.objects.insert(key, object);
        }
        for key in unreadable {
            self.objects.extend(before.remove_entry(&key));
        }
        if before.is_empty() { effect } else { Effect::Plan }
    }
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), known: true }
    }
}

impl<S> Listing<S> {
    /// Makes the list of all objects in all namespaces.
    pub fn of_all(objects: impl IntoIterator<Item = (ObjectKey, S)>) -> Self {
        Self { namespace: None, objects: objects.into_iter().collect(), unreadable: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
