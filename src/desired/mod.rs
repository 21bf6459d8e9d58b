//! What the router writes to the API server: statuses, the objects that it provides, and the ports of its own Service.
//!
//! Everything is derived anew from what is observed, and only what differs from it is written. So whatever happens to a
//! write, the next look at the world shows whether it is still needed; and once it is observed, there is silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::controller::Controller;
use crate::object::{Kind, ObjectKey};
use crate::plan::{BindPlan, Reports};
use crate::world::World;

pub use settle::{Transition, stamp};

mod provide;
mod render;
mod services;
mod settle;
mod status;

/// The name under which the router applies fields: the API server tells its fields from others' by it.
pub const FIELD_MANAGER: &str = "kthena-router";

/// The writes, by their targets.
pub type Writes = BTreeMap<Target, Write>;

/// The target of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The purpose of the write.
    pub purpose: Purpose,
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
}

/// The purpose of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Creates it, unless it exists by now.
    Create,
    /// Applies fields of its spec.
    Spec,
    /// Deletes it, as long as it has the `uid` of the write.
    Delete,
    /// Applies its status.
    Status,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The fields, as the API server takes them; conditions that change lack their `lastTransitionTime`.
    pub body: Value,
    /// The resource version that the write is derived from; 0 when unknown.
    pub seen: u64,
    /// The object's `metadata.uid`; empty for an object that does not exist yet.
    pub uid: Arc<str>,
    /// The changes of conditions that people may want to hear of.
    pub transitions: Vec<Transition>,
}

/// Compares what is desired with what is observed, and remembers which statuses are up to date.
#[derive(Debug, Default)]
pub struct Reconciler {
    settled: status::Settled,
}

impl Reconciler {
    /// Returns what is to be written for the observed `world`, for which a plan made `binds` and `reports`.
    pub fn writes(
        &mut self,
        world: &World,
        binds: &[BindPlan],
        reports: &Arc<Reports>,
        controller: &Controller,
    ) -> Writes {
        let mut writes = Writes::new();
        provide::provide(world, binds, controller, &mut writes);
        services::provide(world, reports, controller, &mut writes);
        self.settled.statuses(world, reports, controller, &mut writes);
        writes
    }
}

#[cfg(test)]
mod tests;
