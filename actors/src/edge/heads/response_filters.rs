//! Changes of an answer's headers, after its backend and before its client.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, ORIGIN, VARY};
use kthena_router::routing::http::cors::{Cors, RESPONSE_HEADERS};
use kthena_router::routing::http::filters::Filters;
use kthena_router::routing::table::ListenerTable;

use super::headers::append;
use super::{Edited, detach};

/// What other origins learn from the answers that the router gives itself, where a Gateway says something about them.
pub(in crate::edge) struct Sharing<'w> {
    cors: &'w Cors,
    origin: Option<HeaderValue>,
}

impl<'w> Sharing<'w> {
    /// Notes the origin of a request at a listener.
    pub(in crate::edge) fn of(listener: &'w ListenerTable, headers: &HeaderMap) -> Option<Box<Self>> {
        let cors = listener.filters.cors.as_ref()?;
        Some(Box::new(Self { cors, origin: headers.get(ORIGIN).cloned() }))
    }

    /// Has a copy of what is a part of what the connection was read into.
    pub(in crate::edge) fn detach(&mut self) {
        self.origin.as_mut().map(detach::value);
    }

    /// Changes the headers of such an answer.
    pub(in crate::edge) fn apply(&self, headers: &mut HeaderMap) {
        share(headers, self.cors, self.origin.as_ref().and_then(|origin| origin.to_str().ok()));
    }
}

/// Changes the headers of an answer as the filters of the rule and of the backend say; `origin` is the client's.
pub(in crate::edge) fn apply(
    headers: &mut HeaderMap,
    (rule, backend): (&Filters, &Filters),
    origin: Option<&HeaderValue>,
) {
    if let Some(cors) = rule.cors.as_ref().or(backend.cors.as_ref()) {
        share(headers, cors, origin.and_then(|origin| origin.to_str().ok()));
    }
    for edits in [&backend.response_headers, &rule.response_headers] {
        if !edits.is_empty() {
            edits.apply(&mut Edited(headers));
        }
    }
}

/// Says which origins may read an answer, in the place of whatever its backend says of that.
fn share(headers: &mut HeaderMap, cors: &Cors, origin: Option<&str>) {
    for name in RESPONSE_HEADERS {
        headers.remove(HeaderName::from_static(name));
    }
    if let Some(origin) = origin {
        append(headers, cors.simple(origin));
    } else if cors.depends_on_origin() {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}
