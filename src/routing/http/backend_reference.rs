//! Which object a rule or a filter of an HTTPRoute names as a backend.

use crate::kinds::http_route::BackendObjectReference;
use crate::object::{Kind, ObjectKey};

/// Names a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendReference {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// The object.
    pub object: ObjectKey,
    /// Port; a reference to a Service without one cannot be resolved.
    pub port: Option<u16>,
}

impl BackendReference {
    /// Reads a reference of `route`.
    pub(super) fn of_object(route: &ObjectKey, spec: &BackendObjectReference) -> Self {
        let BackendObjectReference { group, kind, name, namespace, port } = spec;
        let object = route.referred(namespace.as_deref(), name);
        Self { group: group.clone(), kind: kind.clone(), object, port: *port }
    }

    /// Returns whether it names an object of this kind.
    pub fn is_of(&self, kind: Kind) -> bool {
        self.kind == kind.as_str() && self.group == kind.group()
    }
}
