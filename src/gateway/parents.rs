//! Which listeners a route attaches to, and why not to others.
//!
//! Source: Gateway API, `ParentReference`, the same for every kind of route. A reference names a Gateway, and so its
//! own listeners, or a ListenerSet, and so those of the set; with `sectionName` and `port` only those of them that have
//! this name and port. The listener must allow the route's kind and namespace, and serve some of its hostnames.

use std::collections::BTreeMap;
use std::ops::Range;

use foldhash::{HashMap, HashMapExt};

use super::gateways::OwnGateway;
use crate::conditions::{Condition, Problem, kind, reason};
use crate::hostname::Hostname;
use crate::kinds::parent_reference::ParentReference;
use crate::object::{Kind, ObjectKey};
use crate::selector::Labels;

/// The place of a listener: its Gateway among our Gateways, and its place there.
pub type ListenerPlace = (usize, usize);

/// A route, as far as it matters where it attaches.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'r> {
    /// The route's kind.
    pub kind: Kind,
    /// The route's namespace.
    pub namespace: &'r str,
    /// The route's hostnames; every one if empty.
    pub hostnames: &'r [Hostname],
}

/// What one parentRef of a route came to.
#[derive(Debug)]
pub struct Attachment {
    /// The place of the Gateway that the parent is or belongs to; none if it is not one of our objects, so that the
    /// route's status does not tell of it.
    pub gateway: Option<usize>,
    /// The listeners that the route attaches to; empty when it is not accepted.
    pub listeners: Vec<ListenerPlace>,
    /// The `Accepted` condition for this parent.
    pub accepted: Condition,
}

/// Our Gateways and their ListenerSets as parents of routes.
pub struct Parents<'w> {
    gateways: &'w [OwnGateway<'w>],
    places: HashMap<(Kind, &'w ObjectKey), Parent<'w>>,
    namespaces: &'w BTreeMap<ObjectKey, Labels>,
}

/// A parent: the place of its Gateway, those of its listeners there, and why it takes no routes at all.
struct Parent<'w> {
    gateway: usize,
    listeners: Range<usize>,
    refused: Option<&'w Problem>,
}

impl<'w> Parents<'w> {
    /// Indexes `gateways` by name; `namespaces` are the labels of all Namespaces.
    pub fn new(gateways: &'w [OwnGateway<'w>], namespaces: &'w BTreeMap<ObjectKey, Labels>) -> Self {
        let mut places = HashMap::with_capacity(gateways.len());
        for (place, gateway) in gateways.iter().enumerate() {
            let parent = Parent { gateway: place, listeners: gateway.places(), refused: None };
            places.insert((Kind::Gateway, &gateway.key), parent);
            for set in &gateway.sets {
                let parent = Parent { gateway: place, listeners: set.places.clone(), refused: set.refused.as_ref() };
                places.insert((Kind::ListenerSet, &set.key), parent);
            }
        }
        Self { gateways, places, namespaces }
    }

    /// Returns a place for what is attached to each listener of each Gateway, all of them empty.
    pub fn listeners_by_gateway<E: Clone>(&self) -> Vec<Vec<Vec<E>>> {
        self.gateways.iter().map(|gateway| vec![Vec::new(); gateway.listeners.len()]).collect()
    }

    /// Attaches a route by one of its parentRefs, which names the object `key`.
    pub fn attach(&self, route: Candidate<'_>, reference: &ParentReference, key: &ObjectKey) -> Attachment {
        let parent = [Kind::Gateway, Kind::ListenerSet]
            .into_iter()
            .find(|kind| (&*reference.group, &*reference.kind) == (kind.group(), kind.as_str()))
            .and_then(|kind| self.places.get(&(kind, key)));
        let Some(parent) = parent else {
            let message = format!("there is no {} `{key}` of this router", reference.kind);
            let accepted = Condition::fails(kind::ACCEPTED, reason::NO_MATCHING_PARENT, message);
            return Attachment { gateway: None, listeners: Vec::new(), accepted };
        };
        let (listeners, accepted) = match self.listeners(route, reference, parent) {
            Ok(listeners) => (listeners, Condition::holds(kind::ACCEPTED, reason::ACCEPTED)),
            Err(problem) => (Vec::new(), Condition::judge(kind::ACCEPTED, reason::ACCEPTED, [&problem])),
        };
        Attachment { gateway: Some(parent.gateway), listeners, accepted }
    }

    /// Returns the listeners of a parent that a reference names and that let the route in, or why none does.
    fn listeners(
        &self,
        route: Candidate<'_>,
        reference: &ParentReference,
        parent: &Parent<'_>,
    ) -> Result<Vec<ListenerPlace>, Problem> {
        if let Some(refused) = parent.refused {
            let message = format!("the {} is not accepted: {}", reference.kind, refused.message);
            return Err(Problem::new(reason::NO_MATCHING_PARENT, message));
        }
        let (mut is_named, mut is_allowed) = (false, false);
        let mut attached = Vec::new();
        for place in parent.listeners.clone() {
            let listener = &self.gateways[parent.gateway].listeners[place];
            if reference.section_name.as_deref().is_some_and(|section| section != listener.name)
                || reference.port.is_some_and(|port| port != listener.port)
            {
                continue;
            }
            is_named = true;
            if !listener.allows(route.kind, route.namespace, self.namespaces) {
                continue;
            }
            is_allowed = true;
            let mut hostnames = route.hostnames.iter();
            if hostnames.len() == 0 || hostnames.any(|hostname| hostname.intersection(&listener.hostname).is_some()) {
                attached.push((parent.gateway, place));
            }
        }
        match (is_named, is_allowed, attached.is_empty()) {
            (_, _, false) => Ok(attached),
            (false, ..) => {
                let message =
                    format!("the {} has no listener with the parentRef's sectionName and port", reference.kind);
                Err(Problem::new(reason::NO_MATCHING_PARENT, message))
            }
            (true, false, _) => {
                let message = format!("no listener allows a {} of the namespace `{}`", route.kind, route.namespace);
                Err(Problem::new(reason::NOT_ALLOWED_BY_LISTENERS, message))
            }
            (true, true, true) => {
                let message = "no listener serves any of the route's hostnames";
                Err(Problem::new(reason::NO_MATCHING_LISTENER_HOSTNAME, message))
            }
        }
    }
}
