//! The names that the access log and the metrics give to what a request is about.

use std::sync::Arc;

use kthena_router::inference::api::Api;
use kthena_router::object::Kind;
use kthena_router::pool::policy::PoolIndex;
use kthena_router::routing::decision::Matched;
use kthena_router::routing::models::entry::RouteEntry;

use super::log_fields::{Field, Fields, write_fields};
use crate::ops::metrics::{BackendLabels, NONE, RequestLabels, Text};
use crate::pools::published::Snapshot;

/// What the label `model` says of names that no route knows.
const UNKNOWN: &str = "unknown";

/// What requests of one kind have in common, as parts of one snapshot.
#[derive(Clone, Copy, Default)]
pub(crate) struct Subject<'s> {
    /// The requested model, if a route knows it.
    pub model: Option<&'s Arc<str>>,
    /// The route that matched.
    pub route: Option<Matched<'s>>,
    /// The pool that was chosen.
    pub pool: Option<PoolIndex>,
}

/// A subject's identity within its snapshot: where its parts lie in memory, which is quicker to compare than they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    model: usize,
    route: usize,
    pool: Option<PoolIndex>,
}

/// The names that logs and metrics give a request's parts.
#[derive(Clone)]
pub(crate) struct Names {
    /// What the access log says of them.
    pub written: Written,
    /// The requested model.
    pub model: Text,
    /// Whether the route is an HTTPRoute.
    pub is_http_route: bool,
    /// The pool, if one was chosen.
    pub pool: Option<Text>,
    /// The route and the backend.
    pub backend: BackendLabels,
}

/// The fields of a line of text that all requests of one kind have in common, written once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub route: Vec<u8>,
    pub backend: Vec<u8>,
    pub http_route: Vec<u8>,
}

impl Subject<'_> {
    /// Returns its identity.
    pub(super) fn identity(&self) -> Identity {
        let address = |route: &Matched<'_>| match route {
            Matched::Model(entry) => std::ptr::from_ref::<RouteEntry>(entry).addr(),
            Matched::Http(matched) => std::ptr::from_ref(matched.entry).addr(),
        };
        Identity {
            model: self.model.map_or(0, |model| Arc::as_ptr(model).addr()),
            route: self.route.as_ref().map_or(0, address),
            pool: self.pool,
        }
    }
}

impl Names {
    /// Returns the names of a kind of request.
    pub(super) fn of(snapshot: &Snapshot, subject: Subject<'_>) -> Self {
        let pool = subject.pool.and_then(|pool| snapshot.table.pools.get(pool.0));
        let served = pool.and_then(|pool| pool.policy.served_model.as_deref());
        let name = |name: Option<String>| Text::from(name.as_deref().unwrap_or(NONE));
        let mut names = Self {
            written: Written::default(),
            model: subject.model.map_or_else(|| Text::from(UNKNOWN), |model| Text(Arc::clone(model))),
            is_http_route: matches!(subject.route, Some(Matched::Http(_))),
            pool: pool.map(|pool| Text::from(pool.key.to_string().as_str())),
            backend: BackendLabels {
                model_route: name(subject.route.map(|route| route.key().to_string())),
                backend_type: pool.map_or("unresolved", |pool| backend_type(pool.key.kind)),
                backend_name: name(pool.map(|pool| pool.key.object.to_string())),
                upstream_model: Text::from(served.unwrap_or(NONE)),
            },
        };
        names.written = Written {
            route: written(names.route()),
            backend: written(names.backend()),
            http_route: written(names.http_route()),
        };
        names
    }

    /// Returns the labels of a request that ends in this way.
    pub(super) fn request(&self, api: Option<Api>, status_code: u16, error_type: &'static str) -> RequestLabels {
        let Self { model, backend, .. } = self.clone();
        RequestLabels { model, path: api.map_or("other", Api::label), status_code, error_type, backend }
    }

    /// Returns the fields that name the ModelRoute, and the pool of engines.
    pub(super) fn route(&self) -> Fields<'_, 3> {
        let pool_of = |kind: &str| text(&self.backend.backend_name.0).filter(|_| self.backend.backend_type == kind);
        [
            ("model_route", text(&self.backend.model_route.0).filter(|_| !self.is_http_route)),
            ("model_server", pool_of("model_server")),
            ("inference_pool", pool_of("inference_pool")),
        ]
    }

    /// Returns the fields that name the backend.
    pub(super) fn backend(&self) -> Fields<'_, 3> {
        let name = text(&self.backend.backend_name.0);
        [
            ("backend_type", name.map(|_| Field::Text(self.backend.backend_type))),
            ("backend_name", name),
            ("upstream_model", text(&self.backend.upstream_model.0)),
        ]
    }

    /// Returns the field that names the HTTPRoute.
    pub(super) fn http_route(&self) -> Fields<'_, 1> {
        [("http_route", text(&self.backend.model_route.0).filter(|_| self.is_http_route))]
    }
}

fn written<const N: usize>(fields: Fields<'_, N>) -> Vec<u8> {
    let mut line = Vec::new();
    write_fields(&mut line, fields);
    line
}

/// Returns the value of a label, unless it says that there is none.
fn text(label: &str) -> Option<Field<'_>> {
    (label != NONE).then_some(Field::Text(label))
}

/// Returns what labels call the kind of a pool.
fn backend_type(kind: Kind) -> &'static str {
    if kind == Kind::Service {
        "service"
    } else if kind == Kind::InferencePool {
        "inference_pool"
    } else {
        debug_assert_eq!(kind, Kind::ModelServer, "there are three kinds of pools");
        "model_server"
    }
}
