//! What filters answer themselves: preflights and redirects.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderValue, LOCATION, ORIGIN,
};
use http::request::Parts;
use http::{Response, StatusCode};
use kthena_router::routing::http::cors::is_preflight;
use kthena_router::routing::http::filters::Filters;
use kthena_router::routing::http::redirect::{Redirect, RedirectContext};

use super::headers::append;
use super::text;

/// Returns what a preflight is answered with, where a filter says which origins may read answers.
pub(in crate::edge) fn preflight(filters: &Filters, head: &Parts) -> Option<Response<Bytes>> {
    let cors = filters.cors.as_ref()?;
    let headers = &head.headers;
    let origin = text(headers, ORIGIN);
    let method = text(headers, ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight(head.method.as_str(), origin, method) {
        return None;
    }
    let mut response = made(StatusCode::NO_CONTENT, "", Bytes::new());
    append(response.headers_mut(), cors.preflight(origin?, method?, text(headers, ACCESS_CONTROL_REQUEST_HEADERS)));
    Some(response)
}

/// Returns what a request is answered with that is sent elsewhere.
pub(in crate::edge) fn redirect(redirect: &Redirect, asked: &RedirectContext<'_>) -> Option<Response<Bytes>> {
    let (status, location) = redirect.location(asked);
    let mut response = made(StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND), "", Bytes::new());
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).ok()?);
    Some(response)
}

/// Makes an answer of the router's own, with a body of this type if it has any.
pub(in crate::edge) fn made(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if !response.body().is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
