//! Changes of an answer's headers, after its backend and before its client.

use actix_http::Response;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use kthena_router::routing::http::cors::{Cors, RESPONSE_HEADERS};
use kthena_router::routing::http::entry::Chosen;

use super::super::headers::Edited;
use super::own::Context;

/// Changes the headers of an answer as the filters of the rule and of the backend say.
pub(super) fn edit(head: &mut Response<()>, context: &Context<'_>, chosen: &Chosen<'_>) {
    let (rule, backend) = (&context.matched.rule.filters, &chosen.backend.filters);
    if let Some(cors) = rule.cors.as_ref().or(backend.cors.as_ref()) {
        share(head, cors, context.header(header::ORIGIN));
    }
    for edits in [&backend.response_headers, &rule.response_headers] {
        if !edits.is_empty() {
            edits.apply(&mut Edited(head.headers_mut()));
        }
    }
}

/// Says which origins may read an answer, in the place of whatever its backend says of that.
fn share(head: &mut Response<()>, cors: &Cors, origin: Option<&str>) {
    let headers = head.headers_mut();
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
        None if cors.depends_on_origin() => headers.append(header::VARY, HeaderValue::from_static("Origin")),
        None => {}
    }
}
