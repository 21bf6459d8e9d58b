//! Changes of an answer's headers, after its backend and before its client.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, ORIGIN, VARY};
use kthena_router::routing::http::cors::{Cors, RESPONSE_HEADERS};
use kthena_router::routing::table::ListenerTable;

use super::answer::Answer;
use super::backend::Way;
use super::detach;
use super::headers::Edited;

/// What other origins learn from the answers that the router gives itself, where a Gateway says something about them.
pub(super) struct Sharing<'w> {
    cors: &'w Cors,
    origin: Option<HeaderValue>,
}

impl<'w> Sharing<'w> {
    /// Notes the origin of a request at a listener.
    pub(super) fn of(listener: &'w ListenerTable, headers: &HeaderMap) -> Option<Box<Self>> {
        let cors = listener.filters.cors.as_ref()?;
        Some(Box::new(Self { cors, origin: headers.get(ORIGIN).cloned() }))
    }

    /// Has a copy of what is a part of what the connection was read into.
    pub(super) fn detach(&mut self) {
        self.origin.as_mut().map(detach::value);
    }

    /// Changes the headers of such an answer.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        share(headers, self.cors, self.origin.as_ref().and_then(|origin| origin.to_str().ok()));
    }
}

/// Changes the headers of an answer as the filters of the rule and of the backend say; `origin` is the client's.
pub(super) fn apply(answer: &mut Answer, way: &Way<'_>, origin: Option<&HeaderValue>) {
    let headers = &mut answer.upstream.head.headers;
    let (rule, backend) = (way.decision.steps.filters, way.target.filters);
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
    match origin {
        Some(origin) => {
            for (name, value) in cors.simple(origin) {
                let Ok(value) = HeaderValue::try_from(value) else { continue };
                headers.append(HeaderName::from_static(name), value);
            }
        }
        None if cors.depends_on_origin() => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        None => {}
    }
}
