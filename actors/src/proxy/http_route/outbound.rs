//! A request as it leaves for a backend: its headers, host and path after all filters.

use std::borrow::Cow;

use actix_http::HttpMessage;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use kthena_router::routing::http::entry::Chosen;
use kthena_router::routing::http::filters::Rewrite;

use super::super::exchange::Exchange;
use super::super::headers::{Edited, REQUEST_ID};
use super::own::Context;
use crate::upstream::Body;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request as it leaves.
pub(super) struct Outbound<'r> {
    pub method: &'r Method,
    /// The path and the query.
    pub target: Cow<'r, str>,
    /// The host; empty leaves it to be that of the endpoint.
    pub host: Cow<'r, str>,
    pub headers: Cow<'r, HeaderMap>,
    /// Headers that take the place of those with the same name.
    pub replaced: Vec<(HeaderName, HeaderValue)>,
    pub body: Body,
}

impl<'r> Outbound<'r> {
    /// Makes the request that the chosen backend gets, without its body.
    pub(super) fn new(context: &Context<'r>, chosen: &Chosen<'r>, exchange: &Exchange) -> Self {
        let request = context.inquiry.request;
        let (rule, backend) = (&context.matched.rule.filters, &chosen.backend.filters);
        let rewrites = [&backend.rewrite, &rule.rewrite];
        let hostname = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.hostname.as_deref());
        let mut headers = Cow::Borrowed(request.headers());
        let mut replaced = forwarded(context, exchange);
        if !rule.request_headers.is_empty() || !backend.request_headers.is_empty() {
            // Filters have the last word, also on what the router adds.
            for (name, value) in replaced.drain(..) {
                headers.to_mut().insert(name, value);
            }
            for edits in [&rule.request_headers, &backend.request_headers] {
                edits.apply(&mut Edited(headers.to_mut()));
            }
        }
        replaced.push((REQUEST_ID, exchange.request_id.clone()));
        Self {
            method: request.method(),
            target: target(context, rewrites),
            host: Cow::Borrowed(hostname.unwrap_or(context.inquiry.authority)),
            headers,
            replaced,
            body: Body::Empty,
        }
    }
}

/// Returns the headers that tell a backend of the client: what a client says of itself is not believed, and what proxies
/// before this one say of the addresses that they saw is kept.
fn forwarded(context: &Context<'_>, exchange: &Exchange) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(4);
    headers.push((FORWARDED_PROTO, HeaderValue::from_static(context.identity.scheme.as_str())));
    if let Ok(host) = HeaderValue::from_str(context.inquiry.authority) {
        headers.push((FORWARDED_HOST, host));
    }
    if let Some(connection) = exchange.connection() {
        let address = connection.peer.ip().to_canonical().to_string();
        let known = context.inquiry.request.headers().get_all(FORWARDED_FOR).filter_map(|value| value.to_str().ok());
        let addresses: Vec<_> = known.chain([address.as_str()]).collect();
        headers.extend(HeaderValue::try_from(addresses.join(", ")).ok().map(|value| (FORWARDED_FOR, value)));
    }
    headers
}

/// Returns the path and the query after rewrites, the first of which that has a path counts.
fn target<'r>(context: &Context<'r>, rewrites: [&Option<Rewrite>; 2]) -> Cow<'r, str> {
    let uri = context.inquiry.request.uri();
    let Some(path) = rewrites.iter().find_map(|rewrite| rewrite.as_ref()?.path.as_ref()) else {
        return Cow::Borrowed(uri.path_and_query().map_or("/", PathAndQuery::as_str));
    };
    let path = path.apply(uri.path(), context.matched.prefix());
    Cow::Owned(match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    })
}
