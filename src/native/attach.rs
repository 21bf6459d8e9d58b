//! Which listeners a ModelRoute attaches to, and why not to others.
//!
//! Source: the ModelRoute API and the Gateway API's `ParentReference`: a reference names a Gateway, and with
//! `sectionName` and `port` only those of its listeners that have this name and port; the listener must allow the
//! route's kind and namespace.

use std::collections::BTreeMap;

use foldhash::HashMap;

use super::route::Route;
use crate::gateway::conditions::{Condition, kind, reason};
use crate::gateway::listeners::OwnGateway;
use crate::kinds::parent_reference::ParentReference;
use crate::object::{Kind, ObjectKey};
use crate::selector::Labels;

/// The place of a listener: its Gateway among our Gateways, and its place there.
pub type ListenerPlace = (usize, usize);

/// What one parentRef of a route came to.
#[derive(Debug)]
pub struct Attachment {
    /// The listeners that the route attaches to; empty when it is not accepted.
    pub listeners: Vec<ListenerPlace>,
    /// The `Accepted` condition for this parent.
    pub accepted: Condition,
}

/// Our Gateways as parents of routes.
pub struct Parents<'w> {
    gateways: &'w [OwnGateway<'w>],
    places: HashMap<&'w ObjectKey, usize>,
    namespaces: &'w BTreeMap<ObjectKey, Labels>,
}

impl<'w> Parents<'w> {
    /// Indexes `gateways` by name; `namespaces` are the labels of all Namespaces.
    pub fn new(gateways: &'w [OwnGateway<'w>], namespaces: &'w BTreeMap<ObjectKey, Labels>) -> Self {
        let places = gateways.iter().enumerate().map(|(place, gateway)| (&gateway.key, place)).collect();
        Self { gateways, places, namespaces }
    }

    /// Attaches `route` by one of its parentRefs, which names the object `key`.
    pub fn attach(&self, route: &Route, parent: &ParentReference, key: &ObjectKey) -> Attachment {
        let (listeners, accepted) = match self.listeners(route, parent, key) {
            Ok(listeners) => (listeners, Condition::holds(kind::ACCEPTED, reason::ACCEPTED)),
            Err((reason, message)) => (Vec::new(), Condition::fails(kind::ACCEPTED, reason, message)),
        };
        Attachment { listeners, accepted }
    }

    /// Returns the listeners that a parentRef names and that allow the route, or a reason and a message why none does.
    fn listeners(
        &self,
        route: &Route,
        parent: &ParentReference,
        key: &ObjectKey,
    ) -> Result<Vec<ListenerPlace>, (&'static str, String)> {
        let refuse = |message: String| Err((reason::NO_MATCHING_PARENT, message));
        if !parent.is_gateway() {
            return refuse(format!("parents of kind `{}` in group `{}` are not served", parent.kind, parent.group));
        }
        let own = &*route.key.namespace;
        let Some(place) = self.places.get(key).copied() else {
            return refuse(format!("there is no Gateway `{key}` of this router"));
        };
        let mut named = false;
        let mut attached = Vec::new();
        for (index, listener) in self.gateways[place].listeners.iter().enumerate() {
            let is_named = parent.section_name.as_deref().is_none_or(|section| section == listener.name)
                && parent.port.is_none_or(|port| port == listener.bind.port);
            named |= is_named;
            if is_named && listener.allows(Kind::ModelRoute, own, &key.namespace, self.namespaces) {
                attached.push((place, index));
            }
        }
        match (named, attached.is_empty()) {
            (false, _) => {
                refuse(format!("the Gateway `{key}` has no listener with the parentRef's sectionName and port"))
            }
            (true, true) => {
                let message = format!("no listener allows a ModelRoute of the namespace `{own}`");
                Err((reason::NOT_ALLOWED_BY_LISTENERS, message))
            }
            (true, false) => Ok(attached),
        }
    }
}
