//! Which listeners a ModelRoute attaches to, and why not to others.
//!
//! Source: the ModelRoute API and the Gateway API's `ParentReference`: a reference names a Gateway, and with
//! `sectionName` and `port` only those of its listeners that have this name and port; the listener must allow the
//! route's kind and namespace.

use std::collections::BTreeMap;

use super::route::Route;
use crate::gateway::conditions::{Condition, kind, reason};
use crate::gateway::listeners::{Listener, OwnGateway};
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

/// Listeners of one of our Gateways, each with its place there.
type Candidates<'w> = Vec<(usize, &'w Listener<'w>)>;

/// Our Gateways as parents of routes.
pub struct Parents<'w> {
    gateways: &'w [OwnGateway<'w>],
    places: BTreeMap<&'w ObjectKey, usize>,
    namespaces: &'w BTreeMap<ObjectKey, Labels>,
}

impl<'w> Parents<'w> {
    /// Indexes `gateways` by name; `namespaces` are the labels of all Namespaces.
    pub fn new(gateways: &'w [OwnGateway<'w>], namespaces: &'w BTreeMap<ObjectKey, Labels>) -> Self {
        let places = gateways.iter().enumerate().map(|(place, gateway)| (&gateway.key, place)).collect();
        Self { gateways, places, namespaces }
    }

    /// Attaches `route` by one of its parentRefs.
    pub fn attach(&self, route: &Route, parent: &ParentReference) -> Attachment {
        match self.candidates(&route.key.namespace, parent) {
            Err(condition) => Attachment { listeners: Vec::new(), accepted: condition },
            Ok((place, candidates)) => self.admit(route, place, candidates),
        }
    }

    /// Returns the listeners that a parentRef names, or why there are none.
    fn candidates(
        &self,
        route_namespace: &str,
        parent: &ParentReference,
    ) -> Result<(usize, Candidates<'w>), Condition> {
        let refuse = |message: String| Err(Condition::fails(kind::ACCEPTED, reason::NO_MATCHING_PARENT, message));
        if !parent.is_gateway() {
            return refuse(format!("parents of kind `{}` in group `{}` are not served", parent.kind, parent.group));
        }
        let key = ObjectKey::new(parent.namespace.as_deref().unwrap_or(route_namespace), &parent.name);
        let Some(place) = self.places.get(&key).copied() else {
            return refuse(format!("there is no Gateway `{key}` of this router"));
        };
        let candidates: Vec<_> = self.gateways[place]
            .listeners
            .iter()
            .enumerate()
            .filter(|(_, listener)| parent.section_name.as_deref().is_none_or(|section| section == listener.name))
            .filter(|(_, listener)| parent.port.is_none_or(|port| port == listener.bind.port))
            .collect();
        if candidates.is_empty() {
            return refuse(format!("the Gateway `{key}` has no listener with the parentRef's sectionName and port"));
        }
        Ok((place, candidates))
    }

    fn admit(&self, route: &Route, place: usize, candidates: Candidates<'w>) -> Attachment {
        let gateway = &self.gateways[place].key.namespace;
        let allowed: Vec<_> = candidates
            .into_iter()
            .filter(|(_, listener)| listener.allows(Kind::ModelRoute, &route.key.namespace, gateway, self.namespaces))
            .collect();
        if allowed.is_empty() {
            let message = format!("no listener allows a ModelRoute of the namespace `{}`", route.key.namespace);
            let accepted = Condition::fails(kind::ACCEPTED, reason::NOT_ALLOWED_BY_LISTENERS, message);
            return Attachment { listeners: Vec::new(), accepted };
        }
        Attachment {
            listeners: allowed.into_iter().map(|(listener, _)| (place, listener)).collect(),
            accepted: Condition::holds(kind::ACCEPTED, reason::ACCEPTED),
        }
    }
}
