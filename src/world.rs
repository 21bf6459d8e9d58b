//! The world as observed: one table for each kind of object, and what became of the sockets.
//!
//! Facts arrive in any order and are absorbed one by one; nothing is decided here. Each object is digested once, when it
//! is observed, so that [`plan`](crate::plan::plan) reads compiled routes and not raw ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;

use crate::manifest::Object;
use crate::native::route::{Route, Server};
use crate::object::{Bind, Kind, ObjectKey};

pub use kinds::{GatewayClassFacts, GatewayFacts, PodFacts};

mod kinds;

/// Everything the router knows.
#[derive(Debug, Default)]
pub struct World {
    /// The GatewayClasses.
    pub gateway_classes: Table<GatewayClassFacts>,
    /// The Gateways, of every class.
    pub gateways: Table<GatewayFacts>,
    /// The ModelRoutes.
    pub model_routes: Table<Arc<Route>>,
    /// The ModelServers.
    pub model_servers: Table<Server>,
    /// The labels of the Namespaces.
    pub namespaces: Table<BTreeMap<String, String>>,
    /// The Pods.
    pub pods: Table<PodFacts>,
    /// What became of each socket that was asked for.
    pub binds: HashMap<Bind, BindState>,
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Table<S> {
    /// The objects in the order of their keys.
    pub objects: BTreeMap<ObjectKey, S>,
    /// Whether a complete list was observed; until then an absent object may merely be unknown.
    pub synced: bool,
}

/// What became of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindState {
    /// It accepts connections.
    Open,
    /// It could not be opened, for this reason; it is tried again.
    Failed(String),
}

/// Something observed about the objects of one kind.
#[derive(Clone, Debug)]
pub enum Fact<S> {
    /// These are all the objects there are; whatever else was known is gone.
    Resynced(Vec<(ObjectKey, S)>),
    /// One object is new or has changed.
    Applied(ObjectKey, S),
    /// One object is gone.
    Deleted(ObjectKey),
}

/// A kind of object that the world keeps a table of.
pub trait WorldKind: Clone + Send + 'static {
    /// Which kind it is.
    const KIND: Kind;
    /// What is kept of an object.
    type Stored: Clone + Send + 'static;

    /// Returns the object's key.
    fn key(&self) -> ObjectKey;
    /// Reduces an object to what is kept of it.
    fn digest(self) -> Self::Stored;
    /// Returns the table of this kind.
    fn table(world: &mut World) -> &mut Table<Self::Stored>;
}

impl World {
    /// Takes in a fact.
    pub fn absorb<K: WorldKind>(&mut self, fact: Fact<K::Stored>) {
        let table = K::table(self);
        match fact {
            Fact::Resynced(objects) => {
                table.objects = objects.into_iter().collect();
                table.synced = true;
            }
            Fact::Applied(key, object) => {
                table.objects.insert(key, object);
            }
            Fact::Deleted(key) => {
                table.objects.remove(&key);
            }
        }
    }

    /// Takes in an object of a manifest as new or changed.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::GatewayClass(object) => self.apply_one(*object),
            Object::Gateway(object) => self.apply_one(*object),
            Object::ModelRoute(object) => self.apply_one(*object),
            Object::ModelServer(object) => self.apply_one(*object),
            Object::Namespace(object) => self.apply_one(*object),
            Object::Pod(object) => self.apply_one(*object),
        }
    }

    fn apply_one<K: WorldKind>(&mut self, object: K) {
        self.absorb::<K>(Fact::Applied(object.key(), object.digest()));
    }

    /// Returns the kinds of which no complete list was observed yet.
    pub fn unsynced(&self) -> Vec<Kind> {
        let synced = [
            (Kind::GatewayClass, self.gateway_classes.synced),
            (Kind::Gateway, self.gateways.synced),
            (Kind::ModelRoute, self.model_routes.synced),
            (Kind::ModelServer, self.model_servers.synced),
            (Kind::Namespace, self.namespaces.synced),
            (Kind::Pod, self.pods.synced),
        ];
        synced.into_iter().filter(|(_, synced)| !synced).map(|(kind, _)| kind).collect()
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
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), synced: false }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    #[test]
    fn a_resync_removes_what_it_does_not_list() {
        let mut world = World::default();
        let key = |name: &str| ObjectKey::new("", name);
        world.absorb::<Namespace>(Fact::Applied(key("old"), BTreeMap::new()));
        assert_eq!(world.unsynced().len(), 6);
        world.absorb::<Namespace>(Fact::Resynced(vec![(key("new"), BTreeMap::new())]));
        assert!(world.namespaces.find(&key("old")).is_none());
        assert!(world.namespaces.find(&key("new")).is_some());
        assert!(!world.unsynced().contains(&Kind::Namespace));
        world.absorb::<Namespace>(Fact::Deleted(key("new")));
        assert_eq!(world.namespaces.iter().count(), 0);
    }
}
