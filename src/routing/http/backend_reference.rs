//! Which object a rule or a filter of an HTTPRoute names as a backend.

use std::sync::Arc;

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
    pub(super) fn new(
        route: &ObjectKey,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        port: Option<u16>,
    ) -> Self {
        let namespace = namespace.map_or_else(|| Arc::clone(&route.namespace), Arc::from);
        let object = ObjectKey { namespace, name: name.into() };
        Self { group: group.to_owned(), kind: kind.to_owned(), object, port }
    }

    /// Reads a reference of `route`.
    pub(super) fn of_object(route: &ObjectKey, spec: &BackendObjectReference) -> Self {
        let BackendObjectReference { group, kind, name, namespace, port } = spec;
        Self::new(route, group, kind, namespace.as_deref(), name, *port)
    }

    /// Returns whether it names an object of this kind.
    pub fn is_of(&self, kind: Kind) -> bool {
        self.kind == kind.as_str() && self.group == kind.group()
    }
}
