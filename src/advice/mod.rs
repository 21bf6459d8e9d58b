//! What a colleague would say who reads the manifests: what is valid and yet cannot be meant.
//!
//! Reports say what becomes of each object; these are about what nobody gets a report of, such as a route whose Gateway
//! does not exist, or a rule that no request reaches. They are for the check of manifests before they are deployed.

use std::collections::BTreeSet;

use crate::controller::Controller;
use crate::object::{Kind, ObjectKey};
use crate::plan::Plan;
use crate::world::World;

mod gateways;
mod pools;
mod routes;
#[cfg(test)]
mod tests;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It may be meant, and often is not.
    Warning,
    /// It cannot work.
    Fault,
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
    /// The field, as a path from the object's root; empty for the object as a whole.
    pub path: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is to be said of it.
    pub text: String,
}

/// What is looked at, and what was found.
struct Review<'w> {
    world: &'w World,
    plan: &'w Plan,
    controller: &'w Controller,
    found: BTreeSet<Advice>,
}

/// Returns everything that is to be said, each once, in the order of the objects.
///
/// `own_ports` are the ports that the router opens for itself, each with the flag that sets it.
pub fn advise(
    world: &World,
    plan: &Plan,
    controller: &Controller,
    own_ports: &[(u16, &'static str)],
) -> BTreeSet<Advice> {
    let mut review = Review { world, plan, controller, found: BTreeSet::new() };
    gateways::review(&mut review, own_ports);
    routes::review(&mut review);
    pools::review(&mut review);
    review.found
}

/// An object of the world.
#[derive(Clone, Copy)]
struct Named<'w> {
    kind: Kind,
    key: &'w ObjectKey,
}

impl Review<'_> {
    fn warn(&mut self, object: Named<'_>, path: impl Into<String>, text: impl Into<String>) {
        self.found.insert(object.advice(Severity::Warning, path.into(), text.into()));
    }

    fn fault(&mut self, object: Named<'_>, path: impl Into<String>, text: impl Into<String>) {
        self.found.insert(object.advice(Severity::Fault, path.into(), text.into()));
    }

    /// Says which Gateways there are, for someone who named another one.
    fn own_gateways(&self) -> String {
        let names: Vec<_> = self.plan.reports.gateways.keys().map(|key| format!("`{key}`")).collect();
        match names.as_slice() {
            [] => "this router has no Gateways".to_owned(),
            [only] => format!("the only Gateway of this router is {only}"),
            several => format!("the Gateways of this router are {}", several.join(", ")),
        }
    }
}

impl Named<'_> {
    fn advice(self, severity: Severity, path: String, text: String) -> Advice {
        Advice { kind: self.kind, key: self.key.clone(), path, severity, text }
    }
}
