//! What filters answer themselves: preflights and redirects.

use actix_http::HttpMessage;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use kthena_router::routing::http::cors::is_preflight;
use kthena_router::routing::http::filters::Filters;
use kthena_router::routing::http::redirect::RedirectContext;
use kthena_router::routing::http::table::HttpMatch;
use kthena_router::routing::table::ListenerIdentity;

use super::super::handle::Inquiry;

/// What is known of a request that falls under a rule.
pub(super) struct Context<'c> {
    pub inquiry: &'c Inquiry<'c>,
    /// The listener that took it.
    pub identity: &'c ListenerIdentity,
    /// The rule.
    pub matched: &'c HttpMatch<'c>,
}

impl Context<'_> {
    /// Returns the value of a header of the request, if it is text.
    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.inquiry.request.headers().get(name)?.to_str().ok()
    }
}

/// Returns the answer of filters that leave nothing to a backend.
pub(super) fn answer(filters: &Filters, context: &Context<'_>) -> Option<HttpResponse> {
    preflight(filters, context).or_else(|| redirect(filters, context))
}

fn preflight(filters: &Filters, context: &Context<'_>) -> Option<HttpResponse> {
    let cors = filters.cors.as_ref()?;
    let origin = context.header(header::ORIGIN);
    let method = context.header(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight(context.inquiry.request.method().as_str(), origin, method) {
        return None;
    }
    let headers = context.header(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let mut response = HttpResponse::NoContent();
    for (name, value) in cors.preflight(origin?, method?, headers) {
        response.append_header((name, value));
    }
    Some(response.finish())
}

fn redirect(filters: &Filters, context: &Context<'_>) -> Option<HttpResponse> {
    let redirect = filters.redirect.as_ref()?;
    let request = context.inquiry.request;
    let (status, location) = redirect.location(&RedirectContext {
        scheme: context.identity.scheme,
        host: context.inquiry.host,
        port: context.identity.port,
        path: request.path(),
        query: request.uri().query().unwrap_or_default(),
        matched: context.matched.prefix(),
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    Some(HttpResponse::build(status).insert_header((header::LOCATION, location)).finish())
}
